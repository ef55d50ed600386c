from collections.abc import Callable
from typing import Any

from mmsb._core.delta import Delta

KINDS: dict[str, int]
IF_EPOCH: int
REBASE: int
DETACH: int
NO_WAVE: int
CREATED: int
RULE_MAX: int
FACTS_MAX: int

def delta_from_payload(
    page_id: int,
    code: int,
    payload: bytes,
    seq: int,
    index: int,
    epoch: int | None,
    source: str | None,
    timestamp_ns: int,
) -> Delta: ...

class Completion:
    number: int
    seq: int | None
    epoch: int | None
    first_page: int
    facts: bytes
    failed: bool

class RingClient:
    number: int
    acknowledged: int
    failed: int
    seq: int
    in_flight: int
    batch_bytes_max: int
    timeout: float
    owner_alive: Callable[[], bool] | None
    def __init__(self, ring: int, flag: int, bell: int, decode: Callable[[bytes], Exception]) -> None: ...
    def close(self) -> None: ...
    def disown(self, reason: str) -> None: ...
    def submit_write(
        self,
        page_id: int,
        data: Any,
        at: int = 0,
        source: str | None = None,
        intent: bytes | None = None,
        if_epoch: int | None = None,
        flags: int = 0,
        durability: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def write(
        self,
        page_id: int,
        data: Any,
        at: int = 0,
        source: str | None = None,
        intent: bytes | None = None,
        if_epoch: int | None = None,
        flags: int = 0,
        durability: int = 0,
        timeout: float | None = None,
    ) -> Completion: ...
    def submit(
        self,
        kind: int,
        page_id: int = 0,
        at: int = 0,
        if_epoch: int = 0,
        *,
        flags: int = 0,
        durability: int = 0,
        code: int = 0,
        source: str | None = None,
        intent: bytes | None = None,
        front: bytes | None = None,
        data: Any = b"",
        timeout: float | None = None,
    ) -> int: ...
    def submit_writes(
        self,
        ids: Any,
        offsets: Any,
        lengths: Any,
        payload: Any,
        source: str | None = None,
        timeout: float | None = None,
    ) -> tuple[int, int]: ...
    def settle(self, number: int, timeout: float | None = None) -> int: ...
    def wait(self, number: int, timeout: float | None = None) -> Completion | None: ...
    def poll(self) -> list[Completion]: ...
