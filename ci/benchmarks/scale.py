"""How costs grow: one curve for each thing a user may have more of, with the exponent that fits it.

A curve is measured in the unit of a reference of the same run (a bare call, a copy of as many bytes), so that a machine
that changes its speed changes neither its shape nor its numbers. --plot FOLDER draws the curves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measure import Figure, in_scratch, paired, seconds, show

import mmsb

SEED = 20261122


@dataclass
class Curve:
    """`y` against `x`. `exponent`: of the power of x that fits from the second decade on; `bend`: why it is no line."""

    name: str
    of: str
    unit: str
    bend: str
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    @property
    def exponent(self) -> float:
        """Least squares over the logarithms of the upper half of the points."""
        half = len(self.x) // 2
        return float(np.polyfit(np.log(self.x[half:]), np.log(self.y[half:]), 1)[0])

    @property
    def growth(self) -> float:
        """The dearest point against the first."""
        return max(self.y) / self.y[0]


def nothing() -> None:
    """A bare Python call."""


def bare_calls(count: int) -> Callable[[], None]:
    """So many bare calls, with the loop around them."""
    loop = range(count)

    def run() -> None:
        for _ in loop:
            nothing()

    return run


def in_bare_calls(ours: Callable[[], Any], count: int, repeats: int = 9) -> float:
    """What one of `count` operations of `ours` costs, in bare calls."""
    return statistics.median(paired(ours, bare_calls(count), repeats=repeats)[2])


def powers(first: int, last: int) -> list[int]:
    """10**first to 10**last."""
    return [10**n for n in range(first, last + 1)]


def pages_written(at_random: bool) -> Callable[[int], float]:
    """page.write of 8 bytes in a State of so many pages of 64 bytes: of one page, or of them all in random order."""

    def measure(count: int) -> float:
        state = mmsb.open(history=1 << 22)
        ids = np.array(state.create_pages(count, 64))
        chosen = np.random.default_rng(SEED).choice(ids, 4096) if at_random else np.full(4096, ids[count // 2])
        writes = [state.page(int(page_id)).write for page_id in chosen]
        values = itertools.cycle(n.to_bytes(8, "little") for n in range(1, 1 << 10))

        def ours() -> None:
            for write in writes:
                write(next(values))

        cost = in_bare_calls(ours, len(writes))
        state.close()
        return cost

    return measure


def page_updated(size: int) -> float:
    """update_page with one byte in 100 changed, against a copy of the page."""
    state = mmsb.open(history=1 << 26)
    page_id = state.create_page(size)
    rng = np.random.default_rng(SEED)
    first = rng.integers(0, 256, size, dtype="u1")
    second = first.copy()
    second[rng.integers(0, size, max(1, size // 100))] ^= 1
    contents = itertools.cycle([first.tobytes(), second.tobytes()])
    source, target = np.frombuffer(first.tobytes(), "u1"), np.empty(size, "u1")
    calls = max(1, (1 << 20) // size)
    cost = statistics.median(
        paired(
            lambda: state.update_page(page_id, next(contents)),
            lambda: np.copyto(target, source),
            repeats=9,
            calls=min(calls, 2000),
        )[2]
    )
    state.close()
    return cost


def changed_share(per_million: int) -> float:
    """update_page of 64 KiB of which so many bytes in a million changed, against a copy of the page."""
    size = 1 << 16
    state = mmsb.open(history=1 << 26)
    page_id = state.create_page(size)
    rng = np.random.default_rng(SEED)
    first = rng.integers(0, 256, size, dtype="u1")
    second = first.copy()
    second[rng.choice(size, max(1, size * per_million // 1_000_000), replace=False)] ^= 1
    contents = itertools.cycle([first.tobytes(), second.tobytes()])
    target = np.empty(size, "u1")
    ours, theirs = lambda: state.update_page(page_id, next(contents)), lambda: np.copyto(target, first)
    cost = statistics.median(paired(ours, theirs, repeats=9, calls=50)[2])
    state.close()
    return cost


class Histories:
    """Stores with so many deltas of 16 bytes on 100 pages of 4 KiB, made when they are asked for first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[int, str] = {}

    def __call__(self, count: int) -> str:
        """The folder of the one with `count` deltas."""
        if count not in self.made:
            self.made[count] = str(self.folder / f"history-{count}")
            state = mmsb.open(self.made[count])
            ids = np.array(state.create_pages(100, 4096))
            rng, step = np.random.default_rng(SEED), min(count, 100)
            for _ in range(0, count, step):
                with state.batch() as batch:
                    payload = rng.integers(0, 256, step * 16, dtype="u1")
                    batch.write_many(rng.choice(ids, step), rng.integers(0, 4080, step), 16, payload)
            state.close()
        return self.made[count]

    def travel(self, count: int) -> float:
        """at(seq) at random and a read of one page, median, in bare calls."""
        with mmsb.open(self(count), read_only=True) as state:
            rng = np.random.default_rng(SEED)
            wanted = [(int(rng.integers(2, state.seq + 1)), int(rng.integers(1, 101))) for _ in range(300)]
            took = [seconds(lambda at=at, page=page: state.at(at).page(page).read()) for at, page in wanted]
        return statistics.median(took) / seconds(bare_calls(100_000)) * 100_000

    def opened(self, count: int) -> float:
        """Opening and closing, in bare calls."""
        path = self(count)
        took = [seconds(lambda: mmsb.open(path).close()) for _ in range(10)][1:]
        return statistics.median(took) / seconds(bare_calls(100_000)) * 100_000

    def bytes_each(self, count: int) -> float:
        """Bytes of log for each delta."""
        with mmsb.open(self(count), read_only=True) as state:
            return state.stats()["log"]["bytes"] / count


def waves(shape: str) -> Callable[[int], float]:
    """A write to the first page of a chain of so many, or to one on which so many depend: per page, in bare calls."""

    def measure(count: int) -> float:
        state = mmsb.open(history=1 << 26)
        ids = np.array(state.create_pages(count + 1, 64), dtype="u8")
        parents = ids[:-1] if shape == "chain" else np.full(count, ids[0])
        state.depend_many(parents, ids[1:], semiring="max-plus", dtype="int64")
        counter, head = itertools.count(1), state.page(int(ids[0]))
        repeat = max(1, 10_000 // count)

        def ours() -> None:
            for _ in range(repeat):
                head.write(next(counter).to_bytes(8, "little") * 8)

        cost = in_bare_calls(ours, repeat * count, repeats=7)
        if state.query_page(int(ids[-1])) != head.read():
            raise AssertionError("the last page is not what the first one is")
        state.close()
        return cost

    return measure


ATTACHED = "import mmsb, sys; view = mmsb.attach(sys.argv[1]); print('here', flush=True); sys.stdin.read()"


def readers(count: int) -> float:
    """page.write of 8 bytes with so many processes attached (one more than their number, for the logarithm)."""
    name = f"bench-scale-{count}"
    with mmsb.open(name=name) as state:
        state.serve()
        page = state.create_page(4096)
        command = [sys.executable, "-c", ATTACHED, name]
        attached = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count - 1)
        ]
        try:
            for process in attached:
                assert process.stdout is not None
                process.stdout.readline()
            values = itertools.cycle(n.to_bytes(8, "little") for n in range(1, 1 << 10))

            def ours() -> None:
                for _ in range(4096):
                    page.write(next(values))

            return in_bare_calls(ours, 4096)
        finally:
            for process in attached:
                process.communicate("")


MEMORY = """
import json, sys, mmsb
def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096
count = int(sys.argv[1])
state = mmsb.open()
state.query_page(state.create_page(64))
before, read = resident(), state.query_page
for page in state.create_pages(count, 1024): read(page)
print((resident() - before) / count - 1024)
"""


def memory(count: int) -> float:
    """Bytes of resident memory for each page of 1 KiB beside its content, every page read; in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(count)], check=True, capture_output=True, text=True)
    return max(float(done.stdout), 1.0)


def curves(folder: Path) -> list[tuple[Curve, Sequence[int], Callable[[int], float]]]:
    """Each curve, the places at which it is measured, and how."""
    histories = Histories(folder)
    calls, wave = "bare calls", "bare calls per page"
    flat, shared = "flat: nothing is looked for", "down: the commits share one cost"
    return [
        (Curve("write, one page of so many", "pages", calls, flat), powers(2, 6), pages_written(False)),
        (
            Curve("write, all in random order", "pages", calls, "where headers and pages leave the caches"),
            powers(2, 6),
            pages_written(True),
        ),
        (
            Curve(
                "update_page, 1 % changed",
                "bytes of a page",
                "copies of it",
                "up in the caches, down where memory bounds both",
            ),
            [1 << n for n in range(6, 27, 4)],
            page_updated,
        ),
        (
            Curve("update_page of 64 KiB", "changed of 10^6", "copies of it", "runs, then a bitmap, then dense"),
            [100, 1000, 10_000, 100_000, 1_000_000],
            changed_share,
        ),
        (
            Curve("at(seq) and a read", "deltas", calls, "where stills and indexes leave the caches"),
            powers(3, 7),
            histories.travel,
        ),
        (
            Curve("open and close", "deltas", calls, "the unused end of the last segment is looked at"),
            powers(3, 7),
            histories.opened,
        ),
        (Curve("log, 16-byte deltas", "deltas", "bytes each", "flat"), powers(3, 7), histories.bytes_each),
        (Curve("chain", "pages", wave, shared), powers(0, 5), waves("chain")),
        (Curve("fan", "pages", wave, shared), powers(0, 5), waves("fan")),
        (Curve("write, processes attached", "processes", calls, flat), [1, 2, 3, 5, 9], readers),
        (
            Curve("memory beside content", "pages of 1 KiB", "bytes each", "down: what a State has once"),
            powers(3, 6),
            memory,
        ),
    ]


def asked(found: list[Curve]) -> list[Figure]:
    """The figures that speak of growth."""
    by_name = {curve.name: curve for curve in found}
    write, travel = by_name["write, one page of so many"], by_name["at(seq) and a read"]
    room = by_name["memory beside content"]
    later = travel.y[travel.x.index(10_000) :]
    return [
        Figure(
            "growth of write, 10^2 to 10^6 pages", max(write.y), write.y[0], "calls", write.growth, 0, 1.5, 1.2, False
        ),
        Figure(
            "growth of at(seq), 10^4 to 10^7 deltas",
            later[-1],
            later[0],
            "calls",
            max(later) / later[0],
            0,
            2,
            1.2,
            False,
        ),
        Figure("bytes beside a page of 1 KiB, 10^6 pages", room.y[-1], 0, "B", room.y[-1], 0, 64, 48, False),
    ]


def table(found: list[Curve]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="ci/bench scale")
    for column in ("cost of", "against", "unit", "at each place", "exponent", "where it bends"):
        shown.add_column(column)
    for curve in found:
        places = " ".join(f"{value:.3g}" for value in curve.y)
        span = f"{curve.of}, {curve.x[0]:g} to {curve.x[-1]:g}"
        shown.add_row(curve.name, span, curve.unit, places, f"{curve.exponent:+.2f}", curve.bend)
    Console(width=170).print(shown)


def plot(found: list[Curve], folder: Path) -> None:
    """One picture of all curves, log over log."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mmsb"
    from matplotlib import pyplot

    columns = 3
    figure, axes = pyplot.subplots(math.ceil(len(found) / columns), columns, figsize=(12, 13), layout="constrained")
    for axis, curve in itertools.zip_longest(axes.flat, found):
        if curve is None:
            axis.set_axis_off()
            continue
        axis.loglog(curve.x, curve.y, marker="o", color="#1f5f8b")
        low, high = min(curve.y), max(curve.y)
        if high < 10 * low:
            axis.set_ylim(low / math.sqrt(10), high * math.sqrt(10))
        axis.set_title(f"{curve.name}  (x^{curve.exponent:+.2f})", fontsize=10)
        axis.set_xlabel(curve.of)
        axis.set_ylabel(curve.unit)
        axis.grid(alpha=0.3)
    figure.savefig(folder / "scale.svg", metadata={"Date": None})


def main() -> int:
    """Exit status 1: a must is missed."""
    parser = argparse.ArgumentParser(prog="ci/bench scale", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    found = []
    with in_scratch() as folder:
        for curve, places, measure in curves(Path(folder)):
            print(f"measuring {curve.name} ...", file=sys.stderr)
            for place in places:
                curve.x.append(place)
                curve.y.append(measure(place))
            found.append(curve)
    figures = asked(found)
    if options.plot:
        plot(found, options.plot)
    if options.json:
        rows = [{**asdict(curve), "exponent": curve.exponent, "growth": curve.growth} for curve in found]
        print(json.dumps({"curves": rows, "figures": [figure.row() for figure in figures]}, indent=2))
    else:
        table(found)
        show(figures, "growth")
    return int(any(figure.verdict == "missed" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
