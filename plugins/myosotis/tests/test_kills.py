"""Processes killed at random instants of commit, flush and compact: nothing that was committed is lost.

MYO_KILLS: how many processes are killed (default: 40).
"""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest
from myosotis import Memory, folding, v1

KILLS = int(os.environ.get("MYO_KILLS", "40"))
ACKNOWLEDGED = struct.Struct("<QQ")


def work(path: str, pipe: int, seed: int) -> None:
    """Commits, flushes and compacts until it is killed; says which commit and which fold it has come to."""
    folding.FOLD_LEAST = 15  # so that folds in the background happen, too
    chance = random.Random(seed)
    memory = Memory.open(path)
    node = memory.node(1) if 1 in memory else memory.create("Counter", n=0, ballast="x" * 100)
    folded = 0
    while True:
        for _ in range(chance.randrange(1, 12)):
            node.n = memory.head + 1
            if chance.random() < 0.3:
                memory.create("Thing", of=node, size="y" * chance.randrange(300))
            memory.commit(label=f"commit {memory.head + 1}", meta={"n": memory.head + 1})
            os.write(pipe, ACKNOWLEDGED.pack(memory.head, folded))
        what = chance.random()
        if what < 0.5:
            memory.flush()
            folded = memory.head
            os.write(pipe, ACKNOWLEDGED.pack(memory.head, folded))
        elif what < 0.7:
            memory.compact(memory.head - chance.randrange(min(5, memory.head - memory.store.head.base_id)))
        elif what < 0.8:
            memory.close()
            memory = Memory.open(path)
            node = memory.node(1)


def killed_after(path: str, delay: float, seed: int) -> tuple[int, int]:
    """Lets a process work for so many seconds. The last commit and the last fold it had acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(path, writing, seed)
        finally:
            os._exit(1)  # it ends only when it is killed, or by an error, which the test must see
    os.close(writing)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    assert os.WIFSIGNALED(status), "the process ended by itself"
    whole = len(data) // ACKNOWLEDGED.size * ACKNOWLEDGED.size
    return ACKNOWLEDGED.unpack(data[whole - ACKNOWLEDGED.size : whole]) if whole else (0, 0)


@pytest.mark.parametrize("suffix", [".myo", ".mmsb"])
def test_kills(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"state{suffix}")
    chance = random.Random(7)
    seen = 0
    for number in range(KILLS if suffix == ".myo" else KILLS // 4):
        committed, folded = killed_after(path, chance.random() ** 2 * 0.08, number)
        committed = max(committed, seen)
        if suffix == ".myo" and os.path.exists(path):
            document = v1.read_file(path)
            in_file = document.head.nodes[1].fields["n"] if document.head.nodes else 0
            assert in_file >= folded
        with Memory.open(path, read_only=seen > 0 and chance.random() < 0.3) as memory:
            assert memory.head >= committed
            found = memory.verify()
            assert found.ok, found.sentence()
            if memory.head:
                assert memory.node(1).n == memory.head
                assert [commit.meta["n"] for commit in memory.commits()] == [c.id for c in memory.commits()]
                assert all(commit.label == f"commit {commit.id}" for commit in memory.commits())
            seen = memory.head
    assert seen > 0, "no process came as far as a commit"
