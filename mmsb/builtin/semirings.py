"""The semirings that are always there, in C: docs/understand/semirings.md lists them."""

from functools import partial

from mmsb._core.semiring import builtin
from mmsb.plugin import SemiringSpec, hookimpl

MMSB_API = 1


@hookimpl
def mmsb_semirings() -> list[SemiringSpec]:
    """One spec per name, over the types it has rows for."""
    dtypes: dict[str, list[str]] = {}
    for name, dtype in builtin.names():
        dtypes.setdefault(name, []).append(dtype)
    return [
        SemiringSpec(name, f"The built-in semiring {name}.", partial(builtin.get, name), tuple(of))
        for name, of in dtypes.items()
    ]
