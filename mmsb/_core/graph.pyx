"""Graph: typed edges between pages, without cycles, in an order that is kept as they come and go."""

from array import array
from collections import namedtuple
from operator import index

from cpython.array cimport array as c_array, clone
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.string cimport memset

from mmsb._core.c_graph cimport *
from mmsb._core.c_mmsb cimport *
from mmsb._core.errors cimport raise_status

from mmsb import errors

# The kinds of edges by number, as they stand in arrays and in the log.
KINDS = ("data", "control", "device", "compiler")
cdef c_array U8 = array("B")
cdef c_array U64 = array("Q")
cdef dict KIND_NUMBERS = {name: number for number, name in enumerate(KINDS)}

Edge = namedtuple("Edge", "parent child kind link")


cdef uint32_t kind_of(kind) except? 0xffffffff:
    """Number of a kind's name. ValueError."""
    number = KIND_NUMBERS.get(kind) if isinstance(kind, str) else None
    if number is None:
        raise ValueError(f"Unknown kind of edge {kind!r}. Use one of {', '.join(KINDS)}.")
    return number


cdef uint32_t mask_of(kinds) except? 0xffffffff:
    """Mask of None (all), a name, or names."""
    cdef uint32_t mask = 0
    if kinds is None:
        return MMSB_EDGE_ALL
    for kind in (kinds,) if isinstance(kinds, str) else kinds:
        mask |= 1u << kind_of(kind)
    return mask


def column(values, str what, count=None):
    """A one-dimensional contiguous array of u64. ValueError, TypeError."""
    if isinstance(values, (list, tuple)) and all(type(value) is int for value in values):
        # numpy would make floats of large numbers beside small ones, and takes long for one edge.
        try:
            few = array("Q", values)
        except OverflowError:
            raise ValueError(f"{what} has an element below 0 or above 64 bits. Check it.") from None
        if count is not None and len(few) != count:
            raise ValueError(f"{what} must be as long as parents. Check its length, {len(few)}.")
        return few
    import numpy

    numbers = numpy.asarray(values)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not {numbers.dtype}")
    if numbers.ndim != 1 or (count is not None and len(numbers) != count):
        raise ValueError(f"{what} must be one-dimensional and as long as parents. Check its shape {numbers.shape}.")
    if numbers.size and numbers.dtype.kind == "i" and numbers.min() < 0:
        raise ValueError(f"{what} has a negative element, {numbers.min()}. Use numbers from 0.")
    return numpy.ascontiguousarray(numbers, dtype=numpy.uint64)


cdef object weigh(weights, page_id):
    """A page's weight by a callable or a mapping. TypeError when it is neither, PageNotFoundError when it lacks one."""
    if callable(weights):
        return weights(page_id)
    if not hasattr(weights, "__getitem__"):
        raise TypeError(f"weights are a callable or a mapping from page id to number, not {type(weights).__name__}")
    try:
        return weights[page_id]
    except LookupError:
        raise errors.PageNotFoundError(f"Page {page_id} has no weight. Give one for every page in the graph.",
                                       page=page_id) from None


cdef class Nodes:
    """Node numbers for the time of one call."""

    def __dealloc__(self):
        mmsb_buffer_release(&self.buffer, &mmsb_alloc_libc)

    cdef uint64_t count(self) noexcept:
        return self.buffer.size // sizeof(uint32_t)

    cdef const uint32_t *at(self) noexcept:
        return <const uint32_t *>self.buffer.data


cdef class Graph:
    """Pages, by id, and edges from parent to child, each with a kind ("data", "control", "device", "compiler") and a
    link, a number of up to 64 bits that means nothing here. One edge per parent, child and kind.

    Edges of every kind count for the order, and a cycle of edges of any kinds is refused. The order is: by level, the
    number of edges on the longest path that ends at the page, then by page id; it depends on pages and edges alone,
    not on how they came. `kinds` in queries: None (all), a kind, or several. Pages are ids; a page must be added
    before it can have edges. Errors: PageNotFoundError where a page was not added, ValueError for an unknown kind;
    whatever raises has changed nothing.
    """

    def __cinit__(self, pages=()):
        mmsb_graph_init(&self.graph, &mmsb_alloc_libc)
        mmsb_wave_init(&self.wave, &mmsb_alloc_libc)
        self.add_pages(pages)

    def __dealloc__(self):
        mmsb_wave_release(&self.wave)
        mmsb_graph_release(&self.graph)

    # ---- pages

    def add_pages(self, pages):
        """Makes page ids (positive, below 2**64) known; those that are known already stay as they are."""
        cdef uint32_t node
        cdef int status
        for page_id in pages:
            number = index(page_id)
            status = mmsb_graph_add_page(&self.graph, number if 0 < number < 1 << 64 else 0, &node)
            if status != MMSB_OK:
                raise_status(status, f"page {number}", {"page": number})

    def remove_page(self, page_id, *, bint detach=False):
        """Takes a page out. PageHasEdgesError when it has edges, unless `detach`: then they go with it."""
        cdef uint32_t node = self.node(page_id)
        cdef int status = mmsb_graph_remove_page(&self.graph, node, detach)
        if status != MMSB_OK:
            raise_status(status, f"page {page_id}", {"page_id": page_id, "parents": self.parents(page_id),
                                                     "children": self.children(page_id)})

    def pages(self):
        """All page ids, ascending."""
        cdef uint32_t node
        cdef list ids = []
        for node in range(self.graph.node_count):
            if mmsb_graph_node_at(&self.graph, node).page_id != 0:
                ids.append(mmsb_graph_node_at(&self.graph, node).page_id)
        ids.sort()
        return ids

    def __len__(self):
        return self.graph.page_count

    def __iter__(self):
        return iter(self.pages())

    def __contains__(self, page_id):
        return self.find(page_id) != MMSB_NO_NODE

    cdef uint32_t find(self, page_id) except? 0xfffffffe:
        number = index(page_id)
        return mmsb_graph_find(&self.graph, number) if 0 < number < 1 << 64 else MMSB_NO_NODE

    cdef uint32_t node(self, page_id) except? 0xffffffff:
        cdef uint32_t node = self.find(page_id)
        if node == MMSB_NO_NODE:
            raise errors.PageNotFoundError(f"Page {page_id} is not in the graph. Add it first.", page=page_id)
        return node

    cdef uint64_t page_id(self, uint32_t node) noexcept:
        return mmsb_graph_node_at(&self.graph, node).page_id

    cdef list ids(self, Nodes nodes):
        """The page ids of nodes, in their order."""
        cdef const uint32_t *at = nodes.at()
        cdef Py_ssize_t count = <Py_ssize_t>nodes.count()
        cdef list ids = PyList_New(count)  # no comprehension: that one would grow the list as it goes
        cdef Py_ssize_t i
        cdef object page_id
        for i in range(count):
            page_id = self.page_id(at[i])
            Py_INCREF(page_id)
            PyList_SET_ITEM(ids, i, page_id)
        return ids

    # ---- edges

    def add_edge(self, parent, child, kind="data", uint64_t link=0):
        """Adds an edge. GraphCycleError, also when parent and child are one; EdgeExistsError."""
        cdef uint32_t number = kind_of(kind)
        cdef uint32_t above = self.node(parent)
        cdef uint32_t below = self.node(child)
        cdef int status = mmsb_graph_add_edge(&self.graph, above, below, number, link)
        if status != MMSB_OK:
            self.refuse(status, parent, child, kind)

    def connect(self, edges):
        """Adds edges (parent, child, kind), and the pages that they need. GraphCycleError, EdgeExistsError: then no
        edge is added, and pages without edges may be left."""
        self.join(edges)

    cdef int join(self, edges) except -1:
        cdef Py_ssize_t count = len(edges)
        cdef Py_ssize_t i
        cdef mmsb_graph_edges many
        cdef uint64_t failed = 0
        cdef int status
        if count == 0:
            return 0
        if count == 1:
            parent, child, kind = edges[0]
            self.add_pages((parent, child) if parent < child else (child, parent))
            self.add_edge(parent, child, kind)
            return 0
        cdef c_array parents = clone(U64, count, False)
        cdef c_array children = clone(U64, count, False)
        cdef c_array kinds = clone(U8, count, False)
        cdef set pages = set()
        for i in range(count):
            parent, child, kind = edges[i]
            parents.data.as_ulonglongs[i] = parent
            children.data.as_ulonglongs[i] = child
            kinds.data.as_uchars[i] = kind_of(kind)
            pages.add(parent)
            pages.add(child)
        self.add_pages(sorted(pages))
        memset(&many, 0, sizeof(many))
        many.parents = <const uint64_t *>parents.data.as_ulonglongs
        many.children = <const uint64_t *>children.data.as_ulonglongs
        many.kinds = <const uint8_t *>kinds.data.as_uchars
        many.count = <uint64_t>count
        status = mmsb_graph_add_edges(&self.graph, &many, &failed)
        if status != MMSB_OK:
            parent, child, kind = edges[failed]
            self.refuse(status, parent, child, kind, failed)
        return 0

    def add_edges(self, parents, children, kinds="data", links=None):
        """Adds many edges at once, all or none; much faster than one by one.

        parents, children, links: one-dimensional and equally long, anything numpy turns into uint64; kinds: one kind
        for all, or numbers as in KINDS. Errors as of add_edge, for the first edge that cannot be added after those
        before it; `index` says which.
        """
        cdef const uint64_t[::1] parent_ids = column(parents, "parents")
        cdef const uint64_t[::1] child_ids = column(children, "children", parent_ids.shape[0])
        cdef const uint8_t[::1] kind_numbers
        cdef const uint64_t[::1] link_numbers
        cdef mmsb_graph_edges edges
        cdef uint64_t failed = 0
        if isinstance(kinds, str):
            numbers = bytes([kind_of(kinds)]) * parent_ids.shape[0]
        else:
            import numpy

            numbers = numpy.asarray(column(kinds, "kinds", parent_ids.shape[0]))
            if numbers.size and numbers.max() >= MMSB_EDGE_KINDS:
                raise ValueError(f"There is no kind of edge number {numbers.max()}. Use 0 to {MMSB_EDGE_KINDS - 1}.")
            numbers = numbers.astype(numpy.uint8)
        if parent_ids.shape[0] == 0:
            return
        kind_numbers = numbers
        memset(&edges, 0, sizeof(edges))
        edges.parents = &parent_ids[0]
        edges.children = &child_ids[0]
        edges.kinds = &kind_numbers[0]
        edges.count = parent_ids.shape[0]
        if links is not None:
            link_numbers = column(links, "links", parent_ids.shape[0])
            edges.links = &link_numbers[0]
        cdef int status = mmsb_graph_add_edges(&self.graph, &edges, &failed)
        if status != MMSB_OK:
            self.refuse(status, parent_ids[failed], child_ids[failed], KINDS[kind_numbers[failed]], failed)

    cdef refuse(self, int status, parent, child, kind, position=None):
        """Raises the error of an edge that could not be added."""
        cdef const uint32_t *nodes = <const uint32_t *>self.graph.cycle.data
        cdef uint64_t i
        cdef dict facts = {"parent": parent, "child": child, "kind": kind}
        context = f"{kind} edge from page {parent} to page {child}"
        if status == MMSB_PAGE_NOT_FOUND:
            facts["page"] = parent if parent not in self else child
        if position is not None:
            facts["index"] = position
        if status == MMSB_CYCLE:
            facts["cycle"] = [self.page_id(nodes[i]) for i in range(self.graph.cycle.size // sizeof(uint32_t))]
            shown = " -> ".join(map(str, facts["cycle"][:10]))
            context += f" ({shown}{' ...' if len(facts['cycle']) > 10 else f' -> {parent}'})"
        raise_status(status, context, facts)

    def remove_edge(self, parent, child, kind=None):
        """Removes the edge of this kind; None: of every kind there is. EdgeNotFoundError when there is none."""
        cdef uint32_t above = self.node(parent)
        cdef uint32_t below = self.node(child)
        cdef uint32_t mask = mask_of(kind)
        cdef uint32_t number
        removed = 0
        for number in range(MMSB_EDGE_KINDS):
            if mask >> number & 1:
                removed += mmsb_graph_remove_edge(&self.graph, above, below, number) == MMSB_OK
        if not removed:
            raise_status(MMSB_EDGE_NOT_FOUND, f"{kind or 'any'} edge from page {parent} to page {child}",
                         {"parent": parent, "child": child, "kind": kind})

    def degree(self, page_id):
        """Number of edges of a page, to it and from it."""
        cdef const mmsb_graph_node *node = mmsb_graph_node_at(&self.graph, self.node(page_id))
        return node.ins.count + node.out.count

    def has_edge(self, parent, child, kinds=None):
        """Whether there is an edge of one of these kinds. False also when a page is not in the graph."""
        cdef uint32_t above = self.find(parent)
        cdef uint32_t below = self.find(child)
        cdef uint32_t mask = mask_of(kinds)
        cdef uint32_t number
        if above == MMSB_NO_NODE or below == MMSB_NO_NODE:
            return False
        for number in range(MMSB_EDGE_KINDS):
            if mask >> number & 1 and mmsb_graph_link(&self.graph, above, below, number) != NULL:
                return True
        return False

    def link(self, parent, child, kind="data"):
        """The link of an edge. EdgeNotFoundError."""
        return self.link_of(parent, child, kind)[0]

    def set_link(self, parent, child, uint64_t link, kind="data"):
        """Gives an edge another link. EdgeNotFoundError."""
        self.link_of(parent, child, kind)[0] = link

    cdef uint64_t *link_of(self, parent, child, kind) except NULL:
        cdef uint32_t number = kind_of(kind)
        cdef uint64_t *link = mmsb_graph_link(&self.graph, self.node(parent), self.node(child), number)
        if link == NULL:
            raise_status(MMSB_EDGE_NOT_FOUND, f"{kind} edge from page {parent} to page {child}",
                         {"parent": parent, "child": child, "kind": kind})
        return link

    def edges(self, kinds=None):
        """All edges as Edge(parent, child, kind, link), sorted by parent, child, number of the kind."""
        cdef uint32_t mask = mask_of(kinds)
        cdef uint32_t node
        cdef uint32_t i
        cdef const mmsb_graph_node *child
        cdef const mmsb_graph_in *parents
        cdef list found = []
        for node in range(self.graph.node_count):
            child = mmsb_graph_node_at(&self.graph, node)
            if child.page_id == 0:
                continue
            parents = mmsb_graph_in_of(&self.graph, child)
            for i in range(child.ins.count):
                if mask >> parents[i].end.kind & 1:
                    found.append((self.page_id(parents[i].end.node), child.page_id, parents[i].end.kind,
                                  parents[i].link))
        found.sort()
        return [Edge(parent, child_id, KINDS[kind], link) for parent, child_id, kind, link in found]

    @property
    def edge_count(self):
        """Number of edges, of all kinds."""
        return self.graph.edge_count

    @property
    def nbytes(self):
        """Memory that the graph holds, bytes."""
        return mmsb_graph_bytes(&self.graph)

    # ---- neighbours and what lies behind them

    def parents(self, page_id, kinds=None):
        """Pages with an edge to this one, ascending, each once."""
        cdef uint32_t mask = mask_of(kinds)
        cdef const mmsb_graph_node *node = mmsb_graph_node_at(&self.graph, self.node(page_id))
        cdef const mmsb_graph_in *ends = mmsb_graph_in_of(&self.graph, node)
        cdef uint32_t i
        return sorted({self.page_id(ends[i].end.node) for i in range(node.ins.count) if mask >> ends[i].end.kind & 1})

    def children(self, page_id, kinds=None):
        """Pages with an edge from this one, ascending, each once."""
        cdef uint32_t mask = mask_of(kinds)
        cdef const mmsb_graph_node *node = mmsb_graph_node_at(&self.graph, self.node(page_id))
        cdef const mmsb_graph_end *ends = mmsb_graph_out_of(&self.graph, node)
        cdef uint32_t i
        return sorted({self.page_id(ends[i].node) for i in range(node.out.count) if mask >> ends[i].kind & 1})

    def ancestors(self, page_id, kinds=None):
        """Pages from which a path leads to this one, ascending."""
        return self.reach(page_id, kinds, True)

    def descendants(self, page_id, kinds=None):
        """Pages to which a path leads from this one, ascending."""
        return self.reach(page_id, kinds, False)

    cdef reach(self, page_id, kinds, bint backward):
        cdef Nodes nodes = Nodes()
        cdef uint32_t mask = mask_of(kinds)
        cdef uint32_t node = self.node(page_id)
        cdef int status = mmsb_graph_reach(&self.graph, &node, 1, mask, backward, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        return self.ids(nodes)

    def path(self, start, end, kinds=None):
        """Pages along the shortest path from `start` to `end`, both included; among several the one with the smallest
        page ids. None when there is no path."""
        cdef Nodes nodes = Nodes()
        cdef uint32_t mask = mask_of(kinds)
        cdef int status = mmsb_graph_path(&self.graph, self.node(start), self.node(end), mask, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        return self.ids(nodes) or None

    # ---- the whole order

    def order(self):
        """All pages in the order of the graph: by level, then by page id."""
        cdef Nodes nodes = Nodes()
        cdef int status = mmsb_graph_order(&self.graph, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        return self.ids(nodes)

    def levels(self):
        """Pages by level: levels()[n] lists, ascending, those at which the longest path that ends has n edges."""
        cdef Nodes nodes = Nodes()
        cdef uint64_t i
        cdef list levels = []
        cdef list last = []
        cdef int status = mmsb_graph_order(&self.graph, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        for i in range(nodes.count()):
            if mmsb_graph_node_at(&self.graph, nodes.at()[i]).level == <uint64_t>len(levels):
                last = []
                levels.append(last)
            last.append(self.page_id(nodes.at()[i]))
        return levels

    def level(self, page_id):
        """Number of edges on the longest path that ends at the page."""
        cdef uint32_t node = self.node(page_id)
        mmsb_graph_settle(&self.graph)
        return mmsb_graph_node_at(&self.graph, node).level

    def affected(self, pages, kinds=("data", "control"), unchanged=()):
        """Pages that depend on one of `pages`, in the order of the graph: what a wave visits.

        unchanged: pages at which the wave ends, because they came out as they were before.
        """
        cdef Nodes nodes = Nodes()
        cdef uint32_t mask = mask_of(kinds)
        cdef list origins = [self.node(page_id) for page_id in pages]
        cdef list ends = [self.node(page_id) for page_id in unchanged]
        cdef uint32_t[::1] view = array("I", origins) if origins else None
        cdef int status
        if not origins:
            return []
        if ends:
            return self.affected_until(view, mask, set(ends))
        status = mmsb_graph_affected(&self.graph, &self.wave, &view[0], view.shape[0], mask, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        return self.ids(nodes)

    cdef list affected_until(self, uint32_t[::1] origins, uint32_t mask, set ends):
        cdef const uint32_t *nodes = NULL
        cdef uint32_t count
        cdef uint32_t i
        cdef list found = []
        cdef int status = mmsb_wave_begin(&self.wave, &self.graph, mask)
        if status != MMSB_OK:
            raise_status(status)
        try:
            for i in range(origins.shape[0]):
                mmsb_wave_touch(&self.wave, origins[i])
            while True:
                count = mmsb_wave_next(&self.wave, &nodes)
                if count == 0:
                    return found
                for i in range(count):
                    found.append(self.page_id(nodes[i]))
                    if nodes[i] not in ends:
                        mmsb_wave_touch(&self.wave, nodes[i])
        finally:
            mmsb_wave_stop(&self.wave)

    def critical_path(self, weights=None, kinds=None):
        """(weight, pages) of the heaviest path: the sum of its pages' weights, added from its start on.

        weights: callable or mapping from page id to a finite number of at least 0 (ValueError, TypeError;
        PageNotFoundError for a page that a mapping lacks); None: 1 for each page. Among several, the last page, then
        each page before it, has the smallest id. (0.0, []) without pages.
        """
        cdef Nodes nodes = Nodes()
        cdef uint32_t mask = mask_of(kinds)
        cdef double weight = 0
        cdef double[::1] values = None
        if weights is not None and self.graph.page_count:
            weighed = [(page_id, float(weigh(weights, page_id))) for page_id in self.pages()]
            values = array("d", bytes(8 * self.graph.node_count))
            for page_id, one in weighed:
                if not 0 <= one < float("inf"):
                    raise ValueError(f"Page {page_id} has weight {one}. Use finite weights of at least 0.")
                values[self.node(page_id)] = one
        cdef int status = mmsb_graph_critical_path(&self.graph, mask, &values[0] if values is not None else NULL,
                                                   &nodes.buffer, &weight)
        if status != MMSB_OK:
            raise_status(status)
        return weight, self.ids(nodes)

    def redundant(self, kinds=None):
        """Pairs (parent, child) with an edge between them and a longer path too, along edges of these kinds; sorted."""
        cdef Nodes nodes = Nodes()
        cdef uint32_t mask = mask_of(kinds)
        cdef int status = mmsb_graph_redundant(&self.graph, mask, &nodes.buffer)
        if status != MMSB_OK:
            raise_status(status)
        ids = self.ids(nodes)
        return sorted(zip(ids[::2], ids[1::2], strict=True))

    def check(self):
        """What is wrong with the graph's own memory, or None. For tests and `mmsb verify`."""
        cdef const char *why = NULL
        cdef int status = mmsb_graph_check(&self.graph, &why)
        return None if status == MMSB_OK else why.decode()
