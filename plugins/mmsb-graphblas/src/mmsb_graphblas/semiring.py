"""A semiring of SuiteSparse:GraphBLAS behind the protocol of mmsb."""

from __future__ import annotations

from typing import Any

import graphblas
import numpy as np

from mmsb_graphblas.families import FAMILIES, SUMS


class GraphblasSemiring:
    """⊕ and ⊗ of GraphBLAS over one type. Its neutral elements are those of the two monoids."""

    def __init__(self, name: str, dtype: str) -> None:
        family = FAMILIES[name]
        self.name = name
        self.dtype = dtype
        self.kind = np.dtype(dtype)
        self.plus, self.times = (getattr(graphblas.monoid, word)[dtype] for word in (family.plus, family.times))
        self.zero, self.one = (self.kind.type(monoid.identity).item() for monoid in (self.plus, self.times))
        # Sums of floats depend on their order, which GraphBLAS leaves open.
        self.times_in_order = self.kind.kind == "f" and family.times == "plus"
        self.laws = family.float_laws if self.kind.kind == "f" else family.integer_laws
        self.domain = self._domain(family.times)

    def _domain(self, times: str) -> tuple[float, float]:
        """The lanes of which the laws are said."""
        if self.kind.kind != "f":
            limits = np.iinfo(self.kind)
            return SUMS[self.dtype] if times == "plus" and self.dtype in SUMS else (limits.min, limits.max)
        low, high = -np.inf, np.inf
        if times == "plus":  # where the other infinity is, nothing annihilates
            most = float(np.finfo(self.kind).max)
            low, high = (-most, high) if self.zero > 0 else (low, most)
        return low, high

    def __repr__(self) -> str:
        return f"<GraphblasSemiring {self.name} over {self.dtype}>"

    def add(self, dst: Any, x: Any) -> bool:
        """Sets dst = dst ⊕ x. Returns whether a byte of dst changed."""
        to = self._lanes(dst)
        return self._put(to, self._each(self.plus, to, self._fitting(x, to)))

    def scale(self, dst: Any, weight: Any, x: Any) -> None:
        """Sets dst = weight ⊗ x; `weight` is a number, or has one lane per lane."""
        to = self._lanes(dst)
        self._put(to, self._each(self.times, self._weight(weight, to), self._fitting(x, to)))

    def accumulate(self, dst: Any, weight: Any, x: Any) -> bool:
        """Sets dst = dst ⊕ (weight ⊗ x). Returns whether a byte of dst changed."""
        to = self._lanes(dst)
        product = self._each(self.times, self._weight(weight, to), self._fitting(x, to))
        return self._put(to, self._each(self.plus, to, product))

    def fold_add(self, x: Any) -> float:
        """The ⊕ of all lanes, in any order: it does not matter."""
        return self._reduce(self.plus, self._lanes(x))

    def fold_mul(self, x: Any) -> float:
        """The ⊗ of all lanes; sums of floats from left to right."""
        lanes = self._lanes(x)
        if self.times_in_order and len(lanes):
            with np.errstate(all="ignore"):
                return self._canonical(np.add.accumulate(lanes)[-1:]).item()
        return self._reduce(self.times, lanes)

    def _each(self, monoid: Any, a: Any, b: Any) -> Any:
        """One operation, lane by lane."""
        if not len(a):
            return a
        left, right = graphblas.Vector.from_dense(a), graphblas.Vector.from_dense(b)
        return self._canonical(left.ewise_mult(right, monoid.binaryop).new().to_dense(dtype=self.dtype))

    def _reduce(self, monoid: Any, lanes: Any) -> float:
        if not len(lanes):
            return self.kind.type(monoid.identity).item()
        total = graphblas.Vector.from_dense(lanes).reduce(monoid).new().value
        return self._canonical(np.array([total], self.kind)).item()

    def _canonical(self, lanes: Any) -> Any:
        """Which of two zeros min and max give, and which NaN, GraphBLAS leaves open: here it is +0 and one NaN."""
        if self.kind.kind != "f":
            return lanes
        return np.where(np.isnan(lanes), self.kind.type(np.nan), lanes + self.kind.type(0))

    def _lanes(self, buffer: Any) -> Any:
        view = memoryview(buffer).cast("B")
        return np.frombuffer(view, self.kind) if view.nbytes else np.empty(0, self.kind)

    def _fitting(self, x: Any, to: Any) -> Any:
        lanes = self._lanes(x)
        if len(lanes) != len(to):
            raise ValueError(f"{len(lanes)} lanes do not fit {len(to)}. Give as many.")
        return lanes

    def _weight(self, weight: Any, to: Any) -> Any:
        if isinstance(weight, (int, float, np.generic)):
            return np.full(len(to), weight, self.kind)
        return self._fitting(weight, to)

    def _put(self, to: Any, fresh: Any) -> bool:
        changed = to.tobytes() != fresh.tobytes()
        to[...] = fresh
        return changed
