"""The laws of semirings, written out, and a quick look at those that one declares. docs/hooks/semirings.md.

The kit tests them on random lanes; what is here needs neither pytest nor hypothesis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmsb.plugin import Semiring

Array = np.ndarray[Any, Any]

# Laws about the order of ⊕: they hold to the bit. The others hold as numbers, for which -0 equals +0.
TO_THE_BIT = ("add-associative", "add-commutative")


def add(semiring: Semiring, a: Array, b: Array) -> Array:
    """A ⊕ b."""
    out = a.copy()
    semiring.add(out, b)
    return out


def mul(semiring: Semiring, a: Array, b: Array) -> Array:
    """A ⊗ b."""
    out = np.empty_like(b)
    semiring.scale(out, a, b)
    return out


def sides(semiring: Semiring, law: str, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Both sides of a law, for three arrays of lanes. A law that is said twice is told twice, one after the other."""

    def plus(x: Array, y: Array) -> Array:
        return add(semiring, x, y)

    def times(x: Array, y: Array) -> Array:
        return mul(semiring, x, y)

    zero, one = np.full_like(a, semiring.zero), np.full_like(a, semiring.one)
    return {
        "add-associative": lambda: (plus(plus(a, b), c), plus(a, plus(b, c))),
        "add-commutative": lambda: (plus(a, b), plus(b, a)),
        "add-idempotent": lambda: (plus(a, a), a),
        "add-identity": lambda: (np.append(plus(zero, a), plus(a, zero)), np.append(a, a)),
        "mul-associative": lambda: (times(times(a, b), c), times(a, times(b, c))),
        "mul-identity": lambda: (np.append(times(one, a), times(a, one)), np.append(a, a)),
        "left-distributive": lambda: (times(a, plus(b, c)), plus(times(a, b), times(a, c))),
        "right-distributive": lambda: (times(plus(a, b), c), plus(times(a, c), times(b, c))),
        "zero-annihilates": lambda: (np.append(times(zero, a), times(a, zero)), np.append(zero, zero)),
    }[law]()


def differs(law: str, left: Array, right: Array) -> Array:
    """Where the two sides of a law are not what the law says, as flags."""
    if law in TO_THE_BIT:
        bits = f"u{left.itemsize}"
        return np.asarray(left.view(bits) != right.view(bits))
    return np.asarray((left != right) & ~((left != left) & (right != right)))


def broken_laws(semiring: Semiring) -> Iterator[str]:
    """Each declared law that a few plain numbers of the domain break, with the first of them. Finds mistakes, proves
    nothing.
    """
    kind = np.dtype(semiring.dtype)
    low, high = map(kind.type, semiring.domain)
    numbers = (low, high, semiring.zero, semiring.one, 0, 1, 2, 3, 10)
    lanes = np.array(sorted({kind.type(value) for value in numbers if low <= value <= high}), kind)
    a, b, c = (axis.ravel() for axis in np.meshgrid(lanes, lanes, lanes, indexing="ij"))
    for law in semiring.laws:
        with np.errstate(all="ignore"):
            left, right = sides(semiring, law, a, b, c)
            wrong = np.flatnonzero(differs(law, left, right))
        if wrong.size:
            first = int(wrong[0])
            which = ", ".join(str(axis[first % len(a)]) for axis in (a, b, c))
            yield (
                f"{semiring.name} over {semiring.dtype} breaks {law}, which it declares: of the numbers {which} one "
                f"side is {left[first]}, the other {right[first]}"
            )
