from libc.stdint cimport uint8_t, uint64_t

from mmsb._core.c_semiring cimport mmsb_csr, mmsb_lane, mmsb_semiring, mmsb_semirings


cdef class Semirings:
    cdef mmsb_semirings table


cdef class Semiring:
    cdef const mmsb_semiring *row
    cdef object owner


cdef class CsrMatrix:
    cdef mmsb_csr csr
    cdef readonly uint64_t entries
    cdef readonly bytes row_start
    cdef readonly bytes columns
    cdef readonly object values
