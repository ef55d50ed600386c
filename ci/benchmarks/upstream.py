"""The first MMSB's benchmark suite, workload by workload, with names that say what is measured and with seeds.

Beside each median stand the three baselines that were published with it, one sample each: its Julia code before Rust
(A), its first run on Rust (B) and its last (C), in nanoseconds. The ratio is against the fastest of them. They come
from another machine: what they tell is the order of magnitude.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from measure import SCRATCH, in_scratch, spread_of

import mmsb
from mmsb import links
from mmsb._core.graph import Graph
from mmsb._core.semiring import builtin
from mmsb.checkpoint import write_image

SEED = 20261122
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else str(SCRATCH)


@dataclass
class Workload:
    """One line of its suite. `make` builds what is timed, and what closes it; baselines in ns, None: there is none."""

    name: str
    first_name: str
    make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]
    baselines: tuple[int | None, int | None, int | None]
    samples: int = 50


def random_pages(count: int, size: int = 1024) -> list[bytes]:
    """Random contents of pages."""
    return list(
        np.random.default_rng(SEED).integers(0, 256, (count, size), dtype="u1").view(f"V{size}").ravel().tolist()
    )


def start_and_stop(size: int) -> Any:
    """A State with one page."""

    def run() -> None:
        state = mmsb.open()
        state.create_page(size)
        state.close()

    return run, lambda: None


def update(size: int, changed: int | None) -> Any:
    """update_page with the first bytes changed, or all of them at random."""
    state = mmsb.open(history=1 << 22)
    page_id = state.create_page(size)
    pages = [b"\xff" * changed + bytes(size - changed), bytes(size)] if changed else random_pages(2, size)
    contents = itertools.cycle(pages)
    return lambda: state.update_page(page_id, next(contents)), state.close


def chain(count: int, updates: int = 1) -> Any:
    """A chain of pages of 1 KiB that pass through, and random updates of the first, as one commit."""
    state = mmsb.open(history=1 << 26)
    first = last = state.create_page(1024)
    for _ in range(count - 1):
        child = state.create_page(1024)
        state.depend(child, on=last, link=links.passthrough())
        last = child
    contents = itertools.cycle(random_pages(8))

    def run() -> None:
        if updates == 1:
            state.update_page(first, next(contents))
            return
        with state.batch() as batch:
            for _ in range(updates):
                batch.write(first, next(contents))

    return run, state.close


def sixteen_pages() -> Any:
    """A State with 16 pages of 1 KiB, each updated once."""
    state = mmsb.open()
    for content in random_pages(16):
        state.update_page(state.create_page(1024), content)
    return state


def checkpoint() -> Any:
    """Those 16 pages into a file."""
    state, path = sixteen_pages(), f"{MEMORY}/mmsb-bench-upstream-{os.getpid()}"

    def done() -> None:
        state.close()
        os.unlink(path)

    return lambda: write_image(state, path), done


def restore() -> Any:
    """A State from that file."""
    state, path = sixteen_pages(), f"{MEMORY}/mmsb-bench-upstream-{os.getpid()}"
    state.stop(path)
    return lambda: mmsb.open(path).close(), lambda: os.unlink(path)


def replay() -> Any:
    """Five random updates of a page, replayed."""
    state = mmsb.open()
    page_id = state.create_page(1024)
    for content in random_pages(5):
        state.update_page(page_id, content)
    return lambda: state.replay(), state.close


def typical() -> Any:
    """Start, 20 pages, 6 edges, 40 random updates of random pages, checkpoint, stop."""
    path = f"{MEMORY}/mmsb-bench-upstream-{os.getpid()}"
    contents = random_pages(40)
    dice = np.random.default_rng(SEED)
    edges = [(int(dice.integers(10)), int(dice.integers(10, 20))) for _ in range(6)]
    chosen = [int(n) for n in dice.integers(0, 20, 40)]

    def run() -> None:
        state = mmsb.open()
        pages = [state.create_page(1024) for _ in range(20)]
        graph = Graph(page.page_id for page in pages)
        for parent, child in edges:
            graph.add_edge(pages[parent].page_id, pages[child].page_id)
        for at, content in zip(chosen, contents, strict=True):
            state.update_page(pages[at], content)
        state.stop(path)
        os.unlink(path)

    return run, lambda: None


def pipeline() -> Any:
    """A chain of 24, 5 random updates, checkpoint, load into a new State, replay."""
    path = f"{MEMORY}/mmsb-bench-upstream-{os.getpid()}"
    contents = random_pages(5)

    def run() -> None:
        state = mmsb.open()
        first = last = state.create_page(1024)
        for _ in range(23):
            child = state.create_page(1024)
            state.depend(child, on=last, link=links.passthrough())
            last = child
        for content in contents:
            state.update_page(first, content)
        state.stop(path)
        copy = mmsb.open(path)
        copy.replay()
        copy.close()
        os.unlink(path)

    return run, lambda: None


def graph_of_1024() -> Graph:
    """Edges from i to i + 1 ... i + 4."""
    graph = Graph(range(1, 1025))
    parents = [i for i in range(1, 1025) for step in range(1, 5) if i + step <= 1024]
    children = [i + step for i in range(1, 1025) for step in range(1, 5) if i + step <= 1024]
    graph.add_edges(parents, children)
    return graph


def topological_order() -> Any:
    """The order of that graph, which it keeps while edges come."""
    graph = graph_of_1024()
    return graph.order, lambda: None


def breadth_first() -> Any:
    """What depends on the first four."""
    graph = graph_of_1024()
    return lambda: graph.affected([1, 2, 3, 4]), lambda: None


def semiring(name: str, dtype: str, what: str) -> Any:
    """A fold of 1,024 values, or one value onto another."""
    row = builtin.get(name, dtype)
    dice = np.random.default_rng(SEED)
    values = dice.random(1024) if dtype == "float64" else dice.integers(0, 2, 1024).astype(dtype)
    if what == "accumulate":
        target, one, x = values[:1].copy(), values[1], values[2:3]
        return lambda: row.accumulate(target, one, x), lambda: None
    fold = row.fold_add if what == "add" else row.fold_mul
    return lambda: fold(values), lambda: None


SUITE = (
    Workload(
        "start, a page of 1 KiB, stop", "allocation/cpu_1kb", lambda: start_and_stop(1024), (2_956, 82_794, 12_231)
    ),
    Workload(
        "start, a page of 256 KiB, stop",
        "allocation/cpu_1mb",
        lambda: start_and_stop(1 << 18),
        (13_644, 236_183, 37_985),
    ),
    Workload("update 1 KiB, first 10 bytes", "delta/cpu_sparse", lambda: update(1024, 10), (111_318, 436_787, 22_407)),
    Workload("update 1 KiB, all bytes", "delta/cpu_dense", lambda: update(1024, None), (111_642, 376_551, 31_581)),
    Workload("update, one page behind it", "propagation/single_hop", lambda: chain(2), (302_336, 911_668, 176_456)),
    Workload(
        "update, a chain of 9 behind it", "propagation/chain_10", lambda: chain(10), (2_424_129, 5_036_697, 1_366_477)
    ),
    Workload("checkpoint of 16 pages", "persistence/checkpoint_100pages", checkpoint, (339_466, 108_108, 109_752)),
    Workload("open a checkpoint of 16 pages", "persistence/restore_100pages", restore, (830_937, 1_404_108, 102_536)),
    Workload("replay of 5 updates", "replay/100_epochs", replay, (27_762, 3_145_426, 107_031)),
    Workload(
        "20 pages, 40 updates, checkpoint", "stress/typical_workload", typical, (7_562_107, 10_806_401, 1_584_784)
    ),
    Workload(
        "4 updates, a chain of 31 behind", "propagation/batch_32x4", lambda: chain(32, 4), (None, 15_767_333, 4_024_434)
    ),
    Workload(
        "2 updates, a chain of 127 behind",
        "propagation/batch_128x2",
        lambda: chain(128, 2),
        (None, 61_609_811, 19_392_974),
    ),
    Workload(
        "order of 1,024 nodes, 4,086 edges", "graph/topological_sort_1024", topological_order, (None, 297_957, 314_140)
    ),
    Workload("what depends on 4 of them", "graph/bfs_1024", breadth_first, (None, 167_797, 153_319)),
    Workload(
        "min of 1,024 f64",
        "semiring/tropical_fold_add",
        lambda: semiring("min-plus", "float64", "add"),
        (None, 5_799, 1_234),
    ),
    Workload(
        "sum of 1,024 f64",
        "semiring/tropical_fold_mul",
        lambda: semiring("min-plus", "float64", "mul"),
        (None, 6_508, 1_722),
    ),
    Workload(
        "min-plus of a pair",
        "semiring/tropical_accumulate",
        lambda: semiring("min-plus", "float64", "accumulate"),
        (None, 4_551, 77),
    ),
    Workload(
        "or of 1,024 truths",
        "semiring/boolean_fold_add",
        lambda: semiring("or-and", "uint8", "add"),
        (None, 4_647, 200),
    ),
    Workload(
        "and of 1,024 truths",
        "semiring/boolean_fold_mul",
        lambda: semiring("or-and", "uint8", "mul"),
        (None, 4_565, 208),
    ),
    Workload(
        "or-and of a pair",
        "semiring/boolean_accumulate",
        lambda: semiring("or-and", "uint8", "accumulate"),
        (None, 4_157, 138),
    ),
    Workload(
        "24 pages, 5 updates, out and in", "system/full_pipeline", pipeline, (None, 116_112_093, 25_045_937), samples=30
    ),
)


@dataclass
class Line:
    """One workload, measured: ns of ours, the baselines, the best of them against ours."""

    name: str
    first_name: str
    ours: float
    spread: float
    baselines: tuple[int | None, int | None, int | None]
    ratio: float


def measured(workload: Workload) -> Line:
    """The median of as many samples as it asks for, each of enough runs to take 50 microseconds."""
    run, close = workload.make()
    run()
    begun = time.perf_counter_ns()
    run()
    calls = max(1, 50_000 // max(1, time.perf_counter_ns() - begun))
    took = []
    for _ in range(workload.samples):
        begun = time.perf_counter_ns()
        for _ in range(calls):
            run()
        took.append((time.perf_counter_ns() - begun) / calls)
    close()
    ours = statistics.median(took)
    best = min(baseline for baseline in workload.baselines if baseline is not None)
    return Line(workload.name, workload.first_name, ours, spread_of(took), workload.baselines, best / ours)


def show(lines: list[Line]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="ci/bench upstream: nanoseconds")
    for column in ("workload", "name in its suite", "ours", "±", "A: Julia", "B: first Rust", "C: last", "best / ours"):
        table.add_column(column, justify="left" if "name" in column or column == "workload" else "right")
    for line in lines:
        baselines = ["" if baseline is None else f"{baseline:,}" for baseline in line.baselines]
        table.add_row(
            line.name, line.first_name, f"{line.ours:,.0f}", f"{line.spread:.0%}", *baselines, f"{line.ratio:.3g}"
        )
    Console(width=150).print(table)


def main() -> int:
    """Always 0: nothing is asked for here; ci/bench propagation holds what is."""
    parser = argparse.ArgumentParser(prog="ci/bench upstream", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with in_scratch():
        lines = [measured(workload) for workload in SUITE]
    if options.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
