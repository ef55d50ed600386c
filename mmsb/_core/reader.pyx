"""Reader: consistent reads of the pages of another process. csrc/reader.h says how."""

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_CheckExact
from cpython.pythread cimport (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    WAIT_LOCK,
)
from libc.string cimport memcmp, memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.c_share cimport *
from mmsb._core.errors cimport no_pointers, raise_status
from mmsb._core.files cimport Memory
from mmsb._core.log cimport Cursor, Frame
from mmsb._core.sharing cimport Region

from mmsb import errors

HEADERS, PAGES, LOG = MMSB_REGION_HEADERS, MMSB_REGION_PAGES, MMSB_REGION_LOG
STALE = MMSB_PAGE_STALE | MMSB_PAGE_FAILED

# From this many bytes on a read lets other threads run meanwhile.
cdef uint64_t RELEASE_GIL_BYTES = 1 << 17
cdef uint32_t FEATURES = mmsb_cpu_detect()
# How often the memory may change under one read before it is given up. Each time something was sent or rolled.
cdef int ATTEMPTS = 64

cdef enum:
    CLOSED = 1
    FORKED = 2
    REFUSED = 3  # CLOSED | FORKED
    BUSY = 4  # a thread reads without the GIL; the others wait for the mutex


cdef class Reader:
    """The memory of an owner as a client sees it. `take()` is called when messages of the owner wait.

    Safe to use from several threads.
    """

    def __cinit__(self, *args, **kwargs):
        self.mutex = PyThread_allocate_lock()
        if self.mutex == NULL:
            raise MemoryError()

    def __init__(self, Region shared not None, Memory words not None, uint32_t place, uint64_t number, bytes salt,
                 take):
        if shared.bytes < MMSB_SHARED_BYTES or words.memory.bytes < MMSB_WORDS_BYTES or place >= MMSB_CLIENTS_MAX:
            raise ValueError("what was handed over is too small")
        if len(salt) != 16:
            raise ValueError("a salt has 16 bytes")
        cdef uint32_t features = FEATURES
        mmsb_cpu_disable(&features, mmsb_cpu_environment(), NULL)
        mmsb_reader_init(&self.reader, features, &mmsb_alloc_libc, <const uint8_t *>PyBytes_AS_STRING(salt))
        self.reader.shared = <const mmsb_shared *>shared.base
        self.reader.words = <mmsb_words *>words.memory.base
        self.reader.place = place
        self.reader.number = number
        self.shared = shared
        self.words = words
        self.regions = {}
        self.take = take
        self.ready = True

    def __dealloc__(self):
        if self.ready:
            mmsb_reader_release(&self.reader)
        if self.mutex != NULL:
            PyThread_free_lock(self.mutex)

    # ---- coming in and going out

    cdef int enter(self) except -1:
        if self.gate & REFUSED:
            self.refuse()
        if not PyThread_acquire_lock(self.mutex, 0):
            with nogil:
                PyThread_acquire_lock(self.mutex, WAIT_LOCK)
            if self.gate & REFUSED:
                PyThread_release_lock(self.mutex)
                self.refuse()
        return 0

    cdef void leave(self):
        PyThread_release_lock(self.mutex)

    def refuse(self):
        """Raises what the gate is shut for."""
        if self.gate & FORKED:
            raise errors.ForkedStateError(
                "This view was attached before fork() and belongs to the parent process. Attach anew in the child.",
                owner_pid=None)
        if self.gate & CLOSED:
            raise errors.StateClosedError("The view is closed. Attach again.")

    def close(self, *, bint forked=False):
        """Refuses every operation from now on. What is mapped goes with the last views on it."""
        self.gate |= FORKED if forked else CLOSED
        if forked:
            return  # a thread that does not exist here may hold the lock, and the words are the parent's
        if not PyThread_acquire_lock(self.mutex, 0):
            with nogil:
                PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.regions.clear()
        PyThread_release_lock(self.mutex)
        with nogil:
            mmsb_reader_end_waits(&self.reader)

    @property
    def closed(self):
        """True after close()."""
        return bool(self.gate & REFUSED)

    # ---- what is mapped

    def set(self, uint32_t kind, uint32_t number, Region region):
        """A piece of memory came, or went (None). ValueError for one that cannot be."""
        cdef int status
        cdef const uint8_t *base = NULL if region is None else region.base
        cdef uint64_t size = 0 if region is None else region.bytes
        self.enter()
        try:
            if kind == MMSB_REGION_LOG:
                status = mmsb_reader_set_log(&self.reader, number, base, size)
            else:
                status = mmsb_reader_set(&self.reader, kind, number, base, size)
            if status == MMSB_NO_MEMORY:
                raise MemoryError()
            if status != MMSB_OK:
                raise ValueError(f"memory {kind}/{number} of {size} bytes: {mmsb_status_text(status).decode()}")
            if region is None:
                self.regions.pop((kind, number), None)
            else:
                self.regions[kind, number] = region
        finally:
            self.leave()

    def region(self, kind, number):
        """The Region of a piece of memory, None when it is not there."""
        return self.regions.get((kind, number))

    @property
    def grown(self):
        """Messages about memory taken so far."""
        return self.reader.grown

    @grown.setter
    def grown(self, uint64_t value):
        self.reader.grown = value

    @property
    def behind(self):
        """Whether messages wait."""
        return self.reader.shared.grown > self.reader.grown

    @property
    def gone(self):
        """Whether the owner is gone: nothing will change any more."""
        return bool(self.reader.gone)

    def owner_went(self):
        """Nothing will come any more; wakes who waits."""
        if not PyThread_acquire_lock(self.mutex, 0):
            with nogil:
                PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        mmsb_reader_owner_went(&self.reader)
        PyThread_release_lock(self.mutex)
        with nogil:
            mmsb_reader_end_waits(&self.reader)

    @property
    def dropped(self):
        """Whether the owner has dropped this client."""
        return self.reader.shared.admitted[self.reader.place] != self.reader.number

    @property
    def never_redo(self):
        """For a test that shows what reads would be without the second half."""
        return bool(self.reader.never_redo)

    @never_redo.setter
    def never_redo(self, bint value):
        self.reader.never_redo = value

    # ---- moments

    @property
    def described_seq(self):
        """The last commit that changed names or metadata."""
        return MMSB_PEEK(self.reader.shared.described_seq)

    @property
    def durable_seq(self):
        """Highest seq known to survive a power cut."""
        return MMSB_PEEK(self.reader.shared.durable_seq)

    @property
    def seq(self):
        """The newest commit that is in the pages; of an owner that is gone, the newest one it published."""
        if self.reader.gone:
            return self.moment()[0]
        self.enter()  # for its refusals
        self.leave()
        return self.reader.shared.seq

    def end(self):
        """(segment, offset) in the log up to where commits may be followed."""
        cdef uint64_t position = mmsb_reader_end(&self.reader)
        return position >> 40, position & ((<uint64_t>1 << 40) - 1)

    def published(self):
        """(segment, offset) in the log up to where frames are published. Every commit whose seq was seen is there."""
        cdef uint64_t position = mmsb_reader_published(&self.reader)
        return position >> 40, position & ((<uint64_t>1 << 40) - 1)

    def moment(self):
        """(seq, position) of the newest commit that is published."""
        cdef mmsb_moment moment
        self.read(NULL, 0, &moment, False)
        return moment.seq, moment.position

    def place(self):
        """The Place up to where commits may be followed now."""
        cdef Place place = Place.__new__(Place)
        place.reader = self
        place.position = mmsb_reader_end(&self.reader)
        return place

    def saw(self, uint64_t seq):
        """This client has come to commit `seq` in the log, which the owner's people may want to know."""
        if seq > self.reader.words.seen_seq and not self.gate & REFUSED:
            self.reader.words.seen_seq = seq

    def next_commit(self, Cursor cursor not None, uint64_t seq):
        """The Frame of the next commit after `seq` that may be followed, read by a cursor in a segment of this log; and
        as saw(seq). None when there is none yet, and False where something else is to be done before it can be read:
        messages wait, the owner is gone, it is in another segment.
        """
        cdef uint64_t position, offset
        cdef Frame frame
        if self.gate & REFUSED or self.reader.gone or self.reader.shared.grown > self.reader.grown:
            return False
        position = mmsb_reader_end(&self.reader)
        if position >> 40 != cursor.head.head.number:
            return False
        if seq > self.reader.words.seen_seq:
            self.reader.words.seen_seq = seq
        offset = position & ((<uint64_t>1 << 40) - 1)
        cursor.limit(offset)
        frame = cursor.commit_after(seq)
        return False if frame is None and cursor.cursor.offset < offset else frame

    def ring(self):
        """Wakes every thread that sleeps in wait(), here and in other clients. One that is about to sleep misses it."""
        mmsb_bell_ring(&self.reader.shared.bell)

    # ---- reading

    cdef int failed(self, int status) except -1:
        if self.gate & REFUSED:
            self.refuse()  # another thread closed it meanwhile, and that is why
        if status == MMSB_DROPPED:
            raise errors.ClientDroppedError(
                "The owner dropped this client, which was too slow for it. Attach again with view.reattach().")
        if status == MMSB_NO_MEMORY:
            raise MemoryError()
        raise_status(status, "The memory that the owner shares is damaged")

    cdef int read(self, mmsb_read *reads, uint64_t count, mmsb_moment *moment, bint long_) except -1:
        """Reads, taking messages that come in between."""
        cdef int status = MMSB_OK
        for _attempt in range(ATTEMPTS):
            self.enter()
            if long_:
                self.gate |= BUSY
                with nogil:
                    status = mmsb_reader_read(&self.reader, reads, count, moment)
                self.gate &= ~BUSY
            else:
                status = mmsb_reader_read(&self.reader, reads, count, moment)
            self.leave()
            if status == MMSB_OK:
                return 0
            if status == MMSB_GROWN or status == MMSB_BEHIND:
                self.take()
            else:
                self.failed(status)
        raise errors.BusyError(
            "The owner's memory changed again and again while it was read. Try again, or read the past with view.at().")

    cdef object one(self, mmsb_read *read, bint needs_page):
        """After the read of one page: raises when there is no such page."""
        if read.status == MMSB_PAGE_NOT_FOUND and needs_page:
            raise errors.PageNotFoundError(
                f"No page has the id {read.page_id}. Look at view.pages() for the pages there are.", page=read.page_id)

    def facts(self, uint64_t page_id):
        """(size, epoch or None where a commit is being applied, flags, seq). PageNotFoundError."""
        cdef mmsb_read read
        cdef mmsb_moment moment
        memset(&read, 0, sizeof(read))
        read.page_id = page_id
        self.read(&read, 1, &moment, False)
        self.one(&read, True)
        return read.size, read.epoch if read.epoch_known else None, read.flags, moment.seq

    def has(self, uint64_t page_id):
        """Whether there is such a page."""
        cdef mmsb_read read
        cdef mmsb_moment moment
        memset(&read, 0, sizeof(read))
        read.page_id = page_id
        self.read(&read, 1, &moment, False)
        return read.status == MMSB_OK

    def bytes(self, uint64_t page_id, uint64_t first, length):
        """(bytes from `first` on, size of the page, flags). `length` None: to the page's end; cut there."""
        cdef mmsb_read read
        cdef mmsb_moment moment
        cdef bytes data
        cdef uint64_t size
        memset(&read, 0, sizeof(read))
        read.page_id = page_id
        read.first = first
        read.length = MMSB_READ_TO_END if length is None else length
        # Mostly the page is as large as it is now, and the bytes can go where they are to stay.
        size = mmsb_reader_guess(&self.reader, page_id)
        read.room = 0 if first >= size else min(size - first, read.length)
        if read.room <= <uint64_t>1 << 40:
            data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>read.room)
            read.to = <uint8_t *>PyBytes_AS_STRING(data)
            self.read(&read, 1, &moment, read.room >= RELEASE_GIL_BYTES)
            self.one(&read, True)
            if read.status == MMSB_OK:
                return data if read.count == read.room else data[:read.count], read.size, read.flags
        read.to = NULL
        read.room = 0
        read.owned = True
        try:
            self.read(&read, 1, &moment, True)
            self.one(&read, True)
            return (PyBytes_FromStringAndSize(<const char *>read.to, <Py_ssize_t>read.count), read.size, read.flags)
        finally:
            mmsb_alloc_libc.release(mmsb_alloc_libc.context, read.to)

    def into(self, uint64_t page_id, uint64_t first, buffer):
        """Fills a writable buffer from `first` on. (bytes wanted, bytes there were, size of the page, flags)."""
        cdef mmsb_read read
        cdef mmsb_moment moment
        cdef Py_buffer target
        no_pointers(buffer)
        try:
            PyObject_GetBuffer(buffer, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
        except (ValueError, BufferError) as error:
            raise BufferError(f"read_into() fills a writable buffer that is contiguous in memory ({error}). "
                              "Pass a bytearray or a C-contiguous ndarray.") from None
        try:
            memset(&read, 0, sizeof(read))
            read.page_id = page_id
            read.first = first
            read.length = read.room = <uint64_t>target.len
            read.to = <uint8_t *>target.buf
            self.read(&read, 1, &moment, read.room >= RELEASE_GIL_BYTES)
            self.one(&read, True)
            return target.len, read.count, read.size, read.flags
        finally:
            PyBuffer_Release(&target)

    def snapshot(self, page_ids):
        """Copies whole pages at one commit: (seq, {page id: bytes}, {page id: flags}). `page_ids` ascend, each once.

        PageNotFoundError when one of them is not there at that commit.
        """
        cdef uint64_t count = len(page_ids)
        cdef size_t nbytes = max(count, 1) * sizeof(mmsb_read)
        cdef mmsb_read *reads = <mmsb_read *>mmsb_alloc_libc.allocate(mmsb_alloc_libc.context, nbytes)
        cdef mmsb_moment moment
        cdef uint64_t i
        if reads == NULL:
            raise MemoryError()
        memset(reads, 0, nbytes)
        try:
            for i in range(count):
                reads[i].page_id = page_ids[i]
                reads[i].length = MMSB_READ_TO_END
                reads[i].owned = True
            self.read(reads, count, &moment, True)
            for i in range(count):
                self.one(&reads[i], True)
            return (moment.seq,
                    {reads[i].page_id: PyBytes_FromStringAndSize(<const char *>reads[i].to, <Py_ssize_t>reads[i].count)
                     for i in range(count)},
                    {reads[i].page_id: reads[i].flags for i in range(count)})
        finally:
            for i in range(count):
                mmsb_alloc_libc.release(mmsb_alloc_libc.context, reads[i].to)
            mmsb_alloc_libc.release(mmsb_alloc_libc.context, reads)

    def live(self):
        """(seq, ids of the pages there are, ascending, the id that the next page gets)."""
        cdef mmsb_moment moment
        cdef uint64_t room = 1024
        cdef uint64_t end = 0
        cdef int status
        cdef bytearray found
        cdef uint8_t[::1] view
        cdef uint64_t i
        for _attempt in range(ATTEMPTS):
            found = bytearray(room)
            view = found
            self.enter()
            self.gate |= BUSY
            with nogil:
                status = mmsb_reader_live(&self.reader, &view[0], room, &end, &moment)
            self.gate &= ~BUSY
            self.leave()
            if status == MMSB_OK:
                return moment.seq, [i for i in range(1, end) if view[i]], end
            if status == MMSB_BAD_SIZE:
                room = end + end // 4 + 1024
            elif status == MMSB_GROWN or status == MMSB_BEHIND:
                self.take()
            else:
                self.failed(status)
        raise errors.BusyError("Pages came again and again while they were listed. Try again.")

    def slot(self, uint64_t page_id):
        """Live bytes of a page as a Slot. PageNotFoundError."""
        cdef uint64_t segment, offset, handle, size
        cdef const mmsb_page_header *header
        cdef Region region
        cdef LiveSlot slot
        for _attempt in range(ATTEMPTS):
            size, _, _, _ = self.facts(page_id)
            header = self.header(page_id)
            if header == NULL:
                self.take()
                continue
            handle = header.handle
            segment = handle >> 40 & 0xffff
            offset = (handle & ((<uint64_t>1 << 40) - 1)) * 64
            region = self.regions.get((MMSB_REGION_PAGES, segment))
            if region is None or offset > region.bytes or size > region.bytes - offset or header.size != size:
                self.take()
                continue
            slot = LiveSlot.__new__(LiveSlot)
            slot.region = region
            slot.base = region.base + offset
            slot.size = size
            return slot
        raise errors.BusyError("The page changed its place again and again. Try again.")

    cdef const mmsb_page_header *header(self, uint64_t page_id):
        """Where a page's header is; NULL: not mapped."""
        cdef unsigned chunk = 0
        cdef uint64_t before = 0
        while chunk < 25 and page_id - before >= <uint64_t>65536 << chunk:
            before += <uint64_t>65536 << chunk
            chunk += 1
        cdef Region region = self.regions.get((MMSB_REGION_HEADERS, chunk))
        return NULL if region is None else <const mmsb_page_header *>region.base + (page_id - before)


cdef class Place:
    """Up to where commits could be followed, at one moment and with one owner."""

    cdef readonly Reader reader
    cdef uint64_t position

    @property
    def passed(self):
        """Whether there may be more than here, or nothing will come."""
        cdef Reader reader = self.reader
        return bool(reader.reader.gone or reader.gate & REFUSED or mmsb_reader_end(&reader.reader) != self.position)

    def wait(self, double seconds):
        """Returns once there may be more than here; earlier at the end of `seconds`, or for nothing."""
        cdef Reader reader = self.reader
        cdef uint64_t timeout_ns = <uint64_t>(min(seconds, 1e9) * 1e9) if seconds > 0 else 0
        if not reader.gate & REFUSED:  # closed, or left behind when the view got another one
            with nogil:
                mmsb_reader_wait(&reader.reader, self.position, timeout_ns)

    def __eq__(self, other):
        return (type(other) is Place and (<Place>other).reader is self.reader
                and (<Place>other).position == self.position)

    __hash__ = None


cdef class Cell:
    """Holds the Reader that the pages of a view read by. It is another one after reattaching."""


cdef class PageReader:
    """What mmsb.viewpage.ViewPage has in C: reads as one expects them, of a page that is there and long enough.

    Everything else is for read_carefully() and read_into_carefully() of the subclass.
    """

    def __init__(self, state, page_id):
        self.state = state
        self.page_id = page_id
        self.cell = state._cell

    def read(self, at=0, length=None):
        """Copies `length` bytes from `at` on (default: to the end), all as after one commit. PageRangeError."""
        cdef Reader reader = self.cell.reader
        cdef uint64_t size
        cdef bytes data
        if at == 0 and length is None and reader.gate == 0:
            size = mmsb_reader_guess(&reader.reader, self.page_id)
            if 0 < size < RELEASE_GIL_BYTES:
                data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
                if mmsb_reader_copy(&reader.reader, self.page_id, 0, <uint8_t *>PyBytes_AS_STRING(data), size, True):
                    return data
        return self.read_carefully(at, length)

    def read_into(self, buffer, at=0):
        """Fills a writable contiguous buffer from byte `at` on, all as after one commit. Returns the number of bytes.

        PageRangeError when the page ends before the buffer does; then the buffer holds what there was.
        """
        cdef Reader reader = self.cell.reader
        cdef Py_buffer target
        cdef Py_ssize_t count
        cdef bint done
        # Without the mutex: nobody reads without the GIL, which is held here throughout.
        if reader.gate == 0 and PyLong_CheckExact(at) and 0 <= at < 1 << 62 and PyObject_CheckBuffer(buffer):
            no_pointers(buffer)
            try:
                PyObject_GetBuffer(buffer, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
            except (ValueError, BufferError):
                return self.read_into_carefully(buffer, at)
            count = target.len
            done = <uint64_t>count < RELEASE_GIL_BYTES and mmsb_reader_copy(
                &reader.reader, self.page_id, at, <uint8_t *>target.buf, <uint64_t>count, False)
            PyBuffer_Release(&target)
            if done:
                return count
        return self.read_into_carefully(buffer, at)


cdef class LiveSlot:
    """The bytes of a page as they are now, read-only, without a copy. It keeps the memory, not the page."""

    cdef Region region
    cdef uint8_t *base
    cdef uint64_t size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a page's bytes are read-only here; its owner changes it")
        PyBuffer_FillInfo(buffer, self, self.base, <Py_ssize_t>self.size, 1, flags)


def shared_facts(Region shared not None):
    """(layout, pid of the owner) of the page that an owner hands over. ValueError when it is none."""
    cdef const mmsb_shared *page = <const mmsb_shared *>shared.base
    if shared.bytes < MMSB_SHARED_BYTES or memcmp(shared.base, b"MMSBSHR1", 8) != 0:
        raise ValueError("this is not the page that an owner shares")
    return page.layout, page.owner_pid
