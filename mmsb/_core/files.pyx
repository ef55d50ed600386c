"""Files and shareable memory, through the C table of operations."""

from cpython.buffer cimport PyBuffer_FillInfo

from mmsb._core.c_mmsb cimport *
from mmsb._core.errors cimport raise_status


cdef class Files:
    def __cinit__(self):
        self.table = &mmsb_io_posix


cdef class Memory:
    def __init__(self, size):
        cdef int status = mmsb_memory_create(&self.memory, size, False)
        if status != MMSB_OK:
            raise_status(status)

    def __dealloc__(self):
        if self.memory.base != NULL:
            mmsb_memory_release(&self.memory)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.memory.base, <Py_ssize_t>self.memory.bytes, 0, flags)

    @property
    def address(self):
        return <size_t>self.memory.base

    @property
    def fd(self):
        return self.memory.fd
