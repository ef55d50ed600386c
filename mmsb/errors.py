"""Every error that mmsb raises on purpose.

One root, :class:`MMSBError`; each class also derives from the built-in that a Python programmer would catch, carries
its facts as attributes, and its message says what to do next.
"""

from __future__ import annotations

from typing import Any


def described(error: BaseException) -> str:
    """Type and text of an exception, also of one whose text cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


class MMSBError(Exception):
    """Root of all errors of mmsb. Keyword arguments become attributes."""

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)


def _rebuild(cls: type[MMSBError], message: str, facts: dict[str, Any]) -> MMSBError:
    return cls(message, **facts)


class PageNotFoundError(MMSBError, KeyError):
    """No page has this id or name (`page`)."""


class PageRangeError(MMSBError, IndexError):
    """A byte range (`at`, `length`) lies outside the page (`page_id`, `size`)."""


class PageSizeError(MMSBError, ValueError):
    """A page size (`size`) is zero, negative or beyond the limit."""


class DuplicateNameError(MMSBError, ValueError):
    """Another page (`page_id`) has this `name` already."""


class InvalidDeltaError(MMSBError, ValueError):
    """A delta's mask, values and page do not fit together."""


class MetadataError(MMSBError, ValueError):
    """Metadata that is not str to bytes, str, int, float or bool, or an encoding of it that is damaged."""


class ConflictError(MMSBError, RuntimeError):
    """The page moved on since `expected_epoch` (it is at `epoch`).

    `overlaps` lists the (start, end) byte ranges that both sides changed, `deltas` the deltas that made them.
    """


class GraphCycleError(MMSBError, ValueError):
    """An edge from `parent` to `child` would close a cycle. Nothing changed.

    `cycle` lists the page ids along the shortest one, from `parent` on; the last page leads back to the first.
    """


class EdgeExistsError(MMSBError, ValueError):
    """There is an edge of this `kind` from `parent` to `child` already."""


class EdgeNotFoundError(MMSBError, KeyError):
    """There is no edge of this `kind` (None: of any) from `parent` to `child`."""


class PageHasEdgesError(MMSBError, ValueError):
    """The page (`page_id`) has edges: `parents` and `children` say to whom."""


class MissingPackageError(MMSBError, ImportError):
    """What was asked for needs a `package` that is not installed."""


class ArenaFullError(MMSBError, MemoryError):
    """The State's `max_bytes` would be exceeded by `needed_bytes`. Nothing changed."""


class StateClosedError(MMSBError, ValueError):
    """The State was closed; open it again."""


class ForkedStateError(MMSBError, RuntimeError):
    """A handle that was made before fork(), in process `owner_pid`; open or attach anew in the child."""


class ReadOnlyError(MMSBError, PermissionError):
    """The State is open for reading only, or is a view of the past."""


class NotAStoreError(MMSBError, OSError):
    """`path` is not an mmsb store."""


class CorruptLogError(MMSBError, OSError):
    """A file of the store is damaged: `path`, `offset`, `seq` and `reason` say where and how."""


class CorruptCheckpointError(CorruptLogError):
    """A checkpoint is damaged (`path`, `offset`, `reason`)."""


class FormatVersionError(MMSBError, OSError):
    """`path` was written by format `version`; this release reads up to `supported`."""


class StoreLockedError(MMSBError, OSError):
    """Another process (`holder`) has the store at `path` open for writing."""


class AttachError(MMSBError, ConnectionError):
    """The owner refused this process, or the two do not understand each other; `reason` says why."""


class ClientDroppedError(MMSBError, ConnectionError):
    """The owner dropped this client, which did not take its messages or kept its memory for too long."""


class StoreFullError(MMSBError, OSError):
    """The disk or quota is full (`path`, `needed_bytes`), or no number is left for a commit. What was asked for did not
    happen, and may be tried again where there is room by then.
    """


class CommitInDoubtError(MMSBError, OSError):
    """Writing or syncing the log failed (`seq`, `errno`): the commit may or may not survive.

    The writer accepts nothing more. Close the State and open the store again: recovery decides.
    """


class RetentionError(MMSBError, LookupError):
    """`seq` lies before `first_seq`, the oldest state that is kept."""


class UnknownMomentError(MMSBError, LookupError):
    """There is no such seq or label in the history (`when`); its newest commit is `seq`."""


class BusyError(MMSBError, TimeoutError):
    """What was asked for did not happen in time: the owner is busy, all its places for clients are taken, or the ring
    of commands is full.

    `number` is that of a command that was sent and not acknowledged yet; None: nothing was sent.
    """


class OwnerGoneError(MMSBError, ConnectionError):
    """Nobody owns what was asked for (`target`), or the process that did ended or let this client go (`reason`). What
    was sent and not acknowledged may have happened; what was published stays readable in a view.
    """


class RightsError(MMSBError, PermissionError):
    """The owner does not let this client do that (`right`: "change", "create", "delete", or "commands" when it takes
    none; `page_id`). Nothing changed.
    """


class CommandError(MMSBError, ValueError):
    """A command that the owner cannot read (`reason`). Nothing changed."""


class CommandSizeError(MMSBError, ValueError):
    """A command or batch of `size` bytes does not fit the ring, which takes `limit`. Nothing was sent."""


class UnsupportedLocationError(MMSBError, ValueError):
    """No installed device backend offers this `location`."""


class SemiringError(MMSBError, ValueError):
    """A semiring cannot be made like this, or its operands do not fit it (`semiring`, `dtype`, `operand`)."""


class UnknownSemiringError(SemiringError, LookupError):
    """There is no semiring `semiring` over `dtype`."""


class LinkError(MMSBError, ValueError):
    """A page cannot be computed like this (`child`, `parents`, `reason`). Nothing changed."""


class DerivedPageError(MMSBError, ValueError):
    """The page (`page_id`) is computed from others and cannot be written."""


class StalePageError(MMSBError, RuntimeError):
    """The page (`page_id`) is not up to date with what it depends on, and `reason` says why.

    `__cause__` is what its function raised.
    """


class PropagationError(MMSBError, RuntimeError):
    """A function that computes a page tried to change the State, or a wave could not be recorded; the commit before it
    stands, and what depends on it is stale.
    """


class MergePageError(MMSBError, ValueError):
    """What is asked for does not fit a page (`page_id`) that merges what is written to it; `reason` says why."""


class DeviceBufferError(MMSBError, ValueError):
    """A handle (`buffer`) that is none of the device's buffers: it was freed, or never allocated here."""


class PluginError(MMSBError, RuntimeError):
    """A plugin is missing or broken (`plugin`, `reason`)."""


class PluginSpecError(PluginError, ValueError):
    """What a hook returned cannot be used: `field` of a `spec` is `value`."""
