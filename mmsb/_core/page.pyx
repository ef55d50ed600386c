"""Page: the handle through which a program reads and writes one page."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport PyObject
from libc.string cimport memcpy

cdef extern from "Python.h":
    int PySlice_Unpack(object slice, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)

from mmsb._core.c_mmsb cimport *
from mmsb._core.errors cimport no_pointers
from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport BUSY, CLOSED, FORKED

from mmsb import errors, metadata
from mmsb._core.semiring import DTYPES

PAGE_ID_MOST = MMSB_PAGE_ID_MAX  # the last id that a page can have

cdef uint64_t NO_OFFSET = <uint64_t>0xffffffffffffffff


cdef uint64_t offset_of(object at, uint64_t page_id) except? 0xffffffffffffffff:
    """A byte offset from Python: a non-negative integer. PageRangeError when negative or beyond any page."""
    cdef int overflow = 0
    cdef long long small
    if PyLong_CheckExact(at):
        small = PyLong_AsLongLongAndOverflow(at, &overflow)
        if overflow == 0 and small >= 0 and small < (<long long>1 << 62):
            return <uint64_t>small
    number = at.__index__() if hasattr(at, "__index__") else None
    if number is None:
        raise TypeError(f"an offset is an int, not {type(at).__name__}")
    if number < 0 or number >> 62:
        raise errors.PageRangeError(
            f"Offset {number} lies outside page {page_id}. Count bytes from 0 at the start of the page.",
            page_id=page_id, at=number, length=None, size=None)
    return number


cdef object as_bytes_like(object data):
    """A one-dimensional contiguous view of bytes-like data, or the exception that says what is wrong with it."""
    no_pointers(data)
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"data must be bytes-like, not {type(data).__name__}") from None
    if not view.c_contiguous:
        raise errors.InvalidDeltaError(
            "The data is not contiguous in memory. Pass numpy.ascontiguousarray(data) or bytes(data).")
    return view.cast("B") if view.nbytes else memoryview(b"")


cdef int take_buffer(object data, Py_buffer *buffer) except -1:
    """The buffer of bytes-like data, or the exception that says what is wrong with it."""
    no_pointers(data)
    try:
        PyObject_GetBuffer(data, buffer, PyBUF_SIMPLE)
    except (TypeError, ValueError, BufferError):
        PyObject_GetBuffer(as_bytes_like(data), buffer, PyBUF_SIMPLE)  # flattens what PyBUF_SIMPLE refused
    return 0


cdef object items_of(object data):
    """What bytes-like data are items of, in a buffer's words; None for plain bytes, which may be anything."""
    if type(data) is bytes:
        return None
    try:
        given = memoryview(data).format.lstrip("<=@")
    except ValueError:  # numpy has types that buffers have no word for
        given = str(data.dtype)
    return None if given in ("B", "b", "c") else given


cdef int check_lanes(object data, Semiring semiring, object page_id) except -1:
    """MergePageError for an array of other numbers than the lanes of a merge page."""
    given = None if semiring is None else items_of(data)
    if given is not None and given not in DTYPES[semiring.row.dtype][2:]:
        raise errors.MergePageError(
            f"The page merges lanes of {semiring.dtype}, and the data are items of format {given!r}. Give an array of "
            "that type, or plain bytes.", page_id=page_id, reason="the data are of another type")
    return 0


@cython.no_gc_clear  # giving the slot back needs `state`
cdef class Slot:
    """The bytes of a page as a read-only buffer. It outlives the page: then it shows the last bytes."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a page's bytes are read-only; use page.write or page.edit")
        PyBuffer_FillInfo(buffer, self, self.address, <Py_ssize_t>self.size, 1, flags)

    def __dealloc__(self):
        if self.state is None:
            return
        if not self.orphan:
            # The collector empties a State that is garbage before it comes to what the State's views hold.
            if self.state._slots is not None and self.state._slots.get(self.page_id) == <size_t><PyObject *>self:
                del self.state._slots[self.page_id]
            return
        # Another thread may be inside the arena without the GIL; then it takes the slot on its way out.
        if self.state.gate & BUSY:
            self.state.given_back.append((self.handle, self.size))
        else:
            mmsb_core_give_slot(&self.state.core, self.handle, self.size)


@cython.freelist(256)
cdef class Page:
    """One page of a State. Handles are cheap; two handles of one page are equal.

    Attributes: `page_id` (also `id`), `name` (str or None), `size` (bytes), `epoch`, `location`, `metadata`
    (read-only mapping), `state`. After the page was deleted every operation raises PageNotFoundError.
    """

    def __init__(self):
        raise TypeError("pages come from state.create_page() and state.page()")

    @staticmethod
    cdef Page make(Core state, uint64_t page_id):
        cdef Page page = Page.__new__(Page)
        page.state = state
        page.page_id = page_id
        return page

    @staticmethod
    def _of(Core state, page_id):
        return Page.make(state, page_id)

    # ---- facts

    @property
    def id(self):
        """The page's id (int), never used again after deletion."""
        return self.page_id

    @property
    def name(self):
        """The page's name (str) or None."""
        self.size  # a deleted page has no name, it has an error
        return self.state._name_of.get(self.page_id)

    @property
    def size(self):
        """Bytes of the page."""
        cdef int token = self.state.enter(CLOSED | FORKED)
        try:
            return self.state.header(self.page_id).size
        finally:
            self.state.leave(token)

    @property
    def epoch(self):
        """Rises by 1 with every delta and resize; 0 after creation."""
        cdef int token = self.state.enter(CLOSED | FORKED)
        try:
            return self.state.header(self.page_id).epoch
        finally:
            self.state.leave(token)

    @property
    def location(self):
        """Name of the device that holds the bytes: "cpu"."""
        self.size
        return "cpu"

    @property
    def metadata(self):
        """Read-only mapping of str to bytes, str, int, float or bool. Assign a mapping to replace all of it."""
        self.size
        return metadata.frozen(self.state._metadata.get(self.page_id))

    @metadata.setter
    def metadata(self, value):
        self.state.set_metadata(self, value)

    @property
    def merge(self):
        """(name, dtype) of the semiring by which the page merges what is written to it, None for any other page."""
        self.size
        return self.state._merge_rule(self.page_id)

    # ---- reading

    @property
    def stale(self):
        """True when the page is computed from others and not up to date with them; reading it then raises."""
        return self.state._is_stale(self.page_id)

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        """page[i:j] copies bytes (bytes); page[i] is one byte (int). Slices clip as those of bytes do."""
        cdef Core state = self.state
        cdef mmsb_page_header *header
        cdef Py_ssize_t start = 0, stop = 0, step = 1, index = 0, count
        cdef bint single = not isinstance(key, slice)
        # Asking `key` for its numbers may call what changes the page.
        if single:
            index = key
        else:
            PySlice_Unpack(key, &start, &stop, &step)
        cdef int token = state.enter(CLOSED | FORKED)
        try:
            header = state.header_to_read(self.page_id, &token)
            if single:
                if index < 0:
                    index += <Py_ssize_t>header.size
                if index < 0 or <uint64_t>index >= header.size:
                    raise errors.PageRangeError(
                        f"Byte {key} lies outside page {self.page_id} of {header.size} bytes. Use 0 to size - 1.",
                        page_id=self.page_id, at=key, length=1, size=header.size)
                return mmsb_arena_bytes(&state.core.arena, header.handle)[index]
            count = PySlice_AdjustIndices(<Py_ssize_t>header.size, &start, &stop, step)
            if step == 1:
                return PyBytes_FromStringAndSize(
                    <const char *>mmsb_arena_bytes(&state.core.arena, header.handle) + start, count)
            whole = PyBytes_FromStringAndSize(
                <const char *>mmsb_arena_bytes(&state.core.arena, header.handle), <Py_ssize_t>header.size)
        finally:
            state.leave(token)
        return whole[key]

    def read(self, at=0, length=None):
        """Copies `length` bytes from `at` on (bytes; default: to the end). PageRangeError outside the page."""
        cdef Core state = self.state
        cdef mmsb_page_header *header
        cdef uint64_t offset = offset_of(at, self.page_id)
        cdef uint64_t count = 0 if length is None else offset_of(length, self.page_id)
        cdef int token = state.enter(CLOSED | FORKED)
        try:
            header = state.header_to_read(self.page_id, &token)
            if length is None and offset <= header.size:
                count = header.size - offset
            if offset > header.size or count > header.size - offset:
                state.fail(MMSB_OUT_OF_BOUNDS, self.page_id, offset, count)
            return PyBytes_FromStringAndSize(
                <const char *>mmsb_arena_bytes(&state.core.arena, header.handle) + offset, <Py_ssize_t>count)
        finally:
            state.leave(token)

    def __bytes__(self):
        return self.read()

    def read_into(self, buffer, at=0):
        """Fills a writable contiguous buffer with the bytes from `at` on. Returns their number.

        PageRangeError when the page ends before the buffer does, BufferError for one that is read-only or not
        contiguous.
        """
        cdef Core state = self.state
        cdef mmsb_page_header *header
        cdef uint64_t offset = offset_of(at, self.page_id)
        cdef Py_buffer target
        cdef int token
        no_pointers(buffer)
        try:
            PyObject_GetBuffer(buffer, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
        except (ValueError, BufferError) as error:
            raise BufferError(f"read_into() fills a writable buffer that is contiguous in memory ({error}). "
                              "Pass a bytearray or a C-contiguous ndarray.") from None
        try:
            token = state.enter(CLOSED | FORKED)
            try:
                header = state.header_to_read(self.page_id, &token)
                if offset > header.size or <uint64_t>target.len > header.size - offset:
                    state.fail(MMSB_OUT_OF_BOUNDS, self.page_id, offset, target.len)
                memcpy(target.buf, mmsb_arena_bytes(&state.core.arena, header.handle) + offset, target.len)
            finally:
                state.leave(token)
            return target.len
        finally:
            PyBuffer_Release(&target)

    def view(self, dtype="uint8", shape=None):
        """Read-only ndarray on the page's own memory, without a copy (dtype native, shape given or flat).

        It is live: it shows later changes, and may change while it is looked at. Once the page is resized or deleted
        it keeps the last bytes. ValueError when the size is no multiple of the dtype's.
        """
        import numpy

        cdef int token = self.state.enter(CLOSED | FORKED)
        try:
            self.state.header_to_read(self.page_id, &token)
        finally:
            self.state.leave(token)
        array = numpy.frombuffer(self.state._slot(self.page_id), dtype)
        return array if shape is None else array.reshape(shape)

    # ---- writing

    def write(self, data, at=0, source=None, intent=None, if_epoch=None, bint rebase=False, *, bint propagate=True):
        """Puts bytes-like `data` at byte `at`. Returns the Delta of the bytes that differ, None when none does.

        On a merge page it is page ⊕ data over whole lanes that is put there, without if_epoch; else MergePageError.
        `source`: who writes (str). `intent`: metadata of the commit (dict). `if_epoch`: only when the page is at that
        epoch; if it moved on, with `rebase` the write still happens when no later change overlaps it, else
        ConflictError. Without `propagate` no wave follows, and what depends on the page is stale. PageRangeError,
        InvalidDeltaError, TypeError on bad input; then nothing changed.
        """
        cdef Core state = self.state
        cdef mmsb_commit_info info
        cdef Py_buffer buffer
        cdef uint64_t offset
        cdef bytes blob = None
        if not propagate:
            with state._without_wave():
                return self.write(data, at, source, intent, if_epoch, rebase)
        offset = offset_of(at, self.page_id)
        if intent is not None:
            blob = metadata.encode(intent)
        state.prepare_info(&info, source, None, blob)
        if if_epoch is not None:
            return self._write_if(data, at, source, blob, if_epoch, rebase)
        if type(data) is bytes:
            return state.write(self.page_id, offset, <const uint8_t *>PyBytes_AS_STRING(data),
                               <uint64_t>PyBytes_GET_SIZE(data), &info, source, blob)
        info.moving = True
        take_buffer(data, &buffer)
        try:
            state.leave(state.enter(CLOSED | FORKED))
            check_lanes(data, state.merge_of(self.page_id), self.page_id)
            return state.write(self.page_id, offset, <const uint8_t *>buffer.buf, <uint64_t>buffer.len, &info, source,
                               blob)
        finally:
            PyBuffer_Release(&buffer)

    def assign(self, data, at=0, source=None, intent=None):
        """As write, but overwrites what is there also on a merge page. Returns the Delta, None when nothing differs."""
        batch = self.state.batch(source=source, intent=intent)
        batch._skip_unchanged = True
        with batch:
            batch.assign(self, data, at)
        return batch.deltas[0] if batch.seq is not None else None

    def _write_if(self, data, at, source, blob, if_epoch, rebase):
        with self.state.batch(source=source, intent=blob) as b:
            b._skip_unchanged = True
            b.write(self, data, at=at, if_epoch=if_epoch, rebase=rebase)
        return b.deltas[0] if b.seq is not None else None

    # ---- what State does

    def edit(self, dtype=None, shape=None, source=None, intent=None):
        """Context manager: a writable copy of the page; on exit the bytes that differ become one delta.

        With `dtype` the copy is an ndarray (of `shape`, else flat), without it a bytearray's memoryview. What others
        wrote meanwhile elsewhere in the page is kept; where both changed a byte, ConflictError.
        """
        return self.state._edit(self, dtype, shape, source, intent)

    def update(self, new, when=None, source=None, intent=None):
        """Replaces the whole content: `new` is bytes-like, or a function from the old bytes to the new ones (None:
        leave it). `when`, a predicate of the old bytes, false: nothing is written. Returns the Delta or None.

        The function runs again if the page changed meanwhile, so no update is lost.
        """
        return self.state._update(self, new, when, source, intent)

    def resize(self, size, source=None):
        """Makes the page `size` bytes long; new bytes are zero. Its epoch rises by 1."""
        with self.state.batch(source=source) as b:
            b.resize(self, size)

    def rename(self, name, source=None):
        """Gives the page another name, or none (None). DuplicateNameError when another page has it."""
        with self.state.batch(source=source) as b:
            b.rename(self, name)

    def clone(self, name=None, source=None):
        """A new page with the same bytes and metadata. Returns its Page."""
        return self.state._clone(self, name, source)

    def delete(self, source=None, *, detach=False):
        """Deletes the page. Its id is never used again; its past stays readable. `detach`: also when it has edges."""
        self.state.delete_page(self, source=source, detach=detach)

    def history(self):
        """Iterates the page's deltas, oldest first (lazily)."""
        return self.state._page_history(self.page_id)

    def at(self, epoch):
        """The page as it was at an epoch: a read-only past page. LookupError-derived errors when there was none."""
        return self.state._page_at_epoch(self.page_id, epoch)

    def __eq__(self, other):
        return type(other) is Page and self.page_id == (<Page>other).page_id and self.state is (<Page>other).state

    def __hash__(self):
        return hash(self.page_id)

    def __repr__(self):
        try:
            return f"<Page {self.page_id} {self.name!r} size={self.size} epoch={self.epoch}>"
        except errors.MMSBError as error:
            return f"<Page {self.page_id}: {type(error).__name__}>"
