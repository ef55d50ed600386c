from libc.stdint cimport uint8_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_io, mmsb_io_fault, mmsb_io_record, mmsb_memory

cdef class Files:
    cdef const mmsb_io *table
    cdef mmsb_io_fault fault
    cdef mmsb_io_record record
    cdef readonly bint faulty, recorded
    cdef public object shared  # path with a slash at its end: files made there are for their group to read; None
    cdef bint is_shared(self, path)

cdef class Mapping:
    cdef Files files
    cdef uint8_t *base
    cdef uint64_t bytes
    cdef bint writable

cdef class Memory:
    cdef mmsb_memory memory
