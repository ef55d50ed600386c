from collections.abc import Callable, Iterator
from typing import Any

from mmsb._core.delta import Delta

HEADER_BYTES: int
VERSION: int
END: str
BAD_LENGTH: str
BAD_CRC: str
BAD_FRAME: str
GAP: str

def crc32c(data: Any, crc: int = 0) -> int: ...

class SegmentHead:
    def __init__(
        self,
        *,
        uuid: bytes,
        salt: bytes,
        base_seq: int = 0,
        base_time_ns: int = 0,
        capacity: int,
        durable_seq: int = 0,
        prev_crc: int = 0,
        number: int = 1,
        anchor: bytes = ...,
    ) -> None: ...
    @staticmethod
    def decode(data: Any) -> tuple[SegmentHead | None, str]: ...
    def resized(self, capacity: int) -> SegmentHead: ...
    def encode(self) -> bytes: ...
    uuid: bytes
    salt: bytes
    anchor: bytes
    base_seq: int
    base_time_ns: int
    capacity: int
    durable_seq: int
    prev_crc: int
    number: int

class Cursor:
    head: SegmentHead
    sources: dict[int, str]
    stopped: str | None
    state: Any
    end: int
    offset: int
    seq: int
    time_ns: int
    last_crc: int
    durable_seq: int
    def __init__(self, buffer: Any, head: SegmentHead, state: Any = None) -> None: ...
    def seek(self, offset: int, seq: int, time_ns: int, last_crc: int, sources: dict[int, str]) -> None: ...
    def commit_after(self, seq: int) -> Frame | None: ...
    def limit(self, available: int) -> None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def __next__(self) -> Frame: ...
    def canonical(self, update: Callable[[Any], Any]) -> None: ...
    def stranded(self, end: int) -> tuple[int, int, int]: ...
    def resume(self) -> bool: ...

def is_zero(data: Any) -> bool: ...

class Change:
    kind: str
    page_id: int
    count: int
    size: int
    page_kind: int
    text: str
    blob: bytes
    delta: Delta

class Frame:
    state: Any
    kind: str
    seq: int
    time_ns: int
    branch: int
    prev_crc: int
    durable_seq: int
    source: str | None
    source_id: int
    offset: int
    nbytes: int
    anchor: bytes
    change_bytes: bytes
    def changes(self) -> list[Change]: ...
    def copy(self, to: SegmentHead, prev_crc: int, definition: bytes = b"") -> tuple[bytes, int]: ...
    def written_pages(self) -> dict[int, None] | None: ...
    def deltas(self) -> list[Delta]: ...
