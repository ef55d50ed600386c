from libc.stdint cimport uint8_t, uint64_t

cdef int put(bytearray out, uint64_t number) except -1
cdef int put_bytes(bytearray out, bytes text) except -1

cdef class Reader:
    cdef bytes data
    cdef const uint8_t *begin
    cdef const uint8_t *here
    cdef const uint8_t *end
    cdef object malformed(self, Py_ssize_t at)
    cdef uint64_t next(self) except? 0
    cdef tuple next_numbers(self, uint64_t count)
    cpdef skip(self, uint64_t count)
    cpdef bytes take(self, uint64_t count)
