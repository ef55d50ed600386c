"""The semirings of GraphBLAS keep the contract."""

import pytest
from mmsb_graphblas.families import FAMILIES
from mmsb_graphblas.semiring import GraphblasSemiring

from mmsb.testing import PluginContract, SemiringContract

PAIRS = [(name, dtype) for name, family in FAMILIES.items() for dtype in family.dtypes]


class TestPlugin(PluginContract):
    module = "mmsb_graphblas.plugin"


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
class TestGraphblas(SemiringContract):
    @pytest.fixture(autouse=True)
    def choose(self, pair):
        self.pair = pair

    def make(self):
        return GraphblasSemiring(*self.pair)
