from libc.stdint cimport uint64_t

from mmsb._core.c_mmsb cimport mmsb_page_header
from mmsb._core.c_share cimport mmsb_moment, mmsb_read, mmsb_reader
from mmsb._core.files cimport Memory
from mmsb._core.sharing cimport Region

cdef class Reader:
    cdef mmsb_reader reader
    cdef void *mutex  # PyThread_type_lock: one thread reads, or changes what is mapped
    cdef int gate  # bits that refuse every operation
    cdef Region shared
    cdef Memory words
    cdef readonly dict regions  # Region of each piece of memory, by (kind, number)
    cdef object take  # takes the messages that wait
    cdef bint ready
    cdef int enter(self) except -1
    cdef void leave(self)
    cdef int read(self, mmsb_read *reads, uint64_t count, mmsb_moment *moment, bint long_) except -1
    cdef int failed(self, int status) except -1
    cdef object one(self, mmsb_read *read, bint needs_page)
    cdef const mmsb_page_header *header(self, uint64_t page_id)

cdef class Cell:
    cdef public Reader reader

cdef class PageReader:
    cdef readonly object state
    cdef readonly uint64_t page_id
    cdef Cell cell
