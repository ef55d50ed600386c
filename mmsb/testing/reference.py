"""The kernels, literally: pages are lists of ints, deltas lists of (index, value). Every kernel is held to it."""

from __future__ import annotations

Pairs = list[tuple[int, int]]

DENSE, RUNS, BITMAP = 1, 2, 3


def diff(old: list[int], new: list[int], base: int = 0) -> Pairs:
    """Every byte that differs, as (index in the page, new value)."""
    return [(base + i, new[i]) for i in range(len(old)) if old[i] != new[i]]


def apply(page: list[int], delta: Pairs) -> list[int]:
    """The page after a delta."""
    after = list(page)
    for index, value in delta:
        after[index] = value
    return after


def merge(first: Pairs, second: Pairs) -> Pairs:
    """One delta that equals both, the second winning."""
    values = dict(first)
    values.update(dict(second))
    return sorted(values.items())


def inverse(page: list[int], delta: Pairs) -> Pairs:
    """The delta that undoes `delta`, from the page before it."""
    return [(index, page[index]) for index, _ in delta]


def varint(number: int) -> bytes:
    """LEB128."""
    out = []
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def runs_of(delta: Pairs) -> list[tuple[int, int]]:
    """Maximal runs (offset, length)."""
    runs: list[tuple[int, int]] = []
    for index, _ in delta:
        if runs and runs[-1][0] + runs[-1][1] == index:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


def encode(delta: Pairs) -> tuple[int, bytes] | None:
    """(code, payload): the shortest of the three encodings, on a tie that of the lowest code. None for no bytes."""
    if not delta:
        return None
    runs = runs_of(delta)
    values = bytes(value for _, value in delta)
    first, end = runs[0][0], runs[-1][0] + runs[-1][1]
    tokens, at = b"", 0
    for offset, length in runs:
        tokens += varint((offset - at) * 2 + (length > 1)) + (varint(length - 2) if length > 1 else b"")
        at = offset + length
    changed = {index for index, _ in delta}
    bits = bytes(sum((first + 8 * k + j in changed) << j for j in range(8)) for k in range((end - first + 7) // 8))
    payloads = {
        RUNS: varint(len(tokens)) + tokens + values,
        BITMAP: varint(first) + varint(end - first) + bits + values,
    }
    if len(runs) == 1:
        payloads[DENSE] = varint(first) + varint(end - first) + values
    code = min(payloads, key=lambda code: (len(payloads[code]), code))
    return code, payloads[code]


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC32C bit by bit: polynomial 0x1EDC6F41 reflected (RFC 3720)."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
