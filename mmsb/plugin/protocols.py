"""What the things that plugins bring must be able to do. `mmsb.testing` has a contract kit for each.

Subclassing a protocol is optional; policies and exporters that do inherit methods that do nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mmsb._core.delta import Delta


class DeviceBackend(Protocol):
    """A device that holds the bytes of pages in buffers of its own. A handle is whatever `allocate` returned.

    Work on one buffer takes effect in the order of the calls. It may still be under way when a call returns, so nothing
    that was passed in is looked at after the call; `download` and `synchronize` wait.
    """

    def can_run(self, op: str) -> bool | str:
        """Whether the device can carry out an operation: True, False, or the reason why not.

        Every backend can run "apply_delta". An operation it has never heard of is one it cannot run, not an error.
        """

    def should_run(self, op: str, nbytes: int) -> bool | str:
        """Whether it pays to do so on a page of `nbytes`: True, False, or the reason why not."""

    def allocate(self, nbytes: int) -> Any:
        """A new buffer of `nbytes` zero bytes. PageSizeError below 1, MemoryError when the device is full."""

    def free(self, buffer: Any) -> None:
        """Gives a buffer back. Using it afterwards, or freeing it twice, raises DeviceBufferError here and below."""

    def upload(self, buffer: Any, data: Any, at: int = 0) -> None:
        """Copies all bytes of `data` (contiguous, host memory) into the buffer. PageRangeError beyond its end."""

    def download(self, buffer: Any, out: Any, at: int = 0) -> None:
        """Fills all of `out` (contiguous, writable, host memory) from the buffer. PageRangeError beyond its end."""

    def apply_delta(self, buffer: Any, delta: Delta) -> None:
        """Writes the delta's values to the bytes of its mask, and no others.

        The delta is encoded: `code` and `payload`, docs/formats/delta.md; `ranges()` and `values` are the same
        decoded. InvalidDeltaError when it ends beyond the buffer, and then nothing was written.
        """

    def synchronize(self) -> None:
        """Returns when everything that was asked for is done. Raises what went wrong meanwhile."""


class Engine(Protocol):
    """What a policy sees of the State it works for."""

    @property
    def pending(self) -> int:
        """Number of changes and new links that no wave has covered. 0: nothing is new."""

    @property
    def changed(self) -> list[int]:
        """Ids of the pages with children that changed since the last propagate(), ascending."""

    @property
    def linked(self) -> list[int]:
        """Ids of the pages that were given a link and have not been computed since."""

    @property
    def waves(self) -> int:
        """Number of waves that have run, whoever started them."""

    def read(self, page_id: int) -> bytes:
        """A page's bytes as they are, stale or not."""

    def propagate(self) -> object:
        """Runs one wave, which covers everything that is pending."""

    def compute(self, page_id: int) -> object:
        """Runs one wave over a stale page and the stale pages that it depends on, and leaves the rest pending. Does
        nothing when that failed before and nothing has changed since.
        """

    def clock(self) -> int:
        """Nanoseconds on the State's clock; never goes back. A policy asks no other clock."""


class Policy(Protocol):
    """Decides when waves run. One object serves one State; calls come one at a time, and no other thread changes the
    State meanwhile.

    Calling `engine.propagate()` and `engine.compute()` is all that a policy may do to a State. After
    `state.propagate()` the pages hold the bytes that the policy `immediate` gives, unless the spec says `lossy`. Errors
    that these calls raise pass through. A policy may have a number `threads`: so many then compute the native links of
    a level that reads `least_bytes` (1 MiB when it has none) or more.
    """

    def after_commit(self, engine: Engine) -> None:
        """A commit changed a page with children or gave a page its link, or came while something was pending. Not
        called after waves. What is pending when this returns makes its children stale.
        """
        return

    def before_read(self, engine: Engine, page_id: int) -> bool | None:
        """A page that is stale is about to be read. True: it may be read as it is, unless it could not be computed.
        Otherwise, and unless a wave has made it up to date, reading it raises StalePageError.
        """
        return None

    def close(self, engine: Engine) -> None:
        """The State closes, or takes another policy; what is pending may run one last time. Nothing is called
        afterwards.
        """
        return


class Semiring(Protocol):
    """(⊕, ⊗, zero, one) over the lanes of a page.

    Buffers are contiguous, at any alignment, and hold whole lanes of `dtype`; `dst` overlaps no other. Those that do
    not fit raise ValueError or TypeError, and nothing changed. Every operation gives the same bits on every machine.
    `laws` names those that hold of lanes in `domain` (both ends included, never NaN): the ones of add's order to the
    bit, the others as numbers; docs/hooks/semirings.md writes them out.
    """

    @property
    def name(self) -> str:
        """As in its spec."""

    @property
    def dtype(self) -> str:
        """The type of its lanes: uint8, int32, int64, float32 or float64."""

    @property
    def laws(self) -> Collection[str]:
        """The laws that hold."""

    @property
    def zero(self) -> int | float:
        """The identity of ⊕."""

    @property
    def one(self) -> int | float:
        """The identity of ⊗."""

    @property
    def domain(self) -> tuple[int | float, int | float]:
        """The least and the greatest lane that the laws are said of."""

    def add(self, dst: Any, x: Any) -> bool:
        """Dst ⊕= x, lane by lane. Returns whether a byte of `dst` changed."""

    def scale(self, dst: Any, weight: Any, x: Any) -> None:
        """Dst = weight ⊗ x. `weight`: a number, or a buffer with one per lane."""

    def accumulate(self, dst: Any, weight: Any, x: Any) -> bool:
        """Dst ⊕= weight ⊗ x. Returns whether a byte of `dst` changed."""

    def fold_add(self, x: Any) -> int | float:
        """⊕ of all lanes in the defined order; `zero` of none."""

    def fold_mul(self, x: Any) -> int | float:
        """⊗ of all lanes in the defined order; `one` of none."""


class Exporter(Protocol):
    """Takes what a State measured to where it is looked at. Nothing it raises reaches the State's user."""

    def metrics(self, values: Mapping[str, int | float], time_ns: int) -> None:
        """Numbers of `state.stats()` by their place, as in "log.bytes", at one moment (nanoseconds since 1970)."""
        return

    def span(self, name: str, begin_ns: int, end_ns: int, attributes: Mapping[str, Any]) -> None:
        """Something that took from `begin_ns` to `end_ns`."""
        return

    def close(self) -> None:
        """Delivers what is left."""
        return
