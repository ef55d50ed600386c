"""examples/agents.py: whoever is killed, agents, the tool or the owner, the world is finished, and is the right one."""

import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmsb

EXAMPLE = Path(__file__).parents[2] / "examples/agents.py"
ROLES = {"explorer", "builder", "judge", "sounder"}


@pytest.fixture
def agents():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("agents", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(store, *more):
    return subprocess.Popen(
        [sys.executable, EXAMPLE, "--store", store, "--seed", "5", *more], stdout=subprocess.PIPE, text=True
    )


def attach(store):
    """Once the owner serves."""
    end = time.monotonic() + 30
    while True:
        try:
            return mmsb.attach(store)
        except (mmsb.OwnerGoneError, mmsb.NotAStoreError):
            assert time.monotonic() < end, "nobody serves the world"
            time.sleep(0.01)


def hear(owner, alive):
    """Learns of one more process."""
    line = owner.stdout.readline()
    role, pid = re.fullmatch(r"(\w+) is process (\d+)\n", line).groups()
    alive[role] = int(pid)


@pytest.mark.parametrize("owners", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_world_is_finished(tmp_path, agents, owners):
    """Each agent is killed, and then the owner, so often; the next owner comes to the end."""
    dice, store = random.Random(11), str(tmp_path / "cave.mmsb")
    for _ in range(owners):
        owner, alive = start(store, "--pace", "0.06"), {}
        while alive.keys() < ROLES:
            hear(owner, alive)
        with attach(store) as view:
            begun = view.seq
            for role in dice.sample(sorted(ROLES), 4):
                assert view.wait(view.seq + dice.randrange(1, 12), timeout=30), "nothing happens"
                os.kill(alive[role], signal.SIGKILL)
                hear(owner, alive)  # it is started again
            assert view.wait(view.seq + dice.randrange(1, 12), timeout=30) and view.seq > begun
            assert not view.page("board").view("int64")[agents.DONE], "it is over before the owner is killed"
            owner.kill()
            owner.communicate()  # its agents end by themselves, and with them what they print into
            assert owner.returncode == -signal.SIGKILL
    owner = start(store, "--pace", "0.0005", "--png", str(tmp_path / "cave.png"))
    text, _ = owner.communicate(timeout=120)
    assert owner.returncode == 0, text
    assert "done: " in text and text.count("$") == 7 and text.count("@") == 1
    with mmsb.open(store) as state:
        agents.check(state)
        assert not state.verify().findings
        assert {commit.source for commit in state.log()} == ROLES | {"owner"}
        assert state.at("explored").seq < state.at("done").seq <= state.seq
        # A wrong world is noticed.
        state.page("traffic").write((1).to_bytes(8, "little"))
        with pytest.raises(AssertionError, match="twice"):
            agents.check(state)


def test_its_image_and_its_help(tmp_path, agents):
    pytest.importorskip("PIL")
    text = subprocess.run([sys.executable, EXAMPLE, "--help"], check=True, capture_output=True, text=True).stdout
    assert "--store" in text and "Three agents and a tool" in text
    with mmsb.open() as state:
        agents.create(state, 5)
        agents.paint(agents.picture(state), tmp_path / "cave.png")
    assert (tmp_path / "cave.png").read_bytes()[:4] == b"\x89PNG"
