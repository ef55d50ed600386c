"""The policies keep the contract, wait as long as they say, and threshold loses no more than its limit."""

import struct

import pytest
from mmsb_policies.batched import Batched
from mmsb_policies.threshold import Threshold

import mmsb
from mmsb.testing import PluginContract, PolicyContract, Trial


class TestPlugin(PluginContract):
    module = "mmsb_policies.plugin"


class TestBatched(PolicyContract):
    def make(self):
        return Batched(count=3)


class TestBatchedByDelay(PolicyContract):
    def make(self):
        return Batched(count=1000, delay_ns=2_000_000)


class TestThreshold(PolicyContract):
    lossy = True

    def make(self):
        return Threshold(2.0, dtype="int64")


def waves(trial):
    return [event for event in trial.events if event[0] == "wave"]


def test_batched_waits_for_its_count():
    trial = Trial(Batched(count=3))
    for value in (5, 6, 7):
        assert waves(trial) == []
        trial.write(1, value)
        trial.advance(1_000_000)
    assert waves(trial) == [("wave", 2_000_000)]
    trial.write(1, 8)
    assert trial.read(10) is None
    trial.close()
    assert trial.events[4:] == [("commit", 1), ("stale", 10), ("wave", 3_000_000), ("close",)]


def test_batched_waits_no_longer_than_its_delay():
    trial = Trial(Batched(count=1000, delay_ns=100))
    trial.write(1, 5)
    trial.advance(99)
    assert trial.read(10) is None
    trial.advance(1)
    assert trial.read(10) == 15
    trial.write(1, 6)
    trial.advance(100)
    trial.write(2, 1)
    assert waves(trial) == [("wave", 100), ("wave", 200)]


def test_batched_waits_anew_after_a_wave_of_somebody_else():
    trial = Trial(Batched(count=3, delay_ns=100))
    trial.write(1, 5)
    trial.advance(60)
    trial.write(1, 6)
    trial.propagate()
    trial.write(1, 7)
    trial.advance(60)
    assert trial.read(10) is None and len(waves(trial)) == 1
    trial.write(1, 8)
    trial.write(1, 9)
    assert len(waves(trial)) == 2 and trial.read(10) == 19


@pytest.mark.parametrize("numbers", [{"count": 0}, {"delay_ns": -1}])
def test_batched_refuses(numbers):
    with pytest.raises(ValueError, match="must be at least"):
        Batched(**numbers)


def test_threshold_computes_when_a_page_has_moved_far_enough():
    trial = Trial(Threshold(2.0, dtype="int64"))
    trial.write(1, 10)
    assert trial.read(10) == 20
    trial.write(1, 12)
    assert trial.read(10) == 20 and len(waves(trial)) == 1
    trial.write(1, 13)
    assert trial.read(10) == 23 and len(waves(trial)) == 2


def test_after_propagate_nothing_is_lost():
    trial = Trial(Threshold(100.0, dtype="int64"))
    trial.write(1, 1)
    trial.write(1, 5)
    assert trial.read(10) == 11
    trial.propagate()
    assert trial.read(10) == 15


def test_threshold_measures_from_a_wave_of_somebody_else():
    with mmsb.open() as state:
        source, child = state.create_page(8), state.create_page(8)
        state.depend(child, on=[source], fn=lambda out, parent: bytes(parent))
        state.policy = Threshold(1.0)

        def write(value):
            source.write(struct.pack("<d", value))
            return struct.unpack("<d", child.read())[0]

        assert (write(0.5), write(1.4)) == (0.5, 0.5)
        state.propagate()
        assert write(0.2) == 0.2  # moved by 1.2 since that wave
        assert write(0.9) == 0.2
        state.propagate()
        assert (write(1.8), write(1.95)) == (0.9, 1.95)


@pytest.mark.parametrize(
    ("norm", "new", "is_far"),
    [
        ("max", (3.0, 2.9), False),
        ("max", (3.1, 0.0), True),
        ("sum", (2.0, 1.0), False),
        ("sum", (2.0, 1.1), True),
        ("euclid", (3.0, 0.0), False),
        ("euclid", (2.2, 2.2), True),
        ("max", (float("nan"), 0.0), True),
        ("max", (float("inf"), 0.0), True),
    ],
)
def test_norms(norm, new, is_far):
    with mmsb.open() as state:
        source, child = state.create_page(16), state.create_page(16)
        state.depend(child, on=[source], fn=lambda out, parent: bytes(parent))
        state.policy = Threshold(3.0, norm=norm)
        source.write(struct.pack("<2d", 0.0, -0.0))  # the first look is far, whatever it sees
        assert child.read() == source.read()
        source.write(struct.pack("<2d", *new))
        assert (child.read() == source.read()) == is_far


def test_what_cannot_be_measured_is_far():
    with mmsb.open() as state:
        source, child = state.create_page(10), state.create_page(10)
        state.depend(child, on=[source], fn=lambda out, parent: bytes(parent))
        state.policy = Threshold(1e300)
        for value in (b"a", b"b"):
            source.write(value)
            assert child[0:1] == value


def test_a_page_that_failed_is_not_near_enough():
    with mmsb.open() as state:
        source, child = state.create_page(8), state.create_page(8)
        state.depend(child, on=[source], fn=lambda out, parent: 1 // 0 if parent[0] else None)
        state.policy = Threshold(0.5)
        source.write(struct.pack("<d", 7.7))
        with pytest.raises(mmsb.StalePageError, match="ZeroDivisionError"):
            child.read()


@pytest.mark.parametrize("numbers", [{"norm": "least"}, {"limit": -1.0}, {"limit": float("nan")}])
def test_threshold_refuses(numbers):
    with pytest.raises(ValueError, match="must be one of"):
        Threshold(**numbers)
