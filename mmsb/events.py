"""Events: what happened to a State, as records. docs/understand/events.md lists them; mmsb.telling makes them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from mmsb._core.delta import Delta

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass with slots, of which an object is made in half the time.

    The __init__ of a frozen dataclass looks up each slot by name. This one has the slots at hand. It is half of what
    telling an event takes.
    """
    made = dataclass(frozen=True, slots=True)(cls)
    names = [field.name for field in fields(made)]  # type: ignore[arg-type]
    space: dict[str, Any] = {f"set_{name}": getattr(made, name).__set__ for name in names}
    sets = "".join(f"\n    set_{name}(self, {name})" for name in names)
    exec(f"def __init__(self, {', '.join(names)}):{sets}", space)
    made.__init__ = space["__init__"]  # type: ignore[method-assign]
    return made


@record
class Event:
    """What all events have. `seq`: the commit that it belongs to. `source`: who made that; None for waves."""

    seq: int
    source: str | None

    kind: ClassVar[str]

    @property
    def pages(self) -> tuple[int, ...]:
        """The pages by which a subscription with `pages=` finds it."""
        return ()


@record
class PageEvent(Event):
    """An event of one page."""

    page_id: int

    @property
    def pages(self) -> tuple[int, ...]:
        """That page."""
        return (self.page_id,)


@record
class PageCreated(PageEvent):
    """A page was made; the content that it was made with is told by no other event. `size` in bytes."""

    size: int
    name: str | None

    kind = "page_created"


@record
class PageDeleted(PageEvent):
    """A page was deleted."""

    kind = "page_deleted"


@record
class PageChanged(PageEvent):
    """A page changed: once per page and commit. `what`: those of "bytes", "size", "name", "metadata" that did."""

    what: tuple[str, ...]

    kind = "page_changed"


@record
class DeltaApplied(PageEvent):
    """A delta took effect; of several in one commit each, in their order."""

    delta: Delta

    kind = "delta_applied"


@record
class PageInvalidated(PageEvent):
    """A page from which a control or compiler edge leads to this one changed. `edge`: its kind; `parent`: that page."""

    parent: int
    edge: str

    kind = "page_invalidated"


@record
class PageStale(PageEvent):
    """A page is no longer up to date: reading it raises StalePageError until a wave has computed it."""

    reason: str

    kind = "page_stale"


@record
class EdgeEvent(PageEvent):
    """An event of an edge from page `parent` to page `page_id`. `edge`: its kind."""

    parent: int
    edge: str

    @property
    def pages(self) -> tuple[int, ...]:
        """Both ends."""
        return (self.page_id, self.parent)


@record
class EdgeAdded(EdgeEvent):
    """A page depends on another."""

    kind = "edge_added"


@record
class EdgeRemoved(EdgeEvent):
    """A page no longer depends on another."""

    kind = "edge_removed"


@record
class WaveStarted(Event):
    """The commit is a wave: what follows up to its wave_finished was computed. `cause`: the commit that set it off."""

    cause: int

    kind = "wave_started"


@record
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


@record
class DeviceSyncNeeded(PageEvent):
    """Page `parent` changed, from which a device edge leads to this one: its copy on a device is behind."""

    parent: int

    kind = "device_sync_needed"


@record
class DeviceSyncDone(PageEvent):
    """A copy of the page on a device has caught up with commit `seq`; see mmsb.mirror.Mirror."""

    kind = "device_sync_done"


@record
class CheckpointCreated(Event):
    """A checkpoint of the state at `seq` is safe on disk, at `path`."""

    path: str

    kind = "checkpoint_created"


@record
class CompactionDone(Event):
    """History before `first_seq` was forgotten. `bytes_freed`: of files."""

    first_seq: int
    bytes_freed: int

    kind = "compaction_done"


@record
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
