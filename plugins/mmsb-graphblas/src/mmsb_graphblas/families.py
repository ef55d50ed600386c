"""What there is, as data: the plugin reads it without importing GraphBLAS."""

from __future__ import annotations

from typing import NamedTuple

INTEGERS = ("uint8", "int32", "int64")
FLOATS = ("float32", "float64")
BITS = ("uint8",)  # GraphBLAS has monoids of bits for unsigned integers only
ORDERLESS = (
    "add-associative",
    "add-commutative",
    "add-identity",
    "mul-identity",
    "left-distributive",
    "right-distributive",
)
RING = (*ORDERLESS, "mul-associative", "zero-annihilates")
LATTICE = (*RING, "add-idempotent")


class Family(NamedTuple):
    """Names of ⊕ and ⊗ in GraphBLAS, the types, and the laws that hold of integers and of floats."""

    plus: str
    times: str
    dtypes: tuple[str, ...]
    integer_laws: tuple[str, ...]
    float_laws: tuple[str, ...] = ()


# Sums of three in this range do not wrap; integers have no infinity that stays when something is added to it.
SUMS = {"int32": (-(2**20), 2**20), "int64": (-(2**40), 2**40)}
SHORTEST = tuple(law for law in LATTICE if law != "zero-annihilates")
ROUNDED_SHORTEST = tuple(law for law in LATTICE if law != "mul-associative")

FAMILIES = {
    "graphblas-plus-times": Family("plus", "times", INTEGERS, RING),
    "graphblas-min-plus": Family("min", "plus", ("int32", "int64", *FLOATS), SHORTEST, ROUNDED_SHORTEST),
    "graphblas-max-plus": Family("max", "plus", ("int32", "int64", *FLOATS), SHORTEST, ROUNDED_SHORTEST),
    "graphblas-min-max": Family("min", "max", INTEGERS + FLOATS, LATTICE, LATTICE),
    "graphblas-max-min": Family("max", "min", INTEGERS + FLOATS, LATTICE, LATTICE),
    "graphblas-bor-band": Family("bor", "band", BITS, LATTICE),
    "graphblas-bxor-band": Family("bxor", "band", BITS, RING),
}
