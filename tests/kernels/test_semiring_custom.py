"""Semirings that others make: of C functions, in a capsule, of numpy functions. Held to the built-in ones."""

import ctypes
import math
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import mmsb
from mmsb._core.semiring import CsrMatrix, Semiring, builtin
from mmsb._core.semiring_python import compiled
from mmsb.semiring import accumulate, boolean_semiring, fold_add, fold_mul, tropical_semiring

ROOT = Path(__file__).parents[2]
BINARY = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)
FUNCTIONS = [BINARY(lambda a, b: max(a, b)), BINARY(lambda a, b: a + b)]
ADDRESSES = [ctypes.cast(function, ctypes.c_void_p).value for function in FUNCTIONS]
BUILT = builtin.get("max-plus", "f8")
FACTS = {"zero": -math.inf, "one": 0.0, "laws": BUILT.laws, "domain": BUILT.domain}


def capsule_of(address: int, name: bytes = b"mmsb.semiring") -> object:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, name, None)


def in_a_capsule(folder: Path) -> Semiring:
    """tests/c/capsule_semiring.c, compiled with nothing but the headers."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    library = folder / "capsule_semiring.so"
    source = ROOT / "tests/c/capsule_semiring.c"
    subprocess.run([compiler, "-std=c11", "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    row = ctypes.c_char.in_dll(ctypes.CDLL(str(library)), "mmsb_test_semiring")
    return Semiring.from_capsule(capsule_of(ctypes.addressof(row)))


@pytest.fixture(params=["cfuncs", "capsule", "ufuncs", "callables", "called"])
def custom(request, tmp_path):
    if request.param == "cfuncs":
        return Semiring.from_cfuncs("mine", "f8", *ADDRESSES, **FACTS)
    if request.param == "capsule":
        return in_a_capsule(tmp_path)
    if request.param == "called":
        return compiled(mmsb.UfuncSemiring("mine", "f8", np.maximum, np.add, **FACTS))
    if request.param == "ufuncs":
        return mmsb.UfuncSemiring("mine", "f8", np.maximum, np.add, **FACTS)
    return mmsb.UfuncSemiring("mine", "f8", lambda a, b: np.where(a > b, a, b), lambda a, b: a + b, **FACTS)


MATRIX = CsrMatrix(np.array([0, 3, 3, 5], "u8"), np.array([0, 1, 2, 2, 0], "u4"), np.arange(5.0), 3)


def everything(semiring):
    """What each operation gives: all sums are exact, so that the order of folds does not show."""
    x, w, many = np.arange(100.0), np.arange(100.0)[::-1].copy(), [np.arange(9.0), np.ones(9)]
    yield semiring.fold_add(x), semiring.fold_mul(x), semiring.fold_add(b""), semiring.fold_mul(b"")
    dst = np.full(100, 50.0)
    yield semiring.add(dst, x), semiring.add(dst, x), dst.tolist()
    yield semiring.accumulate(dst, w, x), semiring.accumulate(dst, 3, x), dst.tolist()
    yield semiring.scale(dst, 0.5, x), dst.tolist(), semiring.scale(dst, w, x), dst.tolist()
    dst = np.zeros(9)
    yield semiring.combine(dst, many, np.array([2.0, 3.0])), dst.tolist()
    yield semiring.combine(dst, many), dst.tolist(), semiring.combine(dst, []), dst.tolist()
    dst = np.zeros(3)
    yield semiring.csr(dst, MATRIX, np.arange(3.0)), dst.tolist()
    yield semiring.csr(dst, MATRIX, np.ones(3), np.array([2], "u4")), dst.tolist()
    data = bytearray(np.arange(4.0).tobytes())
    yield semiring.add(data, np.full(4, 2.0).tobytes()), bytes(data)


def test_it_computes_what_the_built_in_one_does(custom):
    assert list(everything(custom)) == list(everything(BUILT))


LANES = {"u1": ctypes.c_uint8, "i4": ctypes.c_int32, "i8": ctypes.c_int64, "f4": ctypes.c_float, "f8": ctypes.c_double}


@pytest.mark.parametrize("dtype", LANES)
def test_functions_of_every_lane_type(dtype):
    """min-max of two functions, on lanes where each operation tells their order, ends and signs apart."""
    binary = ctypes.CFUNCTYPE(LANES[dtype], LANES[dtype], LANES[dtype])
    functions = [binary(min), binary(max)]
    built = builtin.get("min-max", dtype)
    facts = {"zero": built.zero, "one": built.one, "laws": built.laws, "domain": built.domain}
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    mine = Semiring.from_cfuncs("mine", dtype, *addresses, **facts)
    dice = np.random.default_rng(5)
    least = 0 if dtype == "u1" else -100
    x, w, start = (dice.integers(least, 100, 37).astype(dtype) for _ in range(3))
    offsets, columns = np.array([0, 3, 3, 9], "u8"), dice.integers(0, 37, 9).astype("u4")
    matrix = CsrMatrix(offsets, columns, dice.integers(least, 100, 9).astype(dtype), 37)
    for semiring in (mine, built):
        dst, rows = start.copy(), start[:3].copy()
        semiring.add(dst, x)
        semiring.accumulate(dst, w, x)
        semiring.accumulate(dst, 7, x)
        semiring.scale(dst, w, x)
        added = dst.copy()
        semiring.scale(dst, 9, x)
        both = dst.copy()
        semiring.combine(dst, [x, w, start], np.array([3, 60, 90], dtype))
        semiring.csr(rows, matrix, x)
        found = semiring.fold_add(x), semiring.fold_mul(x), added.tolist(), both.tolist(), dst.tolist(), rows.tolist()
        if semiring is mine:
            expected = found
    assert found == expected


def test_it_tells_the_same_facts(custom):
    assert custom.name in ("mine", "plain-max-plus")
    assert (custom.dtype, custom.lane_bytes, custom.laws) == (BUILT.dtype, 8, BUILT.laws)
    assert (custom.zero, custom.one) == (-math.inf, 0.0)
    assert custom.domain[0] == -math.inf


def test_it_refuses_the_same_operands(custom):
    dst, frozen = np.ones(4), np.ones(4)
    frozen.flags.writeable = False
    for call in (
        lambda: custom.add(frozen, dst),
        lambda: custom.add(dst, np.ones(3)),
        lambda: custom.add(dst, dst),
        lambda: custom.add(dst, np.ones(4, np.float32)),
        lambda: custom.add(dst, np.ones(8)[::2]),
        lambda: custom.add(bytearray(12), bytes(12)),
        lambda: custom.scale(dst, "much", np.ones(4)),
        lambda: custom.accumulate(dst, np.ones(3), np.ones(4)),
        lambda: custom.combine(dst, [np.ones(4), np.ones(5)]),
        lambda: custom.combine(dst, [np.ones(4)], np.ones(2)),
        lambda: custom.csr(np.ones(2), MATRIX, np.ones(3)),
        lambda: custom.csr(np.ones(3), MATRIX, np.ones(2)),
        lambda: custom.csr(np.ones(3), MATRIX, np.ones(3), np.array([3], "u4")),
    ):
        with pytest.raises(mmsb.SemiringError):
            call()
    assert dst.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"laws": ["add-lucky"]},
        {"zero": "none"},
        {"name": ""},
        {"name": "mi\0ne"},
        {"dtype": "f2"},
        {"dtype": "u1", "zero": 256},
        {"dtype": "i8", "zero": 1.5},
        {"dtype": "i4", "one": math.nan},
    ],
)
def test_definitions_that_do_not_fit(wrong):
    facts = {"name": "mine", "dtype": "f8", "zero": 0.0, "one": 0.0, **wrong}
    with pytest.raises(mmsb.SemiringError):
        Semiring.from_cfuncs(add=ADDRESSES[0], mul=ADDRESSES[1], **facts)
    with pytest.raises(mmsb.SemiringError):
        mmsb.UfuncSemiring(add=np.maximum, mul=np.add, **facts)


def test_functions_may_carry_their_address():
    class Compiled:
        def __init__(self, address):
            self.address = address

    semiring = Semiring.from_cfuncs("mine", "f8", *map(Compiled, ADDRESSES), **FACTS)
    assert semiring.fold_add(np.arange(5.0)) == 4
    with pytest.raises(mmsb.SemiringError, match="two functions"):
        Semiring.from_cfuncs("mine", "f8", 0, ADDRESSES[1], **FACTS)


def test_capsules_are_checked():
    room = ctypes.create_string_buffer(1024)
    with pytest.raises(mmsb.SemiringError, match="capsule"):
        Semiring.from_capsule(object())
    with pytest.raises(mmsb.SemiringError, match="capsule"):
        Semiring.from_capsule(capsule_of(ctypes.addressof(room), b"other"))
    name = ctypes.create_string_buffer(b"mine")
    steps = [
        (0, 8, "size"),
        (0, 500, "no name"),
        (8, ctypes.addressof(name), "lane_bytes"),
        (20, 1, "NULL"),
        (24, 1 << 40, "laws"),
        (24, 0, "NULL"),
    ]
    for offset, value, complaint in steps:
        struct.pack_into("<I" if offset == 20 else "<Q", room, offset, value)
        with pytest.raises(mmsb.SemiringError, match=complaint):
            Semiring.from_capsule(capsule_of(ctypes.addressof(room)))
    struct.pack_into("<I", room, 16, 7)
    with pytest.raises(mmsb.SemiringError, match="dtype"):
        Semiring.from_capsule(capsule_of(ctypes.addressof(room)))


def test_numba_compiles_one():
    numba = pytest.importorskip("numba")
    function = numba.cfunc("float64(float64, float64)")
    semiring = Semiring.from_cfuncs(
        "mine", "f8", function(lambda a, b: max(a, b)), function(lambda a, b: a + b), **FACTS
    )
    assert list(everything(semiring)) == list(everything(BUILT))


@pytest.mark.parametrize("signature", ["float32(float32, float32)", "int64(int64, int64)"])
def test_functions_of_another_signature_are_refused(signature):
    numba = pytest.importorskip("numba")
    right, wrong = (numba.cfunc(one)(lambda a, b: a + b) for one in ("float64(float64, float64)", signature))
    for functions in ((right, wrong), (wrong, right)):
        with pytest.raises(mmsb.SemiringError, match="belongs"):
            Semiring.from_cfuncs("mine", "f8", *functions, **FACTS)


def test_casts_are_no_warnings():
    values = mmsb.UfuncSemiring("mine", "i4", lambda a, b: (a + b) / 0.0, np.add, zero=0, one=0)
    values.add(np.ones(2, "i4"), np.ones(2, "i4"))
    turned = mmsb.UfuncSemiring("mine", "f8", lambda a, b: (a + b) * (1 + 1j), np.add, zero=0, one=0)
    dst = np.ones(2)
    turned.add(dst, np.ones(2))
    assert dst.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("dtype", [np.float64, float, "float", np.dtype("f8"), "<f8", "d"])
def test_lane_types_as_numpy_names_them(dtype):
    assert mmsb.Semirings().get("min-plus", dtype).dtype == "float64"
    with mmsb.open() as state:
        a, b, c = (state.create_page(8) for _ in range(3))
        state.depend(b, on=a, link=mmsb.links.semiring("plus-times", dtype, [2.0]))
        state.depend_many([a.page_id], [c.page_id], [3.0], semiring="plus-times", dtype=dtype)
        a.write(np.array([1.5]))
        assert (b.view("f8")[0], c.view("f8")[0]) == (3.0, 4.5)
        assert state.create_page(8, merge="min-plus", dtype=dtype).merge == ("min-plus", "float64")


@pytest.mark.parametrize("dtype", [">f8", "u8", None, "nonsense", "", np.uint64, [], {"a": 1}])
def test_other_types_are_refused(dtype):
    with pytest.raises(mmsb.SemiringError, match="is no type of lanes"):
        mmsb.Semirings().get("min-plus", dtype)


def test_names_end_where_they_end():
    with pytest.raises(mmsb.UnknownSemiringError):
        mmsb.Semirings().get("min-plus\0", "f8")


def test_what_the_first_mmsb_called_them():
    tropical, boolean = tropical_semiring(), boolean_semiring()
    assert (tropical.zero, tropical.one, boolean.zero, boolean.one) == (math.inf, 0.0, 0, 1)
    assert fold_add(tropical, [3.0, 1.0, 2.0]) == 1.0 and fold_mul(tropical, [3.0, 1.0, 2.0]) == 6.0
    assert fold_add(tropical, []) == math.inf and fold_mul(boolean, ()) == 1
    assert accumulate(tropical, 2, 5) == (2.0, 7.0) and accumulate(boolean, 1, 0) == (1, 0)
    custom = mmsb.UfuncSemiring("mine", "f8", np.maximum, np.add, **FACTS)
    assert accumulate(custom, 2, 5) == (5.0, 7.0)


def test_facts_that_are_none():
    class Wrong(mmsb.UfuncSemiring):
        pass

    for fact, value in (("laws", ["add-lucky"]), ("name", ""), ("name", "mi\0ne"), ("zero", "none"), ("dtype", "f2")):
        wrong = Wrong("mine", "f8", np.maximum, np.add, **FACTS)
        setattr(wrong, fact, value)
        with pytest.raises(mmsb.SemiringError):
            compiled(wrong)
