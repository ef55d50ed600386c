# cython: wraparound=True
"""Batch: a commit gathered by hand. All of it happens, or nothing."""

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.delta cimport Delta
from mmsb._core.engine cimport Engine
from mmsb._core.page cimport Page, as_bytes_like, check_lanes, items_of, offset_of, take_buffer
from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport CLOSED, Core, FORKED, NEW_SOURCE, UNWRITABLE, WAVE

from mmsb import errors, links
from mmsb import metadata as notes
from mmsb.arguments import column, encode_metadata, encode_name, page_size, several

# Batches up to this size are committed without letting other threads run.
cdef uint64_t SHORT_OPS = 64
cdef uint64_t SHORT_BYTES = 1 << 17
PAGES_AT_ONCE_MOST = 1 << 36


cdef uint64_t epoch_of(object if_epoch) except? 0xffffffffffffffff:
    """An expected epoch from Python, None for any. One that no page can have matches none."""
    if if_epoch is None:
        return MMSB_ANY_EPOCH
    if isinstance(if_epoch, bool) or not hasattr(if_epoch, "__index__"):
        raise TypeError(f"if_epoch is an int or None, not {type(if_epoch).__name__}")
    number = if_epoch.__index__()
    return number if 0 <= number < MMSB_ANY_EPOCH else MMSB_ANY_EPOCH - 1


cdef class Batch:
    """Operations that become one commit when the `with` block ends; an exception inside discards them all.

    Reads inside the block see committed bytes, except through `read()`, which sees the staged ones. Afterwards `seq`
    is the commit's number (None if it was discarded) and `deltas` its deltas.
    """

    cdef mmsb_batch batch
    cdef readonly Core state
    cdef object source
    cdef bytes label
    cdef bytes intent
    cdef object durability
    cdef readonly object seq
    cdef readonly bint open
    cdef bint propagate       # a wave may follow
    cdef list effects         # (kind, page id, value) for names and metadata, in order
    cdef dict staged          # page id -> (size, index of its first operation, bytes before it)
    cdef list created         # (ids, size, index of the first operation) of create_pages
    cdef dict merges          # semirings of the merge pages that this batch created, by page id
    cdef dict edged           # (child, kind) -> whether this batch links it; if not, it unlinks it
    cdef list edges           # that the graph has taken for a commit that has not succeeded yet
    cdef list rebases         # (index, page, epoch) of operations that may be rebased
    cdef uint64_t first_id, end_id
    cdef bint held            # it is committed or read, and a semiring in Python or another thread may run meanwhile
    cdef public bint _skip_unchanged

    def __cinit__(self, *args, **kwargs):
        mmsb_batch_init(&self.batch, &mmsb_alloc_libc)

    def __dealloc__(self):
        mmsb_batch_release(&self.batch)

    def __init__(self, Core state not None, source=None, label=None, intent=None, durability=None,
                 bint propagate=True):
        self.state = state
        self.propagate = propagate
        self.source = source
        self.durability = durability
        if durability not in (None, "none", "process", "group", "power"):
            raise ValueError(f"Unknown durability {durability!r}. Use 'process', 'group' or 'power'.")
        if label is not None:
            self.label = encode_name(label)
        if intent is not None:
            self.intent = intent if type(intent) is bytes else notes.encode(intent)
        self.effects = []
        self.staged = {}
        self.created = []
        self.merges = {}
        self.edged = {}
        self.rebases = []
        self.seq = None
        self.open = True
        state.leave(state.enter(CLOSED | FORKED | UNWRITABLE))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.commit()
        else:
            self.discard()
        return False

    # ---- gathering

    cdef int check_free(self) except -1:
        """ValueError when nothing can be added any more, or now."""
        if not self.open:
            raise ValueError("the batch is over; begin another one")
        if self.held:
            raise ValueError("a semiring cannot change the batch that it is called for; do it afterwards")
        return 0

    cdef int add(self, mmsb_op *op, bytes name, bytes blob, const uint8_t *data) except -1:
        self.check_free()
        cdef const uint8_t *name_at = NULL if name is None else <const uint8_t *>PyBytes_AS_STRING(name)
        cdef const uint8_t *blob_at = NULL if blob is None else <const uint8_t *>PyBytes_AS_STRING(blob)
        if mmsb_batch_add(&self.batch, op, name_at, blob_at, data) != MMSB_OK:
            raise MemoryError()
        return 0

    cdef uint64_t resolve(self, object page) except 0:
        """Id of a page that exists, or that this batch creates. Deleted in this batch: PageNotFoundError."""
        cdef uint64_t page_id
        if type(page) is Page and (<Page>page).state is self.state:
            page_id = (<Page>page).page_id
        elif isinstance(page, str):
            for kind, staged_id, value in reversed(self.effects):
                if kind == "name" and value == page:
                    page_id = staged_id
                    break
            else:
                page_id = self.state.id_of(page)
        elif (self.staged or self.created) and type(page) is int and self.staged_entry(page) is not None:
            page_id = page
        else:
            page_id = self.state.id_of(page)
        self.live_size(page_id)
        return page_id

    cdef object staged_entry(self, object page_id):
        """(size, first operation, bytes before it) of a page that this batch created, resized or deleted, else None."""
        entry = self.staged.get(page_id)
        if entry is None:
            for ids, size, first_op in self.created:
                if page_id in ids:
                    return (size, first_op, b"")
        return entry

    cdef uint64_t size_of(self, uint64_t page_id) except? 0:
        if self.staged or self.created:
            entry = self.staged_entry(page_id)
            if entry is not None:
                return entry[0]
        cdef int token = self.state.enter(CLOSED | FORKED)
        try:
            return self.state.header(page_id).size
        finally:
            self.state.leave(token)

    cdef int check_range(self, uint64_t page_id, uint64_t offset, uint64_t length) except -1:
        cdef uint64_t size = self.size_of(page_id)
        if offset > size or length > size - offset:
            raise errors.PageRangeError(
                f"Bytes {offset} to {offset + length} lie outside page {page_id} of {size} bytes. "
                "Write inside the page, or resize it first.",
                page_id=page_id, at=offset, length=length, size=size)
        return 0

    cdef Semiring merge_of(self, uint64_t page_id):
        """The semiring of a merge page, None for any other."""
        if mmsb_arena_header(&self.state.core.arena, page_id) == NULL:
            return self.merges.get(page_id)  # it exists in this batch only
        return self.state.merge_of(page_id)

    cdef int check_merge(self, uint64_t page_id, uint64_t offset, uint64_t length, if_epoch) except -1:
        """MergePageError when a write to a merge page is not whole lanes, or asks for an epoch."""
        cdef Semiring semiring = self.merge_of(page_id)
        if semiring is None:
            return 0
        if if_epoch is not None:
            raise errors.MergePageError(
                f"Page {page_id} merges what is written, at whatever epoch it is. Leave if_epoch out.",
                page_id=page_id, reason="if_epoch")
        if offset % semiring.row.lane_bytes or length % semiring.row.lane_bytes:
            self.state.fail(MMSB_BAD_LANES, page_id, offset, length)
        return 0

    def write(self, page, data, at=0, if_epoch=None, bint rebase=False):
        """Stages bytes-like `data` at byte `at` of a page. Arguments and errors as Page.write."""
        self.stage_write(page, data, at, if_epoch, rebase, False)

    def assign(self, page, data, at=0):
        """Stages bytes-like `data` at byte `at` of a page, which overwrites what is there, also in a merge page."""
        self.stage_write(page, data, at, None, False, True)

    cdef int stage_write(self, page, data, at, if_epoch, bint rebase, bint assigns) except -1:
        cdef mmsb_op op
        cdef Py_buffer buffer
        cdef uint64_t page_id = self.resolve(page)
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_WRITE
        op.page_id = page_id
        op.offset = offset_of(at, page_id)
        op.if_epoch = epoch_of(if_epoch)
        op.assigns = assigns
        take_buffer(data, &buffer)
        try:
            self.check_range(page_id, op.offset, buffer.len)
            if not assigns:
                check_lanes(data, self.merge_of(page_id), page_id)
                self.check_merge(page_id, op.offset, buffer.len, if_epoch)
            op.data_bytes = buffer.len
            if rebase and if_epoch is not None:
                self.rebases.append((mmsb_batch_count(&self.batch), page_id, if_epoch, op.offset, buffer.len))
            self.add(&op, None, None, <const uint8_t *>buffer.buf)
        finally:
            PyBuffer_Release(&buffer)
        return 0

    cdef uint64_t count_plain(self, const uint64_t[::1] ids, const uint64_t[::1] offsets, const uint64_t[::1] lengths,
                              uint64_t i):
        """From the i-th write on: the first that cannot be seen to be right at a glance."""
        cdef uint64_t lane_bytes
        cdef mmsb_page_header *header
        if self.staged or self.created:
            return i
        while i < <uint64_t>ids.shape[0]:
            header = mmsb_arena_header(&self.state.core.arena, ids[i])
            if header == NULL or offsets[i] > header.size or lengths[i] > header.size - offsets[i]:
                break
            if header.kind == MMSB_PAGE_KIND_MERGE:
                if header.merge == 0:
                    break
                lane_bytes = self.state.core.merges[header.merge].lane_bytes
                if offsets[i] % lane_bytes or lengths[i] % lane_bytes:
                    break
            i += 1
        return i

    def write_many(self, ids, offsets, lengths, payload):
        """Stages len(ids) writes at once: the i-th puts the next lengths[i] bytes of `payload` at offsets[i] of page
        ids[i].

        ids, offsets, lengths: one-dimensional, equally long, anything numpy turns into uint64 (scalars for offsets
        and lengths are repeated); payload: bytes-like of sum(lengths) bytes. Everything is checked before anything is
        staged: PageNotFoundError, PageRangeError, InvalidDeltaError.
        """
        import numpy

        id_array = column(ids, "ids")
        cdef uint64_t count = len(id_array)
        cdef const uint64_t[::1] id_view = id_array
        cdef const uint64_t[::1] offset_view = column(offsets, "offsets", count)
        cdef const uint64_t[::1] length_view = column(lengths, "lengths", count)
        cdef const uint8_t[::1] data = as_bytes_like(payload)
        cdef uint64_t i = 0
        cdef Core state = self.state
        self.check_free()
        if count == 0:
            if data.shape[0]:
                raise errors.InvalidDeltaError("There is a payload and no write. Give ids.")
            return
        state.leave(state.enter(CLOSED | FORKED | UNWRITABLE))
        while True:
            i = self.count_plain(id_view, offset_view, length_view, i)
            if i == count:
                break
            # What is not plainly right is checked by itself, with full errors.
            page_id = self.resolve(int(id_view[i]))
            self.check_range(page_id, offset_view[i], length_view[i])
            self.check_merge(page_id, offset_view[i], length_view[i], None)
            i += 1
        if len(state.merges) > 1 and items_of(payload) is not None:
            for one in numpy.unique(id_array).tolist():
                check_lanes(payload, self.merge_of(one), one)
        cdef int status = mmsb_batch_add_writes(&self.batch, &id_view[0], &offset_view[0], &length_view[0], count,
                                                &data[0] if data.shape[0] else NULL, data.shape[0])
        if status == MMSB_BAD_SIZE:
            raise errors.InvalidDeltaError(
                f"The lengths add up to {int(numpy.asarray(length_view).sum())} and the payload has {data.shape[0]} "
                "bytes. Make them equal.")
        if status != MMSB_OK:
            raise MemoryError()

    def apply(self, Delta delta not None, if_epoch=None, bint rebase=False):
        """Stages a delta made elsewhere; bytes that do not change drop out of it."""
        cdef mmsb_op op
        cdef mmsb_delta_view view
        cdef uint64_t page_id = self.resolve(delta.page_id)
        delta.view(&view)
        if view.end > self.size_of(page_id):
            raise errors.InvalidDeltaError(
                f"The delta changes byte {view.end - 1} and page {page_id} has {self.size_of(page_id)} bytes. "
                "Make the delta for a page of this size.", page_id=page_id)
        self.check_merge(page_id, 0, 0, if_epoch)
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_DELTA
        op.page_id = page_id
        op.code = delta.code
        op.if_epoch = epoch_of(if_epoch)
        op.data_bytes = delta.payload_bytes
        if rebase and if_epoch is not None:
            self.rebases.append((mmsb_batch_count(&self.batch), page_id, if_epoch, delta.ranges(), None))
        self.add(&op, None, None, delta.payload_address())

    cdef uint64_t take_ids(self, uint64_t count):
        cdef uint64_t first = max(self.state.ids_end, self.state.core.next_page_id)
        if self.end_id != first:
            self.first_id = first
        self.end_id = self.state.ids_end = first + count
        return first

    def create_page(self, size=None, name=None, metadata=None, data=None, location="cpu", merge=None, dtype=None):
        """Stages a new page: `size` bytes (default: those of `data`), zero beyond `data`. Returns its Page.

        `merge`, `dtype`: a merge page; beyond `data` its lanes are the semiring's zero.
        """
        cdef mmsb_op op
        cdef bytes content = None
        cdef Semiring semiring = self.state._merge_semiring(merge, dtype)
        cdef bytes encoded_name = None if name is None else encode_name(name)
        cdef bytes blob = encode_metadata(self.state._merge_metadata(metadata, semiring))
        self.state._check_location(location)
        if data is not None:
            content = bytes(as_bytes_like(data))
            if size is None:
                size = len(content)
        cdef uint64_t bytes_of_page = page_size(size)
        if content is not None and <uint64_t>len(content) > bytes_of_page:
            raise errors.PageSizeError(
                f"The data has {len(content)} bytes and the page {bytes_of_page}. Make the page larger.", size=size)
        if semiring is not None:
            if data is not None:
                check_lanes(data, semiring, None)
            content = self.neutral(semiring, content or b"", bytes_of_page)
        if name is not None:
            self.check_name(name, 0)
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_CREATE
        op.size = bytes_of_page
        op.count = 1
        op.name_bytes = 0 if encoded_name is None else <uint32_t>len(encoded_name)
        op.metadata_bytes = 0 if blob is None else <uint32_t>len(blob)
        op.data_bytes = 0 if content is None else <uint64_t>len(content)
        if semiring is not None:
            op.page_kind = MMSB_PAGE_KIND_MERGE
            op.code = self.state.merge_place(semiring)
        op.page_id = self.take_ids(1)
        self.add(&op, encoded_name, blob,
                 NULL if content is None else <const uint8_t *>PyBytes_AS_STRING(content))
        self.staged[op.page_id] = (bytes_of_page, mmsb_batch_count(&self.batch), content or b"")
        if semiring is not None:
            self.merges[op.page_id] = semiring
        if name is not None:
            self.effects.append(("name", op.page_id, name))
        if blob is not None:
            self.effects.append(("metadata", op.page_id, blob))
        return Page.make(self.state, op.page_id)

    cdef bytes neutral(self, Semiring semiring, bytes content, uint64_t size):
        """The content of a merge page of `size` bytes: zeros of the semiring after `content`. MergePageError."""
        cdef uint64_t lane_bytes = semiring.row.lane_bytes
        if size % lane_bytes or len(content) % lane_bytes:
            raise errors.MergePageError(
                f"{len(content)} of {size} bytes are no whole lanes of {semiring.name} over {semiring.dtype}. "
                f"Use multiples of {lane_bytes}.", page_id=None, size=size, reason="the size is no whole lanes")
        if 0 < self.state.core.arena.max_bytes < size:  # seen now, for its bytes are made before any of them is kept
            self.state.fail(MMSB_ARENA_FULL, 0, 0, 0)
        return content + semiring.row.zero.bytes[:lane_bytes] * ((size - len(content)) // lane_bytes)

    def create_pages(self, count, size):
        """Stages `count` unnamed zero pages of `size` bytes. Returns their ids (range)."""
        cdef mmsb_op op
        if isinstance(count, bool) or not hasattr(count, "__index__"):
            raise TypeError(f"a count is an int, not {type(count).__name__}")
        if not 1 <= count <= PAGES_AT_ONCE_MOST:
            raise errors.PageSizeError(f"Cannot create {count} pages. Use 1 to {PAGES_AT_ONCE_MOST}.", size=count)
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_CREATE
        op.size = page_size(size)
        op.count = count
        op.page_id = self.take_ids(op.count)
        self.add(&op, None, None, NULL)
        pages = range(op.page_id, op.page_id + op.count)
        self.created.append((pages, op.size, mmsb_batch_count(&self.batch)))
        return pages

    def resize(self, page, size):
        """Stages another size for a page; new bytes are zero."""
        cdef mmsb_op op
        cdef uint64_t page_id = self.resolve(page)
        cdef uint64_t new_size = page_size(size)
        if self.state._links:
            self.state._check_resize(page_id, self.links_of(page_id))
        before = self.read(page_id, 0, min(self.size_of(page_id), new_size))
        cdef Semiring semiring = self.merge_of(page_id)
        cdef bytes after = b"" if semiring is None else self.neutral(semiring, before, new_size)
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_RESIZE
        op.page_id = page_id
        op.size = new_size
        self.add(&op, None, None, NULL)
        self.staged[page_id] = (new_size, mmsb_batch_count(&self.batch), before)
        self.effects.append(("resize", page_id, None))
        if <uint64_t>len(after) > <uint64_t>len(before):
            self.assign(page_id, after[len(before):], len(before))

    def delete_page(self, page, *, bint detach=False):
        """Stages the deletion of a page. PageHasEdgesError when others depend on it or it on others, unless `detach`:
        then these links go too.
        """
        cdef mmsb_op op
        cdef uint64_t page_id = self.resolve(page)
        for child, link in self.links_of(page_id):
            if not detach:
                self.refuse_edges(page_id)
            self._unlink(child, link.kind, () if child == page_id or link.kind == "data" else (page_id,))
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = MMSB_OP_DELETE
        op.page_id = page_id
        self.add(&op, None, None, NULL)
        self.staged[op.page_id] = (0, 0, b"")
        self.effects.append(("delete", op.page_id, None))

    cdef int add_note(self, uint8_t kind, uint64_t page_id, bytes blob) except -1:
        """An operation on a page that is nothing but bytes."""
        cdef mmsb_op op
        memset(&op, 0, sizeof(mmsb_op))
        op.kind = kind
        op.page_id = page_id
        op.data_bytes = len(blob)
        return self.add(&op, None, None, <const uint8_t *>PyBytes_AS_STRING(blob))

    cdef list links_of(self, uint64_t page_id):
        """(child, link) of the links that a page is in after what this batch has unlinked."""
        cdef list found = []
        if not self.state._links:
            return found
        for child, link in self.state._links.touching(page_id):
            gone = [parents for kind, page, value in self.effects if kind == "unlink" and page == child
                    for unlinked, parents in (value,) if unlinked == link.kind]
            if () not in gone and (child == page_id or not any(page_id in parents for parents in gone)):
                found.append((child, link))
        return found

    cdef refuse_edges(self, uint64_t page_id):
        raise errors.PageHasEdgesError(
            f"Page {page_id} has edges. Remove them with state.undepend(), or pass detach=True.",
            page_id=page_id, parents=self.state._graph_parents(page_id), children=self.state._graph_children(page_id))

    def depend(self, child, on, fn=None, *, kind="data", link=None, dtype=None, shape=None):
        """Stages that page `child` depends on the pages in `on`, as State.depend does; pages of this batch may be among
        them. The wave that computes it follows the commit. Errors as there; once per page and kind, and what closes a
        cycle together with edges that this batch removes is a cycle. A page that is computed already: LinkError.
        """
        cdef uint64_t child_id = self.resolve(child)
        parents = tuple([self.resolve(parent) for parent in several(on)])
        wanted, call = self.state._make_link(child_id, parents, fn, kind, link, dtype, shape, self.live_size)
        self.check_once(child_id, kind, kind == "data")
        self.state._need_engine().fit(child_id, wanted, call, self.live_size)
        if kind == "data":
            self.state._check_free(child_id, wanted, child_id in self.merges)
        self._link(child_id, wanted, call)

    def undepend(self, child, on=None, *, kind="data"):
        """Stages that a page no longer depends on others, as State.undepend does; then it may be written."""
        cdef uint64_t child_id = self.resolve(child)
        parents = tuple([self.resolve(parent) for parent in several(on)])
        self.check_once(child_id, kind, True)
        self.state._check_unlink(child_id, kind, parents)
        self._unlink(child_id, kind, () if kind == "data" else parents)

    cdef int check_once(self, uint64_t child, kind, bint alone) except -1:
        """LinkError when this batch has changed a page's edges of a kind already; those that come may gather, unless
        `alone`."""
        comes = self.edged.get((child, kind))
        if comes is not None and (alone or not comes):
            raise self.state._refused(child, (), f"this batch has changed its {kind} edges already. Use another batch")
        return 0

    cpdef uint64_t live_size(self, uint64_t page_id) except 0:
        """Bytes of a page as this batch leaves it. PageNotFoundError."""
        cdef uint64_t size = self.size_of(page_id)
        if size == 0:
            raise errors.PageNotFoundError(f"Page {page_id} was deleted earlier in this batch.", page=page_id)
        return size

    def _link(self, child, link, call=None):
        """Stages that page `child` depends on others by `link` (mmsb.links.Link), which the commit checks; `call`: its
        function, dtype and shape."""
        cdef uint64_t page_id = self.resolve(child)
        self.state._need_engine()
        self.add_note(MMSB_OP_LINK, page_id, link.encode())
        self.effects.append(("link", page_id, (link, call)))
        self.edged[page_id, link.kind] = True

    def _unlink(self, child, kind, parents=()):
        """Stages the end of such a link."""
        cdef uint64_t page_id = self.resolve(child)
        self.add_note(MMSB_OP_UNLINK, page_id, links.encode_unlink(kind, parents))
        self.effects.append(("unlink", page_id, (kind, parents)))
        self.edged[page_id, kind] = False

    def rename(self, page, name):
        """Stages another name for a page, or none (None)."""
        cdef bytes encoded = b"" if name is None else encode_name(name)
        cdef uint64_t page_id = self.resolve(page)
        if name is not None:
            self.check_name(name, page_id)
        self.add_note(MMSB_OP_RENAME, page_id, encoded)
        self.effects.append(("name", page_id, name))

    def set_metadata(self, page, value):
        """Stages new metadata for a page, replacing all of it (a mapping; empty: none)."""
        cdef uint64_t page_id = self.resolve(page)
        cdef bytes blob = encode_metadata(self.state._merge_metadata(value, self.merge_of(page_id))) or b""
        self.add_note(MMSB_OP_METADATA, page_id, blob)
        self.effects.append(("metadata", page_id, blob))

    cdef int check_name(self, object name, uint64_t page_id) except -1:
        """DuplicateNameError when another page would have the name at this point of the batch."""
        holder = self.state._names.get(name)
        for kind, staged_id, value in self.effects:
            if kind == "name" and value == name:
                holder = staged_id
            elif staged_id == holder and kind in ("name", "delete"):
                holder = None
        if holder is not None and holder != page_id:
            raise errors.DuplicateNameError(
                f"Page {holder} is named {name!r} already. Choose another name, or rename that page first.",
                name=name, page_id=holder)
        return 0

    def read(self, page, at=0, length=None):
        """Copies bytes of a page as this batch has staged them (bytes). PageRangeError outside the page."""
        cdef uint64_t page_id = self.resolve(page)
        cdef uint64_t offset = offset_of(at, page_id)
        cdef uint64_t size = self.size_of(page_id)
        cdef uint64_t count = (size - offset if offset <= size else 0) if length is None else offset_of(length, page_id)
        cdef uint64_t first_op = 0
        self.check_range(page_id, offset, count)
        cdef Semiring semiring = self.merge_of(page_id)
        if semiring is not None:
            return self.read_merged(page_id, semiring)[offset:offset + count]
        entry = self.staged_entry(page_id)
        if entry is None:
            content = bytearray(Page.make(self.state, page_id).read(offset, count))
        else:
            first_op = entry[1]
            content = bytearray(entry[2][offset:offset + count])
            content.extend(bytes(count - len(content)))
        cdef uint8_t[::1] view = content
        if count and mmsb_batch_overlay(&self.batch, page_id, first_op, offset, &view[0], count) != MMSB_OK:
            raise errors.InvalidDeltaError("A staged delta is malformed.", page_id=page_id)
        return bytes(content)

    cdef bytes read_merged(self, uint64_t page_id, Semiring semiring):
        """A merge page as this batch leaves it."""
        size, first_op, before = self.staged_entry(page_id) or (0, 0, None)
        content = bytearray(before if before is not None else Page.make(self.state, page_id).read())
        if len(content) < size:
            content.extend(bytes(size - len(content)))
        cdef uint8_t[::1] view = content
        cdef uint8_t[::1] spare = bytearray(len(content))
        cdef bint held = self.held
        cdef int status
        self.held = True
        try:
            status = mmsb_batch_merge(&self.batch, page_id, first_op, semiring.row, &view[0], view.shape[0], &spare[0])
        finally:
            self.held = held
        if status != MMSB_OK:
            self.state.fail(status, page_id, 0, 0)
        return bytes(content)

    # ---- the end

    def discard(self):
        """Forgets everything; nothing was changed."""
        if self.held:
            raise ValueError("the batch is being committed or read; it cannot be discarded meanwhile")
        self.open = False
        # Ids that nobody has seen committed are given back where no other batch took some after them.
        if self.end_id and self.state.ids_end == self.end_id:
            self.state.ids_end = self.first_id
        mmsb_batch_release(&self.batch)

    def commit(self):
        """Ends the batch as one commit, as leaving the `with` block does. Returns its seq."""
        if self.propagate:
            return self.commit_now()
        with self.state._without_wave():
            return self.commit_now()

    cdef object commit_now(self):
        cdef Core state = self.state
        cdef mmsb_commit_info info
        cdef uint64_t failed = 0
        cdef int status
        self.check_free()
        self.open = False
        self.held = True
        try:
            state.prepare_info(&info, self.source, self.label, self.intent)
            info.skip_unchanged = self._skip_unchanged
            if self.durability == "power" and state.core.active.fd >= 0:  # a State in memory has nothing to sync
                info.sync = True
            while True:
                status = self.attempt(&info, &failed)
                if status == MMSB_NO_SPACE:
                    state._make_room()
                elif status == MMSB_NO_SEMIRING:
                    state._learn_merge(mmsb_batch_op(&self.batch, failed).page_id)
                elif status == MMSB_EPOCH_MISMATCH:
                    self.rebase(failed)
                else:
                    break
            if status < 0:
                state.fail(status, mmsb_batch_op(&self.batch, failed).page_id, 0, 0)
        except BaseException:
            self.held = False
            self.discard()
            raise
        self.held = False
        mmsb_batch_release(&self.batch)
        if status > 0:
            if state.core.touched.size == 0 and self.edged:
                for (_, kind), comes in self.edged.items():
                    if comes and kind == "data":
                        state.touched_hook(<void *>state.engine)  # there is a page to compute, though none was written
                        break
            state.after_commit()
        return self.seq

    cdef int attempt(self, mmsb_commit_info *info, uint64_t *failed) except? -1000:
        """Commits once, names and metadata with it. The status of mmsb_core_commit."""
        cdef Core state = self.state
        cdef int status
        cdef int token = state.enter(CLOSED | FORKED | UNWRITABLE)
        cdef bint short = (not info.sync and mmsb_batch_count(&self.batch) <= SHORT_OPS
                           and self.batch.data.size <= SHORT_BYTES and not state.merges_call
                           and not (self.effects and state.engine is not None) and info.source != NEW_SOURCE)
        # Checking effects may call Python, which lets other threads run.
        cdef bint alone = not short or len(self.effects) != 0
        if alone:
            state.leave(token)
            state.begin_exclusive()
        try:
            if alone:
                state.enter(CLOSED | FORKED | UNWRITABLE)  # once more: who waited may have come after close()
            if self.effects:
                self.check_effects()
            while True:
                if info.sync:
                    # What this commit calls durable includes all before it.
                    state._sync_older_segments()
                if short:
                    status = mmsb_core_commit(&state.core, &self.batch, info, failed)
                    break
                state.gate |= WAVE  # semirings in Python change nothing
                try:
                    if info.source == NEW_SOURCE:
                        state.take_source(info, self.source)
                    with nogil:
                        status = mmsb_core_commit(&state.core, &self.batch, info, failed)
                finally:
                    state.settle_source(info)
                    state.gate &= ~WAVE
                if status != MMSB_NO_SPACE:
                    break
                state._make_room()  # here, where nobody comes between: what was checked holds
            if status > 0:
                self.seq = state.core.seq
                self.apply_effects()
            return status
        finally:
            if self.edges is not None and self.seq is None:
                state._remove_edges(state._need_engine().graph, self.edges)
            self.edges = None
            if alone:
                state.end_exclusive()
            else:
                state.leave(token)

    cdef int check_effects(self) except -1:
        """Names may have been taken, and pages linked, since they were staged."""
        for kind, page_id, value in self.effects:
            if kind == "resize":
                self.state._check_resize(page_id, self.links_of(page_id))
            elif kind == "delete" and self.links_of(page_id):
                self.refuse_edges(page_id)
            elif kind == "unlink":
                self.state._check_unlink(page_id, *value)
        linked = [(page_id, *value) for kind, page_id, value in self.effects if kind == "link"]
        if linked:
            self.edges = (<Engine?>self.state._need_engine()).link_all(linked, self.merges, self.live_size)
        names = {}
        for kind, page_id, value in self.effects:
            if kind == "name" and value is not None:
                names[value] = page_id
        freed = {page_id for kind, page_id, _ in self.effects if kind in ("name", "delete")}
        for name, page_id in names.items():
            holder = self.state._names.get(name)
            if holder is not None and holder != page_id and holder not in freed:
                raise errors.DuplicateNameError(
                    f"Page {holder} is named {name!r} already. Choose another name, or rename that page first.",
                    name=name, page_id=holder)
        return 0

    cdef int apply_effects(self) except -1:
        cdef Core state = self.state
        for kind, page_id, value in self.effects:
            if kind == "name":
                old = state._name_of.pop(page_id, None)
                if old is not None and state._names.get(old) == page_id:
                    del state._names[old]
                if value is not None:
                    state._names[value] = page_id
                    state._name_of[page_id] = value
            elif kind == "metadata":
                state._metadata[page_id] = value
            elif kind == "link":
                state._links.link(page_id, value[0])
            elif kind == "unlink":
                state._links.remove(page_id, *value)
                state._unlinked(page_id, *value)
            elif kind == "delete":
                state._forget_page(page_id)
        return 0

    cdef int rebase(self, uint64_t failed) except -1:
        """The page of operation `failed` moved on: lets it pass if it may be rebased, else raises ConflictError."""
        cdef mmsb_op *op = mmsb_batch_op(&self.batch, failed)
        for index, page_id, epoch, where, length in self.rebases:
            if index == failed:
                ranges = where if length is None else [(where, length)]
                self.state._check_rebase(page_id, epoch, ranges, True)
                op.if_epoch = MMSB_ANY_EPOCH
                return 0
        if op.kind == MMSB_OP_DELTA:
            ranges = []
        else:
            ranges = [(op.offset, op.data_bytes)]
        self.state._check_rebase(op.page_id, op.if_epoch, ranges, False)
        return 0

    @property
    def deltas(self):
        """The deltas of the commit, in order (list); empty before it and after a discarded batch."""
        return [] if self.seq is None else self.state._deltas_of(self.seq)
