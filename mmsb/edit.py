"""`page.edit()`: a writable copy whose differences become one delta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsb._core.delta import Delta

if TYPE_CHECKING:
    from mmsb._core.page import Page


class Edit:
    """Context manager. Entered, it is the writable copy; at exit the bytes that differ are committed as one delta;
    on a merge page the lanes that differ are joined with those of the page.

    After the block `delta` is that Delta, or None when nothing differs. An exception inside discards the copy.
    """

    def __init__(self, page: Page, dtype: Any, shape: Any, source: str | None, intent: dict[str, Any] | None) -> None:
        self.page = page
        self.dtype = dtype
        self.shape = shape
        self.source = source
        self.intent = intent
        self.delta: Delta | None = None

    def __enter__(self) -> Any:
        with self.page.state._exclusive():
            self.before = self.page.read()
            self.epoch = self.page.epoch
        self.copy = bytearray(self.before)
        if self.dtype is None:
            return memoryview(self.copy)
        import numpy

        array = numpy.frombuffer(self.copy, self.dtype)
        return array if self.shape is None else array.reshape(self.shape)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            return
        state = self.page.state
        if self.page.merge is not None:
            self.delta = self.merge()
            return
        delta = Delta.between(self.page.page_id, self.before, self.copy)
        if delta is None:
            return
        self.delta = state.apply(delta, source=self.source, intent=self.intent, if_epoch=self.epoch, rebase=True)

    def merge(self) -> Delta | None:
        """Joins the lanes that differ with those of a merge page, whatever others made of them meanwhile."""
        import numpy

        lane_bytes = numpy.dtype(self.page.merge[1]).itemsize if self.page.merge is not None else 1
        before, after = (numpy.frombuffer(data, "u1").reshape(-1, lane_bytes) for data in (self.before, self.copy))
        lanes = numpy.flatnonzero((before != after).any(axis=1))
        if not lanes.size:
            return None
        ranges = [(lane * lane_bytes, lane_bytes) for lane in lanes.tolist()]
        delta = Delta.from_ranges(self.page.page_id, ranges, after[lanes].tobytes())
        return self.page.state.apply(delta, source=self.source, intent=self.intent)
