"""The recorder: one step of an environment is one commit.

Pages: `recording` (what was recorded, in its metadata), `observation` (or `observation/...`, one per part), `ram`,
`action`, `reward` (f8), `terminated`, `truncated` (u1), `agent` (the policy's own bytes), `episode` (u8). An episode
that ended is begun anew within the next step, without a seed: only the first reset has one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy

import mmsb
from mmsb_gymnasium.worlds import leaves, make_environment, make_policy, ram_of, rebuild, versions


class Divergence(Exception):
    """Running the environment again gave something else: `step`, `page`, `start`, `end`."""

    def __init__(self, step: int, page: str, start: int, end: int) -> None:
        super().__init__(
            f"step {step} differs from the recording in page {page!r}, bytes {start} to {end}. "
            "The environment, its version or its policy is not the recorded one."
        )
        self.step, self.page, self.start, self.end = step, page, start, end


class World:
    """An environment and its policy, stepping; `parts()` are the bytes of every page after a step."""

    def __init__(self, notes: dict[str, Any]) -> None:
        self.env = make_environment(notes["environment"], json.loads(notes["kwargs"]))
        # The action page needs a size before the first action is there: a sample, from the recorded seed.
        self.env.action_space.seed(notes["seed"])
        self.action = self.env.action_space.sample()
        self.policy = make_policy(notes["policy"], self.env.action_space, notes["seed"])
        self.observation, _ = self.env.reset(seed=notes["seed"])
        self.reward, self.terminated, self.truncated, self.episode = 0.0, False, False, 0

    def step(self, action: Any = None) -> None:
        """One step with an action, by default the policy's."""
        if self.terminated or self.truncated:
            self.observation, _ = self.env.reset()
            self.episode += 1
        chosen = self.policy.act(self.observation)
        self.action = chosen if action is None else action
        self.observation, reward, self.terminated, self.truncated, _ = self.env.step(self.action)
        self.reward = float(reward)

    def parts(self) -> list[tuple[str, bytes | numpy.ndarray]]:
        """(page name, bytes) of everything, always in the same order. Empty parts have no page."""
        found: list[tuple[str, Any]] = [
            *leaves(self.observation, "observation"),
            ("ram", ram_of(self.env)),
            *leaves(self.action, "action"),
            ("reward", struct.pack("<d", self.reward)),
            ("terminated", bytes([self.terminated])),
            ("truncated", bytes([self.truncated])),
            ("agent", self.policy.memory()),
            ("episode", struct.pack("<Q", self.episode)),
        ]
        return [(name, value) for name, value in found if (value.nbytes if hasattr(value, "nbytes") else len(value))]


class Recorder:
    """A World that writes itself into a State."""

    def __init__(self, state: mmsb.State, notes: dict[str, Any]) -> None:
        self.state = state
        self.notes = notes
        self.world = World(notes)
        self.steps = 0

    def begin(self) -> None:
        """The first commit: every page, as it is after the reset."""
        with self.state.batch(source="recorder", label="step 0") as batch:
            batch.create_page(1, name="recording", metadata=self.notes)
            for name, value in self.world.parts():
                shape = {"dtype": str(value.dtype), "shape": json.dumps(value.shape)} if hasattr(value, "dtype") else {}
                batch.create_page(name=name, data=value, metadata=shape)

    def step(self, action: Any = None) -> None:
        """One step, one commit."""
        self.world.step(action)
        self.steps += 1
        with self.state.batch(source="recorder", label=f"step {self.steps}") as batch:
            for name, value in self.world.parts():
                batch.write(name, value)


def describe(environment: str, kwargs: dict[str, Any], seed: int, policy: str) -> dict[str, Any]:
    """The recording's metadata."""
    return {
        "environment": environment,
        "kwargs": json.dumps(kwargs, sort_keys=True),
        "seed": seed,
        "policy": policy,
        "versions": versions(),
    }


def recorded_actions(state: mmsb.State, space: Any, first: int, last: int) -> Iterator[Any]:
    """The actions of steps first..last, read from the log."""
    stepper = state.stepper(first)  # commit `step` has seq step + 1
    for step in range(first, last + 1):
        stepper.goto(step + 1)

        def read(name: str, dtype: Any, shape: tuple[int, ...]) -> numpy.ndarray:
            return numpy.frombuffer(stepper.page(name).read(), dtype).reshape(shape)  # noqa: B023

        yield rebuild(space, "action", read)


def compare(recorded: Any, again: mmsb.State, step: int) -> None:
    """Raises Divergence at the first page in which two states differ."""
    if recorded.digest() == again.digest():
        return
    for page in again.pages():
        theirs = recorded.page(page.page_id).read()
        ours = page.read()
        if ours != theirs:
            differing = [index for index, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
            start, end = (differing[0], differing[-1] + 1) if differing else (0, 0)
            raise Divergence(step, page.name or str(page.page_id), start, end)
    raise Divergence(step, "(names, sizes or epochs)", 0, 0)


def reenact(state: mmsb.State, progress: Any = None, actions: bool = True) -> Recorder:
    """Runs a recording again, in memory, comparing digests after every step. Returns the Recorder at its end.

    Raises Divergence at the first step that differs. `progress(step, steps)` is called after every step.
    """
    notes = dict(state.page("recording").metadata)
    again = Recorder(mmsb.open(), notes)
    again.begin()
    steps = state.seq - 1
    stepper = state.stepper(1)
    compare(stepper, again.state, 0)
    for step, action in enumerate(recorded_actions(state, again.world.env.action_space, 1, steps), 1):
        again.step(action if actions else None)
        stepper.step()
        compare(stepper, again.state, step)
        if progress is not None:
            progress(step, steps)
    return again


def resume(state: mmsb.State, progress: Any = None) -> Recorder:
    """A Recorder that goes on where the recording in `state` ends, after re-enacting it up to there."""
    recorder = reenact(state, progress)
    recorder.state.close()
    recorder.state = state
    return recorder
