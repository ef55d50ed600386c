"""Semirings in Python: UfuncSemiring, made of two numpy functions, and what the first MMSB did with any semiring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mmsb._core.semiring import DTYPES, LAWS, CsrMatrix, Semiring, builtin
from mmsb._core.semiring_python import matrix_rows
from mmsb.errors import SemiringError

Lanes = np.ndarray[Any, np.dtype[Any]]


class UfuncSemiring:
    """⊕ and ⊗ as functions of two arrays of lanes: numpy ufuncs, or whatever broadcasts like them.

    `dtype` is one of uint8, int32, int64, float32, float64; results of another type are cast to it. `zero` and `one`
    are the neutral numbers, `laws` what the caller vouches for (of `mmsb._core.semiring.LAWS`), for lanes between the
    two of `domain`. Attributes and methods are those of `mmsb.Semiring`, with the same operands and errors
    (SemiringError). Everything is folded from left to right, beginning with zero, or with one for fold_mul.
    """

    def __init__(
        self,
        name: str,
        dtype: Any,
        add: Callable[[Any, Any], Any],
        mul: Callable[[Any, Any], Any],
        *,
        zero: float,
        one: float,
        laws: Iterable[str] = (),
        domain: tuple[float, float] | None = None,
    ) -> None:
        self.name = name
        self.dtype = str(np.dtype(dtype))
        self.laws = tuple(law for law in LAWS if law in set(laws))
        if (
            self.dtype not in {names[0] for names in DTYPES.values()}
            or set(laws) - set(LAWS)
            or not name
            or "\0" in name
        ):
            raise SemiringError(
                f"Semiring {name!r} over {self.dtype} needs a name, a type of lanes and laws out of {', '.join(LAWS)}.",
                semiring=name,
                dtype=self.dtype,
            )
        self.lane_bytes = np.dtype(dtype).itemsize
        self._zero, self._one = self._number(zero, "zero"), self._number(one, "one")
        self.zero, self.one = self._zero.item(), self._one.item()
        self.domain = domain if domain is not None else (self.zero, self.zero)
        self._add, self._mul = add, mul

    def __repr__(self) -> str:
        return f"<UfuncSemiring {self.name} over {self.dtype}>"

    def _number(self, number: Any, what: str) -> Lanes:
        """A number as one lane."""
        try:
            with np.errstate(all="ignore"):
                lane = np.array(number, self.dtype)
            if lane.dtype.kind == "f" or lane.item() == number:
                return lane
        except (TypeError, ValueError, OverflowError):
            pass
        raise SemiringError(f"{what} {number!r} is no {self.dtype}. Give a number of that type.", operand=what)

    def _lanes(self, source: Any, what: str, count: int | None = None, apart: Lanes | None = None) -> Lanes:
        """A buffer as an array of lanes: `count` of them, sharing no memory with `apart`."""
        view = memoryview(source)
        raw = view.format in ("B", "b", "c")
        if not view.c_contiguous or not (raw or np.dtype(view.format) == self.dtype) or view.nbytes % self.lane_bytes:
            raise SemiringError(f"{what} is no contiguous buffer of whole lanes of {self.dtype}.", operand=what)
        array = np.frombuffer(view.cast("B") if view.nbytes else b"", self.dtype)
        if count is not None and len(array) != count:
            raise SemiringError(f"{what} has {len(array)} lanes where {count} belong.", operand=what)
        if apart is not None and np.may_share_memory(array, apart):
            raise SemiringError(f"{what} overlaps the result. Give it memory of its own.", operand=what)
        return array

    def _result(self, dst: Any) -> Lanes:
        """The buffer that is written."""
        lanes = self._lanes(dst, "dst")
        if not lanes.flags.writeable and lanes.nbytes:
            raise SemiringError("dst is read-only. Give a buffer that is writable.", operand="dst")
        return lanes

    def _weight(self, weight: Any, count: int, apart: Lanes) -> Lanes:
        """One lane, or one for each of `count`."""
        try:
            per_lane = memoryview(weight).ndim != 0
        except TypeError:
            per_lane = False
        return self._lanes(weight, "weight", count, apart) if per_lane else self._number(weight, "weight")

    def _call(self, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Lanes:
        """One operation, in the type of the lanes. Floating-point faults are values here, not warnings."""
        with np.errstate(all="ignore"):
            result = np.asarray(function(a, b))
        if result.shape != np.broadcast(a, b).shape:
            raise SemiringError(
                f"A function of the semiring {self.name!r} gave lanes of shape {result.shape} for operands of shapes "
                f"{np.shape(a)} and {np.shape(b)}. It must give one lane for each.",
                semiring=self.name,
                dtype=self.dtype,
            )
        if (
            result.dtype.kind == "c"
        ):  # dropping the imaginary part is a warning of another kind, which errstate lets out
            result = result.real
        with np.errstate(all="ignore"):
            return result.astype(self.dtype, copy=False)

    def _put(self, to: Lanes, fresh: Lanes) -> bool:
        """Stores a result; whether a byte came out different."""
        if to.tobytes() == fresh.tobytes():
            return False
        to[:] = fresh
        return True

    def add(self, dst: Any, x: Any) -> bool:
        """Sets dst = dst ⊕ x. Whether a byte of `dst` changed."""
        to = self._result(dst)
        return self._put(to, self._call(self._add, to, self._lanes(x, "x", len(to), to)))

    def scale(self, dst: Any, weight: Any, x: Any) -> None:
        """Sets dst = weight ⊗ x."""
        to = self._result(dst)
        source = self._lanes(x, "x", len(to), to)
        self._put(to, self._call(self._mul, self._weight(weight, len(to), to), source))

    def accumulate(self, dst: Any, weight: Any, x: Any) -> bool:
        """Sets dst = dst ⊕ (weight ⊗ x). Whether a byte of `dst` changed."""
        to = self._result(dst)
        source = self._lanes(x, "x", len(to), to)
        return self._put(
            to, self._call(self._add, to, self._call(self._mul, self._weight(weight, len(to), to), source))
        )

    def _fold(self, function: Callable[[Any, Any], Any], neutral: Lanes, x: Any) -> Any:
        result = neutral
        for lane in self._lanes(x, "x"):
            result = self._call(function, result, lane)
        return result.item()

    def fold_add(self, x: Any) -> Any:
        """The ⊕ of all lanes of `x` (int or float)."""
        return self._fold(self._add, self._zero, x)

    def fold_mul(self, x: Any) -> Any:
        """The ⊗ of all lanes of `x` (int or float)."""
        return self._fold(self._mul, self._one, x)

    def combine(self, dst: Any, operands: Iterable[Any], weights: Any = None) -> bool:
        """Sets dst = the ⊕ over `operands` of weight ⊗ operand. Whether a byte of `dst` changed."""
        to = self._result(dst)
        sources = [self._lanes(x, "operand", len(to), to) for x in operands]
        if weights is not None:
            each = self._lanes(weights, "weights", len(sources), to)
            sources = [self._call(self._mul, w, x) for w, x in zip(each, sources, strict=True)]
        result = np.full(len(to), self._zero, self.dtype)
        for x in sources:
            result = self._call(self._add, result, x)
        return self._put(to, result)

    def csr(self, dst: Any, matrix: CsrMatrix, x: Any, rows: Any = None) -> bool:
        """Sets dst = matrix ⊗ x, or the `rows` (uint32) of it. Whether a byte of `dst` changed."""
        if not isinstance(matrix, CsrMatrix):
            raise TypeError(f"matrix is a CsrMatrix, not {type(matrix).__name__}")
        to = self._result(dst)
        starts, columns = np.frombuffer(matrix.row_start, np.uint64), np.frombuffer(matrix.columns, np.uint32)
        if len(to) != matrix.shape[0]:
            raise SemiringError(f"dst has {len(to)} lanes where {matrix.shape[0]} belong.", operand="dst")
        source = self._lanes(x, "x", matrix.shape[1], to)
        values = self._lanes(matrix.values, "values", matrix.entries, to)
        wanted = np.arange(len(to)) if rows is None else np.frombuffer(memoryview(rows).cast("B"), np.uint32)
        if wanted.size and int(wanted.max()) >= len(to):
            raise SemiringError(f"rows has numbers beyond the matrix's {len(to)} rows.", operand="rows")
        result = to.copy()
        result[wanted] = np.frombuffer(matrix_rows(self, starts, columns, values, source, wanted), self.dtype)
        return self._put(to, result)


def fold_add(semiring: Any, values: Iterable[float]) -> Any:
    """The ⊕ of numbers (int or float), zero of none. The first MMSB's name; `semiring.fold_add` takes lanes."""
    return semiring.fold_add(np.array(list(values), semiring.dtype))


def fold_mul(semiring: Any, values: Iterable[float]) -> Any:
    """The ⊗ of numbers (int or float), one of none."""
    return semiring.fold_mul(np.array(list(values), semiring.dtype))


def accumulate(semiring: Any, a: float, b: float) -> tuple[Any, Any]:
    """(a ⊕ b, a ⊗ b) of two numbers."""
    return fold_add(semiring, (a, b)), fold_mul(semiring, (a, b))


def tropical_semiring() -> Semiring:
    """(min, +, ∞, 0) over float64: min-plus under the first MMSB's name."""
    return builtin.get("min-plus", "float64")


def boolean_semiring() -> Semiring:
    """(or, and, 0, 1) over uint8: or-and under the first MMSB's name."""
    return builtin.get("or-and", "uint8")
