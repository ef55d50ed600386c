"""`page.edit()`: a writable copy whose differences become one delta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsb._core.delta import Delta

if TYPE_CHECKING:
    from mmsb._core.page import Page


class Edit:
    """Context manager. Entered, it is the writable copy; at exit the bytes that differ are committed as one delta.

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
        delta = Delta.between(self.page.page_id, self.before, self.copy)
        if delta is None:
            return
        state = self.page.state
        self.delta = state.apply(delta, source=self.source, intent=self.intent, if_epoch=self.epoch, rebase=True)
