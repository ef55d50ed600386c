"""The semiring as mmsb takes it: out of the capsule that gcd.pyx fills."""

import mmsb
from mmsb_semiring_example import gcd


def gcd_times(dtype):
    """gcd-times over int64."""
    return mmsb.Semiring.from_capsule(gcd.capsule())
