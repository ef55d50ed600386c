from collections.abc import Iterable
from typing import Any

from mmsb._core.state import Core

TURN_RECORDS: int
TURN_BYTES: int

class Command:
    kind: int
    flags: int
    durability: int
    code: int
    page_id: int
    at: int
    if_epoch: int | None
    count: int
    source: bytes | None
    intent: bytes | None
    name: bytes | None
    rule: bytes | None
    metadata: bytes | None
    numbers: bytes
    data: bytes
    inside: list[Command]

class RingSlot:
    fd: int
    flag_fd: int
    bell_fd: int
    stats: dict[str, Any]
    def allow(self, pages: str | Iterable[int] = "all", *, create: bool = True, delete: bool = True) -> None: ...

class RingServer:
    state: Any
    slots: list[RingSlot]
    broken: list[RingSlot]
    leaving: list[RingSlot]
    left: list[RingSlot]
    def __init__(self, state: Core) -> None: ...
    def add(self, command_bytes: int = ..., completion_bytes: int = ...) -> RingSlot: ...
    def drop(self, slot: RingSlot) -> None: ...
    def leave(self, slot: RingSlot) -> None: ...
    def serve(self, slot: RingSlot, records: int = ..., count: int = ...) -> bool: ...
    def execute(self, command: Command) -> tuple[bytes | None, int, int, int, list[tuple[int, int]]]: ...
    def refuse(self, right: str | None, page_id: int) -> bytes: ...
    def serve_all(self) -> bool: ...
    def serve_while_busy(self, seconds: float) -> bool: ...
    def is_ready(self, spin: bool = True) -> bool: ...
    def fall_asleep(self) -> bool: ...
    def stay_awake(self) -> None: ...
