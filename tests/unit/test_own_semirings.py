"""Semirings that open() is given."""

import math

import numpy as np
import pytest

import mmsb
from mmsb import links


def gcd():
    return mmsb.UfuncSemiring("gcd", "int64", np.gcd, np.multiply, zero=0, one=1)


def lanes(*numbers):
    return np.array(numbers, "i8").tobytes()


def test_links_and_merge_pages_find_it():
    with mmsb.open(semirings=[gcd()]) as state:
        a, b = state.create_page(data=lanes(12, 35)), state.create_page(data=lanes(18, 21))
        child = state.create_page(16)
        state.depend(child, on=[a, b], link=links.semiring("gcd", "int64"))
        assert child.read() == lanes(6, 7)
        b.write(lanes(8), at=0)
        assert child.read() == lanes(math.gcd(12, 8), 7)
        merged = state.create_page(data=lanes(12), merge="gcd", dtype="int64")
        merged.write(lanes(18))
        assert merged.read() == lanes(6)
        fork = state.fork(at=state.seq)
        fork.page(a.page_id).write(lanes(4), at=0)
        assert fork.page(child.page_id).read() == lanes(4, 7)
        fork.close()


def test_another_state_does_not_know_it():
    with mmsb.open(semirings=[gcd()]), mmsb.open() as other:
        with pytest.raises((mmsb.PluginError, mmsb.UnknownSemiringError)):
            other.create_page(8, merge="gcd", dtype="int64")
        assert other.seq == 0


def test_a_store_is_opened_without_it_and_with_it(tmp_path):
    path = tmp_path / "s"
    with mmsb.open(path, semirings=[gcd()]) as state:
        a, child = state.create_page(data=lanes(12)), state.create_page(8)
        state.depend(child, on=a, link=links.semiring("gcd", "int64"))
    with mmsb.open(path) as state:
        state.page(a.page_id).write(lanes(5))
        with pytest.raises(mmsb.StalePageError):
            state.page(child.page_id).read()
    with mmsb.open(path, semirings=[gcd()]) as state:
        state.propagate()
        assert state.page(child.page_id).read() == lanes(5)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["gcd"], TypeError),
        ([None], TypeError),
        ("min-plus", TypeError),
        (gcd(), TypeError),
        (7, TypeError),
        ([gcd(), gcd()], mmsb.SemiringError),
        ([mmsb.UfuncSemiring("min-plus", "int64", np.minimum, np.add, zero=1 << 62, one=0)], mmsb.SemiringError),
    ],
)
def test_what_is_none_is_refused(tmp_path, given, error):
    with pytest.raises(error):
        mmsb.open(tmp_path / "s", semirings=given)
    assert not (tmp_path / "s").exists()
