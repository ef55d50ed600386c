from typing import Any

KINDS: tuple[str, ...]
TYPES: tuple[str, ...]
TYPE_NUMBERS: dict[str, int]

def encode(link: Any, named: bool) -> bytes: ...
def decode(data: bytes) -> tuple[Any, ...]: ...
