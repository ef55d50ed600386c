"""The built-in semirings, literally: lanes are pieces of bytes, computed one by one with Python's numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

FORMATS = {"uint8": "<B", "int32": "<i", "int64": "<q", "float32": "<f", "float64": "<d"}
NAN = {"float32": b"\0\0\xc0\x7f", "float64": b"\0\0\0\0\0\0\xf8\x7f"}
# ⊕ and ⊗ of each, by the names of the functions below.
OPERATIONS = {
    "plus-times": ("plus", "times"),
    "min-plus": ("min", "plus_below_infinity"),
    "max-plus": ("max", "plus_above_infinity"),
    "max-times": ("max", "clamped_times"),
    "min-max": ("min", "max"),
    "or-and": ("logical_or", "logical_and"),
    "xor-and": ("xor", "bit_and"),
    "last-write": ("second", "times"),
    "bit-union": ("bit_or", "bit_and"),
    "saturating-plus": ("clamped_plus", "clamped_times"),
}


class Literal:
    """One semiring over one type, given as its operations are defined. `zero` and `one` are lanes (bytes)."""

    def __init__(self, name: str, dtype: str, zero: float, one: float) -> None:
        self.dtype, self.format = dtype, FORMATS[dtype]
        self.lane_bytes = struct.calcsize(self.format)
        self.is_float = dtype.startswith("float")
        bits = 8 * self.lane_bytes
        self.least = 0 if dtype == "uint8" else -(2 ** (bits - 1))
        self.greatest = self.least + 2**bits - 1
        self.plus_name, self.times_name = OPERATIONS[name]
        self.in_order = self.plus_name == "second"
        self.zero, self.one = self.lane(zero), self.lane(one)

    def lane(self, number: float) -> bytes:
        """A number as a lane. A double becomes the nearest float32; every NaN is the one in NAN."""
        if number != number:
            return NAN[self.dtype]
        try:
            return struct.pack(self.format, number)
        except OverflowError:  # beyond the greatest float32
            return struct.pack(self.format, math.copysign(math.inf, number))

    def number(self, lane: bytes) -> float:
        """A lane as int or float."""
        return struct.unpack(self.format, lane)[0]

    def plus(self, a: bytes, b: bytes) -> bytes:
        """A ⊕ b."""
        return self.compute(self.plus_name, a, b)

    def times(self, a: bytes, b: bytes) -> bytes:
        """A ⊗ b."""
        return self.compute(self.times_name, a, b)

    def compute(self, operation: str, a: bytes, b: bytes) -> bytes:
        """One operation on two lanes."""
        if operation == "second":
            return b
        x, y = self.number(a), self.number(b)
        if x != x or y != y:
            return NAN[self.dtype]
        if operation in ("min", "max"):
            order = min if operation == "min" else max
            return self.lane(order(x, y, key=lambda number: (number, math.copysign(1, number))))
        if self.is_float:
            return self.lane(x * y if "times" in operation else x + y)
        return self.lane(self.on_integers(operation, int(x), int(y)))

    def clamp(self, number: int) -> int:
        """The nearest number of the type."""
        return max(self.least, min(self.greatest, number))

    def wrap(self, number: int) -> int:
        """The number of the type that is equal modulo 2^bits."""
        return (number - self.least) % (self.greatest - self.least + 1) + self.least

    def on_integers(self, operation: str, x: int, y: int) -> int:
        """One operation on two integers of the type."""
        if operation == "plus_below_infinity":
            return self.greatest if self.greatest in (x, y) else self.clamp(x + y)
        if operation == "plus_above_infinity":
            return self.least if self.least in (x, y) else self.clamp(x + y)
        results = {
            "plus": self.wrap(x + y),
            "times": self.wrap(x * y),
            "clamped_plus": self.clamp(x + y),
            "clamped_times": self.clamp(x * y),
            "logical_or": int(x != 0 or y != 0),
            "logical_and": int(x != 0 and y != 0),
            "bit_or": x | y,
            "bit_and": x & y,
            "xor": x ^ y,
        }
        return results[operation]

    def split(self, data: bytes) -> list[bytes]:
        """The lanes of a buffer."""
        return [data[at : at + self.lane_bytes] for at in range(0, len(data), self.lane_bytes)]

    def add(self, dst: bytes, x: bytes) -> bytes:
        """Dst ⊕ x."""
        return b"".join(self.plus(a, b) for a, b in zip(self.split(dst), self.split(x), strict=True))

    def scale(self, weights: bytes, x: bytes) -> bytes:
        """Weights ⊗ x, with one weight for all lanes or one for each."""
        lanes, each = self.split(x), self.split(weights)
        if len(each) == 1:
            each = each * len(lanes)
        return b"".join(self.times(w, lane) for w, lane in zip(each, lanes, strict=True))

    def accumulate(self, dst: bytes, weights: bytes, x: bytes) -> bytes:
        """Dst ⊕ (weights ⊗ x)."""
        return self.add(dst, self.scale(weights, x))

    def combine(self, operands: list[bytes], weights: list[bytes] | None, lanes: int) -> bytes:
        """((0 ⊕ w ⊗ operand) ⊕ w ⊗ operand) and so on."""
        result = self.zero * lanes
        for at, operand in enumerate(operands):
            result = self.add(result, operand if weights is None else self.scale(weights[at], operand))
        return result

    def fold(self, operation: Callable[[bytes, bytes], bytes], neutral: bytes, values: list[bytes], n: int) -> bytes:
        """All values, in n interleaved lanes that are folded by halves (csrc/semiring.h, fold_add)."""
        if self.in_order and operation == self.plus:
            n = 1
        lane = [neutral] * n
        for at, value in enumerate(values):
            lane[at % n] = operation(lane[at % n], value)
        while n > 1:
            n //= 2
            for j in range(n):
                lane[j] = operation(lane[j], lane[j + n])
        return lane[0]

    def fold_add(self, x: bytes) -> bytes:
        """The ⊕ of all lanes."""
        return self.fold(self.plus, self.zero, self.split(x), 64 // self.lane_bytes)

    def fold_mul(self, x: bytes) -> bytes:
        """The ⊗ of all lanes."""
        return self.fold(self.times, self.one, self.split(x), 64 // self.lane_bytes)

    def csr(self, row_start: list[int], columns: list[int], values: bytes, x: bytes) -> bytes:
        """The matrix times x."""
        lanes, entries = self.split(x), self.split(values)
        rows = []
        for begin, end in zip(row_start, row_start[1:], strict=False):
            products = [self.times(entries[k], lanes[columns[k]]) for k in range(begin, end)]
            rows.append(self.fold(self.plus, self.zero, products, 4))
        return b"".join(rows)
