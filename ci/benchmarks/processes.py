"""The figures of several processes: reads beside a writer, wake-ups, round trips, commands per second.

Every reference is measured in turn with ours, in the same run and between the same number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from measure import SCRATCH, Figure, compare, run_suite, spread_of
from processes_others import Others, Shared

import mmsb

PAGE_BYTES, PAGES = 4096, 16
BLOCK = 1000  # messages of one kind in a row; of those that come a millisecond apart fewer, in more rounds
FEW = 200
ROUNDS = 11


@contextmanager
def owner(mode: str, *arguments: object) -> Iterator[Any]:
    """A process that owns a State and does what `mode` says (see processes_owner.py). A View of it."""
    name = f"bench-{mode}"
    script = str(Path(__file__).with_name("processes_owner.py"))
    process = subprocess.Popen(
        [sys.executable, script, name, mode, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    try:
        with mmsb.attach(name) as view:
            view.owner_says = process.stdout.readline  # type: ignore[attr-defined]
            view.tell_owner = process.stdin  # type: ignore[attr-defined]
            yield view
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def reads() -> Iterator[Figure]:
    """read_into of 4 KiB pages, against copies between memory of this process, while the owner writes to them."""
    asked = (
        ("no writer", ("idle",), 0.8, 0.95),
        ("10,000 commits/s", ("rate", 10_000), 0.7, 0.9),
        ("writer flat out", ("flat",), 0.3, 0.6),
    )
    for name, mode, must, reach in asked:
        with owner(*mode) as view:
            pages = [view.page(page_id).read_into for page_id in range(1, PAGES + 1)]
            target = bytearray(PAGE_BYTES)
            mine = [memoryview(bytearray(os.urandom(PAGE_BYTES))) for _ in range(PAGES)]
            into = memoryview(target)

            def ours(pages: Any = pages, target: bytearray = target) -> None:
                for _ in range(200):
                    for read_into in pages:
                        read_into(target)

            def reference(mine: Any = mine, into: memoryview = into) -> None:
                for _ in range(200):
                    for source in mine:
                        into[:] = source

            figure = compare(f"4 KiB reads, {name}, against a copy", ours, reference, must, reach, speed=True)
            figure.ours, figure.reference = figure.ours / 3200 * 1e9, figure.reference / 3200 * 1e9
            figure.unit = "ns"
            yield figure


def medians(kinds: dict[str, Callable[[], list[int]]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """By kind: the median of each of its blocks, measured in turn. In ns."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in kinds:
        kinds[kind]()
    for _ in range(rounds):
        for kind, block in kinds.items():
            found[kind].append(statistics.median(block()))
    return found


def against(name: str, found: dict[str, list[float]], other: str, must: float, reach: float) -> Figure:
    """A Figure of ours against another kind: by how much it is faster."""
    ratios = [theirs / mine for mine, theirs in zip(found["ours"], found[other], strict=True)]
    mine, theirs = statistics.median(found["ours"]) / 1e3, statistics.median(found[other]) / 1e3
    return Figure(name, mine, theirs, "us", statistics.median(ratios), spread_of(ratios), must, reach)


def wakeups() -> Iterator[Figure]:
    """From before the commit to inside the handler of another process; each message waits for the one before."""
    with ExitStack() as stack:
        shared = stack.enter_context(Shared.made(SCRATCH))
        others = stack.enter_context(Others(SCRATCH, shared))
        state = stack.enter_context(mmsb.open(name="bench-wake"))
        page = state.create_page(64)
        state.serve()
        send = {"ours": lambda data: page.write(data)}
        others.start("ours", "bench-wake")
        send["a Pipe"] = others.start("pipe")
        send["Redis pub/sub"] = others.start("redis")
        for gap, when, musts in ((0.001, "one per ms", (1, 3)), (0.0, "back to back", (3, 8))):
            count, rounds = (FEW, 3 * ROUNDS) if gap else (BLOCK, ROUNDS)
            found = medians({kind: shared.block(sender, gap, count) for kind, sender in send.items()}, rounds)
            reaches = ((1.5, 5), (6, 20))[gap == 0.0]
            for other, must, reach in zip(("a Pipe", "Redis pub/sub"), musts, reaches, strict=True):
                yield against(f"wake-up, {when}, against {other}", found, other, must, reach)


def round_trips() -> Iterator[Figure]:
    """A write of 64 bytes that is applied, logged and acknowledged, against one key set elsewhere."""
    with ExitStack() as stack:
        shared = stack.enter_context(Shared.made(SCRATCH))
        others = stack.enter_context(Others(SCRATCH, shared))
        view = stack.enter_context(owner("idle"))
        write = view.page(1).write
        ask: dict[str, Callable[[bytes], object]] = {"ours": write}
        ask["Manager().dict()"] = others.manager()
        ask["ZeroMQ REQ/REP"] = others.zeromq()
        ask["Redis SET"] = others.redis_set()

        def block(call: Callable[[bytes], object]) -> Callable[[], list[int]]:
            def run() -> list[int]:
                taken = []
                for i in range(BLOCK):
                    data = (time.monotonic_ns() + i).to_bytes(64, "little")
                    begun = time.perf_counter_ns()
                    call(data)
                    taken.append(time.perf_counter_ns() - begun)
                return taken

            return run

        found = medians({kind: block(call) for kind, call in ask.items()})
        for other, must, reach in (("Manager().dict()", 8, 20), ("ZeroMQ REQ/REP", 4, 8), ("Redis SET", 3, 6)):
            yield against(f"command round trip, against {other}", found, other, must, reach)


def client_of_rates(name: str, page_id: int, count: int, gate: Any, done: Any) -> None:
    """Sends `count` writes of 64 bytes, a thousand at a time, when the gate opens."""
    import numpy as np

    with mmsb.attach(name) as view:
        client = view.client
        ids, lengths = np.full(1000, page_id, "u8"), np.full(1000, 64, "u8")
        offsets = np.arange(1000, dtype="u8") % 64 * 64
        payload = np.random.default_rng(page_id).bytes(64_000)
        other = payload[64:] + payload[:64]
        client.submit.writes(ids, offsets, lengths, payload)
        client.flush()
        for turn in range(ROUNDS):
            gate.wait()
            for i in range(count // 1000):
                client.submit.writes(ids, offsets, lengths, (payload, other)[(i + turn) % 2])
            client.flush()
            done.wait()


def rates() -> Iterator[Figure]:
    """Commands per second, 64-byte writes that the clients send a thousand at a time, each a commit of its own."""
    spawn = multiprocessing.get_context("spawn")
    for clients, must, reach in ((1, 1.5, 4), (4, 1.5, 4)):
        count = 400_000 // clients
        with owner("idle") as view:
            gate, done = spawn.Barrier(clients + 1), spawn.Barrier(clients + 1)
            workers = [
                spawn.Process(target=client_of_rates, args=("bench-idle", i + 1, count, gate, done))
                for i in range(clients)
            ]
            for worker in workers:
                worker.start()
            found = []
            for _ in range(ROUNDS):
                gate.wait()
                begun = time.perf_counter()
                done.wait()
                found.append(count * clients / (time.perf_counter() - begun) / 1e6)
            for worker in workers:
                worker.join()
            assert view.seq > 0
        rate = statistics.median(found)
        yield Figure(
            f"million commands/s, {clients} client{'s' if clients > 1 else ''}",
            1e3 / rate,
            0,
            "ns",
            rate,
            spread_of(found),
            must,
            reach,
        )


def snapshots() -> Figure:
    """What a client that copies 1,000 pages again and again adds to the writer's median write, against the same
    amount of copying that has nothing to do with the State.
    """
    with owner("timed", 1000) as view:
        mine = [memoryview(bytearray(PAGE_BYTES)) for _ in range(1000)]

        def measured(work: Callable[[], object]) -> tuple[float, float]:
            view.tell_owner.write(b"go\n")
            view.tell_owner.flush()
            end = time.perf_counter() + 0.6
            while time.perf_counter() < end:
                work()
            median, high = map(float, view.owner_says().split())
            return median, high

        pairs = [(measured(view.snapshot), measured(lambda: [bytes(one) for one in mine])) for _ in range(ROUNDS)]
    waits = [(ours[1] - other[1]) / 1e3 for ours, other in pairs]
    ours, other = (statistics.median(pair[i][1] for pair in pairs) / 1e3 for i in (0, 1))
    return Figure(
        "us added to the writer's p99 by snapshots", ours, other, "us", statistics.median(waits), 0, 10, 0.5, False
    )


SUITE: dict[str, Callable[[], Any]] = {
    "reads": reads,
    "wakeups": wakeups,
    "round_trips": round_trips,
    "rates": rates,
    "snapshots": snapshots,
}


if __name__ == "__main__":
    sys.exit(run_suite("ci/bench processes", SUITE))
