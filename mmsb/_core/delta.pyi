from collections.abc import Iterable, Mapping
from typing import Any

RANGE_END_MOST: int

class Delta:
    page_id: int
    seq: int
    index: int
    timestamp_ns: int
    source: str | None
    code: int
    @staticmethod
    def from_ranges(
        page_id: int,
        ranges: Iterable[tuple[int, int]],
        values: Any,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
    ) -> Delta: ...
    @staticmethod
    def from_mask(
        page_id: int,
        mask: Iterable[Any],
        values: Any,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
    ) -> Delta: ...
    @staticmethod
    def between(
        page_id: int, old: Any, new: Any, source: str | None = None, intent: Mapping[str, Any] | None = None
    ) -> Delta | None: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def intent(self) -> dict[str, Any] | None: ...
    @property
    def encoding(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def values(self) -> bytes: ...
    @property
    def mask(self) -> bytes: ...
    def ranges(self) -> list[tuple[int, int]]: ...
    def apply_to(self, buffer: Any) -> None: ...
    def merge(self, later: Delta) -> Delta: ...
    def inverse(self, page: Any) -> Delta: ...
    def _set_epoch(self, epoch: int) -> None: ...
