from libc.stdint cimport uint8_t, uint32_t, uint64_t

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


cdef Semiring wrap(const mmsb_semiring *row, owner)
cdef uint32_t dtype_of(name) except? 99
cdef bint is_name(name)
cdef object lane_value(uint32_t dtype, const mmsb_lane *lane)
cdef int put_lane(uint32_t dtype, value, str what, mmsb_lane *lane) except -1
