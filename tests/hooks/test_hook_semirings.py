"""mmsb_semirings: a semiring is found by name and made for a type of lane."""

import pytest

import mmsb


def test_hook_mmsb_semirings(example):
    registry, names = example("semirings")
    assert names == ["widest-path"]
    spec = registry.semirings["widest-path"]
    with pytest.raises(mmsb.PluginError, match=r"not made for \('float64'\), only for one of int32, int64"):
        spec.make("float64")
    with pytest.raises(mmsb.PluginError, match="No module named 'my_package'"):
        spec.make("int64")
