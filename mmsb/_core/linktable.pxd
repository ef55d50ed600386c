from mmsb._core.state cimport Core

cdef class Table:
    cdef readonly object core      # a proxy: the core owns its links
    cdef object alive              # a weak reference to it; None for what only stands in for a core
    cdef public object table       # Link by (child, kind)
    cdef readonly dict failed, linked, children, told
    cdef readonly set marked, unlogged
    cdef public bytes digested

    cdef int flag(self, page_id, int on, int off) except -1
    cdef int forget_touched(self, page_id) except -1
    cdef object find(self, child, str kind)
    cdef int take(self, child, link) except -1
    cdef int renew_page(self, child) except -1
    cdef int put_link(self, child, str kind, link) except -1
    cdef int settle_pages(self, dict failed, fresh) except -1
    cdef int cover_all(self) except -1
