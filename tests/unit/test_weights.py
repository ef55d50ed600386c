"""Weights per lane: what a State computes with them, in part and as a whole, and after it was opened again."""

import numpy
import pytest

import mmsb
from mmsb import links

LANES = 3000  # more than is computed in one piece


def numbers(rng, *shape):
    return numpy.array([rng.randrange(-99, 99) for _ in range(int(numpy.prod(shape)))], "int64").reshape(shape)


def pages(state, count, lanes=LANES):
    return [state.create_page(lanes * 8) for _ in range(count)]


def test_every_lane_of_every_parent_has_its_own(tmp_path, rng):
    weights, values = numbers(rng, 3, LANES), numbers(rng, 3, LANES)
    with mmsb.open(tmp_path / "store") as state:
        *parents, child = pages(state, 4)
        state.depend(child, on=parents, link=links.semiring("plus-times", "int64", weights))
        for parent, content in zip(parents, values, strict=True):
            parent.write(content)
        assert (child.view("int64") == (weights * values).sum(0)).all()
        for at in (0, 511, 512, LANES - 1):  # four lanes, each computed alone
            values[1, at] += 5
            parents[1].write(values[1, at : at + 1], at * 8)
            assert (child.view("int64") == (weights * values).sum(0)).all()
        state.depend(child, on=parents, link=links.semiring("plus-times", "int64", weights))  # the same again
        before = state.digest()
        with pytest.raises(mmsb.LinkError):
            state.depend(child, on=parents, link=links.semiring("plus-times", "int64", weights + 1))
        assert state.digest() == before
    with mmsb.open(tmp_path / "store") as state:
        assert not state.verify(recompute=True).findings
        values[0] = 1
        state.page(1).write(values[0])
        assert (state.page(4).view("int64") == (weights * values).sum(0)).all()
        with state.fork() as fork:
            fork.page(1).write(values[2])
            assert (fork.page(4).view("int64") == weights[0] * values[2] + (weights * values)[1:].sum(0)).all()
        state.undepend(4)
        state.depend(4, on=[1, 2], link=links.semiring("plus-times", "int64", [2, 3]))
        assert (state.page(4).view("int64") == 2 * values[0] + 3 * values[1]).all()


def test_an_accumulating_link_keeps_the_least_that_there_ever_was(rng):
    with mmsb.open() as state:
        *parents, child = pages(state, 3)
        child.write(numpy.full(LANES, 1 << 40))
        least = numpy.full(LANES, 1 << 40)
        weights, values = numbers(rng, 2, LANES), numpy.zeros((2, LANES), "int64")
        state.depend(child, on=parents, link=links.semiring("min-plus", "int64", weights, accumulate=True))
        least = numpy.minimum(least, weights.min(0))
        for _ in range(3):
            for row, parent in enumerate(parents):
                values[row] = numbers(rng, LANES)
                parent.write(values[row])
                least = numpy.minimum(least, (weights + values).min(0))
        parents[0].write(numpy.array([-1000]), 8)
        least[1] = min(least[1], weights[0, 1] - 1000)
        assert (child.view("int64") == least).all()


def test_for_pages_of_one_lane_both_kinds_are_one():
    with mmsb.open() as state:
        *parents, child = pages(state, 3, 1)
        state.depend(child, on=parents, link=links.semiring("plus-times", "int64", [2, 3]))
        state.depend(child, on=parents, link=links.semiring("plus-times", "int64", [[2], [3]]))
        for parent in parents:
            parent.write(numpy.array([10]))
        assert child.view("int64").tolist() == [50]


def test_many_links_at_once_take_a_row_per_edge():
    with mmsb.open() as state:
        pages(state, 4, 2)
        state.depend_many([1, 2, 1], [3, 4, 4], [[1, 2], [3, 4], [5, 6]], semiring="plus-times", dtype="int64")
        state.page(1).write(numpy.array([10, 100]))
        state.page(2).write(numpy.array([1, 1]))
        assert [state.page(at).view("int64").tolist() for at in (3, 4)] == [[10, 200], [53, 604]]
        for weights in ([1, 2], [[1, 2, 3]]):
            with pytest.raises((ValueError, mmsb.LinkError)):
                state.depend_many([1], [2], weights, semiring="plus-times", dtype="int64")
