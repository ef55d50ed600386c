"""Stepper: a replica of the whole State that walks through history, one commit forward or back at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsb import metadata
from mmsb._core import undo
from mmsb.bases import forgotten, rebuild, replay
from mmsb.digest import Tree
from mmsb.errors import PageNotFoundError, RetentionError, StateClosedError
from mmsb.links import Link, decode, decode_unlink
from mmsb.past import datetime_of, resolve
from mmsb.pastpage import PastPage

if TYPE_CHECKING:
    from datetime import datetime

    from mmsb._core.delta import Delta
    from mmsb._core.log import Change, Cursor
    from mmsb._core.state import Core
    from mmsb.history import Commit
    from mmsb.state import State

# Undo is kept for so much; a step back beyond it rebuilds one such interval before it.
UNDO_COMMITS = 4096
UNDO_BYTES = 64 << 20


class Position(NamedTuple):
    """Where a core stands in history."""

    seq: int
    time_ns: int
    branch: int
    next_page_id: int
    last_crc: int


class Undo(NamedTuple):
    """What takes one commit back. `deltas`: (inverse, epoch before); `pages`: (id, content, epoch, kind) to put back;
    `created`: ids that must go; `notes`: name and metadata before, by id; `links`: those before, by child and kind.
    """

    before: Position
    deltas: list[tuple[Delta, int]]
    pages: list[tuple[int, bytes, int, int]]
    created: list[range]
    notes: dict[int, tuple[str | None, bytes | None]]
    links: dict[tuple[int, str], Link | None]
    nbytes: int


class Stepper:
    """The State at `seq`, moved by step() and goto(). State-like to read: page(), pages(), digest().

    A page of a Stepper moves with it. Needs memory for a copy of all pages and for the undo of up to 4,096 commits.
    """

    def __init__(self, state: State, seq: int | str | datetime) -> None:
        self.state = state
        self.core: Core = rebuild(state, resolve(state, seq), from_checkpoint=True)
        self.undo: deque[Undo] = deque()
        self.undo_bytes = 0
        self.cursor: Cursor | None = None
        self.tree = Tree()
        self.dirty: set[int] | None = None  # ids since the last digest; None: all
        self.closed = False

    # ---- moving

    @property
    def seq(self) -> int:
        """The commit after which this is the state."""
        return int(self.core.seq)

    def step(self, count: int = 1) -> int:
        """Moves `count` commits forward, or back when negative. Returns the seq.

        UnknownMomentError beyond the head and before 0, RetentionError below the kept history; then nothing moved.
        """
        return self.goto(self.seq + count)

    def goto(self, when: int | str | datetime) -> int:
        """Moves to a seq, label or aware datetime. Returns the seq. Errors as those of State.at."""
        self._check()
        seq = resolve(self.state, when)
        if self.seq < self.state.first_seq:  # the commits after it are gone
            self._rebuild_before(seq)
        if seq > self.seq + UNDO_COMMITS:
            self._forget()
            replay(self.state, self.core, seq)
        while self.seq < seq:
            try:
                self._forward()
            except RetentionError:  # another thread has forgotten them meanwhile
                self._rebuild_before(seq)
        if seq < self.seq - len(self.undo):
            self._rebuild_before(seq)
        while self.seq > seq:
            self._back()
        return self.seq

    def _check(self) -> None:
        if self.closed:
            raise StateClosedError("This stepper is closed. Ask state.stepper() for another.")
        self.state._check_open()

    def _forget(self) -> None:
        self.undo.clear()
        self.undo_bytes = 0
        self.cursor = None
        self.dirty = None

    def _rebuild_before(self, seq: int) -> None:
        """Stands at `seq`, with the undo of what leads there as far as it is kept."""
        self._forget()
        start = max(seq - UNDO_COMMITS // 2, self.state.first_seq)
        self.core = rebuild(self.state, start, from_checkpoint=True)
        while self.seq < seq:
            self._forward()

    def _forward(self) -> None:
        seq = self.seq + 1
        segment = self.state._log.segment_of(seq)
        if segment.base_seq >= seq:
            raise forgotten(seq, self.state.first_seq)
        reader = self.state._indexes.of(segment, seq)
        frame = reader.index.frame(reader.data, seq, reader.sources, self.state)
        record = self._record(frame.changes())
        if self.cursor is None or self.cursor.head is not segment.head or self.cursor.seq != self.seq:
            self.cursor = self.state._log.cursor(segment)
            reader.index.seek(self.cursor, seq)
        else:
            self.cursor.limit(reader.index.offset)
        self.core._replay(self.cursor, seq)
        if self.seq != seq:
            self.state._log.check_read(self.cursor, segment)
        self.undo.append(record)
        self.undo_bytes += record.nbytes
        while len(self.undo) > UNDO_COMMITS or self.undo_bytes > UNDO_BYTES and len(self.undo) > 1:
            self.undo_bytes -= self.undo.popleft().nbytes

    def _record(self, changes: list[Change]) -> Undo:
        """What will take these changes back, read from the pages as they are before them."""
        core = self.core
        before = Position(core.seq, core.time_ns, core.branch, core.next_page_id, core.last_crc)
        record = Undo(before, [], [], [], {}, {}, 0)
        merged: dict[int, Delta] = {}
        replaced: set[int] = set()
        for change in changes:
            page_id = change.page_id
            if change.kind == "create":
                record.created.append(range(page_id, page_id + change.count))
                if change.count == 1:
                    record.notes[page_id] = (None, None)
            elif change.kind == "delta":
                merged[page_id] = merged[page_id].merge(change.delta) if page_id in merged else change.delta
            elif change.kind in ("resize", "delete"):
                replaced.add(page_id)
            elif change.kind in ("link", "unlink"):
                edge = decode(change.blob).kind if change.kind == "link" else decode_unlink(change.blob)[0]
                record.links.setdefault((page_id, edge), core._links.of(page_id, edge))
            if change.kind in ("delete", "rename", "metadata") and page_id not in record.notes:
                record.notes[page_id] = (core._name_of.get(page_id), core._metadata.get(page_id))
        self._touch([*record.created, list(merged), list(replaced), list(record.notes)])
        nbytes = 256
        for page_id, delta in merged.items():
            if page_id not in replaced and core._has_page(page_id):
                inverse = delta.inverse(core._page_bytes(page_id))
                record.deltas.append((inverse, core._page_info(page_id)[1]))
                nbytes += 128 + len(inverse.payload)
        for page_id in sorted(replaced):
            if core._has_page(page_id):
                _, epoch, kind = core._page_info(page_id)
                content = bytes(core._page_bytes(page_id))
                record.pages.append((page_id, content, epoch, kind))
                nbytes += 128 + len(content)
        return record._replace(nbytes=nbytes)

    def _touch(self, groups: list[Any]) -> None:
        if self.dirty is not None:
            for ids in groups:
                self.dirty.update(ids)

    def _back(self) -> None:
        core, record = self.core, self.undo.pop()
        self.undo_bytes -= record.nbytes
        for inverse, epoch in record.deltas:
            undo.undo_delta(core, inverse, epoch)
        for page_id in record.notes:
            core._forget_page(page_id)
        for page_id, (name, notes) in record.notes.items():
            if name is not None:
                core._names[name] = page_id
                core._name_of[page_id] = name
            if notes is not None:
                core._metadata[page_id] = notes
        for page_id, content, epoch, kind in record.pages:
            described = page_id in core._name_of or page_id in core._metadata
            undo.put_page(core, page_id, content, epoch, kind, described)
        for ids in record.created:
            for page_id in ids:
                if core._has_page(page_id):
                    undo.drop_page(core, page_id)
                else:
                    undo.forget_deleted(core, page_id)
        undo.set_position(core, *record.before)
        for (child, edge), link in record.links.items():
            core._links.put(child, edge, link)
        self._touch(
            [
                *record.created,
                [inverse.page_id for inverse, _ in record.deltas],
                [page[0] for page in record.pages],
                list(record.notes),
            ]
        )

    # ---- reading, like a State

    @property
    def time_ns(self) -> int:
        """Timestamp of the commit, ns since 1970."""
        return int(self.core.time_ns)

    @property
    def time(self) -> datetime:
        """The commit's timestamp as an aware datetime (UTC), cut to microseconds."""
        return datetime_of(self.time_ns)

    @property
    def page_count(self) -> int:
        """Number of pages."""
        return int(self.core.page_count)

    def page(self, page: Any) -> PastPage:
        """The page of an id or a name here. PageNotFoundError when there is none."""
        self._check()
        if hasattr(page, "page_id"):
            page = page.page_id
        return PastPage(self, self.core.page_id_of(page))

    def pages(self) -> list[PastPage]:
        """All pages, ascending by id."""
        self._check()
        return [PastPage(self, page_id) for page_id in self.core._page_ids()]

    def __contains__(self, page: object) -> bool:
        try:
            self.page(page)
        except (PageNotFoundError, TypeError):
            return False
        return True

    def commit(self) -> Commit | None:
        """The commit that led here; None at seq 0 and at the oldest kept state."""
        return next(self.state.log(since=self.seq, until=self.seq), None)

    def digest(self) -> bytes:
        """BLAKE3 digest of the state here (32 bytes), equal to the one that the State had then."""
        self._check()
        self.tree.update(self.core, self.dirty)
        self.dirty = set()
        return self.tree.root(self.core.next_page_id, self.core._links.digest_bytes())

    def _page_info(self, page_id: int) -> tuple[int, int, int]:
        self._check()
        info: tuple[int, int, int] = self.core._page_info(page_id)
        return info

    def _page_bytes(self, page_id: int) -> Any:
        self._check()
        return self.core._page_bytes(page_id)

    def _page_name(self, page_id: int) -> str | None:
        self._page_info(page_id)
        name: str | None = self.core._name_of.get(page_id)
        return name

    def _metadata_of(self, page_id: int) -> Mapping[str, Any]:
        self._page_info(page_id)
        return metadata.frozen(self.core._metadata.get(page_id))

    def close(self) -> None:
        """Lets go of the replica and its undo."""
        if not self.closed:
            self._forget()
            self.closed = True
            self.core._close_gate(closed=True)

    def __enter__(self) -> Stepper:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stepper seq={self.seq}{' closed' if self.closed else ''}>"
