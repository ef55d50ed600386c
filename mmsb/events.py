"""Events: what happened to a State, as records. docs/understand/events.md lists them; mmsb.telling makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mmsb._core.delta import Delta


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have. `seq`: the commit that it belongs to. `source`: who made that; None for waves."""

    seq: int
    source: str | None

    kind: ClassVar[str]

    @property
    def pages(self) -> tuple[int, ...]:
        """The pages by which a subscription with `pages=` finds it."""
        return ()


@dataclass(frozen=True, slots=True)
class PageEvent(Event):
    """An event of one page."""

    page_id: int

    @property
    def pages(self) -> tuple[int, ...]:
        """That page."""
        return (self.page_id,)


@dataclass(frozen=True, slots=True)
class PageCreated(PageEvent):
    """A page was made; the content that it was made with is told by no other event. `size` in bytes."""

    size: int
    name: str | None

    kind = "page_created"


@dataclass(frozen=True, slots=True)
class PageDeleted(PageEvent):
    """A page was deleted."""

    kind = "page_deleted"


@dataclass(frozen=True, slots=True)
class PageChanged(PageEvent):
    """A page changed: once per page and commit. `what`: those of "bytes", "size", "name", "metadata" that did."""

    what: tuple[str, ...]

    kind = "page_changed"


@dataclass(frozen=True, slots=True)
class DeltaApplied(PageEvent):
    """A delta took effect; of several in one commit each, in their order."""

    delta: Delta

    kind = "delta_applied"


@dataclass(frozen=True, slots=True)
class PageInvalidated(PageEvent):
    """A page from which a control or compiler edge leads to this one changed. `edge`: its kind; `parent`: that page."""

    parent: int
    edge: str

    kind = "page_invalidated"


@dataclass(frozen=True, slots=True)
class PageStale(PageEvent):
    """A page is no longer up to date: reading it raises StalePageError until a wave has computed it."""

    reason: str

    kind = "page_stale"


@dataclass(frozen=True, slots=True)
class EdgeEvent(PageEvent):
    """An event of an edge from page `parent` to page `page_id`. `edge`: its kind."""

    parent: int
    edge: str

    @property
    def pages(self) -> tuple[int, ...]:
        """Both ends."""
        return (self.page_id, self.parent)


@dataclass(frozen=True, slots=True)
class EdgeAdded(EdgeEvent):
    """A page depends on another."""

    kind = "edge_added"


@dataclass(frozen=True, slots=True)
class EdgeRemoved(EdgeEvent):
    """A page no longer depends on another."""

    kind = "edge_removed"


@dataclass(frozen=True, slots=True)
class WaveStarted(Event):
    """The commit is a wave: what follows up to its wave_finished was computed. `cause`: the commit that set it off."""

    cause: int

    kind = "wave_started"


@dataclass(frozen=True, slots=True)
class WaveFinished(Event):
    """The end of a wave. `changed`: pages that came out different, in the order in which they were computed; `failed`:
    pages that could not be computed, ascending; `partial`: only what one page needed was computed.
    """

    cause: int
    changed: tuple[int, ...]
    failed: tuple[int, ...]
    partial: bool

    kind = "wave_finished"

    @property
    def pages(self) -> tuple[int, ...]:
        """What changed, and what failed."""
        return self.changed + self.failed


@dataclass(frozen=True, slots=True)
class DeviceSyncNeeded(PageEvent):
    """Page `parent` changed, from which a device edge leads to this one: its copy on a device is behind."""

    parent: int

    kind = "device_sync_needed"


@dataclass(frozen=True, slots=True)
class DeviceSyncDone(PageEvent):
    """A copy of the page on a device has caught up with commit `seq`; see mmsb.mirror.Mirror."""

    kind = "device_sync_done"


@dataclass(frozen=True, slots=True)
class CheckpointCreated(Event):
    """A checkpoint of the state at `seq` is safe on disk, at `path`."""

    path: str

    kind = "checkpoint_created"


@dataclass(frozen=True, slots=True)
class CompactionDone(Event):
    """History before `first_seq` was forgotten. `bytes_freed`: of files."""

    first_seq: int
    bytes_freed: int

    kind = "compaction_done"


@dataclass(frozen=True, slots=True)
class Missed(Event):
    """Commits `first` to `last`, both included, were not told to a subscription of a View that fell too far behind.

    It comes in their place whatever the subscription wants to be told. `seq` is `last`, `source` None.
    """

    first: int
    last: int

    kind = "missed"


TYPES: tuple[type[Event], ...] = (
    PageCreated,
    PageDeleted,
    PageChanged,
    PageInvalidated,
    PageStale,
    DeltaApplied,
    EdgeAdded,
    EdgeRemoved,
    WaveStarted,
    WaveFinished,
    DeviceSyncNeeded,
    DeviceSyncDone,
    CheckpointCreated,
    CompactionDone,
)
BY_KIND = {cls.kind: cls for cls in TYPES}
KINDS = tuple(BY_KIND)
# Kinds that the log does not tell, or not of all cases: only the owner of a State hears of them.
OWNERS_KINDS = ("page_stale", "device_sync_done", "checkpoint_created", "compaction_done")
