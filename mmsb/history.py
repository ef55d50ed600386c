"""Reading the log lazily: commits, a page's deltas, who wrote a byte last, what differs between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsb import metadata
from mmsb._core.delta import Delta
from mmsb._core.index import KINDS
from mmsb._core.pagebuilder import PageBuilder
from mmsb.bases import forgotten, segments_between, while_kept
from mmsb.errors import PageNotFoundError, PageRangeError, RetentionError, UnknownMomentError
from mmsb.past import PastState, at, datetime_of, resolve, time_ns_of, time_seq

if TYPE_CHECKING:
    from mmsb._core.log import Change, Frame
    from mmsb.index import Reader
    from mmsb.pastpage import PastPage
    from mmsb.segments import Segment
    from mmsb.state import State


class Commit:
    """One commit of the log. Immutable."""

    __slots__ = ("_changes", "_frame")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._changes: list[Change] | None = None

    @property
    def seq(self) -> int:
        """Its number."""
        return int(self._frame.seq)

    @property
    def time_ns(self) -> int:
        """Its timestamp, ns since 1970."""
        return int(self._frame.time_ns)

    @property
    def time(self) -> datetime:
        """Its timestamp as an aware datetime (UTC), cut to microseconds."""
        return datetime_of(self.time_ns)

    @property
    def source(self) -> str | None:
        """Who made it."""
        source: str | None = self._frame.source
        return source

    @property
    def branch(self) -> int:
        """Its branch id."""
        return int(self._frame.branch)

    @property
    def nbytes(self) -> int:
        """Bytes of its frame in the log."""
        return int(self._frame.nbytes)

    @property
    def changes(self) -> list[Change]:
        """All it holds, in order: deltas, structural changes, label, intent."""
        if self._changes is None:
            self._changes = self._frame.changes()
        return self._changes

    @property
    def deltas(self) -> list[Delta]:
        """Its deltas, in order of their index."""
        return [change.delta for change in self.changes if change.kind == "delta"]

    @property
    def label(self) -> str | None:
        """Its label."""
        return next((change.text for change in reversed(self.changes) if change.kind == "label"), None)

    @property
    def intent(self) -> dict[str, Any] | None:
        """Its intent metadata."""
        blob = next((change.blob for change in reversed(self.changes) if change.kind == "intent"), None)
        return metadata.decode(blob) if blob is not None else None

    @property
    def cause(self) -> int | None:
        """Of a wave: the commit that it followed. None for any other commit."""
        lag = next((change.page_id for change in self.changes if change.kind == "wave"), None)
        return None if lag is None else self.seq - lag

    def __repr__(self) -> str:
        return f"<Commit {self.seq} source={self.source!r} changes={len(self.changes)}>"


# Changes that a page's history holds.
TOUCHING = frozenset(("delta", "create", "delete", "resize", "rename", "metadata"))


def touches(change: Change, page_id: int) -> bool:
    """Whether a change belongs to the history of a page."""
    if change.kind == "create":
        return bool(0 <= page_id - change.page_id < change.count)
    return change.kind in TOUCHING and change.page_id == page_id


class Filter(NamedTuple):
    """What log() was asked for."""

    page_id: int | None
    source: str | None
    label: str | None
    kinds: int
    kind: str | None

    def fits(self, commit: Commit) -> bool:
        """Whether log() would give this commit, of which the log may not be at hand any more."""
        if self.source is not None and commit.source != self.source:
            return False
        return (
            (self.kind is None or any(change.kind == self.kind for change in commit.changes))
            and (self.label is None or any((c.kind, c.text) == ("label", self.label) for c in commit.changes))
            and (self.page_id is None or any(touches(change, self.page_id) for change in commit.changes))
        )


def filter_of(page_id: int | None, source: str | None, label: str | None, kind: str | None) -> Filter:
    """The Filter of what log() takes. ValueError, TypeError."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"There is no change of kind {kind!r}. Use one of {', '.join(KINDS)}.")
    for what, text in (("source", source), ("label", label)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{what} is a str or None, not {type(text).__name__}")
    return Filter(page_id, source, label, KINDS[kind] if kind is not None else 0, kind)


def _page_id(state: State, page: Any) -> int:
    """The id of a page, also of one that was deleted. PageNotFoundError, TypeError."""
    if hasattr(page, "page_id"):
        return int(page.page_id)
    if isinstance(page, int) and not isinstance(page, bool):
        if not 1 <= page < state.next_page_id:
            raise PageNotFoundError(f"There was never a page with the id {page}.", page=page)
        return page
    return int(state.page_id_of(page))


def _limit(state: State, when: int | str | datetime | None, *, first: bool) -> int:
    """The seq of a `since` (first=True) or `until`; seqs are clipped to the kept history."""
    if when is None:
        return 1 if first else state.seq
    if isinstance(when, datetime):
        time_ns = time_ns_of(when)
        return time_seq(state, time_ns - 1) + 1 if first else time_seq(state, time_ns)
    if isinstance(when, bool) or not (isinstance(when, str) or hasattr(when, "__index__")):
        raise TypeError(f"a moment is a seq, a label or an aware datetime, not {type(when).__name__}")
    return resolve(state, when) if isinstance(when, str) else when.__index__()


def log(
    state: State,
    *,
    page: Any = None,
    source: str | None = None,
    label: str | None = None,
    since: int | str | datetime | None = 1,
    until: int | str | datetime | None = None,
    kind: str | None = None,
) -> Iterator[Commit]:
    """Iterates the kept commits since..until (both included; seqs, labels or aware datetimes), oldest first.

    page: that touch this page. source: made by it. label: with it. kind: with a change of this kind ('delta', 'create',
    'delete', 'resize', 'rename', 'metadata', 'label', 'intent', 'link', 'unlink', 'wave'). Commits that follow the
    start of the iteration are not in it. ValueError for an unknown kind; RetentionError on the way where another thread
    forgets what is still to come.
    """
    wanted = filter_of(None if page is None else _page_id(state, page), source, label, kind)
    first = max(_limit(state, since, first=True), state.first_seq + 1)
    last = min(_limit(state, until, first=False), state.seq)
    return _commits(state, wanted, first, last)


def _commits(state: State, wanted: Filter, first: int, last: int) -> Iterator[Commit]:
    for segment in segments_between(state._log, first - 1, last):
        reader = state._indexes.of(segment, last)
        sources = reader.sources
        ids = [local_id for local_id, name in sources.items() if name == wanted.source]
        if wanted.source is not None and not ids:
            continue
        for seq in _candidates(reader, wanted, ids, max(first, segment.base_seq + 1), min(last, reader.index.seq)):
            frame = reader.index.frame(reader.data, seq, sources, state)
            if wanted.source is not None and frame.source != wanted.source:
                continue
            commit = Commit(frame)
            if wanted.kind is not None and all(change.kind != wanted.kind for change in commit.changes):
                continue
            yield commit


def _candidates(reader: Reader, wanted: Filter, ids: list[int], first: int, last: int) -> Iterator[int]:
    """Seqs of one segment that can fit, ascending: by the filter that leaves the fewest."""
    index, data = reader.index, reader.data
    if wanted.label is not None or wanted.page_id is not None:
        seqs: set[int] | None = None
        if wanted.label is not None:
            seqs = {seq for seq, text in index.labels(data, first, last) if text == wanted.label}
        if wanted.page_id is not None:
            touching = set(index.page_seqs(wanted.page_id, first - 1, last))
            seqs = touching if seqs is None else seqs & touching
        yield from sorted(seqs or ())
    elif wanted.source is None and not wanted.kinds:
        yield from range(first, last + 1)
    else:
        only = ids[0] if wanted.source is not None and len(ids) == 1 else None
        seq = index.next_commit(data, first, last, only, wanted.kinds)
        while seq is not None:
            yield seq
            seq = index.next_commit(data, seq + 1, last, only, wanted.kinds) if seq < last else None


# ---- one page


class Stretch(NamedTuple):
    """The part of a page's history in one segment: its epoch before it, and after it."""

    segment: Segment
    before: int
    after: int
    created: bool


def _stretches(state: State, page_id: int, since: int, until: int, epoch: int) -> Iterator[Stretch]:
    """A page's history after commit `since` in the segments, newest first. `epoch`: the page's after commit `until`.

    `since` is where history began when it was asked: another thread may move that on, and epochs are counted from it.
    """
    for segment in reversed(segments_between(state._log, since, until)):
        reader = state._indexes.of(segment, until)
        touched, created, _, gained, *_ = reader.index.facts(page_id, since, until)
        if touched:
            yield Stretch(segment, epoch - gained, epoch, created)
        epoch -= gained
        if created:
            return


def _newest_epoch(state: State, page_id: int, until: int | None) -> tuple[int, int]:
    """(seq, epoch of the page after it) for the newest seq up to `until`; a deleted page keeps its last epoch."""
    if until is None:
        with state._exclusive():
            until = state.seq
            if state._has_page(page_id):
                return until, int(state._page_info(page_id)[1])
    view = PastState(state, until)
    facts = view._walk(page_id) or view._trace(page_id)
    if facts is None:
        raise PageNotFoundError(f"No page had the id {page_id} up to seq {until}.", page=page_id)
    return until, facts.epoch


def page_history(state: State, page_id: int, *, since_epoch: int = 0, until: int | None = None) -> Iterator[Delta]:
    """Iterates the kept deltas of a page with an epoch above `since_epoch`, oldest first, with their epoch.

    Reads the segments as it goes; only those that hold such deltas. RetentionError as log().
    """
    state._check_open()
    since = state.first_seq
    last, epoch = _newest_epoch(state, page_id, until)
    stretches = []
    for stretch in _stretches(state, page_id, since, last, epoch):
        if stretch.after <= since_epoch:
            break
        stretches.append(stretch)
        if stretch.before <= since_epoch:
            break
    return _deltas(state, page_id, stretches[::-1], since, last, since_epoch)


def _deltas(
    state: State, page_id: int, stretches: list[Stretch], since: int, last: int, since_epoch: int
) -> Iterator[Delta]:
    for stretch in stretches:
        reader = state._indexes.of(stretch.segment, last)
        nodes = reader.index.page_nodes(page_id, since, last)
        epoch = stretch.before
        for place in range(len(nodes) - 1, -1, -1):
            kind = nodes.kind_of(place)
            if kind == "resize":
                epoch += 1
            if kind != "delta":
                continue
            epoch += 1
            if epoch > since_epoch:
                delta: Any = reader.index.delta(reader.data, nodes[place], reader.sources, state)
                delta._set_epoch(epoch)
                yield delta


def epoch_of_delta(state: State, delta: Delta) -> int:
    """The epoch that a committed delta produced."""
    _, epoch = _newest_epoch(state, delta.page_id, resolve(state, delta.seq))
    segment, since = state._log.segment_of(delta.seq), delta.seq - 1
    if since < segment.base_seq:  # another thread has forgotten it
        raise forgotten(delta.seq, state.first_seq)
    index = state._indexes.of(segment, delta.seq).index
    gained = index.facts(delta.page_id, since, delta.seq)[3]
    until_delta = index.delta_gain(delta.page_id, delta.seq, delta.index, since)
    if until_delta is None:
        raise UnknownMomentError(
            f"Commit {delta.seq} has no delta {delta.index} of page {delta.page_id}. The delta is of another State.",
            when=delta.seq,
            seq=state.seq,
        )
    return epoch - int(gained) + int(until_delta)


@while_kept
def page_at_epoch(state: State, page_id: int, epoch: int) -> PastPage:
    """The page right after the change that gave it this epoch (0: as it was created).

    UnknownMomentError when it never had it, RetentionError when that is no longer kept.
    """
    state._check_open()
    since = state.first_seq
    last, newest = _newest_epoch(state, page_id, None)
    if isinstance(epoch, bool) or not hasattr(epoch, "__index__"):
        raise TypeError(f"an epoch is an int, not {type(epoch).__name__}")
    if not 0 <= epoch <= newest:
        raise UnknownMomentError(
            f"Page {page_id} has had the epochs 0 to {newest}, not {epoch}.", when=epoch, seq=state.seq
        )
    oldest = newest
    for stretch in _stretches(state, page_id, since, last, newest):
        oldest = stretch.before
        index = state._indexes.of(stretch.segment, last).index
        if epoch > stretch.before:
            seq, _ = index.epoch_node(page_id, epoch - stretch.before, since, last)
            return _page_inside(state, page_id, epoch, seq)
        if stretch.created:
            return _page_inside(state, page_id, epoch, index.page_seqs(page_id, since, last)[0])
    if epoch == oldest:
        return PastState(state, since).page(page_id)
    raise RetentionError(
        f"Page {page_id} was at epoch {epoch} before seq {since}, where the kept history begins.",
        seq=None,
        first_seq=since,
    )


def _page_inside(state: State, page_id: int, epoch: int, seq: int) -> PastPage:
    """The page at an epoch that a change inside commit `seq` produced. Later changes of the commit are left out."""
    from mmsb.pastpage import PastPage

    view = PastState(state, seq)
    facts = view._walk(page_id)
    if facts is not None and not facts.deleted and facts.epoch == epoch:
        return PastPage(view, page_id)
    reader = state._indexes.of(state._log.segment_of(seq), seq)
    nodes = reader.index.page_nodes(page_id, seq - 1, seq)
    now = facts.epoch if facts is not None else epoch
    skip = 0
    while now > epoch:
        now -= nodes.kind_of(skip) in ("delta", "resize")
        skip += 1
    builder = PageBuilder(page_id)
    before = PastState(state, seq - 1)
    if page_id in before:
        content = before._page_bytes(page_id)
        builder.begin(len(content), content)
    else:  # made in this commit: by a CREATE of its own, or with others
        for _, kind, first, count, size in reader.index.structures(seq - 1, seq):
            if kind == "create" and first <= page_id < first + count:
                builder.begin(size)
    builder.apply(nodes, reader.data, skip)
    content = builder.take()
    view.pinned[page_id] = (len(content), epoch, facts.kind if facts is not None else 0, content)
    return PastPage(view, page_id)


@while_kept
def last_write(state: State, page: Any, at: int = 0, length: int = 1, before: int | None = None) -> Delta | None:
    """The newest Delta (with its `seq`) that changed any of `length` bytes at `at`, in a commit before seq `before`.

    None when no kept delta did: the bytes are as the page was created, resized, or as the kept history begins.
    PageRangeError for an empty or negative range.
    """
    state._check_open()
    page_id = _page_id(state, page)
    if at < 0 or length < 1 or at + length > 1 << 62:
        raise PageRangeError(
            f"Bytes {at} to {at + length} are no range of a page. Give at >= 0 and length >= 1.",
            page_id=page_id,
            at=at,
            length=length,
            size=None,
        )
    until = state.seq if before is None else min(before - 1, state.seq)
    first, end = at, at + length
    for segment in reversed(segments_between(state._log, state.first_seq, until)):
        reader = state._indexes.of(segment, until)
        number, first, end, is_open = reader.index.last_write(reader.data, page_id, until, first, end)
        if number:
            delta = reader.index.delta(reader.data, number, reader.sources, state)
            # The oldest segment may begin with commits that are forgotten.
            return delta if delta is not None and delta.seq > state._log.first_seq else None
        if not is_open:
            return None
    return None


# ---- between two moments


@dataclass(frozen=True)
class PageDifference:
    """How one page differs between moment a and moment b.

    what: 'created', 'deleted' or 'changed'. size, epoch, name: (at a, at b), None where the page was not.
    metadata_changed. delta: turns the bytes at a into those at b, when the sizes are equal and the bytes are not.
    """

    page_id: int
    what: str
    size: tuple[int | None, int | None]
    epoch: tuple[int | None, int | None]
    name: tuple[str | None, str | None]
    metadata_changed: bool = False
    delta: Delta | None = field(default=None)

    @property
    def resized(self) -> bool:
        """Whether the page has another size."""
        return self.what == "changed" and self.size[0] != self.size[1]

    @property
    def renamed(self) -> bool:
        """Whether the page has another name."""
        return self.what == "changed" and self.name[0] != self.name[1]


def diff(state: State, a: int | str | datetime, b: int | str | datetime) -> Iterator[PageDifference]:
    """Iterates what differs between the states at two moments, page by page, ascending by id.

    Only pages that the commits between them touch are looked at. Errors as those of State.at.
    """
    return _differences(state, at(state, a), at(state, b))


def _differences(state: State, old: PastState, new: PastState) -> Iterator[PageDifference]:
    since, until = sorted((old.seq, new.seq))
    touched: set[int] = set()
    for segment in segments_between(state._log, since, until):
        reader = state._indexes.of(segment, until)
        touched |= reader.index.touched(reader.data, since, until)
    old.check()  # another thread may have forgotten some of the segments
    new.check()
    for page_id in sorted(touched):
        found = _difference(old, new, page_id)
        if found is not None:
            yield found


def _difference(old: PastState, new: PastState, page_id: int) -> PageDifference | None:
    sides = []
    for view in (old, new):
        facts = view._walk(page_id)
        sides.append(None if facts is None or facts.deleted else view.page(page_id))
    x, y = sides
    if x is None and y is None:
        return None
    if x is None or y is None:
        page = y if x is None else x
        assert page is not None

        def pair(value: Any) -> Any:
            return (None, value) if x is None else (value, None)

        what = "created" if x is None else "deleted"
        return PageDifference(page_id, what, pair(page.size), pair(page.epoch), pair(page.name))
    same_size = x.size == y.size
    delta = Delta.between(page_id, x.read(), y.read()) if same_size else None
    found = PageDifference(
        page_id,
        "changed",
        (x.size, y.size),
        (x.epoch, y.epoch),
        (x.name, y.name),
        dict(x.metadata) != dict(y.metadata),
        delta,
    )
    differs = found.delta is not None or not same_size or found.renamed or found.metadata_changed
    return found if differs or x.epoch != y.epoch else None


# ---- sums


class Usage(NamedTuple):
    """Sums over commits. log_bytes: of a source, its frames; of a page, its changes."""

    commits: int
    deltas: int
    changed_bytes: int
    log_bytes: int


class Statistics(NamedTuple):
    """Usage by source (None: commits without one) and by page id, in the order of first appearance."""

    by_source: dict[str | None, Usage]
    by_page: dict[int, Usage]


@while_kept
def statistics(state: State, since: int = 1, until: int | None = None) -> Statistics:
    """Sums of the kept commits since..until, exact. One pass over the log; pages made by create_pages count from
    their first own change.
    """
    state._check_open()
    first = max(since, state.first_seq + 1)
    last = state.seq if until is None else min(until, state.seq)
    result = Statistics({}, {})
    for segment in segments_between(state._log, first - 1, last):
        reader = state._indexes.of(segment, last)
        by_source, by_page = reader.index.usage(reader.data, first, last)
        for local_id, *sums in by_source:
            _add(result.by_source, reader.sources.get(local_id), sums)
        for page_id, *sums in by_page:
            _add(result.by_page, page_id, sums)
    return result


def _add(table: dict[Any, Usage], key: Any, sums: list[int]) -> None:
    old = table.get(key, (0, 0, 0, 0))
    table[key] = Usage(*(a + b for a, b in zip(old, sums, strict=True)))
