"""Core: the C core of one State behind a lock, and the dictionaries that describe its pages.

Locking. A short operation runs in one go while the thread holds the GIL, so it needs no lock of its own: it only looks
whether the gate is open. An operation that releases the GIL, or that spans several calls, closes the gate (BUSY) and
holds a mutex; whoever comes then waits at the mutex with the GIL released. docs/decisions/0002 has the measurement.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.pythread cimport (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_get_thread_ident,
    PyThread_release_lock,
    WAIT_LOCK,
)
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN
from libc.string cimport memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.delta cimport Delta, new_delta
from mmsb._core.errors cimport raise_status
from mmsb._core.files cimport Files
from mmsb._core.log cimport Cursor, Frame
from mmsb._core.page cimport Page, Slot, as_bytes_like, check_lanes
from mmsb._core.semiring cimport Semiring


from mmsb import errors, linktable
from mmsb.arguments import encode_source, ns_of, several
from mmsb._core.semiring_python import calls_python, take_error

# From this many bytes on a write lets other threads run meanwhile.
cdef uint64_t RELEASE_GIL_BYTES = 1 << 17
cdef uint64_t NONE_SEQ = <uint64_t>-1
# Asked once: in a virtual machine every question to the CPU costs microseconds, and a new core asks several.
cdef uint32_t FEATURES = mmsb_cpu_detect()


cdef inline void put_source(mmsb_commit_info *info, uint32_t index, bytes name) noexcept:
    """A source of a commit. The name must outlive *info."""
    info.source = index
    info.source_name = <const uint8_t *>PyBytes_AS_STRING(name)
    info.source_bytes = <uint64_t>PyBytes_GET_SIZE(name)


cdef int keep_slot(void *context, uint64_t page_id, uint64_t handle, uint64_t size) noexcept with gil:
    """A page lets go of its bytes. If a view still shows them, they become the view's."""
    cdef Core core = <Core>context
    cdef Slot slot
    try:
        address = core._slots.pop(page_id, None)
        if address is None:
            return False
        slot = <Slot><PyObject *><size_t>address
    except BaseException:
        return True  # out of memory: better lost than handed out under a view
    if slot.handle != handle:
        return False
    slot.orphan = True
    return True


cdef class Exclusive:
    """A `with` block of one thread alone."""

    cdef Core core

    def __enter__(self):
        self.core.begin_exclusive()
        return self.core

    def __exit__(self, kind, error, traceback):
        self.core.end_exclusive()
        return False


cdef class Core:
    """Base class of mmsb.State. `disable`: CPU features not to use; `max_bytes`: bound of the arena, None for none."""

    def __cinit__(self, *args, **kwargs):
        self.mutex = PyThread_allocate_lock()
        if self.mutex == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.alive:
            mmsb_core_release(&self.core)
        if self.shared_memory.base != NULL:
            mmsb_memory_release(&self.shared_memory)
        if self.mutex != NULL:
            PyThread_free_lock(self.mutex)

    def _start(self, Files files not None, max_bytes=None, disable=None, clock=None, *, bint private=False):
        """Makes the empty core; `private`: no other process is ever to see its pages. Raises MemoryError, ValueError on
        an unknown CPU feature."""
        cdef uint32_t features = FEATURES
        cdef const char *unknown = NULL
        cdef uint64_t bound = 0 if max_bytes is None else max_bytes
        cdef bytes names = mmsb_cpu_environment() if disable is None else disable.encode("utf-8", "backslashreplace")
        if mmsb_cpu_disable(&features, names, &unknown) != MMSB_OK:
            raise ValueError(f"{unknown.decode()!r} in {names.decode()!r} is no CPU feature that mmsb knows. "
                             "Use names that `mmsb cpu` prints.")
        cdef int status
        if private:
            status = mmsb_memory_create_private(&self.shared_memory, 4096, False)
        else:
            status = mmsb_memory_create(&self.shared_memory, 4096, False)
        if status == MMSB_OK:
            status = mmsb_core_init(&self.core, features, &mmsb_alloc_libc, files.table,
                                    <mmsb_shared *>self.shared_memory.base, bound)
        if status != MMSB_OK:
            raise_status(status)
        self.alive = True
        self.core.arena.is_private = private
        self.core.keep_slot = keep_slot
        self.core.keep_context = <void *>self
        self.source_indices = {}
        self.source_names = [None]
        self.sources = 1
        self.given_back = []
        self._names = {}
        self._name_of = {}
        self._metadata = {}
        self._slots = {}
        self._links = linktable.Links(self)
        self._failures = {}
        self.merges = [None]
        self.clock = clock

    # ---- coming in and going out

    cdef inline int enter(self, int refused) except -1:
        """Call before a short operation; pass the result to leave(). `refused`: gate bits that raise."""
        if self.gate & (BUSY | refused) == 0:
            return 0
        return self.enter_slowly(refused)

    cdef int enter_slowly(self, int refused) except -1:
        cdef int token = 0
        if self.gate & BUSY and self.owner != PyThread_get_thread_ident():
            self.begin_exclusive()  # what this thread calls meanwhile, a policy or a signal handler, may come in again
            token = 1
        if self.gate & refused:
            if token:
                self.end_exclusive()
            if self.gate & FORKED:
                raise errors.ForkedStateError(
                    "This State was opened before fork() and belongs to the parent process. "
                    "Open or attach anew in the child.", owner_pid=(<mmsb_shared *>self.shared_memory.base).owner_pid)
            if self.gate & CLOSED:
                raise errors.StateClosedError("The State is closed. Open it again.")
            if self.gate & WAVE:
                raise errors.PropagationError(
                    "A function that computes a page changed another one. Write to the first argument only.")
            raise errors.ReadOnlyError("The State is open for reading only. Open it without read_only=True.")
        return token

    cdef inline void leave(self, int token):
        if token:
            self.end_exclusive()

    cdef int begin_exclusive(self) except -1:
        """Keeps every other thread out, also while this one releases the GIL. May be nested."""
        if not self.try_exclusive():
            with nogil:
                PyThread_acquire_lock(self.mutex, WAIT_LOCK)
            self.shut()
        return 0

    cdef bint try_exclusive(self):
        """As begin_exclusive, but without waiting: false when another thread is inside, or about to be."""
        if self.gate & BUSY and self.owner == PyThread_get_thread_ident():
            self.depth += 1
            return True
        if not PyThread_acquire_lock(self.mutex, 0):
            return False
        self.shut()
        return True

    cdef void shut(self):
        """This thread has the mutex: the gate is shut for the others."""
        self.gate |= BUSY
        self.owner = PyThread_get_thread_ident()
        self.depth = 1

    cdef void end_exclusive(self):
        self.depth -= 1
        if self.depth:
            return
        while self.given_back:
            handle, size = self.given_back.pop()
            mmsb_core_give_slot(&self.core, handle, size)
        self.gate &= ~BUSY
        self.owner = 0
        PyThread_release_lock(self.mutex)

    def _exclusive(self):
        """Context manager: no other thread reads or changes the State inside."""
        cdef Exclusive block = Exclusive.__new__(Exclusive)
        block.core = self
        return block

    def _close_gate(self, *, bint closed=False, bint forked=False, bint read_only=False):
        """Refuses what the given condition refuses, from now on."""
        if closed:
            self.gate |= CLOSED
        if read_only:
            self.gate |= READONLY
        if forked:
            # The thread that held the lock does not exist in the child.
            self.gate = (self.gate | FORKED) & ~BUSY
            mmsb_arena_protect_after_fork(&self.core.arena)
            mmsb_memory_protect(&self.shared_memory)

    def _check_open(self):
        """Raises when the State is closed or belongs to a parent process."""
        self.leave(self.enter(CLOSED | FORKED))

    def _check_idle(self, *, bint to_write=False):
        """The same, also inside a function that computes a page; with `to_write` when nothing can be changed, too."""
        self.leave(self.enter(CLOSED | FORKED | (UNWRITABLE if to_write else WAVE)))

    @property
    def closed(self):
        """True after close()."""
        return bool(self.gate & CLOSED)

    @property
    def read_only(self):
        """True when the State was opened for reading only."""
        return bool(self.gate & READONLY)

    # ---- pages by id

    cdef mmsb_page_header *header(self, uint64_t page_id) except NULL:
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.arena, page_id)
        if header == NULL:
            self.fail(MMSB_PAGE_NOT_FOUND, page_id, 0, 0)
        return header

    cdef mmsb_page_header *header_to_read(self, uint64_t page_id, int *token) except NULL:
        """The header of a page whose bytes are asked for. StalePageError when they are not up to date. `token`: of
        enter()."""
        cdef mmsb_page_header *header = self.header(page_id)
        if header.flags & (MMSB_PAGE_STALE | MMSB_PAGE_FAILED) and not self.reads_stale:
            self._read_stale(page_id)
            if token[0] == 0:  # that let other threads run, and one may be inside
                token[0] = self.enter(CLOSED | FORKED)
            header = self.header(page_id)
        return header

    def _read_stale(self, page_id):
        """A stale page is read: returns when it may be."""

    @property
    def stale_reads(self):
        """Whether stale pages may be read as they are; else reading one raises StalePageError."""
        return bool(self.reads_stale)

    @stale_reads.setter
    def stale_reads(self, bint value):
        self.reads_stale = value

    def page_id_of(self, page):
        """The id of a Page, an id or a name. PageNotFoundError when there is no such live page."""
        return self.id_of(page)

    def _page_ids_of(self, pages):
        """The ids of the pages of an argument that may be one page, several, or None: no page (tuple of int)."""
        if type(pages) is Page:
            return (self.id_of(pages),)
        return tuple([self.id_of(page) for page in several(pages)])

    # No cpdef: State is a class of Python, so that every call would look for an override in dictionaries.
    cdef uint64_t id_of(self, object page) except? 0:
        cdef int token, overflow = 0
        cdef uint64_t page_id
        cdef long long small
        if PyLong_CheckExact(page) and self.gate == 0:
            small = PyLong_AsLongLongAndOverflow(page, &overflow)
            if overflow == 0 and small > 0 and mmsb_arena_header(&self.core.arena, <uint64_t>small) != NULL:
                return <uint64_t>small
        if type(page) is Page:
            if (<Page>page).state is not self:
                raise errors.PageNotFoundError(f"{page!r} belongs to another State.", page=page)
            return (<Page>page).page_id
        if isinstance(page, str):
            if page not in self._names:
                raise errors.PageNotFoundError(
                    f"No page is named {page!r}. Look at state.pages() for the pages there are.", page=page)
            return self._names[page]
        if isinstance(page, bool) or not hasattr(page, "__index__"):
            raise TypeError(f"a page is given by its id, its name or a Page, not by {type(page).__name__}")
        number = page.__index__()
        if number < 1 or number >> 63:
            raise errors.PageNotFoundError(
                f"No page has the id {number}. Look at state.pages() for the pages there are.", page=number)
        page_id = number
        token = self.enter(CLOSED | FORKED)
        try:
            self.header(page_id)
        finally:
            self.leave(token)
        return page_id

    cdef object fail(self, int status, uint64_t page_id, uint64_t at, uint64_t length):
        """Raises the exception of a failed operation on a page, with its facts."""
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.arena, page_id)
        if status == MMSB_PAGE_NOT_FOUND:
            raise errors.PageNotFoundError(
                f"No page has the id {page_id}. Look at state.pages() for the pages there are.", page=page_id)
        if status == MMSB_OUT_OF_BOUNDS and header != NULL:
            raise errors.PageRangeError(
                f"Bytes {at} to {at + length} lie outside page {page_id} of {header.size} bytes. "
                "Write inside the page, or resize it first.",
                page_id=page_id, at=at, length=length, size=header.size)
        if status == MMSB_IO or status == MMSB_POISONED:
            raise errors.CommitInDoubtError(
                "Writing or syncing the log failed" + ("" if status == MMSB_IO else " earlier") +
                f" (errno {self.core.io_errno}): commit {self.core.seq + 1} is in doubt. "
                "Close the State and open the store again; recovery decides.",
                seq=self.core.seq + 1, errno=self.core.io_errno)
        if status == MMSB_DISK_FULL:
            raise self._full(self.core.frame_needs, self.core.io_errno)
        if status == MMSB_ARENA_FULL:
            raise errors.ArenaFullError(
                f"The State's max_bytes ({self.core.arena.max_bytes}) would be exceeded. "
                "Delete pages or open it with a larger max_bytes.",
                max_bytes=self.core.arena.max_bytes, held_bytes=self.core.arena.bytes_held)
        if status == MMSB_PAGE_IS_DERIVED:
            raise errors.DerivedPageError(
                f"Page {page_id} is computed from others. Write to these, or remove its link with state.undepend().",
                page_id=page_id)
        if status == MMSB_BAD_LANES:
            raise errors.MergePageError(
                f"Page {page_id} merges whole lanes, and the bytes are none. Give whole lanes, or use page.assign().",
                page_id=page_id, at=at, length=length, reason="the bytes are no whole lanes")
        if status == MMSB_MERGE_FAILED:
            error = next((e for e in map(take_error, self.merges[1:]) if e is not None), None)
            raise errors.MergePageError(
                f"The semiring of page {page_id} failed ({type(error).__name__}: {error}). Nothing changed; mend it.",
                page_id=page_id, reason="its semiring failed") from error
        raise_status(status)

    # ---- merge pages

    def _merges(self, page_id):
        """Whether a page is a merge page."""
        return self.header(page_id).kind == MMSB_PAGE_KIND_MERGE

    cdef uint8_t merge_place(self, Semiring semiring) except 0:
        """The place of a semiring in core.merges."""
        cdef Py_ssize_t place
        for place in range(1, len(self.merges)):
            if self.merges[place] is semiring:
                return <uint8_t>place
        place = len(self.merges)
        if place > 255:
            raise errors.SemiringError("The merge pages of a State use at most 255 semirings. Use fewer.")
        self.merges.append(semiring)
        self.core.merges[place] = semiring.row
        self.merges_call |= calls_python(semiring)
        return <uint8_t>place

    def _set_merge(self, page_id, Semiring semiring not None):
        """Says by what a merge page merges."""
        cdef uint8_t place = self.merge_place(semiring)
        self.header(page_id).merge = place

    cdef Semiring merge_of(self, uint64_t page_id):
        """The semiring of a merge page, None for any other live page. PluginError when it is not there."""
        cdef mmsb_page_header *header = self.header(page_id)
        if header.kind != MMSB_PAGE_KIND_MERGE:
            return None
        if header.merge == 0:
            self._learn_merge(page_id)
            header = self.header(page_id)
        return self.merges[header.merge]

    # ---- commits

    cdef uint32_t known_source(self, object source) except? 0:
        """The number of a source that a commit has taken, else 0. One that is just being tried may yet go again."""
        cdef object index = self.source_indices.get(source)
        return index if index is not None and index < self.sources else 0

    cdef int set_source(self, mmsb_commit_info *info, object source) except -1:
        """Fills in the source. A new one is only checked: what no commit takes would be kept for nothing, and clients
        could go on sending such commits for ever."""
        cdef uint32_t index
        if source is not self.last_source:
            index = self.known_source(source)
            if index == 0:
                encode_source(source)
                info.source = NEW_SOURCE
                return 0
            self.last_source = source
            self.last_source_index = index
        put_source(info, self.last_source_index, <bytes>self.source_names[self.last_source_index])
        return 0

    cdef int take_source(self, mmsb_commit_info *info, object source) except -1:
        """Gives a new source its number, for one try of a commit. Keep others out until settle_source(): the next new
        one gets the same number if this one goes again."""
        cdef uint32_t index = self.known_source(source)  # another commit may have taken it meanwhile
        if index == 0:
            encoded = encode_source(source)
            index = self.sources
            self.source_names.append(encoded)
            try:
                self.source_indices[source] = index
            except BaseException:
                self.source_names.pop()
                raise
        put_source(info, index, <bytes>self.source_names[index])
        return 0

    cdef void settle_source(self, mmsb_commit_info *info):
        """After a try: what take_source() added stays if the log has it."""
        cdef uint32_t *ids = <uint32_t *>self.core.source_ids.data
        if info.source != self.sources:
            return
        if info.source < self.core.source_ids.size // sizeof(uint32_t) and ids[info.source] != 0:
            self.sources += 1
        else:
            del self.source_indices[self.source_names.pop().decode()]
            info.source = NEW_SOURCE

    cdef int prepare_info(self, mmsb_commit_info *info, object source, bytes label, bytes intent) except -1:
        """Fills *info. It points into `label` and `intent`, which must outlive it."""
        memset(info, 0, sizeof(mmsb_commit_info))
        info.if_epoch = MMSB_ANY_EPOCH
        info.sync = self.sync_commits
        if source is not None:
            self.set_source(info, source)
        if label is not None:
            info.label = <const uint8_t *>PyBytes_AS_STRING(label)
            info.label_bytes = <uint64_t>PyBytes_GET_SIZE(label)
        if intent is not None:
            info.intent = <const uint8_t *>PyBytes_AS_STRING(intent)
            info.intent_bytes = <uint64_t>PyBytes_GET_SIZE(intent)
        if self.clock is not None:
            info.time_ns = ns_of(self.clock)
        return 0

    cdef int begin_commit(self) except -1:
        """Before a commit that takes long or calls Python, in which nobody else comes in and nothing is changed. Raises
        as enter() does: who waits here may come in after close()."""
        self.begin_exclusive()
        if self.gate & (CLOSED | FORKED | UNWRITABLE):
            try:
                self.enter_slowly(CLOSED | FORKED | UNWRITABLE)
            finally:
                self.end_exclusive()
        self.gate |= WAVE
        return 0

    cdef void end_commit(self):
        self.gate &= ~WAVE
        self.end_exclusive()

    cdef inline int after_commit(self) except -1:
        if self.core.touched.size != 0 and self.engine is not None:
            self.touched_hook(<void *>self.engine)
        if self.tells:
            self.tell()
        return 0

    cdef int tell(self) except -1:
        if self.tells & WAKE:
            self.tells &= ~WAKE
            self._wake()
        if self.tells & LISTENING:
            self._tell()
        return 0

    @property
    def _listening(self):
        """Whether _tell() is called after each commit."""
        return bool(self.tells & LISTENING)

    @_listening.setter
    def _listening(self, bint value):
        self.tells = self.tells | LISTENING if value else self.tells & ~LISTENING

    def _tell(self):
        """A commit or a wave is visible, and somebody listens."""

    def _marked(self, page_ids):
        """Pages became stale without a wave, and somebody listens."""

    @property
    def _applied_seq(self):
        """Number of the newest commit that is in the pages."""
        return (<mmsb_shared *>self.shared_memory.base).seq

    @property
    def _inside(self):
        """Whether this thread keeps the others out."""
        return bool(self.gate & BUSY) and self.owner == PyThread_get_thread_ident()

    cdef Delta write(self, uint64_t page_id, uint64_t offset, const uint8_t *data, uint64_t length,
                     mmsb_commit_info *info, object source, bytes intent):
        """One write, one commit. The Delta, or None when no byte changed."""
        cdef mmsb_written written
        cdef Delta delta
        cdef int token, status
        while True:
            token = self.enter(CLOSED | FORKED | UNWRITABLE)
            if (length < RELEASE_GIL_BYTES and not info.sync and not self.merges_call
                    and info.source != NEW_SOURCE):
                status = mmsb_core_write(&self.core, page_id, offset, data, length, info, &written)
                if status > 0:
                    delta = new_delta(page_id, written.code, written.payload, written.payload_bytes)
                self.leave(token)
            else:
                self.leave(token)
                self.begin_commit()
                try:
                    if info.source == NEW_SOURCE:
                        self.take_source(info, source)
                    with nogil:
                        status = mmsb_core_write(&self.core, page_id, offset, data, length, info, &written)
                    if status > 0:
                        delta = new_delta(page_id, written.code, written.payload, written.payload_bytes)
                finally:
                    self.settle_source(info)
                    self.end_commit()
            if status == MMSB_NO_SPACE:
                self._make_room()
            elif status == MMSB_NO_SEMIRING:
                self._learn_merge(page_id)
            else:
                break
        if status == 0:
            return None
        if status < 0:
            self.fail(status, page_id, offset, length)
        delta.seq = written.seq
        delta._epoch = written.epoch
        delta.timestamp_ns = written.time_ns
        delta.source = source
        delta._intent = intent
        self.after_commit()
        return delta

    def _make_room(self):
        """After a frame did not fit the active segment: gets a new one from _roll()."""
        self.begin_exclusive()
        cdef bint rolls = False
        try:
            if self.core.active.capacity - self.core.active.tail < self.core.frame_needs:
                if self.rolling:
                    raise errors.StoreFullError(
                        "The next segment of the log is being made, and a signal handler or finalizer that came in "
                        "between cannot commit. Do it when that has returned; nothing was changed.",
                        path=self.path, needed_bytes=self.core.frame_needs, errno=EAGAIN)
                self.rolling = rolls = True
                self._roll(self.core.frame_needs)
        finally:
            if rolls:
                self.rolling = False
            self.end_exclusive()

    # ---- the log, for the store

    def _use_segment(self, number, fd, address, capacity, tail, base_seq, base_time_ns, bytes salt, last_crc):
        """Appends from now on to this segment, at `tail`. `address`: of its mapping, 0 to append with pwrite;
        `fd` -1 for a segment in memory."""
        cdef mmsb_active active
        active.map = <uint8_t *><size_t>address
        active.fd = fd
        active.number = number
        active.capacity = capacity
        active.tail = tail
        active.ready = 0
        active.base_seq = base_seq
        active.base_time_ns = base_time_ns
        mmsb_core_use_segment(&self.core, &active, <const uint8_t *>PyBytes_AS_STRING(salt), last_crc)

    @property
    def _active_tail(self):
        return MMSB_PEEK(self.core.active.tail)

    def _replay(self, Cursor cursor not None, seq_until=None):
        """Applies the frames from `cursor` on. Returns when the cursor stops or `seq_until` was applied.

        Raises CorruptLogError (offset, seq) when an intact frame does not fit the pages.
        """
        cdef uint64_t until = NONE_SEQ if seq_until is None else seq_until
        cdef Frame frame
        cdef int status
        while True:
            frame = Frame.__new__(Frame)
            with nogil:
                status = mmsb_core_replay(&self.core, &cursor.cursor, until, &frame.frame)
            if status != MMSB_OK:
                break
            frame.buffer = cursor.buffer
            frame.sources = cursor.sources
            frame.state = cursor.state
            if frame.frame.head.kind == MMSB_FRAME_ANCHOR:
                self._anchored(frame)
            else:
                for change in frame.descriptions():
                    self._describe_change(change)
        if status == MMSB_END and self.core.seq >= until:
            cursor.stopped = None
            return
        if status == MMSB_END or (MMSB_GAP <= status <= MMSB_BAD_FRAME):
            cursor.note_stop(status)
            return
        if status in (MMSB_NO_MEMORY, MMSB_ARENA_FULL):
            self.fail(status, 0, 0, 0)
        raise errors.CorruptLogError(
            f"Commit {self.core.seq + 1} at offset {cursor.offset} of its segment does not fit the pages "
            f"({mmsb_status_text(status).decode()}). Run `mmsb verify` on the store.",
            path=None, offset=cursor.offset, seq=self.core.seq + 1, reason=mmsb_status_text(status).decode())

    def _describe_change(self, change):
        """Takes what a change of a replayed frame says beside bytes into the dictionaries."""
        kind = change.kind
        if kind in ("create", "rename"):
            old = self._name_of.pop(change.page_id, None)
            if old is not None:
                del self._names[old]
            if change.text:
                if change.text in self._names:
                    raise errors.CorruptLogError(
                        f"Two pages are named {change.text!r}. Run `mmsb verify` on the store.", path=None,
                        offset=None, seq=self.core.seq, reason="duplicate name")
                self._names[change.text] = change.page_id
                self._name_of[change.page_id] = change.text
        if kind in ("create", "metadata") and change.blob is not None:
            self._metadata[change.page_id] = change.blob
        elif kind == "delete":
            self._forget_page(change.page_id)
        elif kind in ("link", "unlink", "wave"):
            self._links.describe(change, self.core.seq)

    def _is_stale(self, uint64_t page_id):
        """Whether a page is not up to date. One that is gone is not."""
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.arena, page_id)
        return header != NULL and bool(header.flags & (MMSB_PAGE_STALE | MMSB_PAGE_FAILED))

    def _has_failed(self, uint64_t page_id):
        """Whether a page must be computed whatever its parents do."""
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.arena, page_id)
        return header != NULL and bool(header.flags & MMSB_PAGE_FAILED)

    def _touched_pages(self, uint64_t start=0):
        """(number of notes about changes since the last wave, ids of the pages in those from number `start` on).

        Some pages may be there more than once. Where not every change was noted, all pages are given.
        """
        cdef mmsb_touched *touched = <mmsb_touched *>self.core.touched.data
        cdef uint64_t count = self.core.touched.size // sizeof(mmsb_touched)
        cdef uint64_t i
        return count, [touched[i].page_id for i in range(0 if self.core.touched_whole else start, count)]

    def _forget_touched_page(self, uint64_t page_id):
        """No wave needs to know any more that a page changed."""
        cdef mmsb_touched *touched = <mmsb_touched *>self.core.touched.data
        cdef mmsb_page_header *header = mmsb_arena_header(&self.core.arena, page_id)
        cdef uint64_t i
        if header == NULL or not header.flags & MMSB_PAGE_TOUCHED:
            return
        header.flags &= ~MMSB_PAGE_TOUCHED
        for i in range(self.core.touched.size // sizeof(mmsb_touched)):
            if touched[i].page_id == page_id:
                touched[i].page_id = 0

    def _forget_touched(self):
        mmsb_core_forget_touched(&self.core)

    def _forget_page(self, page_id):
        name = self._name_of.pop(page_id, None)
        if name is not None:
            del self._names[name]
        self._metadata.pop(page_id, None)

    def _anchored(self, frame):
        """Called for every anchor that a replay passes."""

    def _wake(self):
        """Called after the first commit since _wake_me()."""

    def _wake_me(self):
        """Asks for one call of _wake() after the next commit."""
        self.tells |= WAKE

    def _define_source(self, name, local_id):
        """The active segment defines source `name` as `local_id` already."""
        cdef object index = self.source_indices.get(name)
        if index is None:
            index = self.source_indices[name] = len(self.source_names)
            self.source_names.append(name.encode("utf-8", "surrogateescape"))
            self.sources += 1
        if mmsb_core_define_source(&self.core, index, local_id) != MMSB_OK:
            raise MemoryError()

    def _segment_sources(self):
        """{local id: name} of the sources that the active segment defines so far."""
        cdef dict result = {}
        cdef uint32_t *ids = <uint32_t *>self.core.source_ids.data
        cdef uint64_t i
        for i in range(1, self.core.source_ids.size // sizeof(uint32_t)):
            if ids[i] != 0:
                result[ids[i]] = self.source_names[i].decode("utf-8", "surrogateescape")
        return result

    def _append_anchor(self, bytes anchor, bint sync):
        """Appends an anchor frame (32 bytes). Call it inside _exclusive()."""
        cdef int status
        cdef const uint8_t *anchor_bytes = <const uint8_t *>PyBytes_AS_STRING(anchor)
        if len(anchor) != MMSB_ANCHOR_BYTES:
            raise ValueError("an anchor has 32 bytes")
        while True:
            with nogil:
                status = mmsb_core_anchor(&self.core, anchor_bytes, sync)
            if status != MMSB_NO_SPACE:
                break
            self._make_room()
        if status < 0:
            self.fail(status, 0, 0, 0)

    def _poison(self, int errno):
        """Accepts no further commit: a write or sync failed."""
        if not MMSB_PEEK(self.core.poisoned):
            MMSB_POKE(self.core.poisoned, True)
            MMSB_POKE(self.core.io_errno, errno)

    def _load_page(self, page_id, size, epoch, kind, content=None, described=False):
        """Makes a page without a commit (checkpoint loading). `content`: buffer of at most `size` bytes, or None."""
        cdef Py_buffer buffer
        cdef int status
        cdef int flags = MMSB_PAGE_DESCRIBED if described else 0
        if content is None:
            status = mmsb_core_load_page(&self.core, page_id, size, epoch, kind, flags, NULL, 0)
        else:
            PyObject_GetBuffer(content, &buffer, PyBUF_SIMPLE)
            try:
                status = mmsb_core_load_page(&self.core, page_id, size, epoch, kind, flags,
                                             <const uint8_t *>buffer.buf, <uint64_t>buffer.len)
            finally:
                PyBuffer_Release(&buffer)
        if status != MMSB_OK:
            self.fail(status, page_id, 0, 0)

    def _load_description(self, page_id, name, blob):
        """Sets name (str or None) and encoded metadata (bytes or None) of a loaded page."""
        if name is not None:
            self._names[name] = page_id
            self._name_of[page_id] = name
        if blob is not None:
            self._metadata[page_id] = blob
        self.header(page_id).flags |= MMSB_PAGE_DESCRIBED

    def _set_position(self, seq, time_ns, branch, next_page_id, last_crc=0):
        """Says where in history the loaded pages stand. An id below next_page_id without a page was deleted, or a batch
        took it that may still be committed.
        """
        cdef uint64_t end = next_page_id
        cdef int status = mmsb_arena_ensure_ids(&self.core.arena, end - 1) if end > 1 else MMSB_OK
        if status != MMSB_OK:
            self.fail(status, end - 1, 0, 0)
        self.core.seq = seq
        self.core.time_ns = time_ns
        self.core.branch = branch
        self.core.next_page_id = end
        self.core.last_crc = last_crc
        (<mmsb_shared *>self.shared_memory.base).seq = seq

    def _page_ids(self):
        """Ids of the live pages, ascending (list of int)."""
        cdef uint64_t end = self.core.next_page_id
        cdef uint64_t page_id = mmsb_arena_next_page(&self.core.arena, 1, end)
        cdef list ids = []
        while page_id < end:
            ids.append(page_id)
            page_id = mmsb_arena_next_page(&self.core.arena, page_id + 1, end)
        return ids

    def _page_info(self, uint64_t page_id):
        """(size, epoch, kind) of a live page, or PageNotFoundError."""
        cdef mmsb_page_header *header = self.header(page_id)
        return header.size, header.epoch, header.kind

    def _page_size(self, uint64_t page_id):
        """Bytes of a live page, or PageNotFoundError."""
        return self.header(page_id).size

    def _page_copy(self, uint64_t page_id):
        """A copy of a page's bytes."""
        cdef mmsb_page_header *header
        cdef int token = self.enter(CLOSED | FORKED)
        try:
            header = self.header(page_id)
            return PyBytes_FromStringAndSize(
                <const char *>mmsb_arena_bytes(&self.core.arena, header.handle), <Py_ssize_t>header.size)
        finally:
            self.leave(token)

    def _has_page(self, page_id):
        return page_id > 0 and mmsb_arena_header(&self.core.arena, page_id) != NULL

    def _page_bytes(self, page_id):
        """Read-only live memoryview of a page's bytes; what it shows may change under its holder."""
        return memoryview(self._slot(page_id))

    def _slot(self, page_id):
        """The Slot that shows the page's bytes: one per page and generation of its buffer."""
        cdef mmsb_page_header *header
        cdef Slot slot
        cdef int token = self.enter(CLOSED | FORKED)
        try:
            header = self.header(page_id)
            address = self._slots.get(page_id)
            slot = None if address is None else <Slot><PyObject *><size_t>address
            if slot is None or slot.handle != header.handle:
                slot = Slot.__new__(Slot)
                slot.state = self
                slot.page_id = page_id
                slot.handle = header.handle
                slot.size = header.size
                slot.address = mmsb_arena_bytes(&self.core.arena, header.handle)
                self._slots[page_id] = <size_t><PyObject *>slot
            return slot
        finally:
            self.leave(token)

    def _check(self):
        """Checks the arena's invariants: None, or a sentence naming the broken one."""
        cdef const char *why = NULL
        return None if mmsb_arena_check(&self.core.arena, &why) == MMSB_OK else (why or b"no memory").decode()

    # ---- facts

    @property
    def seq(self):
        """Number of the newest commit; 0 before the first."""
        return MMSB_PEEK(self.core.seq)

    @property
    def time_ns(self):
        """Timestamp of the newest commit, ns since 1970."""
        return MMSB_PEEK(self.core.time_ns)

    @property
    def branch(self):
        """Branch id that new commits carry."""
        return self.core.branch

    @property
    def durable_seq(self):
        """Highest seq known to survive a power cut."""
        return MMSB_PEEK((<mmsb_shared *>self.shared_memory.base).durable_seq)

    @durable_seq.setter
    def durable_seq(self, uint64_t seq):
        if seq > (<mmsb_shared *>self.shared_memory.base).durable_seq:
            (<mmsb_shared *>self.shared_memory.base).durable_seq = seq

    @property
    def last_crc(self):
        """CRC of the newest frame."""
        return MMSB_PEEK(self.core.last_crc)

    @property
    def next_page_id(self):
        """Id that the next page gets."""
        return MMSB_PEEK(self.core.next_page_id)

    @property
    def page_count(self):
        """Number of live pages."""
        return MMSB_PEEK(self.core.page_count)

    @property
    def poisoned(self):
        """True once a write or sync failed; the State must be closed."""
        return bool(MMSB_PEEK(self.core.poisoned))

    @property
    def _sync_commits(self):
        return bool(self.sync_commits)

    @_sync_commits.setter
    def _sync_commits(self, bint value):
        self.sync_commits = value

    def _arena_stats(self):
        """Page memory: bytes asked, held, mapped, resident; allocations, frees, segments; fragmentation (0 to 1)."""
        cdef mmsb_arena_stats stats
        cdef int token = self.enter(0)  # a commit may be moving the table of segments
        mmsb_arena_get_stats(&self.core.arena, &stats)
        self.leave(token)
        return {
            "bytes_asked": stats.bytes_asked,
            "bytes_held": stats.bytes_held,
            "bytes_mapped": stats.bytes_mapped,
            "bytes_resident": stats.bytes_resident,
            "fragmentation": stats.fragmentation,
            "allocations": stats.allocations,
            "frees": stats.frees,
            "segments": stats.segments,
        }

    def _commit_stats(self):
        """Commits, deltas and encoded delta bytes since the State was opened (replayed ones included)."""
        return {
            "commits": MMSB_PEEK(self.core.commits),
            "deltas": MMSB_PEEK(self.core.deltas),
            "delta_bytes": MMSB_PEEK(self.core.delta_bytes),
        }

    def update_page(self, page, data, source=None):
        """Makes the whole content of a page equal to `data` (bytes-like, exactly the page's size).

        Returns the Delta of the bytes that differ, or None when none does.
        """
        cdef uint64_t page_id = self.id_of(page)
        cdef uint64_t page_bytes = self.header(page_id).size
        cdef mmsb_commit_info info
        cdef Py_buffer buffer
        self.prepare_info(&info, source, None, None)
        if type(data) is bytes and <uint64_t>PyBytes_GET_SIZE(data) == page_bytes:
            return self.write(page_id, 0, <const uint8_t *>PyBytes_AS_STRING(data), page_bytes, &info, source, None)
        info.moving = True
        check_lanes(data, self.merge_of(page_id), page_id)
        data = as_bytes_like(data)
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if <uint64_t>buffer.len != page_bytes:
                raise errors.InvalidDeltaError(
                    f"Page {page_id} has {page_bytes} bytes and the data {buffer.len}. "
                    "Give the whole page, or use page.write(data, at=).", page_id=page_id)
            return self.write(page_id, 0, <const uint8_t *>buffer.buf, page_bytes, &info, source, None)
        finally:
            PyBuffer_Release(&buffer)
