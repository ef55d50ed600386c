"""The plugin: the semiring gcd-times."""

from mmsb.plugin import SemiringSpec, hookimpl

MMSB_API = 1


@hookimpl
def mmsb_semirings():
    """One semiring, over one type."""
    summary = "The greatest common divisor, and the product along an edge."
    return [SemiringSpec("gcd-times", summary, "mmsb_semiring_example.semiring:gcd_times", ("int64",))]
