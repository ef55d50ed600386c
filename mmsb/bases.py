"""Where rebuilding the past begins: the empty state, a checkpoint, or the image that a bounded history begins with."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from mmsb._core.index import KINDS
from mmsb.errors import CorruptCheckpointError, CorruptLogError, FormatVersionError, RetentionError
from mmsb.linktable import NO_LINKS, Links, StoredLinks

if TYPE_CHECKING:
    from mmsb._core.state import Core
    from mmsb.checkpoint import Image
    from mmsb.segments import Segment
    from mmsb.state import State

IMAGES_BYTES = 256 << 20
BASE_SEQ = attrgetter("base_seq")
LINKED = KINDS["link"] | KINDS["unlink"]
P = ParamSpec("P")
T = TypeVar("T")


class Base(Protocol):
    """A complete state at `seq`."""

    seq: int
    time_ns: int
    branch: int
    next_page_id: int

    def page_ids(self) -> list[int]:
        """Ids of the pages, ascending."""

    def info(self, page_id: int) -> tuple[int, int, int] | None:
        """(size, epoch, kind) of a page, None when there is none."""

    def content(self, page_id: int) -> Any:
        """A page's bytes."""

    def name(self, page_id: int) -> str | None:
        """A page's name."""

    def notes(self, page_id: int) -> bytes | None:
        """A page's encoded metadata."""

    def find(self, name: str) -> int | None:
        """The page of that name."""

    def links(self) -> StoredLinks:
        """The links, as Links.stored gives them."""

    def load_into(self, core: Core) -> None:
        """Makes the state in an empty core."""


class EmptyBase:
    """The state before the first commit."""

    seq = 0
    branch = 0
    next_page_id = 1

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns

    def page_ids(self) -> list[int]:
        """None."""
        return []

    def info(self, page_id: int) -> None:
        """None: there is no page."""

    content = name = notes = info

    def find(self, name: str) -> None:
        """None: there is no page."""

    def links(self) -> StoredLinks:
        """There are none."""
        return NO_LINKS

    def load_into(self, core: Core) -> None:
        """An empty core is this state."""


class ImageBase:
    """A checkpoint."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.seq, self.time_ns, self.branch = image.seq, image.time_ns, image.branch
        self.next_page_id = image.next_page_id
        self.nbytes = sum(page[0] for page in image.pages.values())
        self.by_name = {name: page_id for page_id, name in image.names.items()}

    def page_ids(self) -> list[int]:
        """Ids of the pages, ascending."""
        return self.image.page_ids()

    def info(self, page_id: int) -> tuple[int, int, int] | None:
        """(size, epoch, kind) of a page, None when there is none."""
        page = self.image.page(page_id)
        return page[:3] if page is not None else None

    def content(self, page_id: int) -> Any:
        """A page's bytes."""
        page = self.image.page(page_id)
        return page[3] if page is not None else None

    def name(self, page_id: int) -> str | None:
        """A page's name."""
        return self.image.names.get(page_id)

    def notes(self, page_id: int) -> bytes | None:
        """A page's encoded metadata."""
        return self.image.metadata.get(page_id)

    def find(self, name: str) -> int | None:
        """The page of that name."""
        return self.by_name.get(name)

    def links(self) -> StoredLinks:
        """The links, as Links.stored gives them."""
        return self.image.links

    def load_into(self, core: Core) -> None:
        """Makes the state in an empty core."""
        self.image.load_into(core)


class CoreBase:
    """The core into which a State in memory folds the oldest of its history.

    It moves on when more is folded; then this base is gone.
    """

    def __init__(self, state: State, core: Core) -> None:
        self.state, self.core = state, core
        self.seq, self.time_ns, self.branch = core.seq, core.time_ns, core.branch
        self.next_page_id = core.next_page_id

    def check(self) -> None:
        """Call it with the State's other threads kept out."""
        if self.core.seq != self.seq:
            raise RetentionError(
                f"The history up to seq {self.core.seq} was dropped meanwhile. Open the State with a larger history=.",
                seq=self.seq,
                first_seq=self.core.seq,
            )

    def page_ids(self) -> list[int]:
        """Ids of the pages, ascending."""
        with self.state._exclusive():
            self.check()
            return list(self.core._page_ids())

    def info(self, page_id: int) -> tuple[int, int, int] | None:
        """(size, epoch, kind) of a page, None when there is none."""
        with self.state._exclusive():
            self.check()
            return self.core._page_info(page_id) if self.core._has_page(page_id) else None

    def content(self, page_id: int) -> Any:
        """A copy of a page's bytes."""
        with self.state._exclusive():
            self.check()
            return bytes(self.core._page_bytes(page_id))

    def name(self, page_id: int) -> str | None:
        """A page's name."""
        with self.state._exclusive():
            self.check()
            return self.core._name_of.get(page_id)

    def notes(self, page_id: int) -> bytes | None:
        """A page's encoded metadata."""
        with self.state._exclusive():
            self.check()
            return self.core._metadata.get(page_id)

    def find(self, name: str) -> int | None:
        """The page of that name."""
        with self.state._exclusive():
            self.check()
            return self.core._names.get(name)

    def links(self) -> StoredLinks:
        """The links, as Links.stored gives them."""
        with self.state._exclusive():
            self.check()
            return self.core._links.stored()

    def load_into(self, core: Core) -> None:
        """Copies the state into an empty core."""
        with self.state._exclusive():
            self.check()
            copy_core(self.core, core)


def copy_core(source: Core, target: Core) -> None:
    """Makes the state of one core in an empty one. Keep other threads out of `source`."""
    for page_id in source._page_ids():
        target._load_page(page_id, *source._page_info(page_id), source._page_bytes(page_id))
    for page_id in sorted(source._name_of.keys() | source._metadata.keys()):
        target._load_description(page_id, source._name_of.get(page_id), source._metadata.get(page_id))
    target._links.load(source._links.stored())
    target._set_position(source.seq, source.time_ns, source.branch, source.next_page_id, source.last_crc)


class Bases:
    """The bases of one State. Checkpoints stay loaded, the last used ones, bounded in bytes."""

    def __init__(self, state: State, limit_bytes: int = IMAGES_BYTES) -> None:
        self.state: State = weakref.proxy(state)  # it owns them, by its indexes
        self.limit_bytes = limit_bytes
        self.loaded: OrderedDict[int, ImageBase] = OrderedDict()
        self.unusable: set[int] = set()
        self.listed: tuple[int, list[int]] | None = None  # newest checkpoint when they were listed, and their seqs
        self.lock = threading.Lock()

    def oldest(self) -> Base:
        """The state with which the kept history begins."""
        log = self.state._log
        if log.base is None:
            return EmptyBase(log.created_ns)
        return ImageBase(log.base) if hasattr(log.base, "pages") else CoreBase(self.state, log.base)

    def before(self, seq: int) -> Base:
        """The newest base not after `seq`."""
        first = self.state._log.first_seq
        with self.lock:
            for at in reversed(self.checkpoints()):
                if first <= at <= seq and at not in self.unusable:
                    base = self.load(at)
                    if base is not None:
                        return base
        return self.oldest()

    def checkpoints(self) -> list[int]:
        """Seqs of the checkpoint files, ascending; listed again when this State wrote one."""
        checkpoints = self.state._checkpoints
        if checkpoints is None:
            return []
        newest = checkpoints.last.seq if checkpoints.last is not None else -1
        if self.listed is None or self.listed[0] != newest:
            self.listed = (newest, [seq for seq, _ in self.state._store.checkpoint_paths()])
        return self.listed[1]

    def load(self, seq: int) -> ImageBase | None:
        """A checkpoint, None when it cannot be used."""
        if seq in self.loaded:
            self.loaded.move_to_end(seq)
            return self.loaded[seq]
        try:
            base = ImageBase(self.state._checkpoints.load(seq))
        except (CorruptCheckpointError, FormatVersionError, OSError, KeyError):
            self.unusable.add(seq)  # it costs time, not data: an older one will do
            return None
        self.loaded[seq] = base
        while len(self.loaded) > 1 and sum(kept.nbytes for kept in self.loaded.values()) > self.limit_bytes:
            self.loaded.popitem(last=False)
        return base


def bases_of(state: State) -> Bases:
    """The State's Bases, made when they are first needed."""
    if state._indexes.bases is None:
        state._indexes.bases = Bases(state)
    return state._indexes.bases


def segments_between(log: Any, since: int, until: int) -> list[Segment]:
    """The segments that hold commits since+1..until, ascending."""
    segments = list(log.listed())
    end = bisect_left(segments, until, key=BASE_SEQ)
    if end < len(segments) and segments[end].base_seq <= since:
        return []
    begin = bisect_right(segments, since, 1, max(end, 1), key=BASE_SEQ) - 1
    return segments[begin:end] if end < len(segments) or until > since else []


def plan(state: State, seq: int, *, from_checkpoint: bool = True) -> tuple[Base, list[Segment]]:
    """The newest base not after `seq` (or the oldest one), and the segments between it and `seq`, ascending.

    Those of one moment, although another thread may be forgetting history: where that begins moves on before segments
    go. RetentionError where it has moved beyond `seq`.
    """
    while True:
        base = bases_of(state).before(seq) if from_checkpoint else bases_of(state).oldest()
        if base.seq > seq:
            raise forgotten(seq, base.seq)
        segments = segments_between(state._log, base.seq, seq)
        if state._log.first_seq <= base.seq:
            return base, segments


def while_kept(read: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A function that reads the past of its first argument, begun again where another thread forgets some of it.

    It raises RetentionError where it comes upon what is gone, and only then the result is not that of one moment.
    """

    @wraps(read)
    def again(owner: Any, *arguments: P.args, **options: P.kwargs) -> T:
        begun: int | None = None
        while True:
            try:
                return read(owner, *arguments, **options)
            except RetentionError:
                if begun == (begun := owner._log.first_seq):
                    raise

    return again


class _NoPages:
    """Stands in for a core where only the links of a state are asked for."""

    _notes_marked = 0

    def _flag_page(self, page_id: int, **marks: bool | None) -> None:
        """There is no page."""

    def _forget_touched_page(self, page_id: int) -> None:
        """Nothing was touched."""

    def _touched_pages(self, start: int = 0) -> tuple[int, list[int]]:
        return 0, []

    def _has_page(self, page_id: int) -> bool:
        return True

    def _is_stale(self, page_id: int) -> bool:
        return False


_NO_PAGES = _NoPages()


@while_kept
def links_at(state: State, seq: int) -> Links:
    """The links of the state at `seq`. What is stale there they do not say."""
    base, segments = plan(state, seq)
    links = Links(_NO_PAGES)
    links.load(base.links())
    for segment in segments:
        reader = state._indexes.of(segment, seq)
        first, last = max(base.seq, segment.base_seq) + 1, min(seq, reader.index.seq)
        at = reader.index.next_commit(reader.data, first, last, None, LINKED) if first <= last else None
        while at is not None:
            for change in reader.index.frame(reader.data, at, reader.sources, state).changes():
                if change.kind in ("link", "unlink"):
                    links.describe(change, at)
            at = reader.index.next_commit(reader.data, at + 1, last, None, LINKED) if at < last else None
    return links


@while_kept
def rebuild(
    state: State, seq: int, *, from_checkpoint: bool = False, progress: Callable[[int, int], None] | None = None
) -> Core:
    """A core with the state at `seq`, replayed from the oldest kept state (or from the newest checkpoint before it).

    CorruptLogError when the log is damaged on the way, RetentionError when another thread forgets `seq` meanwhile.
    """
    bases = bases_of(state)
    base = bases.before(seq) if from_checkpoint else bases.oldest()
    core = state.scratch()
    base.load_into(core)
    replay(state, core, seq, progress)
    return core


def forgotten(seq: int, first_seq: int) -> RetentionError:
    """What is raised where a moment or a commit is asked for that the log has lost to a retention rule."""
    return RetentionError(
        f"Seq {seq} is no longer kept: history begins at seq {first_seq}.", seq=seq, first_seq=first_seq
    )


def replay(state: State, core: Core, seq: int, progress: Callable[[int, int], None] | None = None) -> None:
    """Applies the commits after core.seq up to `seq` to a core. `progress(done, total)` counts them by segment.

    CorruptLogError, RetentionError as those of rebuild().
    """
    log, begin = state._log, core.seq
    segments = segments_between(log, core.seq, seq)
    if core.seq > seq or (core.seq < seq and (not segments or segments[0].base_seq > core.seq)):
        raise forgotten(min(core.seq, seq) + 1, log.first_seq)
    for segment in segments:
        cursor = log.cursor(segment)
        if core.seq > segment.base_seq:
            state._indexes.of(segment, core.seq + 1).index.seek(cursor, core.seq + 1)
        core._replay(cursor, seq)
        if core.seq < seq:
            log.check_read(cursor, segment)
        if progress is not None:
            progress(core.seq - begin, seq - begin)
    if core.seq != seq:
        raise CorruptLogError(
            f"The log ends at commit {core.seq} instead of {seq}. Run `mmsb verify` on the store.",
            path=None,
            offset=None,
            seq=core.seq + 1,
            reason="commits are missing",
        )
