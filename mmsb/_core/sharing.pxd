from libc.stdint cimport uint8_t, uint64_t

from mmsb._core.c_share cimport mmsb_attached, mmsb_sharing
from mmsb._core.state cimport Core

cdef class Region:
    cdef uint8_t *base
    cdef uint64_t bytes

cdef class Sharing:
    cdef Core core
    cdef mmsb_sharing sharing
    cdef dict words  # Region of each client's words, by its socket
    cdef mmsb_attached *client(self, int fd)
