"""The figures of Myosotis: each against its bound, or against another store doing the same work in the same run.

The first engine's times were taken elsewhere; there, reading the same file as JSON and hashing it took ENGINE_JSON_S
in Python, so that this machine's time for that says what the first engine would need here.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from measure import Figure, run_suite, spread_of
from myosotis import Memory, v1

SEED = 20261122
NODES = 10
COMMITS = 5_000  # per timing
ROUNDS = 9
MANY = 1_000_000
MANY_NODES = 10_000
READS = 2_000
ENGINE_LOAD_S, ENGINE_JSON_S = 0.222, 0.370
ENGINE_COMMIT_BYTES = 1_190

Change = Callable[[int], None]


def size_of(folder: str) -> int:
    """Bytes of all files below a folder, as they take room on the disk."""
    return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def rate(change: Change, first: int, count: int = COMMITS) -> float:
    """Commits per second."""
    begun = time.perf_counter()
    for n in range(first, first + count):
        change(n)
    return count / (time.perf_counter() - begun)


def changing(memory: Memory, count: int = NODES) -> Change:
    """One SetField and a commit."""
    nodes = [memory.create("Agent", n=0) for _ in range(count)]
    memory.commit()

    def change(n: int) -> None:
        nodes[n % count].n = n
        memory.commit()

    return change


def commits() -> Iterator[Figure]:
    """Commits per second with little history and with much, in turn, so that both meet the same machine."""
    folder = tempfile.mkdtemp()
    with Memory.open(folder + "/late.mmsb") as late:
        change_late = changing(late)
        rate(change_late, 0, 100_000)
        early_rates, late_rates = [], []
        for round_ in range(ROUNDS):
            with Memory.open(f"{folder}/early{round_}.mmsb") as early:
                change_early = changing(early)
                rate(change_early, 0, 100)
                early_rates.append(rate(change_early, 100, COMMITS))
            late_rates.append(rate(change_late, 100_000 + round_ * COMMITS))
        before = late.state.stats()["log"]["bytes"]
        rate(change_late, 0, COMMITS)
        each = (late.state.stats()["log"]["bytes"] - before) / COMMITS
    for name, rates in (("100", early_rates), ("100,000", late_rates)):
        ratios = [each_rate / 50_000 for each_rate in rates]
        middle = statistics.median(rates)
        yield Figure(f"commits at {name}", middle, 50_000, "/s", middle / 50_000, spread_of(ratios), 1, 3)
    ratios = [b / a for a, b in zip(early_rates, late_rates, strict=True)]
    middle = statistics.median(ratios)
    yield Figure(
        "commits at 100,000 / at 100",
        statistics.median(late_rates),
        statistics.median(early_rates),
        "/s",
        middle,
        spread_of(ratios),
        0.8,
        1,
    )
    yield Figure("bytes per commit, one field", each, 120, "B", each / 120, 0, 1, 70 / 120, higher=False)
    yield Figure(
        "... / the first engine's",
        each,
        ENGINE_COMMIT_BYTES,
        "B",
        each / ENGINE_COMMIT_BYTES,
        0,
        120 / ENGINE_COMMIT_BYTES,
        70 / ENGINE_COMMIT_BYTES,
        higher=False,
    )


def of_sqlite(folder: str) -> Change:
    """The same fields in SQLite: WAL, synchronous=NORMAL, a transaction for each change."""
    database = sqlite3.connect(folder + "/peer.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE field (node INTEGER, key TEXT, value, PRIMARY KEY (node, key)) WITHOUT ROWID")
    for node in range(NODES):
        database.execute("INSERT INTO field VALUES (?, 'n', 0)", (node,))
    database.commit()

    def change(n: int) -> None:
        database.execute("UPDATE field SET value = ? WHERE node = ? AND key = 'n'", (n, n % NODES))
        database.commit()

    return change


def of_zodb(folder: str) -> Change:
    """The same fields in ZODB's FileStorage: persistent mappings, a transaction for each change."""
    import transaction
    import ZODB
    import ZODB.FileStorage
    from persistent.mapping import PersistentMapping

    connection = ZODB.DB(ZODB.FileStorage.FileStorage(folder + "/Data.fs")).open()
    root = connection.root()
    for node in range(NODES):
        root[str(node)] = PersistentMapping(n=0)
    transaction.commit()
    nodes = [root[str(node)] for node in range(NODES)]

    def change(n: int) -> None:
        nodes[n % NODES]["n"] = n
        transaction.commit()

    return change


def peers() -> Iterator[Figure]:
    """Commits per second beside other stores."""
    asked: list[tuple[str, Callable[[str], Change], int, float, float]] = [
        ("ZODB FileStorage", of_zodb, 200, 10, 30),
        ("SQLite, WAL, NORMAL", of_sqlite, COMMITS, 2, 5),
    ]
    for name, peer, count, must, reach in asked:
        with Memory.open(tempfile.mkdtemp() + "/ours.mmsb") as memory:
            ours, theirs = changing(memory), peer(tempfile.mkdtemp())
            pairs = [(rate(ours, n * COMMITS), rate(theirs, n * count, count)) for n in range(ROUNDS)]
        ratios = [a / b for a, b in pairs]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        yield Figure(
            f"commits, beside {name}", mine, other, "/s", statistics.median(ratios), spread_of(ratios), must, reach
        )


@cache
def million(nodes: int) -> str:
    """A store of MANY commits, at random nodes."""
    path = tempfile.mkdtemp() + "/million.mmsb"
    chance = random.Random(SEED)
    with Memory.open(path) as memory:
        change = changing(memory, nodes)
        for _ in range(MANY):
            change(chance.randrange(nodes))
    return path


def opening() -> Figure:
    """Opening a long history."""
    path = million(NODES)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        memory = Memory.open(path)
        times.append(time.perf_counter() - begun)
        memory.close()
    middle = statistics.median(times)
    ratios = [each / 0.1 for each in times]
    return Figure("open 1,000,000 commits", middle, 0.1, "s", middle / 0.1, spread_of(ratios), 1, 0.2, higher=False)


def at() -> Figure:
    """One node at a random commit: the 99th percentile, of several rounds the median."""
    chance = random.Random(SEED)
    slowest = []
    with Memory.open(million(MANY_NODES), read_only=True) as memory:
        for _ in range(ROUNDS):
            times = []
            for _ in range(READS):
                commit, node = chance.randrange(1, memory.head + 1), chance.randrange(1, MANY_NODES + 1)
                begun = time.perf_counter()
                memory.at(commit)[node].n  # noqa: B018
                times.append(time.perf_counter() - begun)
            slowest.append(statistics.quantiles(times, n=100)[98])
    middle = statistics.median(slowest)
    ratios = [each / 0.005 for each in slowest]
    return Figure("at(), p99 of 1,000,000", middle, 0.005, "s", middle / 0.005, spread_of(ratios), 1, 0.2, higher=False)


def loading() -> Figure:
    """A strict load of a v1 file of 20,000 commits, beside what the first engine would need."""
    with Memory.open() as memory:
        change = changing(memory)
        nodes = memory.nodes()
        for n in range(20_000 - 1):
            nodes[n % NODES].n = n
            memory.commit(f"commit {n}")
        del change
        data = v1.encode(memory.document())
    path = Path(tempfile.mkdtemp()) / "load.myo"
    path.write_bytes(data)

    def ours() -> None:
        Memory.open(path, read_only=True).close()

    def plain() -> None:
        for commit in json.loads(data)["commits"]:
            hashlib.sha256(bytes(commit["hash"]) + bytes(64)).digest()

    times, references = [], []
    for _ in range(ROUNDS):
        for function, into in ((ours, times), (plain, references)):
            begun = time.perf_counter()
            function()
            into.append(time.perf_counter() - begun)
    scale = ENGINE_LOAD_S / ENGINE_JSON_S
    ratios = [ours / (reference * scale) for ours, reference in zip(times, references, strict=True)]
    return Figure(
        f"strict load, {len(data) / 1e6:.1f} MB of v1",
        statistics.median(times),
        statistics.median(references) * scale,
        "s",
        statistics.median(ratios),
        spread_of(ratios),
        2.5,
        1,
        higher=False,
    )


def growing() -> Figure:
    """A node more with each commit."""
    path = tempfile.mkdtemp() + "/growing.mmsb"
    with Memory.open(path) as memory:
        for n in range(100_000):
            memory.create("Node", n=n)
            memory.commit()
    size = size_of(path) / 1e6
    return Figure("100,000 growing commits", size, 20, "MB", size / 20, 0, 1, 12 / 20, higher=False)


if __name__ == "__main__":
    suite = {"commits": commits, "peers": peers, "open": opening, "at": at, "load": loading, "growing": growing}
    sys.exit(run_suite("ci/bench myosotis", suite))
