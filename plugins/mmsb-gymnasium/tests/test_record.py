"""Recording, killing, resuming and re-enacting small environments and an Atari game."""

import json
import subprocess
import sys

import gymnasium
import numpy
import pytest
from mmsb_gymnasium.recorder import Divergence, Recorder, describe, reenact, resume

import mmsb


def record(path, env, steps, seed=3, policy="random"):
    """A recording of `steps` steps; its digest."""
    with mmsb.open(path) as state:
        recorder = Recorder(state, describe(env, {}, seed, policy))
        recorder.begin()
        for _ in range(steps):
            recorder.step()
        return state.digest()


def command(*arguments):
    """Runs `mmsb ...`."""
    return subprocess.run([sys.executable, "-m", "mmsb", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCarContinuous-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_any_environment(tmp_path, env):
    digest = record(tmp_path / "s", env, 60)
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 61 and state.digest() == digest
        assert reenact(state).state.digest() == digest
        assert not state.verify().findings


def test_pages_hold_what_the_environment_said(tmp_path):
    record(tmp_path / "s", "CartPole-v1", 40, seed=5)
    env = gymnasium.make("CartPole-v1")
    env.action_space.seed(5)
    observation, _ = env.reset(seed=5)
    env.action_space.sample()
    with mmsb.open(tmp_path / "s") as state:
        assert (numpy.frombuffer(state.at("step 0").page("observation").read(), "f4") == observation).all()
        for step in range(1, 10):
            past = state.at(f"step {step}")
            action = int(numpy.frombuffer(past.page("action").read(), "i8")[0])
            observation, reward, terminated, _, _ = env.step(action)
            assert (numpy.frombuffer(past.page("observation").read(), "f4") == observation).all()
            assert numpy.frombuffer(past.page("reward").read(), "f8")[0] == reward
            assert past.page("terminated").read() == bytes([terminated])


def test_resume_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = record(tmp_path / "whole", "CartPole-v1", 80)
    record(tmp_path / "cut", "CartPole-v1", 37)
    with mmsb.open(tmp_path / "cut") as state:
        recorder = resume(state)
        assert recorder.steps == 37
        for _ in range(43):
            recorder.step()
        assert state.digest() == whole


def test_a_changed_recording_is_named(tmp_path):
    record(tmp_path / "s", "CartPole-v1", 30)
    with mmsb.open(tmp_path / "s") as state:
        fork = state.fork(at="step 20", path=tmp_path / "f")
        fork.page("observation").write(b"\1\2", at=4)
        with pytest.raises(Exception, match="step|kept"):
            reenact(fork)
        fork.close()
    with mmsb.open(tmp_path / "t") as state:
        recorder = Recorder(state, describe("CartPole-v1", {}, 3, "random"))
        recorder.begin()
        for step in range(1, 10):
            recorder.step()
            if step == 6:
                with state.batch(label="step 7") as batch:
                    batch.write("reward", b"\7" * 8)
                break
        with pytest.raises(Divergence) as caught:
            reenact(state)
        assert caught.value.step == 7


def test_the_commands(tmp_path):
    done = command("record", "CartPole-v1", tmp_path / "s", "--steps", 25, "--seed", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 25
    again = command("reenact", tmp_path / "s", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["same"]
    assert command("record", "CartPole-v1", tmp_path / "s", "--steps", 25).returncode == 1
    assert command("record", "NoSuchGame-v0", tmp_path / "x").returncode != 0
    assert command("record", "CartPole-v1", tmp_path / "s", "--steps", 0).returncode == 2


def test_atari_with_its_ram(tmp_path):
    pytest.importorskip("ale_py")
    digest = record(tmp_path / "s", "ALE/Breakout-v5", 40)
    with mmsb.open(tmp_path / "s") as state:
        assert state.page("ram").size == 128 and state.page("observation").size == 210 * 160 * 3
        assert state.page("agent").size == 37 and reenact(state).state.digest() == digest


class Counter:
    """A policy with a memory: alternates, and counts."""

    def __init__(self, space, seed):
        self.count = seed

    def act(self, observation):
        self.count += 1
        return self.count % 2

    def memory(self):
        return self.count.to_bytes(8, "little")


def test_a_policy_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_policy", sys.modules[__name__])
    record(tmp_path / "s", "CartPole-v1", 20, policy="my_policy:Counter")
    with mmsb.open(tmp_path / "s") as state:
        assert int.from_bytes(state.page("agent").read(), "little") == 23
        reenact(state)
