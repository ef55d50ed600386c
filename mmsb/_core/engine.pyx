"""Engine: runs the waves of one State, with csrc/propagate.c computing what it can and Python functions the rest."""

from cpython.array cimport array, clone
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from mmsb._core.c_graph cimport *
from mmsb._core.c_mmsb cimport *
from mmsb._core.c_propagate cimport *
from mmsb._core.graph cimport Graph
from mmsb._core.linkcodec cimport *
from mmsb._core.linktable cimport Table
from mmsb._core.page cimport as_bytes_like
from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport CLOSED, Core, FORKED, READONLY, WAVE

import weakref

from mmsb import errors
from mmsb.arguments import ns_of
from mmsb._core.linkcodec import TYPE_NUMBERS, encode_wave
from mmsb._core.linktable import NOT_COMPUTED
from mmsb._core.semiring_python import calls_python, take_error

# From this many edges on a wave lets other threads run meanwhile.
cdef uint64_t RELEASE_GIL_EDGES = 4096
# Pieces of a level per thread: pages differ in what they cost.
cdef int PIECES = 4

cdef str PARENT_FAILED = "a page that it depends on could not be computed"
# Why a page is in the list of those that failed although nobody has tried: any wave may compute it.
cdef tuple UNTRIED = ("", NOT_COMPUTED)


cdef array U32 = array("I")
cdef array U64 = array("Q")


class Crossed(Exception):
    """Another thread came in between before a wave could keep it out: the wave begins again."""


cdef int hook(void *engine) except -1:
    return (<Engine>engine).committed()


cdef class Engine:
    """The graph of a State and the waves over it. `policy` decides when they run; the State decides everything else."""

    def __cinit__(self, Core core not None):
        # The Core owns its engine; were it owned by it too, a State that is dropped would not go away.
        self.owner = <void *>core
        self.alive = weakref.ref(core)
        self.links = <Table?>core._links
        self.failed, self.marked, self.new_links = self.links.failed, self.links.marked, self.links.linked
        self.unlogged = self.links.unlogged
        self.graph = Graph()
        self.functions = {}
        self.kept = {}
        self.reasons = {}
        mmsb_propagate_init(&self.p, &core.core, &self.graph.graph)
        core.engine = self
        core.touched_hook = hook

    def __dealloc__(self):
        mmsb_propagate_release(&self.p)

    cdef Core c(self):
        return <Core>self.owner

    cdef int need(self) except -1:
        """StateClosedError when the State is gone and only its engine was kept."""
        if self.alive() is None:
            raise errors.StateClosedError("The State of this engine is gone. Open it again.")
        return 0

    # ---- rules

    def fit(self, child, link, call, size_of):
        """What take() asks of a link: its semiring, and the sizes of its parents. LinkError, PageNotFoundError when it
        does not fit pages of these sizes; UnknownSemiringError, PluginError."""
        self.need()
        return self.fit_link(child, link, call, size_of)

    cdef tuple fit_link(self, child, link, call, size_of):
        cdef Core core = self.c()
        cdef const char *why = NULL
        cdef mmsb_link native
        cdef mmsb_link_copy whole
        cdef tuple parents = <tuple>field(link, PARENTS)
        cdef Py_ssize_t count = len(parents)
        cdef array sizes = clone(U64, count, False)
        cdef uint64_t *size_at = <uint64_t *>sizes.data.as_ulonglongs
        cdef Semiring semiring = None
        cdef uint64_t size
        cdef Py_ssize_t i
        cdef str name = field(link, TYPE)
        cdef bint computes = name not in ("call", "none")
        if not computes:
            size_of(child)
        elif field(link, SEMIRING):
            semiring = core._semiring(field(link, SEMIRING), field(link, DTYPE))
        for i in range(count):
            size_at[i] = size_of(parents[i])
        if not computes:
            if call is not None:
                core._check_arrays(child, parents, *call[1:], size_of)
            return None, sizes
        size = size_of(child)
        if name == "copy" and not field(link, COPIES) and (count != 1 or size_at[0] != size):
            raise core._refused(child, parents, "what is passed through has one parent of the same size")
        if semiring is not None and field(link, WEIGHTS):
            each = {semiring.row.lane_bytes, size} if name == "semiring" else {semiring.row.lane_bytes}
            fits = field(link, ROWS) in (0, count) and field(link, COLUMNS) * semiring.row.lane_bytes in (0, *each)
            if name == "semiring" and not fits or len(field(link, WEIGHTS)) not in {count * one for one in each}:
                raise core._refused(child, parents,
                                    "there is neither one weight per parent nor one per lane of each parent")
        _keep = self.fill(&native, &whole, link, sizes, semiring)
        if not mmsb_link_check(&native, size_at, size, &why):
            raise core._refused(child, parents, why.decode())
        return semiring, sizes

    def take(self, child, link, call, fitting):
        """From now on a page is computed by this link, for the first time in the next wave; the edges must be in the
        graph. `fitting`: what fit() says. Links of the other kinds compute nothing."""
        self.take_link(child, link, call, fitting)

    cdef int take_link(self, child, link, call, tuple fitting) except -1:
        if field(link, KIND) != "data":
            return 0
        self.put_rule(child, link, <array?>fitting[1], fitting[0])
        if call is not None:
            self.functions[child] = call
        self.force_node(child)
        return 0

    cdef list link_all(self, list staged, merges, size_of):
        """A batch is about to be committed: what it links, (child, link, call) each, must hold of the pages as it
        leaves them, and the graph takes the edges, because it says whether there is a cycle. The rules are taken, for
        which there may be no memory; afterwards nothing can fail any more. Returns the edges, to be taken back when
        the commit fails.
        """
        cdef Core core = self.c()
        cdef mmsb_page_header *header
        cdef list edges = []
        cdef list fitting = []
        cdef tuple parents
        for child, link, call in staged:
            kind = field(link, KIND)
            if kind == "data":
                header = mmsb_arena_header(&core.core.arena, child)
                if (self.links.find(child, "data") is not None or child in merges
                        or (header != NULL and header.kind == MMSB_PAGE_KIND_MERGE)):
                    core._check_free(child, link, child in merges)
            fitting.append(self.fit_link(child, link, call, size_of))
            parents = <tuple>field(link, PARENTS)
            for parent in parents if len(parents) == 1 else dict.fromkeys(parents):
                edges.append((parent, child, kind))
        try:
            self.graph.join(edges)
            for (child, link, call), one in zip(staged, fitting):
                self.take_link(child, link, call, one)
        except BaseException:
            core._remove_edges(self.graph, edges)
            raise
        return edges

    cdef object fill(self, mmsb_link *native, mmsb_link_copy *whole, link, array sizes, Semiring semiring):
        """Fills a native link, and what passes all through, from a Link. Returns what must outlive it."""
        cdef array copies = None
        cdef bytes weights = field(link, WEIGHTS)
        memset(native, 0, sizeof(mmsb_link))
        native.type = TYPE_NUMBERS[field(link, TYPE)]
        native.accumulates = field(link, ACCUMULATE)
        native.parent_count = len(field(link, PARENTS))
        native.rows = field(link, ROWS)
        native.columns = field(link, COLUMNS)
        if semiring is not None:
            native.semiring = semiring.row
        if weights and semiring is not None:
            if native.type == MMSB_LINK_SEMIRING and len(weights) > len(sizes) * semiring.row.lane_bytes:
                native.lane_weights = <const uint8_t *>PyBytes_AS_STRING(weights)
            else:
                native.weights = <const uint8_t *>PyBytes_AS_STRING(weights)
        if native.type == MMSB_LINK_COPY and not field(link, COPIES):
            memset(whole, 0, sizeof(mmsb_link_copy))
            whole.bytes = sizes.data.as_ulonglongs[0]
            native.copies = whole
            native.copy_count = 1
        elif native.type == MMSB_LINK_COPY:
            copies = array("Q", [number for one in link.copies for number in one])
            native.copies = <const mmsb_link_copy *>copies.data.as_voidptr
            native.copy_count = len(link.copies)
        return weights, copies

    def set_rule(self, child, link, fitting):
        """Computes a page by `link`, of which fit() says `fitting`, from now on; the edges must be in the graph."""
        self.put_rule(child, link, <array?>fitting[1], fitting[0])

    cdef int put_rule(self, child, link, array sizes, Semiring semiring) except -1:
        cdef mmsb_link native
        cdef mmsb_link_copy whole
        cdef tuple parents = field(link, PARENTS)
        cdef array nodes = clone(U32, len(parents), False)
        cdef Py_ssize_t i
        for i in range(len(parents)):
            nodes.data.as_uints[i] = self.graph.node(parents[i])
        _keep = self.fill(&native, &whole, link, sizes, semiring)
        if mmsb_propagate_set_rule(&self.p, self.graph.node(child), &native, nodes.data.as_uints) != MMSB_OK:
            raise MemoryError()
        self.forget_call(child)
        calls = native.type == MMSB_LINK_CALL or (semiring is not None and calls_python(semiring))
        self.kept[child] = semiring, calls, field(link, WEIGHTS)
        self.calls += calls

    def clear_rule(self, child):
        """The page is no longer computed, or otherwise."""
        cdef uint32_t node = self.graph.find(child)
        if node != MMSB_NO_NODE and node < self.p.rules.size // sizeof(mmsb_rule):
            mmsb_propagate_clear_rule(&self.p, node)
        self.forget_call(child)

    cdef int forget_call(self, child) except -1:
        self.functions.pop(child, None)
        _, calls, _ = self.kept.pop(child, (None, False, b""))
        self.calls -= calls
        return 0

    def force(self, child):
        """The page is computed in the next wave, whole."""
        self.force_node(child)

    cdef int force_node(self, child) except -1:
        if mmsb_propagate_force(&self.p, self.graph.node(child)) != MMSB_OK:
            raise MemoryError()

    # ---- waves

    cdef int committed(self) except -1:
        """A commit touched pages that others depend on."""
        if self.running:
            return 0
        if self.policy is not None or self.deferrals:
            self.decide()
            return 0
        cdef Core core = <Core>self.owner
        cdef int status = MMSB_WAVE_UNUSUAL
        # Most waves are short, call nobody, and find everything up to date but for what was written just now.
        if (core.gate == 0 and self.calls == 0 and self.threads <= 1 and core._notes_marked == 0
                and self.graph.graph.edge_count <= RELEASE_GIL_EDGES
                and not self.failed and not self.marked and not self.new_links and not self.unlogged):
            status = mmsb_propagate_at_once(&self.p)
        if status != MMSB_WAVE_DONE:
            return self.wave(MMSB_WAVE_FULL, status)
        if self.p.visited.size:
            self.waves += 1
            self.computed += self.p.computed
        return 0

    def decide(self):
        """There is something to do: the policy runs a wave, or what waits for one is stale."""
        self.need()
        self.c().begin_exclusive()
        try:
            if not self.deferrals and self.policy is not None:
                self.policy.after_commit(self)
        finally:
            try:
                self.mark()
            finally:
                self.c().end_exclusive()

    def before_read(self, page_id):
        """A stale page is about to be read. Whether it may be read as it is, or is up to date now."""
        self.need()
        if self.policy is None or self.deferrals or self.running or self.c().gate & READONLY:
            return False
        self.c().begin_exclusive()
        try:
            readable = self.policy.before_read(self, page_id) and page_id not in self.c()._links.failed
            return readable or not self.c()._is_stale(page_id)
        finally:
            self.c().end_exclusive()

    def defer(self):
        """No policy is asked until resume()."""
        self.need()
        with self.c()._exclusive():
            self.deferrals += 1

    def resume(self, bint wave=True):
        """Ends one defer(). After the last one, with `wave`, all that came meanwhile counts as one commit. A block of
        deferred() may be garbage together with its State, and end after it."""
        if self.alive() is None:
            return
        with self.c()._exclusive():
            self.deferrals -= 1
            if self.deferrals or not wave or not self.pending or self.c().gate & (CLOSED | FORKED):
                return
            if self.policy is None:
                self.propagate()
            else:
                self.decide()

    @property
    def pending(self):
        """Number of changes that no wave has covered, and of pages that were linked since; where there are none, of
        pages that are stale all the same: a link from what changed has gone, or opening found them so."""
        self.need()
        cdef Core core = <Core>self.owner
        cdef mmsb_touched *touched = <mmsb_touched *>core.core.touched.data
        cdef uint64_t i
        cdef uint64_t count = self.p.forced.size // sizeof(uint32_t)
        for i in range(core.core.touched.size // sizeof(mmsb_touched)):
            count += touched[i].page_id != 0  # 0: forgotten
        return count or len(self.marked)

    @property
    def changed(self):
        """Pages with children that changed since the last wave over everything (list of ids, ascending)."""
        self.need()
        _, touched = self.c()._touched_pages()
        return sorted({page_id for page_id in touched if self.c()._has_page(page_id)})

    def read(self, page_id):
        """A page's bytes as they are, stale or not."""
        self.need()
        return bytes(self.c()._page_bytes(page_id))

    def clock(self):
        """Nanoseconds on the State's clock; never goes back."""
        self.need()
        import time

        return self.c().clock() if self.c().clock is not None else time.monotonic_ns()

    def propagate(self, bint retry=False):
        """Runs one wave now, over everything that is not up to date; with `retry` also over what failed before."""
        self.need()
        with self.c()._exclusive():
            for page_id, reason in self.failed.items():
                if (retry or reason in UNTRIED) and self.c()._links.of(page_id) is not None:
                    self.force(page_id)
            self.wave(MMSB_WAVE_FULL)

    def wave_now(self):
        """Runs one wave over what was touched and forced."""
        self.need()
        self.wave(MMSB_WAVE_FULL)

    @property
    def linked(self):
        """Pages that were given a link and have not been computed since (list of ids)."""
        cdef uint32_t *nodes = <uint32_t *>self.p.forced.data
        cdef uint64_t i
        return [self.graph.page_id(nodes[i]) for i in range(self.p.forced.size // sizeof(uint32_t))]

    def compute(self, page_id):
        """Runs one wave over a stale page and the stale pages that it depends on. Does nothing when the page could not
        be computed before and nothing that it depends on has changed since."""
        self.need()
        cdef Core core = <Core>self.owner
        core.begin_exclusive()
        try:
            self.mark()
            known = core._links
            if not core._is_stale(page_id) or known.of(page_id) is None:
                return
            if known.failed.get(page_id, "") not in UNTRIED and page_id not in known.marked:
                return
            linked = self.linked  # they have waves of their own to come
            self.p.forced.size = 0
            try:
                for one in (*self.graph.ancestors(page_id, "data"), page_id):
                    if core._is_stale(one) and known.of(one) is not None:
                        self.force(one)
                self.wave(MMSB_WAVE_PARTIAL)
            finally:
                self.p.forced.size = 0
                for one in linked:
                    if core._is_stale(one):
                        self.force(one)
        finally:
            core.end_exclusive()

    def mark(self, fresh=()):
        """Marks what depends on pages that were touched or linked as stale; notes that it has seen are left out.
        Listeners are not told of `fresh`."""
        self.need()
        with self.c()._exclusive():
            self.mark_all(fresh)

    cdef int mark_all(self, fresh) except -1:
        known = self.c()._links
        self.c()._notes_marked, changed = known.news()
        below = self.graph.affected([page_id for page_id in changed if page_id in self.graph])
        marked = []
        if self.c()._listening:
            marked += [page_id for page_id in below if not self.c()._is_stale(page_id) and page_id not in fresh]
            marked += [page_id for page_id in known.linked if page_id not in fresh]
        known.mark(below)
        known.linked.clear()
        if marked:
            self.c()._marked(marked)
        return 0

    cdef int wave(self, mmsb_wave_scope scope, int failed=MMSB_WAVE_UNUSUAL) except -1:
        """Runs one wave. Whatever ends it early, the pages that it did not come to are known to be stale. `failed`: how
        it has failed already."""
        if self.running:
            raise errors.PropagationError("A function of a wave cannot start a wave. Do it after the wave.")
        cdef Core core = <Core>self.owner
        try:
            if failed != MMSB_WAVE_UNUSUAL:
                core.fail(failed, 0, 0, 0)
            return self.compute_all(scope)
        except Crossed:
            pass
        except errors.StoreFullError as error:
            self.mark()
            raise errors.PropagationError(
                f"Commit {core.seq} stands, and the disk has no room for the wave behind it: what depends on it is "
                "stale. Free space and call state.propagate().") from error
        except BaseException:
            self.mark()
            raise
        core.begin_exclusive()
        try:
            return self.wave(scope)
        finally:
            core.end_exclusive()

    cdef int compute_all(self, mmsb_wave_scope scope) except -1:
        cdef mmsb_commit_info info
        cdef Core core = <Core>self.owner
        cdef int status
        cdef bint partial = scope != MMSB_WAVE_FULL
        # A short wave that calls nobody runs in one go under the interpreter's lock, like any short operation.
        if self.calls != 0 or self.graph.graph.edge_count > RELEASE_GIL_EDGES or core.gate != 0 or self.threads > 1:
            core.begin_exclusive()
            self.held = True
        self.running = True
        try:
            core.leave(core.enter(CLOSED | FORKED | READONLY))
            memset(&info, 0, sizeof(mmsb_commit_info))
            info.if_epoch = MMSB_ANY_EPOCH
            # A wave that follows its commit at once happens at the same time.
            if self.policy is None and not partial:
                info.time_ns = core.core.time_ns
            elif core.clock is not None:
                info.time_ns = ns_of(core.clock)
            status = mmsb_propagate_begin(&self.p, &info, scope)
            if status != MMSB_OK:
                core.fail(status, 0, 0, 0)
            try:
                if self.reasons:
                    self.reasons = {}
                self.run()
                if self.p.visited.size or partial or self.marked:  # only the log says what is up to date again
                    self.publish(&info, partial)
                else:
                    mmsb_core_forget_touched(&core.core)
                    self.p.forced.size = 0
                if not partial and (self.marked or self.new_links or core._notes_marked):
                    self.links.cover_all()
            finally:
                mmsb_propagate_end(&self.p)
        finally:
            self.running = False
            self.let_go()
        return 0

    cdef int hold(self) except -1:
        """Keeps other threads out until the wave ends: Python code may let them in. A wave that was short up to here
        has let nobody in, and does not do so by waiting either: Crossed."""
        if not self.held:
            if not self.c().try_exclusive():
                raise Crossed()
            self.held = True
        return 0

    cdef void let_go(self):
        if self.held:
            self.held = False
            self.c().end_exclusive()

    cdef int run(self) except -1:
        cdef int status
        cdef bint long_wave = self.graph.graph.edge_count > RELEASE_GIL_EDGES
        cdef Core core = <Core>self.owner
        core.gate |= WAVE  # functions, and semirings in Python, change nothing
        self.p.pauses = self.threads > 1
        try:
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
                    self.misfit()
                else:
                    core.fail(status, 0, 0, 0)
        finally:
            core.gate &= ~WAVE

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

    cdef int misfit(self) except -1:
        """A native link could not compute the node at hand."""
        page_id = self.graph.page_id(mmsb_propagate_node(&self.p))
        semiring, _, _ = self.kept[page_id]
        error = take_error(semiring) if semiring is not None else None
        (<Core>self.owner)._failures[page_id] = error
        self.fail_here(errors.described(error) if error is not None else self.p.why.decode())
        return 0

    cdef object fail_here(self, str reason):
        self.hold()
        self.reasons[self.graph.page_id(mmsb_propagate_node(&self.p))] = reason
        if mmsb_propagate_failed(&self.p) != MMSB_OK:
            raise MemoryError()

    cdef int call(self) except -1:
        """Computes the node at hand with its Python function."""
        cdef Core core = <Core>self.owner
        cdef uint32_t node = mmsb_propagate_node(&self.p)
        cdef uint64_t page_id = self.graph.page_id(node)
        cdef mmsb_rule *rule = <mmsb_rule *>self.p.rules.data + node
        cdef uint64_t size = 0
        cdef const uint8_t *at
        cdef uint32_t i
        cdef bytes content
        entry = self.functions.get(page_id)
        if entry is None:
            self.fail_here("its function is not registered")
            return 0
        function, dtype, shape = entry
        at = mmsb_propagate_bytes(&self.p, node, &size)
        scratch = PyByteArray_FromStringAndSize(<char *>at, <Py_ssize_t>size)
        kept = memoryview(scratch)  # as long as it lives, nobody changes the length
        arguments = [memoryview(scratch)]
        for i in range(rule.link.parent_count):
            if mmsb_propagate_is_staged(&self.p, rule.parents[i]):
                # Staged bytes go when the wave ends; a function may keep what it was shown.
                at = mmsb_propagate_bytes(&self.p, rule.parents[i], &size)
                arguments.append(memoryview(PyBytes_FromStringAndSize(<const char *>at, size)))
            else:
                arguments.append(memoryview(core._slot(self.graph.page_id(rule.parents[i]))))
        try:
            if dtype is not None:
                import numpy

                arguments = [numpy.frombuffer(argument, dtype) for argument in arguments]
                if shape is not None:
                    arguments[0] = arguments[0].reshape(shape)
            result = function(*arguments)
            # A copy: another thread of the function may go on writing.
            content = bytes(scratch if result is None else as_bytes_like(result))
            if len(content) != len(scratch):
                raise ValueError(f"the function returned {len(content)} bytes for a page of {len(scratch)}")
        except (Exception, SystemExit) as error:
            core._failures[page_id] = error
            self.fail_here(errors.described(error))
            return 0
        core._failures.pop(page_id, None)
        kept.release()
        if mmsb_propagate_returned(&self.p, <const uint8_t *>PyBytes_AS_STRING(content)) != MMSB_OK:
            raise MemoryError()
        return 0

    cdef dict failures(self):
        """Why the pages that this wave could not compute could not be, by page."""
        cdef const uint32_t *failed = <const uint32_t *>self.p.failed.data
        cdef uint64_t i, page_id
        cdef dict reasons = {}
        known = self.c()._links
        for i in range(self.p.failed.size // sizeof(uint32_t)):
            page_id = self.graph.page_id(failed[i])
            if known.of(page_id) is None:
                reasons[page_id] = ""  # nobody computes it; a page that controls it changed
            elif (<mmsb_rule *>self.p.rules.data + failed[i]).used:
                reasons[page_id] = self.reasons.get(page_id, PARENT_FAILED)
            else:
                reasons[page_id] = known.failed.get(page_id, PARENT_FAILED)
        return reasons

    cdef int publish(self, void *info, bint partial) except -1:
        cdef Core core = <Core>self.owner
        cdef const uint32_t *visited = <const uint32_t *>self.p.visited.data
        cdef uint64_t i
        cdef int status
        cdef bytes blob = b""
        cdef dict reasons = None
        cdef dict untold = {}
        cdef list fresh = None
        if self.p.failed.size or partial or self.failed or self.marked:
            self.hold()
            reasons, fresh = self.failures(), []
            # The log names what is up to date again where it does not follow from the wave itself.
            for i in range(self.p.visited.size // sizeof(uint32_t)):
                page_id = self.graph.page_id(visited[i])
                if page_id not in reasons and (page_id in self.failed or partial):
                    fresh.append(page_id)
            if self.unlogged:
                # A wave covers all that the log has told so far: what stays stale all the same is told again.
                untold = self.links.untold((*reasons, *fresh))
                reasons.update(untold)
            blob = encode_wave(reasons, fresh, partial)
        while True:
            status = mmsb_propagate_publish(&self.p, <mmsb_commit_info *>info,
                                            <const uint8_t *>PyBytes_AS_STRING(blob), len(blob))
            if status != MMSB_NO_SPACE:
                break
            self.hold()  # what another thread appends meanwhile takes the place of the frame
            core._make_room()
        if status < 0:
            core.fail(status, 0, 0, 0)
        if reasons is not None and self.unlogged:
            self.unlogged.clear()
        self.waves += 1
        self.computed += self.p.computed
        if partial:
            self.mark(fresh)  # what depends on what it changed; some of that it has computed, too
        if fresh or reasons:
            # What failed before and is only told again may come out now, if an ancestor has changed.
            again = [page_id for page_id in untold if page_id in self.marked and core._has_failed(page_id)]
            self.links.settle_pages(reasons, fresh)
            self.links.mark(again)
        return 0

    # ---- proving

    def recompute(self):
        """Computes every page anew that is not stale, and changes nothing. Returns how many were computed, and None
        when all came out as they are, else (page, first, end of the bytes that differ, reason) of the first that did
        not, in the order of waves; the bytes are None when it could not be computed, and the reason says why."""
        cdef mmsb_commit_info info
        cdef Core core = <Core>self.owner
        self.need()
        core.begin_exclusive()
        self.held = True
        self.running = True
        try:
            pending = self.linked
            self.p.forced.size = 0
            for child, link in core._links.items():
                if link.kind == "data" and not core._is_stale(child):
                    self.force(child)
            memset(&info, 0, sizeof(mmsb_commit_info))
            info.time_ns = core.core.time_ns
            if mmsb_propagate_begin(&self.p, &info, MMSB_WAVE_TRIAL) != MMSB_OK:
                raise MemoryError()
            try:
                self.reasons = {}
                self.run()
                return self.p.computed, self.differing()
            finally:
                mmsb_propagate_end(&self.p)
                self.p.forced.size = 0
                for child in pending:
                    self.force(child)
        finally:
            self.running = False
            self.let_go()

    cdef object differing(self):
        cdef const uint32_t *visited = <const uint32_t *>self.p.visited.data
        cdef const uint8_t *at
        cdef uint64_t i, first
        cdef uint64_t size = 0
        for i in range(self.p.visited.size // sizeof(uint32_t)):
            page_id = self.graph.page_id(visited[i])
            if page_id in self.reasons:
                return page_id, None, None, self.reasons[page_id]
            if not mmsb_propagate_is_staged(&self.p, visited[i]):
                continue
            at = mmsb_propagate_bytes(&self.p, visited[i], &size)
            old = self.c()._page_bytes(page_id)
            new = PyBytes_FromStringAndSize(<const char *>at, size)
            wrong = [first for first in range(size) if old[first] != new[first]]
            return page_id, min(wrong), max(wrong) + 1, ""
        return None
