"""Every semiring, type, level and operation against the literal definitions; its laws; and the C harness."""

import itertools
import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb._core.semiring import LAWS, CsrMatrix, Semiring, Semirings, builtin
from mmsb.testing.semirings import FORMATS, Literal

ROOT = Path(__file__).parents[2]
TABLES = {disable: Semirings(disable) for disable in ("avx2,sse42", "avx512", "")}
SCALAR = TABLES["avx2,sse42"]
EVERY = builtin.names()

# Lanes that break things, as bits: zeros, ones, ends of the type, infinities, denormals, NaN of many kinds.
BITS = {
    "uint8": [0, 1, 2, 127, 128, 254, 255],
    "int32": [0, 1, 2, 0xFFFFFFFF, 0x80000000, 0x80000001, 0x7FFFFFFF, 0x7FFFFFFE, 0x10000],
    "int64": [0, 1, 2, 2**64 - 1, 2**63, 2**63 + 1, 2**63 - 1, 2**63 - 2, 2**32, 2**31, 3037000500],
    "float32": [0, 0x80000000, 1, 0x80000001, 0x3F800000, 0xBF800000, 0x40490FDB, 0x7F7FFFFF, 0xFF7FFFFF]
    + [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FC00123, 0x7F800456, 0xFF800789],
    "float64": [0, 2**63, 1, 2**63 + 1, 0x3FF << 52, 0xBFF << 52, 0x400921FB54442D18, 0x7FEFFFFFFFFFFFFF]
    + [0xFFEFFFFFFFFFFFFF, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0xFFF8 << 48, 0x7FF8000000000123]
    + [0x7FF0000000000456, 0xFFF0000000000789],
}


def literal_of(semiring: Semiring) -> Literal:
    return Literal(semiring.name, semiring.dtype, semiring.zero, semiring.one)


def hostile(rng: random.Random, dtype: str, lanes: int) -> bytes:
    """Lanes of which half are out of BITS and half are any bits."""
    size = struct.calcsize(FORMATS[dtype])
    return b"".join(
        (rng.choice(BITS[dtype]) if rng.random() < 0.5 else rng.getrandbits(8 * size)).to_bytes(size, "little")
        for _ in range(lanes)
    )


def placed(data: bytes, offset: int) -> memoryview:
    """A writable copy at an address that is `offset` beyond some multiple of 64."""
    room = np.zeros(len(data) + 128, np.uint8)
    at = -room.ctypes.data % 64 + offset
    view = memoryview(room)[at : at + len(data)]
    view[:] = data
    return view


def value(semiring: Semiring, lane: bytes) -> float:
    return struct.unpack(FORMATS[semiring.dtype], lane)[0]


def same(a: float, b: float) -> bool:
    """Equal to the last bit, NaN being one."""
    return (a, math.copysign(1, a)) == (b, math.copysign(1, b)) or (a != a and b != b)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_every_level_is_the_literal_one(name, dtype, rng):
    literal = literal_of(SCALAR.get(name, dtype))
    for lanes in range(131):
        dst, x, weights = (hostile(rng, dtype, lanes) for _ in range(3))
        weight = hostile(rng, dtype, 1)
        operands = [hostile(rng, dtype, lanes) for _ in range(lanes % 4)]
        each = [hostile(rng, dtype, 1) for _ in operands]
        expected = {
            "add": literal.add(dst, x),
            "scale": literal.scale(weight, x),
            "scale per lane": literal.scale(weights, x) if lanes > 1 else b"",
            "accumulate": literal.accumulate(dst, weight, x),
            "accumulate per lane": literal.accumulate(dst, weights, x) if lanes > 1 else b"",
            "combine": literal.combine(operands, each, lanes),
            "combine unweighted": literal.combine(operands, None, lanes),
        }
        sums = value(literal, literal.fold_add(x)), value(literal, literal.fold_mul(x))
        scalar_weight = np.frombuffer(weight, dtype)[0].reshape(())
        for (disable, table), offset in zip(TABLES.items(), (lanes % 64, 0, lanes * 7 % 64), strict=True):
            semiring = table.get(name, dtype)
            source = placed(x, lanes * 5 % 64)
            calls = {
                "add": (semiring.add, source),
                "scale": (semiring.scale, scalar_weight, source),
                "scale per lane": (semiring.scale, placed(weights, 3), source),
                "accumulate": (semiring.accumulate, scalar_weight, source),
                "accumulate per lane": (semiring.accumulate, placed(weights, 3), source),
                "combine": (semiring.combine, operands, b"".join(each)),
                "combine unweighted": (semiring.combine, operands),
            }
            for what, (method, *arguments) in calls.items():
                if "per lane" in what and lanes < 2:
                    continue
                to = placed(dst, offset)
                changed = method(to, *arguments)
                assert bytes(to) == expected[what], (disable, what, lanes)
                assert changed is None or changed == (expected[what] != dst), (disable, what, lanes)
            assert same(semiring.fold_add(source), sums[0]), (disable, lanes)
            assert same(semiring.fold_mul(source), sums[1]), (disable, lanes)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_rows_are_the_literal_ones(name, dtype, rng):
    literal = literal_of(SCALAR.get(name, dtype))
    for columns in (1, 7, 40):
        lengths = [rng.choice([0, 1, 2, 3, 4, 5, 8, 9, 17]) for _ in range(30)]
        row_start = [0, *itertools.accumulate(lengths)]
        column = [rng.randrange(columns) for _ in range(row_start[-1])]
        values, x = hostile(rng, dtype, len(column)), hostile(rng, dtype, columns)
        before = hostile(rng, dtype, len(lengths))
        expected = literal.csr(row_start, column, values, x)
        matrix = CsrMatrix(np.array(row_start, "u8"), np.array(column, "u4"), values, columns)
        assert matrix.shape == (30, columns)
        some = [row for row in range(30) if rng.random() < 0.4]
        wanted = b"".join(
            (expected if row in some else before)[row * literal.lane_bytes : (row + 1) * literal.lane_bytes]
            for row in range(30)
        )
        for disable, table in TABLES.items():
            dst = placed(before, 9)
            assert table.get(name, dtype).csr(dst, matrix, placed(x, 5)) == (expected != before)
            assert bytes(dst) == expected, disable
            dst = placed(before, 0)
            table.get(name, dtype).csr(dst, matrix, x, np.array(some, "u4"))
            assert bytes(dst) == wanted, disable


@pytest.mark.parametrize(("name", "dtype"), EVERY)
@given(seed=st.integers(0, 2**32), lanes=st.integers(0, 5000))
def test_long_lengths_agree(name, dtype, seed, lanes):
    """Blocks, prefetches and many operands: the levels against each other."""
    rng = random.Random(seed)
    size = struct.calcsize(FORMATS[dtype])
    dst, x, other = (rng.randbytes(lanes * size) for _ in range(3))
    weights = hostile(rng, dtype, 2)
    seen = set()
    for table in TABLES.values():
        semiring = table.get(name, dtype)
        added, combined = bytearray(dst), bytearray(dst)
        semiring.add(added, x)
        semiring.combine(combined, [x, other], weights)
        seen.add((bytes(added), bytes(combined), str(semiring.fold_add(x)), str(semiring.fold_mul(x))))
    assert len(seen) == 1


def law_holds(semiring: Semiring, law: str, a: bytes, b: bytes, c: bytes) -> bool:
    """One law for three lanes, read as numbers: −0 equals +0."""
    s = literal_of(semiring)
    zero, one = s.zero, s.one
    sides = {
        "add-associative": [(s.plus(s.plus(a, b), c), s.plus(a, s.plus(b, c)))],
        "add-commutative": [(s.plus(a, b), s.plus(b, a))],
        "add-idempotent": [(s.plus(a, a), a)],
        "add-identity": [(s.plus(zero, a), a), (s.plus(a, zero), a)],
        "mul-associative": [(s.times(s.times(a, b), c), s.times(a, s.times(b, c)))],
        "mul-identity": [(s.times(one, a), a), (s.times(a, one), a)],
        "left-distributive": [(s.times(a, s.plus(b, c)), s.plus(s.times(a, b), s.times(a, c)))],
        "right-distributive": [(s.times(s.plus(a, b), c), s.plus(s.times(a, c), s.times(b, c)))],
        "zero-annihilates": [(s.times(zero, a), zero), (s.times(a, zero), zero)],
    }[law]
    return all(s.number(left) == s.number(right) for left, right in sides)


def numbers_of(semiring: Semiring) -> st.SearchStrategy[bytes]:
    """Lanes of the domain."""
    low, high = semiring.domain
    s = literal_of(semiring)
    if s.is_float:
        kind = st.floats(low, high, allow_nan=False, width=8 * s.lane_bytes) | st.floats(max(low, -4), 4, width=16)
        return (kind | st.sampled_from([low, high, semiring.zero, semiring.one])).map(s.lane)
    return (st.integers(low, high) | st.sampled_from([low, high, semiring.zero, semiring.one])).map(s.lane)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
@given(data=st.data())
def test_declared_laws_hold(name, dtype, data):
    semiring = builtin.get(name, dtype)
    a, b, c = (data.draw(numbers_of(semiring)) for _ in range(3))
    for law in semiring.laws:
        assert law_holds(semiring, law, a, b, c), (law, a, b, c)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_undeclared_laws_have_a_counterexample(name, dtype):
    """What is not declared does not hold: three lanes of the domain show it."""
    semiring = builtin.get(name, dtype)
    low, high = semiring.domain
    s = literal_of(semiring)
    few = [0, 1, 2, 3, -1, 0.1, 0.2, 0.3, 1e30, -1e30, 1e-30, high, low]
    if not s.is_float:
        few = [number for number in (0, 1, 2, 3, -1, -5, high, high - 1, low, low + 1) if low <= number <= high]
    lanes = [s.lane(number) for number in few if low <= number <= high]
    for law in set(LAWS) - set(semiring.laws):
        assert not all(law_holds(semiring, law, *triple) for triple in itertools.product(lanes, repeat=3)), law


@pytest.mark.parametrize(
    ("name", "dtype"),
    [pair for pair in EVERY if "add-commutative" in builtin.get(*pair).laws and pair[0] != "plus-times"],
)
@given(data=st.data())
def test_every_order_of_additions_gives_the_same_bytes(name, dtype, data):
    """Of any lanes, NaN and zeros of both signs included; counters as long as they do not go below zero."""
    semiring = builtin.get(name, dtype)
    size = semiring.lane_bytes
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    lanes = [hostile(rng, dtype, 9) for _ in range(5)]
    if name == "saturating-plus":
        lanes = [(np.frombuffer(lane, dtype) & semiring.domain[1]).tobytes() for lane in lanes]
    results = set()
    for order in itertools.permutations(lanes):
        dst = bytearray(literal_of(semiring).zero * 9)
        for x in order:
            semiring.add(dst, x)
        results.add(bytes(dst))
    assert len(results) == 1
    assert len(dst) == 9 * size


def test_floating_plus_depends_on_the_order():
    semiring = builtin.get("plus-times", "float64")
    assert semiring.fold_add(np.array([1e16, 1.0] + [0.0] * 6 + [-1e16, 0.0])) == 1.0
    one, other = np.array([1e16]), np.array([-1e16])
    semiring.add(one, np.array([1.0]))
    semiring.add(one, np.array([-1e16]))
    semiring.add(other, np.array([1e16]))
    semiring.add(other, np.array([1.0]))
    assert (one[0], other[0]) == (0.0, 1.0)


def test_infinity_of_tropical_integers_stays():
    greatest = np.iinfo(np.int32).max
    dst = np.zeros(3, np.int32)
    builtin.get("min-plus", "int32").scale(dst, -5, np.array([greatest, 7, greatest - 1], np.int32))
    assert dst.tolist() == [greatest, 2, greatest - 6]
    builtin.get("min-plus", "int32").scale(dst, 5, np.array([greatest - 1, -greatest - 1, 0], np.int32))
    assert dst.tolist() == [greatest, -greatest + 4, 5]


def test_operands_that_do_not_fit_are_refused():
    semiring = builtin.get("min-plus", "float64")
    dst = np.ones(4)
    frozen = np.ones(4)
    frozen.flags.writeable = False
    matrix = CsrMatrix(np.array([0, 1, 2], "u8"), np.array([0, 2], "u4"), np.ones(2), 3)
    refused = [
        lambda: semiring.add(frozen, dst),
        lambda: semiring.add(b"12345678", dst[:1]),
        lambda: semiring.add(dst, np.ones(3)),
        lambda: semiring.add(dst, dst),
        lambda: semiring.add(dst[1:], dst[:3]),
        lambda: semiring.add(dst, np.ones(4, np.float32)),
        lambda: semiring.add(dst, np.ones(8)[::2]),
        lambda: semiring.add(bytearray(12), bytes(12)),
        lambda: semiring.scale(dst, "much", np.ones(4)),
        lambda: semiring.accumulate(dst, np.ones(3), np.ones(4)),
        lambda: semiring.accumulate(dst, dst, np.ones(4)),
        lambda: builtin.get("min-plus", "uint8").scale(bytearray(4), 256, bytes(4)),
        lambda: semiring.combine(dst, [np.ones(4), np.ones(5)]),
        lambda: semiring.combine(dst, [np.ones(4)], np.ones(2)),
        lambda: semiring.csr(np.ones(3), matrix, np.ones(3)),
        lambda: semiring.csr(np.ones(2), matrix, np.ones(2)),
        lambda: semiring.csr(np.ones(2), matrix, np.ones(3), np.array([2], "u4")),
        lambda: builtin.get("min-plus", "float32").csr(np.ones(2, "f4"), matrix, np.ones(3, "f4")),
        lambda: CsrMatrix(np.array([0, 1, 2], "u8"), np.array([0, 3], "u4"), np.ones(2), 3),
        lambda: CsrMatrix(np.array([0, 2, 1], "u8"), np.array([0, 1], "u4"), np.ones(2), 3),
        lambda: CsrMatrix(np.array([1, 2], "u8"), np.array([0, 1], "u4"), np.ones(2), 3),
        lambda: CsrMatrix(np.array([0, 1], "u8"), np.array([0, 1], "u4"), np.ones(2), 3),
        lambda: CsrMatrix(np.array([], "u8"), np.array([], "u4"), np.ones(0), 3),
        lambda: builtin.get("min-plus", "float16"),
    ]
    for call in refused:
        with pytest.raises(mmsb.SemiringError):
            call()
    assert dst.tolist() == [1, 1, 1, 1]
    with pytest.raises(mmsb.UnknownSemiringError, match="min-plus"):
        builtin.get("min-plas", "f8")
    with pytest.raises(mmsb.UnknownSemiringError):
        builtin.get("max-plus", "u1")
    with pytest.raises(TypeError):
        semiring.add(dst, 3)
    with pytest.raises(ValueError, match="avx3"):
        Semirings("avx3")
