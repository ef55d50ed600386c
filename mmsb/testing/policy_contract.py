"""What every propagation policy must pass.

In a plugin's tests:

    class TestBatched(PolicyContract):
        def make(self):
            return Batched(count=8)
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from mmsb.plugin import Policy
from mmsb.testing.engine import Event, Trial

SEEDS = range(8)


class PolicyContract:
    """The same bytes as `immediate` after propagate(), no old bytes for a reader, no clock but the engine's."""

    # As in the policy's PropagationPolicySpec: what is read may differ from what `immediate` gives.
    lossy = False

    def make(self) -> Policy:
        """A policy for one State."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def lived(self, seed: int, policy: Any = None) -> Trial:
        """A State with the policy after a random life."""
        trial = Trial(self.make() if policy is None else policy)
        trial.live(random.Random(seed), 300)
        return trial

    @pytest.mark.parametrize("seed", SEEDS)
    def test_propagate_gives_the_bytes_of_immediate(self, seed: int) -> None:
        """Whatever the policy put off, one propagate() brings. A lossy policy has said that it may differ."""
        if self.lossy:
            pytest.skip("declared lossy")
        trial = self.lived(seed)
        trial.propagate()
        assert trial.pages == self.lived(seed, "immediate").pages

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_reader_sees_what_is_up_to_date_or_an_error(self, seed: int) -> None:
        """Never bytes from before a change. A lossy policy has said that it shows such."""
        if self.lossy:
            pytest.skip("declared lossy")
        reads, wanted = (
            [event for event in trial.events if event[0] in ("read", "stale")]
            for trial in (self.lived(seed), self.lived(seed, "immediate"))
        )
        assert len(reads) == len(wanted)
        for got, right in zip(reads, wanted, strict=True):
            assert got in (right, ("stale", right[1]))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_same_life_gives_the_same_events(self, seed: int) -> None:
        """Nothing depends on chance, hash order or an earlier State."""
        assert self.lived(seed).events == self.lived(seed).events

    def test_states_do_not_share_a_policy(self) -> None:
        """Two policies at work in turns behave like each of them alone."""
        alone = self.lived(3).events
        first, second = Trial(self.make()), Trial(self.make())
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

    @pytest.mark.parametrize("seed", SEEDS)
    def test_close_leaves_all_or_nothing_pending(self, seed: int) -> None:
        """It may run what is pending; the bytes are then those of a propagate()."""
        closed, asked = self.lived(seed), self.lived(seed)
        before = closed.pages
        closed.close()
        asked.propagate()
        assert closed.pages in (before, asked.pages)
