"""The Python example of the seed, letter by letter."""

import os
import re
from pathlib import Path

SEED = """
from myosotis import Memory

mem = Memory.open("state.myo")

agent = mem.create("Agent", name="Iris")
agent.goal = "Explore ideas"

mem.commit(label="initial goal")
"""


def test_the_seeds_example(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(SEED, names)
    memory, agent = names["mem"], names["agent"]
    assert (agent.id, agent.type, agent.name, agent.goal) == (1, "Agent", "Iris", "Explore ideas")
    (commit,) = memory.commits()
    assert (commit.id, commit.label, commit.parent_hash, len(commit.mutations)) == (1, "initial goal", None, 3)
    assert re.fullmatch("[0-9a-f]{64}", commit.hash)
    memory.close()
    assert os.path.getsize("state.myo") > 162
    with names["Memory"].open("state.myo") as again:
        assert again.to_dict() == {
            1: {"type": "Agent", "fields": {"goal": "Explore ideas", "name": "Iris"}, "deleted": False}
        }
