"""Engine: runs the waves of one State, with csrc/propagate.c computing what it can and Python functions the rest."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from mmsb._core.c_graph cimport *
from mmsb._core.c_mmsb cimport *
from mmsb._core.c_propagate cimport *
from mmsb._core.graph cimport Graph, Nodes
from mmsb._core.semiring cimport Semiring, Semirings
from mmsb._core.state cimport CLOSED, Core, FORKED, READONLY, UNWRITABLE, WAVE

from mmsb import errors, links

# From this many edges on a wave lets other threads run meanwhile.
cdef uint64_t RELEASE_GIL_EDGES = 4096
# Pieces of a level per thread: pages differ in what they cost.
cdef int PIECES = 4


cdef int hook(void *engine) except -1:
    return (<Engine>engine).committed()


cdef class Engine:
    """The graph of a State and the waves over it. `policy` decides when they run; the State decides everything else."""

    def __cinit__(self, Core core not None):
        self.core = core
        self.graph = Graph()
        self.functions = {}
        self.kept = {}
        self.strangers = set()
        self.reasons = {}
        mmsb_propagate_init(&self.p, &core.core, &self.graph.graph)
        core.engine = self
        core.touched_hook = hook

    def __dealloc__(self):
        mmsb_propagate_release(&self.p)

    # ---- rules

    def check(self, child, link, sizes, uint64_t child_size, Semiring semiring=None):
        """Whether a native link fits pages of these sizes: None, or a sentence that says what is wrong."""
        cdef const char *why = NULL
        cdef mmsb_link native
        cdef uint64_t[::1] size_view
        from array import array

        size_view = array("Q", sizes)
        keep = self.fill(&native, link, list(sizes), semiring)
        return None if mmsb_link_check(&native, &size_view[0], child_size, &why) else why.decode()

    cdef object fill(self, mmsb_link *native, link, list sizes, Semiring semiring):
        """Fills a native link from a Link. Returns what must outlive it."""
        from array import array

        cdef uint64_t[::1] copy_view
        memset(native, 0, sizeof(mmsb_link))
        native.type = links.TYPES.index(link.type)
        native.accumulates = link.accumulate
        native.parent_count = len(link.parents)
        native.rows = link.rows
        native.columns = link.columns
        if semiring is not None:
            native.semiring = semiring.row
        weights = link.weights
        if weights:
            native.weights = <const uint8_t *>PyBytes_AS_STRING(weights)
        copies = None
        if link.type == "copy":
            whole = [(0, 0, 0, sizes[0])] if not link.copies else link.copies
            copies = array("Q", [number for one in whole for number in one])
            copy_view = copies
            native.copies = <const mmsb_link_copy *>&copy_view[0]
            native.copy_count = len(whole)
        return weights, copies

    def set_rule(self, child, link, sizes, Semiring semiring=None):
        """Computes a page by `link` from now on; the edges must be in the graph."""
        cdef mmsb_link native
        cdef uint32_t[::1] nodes
        from array import array

        keep = self.fill(&native, link, list(sizes), semiring)
        nodes = array("I", [self.graph.node(parent) for parent in link.parents])
        if mmsb_propagate_set_rule(&self.p, self.graph.node(child), &native, &nodes[0]) != MMSB_OK:
            raise MemoryError()
        self.kept[child] = semiring
        self.calls += link.type == "call"
        if semiring is not None and not isinstance(semiring.owner, Semirings):
            self.strangers.add(child)

    def clear_rule(self, child, link):
        """The page is no longer computed."""
        cdef uint32_t node = self.graph.find(child)
        if node != MMSB_NO_NODE:
            mmsb_propagate_clear_rule(&self.p, node)
        self.kept.pop(child, None)
        self.strangers.discard(child)
        self.functions.pop(child, None)
        self.calls -= link.type == "call"

    def force(self, child):
        """The page is computed in the next wave, whole."""
        if mmsb_propagate_force(&self.p, self.graph.node(child)) != MMSB_OK:
            raise MemoryError()

    # ---- waves

    cdef int committed(self) except -1:
        """A commit touched pages that others depend on."""
        if self.running:
            return 0
        if self.policy is None and not self.held:
            return self.wave(False)
        self.decide()
        return 0

    def decide(self):
        """There is something to do: the policy runs a wave, or what waits for one is stale."""
        self.core.begin_exclusive()
        try:
            if not self.held:
                self.policy.after_commit(self)
        finally:
            try:
                self.mark()
            finally:
                self.core.end_exclusive()

    def before_read(self, page_id):
        """A stale page is about to be read. Whether it may be read as it is, or is up to date now."""
        if self.policy is None or self.held or self.running or self.core.gate & READONLY:
            return False
        self.core.begin_exclusive()
        try:
            readable = self.policy.before_read(self, page_id) and page_id not in self.core._links.failed
            return readable or not self.core._is_stale(page_id)
        finally:
            self.core.end_exclusive()

    def hold(self):
        """No policy is asked until release()."""
        self.held += 1

    def release(self):
        """Ends one hold(). After the last one, all that came meanwhile counts as one commit."""
        self.held -= 1
        if self.held or not self.pending or self.core.gate & (CLOSED | FORKED):
            return
        if self.policy is None:
            self.propagate()
        else:
            self.decide()

    @property
    def pending(self):
        """Number of changes and new links that no wave has covered."""
        return self.core.core.touched.size // sizeof(mmsb_touched) + self.p.forced.size // sizeof(uint32_t)

    @property
    def changed(self):
        """Pages with children that changed since the last wave over everything (list of ids, ascending)."""
        cdef mmsb_touched *entries = <mmsb_touched *>self.core.core.touched.data
        cdef uint64_t i
        return sorted({entries[i].page_id for i in range(self.core.core.touched.size // sizeof(mmsb_touched))
                       if self.core._has_page(entries[i].page_id)})

    def read(self, page_id):
        """A page's bytes as they are, stale or not."""
        return bytes(self.core._page_bytes(page_id))

    def clock(self):
        """Nanoseconds on the State's clock; never goes back."""
        import time

        return self.core.clock() if self.core.clock is not None else time.monotonic_ns()

    def propagate(self, retry=False):
        """Runs one wave now, over everything that is not up to date; with `retry` also over what failed before."""
        for page_id in self.core._stale_pages():
            if self.core._links.of(page_id) is not None and (retry or page_id not in self.core._links.failed):
                self.force(page_id)
        self.wave(False)

    def wave_now(self):
        """Runs one wave over what was touched and forced."""
        self.wave(False)

    @property
    def linked(self):
        """Pages that were given a link and have not been computed since (list of ids)."""
        cdef uint32_t *nodes = <uint32_t *>self.p.forced.data
        cdef uint64_t i
        return [self.graph.page_id(nodes[i]) for i in range(self.p.forced.size // sizeof(uint32_t))]

    def compute(self, page_id):
        """Runs one wave over a stale page and the stale pages that it depends on. Does nothing when the page could not
        be computed before and nothing that it depends on has changed since."""
        core = self.core
        core.begin_exclusive()
        try:
            self.mark()
            if page_id in core._links.failed or not core._is_stale(page_id):
                return
            self.p.forced.size = 0  # these are stale, and their own waves come
            for one in self.graph.ancestors(page_id, "data") + [page_id]:
                if core._is_stale(one) and core._links.of(one) is not None:
                    self.force(one)
            self.wave(True)
        finally:
            core.end_exclusive()

    def mark(self):
        """Marks what depends on touched pages as stale."""
        cdef Nodes nodes = Nodes()
        cdef Nodes touched = Nodes()
        cdef mmsb_touched *entries = <mmsb_touched *>self.core.core.touched.data
        cdef uint64_t i
        cdef uint32_t node
        cdef uint64_t count = self.core.core.touched.size // sizeof(mmsb_touched)
        # Once not every change is kept, a page that is noted may have changed again.
        cdef uint64_t first = 0 if self.core.core.touched_whole else min(self.marked, count)
        self.marked = count
        marked = []
        for page_id in self.linked:
            self.mark_page(page_id, marked)
        if not mmsb_buffer_reserve(&touched.buffer, &mmsb_alloc_libc, (count - first + 1) * sizeof(uint32_t)):
            raise MemoryError()
        for i in range(first, count):
            node = mmsb_graph_find(&self.graph.graph, entries[i].page_id)
            if node != MMSB_NO_NODE:
                (<uint32_t *>touched.buffer.data)[touched.buffer.size // sizeof(uint32_t)] = node
                touched.buffer.size += sizeof(uint32_t)
        cdef uint32_t kinds = 1 << MMSB_EDGE_DATA | 1 << MMSB_EDGE_CONTROL
        if first < count and mmsb_graph_affected(&self.graph.graph, &self.graph.wave, touched.at(), touched.count(),
                                                 kinds, &nodes.buffer) != MMSB_OK:
            raise MemoryError()
        for i in range(nodes.count()):
            self.mark_page(self.graph.page_id(nodes.at()[i]), marked)
        if marked and self.core._listening:
            self.core._marked(marked)

    cdef int mark_page(self, uint64_t page_id, list marked) except -1:
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.core.arena, page_id)
        if header == NULL:
            return 0  # deleted since it was forced
        if not header.flags & MMSB_PAGE_STALE:
            header.flags |= MMSB_PAGE_STALE
            marked.append(page_id)
        elif self.core._links.failed.pop(page_id, None) is not None:  # it is worth another try
            self.core._failures.pop(page_id, None)
        return 0

    def forget(self):
        """What was touched counts as covered."""
        mmsb_core_forget_touched(&self.core.core)
        self.marked = 0

    cdef int wave(self, bint partial) except -1:
        cdef mmsb_commit_info info
        cdef Core core = self.core
        cdef int status
        if self.running:
            raise errors.PropagationError("A function of a wave cannot start a wave. Do it after the wave.")
        core.leave(core.enter(CLOSED | FORKED | UNWRITABLE))
        core.begin_exclusive()
        self.running = True
        try:
            core.prepare_info(&info, None, None, None)
            info.sync = False
            status = mmsb_propagate_begin(&self.p, &info, partial)
            if status != MMSB_OK:
                core.fail(status, 0, 0, 0)
            try:
                self.reasons = {}
                self.run()
                if self.p.visited.size or partial:
                    self.publish(&info, partial)
                else:
                    mmsb_core_forget_touched(&core.core)
                    self.p.forced.size = 0
                self.marked = core.core.touched.size // sizeof(mmsb_touched)
            finally:
                mmsb_propagate_end(&self.p)
        finally:
            self.running = False
            core.end_exclusive()
        return 0

    cdef int run(self) except -1:
        cdef int status
        cdef bint long_wave = self.graph.graph.edge_count > RELEASE_GIL_EDGES
        self.p.pauses = self.threads > 1 and not self.strangers
        while True:
            if long_wave and self.calls == 0:
                with nogil:
                    status = mmsb_propagate_run(&self.p)
            else:
                status = mmsb_propagate_run(&self.p)
            if status == MMSB_WAVE_DONE:
                return 0
            if status == MMSB_WAVE_CALL:
                self.call()
            elif status == MMSB_WAVE_LEVEL:
                self.spread()
            elif status == MMSB_BAD_LINK:
                self.fail_here(self.p.why.decode())
            else:
                self.core.fail(status, 0, 0, 0)

    def use_threads(self, int threads, uint64_t least_bytes):
        """So many threads compute the native links of a level that reads `least_bytes` or more. 1: none but the own."""
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None
        self.threads = threads
        self.least_bytes = least_bytes

    cdef int spread(self) except -1:
        """Computes a level ahead, in threads, if it is worth it."""
        cdef uint64_t work = 0
        cdef uint32_t count = self.p.level_count
        if mmsb_propagate_reserve_ahead(&self.p, &work) != MMSB_OK:
            raise MemoryError()
        if count < 2 or work < self.least_bytes:
            return 0
        if self.pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self.pool = ThreadPoolExecutor(self.threads, "mmsb wave")
        pieces = min(count, self.threads * PIECES)
        bounds = [count * i // pieces for i in range(pieces + 1)]
        list(self.pool.map(self.ahead, bounds[:pieces], bounds[1:]))
        return 0

    def ahead(self, uint32_t first, uint32_t end):
        """Computes places [first, end) of the level at hand, in a thread of the pool."""
        with nogil:
            mmsb_propagate_ahead(&self.p, first, end)

    cdef object fail_here(self, str reason):
        self.reasons[self.graph.page_id(mmsb_propagate_node(&self.p))] = reason
        if mmsb_propagate_failed(&self.p) != MMSB_OK:
            raise MemoryError()

    cdef int call(self) except -1:
        """Computes the node at hand with its Python function."""
        cdef uint32_t node = mmsb_propagate_node(&self.p)
        cdef uint64_t page_id = self.graph.page_id(node)
        cdef mmsb_rule *rule = <mmsb_rule *>self.p.rules.data + node
        cdef uint64_t size = 0
        cdef const uint8_t *at
        cdef uint32_t i
        cdef uint8_t[::1] out
        entry = self.functions.get(page_id)
        if entry is None:
            self.fail_here("its function is not registered")
            return 0
        function, dtype, shape = entry
        at = mmsb_propagate_bytes(&self.p, node, &size)
        scratch = bytearray(PyBytes_FromStringAndSize(<const char *>at, size))
        arguments = [memoryview(scratch)]
        for i in range(rule.link.parent_count):
            if mmsb_propagate_is_staged(&self.p, rule.parents[i]):
                # Staged bytes go when the wave ends; a function may keep what it was shown.
                at = mmsb_propagate_bytes(&self.p, rule.parents[i], &size)
                arguments.append(memoryview(PyBytes_FromStringAndSize(<const char *>at, size)))
            else:
                arguments.append(memoryview(self.core._slot(self.graph.page_id(rule.parents[i]))))
        self.core.gate |= WAVE
        try:
            if dtype is not None:
                import numpy

                arguments = [numpy.frombuffer(argument, dtype) for argument in arguments]
                if shape is not None:
                    arguments[0] = arguments[0].reshape(shape)
            result = function(*arguments)
            if result is not None:
                content = memoryview(result).cast("B")
                if len(content) != len(scratch):
                    raise ValueError(f"the function returned {len(content)} bytes for a page of {len(scratch)}")
                scratch = bytearray(content)
        except Exception as error:
            self.core._failures[page_id] = error
            self.fail_here(f"{type(error).__name__}: {error}")
            return 0
        finally:
            self.core.gate &= ~WAVE
        self.core._failures.pop(page_id, None)
        out = scratch
        if mmsb_propagate_returned(&self.p, &out[0]) != MMSB_OK:
            raise MemoryError()
        return 0

    cdef int publish(self, void *info, bint partial) except -1:
        cdef Core core = self.core
        cdef const uint32_t *failed = <const uint32_t *>self.p.failed.data
        cdef const uint32_t *visited = <const uint32_t *>self.p.visited.data
        cdef mmsb_page_header *header
        cdef uint64_t i, page_id
        cdef int status
        cdef bytes blob = b""
        fresh = []
        for i in range(self.p.visited.size // sizeof(uint32_t)):
            page_id = self.graph.page_id(visited[i])
            header = mmsb_arena_header(&core.core.arena, page_id)
            if header.flags & MMSB_PAGE_STALE:
                fresh.append(page_id)
        reasons = {}
        for i in range(self.p.failed.size // sizeof(uint32_t)):
            page_id = self.graph.page_id(failed[i])
            reasons[page_id] = self.reasons.get(page_id, "a page that it depends on could not be computed")
        if fresh or reasons or partial:
            fresh = [page_id for page_id in fresh if page_id not in reasons]
            blob = links.encode_wave(reasons, fresh, partial)
        while True:
            status = mmsb_propagate_publish(&self.p, <mmsb_commit_info *>info,
                                            <const uint8_t *>PyBytes_AS_STRING(blob), len(blob))
            if status != MMSB_NO_SPACE:
                break
            core._make_room()
        if status < 0:
            core.fail(status, 0, 0, 0)
        self.waves += 1
        self.computed += self.p.computed
        if fresh or reasons:
            core._links.settle(reasons, fresh)
        return 0
