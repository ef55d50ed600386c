from libc.stdint cimport uint8_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_delta_view

cdef uint64_t UNKNOWN

cdef class Delta:
    cdef readonly uint64_t page_id
    cdef readonly uint64_t seq
    cdef readonly uint64_t index
    cdef readonly uint64_t timestamp_ns
    cdef readonly object source
    cdef readonly uint8_t code
    cdef uint64_t _epoch
    cdef object _intent
    cdef object _state
    cdef uint64_t payload_bytes
    cdef uint8_t[48] inline_payload
    cdef bytes big_payload
    cdef const uint8_t *payload_address(self) noexcept
    cdef int view(self, mmsb_delta_view *view) except -1

cdef Delta new_delta(uint64_t page_id, uint8_t code, const uint8_t *payload, uint64_t payload_bytes)
