"""What everybody who tells events has in common: reading them from frames of the log, filters, and calling handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from mmsb import links
from mmsb.events import (
    KINDS,
    DeltaApplied,
    DeviceSyncNeeded,
    EdgeAdded,
    EdgeRemoved,
    Event,
    PageChanged,
    PageCreated,
    PageDeleted,
    PageInvalidated,
    PageStale,
    WaveFinished,
    WaveStarted,
)

if TYPE_CHECKING:
    from mmsb._core.log import Change, Frame

# Kinds of edges along which nothing is computed.
TOLD = ("control", "device", "compiler")
ALONG_EDGES = frozenset({"page_invalidated", "device_sync_needed"})
# What of a page a change of the log changes, one bit each, and what page_changed says of a set of them.
WHAT = {"delta": 1, "resize": 2, "rename": 4, "metadata": 8}
CONTENT = WHAT["delta"] | WHAT["resize"]
TOLD_WHAT = [
    tuple(name for bit, name in enumerate(("bytes", "size", "name", "metadata")) if bits >> bit & 1)
    for bits in range(16)
]


def wanted_kinds(kinds: str | Iterable[str]) -> frozenset[str]:
    """The kinds that a subscription names. ValueError for one that there is not."""
    wanted = frozenset([kinds] if isinstance(kinds, str) else kinds)
    unknown = sorted(map(str, wanted.difference(KINDS)))
    if unknown or not wanted:
        raise ValueError(f"Unknown kinds of events {unknown}. Use some of {', '.join(KINDS)}.")
    return wanted


def wanted_source(source: Any) -> str | None:
    """The source that a subscription names. TypeError."""
    if source is not None and not isinstance(source, str):
        raise TypeError(f"source must be a str or None, not {type(source).__name__}")
    return source


class Wish:
    """What a subscription wants to be told, and how that goes.

    `failures` counts what the handler raised, `last_error` is the newest of it.
    """

    def __init__(
        self,
        kinds: frozenset[str],
        handler: Callable[[Any], object] | None,
        pages: frozenset[int] | None,
        source: str | None,
    ) -> None:
        if handler is not None and not callable(handler):
            raise TypeError(f"handler must be callable, not {type(handler).__name__}")
        self.kinds, self.handler, self.pages, self.source = kinds, handler, pages, source
        self.failures = 0
        self.last_error: BaseException | None = None

    def wants(self, event: Event) -> bool:
        """Whether the filters let an event through."""
        return (
            event.kind in self.kinds
            and (self.source is None or event.source == self.source)
            and (self.pages is None or not self.pages.isdisjoint(event.pages))
        )

    def call(self, event: Event) -> BaseException | None:
        """Calls the handler. What it raises is counted, returned, and nobody else's matter."""
        assert self.handler is not None
        try:
            self.handler(event)
        except (Exception, SystemExit) as error:
            self.failures += 1
            self.last_error = error
            return error
        return None


class Edges(Protocol):
    """What a frame does not say about edges by itself."""

    def below(self, page_id: int) -> Iterable[tuple[int, str]]:
        """(child, kind) of the edges of the kinds in TOLD that lead from a page, ascending, kinds in that order."""

    def linked(self, child: int, link: links.Link) -> None:
        """A LINK change."""

    def unlinked(self, child: int, kind: str, parents: tuple[int, ...]) -> Iterable[int]:
        """The parents that an UNLINK change takes from a page; `parents` are those that it names."""


class Teller:
    """Reads the events of commits from their frames, and puts those of `kinds` where somebody wants them."""

    def __init__(self, put: Callable[[Event], object], edges: Edges) -> None:
        self._put, self._edges = put, edges
        self.want(frozenset())

    def want(self, kinds: frozenset[str]) -> None:
        """These are the kinds from now on."""
        self.kinds = kinds
        self._deltas, self._changes = "delta_applied" in kinds, "page_changed" in kinds
        self._along_edges = not ALONG_EDGES.isdisjoint(kinds)

    def put(self, event: Event) -> None:
        """Hands on an event that somebody wants."""
        if event.kind in self.kinds:
            self._put(event)

    def read(self, frame: Frame) -> None:
        """Hands on the events of one commit, in their order."""
        seq, source = frame.seq, frame.source
        changes = frame.changes()
        wave, cause = None, 0
        for change in changes:
            if change.kind == "wave":
                wave, cause = change.blob, seq - change.page_id
                self.put(WaveStarted(seq, source, cause))
                break
        changed: dict[int, int] = {}
        fresh = set()
        for change in changes:
            page_id, kind = change.page_id, change.kind
            bit = WHAT.get(kind)
            if bit is not None:
                changed[page_id] = changed.get(page_id, 0) | bit
                if self._deltas and kind == "delta":
                    self._put(DeltaApplied(seq, source, page_id, change.delta))
            elif kind == "create":
                for new in range(page_id, page_id + change.count):
                    fresh.add(new)
                    self.put(PageCreated(seq, source, new, change.size, change.text))
            elif kind == "delete":
                fresh.add(page_id)
                self.put(PageDeleted(seq, source, page_id))
            elif kind in ("link", "unlink"):
                self.read_edges(seq, source, change)
        if self._changes:
            for page_id, bits in changed.items():
                if page_id not in fresh:
                    self._put(PageChanged(seq, source, page_id, TOLD_WHAT[bits]))
        if self._along_edges:
            for page_id, bits in changed.items():
                if page_id not in fresh and bits & CONTENT:
                    self.read_below(seq, source, page_id)
        if wave is not None:
            failed, _, partial = links.decode_wave(wave)
            for page_id in sorted(failed):
                self.put(PageStale(seq, source, page_id, failed[page_id]))
            self.put(WaveFinished(seq, source, cause, tuple(changed), tuple(sorted(failed)), partial))

    def read_edges(self, seq: int, source: str | None, change: Change) -> None:
        """What a LINK or UNLINK change says of edges."""
        child = change.page_id
        if change.kind == "link":
            link = links.decode(change.blob)
            self._edges.linked(child, link)
            for parent in dict.fromkeys(link.parents):
                self.put(EdgeAdded(seq, source, child, parent, link.kind))
        else:
            kind, parents = links.decode_unlink(change.blob)
            for parent in self._edges.unlinked(child, kind, parents):
                self.put(EdgeRemoved(seq, source, child, parent, kind))

    def read_below(self, seq: int, source: str | None, page_id: int) -> None:
        """What a page's change means for those that depend on it otherwise than by data."""
        for child, kind in self._edges.below(page_id):
            if kind == "device":
                self.put(DeviceSyncNeeded(seq, source, child, page_id))
            else:
                self.put(PageInvalidated(seq, source, child, page_id, kind))
