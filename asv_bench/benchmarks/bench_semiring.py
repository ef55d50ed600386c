"""Semirings: vectors of 4,096 lanes, and what a plugin's semiring costs beside a built-in one."""

import numpy as np

import mmsb
from mmsb.plugin.manager import installed

from .common import ISA, SEED, covers, skip_unknown_isa

LANES = 4096


@covers("kernel semirings")
class Vector:
    params = [["plus-times", "min-plus", "max-plus", "or-and"], ["uint8", "int64", "float64"], ISA]
    param_names = ["semiring", "dtype", "isa"]

    def setup(self, semiring, dtype, isa):
        skip_unknown_isa(isa)
        semirings = mmsb.Semirings(disable=isa)
        if dtype not in {name for known, name in semirings.names() if known == semiring}:
            raise NotImplementedError
        self.semiring = semirings.get(semiring, dtype)
        rng = np.random.default_rng(SEED)
        self.x, self.y = (rng.integers(0, 2, LANES).astype(dtype) for _ in range(2))
        self.weight = np.ones(1, dtype)[0]

    def time_add(self, semiring, dtype, isa):
        self.semiring.add(self.y, self.x)

    def time_accumulate(self, semiring, dtype, isa):
        self.semiring.accumulate(self.y, self.weight, self.x)

    def time_fold_add(self, semiring, dtype, isa):
        self.semiring.fold_add(self.x)


@covers("hook mmsb_semirings")
class Found:
    """Asking the registry for a semiring that a hook returned."""

    def setup(self):
        self.registry = installed()
        self.name = sorted(self.registry.semirings)[0]

    def time_find(self):
        self.registry.find("semirings", self.name)
