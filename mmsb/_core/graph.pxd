from libc.stdint cimport uint32_t, uint64_t

from mmsb._core.c_graph cimport mmsb_graph, mmsb_wave
from mmsb._core.c_mmsb cimport mmsb_buffer

cdef class Nodes:
    cdef mmsb_buffer buffer
    cdef uint64_t count(self) noexcept
    cdef const uint32_t *at(self) noexcept

cdef class Graph:
    cdef mmsb_graph graph
    cdef mmsb_wave wave
    cdef uint32_t find(self, page_id) except? 0xfffffffe
    cdef uint32_t node(self, page_id) except? 0xffffffff
    cdef uint64_t page_id(self, uint32_t node) noexcept
    cdef list ids(self, Nodes nodes)
    cdef int join(self, edges) except -1
    cdef refuse(self, int status, parent, child, kind, position=*)
    cdef uint64_t *link_of(self, parent, child, kind) except NULL
    cdef reach(self, page_id, kinds, bint backward)
    cdef list affected_until(self, uint32_t[::1] origins, uint32_t mask, set ends)
