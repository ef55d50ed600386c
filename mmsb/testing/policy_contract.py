"""What every propagation policy must pass.

In a plugin's tests:

    class TestBatched(PolicyContract):
        def make(self):
            return Batched(count=8)
"""

from __future__ import annotations

import random
import time

import pytest

from mmsb.plugin import Engine, Policy
from mmsb.testing.engine import Event, FakeEngine

SEEDS = range(8)


class _EveryCommit(Policy):
    """The reference: a wave after every commit."""

    def after_commit(self, engine: Engine) -> None:
        """Runs it."""
        engine.propagate()


class PolicyContract:
    """The same bytes as `immediate` after propagate(), waves only where there is work, no clock but the engine's."""

    # As in the policy's PropagationPolicySpec: the bytes after propagate() may differ from those of `immediate`.
    lossy = False

    def make(self) -> Policy:
        """A policy for one State."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def lived(self, seed: int, steps: int = 300) -> FakeEngine:
        """An engine with the policy after a random life."""
        engine = FakeEngine(self.make())
        engine.live(random.Random(seed), steps)
        return engine

    @pytest.mark.parametrize("seed", SEEDS)
    def test_propagate_gives_the_bytes_of_immediate(self, seed: int) -> None:
        """Whatever the policy put off, one propagate() brings. A lossy policy has said that it may differ."""
        if self.lossy:
            pytest.skip("declared lossy")
        engine, reference = self.lived(seed), FakeEngine(_EveryCommit())
        reference.live(random.Random(seed), 300)
        engine.propagate()
        assert engine.pages == reference.pages

    @pytest.mark.parametrize("seed", SEEDS)
    def test_no_wave_without_work(self, seed: int) -> None:
        """A wave is a commit in the log: an empty one is noise."""
        engine = self.lived(seed)
        engine.close()
        assert all(event[1] > 0 for event in engine.events if event[0] == "wave")  # type: ignore[operator]

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_same_life_gives_the_same_events(self, seed: int) -> None:
        """Nothing depends on chance, hash order or an earlier State."""
        assert self.lived(seed).events == self.lived(seed).events

    def test_states_do_not_share_a_policy(self) -> None:
        """Two policies at work in turns behave like each of them alone."""
        alone = self.lived(3).events
        first, second = FakeEngine(self.make()), FakeEngine(self.make())
        rngs = random.Random(3), random.Random(3)
        for _ in range(300):
            first.live(rngs[0], 1)
            second.live(rngs[1], 1)
        assert first.events == second.events == alone

    def test_it_asks_no_clock_but_the_engines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Time must be injectable, or a replay of commands goes another way."""

        def forbidden() -> float:
            raise AssertionError("a policy asks engine.clock(), no other clock")

        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"):
            monkeypatch.setattr(time, name, forbidden)
        try:
            events: list[Event] = self.lived(5).events
        finally:
            monkeypatch.undo()
        assert events == self.lived(5).events

    def test_close_comes_last(self) -> None:
        """It may run what is pending; the bytes are then those of a propagate()."""
        engine = self.lived(7)
        before = dict(engine.pages)
        engine.close()
        after = dict(engine.pages)
        engine.propagate()
        assert after in (before, engine.pages)
