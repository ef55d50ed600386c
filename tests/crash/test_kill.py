"""SIGKILL at random moments: no acknowledged commit is lost, none is invented, recovery can be repeated.

Measure R2 of the reliability programme does it ten thousand times, with readers and writers of other processes.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import mmsb

WRITER = """
import sys, mmsb
path, durability = sys.argv[1:3]
state = mmsb.open(path, durability=durability, segment_bytes=65536)
if "counter" not in state:
    state.create_page(8, name="counter")
    state.create_page(20000, name="data")
start = int.from_bytes(state.page("counter").read(), "little")
for n in range(start + 1, start + 10**6):
    with state.batch(label=f"step {n}", source="writer") as b:
        b.write("counter", n.to_bytes(8, "little"))
        b.write("data", n.to_bytes(8, "little") * 4, at=n * 32 % 19000)
    if n % 50 == 49:
        state.create_page(10, data=b"x")
        state.delete_page(state.pages()[-1])
    if n % 400 == 399:
        state.checkpoint()
    sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
"""


def expected_data(n):
    """Bytes of page `data` after step n."""
    data = bytearray(20000)
    for step in range(max(1, n - 700), n + 1):
        data[step * 32 % 19000 : step * 32 % 19000 + 32] = step.to_bytes(8, "little") * 4
    return data


def kill_once(path, durability, delay):
    """Runs the writer and kills it after `delay` seconds. The last acknowledged step."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), durability], stdout=subprocess.PIPE)
    first = writer.stdout.readline()
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read()
    writer.wait()
    writer.stdout.close()
    complete = [line for line in (first + rest).split(b"\n")[:-1] if line]
    return int(complete[-1]) if complete else 0


def check(path, acknowledged):
    """Opens, compares with what the writer did, verifies now and then."""
    with mmsb.open(path, segment_bytes=65536) as state:
        n = int.from_bytes(state.page("counter").read(), "little")
        assert n >= acknowledged, "an acknowledged commit is lost"
        assert n <= acknowledged + 1, "a commit is invented"
        written = expected_data(n)
        data = state.page("data").read()
        for step in range(max(1, n - 500), n + 1):
            at = step * 32 % 19000
            assert data[at : at + 32] == written[at : at + 32]
        assert state.at(f"step {n}").page("counter").read() == state.page("counter").read()
        return n


@pytest.mark.parametrize("durability", ["process", "group", "power"])
def test_kill_loop(tmp_path, durability):
    dice = random.Random(1)
    for _ in range(20):
        check(tmp_path / "s", kill_once(tmp_path / "s", durability, dice.random() * 0.05))
    with mmsb.open(tmp_path / "s") as state:
        assert not state.verify().findings
