from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mmsb._core.c_index cimport mmsb_index, mmsb_index_collection
from mmsb._core.c_mmsb cimport mmsb_buffer, mmsb_log_frame
from mmsb._core.log cimport SegmentHead

cdef class Bytes:
    cdef Py_buffer buffer
    cdef const uint8_t *at

cdef class SegmentIndex:
    cdef mmsb_index index
    cdef readonly SegmentHead head
    cdef object lock
    cdef uint64_t replayed
    cdef bint without_stills
    cdef uint64_t relative(self, object seq)
    cdef int open_frame(self, const uint8_t *at, uint64_t rel, mmsb_log_frame *frame) except -1
    cdef uint32_t find_text(self, data, str text, until, bint label) except? 0

cdef class Nodes:
    cdef mmsb_buffer numbers
    cdef mmsb_index_collection found
    cdef readonly SegmentIndex index
    cdef readonly uint64_t page_id
