# What taking changes of a core back needs beside c_mmsb.pxd. All noexcept nogil.
from libc.stdint cimport uint64_t

from mmsb._core.c_mmsb cimport mmsb_core


cdef extern from "core.h" nogil:
    void mmsb_core_drop_slot(mmsb_core *core, uint64_t page_id, uint64_t handle, uint64_t size)
