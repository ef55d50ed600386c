from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_change, mmsb_log_cursor, mmsb_log_frame, mmsb_segment_head

cdef class SegmentHead:
    cdef mmsb_segment_head head

cdef class Frame

cdef class Cursor:
    cdef mmsb_log_cursor cursor
    cdef object buffer
    cdef const uint8_t[::1] view
    cdef readonly SegmentHead head
    cdef readonly dict sources
    cdef readonly object stopped
    cdef readonly uint64_t end
    cdef readonly object state
    cdef void note_stop(self, int status)
    cdef Frame next_frame(self)
    cpdef limit(self, uint64_t available)
    cpdef Frame commit_after(self, uint64_t seq)

cdef class Frame:
    cdef mmsb_log_frame frame
    cdef object buffer
    cdef dict sources
    cdef readonly object state
    cdef bint next_change(self, const uint8_t **at, mmsb_change *change) except -1
    cdef list descriptions(self)
