"""SegmentIndex: what the changes of one segment touch, and reading single changes and commits through it."""

import threading

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memset

from mmsb._core.c_index cimport *
from mmsb._core.c_mmsb cimport *
from mmsb._core.delta cimport Delta, new_delta
from mmsb._core.log cimport Cursor, Frame, SegmentHead

from mmsb import errors

cdef mmsb_kernels KERNELS
cdef uint32_t FEATURES = mmsb_cpu_detect()
mmsb_cpu_disable(&FEATURES, mmsb_cpu_environment(), NULL)
mmsb_kernels_init(&KERNELS, FEATURES)

# How a page's changes in a segment begin.
OPEN = MMSB_COLLECT_OPEN
CREATED = MMSB_COLLECT_CREATED
DELETED = MMSB_COLLECT_DELETED
COVERED = MMSB_COLLECT_COVERED

# Stills (csrc/index_stills.c) are made for all pages of a segment at once, when reads of pages that have many changes
# have gone through so many and this share of what the segment holds: who reads a page or two does not pay for them.
cdef enum:
    LONG_REPLAY = 64
    REPLAYED_LEAST = 2048
    REPLAYED_SHARE = 16

# Kinds of changes, as they are written in the log.
KINDS = {
    "delta": 1 << MMSB_DELTA_DENSE | 1 << MMSB_DELTA_RUNS | 1 << MMSB_DELTA_BITMAP,
    "create": 1 << MMSB_CHANGE_CREATE,
    "delete": 1 << MMSB_CHANGE_DELETE,
    "resize": 1 << MMSB_CHANGE_RESIZE,
    "rename": 1 << MMSB_CHANGE_RENAME,
    "metadata": 1 << MMSB_CHANGE_METADATA,
    "label": 1 << MMSB_CHANGE_LABEL,
    "intent": 1 << MMSB_CHANGE_INTENT,
    "link": 1 << MMSB_CHANGE_LINK,
    "unlink": 1 << MMSB_CHANGE_UNLINK,
    "wave": 1 << MMSB_CHANGE_WAVE,
    "source": 1 << MMSB_CHANGE_SOURCE,
}
cdef dict NAMES = {
    MMSB_DELTA_DENSE: "delta",
    MMSB_DELTA_RUNS: "delta",
    MMSB_DELTA_BITMAP: "delta",
    MMSB_CHANGE_CREATE: "create",
    MMSB_CHANGE_DELETE: "delete",
    MMSB_CHANGE_RESIZE: "resize",
    MMSB_CHANGE_RENAME: "rename",
    MMSB_CHANGE_METADATA: "metadata",
}


cdef class Bytes:
    """The segment's memory for the time of one call."""

    def __cinit__(self, source, SegmentIndex index):
        PyObject_GetBuffer(source, &self.buffer, PyBUF_SIMPLE)
        self.at = <const uint8_t *>self.buffer.buf
        if index is not None and <uint64_t>self.buffer.len < index.index.cursor.offset:
            raise ValueError("these are not the bytes that the index was built from")

    def __dealloc__(self):
        if self.at != NULL:
            PyBuffer_Release(&self.buffer)


cdef class SegmentIndex:
    """Index of one segment. Methods that read changes take `data`, the segment's bytes from offset 0.

    Built empty; extend() scans what is new. Seqs are those of the State. Safe to use from several threads. A change
    that is not where the index saw it raises CorruptLogError: the file was changed under us.
    """

    def __cinit__(self, SegmentHead head not None):
        self.head = head
        self.lock = threading.Lock()
        mmsb_index_init(&self.index, &mmsb_alloc_libc, &KERNELS, &head.head)

    def __dealloc__(self):
        mmsb_index_release(&self.index)

    cdef uint64_t relative(self, object seq):
        """seq counted from the segment's base, clipped to what the index covers."""
        cdef int64_t last = mmsb_index_seq_count(&self.index)
        cdef object number = seq - self.index.cursor.base_seq
        return 0 if number < 0 else (last if number > last else number)

    def _fail(self, int status, offset=None):
        if status == MMSB_NO_MEMORY:
            raise MemoryError("no memory for the index of a log segment")
        raise errors.CorruptLogError(
            f"Segment {self.head.number} of the log cannot be read after commit {self.seq}: "
            f"{mmsb_status_text(status).decode()}. Run `mmsb verify` on the store.",
            path=None, offset=self.index.cursor.offset if offset is None else offset, seq=self.seq,
            reason=mmsb_status_text(status).decode())

    # ---- building

    def extend(self, data, uint64_t limit):
        """Takes in the frames after the ones it knows, up to offset `limit`. CorruptLogError when they are damaged."""
        cdef Bytes b = Bytes(data, None)
        cdef int status = MMSB_OK
        if limit > <uint64_t>b.buffer.len:
            limit = <uint64_t>b.buffer.len
        with self.lock:
            if limit <= self.index.cursor.offset:
                return
            with nogil:
                status = mmsb_index_extend(&self.index, &KERNELS, b.at, limit)
        if status != MMSB_OK:
            self._fail(status)

    @property
    def seq(self):
        """The last commit in the index."""
        return self.index.cursor.base_seq + mmsb_index_seq_count(&self.index)

    @property
    def base_seq(self):
        """The last commit before the segment."""
        return self.index.cursor.base_seq

    @property
    def offset(self):
        """Offset in the segment after the last frame in the index."""
        return self.index.cursor.offset

    @property
    def nbytes(self):
        """Memory that the index holds, bytes."""
        return mmsb_index_bytes(&self.index)

    @property
    def change_count(self):
        """Number of nodes: changes of pages, names given, labels."""
        return mmsb_index_node_count(&self.index)

    # ---- commits

    def sources(self, data):
        """{local id: name} of the sources that the segment defines."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_change change
        cdef const mmsb_index_source *items
        cdef uint64_t i
        result = {}
        with self.lock:
            items = <const mmsb_index_source *>self.index.sources.data
            for i in range(self.index.sources.size // sizeof(mmsb_index_source)):
                if mmsb_index_change(&self.index, b.at, items[i].at, &change) != MMSB_OK:
                    self._fail(MMSB_BAD_FRAME, mmsb_index_offset(items[i].at))
                result[items[i].id] = text_of(&change).decode("utf-8", "surrogateescape")
        return result

    def frame(self, data, seq, dict sources, state=None):
        """The Frame of commit `seq`. `sources`: of sources()."""
        cdef Bytes b = Bytes(data, self)
        cdef uint64_t rel = self.relative(seq)
        cdef Frame frame = Frame.__new__(Frame)
        with self.lock:
            if rel == 0 or rel + self.index.cursor.base_seq != seq:
                raise ValueError(f"commit {seq} is not in this segment")
            self.open_frame(b.at, rel, &frame.frame)
        frame.buffer = data
        frame.sources = sources
        frame.state = state
        return frame

    cdef int open_frame(self, const uint8_t *at, uint64_t rel, mmsb_log_frame *frame) except -1:
        if mmsb_index_frame(&self.index, at, rel, frame) != MMSB_OK:
            self._fail(MMSB_BAD_FRAME)
        return 0

    def seek(self, Cursor cursor not None, seq):
        """Moves a Cursor over this segment so that commit `seq` comes next. It stays where it is when it cannot."""
        cdef uint64_t rel
        cdef mmsb_log_frame frame
        cdef mmsb_log_frame before
        with self.lock:
            rel = self.relative(seq)
            if rel < 2 or rel + self.index.cursor.base_seq != seq or cursor.cursor.offset >= self.index.cursor.offset:
                return
            if <uint64_t>cursor.view.shape[0] < self.index.cursor.offset:
                return
            if (mmsb_index_frame(&self.index, &cursor.view[0], rel, &frame) != MMSB_OK
                    or mmsb_index_frame(&self.index, &cursor.view[0], rel - 1, &before) != MMSB_OK):
                return
        if cursor.cursor.offset < frame.offset:
            cursor.seek(frame.offset, seq - 1, before.time_ns, frame.head.prev_crc, self.sources(cursor.buffer))

    def time_of(self, data, seq):
        """Timestamp of commit `seq`, ns since 1970; for the segment's base seq that of its header."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_log_frame frame
        cdef uint64_t rel = self.relative(seq)
        if rel == 0:
            return self.index.cursor.base_time_ns
        with self.lock:
            self.open_frame(b.at, rel, &frame)
        return frame.time_ns

    def branch_of(self, data, seq):
        """Branch id of commit `seq`."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_log_frame frame
        with self.lock:
            self.open_frame(b.at, self.relative(seq), &frame)
        return frame.head.branch

    def seq_at(self, data, uint64_t time_ns):
        """The last commit not after a time; the segment's base seq when all are after it."""
        cdef Bytes b = Bytes(data, self)
        cdef uint64_t rel = 0
        with self.lock:
            if mmsb_index_seq_at(&self.index, b.at, time_ns, &rel) != MMSB_OK:
                self._fail(MMSB_BAD_FRAME)
        return self.index.cursor.base_seq + rel

    def next_commit(self, data, since, until, source=None, uint64_t kinds=0):
        """First commit in since..until from local source id `source` with a change of one of `kinds` (bits of KINDS,
        0: any). None when there is none."""
        cdef Bytes b = Bytes(data, self)
        cdef uint64_t wanted = MMSB_ANY_SOURCE if source is None else source
        cdef uint64_t first = max(self.relative(since - 1) + 1, 1)
        cdef uint64_t last = self.relative(until)
        cdef uint64_t found = 0
        cdef int status = MMSB_OK
        with self.lock:
            with nogil:
                status = mmsb_index_next_commit(&self.index, b.at, first, last, wanted, kinds, &found)
        if status != MMSB_OK:
            self._fail(status)
        return self.index.cursor.base_seq + found if found else None

    def usage(self, data, since, until):
        """Sums over the commits since..until: two lists of (local source id or page id, commits, deltas, changed
        bytes, log bytes), by source and by page."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_buffer by_source
        cdef mmsb_buffer by_page
        cdef uint64_t first = self.relative(since - 1) + 1
        cdef uint64_t last = self.relative(until)
        cdef int status = MMSB_OK
        memset(&by_source, 0, sizeof(by_source))
        memset(&by_page, 0, sizeof(by_page))
        try:
            with self.lock:
                with nogil:
                    status = mmsb_index_usage(&self.index, b.at, first, last, &by_source, &by_page)
            if status != MMSB_OK:
                self._fail(status)
            return sums_of(&by_source), sums_of(&by_page)
        finally:
            mmsb_buffer_release(&by_source, &mmsb_alloc_libc)
            mmsb_buffer_release(&by_page, &mmsb_alloc_libc)

    # ---- labels and names

    def find_label(self, data, str label, until):
        """Newest commit up to `until` with this label, or None."""
        cdef uint32_t number = self.find_text(data, label, until, True)
        return self.index.cursor.base_seq + mmsb_index_node_at(&self.index, number).seq_rel if number else None

    def find_name(self, data, str name, until):
        """The page that was given this name last, up to commit `until`, or None. It may have lost it since."""
        cdef uint32_t number = self.find_text(data, name, until, False)
        if number == 0:
            return None
        number = mmsb_index_node_at(&self.index, number).described
        return mmsb_index_structure_at(&self.index, number).page_id

    cdef uint32_t find_text(self, data, str text, until, bint label) except? 0:
        cdef Bytes b = Bytes(data, self)
        cdef bytes encoded = text.encode("utf-8", "surrogateescape")
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(encoded)
        cdef uint64_t n = <uint64_t>PyBytes_GET_SIZE(encoded)
        cdef uint64_t key = mmsb_index_label_key(at, n) if label else mmsb_index_name_key(at, n)
        cdef uint32_t number = 0
        with self.lock:
            if mmsb_index_find_text(&self.index, b.at, key, at, n, self.relative(until), &number) != MMSB_OK:
                self._fail(MMSB_BAD_FRAME)
        return number

    def labels(self, data, since, until):
        """[(seq, label), ...] of the commits since..until."""
        cdef Bytes b = Bytes(data, self)
        cdef const uint32_t *numbers
        cdef const mmsb_index_node *node
        cdef mmsb_change change
        cdef uint64_t i
        result = []
        with self.lock:
            numbers = <const uint32_t *>self.index.labels.data
            for i in range(self.index.labels.size // sizeof(uint32_t)):
                node = mmsb_index_node_at(&self.index, numbers[i])
                seq = self.index.cursor.base_seq + node.seq_rel
                if seq < since or seq > until:
                    continue
                if mmsb_index_change(&self.index, b.at, node.at, &change) != MMSB_OK:
                    self._fail(MMSB_BAD_FRAME, mmsb_index_offset(node.at))
                result.append((seq, text_of(&change).decode("utf-8", "surrogateescape")))
        return result

    # ---- pages

    def facts(self, uint64_t page_id, since, until):
        """What commits since+1..until say of a page: (touched, created, deleted, gained, size, kind, name_by,
        metadata_by).

        touched: anything at all. gained: by how much its epoch rose, since creation if created. size: 0 when not
        decided in this segment. name_by, metadata_by: for text(), 0 when not decided in this segment.
        """
        cdef mmsb_index_facts facts
        with self.lock:
            mmsb_index_facts_of(&self.index, page_id, self.relative(since), self.relative(until), &facts)
        touched = facts.created or (facts.node != 0 and
                                    mmsb_index_node_at(&self.index, facts.node).seq_rel > self.relative(since))
        return (touched, facts.created, facts.deleted, facts.gained, facts.size, facts.page_kind, facts.name_by,
                facts.metadata_by)

    def has_page(self, uint64_t page_id, since, until):
        """Whether a page is there after commit `until`; None when the commits since+1..until do not touch it."""
        cdef int there = -1
        with self.lock:
            there = mmsb_index_has_page(&self.index, page_id, self.relative(since), self.relative(until))
        return None if there < 0 else there == 1

    def text(self, data, uint32_t structure):
        """(name as str or None, encoded metadata or None) that a structural change carries. `structure`: from facts().
        """
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_change change
        cdef uint64_t at
        with self.lock:
            at = mmsb_index_structure_at(&self.index, structure).at
            if mmsb_index_change(&self.index, b.at, at, &change) != MMSB_OK:
                self._fail(MMSB_BAD_FRAME, mmsb_index_offset(at))
        if change.kind == MMSB_CHANGE_METADATA:
            return None, text_of(&change)
        name = text_of(&change).decode("utf-8", "surrogateescape") if change.text_bytes else None
        if change.kind == MMSB_CHANGE_CREATE and change.create_flags & MMSB_CREATE_METADATA:
            return name, PyBytes_FromStringAndSize(<const char *>change.blob, <Py_ssize_t>change.blob_bytes)
        return name, None

    def structures(self, since, until):
        """Structural changes of the commits since+1..until, in order: [(seq, kind, page_id, count, size), ...]."""
        cdef const mmsb_index_structure *structure
        cdef uint64_t first
        cdef uint64_t last
        cdef uint32_t low = 1
        cdef uint32_t high
        cdef uint32_t middle
        result = []
        with self.lock:
            first = self.relative(since)
            last = self.relative(until)
            high = mmsb_index_structure_count(&self.index) + 1
            while low < high:
                middle = low + (high - low) // 2
                if mmsb_index_structure_at(&self.index, middle).seq_rel <= first:
                    low = middle + 1
                else:
                    high = middle
            while low <= mmsb_index_structure_count(&self.index):
                structure = mmsb_index_structure_at(&self.index, low)
                if structure.seq_rel > last:
                    break
                result.append((self.index.cursor.base_seq + structure.seq_rel, NAMES[mmsb_index_kind(structure.at)],
                               structure.page_id, structure.count, structure.size))
                low += 1
        return result

    def collect(self, data, uint64_t page_id, since, until, uint64_t size=0):
        """Nodes of the changes in commits since+1..until that the page's bytes at `until` depend on.

        `size`: of the page at `until`, 0 when unknown (then a delta that replaces everything is not recognised).
        """
        cdef Bytes b = Bytes(data, self)
        cdef Nodes nodes = Nodes.__new__(Nodes)
        cdef uint64_t first
        cdef uint64_t last
        cdef int status = MMSB_OK
        nodes.index = self
        nodes.page_id = page_id
        nodes.found.size = size
        with self.lock:
            first = self.relative(since)
            last = self.relative(until)
            with nogil:
                status = mmsb_index_collect(&self.index, b.at, page_id, first, last, &nodes.numbers, &nodes.found)
            if len(nodes) >= LONG_REPLAY:
                self.replayed += len(nodes)
        if status != MMSB_OK:
            self._fail(status)
        return nodes

    @property
    def wants_stills(self):
        """Whether reads have gone through so much that stills are worth their making."""
        cdef uint64_t waiting = mmsb_index_node_count(&self.index) - self.index.stilled
        if self.replayed < REPLAYED_LEAST or waiting == 0 or self.without_stills:
            return False
        return self.replayed >= waiting // REPLAYED_SHARE

    def add_stills(self, data, SegmentIndex before=None, least=None):
        """Makes stills, carrying on those of `before`, the index of the segment before. `least`: bytes of a page's log
        between two of them; 0: a still after each change."""
        cdef Bytes b = Bytes(data, self)
        cdef const mmsb_index *older = NULL
        cdef int status = MMSB_OK
        if before is not None:
            before.lock.acquire()
            older = &before.index
        try:
            with self.lock:
                if least is not None:
                    self.index.still_least = least
                self.replayed = 0
                with nogil:
                    status = mmsb_index_add_stills(&self.index, b.at, older)
                self.without_stills = status != MMSB_OK  # then pages are replayed, which says what is wrong
        finally:
            if before is not None:
                before.lock.release()

    @property
    def still_bytes(self):
        """Memory of the stills, bytes; it is part of nbytes."""
        return self.index.still_bytes

    def page_nodes(self, uint64_t page_id, since, until):
        """Nodes of all changes of a page in commits since+1..until."""
        cdef Nodes nodes = Nodes.__new__(Nodes)
        cdef int status = MMSB_OK
        nodes.index = self
        nodes.page_id = page_id
        with self.lock:
            status = mmsb_index_page_nodes(&self.index, page_id, self.relative(since), self.relative(until),
                                           &nodes.numbers)
        if status != MMSB_OK:
            self._fail(status)
        return nodes

    def range_of(self, uint64_t page_id):
        """The commit that created a page together with others, or None."""
        cdef uint32_t number
        with self.lock:
            number = mmsb_index_range_of(&self.index, page_id)
            if number == 0:
                return None
            return self.index.cursor.base_seq + mmsb_index_structure_at(&self.index, number).seq_rel

    def page_seqs(self, uint64_t page_id, since, until):
        """Commits since+1..until that touch a page, ascending."""
        cdef Nodes nodes = self.page_nodes(page_id, since, until)
        cdef const uint32_t *numbers = <const uint32_t *>nodes.numbers.data
        cdef uint64_t i
        cdef uint64_t seq
        cdef uint64_t last = 0
        cdef list seqs = []
        created = self.range_of(page_id)
        if created is not None and since < created <= until:
            last = created
            seqs.append(created)
        with self.lock:
            for i in range(len(nodes), 0, -1):
                seq = self.index.cursor.base_seq + mmsb_index_node_at(&self.index, numbers[i - 1]).seq_rel
                if seq != last:
                    seqs.append(seq)
                last = seq
        return seqs

    def epoch_node(self, uint64_t page_id, uint64_t gained, since, until):
        """(seq, node) of the change after which the page's epoch had risen by `gained` (at least 1) since commit
        `since`, in a commit up to `until`; None when it had not."""
        cdef uint32_t number
        cdef uint32_t before
        cdef uint64_t rank = gained
        cdef const mmsb_index_node *node
        with self.lock:
            number = mmsb_index_page_until(&self.index, page_id, self.relative(until))
            before = mmsb_index_page_until(&self.index, page_id, self.relative(since))
            if before:
                rank += mmsb_index_rank(&self.index, before)
            number = mmsb_index_rank_node(&self.index, number, rank)
            if number == 0:
                return None
            node = mmsb_index_node_at(&self.index, number)
            return self.index.cursor.base_seq + node.seq_rel, number

    def delta_gain(self, uint64_t page_id, seq, uint64_t index, since):
        """By how much the epoch of a page had risen since commit `since` after delta `index` of commit `seq`; None when
        that is no delta of the page."""
        cdef uint32_t number
        cdef uint32_t before
        cdef uint64_t rel
        cdef const mmsb_index_node *node
        with self.lock:
            rel = self.relative(seq)
            number = mmsb_index_page_until(&self.index, page_id, rel)
            while number != 0:
                node = mmsb_index_node_at(&self.index, number)
                if node.seq_rel != rel:
                    return None
                if mmsb_index_kind(node.at) <= MMSB_DELTA_BITMAP and node.index == index:
                    break
                number = node.prev
            if number == 0:
                return None
            before = mmsb_index_page_until(&self.index, page_id, self.relative(since))
            return mmsb_index_rank(&self.index, number) - (mmsb_index_rank(&self.index, before) if before else 0)

    def last_write(self, data, uint64_t page_id, until, uint64_t first, uint64_t end):
        """Newest delta of a page up to commit `until` that changes a byte of [first, end).

        (number for delta(), first, end, open): number 0 when there is none here; then `open` says whether an older
        segment can have it, for the range as it is left.
        """
        cdef Bytes b = Bytes(data, self)
        cdef uint32_t number = 0
        cdef int is_open = 0
        cdef uint64_t last
        cdef int status = MMSB_OK
        with self.lock:
            last = self.relative(until)
            with nogil:
                status = mmsb_index_last_write(&self.index, b.at, page_id, last, &first, &end, &number, &is_open)
        if status != MMSB_OK:
            self._fail(status)
        return number, first, end, bool(is_open)

    def delta(self, data, uint32_t number, dict sources, state=None):
        """The Delta of a node, with seq, index, timestamp, source and intent; None when the node is no delta."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_index_node node
        cdef mmsb_change change
        cdef mmsb_log_frame frame
        cdef Delta delta
        cdef const uint8_t *p
        with self.lock:
            node = mmsb_index_node_at(&self.index, number)[0]
            if mmsb_index_kind(node.at) > MMSB_DELTA_BITMAP:
                return None
            if mmsb_index_change(&self.index, b.at, node.at, &change) != MMSB_OK:
                self._fail(MMSB_BAD_FRAME, mmsb_index_offset(node.at))
            self.open_frame(b.at, node.seq_rel, &frame)
        delta = new_delta(change.page_id, change.kind, change.payload, change.payload_bytes)
        delta.seq = frame.seq
        delta.index = node.index
        delta.timestamp_ns = frame.time_ns
        delta.source = sources.get(frame.head.source)
        delta._state = state
        # The commit's own words stand before its changes.
        p = frame.changes
        while p != NULL and p < frame.end and p[0] >= MMSB_CHANGE_LABEL:
            p = mmsb_change_next(p, frame.end, &change)
            if p != NULL and change.kind == MMSB_CHANGE_INTENT:
                delta._intent = text_of(&change)
        return delta

    def touched(self, data, since, until):
        """Set of the ids of pages that the commits since+1..until touch."""
        cdef Bytes b = Bytes(data, self)
        cdef mmsb_buffer ids
        cdef uint64_t first
        cdef uint64_t last
        cdef uint64_t i
        cdef int status = MMSB_OK
        memset(&ids, 0, sizeof(ids))
        result = set()
        try:
            with self.lock:
                first = self.relative(since)
                last = self.relative(until)
                with nogil:
                    status = mmsb_index_touched(&self.index, b.at, first, last, &ids)
            if status != MMSB_OK:
                self._fail(status)
            for i in range(ids.size // sizeof(uint64_t)):
                result.add((<const uint64_t *>ids.data)[i])
        finally:
            mmsb_buffer_release(&ids, &mmsb_alloc_libc)
        for _, _, page_id, count, _ in self.structures(since, until):
            if count > 1:
                result.update(range(page_id, page_id + count))
        return result


cdef bytes text_of(const mmsb_change *change):
    return PyBytes_FromStringAndSize(<const char *>change.text, <Py_ssize_t>change.text_bytes)


cdef list sums_of(const mmsb_buffer *buffer):
    cdef const mmsb_index_sum *sums = <const mmsb_index_sum *>buffer.data
    cdef uint64_t i
    return [(sums[i].key, sums[i].commits, sums[i].deltas, sums[i].changed_bytes, sums[i].log_bytes)
            for i in range(buffer.size // sizeof(mmsb_index_sum))]


cdef class Nodes:
    """Numbers of a page's nodes in one segment, newest first. What collect() found in stills stands for older ones,
    also for those of older segments, and is not counted."""

    def __dealloc__(self):
        mmsb_buffer_release(&self.numbers, &mmsb_alloc_libc)

    def __len__(self):
        return self.numbers.size // sizeof(uint32_t)

    def __getitem__(self, Py_ssize_t index):
        if index < 0 or index >= len(self):
            raise IndexError(index)
        return (<const uint32_t *>self.numbers.data)[index]

    @property
    def since(self):
        """The commit after which the changes begin: where the segment does, or what the still stands for."""
        return self.found.still.since if self.found.still != NULL else self.index.index.cursor.base_seq

    @property
    def end(self):
        """How collect() ended: OPEN, CREATED, DELETED, COVERED."""
        return self.found.end

    @property
    def size(self):
        """The page's size where its changes begin."""
        return self.found.size

    def kind_of(self, Py_ssize_t index):
        """Kind of a node's change: 'delta', 'create', 'resize', ..."""
        number = self[index]
        with self.index.lock:
            return NAMES[mmsb_index_kind(mmsb_index_node_at(&self.index.index, number).at)]

    def seq_of(self, Py_ssize_t index):
        """The commit of a node."""
        number = self[index]
        with self.index.lock:
            return self.index.index.cursor.base_seq + mmsb_index_node_at(&self.index.index, number).seq_rel
