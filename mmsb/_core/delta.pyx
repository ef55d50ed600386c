# cython: wraparound=True
"""Delta: which bytes of one page change, and their new values. Immutable."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy, memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.errors cimport no_pointers, raise_status

from mmsb import errors, metadata

cdef uint64_t UNKNOWN = <uint64_t>-1
cdef uint64_t INLINE_BYTES = 48
RANGE_END_MOST = 1 << 40
cdef mmsb_kernels KERNELS
mmsb_kernels_init(&KERNELS, 0)


cdef uint64_t id_of(object page_id) except 0:
    """A page id from Python. InvalidDeltaError when no page can have it."""
    if isinstance(page_id, bool) or not hasattr(page_id, "__index__"):
        raise TypeError(f"a delta is for a page id, not for a {type(page_id).__name__}")
    number = page_id.__index__()
    if not 1 <= number < 1 << 63:
        raise errors.InvalidDeltaError(f"No page can have the id {number}. Use page.page_id.", page_id=number)
    return number


cdef Delta new_delta(uint64_t page_id, uint8_t code, const uint8_t *payload, uint64_t payload_bytes):
    """A Delta holding a copy of the encoded payload; the caller fills in the rest."""
    cdef Delta delta = Delta.__new__(Delta)
    delta.page_id = page_id
    delta.code = code
    delta._epoch = UNKNOWN
    delta.payload_bytes = payload_bytes
    if payload_bytes <= INLINE_BYTES:
        memcpy(delta.inline_payload, payload, payload_bytes)
    else:
        delta.big_payload = PyBytes_FromStringAndSize(<const char *>payload, <Py_ssize_t>payload_bytes)
    return delta


@cython.freelist(256)
@cython.no_gc  # nothing that it refers to refers back
cdef class Delta:
    """One change of one page.

    Attributes: `page_id`; `seq` and `index`, which name it in the log (0 and 0 before it is committed); `epoch`, the
    page's epoch that it produces (None before it is committed); `source` (str or None); `timestamp_ns` (nanoseconds
    since 1970, UTC); `intent` (dict or None); `nbytes`, the number of changed bytes; `mask`; `values`; `ranges()`.
    """

    def __init__(self):
        raise TypeError("use Delta.from_ranges, Delta.from_mask or Delta.between")

    def __reduce__(self):
        """Deltas are not pickled: TypeError. Whoever unpickles runs the code of whoever pickled."""
        raise TypeError("A Delta is not pickled. Send its page_id, ranges() and values, and make it anew with "
                        "Delta.from_ranges().")

    cdef const uint8_t *payload_address(self) noexcept:
        if self.big_payload is None:
            return self.inline_payload
        return <const uint8_t *>PyBytes_AS_STRING(self.big_payload)

    cdef int view(self, mmsb_delta_view *view) except -1:
        cdef int status = mmsb_delta_parse(self.code, self.payload_address(), self.payload_bytes, UNKNOWN, view)
        if status != MMSB_OK:
            raise_status(status)
        return 0

    @staticmethod
    def from_ranges(page_id, ranges, values, source=None, intent=None):
        """A delta that puts `values` (bytes) into the byte ranges [(offset, length), ...], in ascending order.

        Raises InvalidDeltaError when the ranges overlap, descend, are empty or do not add up to len(values).
        """
        cdef uint64_t owner = id_of(page_id)
        cdef bytes data = bytes(values)
        merged = []
        total = 0
        for offset, length in ranges:
            if offset < 0 or length <= 0 or (merged and offset < merged[-1][0] + merged[-1][1]):
                raise errors.InvalidDeltaError(
                    f"Range ({offset}, {length}) is empty, negative or not after the one before it. "
                    "Give ascending, disjoint ranges.", page_id=page_id)
            if merged and offset == merged[-1][0] + merged[-1][1]:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((offset, length))
            total += length
        if total != len(data) or total == 0:
            raise errors.InvalidDeltaError(
                f"The ranges hold {total} bytes and there are {len(data)} values. "
                "Give exactly one value per changed byte, and at least one.", page_id=page_id)
        if merged[-1][0] + merged[-1][1] > RANGE_END_MOST:
            raise errors.InvalidDeltaError(
                f"The ranges end beyond byte {RANGE_END_MOST}. Check the offsets.", page_id=page_id)
        cdef uint64_t count = len(merged)
        cdef uint64_t room = MMSB_DELTA_BOUND(len(data)) + 20 * count
        cdef mmsb_run *runs = <mmsb_run *>PyMem_Malloc(count * sizeof(mmsb_run))
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(room)
        cdef uint8_t code = 0
        cdef int64_t n
        cdef Delta delta
        try:
            if runs == NULL or out == NULL:
                raise MemoryError()
            for i in range(count):
                runs[i].offset = merged[i][0]
                runs[i].length = merged[i][1]
            n = mmsb_delta_from_runs(runs, count, <const uint8_t *>PyBytes_AS_STRING(data), out, &code)
            if n <= 0:
                raise_status(<int>n)
            delta = new_delta(owner, code, out, <uint64_t>n)
        finally:
            PyMem_Free(runs)
            PyMem_Free(out)
        delta.source = source
        delta._intent = dict(intent) if intent is not None else None
        return delta

    @staticmethod
    def from_mask(page_id, mask, values, source=None, intent=None):
        """A delta from one flag per byte of the page (any sequence of truth values, 0/1 bytes, a bool ndarray).

        `values` is either sparse, one byte per set flag, or dense, as long as `mask` (the unset ones are ignored).
        Raises InvalidDeltaError when it is neither.
        """
        flags = [bool(flag) for flag in mask]
        data = bytes(values)
        ranges = []
        count = 0
        for offset, flag in enumerate(flags):
            if not flag:
                continue
            count += 1
            if ranges and ranges[-1][0] + ranges[-1][1] == offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
            else:
                ranges.append((offset, 1))
        if len(data) == len(flags) and count != len(data):
            data = b"".join(data[offset:offset + length] for offset, length in ranges)
        if len(data) != count or count == 0:
            raise errors.InvalidDeltaError(
                f"The mask marks {count} of {len(flags)} bytes and there are {len(data)} values. "
                "Give one value per marked byte or one per byte of the page, and mark at least one.",
                page_id=page_id)
        return Delta.from_ranges(page_id, ranges, data, source, intent)

    @staticmethod
    def between(page_id, old, new, source=None, intent=None):
        """The delta that turns the bytes `old` into `new` (equal length), or None when they are equal."""
        cdef uint64_t owner = id_of(page_id)
        # They are read more than once, and what is not bytes somebody may change meanwhile.
        cdef const uint8_t[::1] before = bytes(memoryview(old).cast("B")) if type(old) is not bytes else old
        cdef const uint8_t[::1] after = bytes(memoryview(new).cast("B")) if type(new) is not bytes else new
        cdef uint64_t n = before.shape[0]
        if before.shape[0] != after.shape[0]:
            raise errors.InvalidDeltaError(
                f"old has {before.shape[0]} bytes and new {after.shape[0]}. Give equal lengths.", page_id=page_id)
        if n == 0:
            return None
        cdef uint8_t code = 0
        cdef int64_t size
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(MMSB_DELTA_BOUND(n))
        cdef Delta delta
        if out == NULL:
            raise MemoryError()
        try:
            size = KERNELS.delta_diff(&before[0], &after[0], n, 0, out, &code)
            if size == 0:
                return None
            delta = new_delta(owner, code, out, <uint64_t>size)
        finally:
            PyMem_Free(out)
        delta.source = source
        delta._intent = dict(intent) if intent is not None else None
        return delta

    @property
    def epoch(self):
        """The epoch of the page after this delta; None when it was never committed."""
        if self._epoch == UNKNOWN and self._state is not None:
            self._epoch = self._state._epoch_of_delta(self)
            self._state = None
        return None if self._epoch == UNKNOWN else self._epoch

    def _set_epoch(self, uint64_t epoch):
        """Set by whoever counted it while reading the log."""
        self._epoch = epoch
        self._state = None

    @property
    def intent(self):
        """The commit's intent metadata as a dict, or None."""
        if type(self._intent) is bytes:
            self._intent = metadata.decode(self._intent)
        return dict(self._intent) if self._intent is not None else None

    @property
    def encoding(self):
        """'dense', 'runs' or 'bitmap': how the delta is stored."""
        return ("dense", "runs", "bitmap")[self.code - 1]

    @property
    def payload(self):
        """The encoded delta without its code, as in docs/formats/delta.md (bytes)."""
        return PyBytes_FromStringAndSize(<const char *>self.payload_address(), <Py_ssize_t>self.payload_bytes)

    @property
    def nbytes(self):
        """Number of bytes that change."""
        cdef mmsb_delta_view view
        self.view(&view)
        return view.value_count

    @property
    def values(self):
        """The new values of the changed bytes, in ascending order of offset (bytes)."""
        cdef mmsb_delta_view view
        self.view(&view)
        return PyBytes_FromStringAndSize(<const char *>view.values, <Py_ssize_t>view.value_count)

    @property
    def mask(self):
        """One bit per byte of the page up to the last changed one, lowest bit first (bytes).

        `numpy.unpackbits(numpy.frombuffer(delta.mask, "u1"), bitorder="little")` gives flags.
        """
        cdef mmsb_delta_view view
        cdef mmsb_run_cursor cursor
        cdef uint64_t i
        cdef bytes bits
        cdef uint8_t *p
        self.view(&view)
        memset(&cursor, 0, sizeof(mmsb_run_cursor))
        bits = bytes((view.end + 7) // 8)
        p = <uint8_t *>PyBytes_AS_STRING(bits)
        while mmsb_delta_next_run(&view, &cursor):
            for i in range(cursor.offset, cursor.offset + cursor.length):
                p[i >> 3] |= <uint8_t>(1 << (i & 7))
        return bits

    def ranges(self):
        """The changed byte ranges as [(offset, length), ...], ascending, never adjacent."""
        cdef mmsb_delta_view view
        cdef mmsb_run_cursor cursor
        self.view(&view)
        memset(&cursor, 0, sizeof(mmsb_run_cursor))
        result = []
        while mmsb_delta_next_run(&view, &cursor):
            result.append((cursor.offset, cursor.length))
        return result

    def apply_to(self, buffer):
        """Writes the values into a writable buffer of the page's size. InvalidDeltaError when they do not fit; then
        nothing was written."""
        cdef uint8_t[::1] page
        no_pointers(buffer)
        target = memoryview(buffer)
        if target.readonly or not target.c_contiguous:
            raise BufferError("apply_to() writes into a writable buffer that is contiguous in memory. "
                              "Pass a bytearray or a C-contiguous ndarray.")
        page = target.cast("B")
        cdef mmsb_delta_view view
        cdef uint64_t n = page.shape[0]
        self.view(&view)
        if view.end > n:
            raise errors.InvalidDeltaError(
                f"The delta ends at byte {view.end} and the buffer has {n}. Give the page it was made for.",
                page_id=self.page_id)
        KERNELS.delta_apply(&page[0], n, self.code, self.payload_address(), self.payload_bytes)

    def merge(self, Delta later not None):
        """The one delta that equals this one followed by `later`. Both must be of one page."""
        if self.page_id != later.page_id:
            raise errors.InvalidDeltaError(
                f"Deltas of pages {self.page_id} and {later.page_id} cannot be merged. Merge deltas of one page.",
                page_id=later.page_id)
        cdef mmsb_delta_view a
        cdef mmsb_delta_view b
        self.view(&a)
        later.view(&b)
        cdef uint64_t room = MMSB_DELTA_BOUND(self.payload_bytes + later.payload_bytes) * 2
        cdef uint8_t code = 0
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(room)
        cdef int64_t n
        cdef Delta delta
        if out == NULL:
            raise MemoryError()
        try:
            n = KERNELS.delta_merge(self.code, self.payload_address(), self.payload_bytes, later.code,
                                    later.payload_address(), later.payload_bytes,
                                    a.end if a.end > b.end else b.end, out, &code)
            if n <= 0:
                raise_status(<int>n)
            delta = new_delta(self.page_id, code, out, <uint64_t>n)
        finally:
            PyMem_Free(out)
        delta.source = later.source
        delta._intent = later._intent
        delta.timestamp_ns = later.timestamp_ns if later.timestamp_ns > self.timestamp_ns else self.timestamp_ns
        return delta

    def inverse(self, page):
        """The delta that undoes this one on `page`, the bytes before it (a buffer of the page's size)."""
        cdef const uint8_t[::1] before = memoryview(page).cast("B")
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(self.payload_bytes + 64)
        cdef int64_t n
        cdef Delta delta
        if out == NULL:
            raise MemoryError()
        try:
            n = MMSB_BAD_DELTA if before.shape[0] == 0 else KERNELS.delta_inverse(
                &before[0], before.shape[0], self.code, self.payload_address(), self.payload_bytes, out)
            if n <= 0:
                raise_status(<int>n)
            delta = new_delta(self.page_id, self.code, out, <uint64_t>n)
        finally:
            PyMem_Free(out)
        return delta

    def __eq__(self, other):
        """Equal when page, mask and values are."""
        if type(other) is not Delta:
            return NotImplemented
        cdef Delta that = other
        return self.page_id == that.page_id and self.code == that.code and self.payload == that.payload

    def __hash__(self):
        return hash((self.page_id, self.code, self.payload))

    def __repr__(self):
        where = f"seq={self.seq}.{self.index} " if self.seq else ""
        return f"<Delta {where}page={self.page_id} bytes={self.nbytes} {self.encoding} source={self.source!r}>"
