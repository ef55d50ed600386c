from libc.stdint cimport uint8_t, uint64_t

from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport Core

cdef class Slot:
    cdef Core state
    cdef uint64_t page_id
    cdef uint64_t handle
    cdef uint64_t size
    cdef uint8_t *address
    cdef bint orphan

cdef class Page:
    cdef readonly Core state
    cdef readonly uint64_t page_id
    cdef object __weakref__

    @staticmethod
    cdef Page make(Core state, uint64_t page_id)

cdef uint64_t offset_of(object at, uint64_t page_id) except? 0xffffffffffffffff
cdef object as_bytes_like(object data)
cdef int take_buffer(object data, Py_buffer *buffer) except -1
cdef object items_of(object data)
cdef int check_lanes(object data, Semiring semiring, object page_id) except -1
