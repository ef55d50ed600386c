"""Table: the links of one state and its stale pages, as far as every commit that links a page asks for them."""

from mmsb._core.c_mmsb cimport *
from mmsb._core.state cimport Core

import weakref

NOT_COMPUTED = "it was not computed yet"
TELLING = ("data", "control")  # kinds of edges along which pages become stale

cdef tuple FLAGS = (("source", MMSB_PAGE_SOURCE), ("derived", MMSB_PAGE_DERIVED), ("stale", MMSB_PAGE_STALE),
                    ("failed", MMSB_PAGE_FAILED))


cdef class Table:
    """Base class of mmsb.linktable.Links, which says what its fields mean. No cpdef: each call would look for an
    override in dictionaries."""

    def __init__(self, core):
        self.core = weakref.proxy(core)
        self.alive = weakref.ref(core) if isinstance(core, Core) else None
        self.table = {}
        self.failed = {}
        self.marked = set()
        self.linked = {}
        self.children = {}
        self.told = {}
        self.unlogged = set()
        self.digested = None

    def __bool__(self):
        return len(self.table) != 0

    # ---- marks of pages

    cdef int flag(self, page_id, int on, int off) except -1:
        """Sets marks of a page's header and clears others. A page that is gone has none."""
        cdef mmsb_page_header *header
        cdef object core = None if self.alive is None else self.alive()
        if core is None:  # a stand-in; or the proxy of a core that is gone, which raises
            self.core._flag_page(page_id, **{name: bool(on & bit) for name, bit in FLAGS if (on | off) & bit})
            return 0
        header = mmsb_arena_header(&(<Core>core).core.arena, page_id)
        if header != NULL:
            header.flags = (header.flags | on) & ~off
        return 0

    cdef int forget_touched(self, page_id) except -1:
        """No wave needs to know any more that a page changed."""
        cdef mmsb_page_header *header
        cdef object core = None if self.alive is None else self.alive()
        if core is not None:
            header = mmsb_arena_header(&(<Core>core).core.arena, page_id)
            if header == NULL or not header.flags & MMSB_PAGE_TOUCHED:
                return 0
        self.core._forget_touched_page(page_id)
        return 0

    # ---- links come and go

    cdef object find(self, child, str kind):
        return self.table.get((child, kind))

    def of(self, child, str kind="data"):
        """The link of a page."""
        return self.find(child, kind)

    cdef int take(self, child, link) except -1:
        cdef str kind = link.kind
        if kind == "control":
            self.mark_news()  # what happened up to here is no matter of the child
        self.add(child, link)
        if kind == "data":
            self.renew_page(child)
            self.linked[child] = True
        return 0

    def link(self, child, link):
        """A commit has linked a page."""
        self.take(child, link)

    cdef int renew_page(self, child) except -1:
        self.failed[child] = NOT_COMPUTED
        self.flag(child, MMSB_PAGE_FAILED, 0)
        if child not in self.linked:
            self.linked[child] = False
        return 0

    def renew(self, child):
        """A page is computed otherwise from now on: it is stale until a wave computes it. What depends on it is not: a
        function is registered without a commit, and what is stale follows from the commits.
        """
        self.renew_page(child)

    def add(self, child, link):
        """Takes a link in. One of another kind than data adds its parents to those there are."""
        cdef str kind = link.kind
        old = self.find(child, kind)
        if old is not None and kind != "data":
            link = link._replace(parents=tuple(sorted({*old.parents, *link.parents})))
        self.put_link(child, kind, link)

    cdef int put_link(self, child, str kind, link) except -1:
        cdef object old = self.table.pop((child, kind), None)
        cdef bint telling = kind in TELLING
        cdef dict below = self.children if telling else self.told
        # What comes is first: a parent that stays is never one without children.
        if link is not None:
            self.table[child, kind] = link
            for parent in link.parents:
                children = below.get(parent)
                if children is None:
                    children = below[parent] = []
                    if telling:
                        self.forget_touched(parent)  # as it is now, nobody has missed anything
                    self.flag(parent, MMSB_PAGE_SOURCE, 0)
                (<list>children).append(child)
        for parent in old.parents if old is not None else ():
            below[parent].remove(child)
            if below[parent]:
                continue
            del below[parent]
            if telling:
                self.forget_touched(parent)  # its changes concern nobody
            if parent in self.children or parent in self.told:
                self.flag(parent, MMSB_PAGE_SOURCE, 0)
            else:
                self.flag(parent, 0, MMSB_PAGE_SOURCE)
        if kind == "data":
            self.flag(child, 0 if link is None else MMSB_PAGE_DERIVED, MMSB_PAGE_DERIVED if link is None else 0)
        self.digested = None
        return 0

    def put(self, child, str kind, link):
        """Makes this the link of a page, None: it has none."""
        self.put_link(child, kind, link)

    # ---- what is stale

    cdef int settle_pages(self, dict failed, fresh) except -1:
        for pages in (fresh, failed):
            for page_id in pages:
                self.failed.pop(page_id, None)
                self.marked.discard(page_id)
                if page_id in failed:
                    self.flag(page_id, MMSB_PAGE_FAILED, MMSB_PAGE_STALE)
                else:
                    self.flag(page_id, 0, MMSB_PAGE_STALE | MMSB_PAGE_FAILED)
        self.failed.update(failed)
        return 0

    def settle(self, dict failed, fresh):
        """After a wave: what failed is stale, what was computed no longer is."""
        self.settle_pages(failed, fresh)

    def mark(self, pages):
        """These pages are stale, because an ancestor changed."""
        for page_id in pages:
            self.marked.add(page_id)
            self.flag(page_id, MMSB_PAGE_STALE, 0)

    cdef int cover_all(self) except -1:
        for page_id in self.marked:
            self.flag(page_id, 0, MMSB_PAGE_STALE)
        self.marked.clear()
        self.linked.clear()
        self.core._notes_marked = 0
        return 0

    def cover(self):
        """A wave has covered everything."""
        self.cover_all()
