"""The plugin: the semirings of GraphBLAS by name."""

from functools import partial

from mmsb.plugin import SemiringSpec, hookimpl
from mmsb_graphblas.families import FAMILIES

MMSB_API = 1


def make(name, dtype):
    """One of them; GraphBLAS is imported now."""
    from mmsb_graphblas.semiring import GraphblasSemiring

    return GraphblasSemiring(name, dtype)


@hookimpl
def mmsb_semirings():
    """One spec per family."""
    return [
        SemiringSpec(name, f"{family.plus} and {family.times} of GraphBLAS.", partial(make, name), family.dtypes)
        for name, family in FAMILIES.items()
    ]
