from mmsb._core.c_mmsb cimport mmsb_io, mmsb_memory

cdef class Files:
    cdef const mmsb_io *table

cdef class Memory:
    cdef mmsb_memory memory
