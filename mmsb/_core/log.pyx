"""Reading the log: segment headers, verified frames, their changes. Writing headers."""

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy

from mmsb._core.c_mmsb cimport *
from mmsb._core.delta cimport Delta, new_delta

from mmsb import errors

cdef mmsb_kernels KERNELS
cdef uint32_t FEATURES = mmsb_cpu_detect()
mmsb_cpu_disable(&FEATURES, mmsb_cpu_environment(), NULL)
mmsb_kernels_init(&KERNELS, FEATURES)

HEADER_BYTES = MMSB_SEGMENT_HEADER_BYTES
VERSION = MMSB_LOG_VERSION

# What stopped a cursor.
END = "end"
BAD_LENGTH = "bad length"
BAD_CRC = "bad checksum"
BAD_FRAME = "malformed frame"
GAP = "frame out of order"

cdef dict REASONS = {
    MMSB_END: END,
    MMSB_BAD_LENGTH: BAD_LENGTH,
    MMSB_BAD_CRC: BAD_CRC,
    MMSB_BAD_FRAME: BAD_FRAME,
    MMSB_GAP: GAP,
}


def crc32c(data, uint32_t crc=0):
    """CRC32C (Castagnoli) of a buffer, continuing from `crc`."""
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    if view.shape[0] == 0:
        return crc
    return KERNELS.crc32c(crc, &view[0], view.shape[0])


cdef class SegmentHead:
    """The header of a segment, see docs/formats/log.md. Immutable."""

    def __init__(self, *, bytes uuid, bytes salt, base_seq=0, base_time_ns=0, capacity, durable_seq=0, prev_crc=0,
                 number=1, bytes anchor=bytes(32)):
        if len(uuid) != 16 or len(salt) != 16 or len(anchor) != 32:
            raise ValueError("uuid and salt have 16 bytes, an anchor has 32")
        memcpy(self.head.uuid, <const uint8_t *>uuid, 16)
        memcpy(self.head.salt, <const uint8_t *>salt, 16)
        memcpy(self.head.anchor, <const uint8_t *>anchor, 32)
        self.head.base_seq = base_seq
        self.head.base_time_ns = base_time_ns
        self.head.capacity = capacity
        self.head.durable_seq = durable_seq
        self.head.prev_crc = prev_crc
        self.head.number = number

    @staticmethod
    def decode(data):
        """Reads a header. Returns (SegmentHead or None, reason): reason is "" , "damaged" or "newer version N"."""
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef SegmentHead head = SegmentHead.__new__(SegmentHead)
        cdef uint32_t version = 0
        cdef int status = MMSB_BAD_HEADER
        if view.shape[0] > 0:
            status = mmsb_segment_head_get(&KERNELS, &view[0], view.shape[0], &head.head, &version)
        if status == MMSB_OK:
            return head, ""
        return None, f"newer version {version}" if status == MMSB_NEWER_VERSION else "damaged"

    def resized(self, uint64_t capacity):
        """The same header of a segment with so many bytes."""
        cdef SegmentHead head = SegmentHead.__new__(SegmentHead)
        head.head = self.head
        head.head.capacity = capacity
        return head

    def encode(self):
        """The 128 bytes of the header."""
        out = bytearray(MMSB_SEGMENT_HEADER_BYTES)
        cdef uint8_t[::1] view = out
        mmsb_segment_head_put(&KERNELS, &self.head, &view[0])
        return bytes(out)

    @property
    def uuid(self):
        return PyBytes_FromStringAndSize(<const char *>self.head.uuid, 16)

    @property
    def salt(self):
        return PyBytes_FromStringAndSize(<const char *>self.head.salt, 16)

    @property
    def anchor(self):
        return PyBytes_FromStringAndSize(<const char *>self.head.anchor, 32)

    @property
    def base_seq(self):
        return self.head.base_seq

    @property
    def base_time_ns(self):
        return self.head.base_time_ns

    @property
    def capacity(self):
        return self.head.capacity

    @property
    def durable_seq(self):
        return self.head.durable_seq

    @property
    def prev_crc(self):
        return self.head.prev_crc

    @property
    def number(self):
        return self.head.number


cdef class Cursor:
    """Iterates the verified frames of one segment. `buffer` is its bytes from offset 0, header included.

    Iteration ends at the first place where no intact, following frame stands; `stopped` then says why (END, BAD_CRC,
    ...), and `offset`, `seq`, `time_ns`, `last_crc`, `durable_seq` describe the log up to there.
    """

    def __init__(self, buffer, SegmentHead head not None, state=None):
        self.buffer = buffer
        self.view = memoryview(buffer).cast("B")
        self.head = head
        self.state = state
        self.sources = {}
        self.stopped = None
        self.end = self.view.shape[0]
        mmsb_log_cursor_start(&self.cursor, &KERNELS, &head.head, &self.view[0], self.view.shape[0])

    def seek(self, uint64_t offset, uint64_t seq, uint64_t time_ns, uint32_t last_crc, dict sources):
        """Stands before the frame at `offset` (8-aligned), as after reading all frames before it.

        CorruptLogError when no frame can stand there: whoever named the place, or the segment, is damaged.
        """
        if offset & 7 or offset < MMSB_SEGMENT_HEADER_BYTES or offset > self.cursor.available:
            raise errors.CorruptLogError(
                f"A frame is said to stand at offset {offset} of segment {self.head.number}, and none can. "
                "Run `mmsb verify` on the store.",
                path=None, offset=offset, seq=seq + 1, reason="no frame can stand there: the file is cut")
        self.cursor.offset = offset
        self.cursor.seq = seq
        self.cursor.time_ns = time_ns
        self.cursor.last_crc = last_crc
        self.sources = dict(sources)
        self.stopped = None

    cpdef limit(self, uint64_t available):
        """Reads no byte at or after `available` (an offset in the segment); this is where the frames should end."""
        self.end = available
        self.cursor.available = min(available, <uint64_t>self.view.shape[0])

    def __iter__(self):
        return self

    def __next__(self):
        cdef Frame frame = self.next_frame()
        if frame is None:
            raise StopIteration
        return frame

    cpdef Frame commit_after(self, uint64_t seq):
        """The next frame of a commit later than `seq`; None where the iteration ends."""
        cdef Frame frame = self.next_frame()
        while frame is not None and (frame.frame.head.kind != MMSB_FRAME_COMMIT or frame.frame.seq <= seq):
            frame = self.next_frame()
        return frame

    cdef Frame next_frame(self):
        cdef Frame frame = Frame.__new__(Frame)
        cdef int status = mmsb_log_cursor_next(&self.cursor, &KERNELS, &frame.frame)
        if status != MMSB_OK:
            self.stopped = REASONS[status]
            return None
        frame.buffer = self.buffer
        frame.sources = self.sources
        frame.state = self.state
        if frame.frame.head.source != 0 and frame.frame.head.source not in self.sources:
            frame._learn_sources()
        return frame

    cdef void note_stop(self, int status):
        self.stopped = REASONS[status]

    def canonical(self, update):
        """Feeds the canonical content of the commits from here on to `update` (of a hash), up to where they end."""
        cdef uint64_t source = 0
        cdef uint64_t asked
        cdef uint64_t room = 1 << 20
        cdef bytes name = b""
        # Not cleared: mostly a small part of it is written to, and the rest never becomes resident.
        cdef bytearray buffer = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>room)
        cdef uint8_t[::1] out = buffer
        cdef const uint8_t *name_at
        cdef uint64_t name_bytes
        cdef int64_t count
        cdef uint64_t offset
        while True:
            asked = source
            offset = self.cursor.offset
            name_at = <const uint8_t *>PyBytes_AS_STRING(name)
            name_bytes = len(name)
            with nogil:
                count = mmsb_log_canonical(&self.cursor, &KERNELS, &source, name_at, name_bytes, &out[0], room)
            if count:
                update(memoryview(buffer)[:count])
            if source != asked:
                name = self._source_name(source)
            elif self.cursor.offset == offset:
                frame = next(self, None)
                if frame is None:
                    return
                # One commit larger than the room: it is taken again with enough.
                room = frame.nbytes + len(name) + 64
                buffer = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>room)
                out = buffer
                self.cursor.offset = frame.offset
                self.cursor.seq = frame.seq - 1
                self.cursor.last_crc = frame.prev_crc

    def _source_name(self, uint64_t source):
        """Encoded name of a source; it may be defined by the frame that comes next."""
        cdef mmsb_log_cursor before = self.cursor
        if source == 0:
            return b""
        if source not in self.sources:
            next(self)
            self.cursor = before
        # A foreign writer may have left the definition out.
        return self.sources.get(source, "").encode("utf-8", "surrogateescape")

    def stranded(self, uint64_t end):
        """Looks for intact frames between the place where the cursor stopped and the offset `end`. (frames, highest
        seq, highest durable)."""
        cdef uint64_t frames = 0
        cdef uint64_t seq_max = 0
        cdef uint64_t durable
        with nogil:
            durable = mmsb_log_stranded(&self.cursor, &KERNELS, end, &frames, &seq_max)
        return frames, seq_max, durable

    def resume(self):
        """After a stop: stands before the next intact frame, wherever it is, as if it followed. False: there is none.

        The state that its commit was made in is not known then.
        """
        cdef bint found
        with nogil:
            found = mmsb_log_resume(&self.cursor, &KERNELS)
        if found:
            self.stopped = None
        return found

    @property
    def offset(self):
        return self.cursor.offset

    @property
    def seq(self):
        return self.cursor.seq

    @property
    def time_ns(self):
        return self.cursor.time_ns

    @property
    def last_crc(self):
        return self.cursor.last_crc

    @property
    def durable_seq(self):
        return self.cursor.durable_seq


def is_zero(const uint8_t[::1] data):
    """Whether every byte of a buffer is zero."""
    cdef size_t count = <size_t>data.shape[0]
    cdef bint found = count == 0
    if not found:
        with nogil:
            found = data[0] == 0 and memcmp(&data[0], &data[0] + 1, count - 1) == 0
    return found


cdef class Change:
    """One change inside a commit.

    `kind`: 'delta', 'create', 'delete', 'resize', 'rename', 'metadata', 'label', 'intent', 'source', 'link', 'unlink',
    'wave'. `page_id` of the first five (of a create: the first id; of a link: the child); `count`, `size` of a create,
    `size` of a resize; `text`: name, label or source (str); `blob`: encoded metadata, intent, link or wave; `delta`:
    the Delta, for a create its content against zeros.
    """

    cdef readonly str kind
    cdef readonly uint64_t page_id
    cdef readonly uint64_t count
    cdef readonly uint64_t size
    cdef readonly uint64_t page_kind
    cdef readonly str text
    cdef readonly bytes blob
    cdef readonly Delta delta

    def __repr__(self):
        return f"<Change {self.kind} page={self.page_id}>"


cdef bytes text_of(const mmsb_change *change):
    return PyBytes_FromStringAndSize(<const char *>change.text, <Py_ssize_t>change.text_bytes)


cdef Change make_change(const mmsb_change *c):
    cdef Change change = Change.__new__(Change)
    # The parser sets it for those alone that have one.
    change.page_id = 0 if c.kind == MMSB_CHANGE_LABEL or c.kind == MMSB_CHANGE_INTENT else c.page_id
    if c.kind <= MMSB_DELTA_BITMAP:
        change.kind = "delta"
        change.delta = new_delta(c.page_id, c.kind, c.payload, c.payload_bytes)
    elif c.kind == MMSB_CHANGE_CREATE:
        change.kind = "create"
        change.count = c.count
        change.size = c.size
        change.page_kind = c.page_kind
        if c.create_flags & MMSB_CREATE_NAME:
            change.text = text_of(c).decode("utf-8", "surrogateescape")
        if c.create_flags & MMSB_CREATE_METADATA:
            change.blob = PyBytes_FromStringAndSize(<const char *>c.blob, <Py_ssize_t>c.blob_bytes)
        if c.create_flags & MMSB_CREATE_CONTENT:
            change.delta = new_delta(c.page_id, c.content_code, c.payload, c.payload_bytes)
    elif c.kind == MMSB_CHANGE_DELETE:
        change.kind = "delete"
    elif c.kind == MMSB_CHANGE_RESIZE:
        change.kind = "resize"
        change.size = c.size
    elif c.kind == MMSB_CHANGE_METADATA:
        change.kind = "metadata"
        change.blob = text_of(c)
    elif c.kind >= MMSB_CHANGE_LINK and c.kind <= MMSB_CHANGE_WAVE:
        change.kind = {MMSB_CHANGE_LINK: "link", MMSB_CHANGE_UNLINK: "unlink", MMSB_CHANGE_WAVE: "wave"}[c.kind]
        change.blob = text_of(c)
    elif c.kind == MMSB_CHANGE_INTENT:
        change.kind = "intent"
        change.blob = text_of(c)
    else:
        change.kind = {MMSB_CHANGE_RENAME: "rename", MMSB_CHANGE_LABEL: "label",
                       MMSB_CHANGE_SOURCE: "source"}[c.kind]
        change.text = text_of(c).decode("utf-8", "surrogateescape")
    return change


cdef class Frame:
    """One verified frame. Valid as long as it is held (it keeps its segment's bytes alive)."""

    def _learn_sources(self):
        self.descriptions()

    cdef bint next_change(self, const uint8_t **at, mmsb_change *change) except -1:
        """Reads the change at *at and moves on. False after the last one, and for an anchor, which has none."""
        if self.frame.head.kind != MMSB_FRAME_COMMIT:
            return False
        at[0] = mmsb_change_next(at[0], self.frame.end, change)
        if at[0] == NULL:
            raise ValueError(f"malformed change in commit {self.frame.seq}")
        return change.kind != MMSB_CHANGE_END

    cdef list descriptions(self):
        """The changes that are no deltas. The sources that the frame defines are known from then on."""
        cdef list result = []
        cdef mmsb_change c
        cdef const uint8_t *p = self.frame.changes
        cdef Change change
        while self.next_change(&p, &c):
            if c.kind <= MMSB_DELTA_BITMAP:
                continue
            change = make_change(&c)
            if c.kind == MMSB_CHANGE_SOURCE:
                self.sources[change.page_id] = change.text
            result.append(change)
        return result

    @property
    def kind(self):
        """'commit' or 'anchor'."""
        return "commit" if self.frame.head.kind == MMSB_FRAME_COMMIT else "anchor"

    @property
    def seq(self):
        return self.frame.seq

    @property
    def time_ns(self):
        return self.frame.time_ns

    @property
    def branch(self):
        return self.frame.head.branch

    @property
    def prev_crc(self):
        return self.frame.head.prev_crc

    @property
    def durable_seq(self):
        """What was known durable when the frame was written."""
        return self.frame.seq - self.frame.head.durable_lag

    @property
    def source(self):
        """Name of the source (str) or None."""
        return self.sources.get(self.frame.head.source)

    @property
    def source_id(self):
        """The id of the source in its segment, 0 for none."""
        return self.frame.head.source

    @property
    def offset(self):
        """Where the frame begins in its segment, bytes."""
        return self.frame.offset

    @property
    def nbytes(self):
        """Bytes of the frame, its word and padding included."""
        return self.frame.bytes

    @property
    def anchor(self):
        """The 32 bytes of an anchor frame."""
        return PyBytes_FromStringAndSize(<const char *>self.frame.changes, 32)

    @property
    def change_bytes(self):
        """The encoded changes, padding included (bytes)."""
        return PyBytes_FromStringAndSize(<const char *>self.frame.changes, self.frame.end - self.frame.changes)

    def changes(self):
        """List of Change, in order. ValueError when a change is malformed (the CRC was right: a foreign writer)."""
        result = []
        cdef mmsb_change c
        cdef const uint8_t *p = self.frame.changes
        cdef uint64_t index = 0
        cdef Delta delta
        cdef bytes intent = None
        cdef Change change
        while self.next_change(&p, &c):
            change = make_change(&c)
            if change.kind == "intent":
                intent = change.blob
            if change.kind == "delta":
                delta = change.delta
                delta.seq = self.frame.seq
                delta.index = index
                delta.timestamp_ns = self.frame.time_ns
                delta.source = self.sources.get(self.frame.head.source)
                delta._intent = intent
                delta._state = self.state
                index += 1
            result.append(change)
        return result

    def copy(self, SegmentHead to not None, uint32_t prev_crc, bytes definition=b""):
        """(bytes, CRC) of this commit or anchor as a frame of another segment, which follows one of that CRC.

        `definition`: a SOURCE change to put before the others. ValueError when the segment begins after the frame.
        """
        cdef mmsb_frame_head head = self.frame.head
        cdef uint64_t count = self.frame.end - self.frame.changes
        cdef uint64_t defined = len(definition)
        cdef bytearray out = bytearray(MMSB_FRAME_HEAD_BYTES_MAX + defined + count + 8)
        cdef uint8_t[::1] view = out
        cdef uint8_t *end
        cdef uint32_t crc = 0
        cdef int64_t size
        if self.frame.seq < to.head.base_seq or self.frame.time_ns < to.head.base_time_ns:
            raise ValueError(f"commit {self.frame.seq} is older than the segment that is to hold it")
        head.seq_rel = self.frame.seq - to.head.base_seq
        head.time_rel_ns = self.frame.time_ns - to.head.base_time_ns
        head.prev_crc = prev_crc
        end = mmsb_frame_put_head(&view[0], &head)
        memcpy(end, PyBytes_AS_STRING(definition), defined)
        memcpy(end + defined, self.frame.changes, count)
        size = mmsb_frame_close(&KERNELS, mmsb_frame_seed(&KERNELS, to.head.salt), &view[0], end + defined + count,
                                &crc)
        if size < 0:
            raise ValueError(f"commit {self.frame.seq} is too large for a frame")
        return bytes(view[:size]), crc

    def written_pages(self):
        """The pages whose bytes the commit changes, ascending by their first change (dict, its values mean nothing).
        None when it does anything else as well, or is malformed: then changes() says what.
        """
        cdef mmsb_change c
        cdef const uint8_t *p = self.frame.changes
        cdef dict pages = {}
        if self.frame.head.kind != MMSB_FRAME_COMMIT:
            return None
        while True:
            p = mmsb_change_next(p, self.frame.end, &c)
            if p == NULL:
                return None
            if c.kind == MMSB_CHANGE_END:
                return pages
            if c.kind <= MMSB_DELTA_BITMAP:
                pages[c.page_id] = None
            elif c.kind != MMSB_CHANGE_SOURCE and c.kind != MMSB_CHANGE_LABEL and c.kind != MMSB_CHANGE_INTENT:
                return None

    def deltas(self):
        """List of the Deltas of the commit, in order of index."""
        return [change.delta for change in self.changes() if change.kind == "delta"]

    def __repr__(self):
        return f"<Frame {self.kind} seq={self.seq} bytes={self.nbytes}>"
