from collections.abc import Collection
from typing import Any

KINDS: tuple[str, ...]
TYPES: tuple[str, ...]
TYPE_NUMBERS: dict[str, int]

def encode(link: Any, named: bool) -> bytes: ...
def decode(data: bytes) -> tuple[Any, ...]: ...
def encode_wave(failed: dict[int, str], fresh: Collection[int], partial: bool) -> bytes: ...
