"""PastState: the State as it was after one commit. A page is rebuilt when it is read, from its own changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mmsb import metadata
from mmsb._core.index import COVERED, CREATED, DELETED
from mmsb._core.page import Page
from mmsb._core.pagebuilder import PageBuilder
from mmsb.arguments import is_text
from mmsb.bases import Base, bases_of, forgotten, links_at, plan, rebuild, segments_between, while_kept
from mmsb.errors import (
    CorruptLogError,
    PageNotFoundError,
    ReadOnlyError,
    StateClosedError,
    UnknownMomentError,
)
from mmsb.graph import Graph, add_edges
from mmsb.pagegraph import PageGraph
from mmsb.pastpage import PastPage

if TYPE_CHECKING:
    from mmsb._core.index import Nodes
    from mmsb.history import Commit
    from mmsb.index import Reader
    from mmsb.segments import Segment
    from mmsb.state import State

__all__ = ["PastPage", "PastState", "at", "rebuild", "resolve"]

CONTENTS_BYTES = 64 << 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_NS_MOST = (1 << 64) - 1


class Facts(NamedTuple):
    """A page at one seq. `name_in`, `notes_in`: (segment's Reader, structure) that decided them; None: the base."""

    size: int
    epoch: int
    kind: int
    deleted: bool
    created: bool
    name_in: tuple[Reader, int] | None
    notes_in: tuple[Reader, int] | None


def time_ns_of(moment: datetime) -> int:
    """Nanoseconds since 1970 of an aware datetime, the largest timestamp for one beyond it. ValueError: a naive one."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(
            "A datetime without a time zone is ambiguous. Use an aware one, like datetime.now(timezone.utc)."
        )
    return min((moment - EPOCH) // EPOCH.resolution * 1000, TIME_NS_MOST)


def datetime_of(time_ns: int) -> datetime:
    """The aware datetime (UTC) of a timestamp, cut to microseconds."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).replace(microsecond=time_ns % 10**9 // 1000)


@while_kept
def label_seq(state: State, label: str, until: int | None = None) -> int | None:
    """The newest commit with a label (up to `until`), None when no kept commit has it."""
    until = state.seq if until is None else until
    for segment in reversed(segments_between(state._log, -1, until)):
        reader = state._indexes.of(segment, until)
        found: int | None = reader.index.find_label(reader.data, label, until)
        if found is not None:
            return found
    kept = [seq for seq, text in getattr(state._log.base, "labels", ()) if text == label]
    return max(kept, default=None)


@while_kept
def time_seq(state: State, time_ns: int) -> int:
    """The last commit not after a time. A time before the kept history gives one less than its first seq."""
    head = state.seq
    for segment in reversed(segments_between(state._log, -1, head)):
        if segment.head.base_time_ns > time_ns:
            continue
        reader = state._indexes.of(segment, head)
        return min(head, reader.index.seq_at(reader.data, time_ns))
    base = bases_of(state).oldest()
    return base.seq if base.seq == 0 or base.time_ns <= time_ns else base.seq - 1


def resolve(state: State, when: int | str | datetime) -> int:
    """The seq that an int, label or aware datetime stands for.

    UnknownMomentError beyond the head and for an unknown label, RetentionError below the kept history, ValueError for
    a naive datetime, TypeError for anything else.
    """
    seq: int | None
    if isinstance(when, str):
        seq = label_seq(state, when) if is_text(when) else None
        if seq is None:
            raise UnknownMomentError(
                f"No commit is labelled {when!r}. Look at `mmsb log` for the labels.", when=when, seq=state.seq
            )
    elif isinstance(when, datetime):
        seq = time_seq(state, time_ns_of(when))
    elif isinstance(when, bool) or not hasattr(when, "__index__"):
        raise TypeError(f"a moment is a seq, a label or an aware datetime, not {type(when).__name__}")
    else:
        seq = when.__index__()
    if seq < 0 or seq > state.seq:
        raise UnknownMomentError(
            f"There is no seq {seq}: history goes from {state._log.first_seq} to {state.seq}.", when=when, seq=state.seq
        )
    if seq < state._log.first_seq:
        raise forgotten(seq, state._log.first_seq)
    return seq


def at(state: State, when: int | str | datetime) -> PastState:
    """The State as it was at a seq, label or aware datetime; see resolve() for the errors."""
    return PastState(state, resolve(state, when))


class PastState:
    """The State as it was after commit `seq`: pages(), page(), digest(), log(), with the same meaning as there.

    Everything is read from the log when it is asked for. Changing anything raises ReadOnlyError. It needs the State
    that it came from to stay open.
    """

    def __init__(self, state: State, seq: int) -> None:
        self.state = state
        self.seq = seq
        self.closed = False
        self.contents: OrderedDict[int, bytes] = OrderedDict()
        self.contents_bytes = 0
        self.pinned: dict[int, tuple[int, int, int, bytes]] = {}  # pages shown at an epoch inside the commit
        self.planned = self.plan()
        self.known: tuple[int, Facts | None] = (0, None)  # the page walked last: who asks once asks again

    @property
    def _log(self) -> Any:
        return self.state._log

    def plan(self) -> tuple[Base, list[Segment]]:
        """The base, and the segments between it and `seq`, ascending."""
        return plan(self.state, self.seq)

    def opened(self) -> tuple[Base, Iterator[Reader]]:
        """What to read: the base and the segments after it, newest first. Errors as those of check()."""
        self.check()
        base, segments = self.planned
        return base, self.readers(segments)

    def readers(self, segments: list[Segment]) -> Iterator[Reader]:
        """Readers of segments, newest first, each up to the last commit that is wanted of it."""
        end = self.seq
        for segment in reversed(segments):
            yield self.state._indexes.of(segment, end)
            end = segment.base_seq

    def check(self) -> None:
        """Raises when this was closed, the State was closed, or its history was cut."""
        if self.closed:
            raise StateClosedError("This view of the past is closed. Ask state.at() for another.")
        self.state._check_open()
        first_seq = self.state._log.first_seq
        if first_seq > self.seq:
            raise forgotten(self.seq, first_seq)
        if first_seq > self.planned[0].seq:
            self.planned = self.plan()

    # ---- facts of the state

    @property
    @while_kept
    def time_ns(self) -> int:
        """Timestamp of the commit, ns since 1970; at seq 0 that of the State's creation."""
        base, readers = self.opened()
        for reader in readers:
            return int(reader.index.time_of(reader.data, self.seq))
        return base.time_ns

    @property
    def time(self) -> datetime:
        """The commit's timestamp as an aware datetime (UTC), cut to microseconds."""
        return datetime_of(self.time_ns)

    @property
    @while_kept
    def branch(self) -> int:
        """Branch id of the commit."""
        base, readers = self.opened()
        for reader in readers:
            return int(reader.index.branch_of(reader.data, self.seq))
        return base.branch

    @property
    @while_kept
    def next_page_id(self) -> int:
        """The id that the next page got after this commit."""
        base, readers = self.opened()
        ends = [base.next_page_id]
        for reader in readers:
            structures = reader.index.structures(base.seq, self.seq)
            ends += [page_id + count for _, kind, page_id, count, _ in structures if kind == "create"]
        return max(ends)

    @while_kept
    def _page_ids(self) -> list[int]:
        base, readers = self.opened()
        ids = set(base.page_ids())
        for reader in reversed(list(readers)):
            for _, kind, page_id, count, _ in reader.index.structures(base.seq, self.seq):
                if kind == "create":
                    ids.update(range(page_id, page_id + count))
                elif kind == "delete":
                    ids.discard(page_id)
        return sorted(ids)

    @property
    def page_count(self) -> int:
        """Number of pages."""
        return len(self._page_ids())

    def __len__(self) -> int:
        return self.page_count

    def digest(self) -> bytes:
        """BLAKE3 digest of the whole state (32 bytes), equal to the one that the State had then."""
        from mmsb.digest import pages_digest

        return pages_digest(self)

    def log(self, **filters: Any) -> Iterator[Commit]:
        """Iterates the commits up to this one; see State.log."""
        until = filters.pop("until", None)
        return self.state.log(until=self.seq if until is None else min(until, self.seq), **filters)

    # ---- pages

    def page(self, page: int | str | Page | PastPage) -> PastPage:
        """The page of an id or a name at that time (or the past of a Page). PageNotFoundError when there was none."""
        return PastPage(self, self.page_id_of(page))

    def pages(self) -> list[PastPage]:
        """All pages, ascending by id."""
        return [PastPage(self, page_id) for page_id in self._page_ids()]

    def __contains__(self, page: object) -> bool:
        try:
            self.page_id_of(page)
        except (PageNotFoundError, TypeError):
            return False
        return True

    def query_page(self, page: int | str | Page | PastPage) -> bytes:
        """A copy of the page's bytes."""
        return self.page(page).read()

    def page_id_of(self, page: Any) -> int:
        """The id of a page that existed at that time. PageNotFoundError, TypeError."""
        if isinstance(page, str):
            page_id = self._find(page) if is_text(page) else None
            if page_id is None:
                raise PageNotFoundError(f"No page was named {page!r} at seq {self.seq}.", page=page)
            return page_id
        if isinstance(page, (Page, PastPage)):
            page = page.page_id
        if isinstance(page, bool) or not hasattr(page, "__index__"):
            raise TypeError(f"a page is given by its id, its name or a Page, not by {type(page).__name__}")
        page_id = page.__index__()
        if not 1 <= page_id < 1 << 63:
            raise PageNotFoundError(f"No page had the id {page_id} at seq {self.seq}.", page=page_id)
        if not self._exists(page_id):
            raise PageNotFoundError(f"No page had the id {page_id} at seq {self.seq}.", page=page_id)
        return page_id

    @while_kept
    def _exists(self, page_id: int) -> bool:
        """Whether there was such a page: the newest segment that touches it tells."""
        base, readers = self.opened()
        for reader in readers:
            there: bool | None = reader.index.has_page(page_id, base.seq, self.seq)
            if there is not None:
                return there
        return base.info(page_id) is not None

    @while_kept
    def _find(self, name: str) -> int | None:
        """The page of a name: the one that was given it last, unless it lost it since."""
        base, readers = self.opened()
        given = (reader.index.find_name(reader.data, name, self.seq) for reader in readers)
        page_id = next((page_id for page_id in given if page_id is not None), None)
        if page_id is None:
            page_id = base.find(name)
        if page_id is None:
            return None
        facts = self._walk(page_id)
        kept = facts is not None and not facts.deleted and self._name_of(facts, page_id) == name
        return page_id if kept else None

    @while_kept
    def _walk(self, page_id: int) -> Facts | None:
        """What base and log say of a page; None when they do not know it."""
        base, readers = self.opened()
        known = self.known
        if known[0] != page_id:
            self.known = known = (page_id, self._walk_all(page_id, base, readers))
        return known[1]

    @while_kept
    def _trace(self, page_id: int) -> Facts | None:
        """As _walk, also of a page that a checkpoint does not know because it was deleted before."""
        base, segments = plan(self.state, self.seq, from_checkpoint=False)
        return self._walk_all(page_id, base, self.readers(segments))

    def _walk_all(self, page_id: int, base: Base, readers: Iterator[Reader]) -> Facts | None:
        size = gained = 0
        deleted = False
        name_in = notes_in = None
        for reader in readers:
            _, created, gone, more, here, kind, name_by, notes_by = reader.index.facts(page_id, base.seq, self.seq)
            gained += more
            deleted = deleted or gone
            size = size or here
            if name_in is None and name_by:
                name_in = (reader, name_by)
            if notes_in is None and notes_by:
                notes_in = (reader, notes_by)
            if created:
                return Facts(size, gained, kind, deleted, True, name_in, notes_in)
        info = base.info(page_id)
        if info is None:
            return None
        return Facts(size or info[0], info[1] + gained, info[2], deleted, False, name_in, notes_in)

    def _facts(self, page_id: int) -> Facts:
        facts = self._walk(page_id)
        if facts is None or facts.deleted:
            raise PageNotFoundError(f"No page had the id {page_id} at seq {self.seq}.", page=page_id)
        return facts

    def _page_info(self, page_id: int) -> tuple[int, int, int]:
        """(size, epoch, kind) of a page. PageNotFoundError."""
        if page_id in self.pinned:
            return self.pinned[page_id][:3]
        facts = self._facts(page_id)
        return facts.size, facts.epoch, facts.kind

    @while_kept
    def _name_of(self, facts: Facts, page_id: int) -> str | None:
        if facts.name_in is None:
            return self.opened()[0].name(page_id)
        reader, structure = facts.name_in
        name: str | None = reader.index.text(reader.data, structure)[0]
        return name

    def _page_name(self, page_id: int) -> str | None:
        return self._name_of(self._facts(page_id), page_id)

    @while_kept
    def _page_notes(self, page_id: int) -> bytes | None:
        """Encoded metadata of a page, None when it has none."""
        facts = self._facts(page_id)
        if facts.notes_in is None:
            return self.opened()[0].notes(page_id)
        reader, structure = facts.notes_in
        notes: bytes | None = reader.index.text(reader.data, structure)[1]
        return notes

    def _page_bytes(self, page_id: int) -> bytes:
        """A page's bytes, rebuilt or remembered."""
        content = self.pinned[page_id][3] if page_id in self.pinned else self.contents.get(page_id)
        if content is not None and not self.closed:
            return content
        content = self._rebuild(page_id)
        self.contents[page_id] = content
        self.contents_bytes += len(content)
        while self.contents_bytes > CONTENTS_BYTES and len(self.contents) > 1:
            self.contents_bytes -= len(self.contents.popitem(last=False)[1])
        return content

    def _size_in(self, page_id: int, last: Reader) -> int:
        """A page's size where a segment ends, or at this seq when it is in it; 0: there was no page."""
        base, readers = self.opened()
        for reader in readers:
            if reader.index.base_seq <= last.index.base_seq:
                size: int = reader.index.facts(page_id, base.seq, self.seq)[4]
                if size:
                    return size
        info = base.info(page_id)
        return info[0] if info is not None else 0

    @while_kept
    def _rebuild(self, page_id: int, size: int = 0) -> bytes:
        """A page's bytes. `size`: its size, 0 when it was not looked up."""
        parts: list[tuple[Nodes, Reader]] = []
        since, left, whole = self.seq, size, False
        base, readers = self.opened()
        for reader in readers:
            if reader.index.base_seq >= since:
                continue  # a still of a newer segment stands for this one's changes
            if not (left or reader.index.still_bytes):
                left = self._size_in(page_id, reader)
            nodes = reader.index.collect(reader.data, page_id, base.seq, self.seq, left)
            parts.append((nodes, reader))
            since, left, end = nodes.since, nodes.size, nodes.end
            if end == DELETED:
                raise CorruptLogError(
                    f"Page {page_id} changes after it was deleted. Run `mmsb verify` on the store.",
                    path=None,
                    offset=None,
                    seq=self.seq,
                    reason="a change of a deleted page",
                )
            whole = end in (CREATED, COVERED)
            if whole or since <= base.seq:
                break
        builder = PageBuilder(page_id)
        info = None if whole else base.info(page_id)
        if whole or info is None:
            builder.begin(left or self._facts(page_id).size)
        else:
            builder.begin(info[0], base.content(page_id))
        for nodes, reader in reversed(parts):
            builder.apply(nodes, reader.data)
        if any(reader.index.wants_stills for _, reader in parts):
            self.state._indexes.add_stills([reader for _, reader in parts])
        content: bytes = builder.take()
        return content

    def _metadata_of(self, page_id: int) -> Mapping[str, Any]:
        return metadata.frozen(self._page_notes(page_id))

    @property
    def graph(self) -> PageGraph:
        """The graph of the pages as it was; see mmsb.pagegraph.PageGraph."""
        self.check()
        graph = Graph()
        links = links_at(self.state, self.seq)
        add_edges(graph, links.edges(links.items()))
        return PageGraph(graph, lambda page: self.page(page).page_id, self._page_name, links.of)

    # ---- leaving, and what cannot be done

    def close(self) -> None:
        """Lets go of the rebuilt pages. Pages of this view raise StateClosedError from now on."""
        self.closed = True
        self.contents.clear()

    def __enter__(self) -> PastState:
        self.check()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """The past cannot be changed: ReadOnlyError."""
        raise ReadOnlyError(f"This is the past (seq {self.seq}). Change the State, or state.fork(at={self.seq}).")

    create_page = create_pages = delete_page = set_metadata = update_page = apply = batch = _refuse

    def __repr__(self) -> str:
        return f"<PastState seq={self.seq}{' closed' if self.closed else ''}>"
