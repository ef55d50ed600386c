"""gcd-times keeps the contract of semirings, and computes what it should wherever semirings are used."""

import math

import numpy as np
from mmsb_semiring_example.semiring import gcd_times

import mmsb
from mmsb import links
from mmsb.testing import PluginContract, SemiringContract


class TestPlugin(PluginContract):
    module = "mmsb_semiring_example.plugin"


def wrapped(number):
    """A number modulo 2^64, as int64."""
    return np.array(number % 2**64, np.uint64).astype(np.int64)


class TestGcd(SemiringContract):
    literal = (
        lambda a, b: wrapped(math.gcd(int(a), int(b))),
        lambda a, b: wrapped(int(a) * int(b)),
    )

    def make(self):
        return gcd_times("int64")


def test_a_merge_page_holds_the_tick_that_serves_all():
    with mmsb.open() as state:
        page = state.create_page(8, merge="gcd-times", dtype="int64")
        for interval in (60, 84, 36):
            page.write(np.array([interval]))
        assert page.view("int64")[0] == 12


def test_links():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 1000, 64), rng.integers(0, 1000, 64)
    starts, columns = np.arange(0, 65, 4, dtype="u8"), rng.integers(0, 64, 64).astype("u4")
    values = rng.integers(0, 1000, 64)
    with mmsb.open() as state:
        pages = [state.create_page(data=data) for data in (a, b, starts, columns, values)]
        both, one, y = (state.create_page(size) for size in (512, 8, 128))
        state.depend(both, on=pages[:2], link=links.semiring("gcd-times", "int64", [2, 3]))
        state.depend(one, on=pages[:2], link=links.reduce("gcd-times", "int64"))
        state.depend(y, on=[pages[0], *pages[2:]], link=links.matrix("gcd-times", "int64", 16, 64))
        pages[0].write(np.array([7]), at=80)
        a[10] = 7
        assert np.array_equal(both.view("int64"), np.gcd(2 * a, 3 * b))
        assert one.view("int64")[0] == np.gcd.reduce(np.append(a, b))
        assert np.array_equal(y.view("int64"), np.gcd.reduceat(values * a[columns], np.arange(0, 64, 4)))
