from collections.abc import Sequence
from typing import Any

KINDS: tuple[str, ...]
TYPES: tuple[str, ...]
TYPE_NUMBERS: dict[str, int]

def encode(link: Any, named: bool) -> bytes: ...
def decode(data: bytes) -> tuple[Any, ...]: ...
def encode_wave(failed: dict[int, str], fresh: Sequence[int], partial: bool) -> bytes: ...
