"""Stepper: after any walk it equals at(seq), whatever its undo had to be rebuilt from."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb import stepper
from mmsb.digest import core_digest
from mmsb.testing.histories import random_history
from mmsb.testing.model import picture_of


@given(st.integers(0, 1 << 32), st.lists(st.integers(0, 30), max_size=12), st.sampled_from([3, 4096]))
def test_any_walk_equals_at(seed, walk, kept):
    with pytest.MonkeyPatch.context() as patch, mmsb.open(segment_bytes=4096) as state:
        patch.setattr(stepper, "UNDO_COMMITS", kept)
        history = random_history(state, random.Random(seed), 30)
        walker = state.stepper(15)
        for seq in walk:
            assert walker.goto(seq) == walker.seq == seq
            assert picture_of(walker) == history.pictures[seq]
            assert walker.digest() == history.digests[seq] == core_digest(walker.core)
            assert walker.core._check() is None


def test_step_by_step_there_and_back(rng):
    with mmsb.open() as state:
        history = random_history(state, rng, 40)
        walker = state.stepper(0)
        for seq in [*range(1, 41), *range(39, -1, -1), *range(1, 41)]:
            walker.step(seq - walker.seq)
            assert picture_of(walker) == history.pictures[seq]
            assert walker.digest() == history.digests[seq]
            assert walker.core.next_page_id == state.at(seq).next_page_id
        assert walker.commit().seq == 40


def test_a_walk_follows_the_growing_log():
    with mmsb.open(segment_bytes=4096) as state:
        page = state.create_page(500, name="a")
        walker = state.stepper()
        for number in range(100):
            page.write(bytes([number + 1]) * 400)
            walker.step()
            assert walker.page("a").read() == page.read()
        assert walker.goto(1) == 1
        assert walker.page("a").read() == bytes(500)


def test_the_ends_of_history_stop_a_walk_without_moving_it():
    with mmsb.open() as state:
        state.create_page(1)
        walker = state.stepper()
        for step in (1, -2):
            with pytest.raises(mmsb.UnknownMomentError):
                walker.step(step)
            assert walker.seq == 1
        with pytest.raises(mmsb.ReadOnlyError):
            walker.page(1).write(b"x")
        with pytest.raises(mmsb.PageNotFoundError):
            walker.page(2)
        walker.close()
        with pytest.raises(mmsb.StateClosedError):
            walker.step(-1)


def test_a_walk_out_of_a_history_that_was_dropped(rng):
    with mmsb.open(segment_bytes=4096, history=16384) as state:
        page = state.create_page(1000)
        walker = state.stepper()
        contents = {1: page.read()}
        for _ in range(100):
            page.write(rng.randbytes(500))
            contents[state.seq] = page.read()
        assert state.first_seq > 1
        with pytest.raises(mmsb.RetentionError):
            walker.step()
        for seq in (state.seq, state.first_seq, state.first_seq + 3):
            assert walker.goto(seq) == seq
            assert walker.page(1).read() == contents[seq]


def test_a_resize_taken_back_leaves_the_name_with_the_page():
    with mmsb.open() as state:
        page = state.create_page(8, name="a", metadata={"k": 1})
        page.resize(9)
        page.delete()
        state.create_page(1, name="a")
        walker = state.stepper(2)
        for seq in (1, 2, 1, 4, 1, 3, 0, 4):
            for _ in range(abs(seq - walker.seq)):
                walker.step(1 if seq > walker.seq else -1)
            assert picture_of(walker) == picture_of(state.at(seq))
            assert ("a" in walker) == (seq not in (0, 3))
