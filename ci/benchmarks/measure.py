"""Measuring: paired repeats of two functions, the median of their ratios, and tables of figures."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# For figures that need a disk: inside the project, so that it is the disk that users mean.
SCRATCH = Path("build/bench")
# A ratio whose spread is wider says nothing, and is not shown.
WIDEST = 0.25


@dataclass
class Figure:
    """One line: what was measured, ours, the reference's, their ratio, and what is asked for.

    `ours` and `reference` are in `unit`; `ratio` is what must and reach speak of; `spread` is the half width of the
    middle half of the ratios, relative to their median. `higher`: a larger ratio is better.
    """

    name: str
    ours: float
    reference: float
    unit: str
    ratio: float
    spread: float
    must: float
    reach: float
    higher: bool = True

    @property
    def verdict(self) -> str:
        """'reach', 'must' or 'missed'; 'unsteady' when the spread is too wide to say."""
        if self.spread > WIDEST:
            return "unsteady"
        better = (lambda a, b: a >= b) if self.higher else (lambda a, b: a <= b)
        return "reach" if better(self.ratio, self.reach) else "must" if better(self.ratio, self.must) else "missed"

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "verdict": self.verdict}


def seconds(function: Callable[[], Any], repeat: int = 1) -> float:
    """Wall time of one call of `function`, out of `repeat` calls in a row."""
    begun = time.perf_counter_ns()
    for _ in range(repeat):
        function()
    return (time.perf_counter_ns() - begun) / repeat * 1e-9


def paired(
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    *,
    repeats: int = 15,
    calls: int = 1,
    reference_calls: int = 0,
) -> tuple[float, float, list[float]]:
    """Times both in turn. Returns the medians in seconds per call and the list of ratios ours/reference, by pair."""
    gc.disable()
    try:
        pairs = [(seconds(ours, calls), seconds(reference, reference_calls or calls)) for _ in range(repeats + 1)][1:]
    finally:
        gc.enable()
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        [pair[0] / pair[1] for pair in pairs],
    )


def spread_of(ratios: list[float]) -> float:
    """Half of the interquartile range, relative to the median."""
    if len(ratios) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(ratios, n=4)
    return (high - low) / 2 / middle


def compare(
    name: str, ours: Any, reference: Any, must: float, reach: float, *, speed: bool, unit: str = "s", **how: Any
):
    """A Figure from two functions. `speed`: the ratio is reference time / our time (higher is better), else ours /
    reference (lower is better).
    """
    mine, theirs, ratios = paired(ours, reference, **how)
    if speed:
        ratios = [1 / ratio for ratio in ratios]
    return Figure(name, mine, theirs, unit, statistics.median(ratios), spread_of(ratios), must, reach, higher=speed)


def show(figures: list[Figure], title: str) -> None:
    """Prints the table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("figure", "ours", "reference", "ratio", "±", "must", "reach for", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for figure in figures:
        colour = {"reach": "green", "must": "cyan", "missed": "red", "unsteady": "yellow"}[figure.verdict]
        table.add_row(
            figure.name,
            f"{figure.ours:.3g} {figure.unit}",
            f"{figure.reference:.3g} {figure.unit}" if figure.reference else "",
            f"{figure.ratio:.3g}" if figure.verdict != "unsteady" else "not shown",
            f"{figure.spread:.0%}",
            f"{figure.must:g}",
            f"{figure.reach:g}",
            f"[{colour}]{figure.verdict}[/]",
        )
    Console(width=150).print(table)
    if any(figure.verdict == "unsteady" for figure in figures):
        print(f"Ratios that spread by more than {WIDEST:.0%} are not shown: measure again on a quieter machine.")


Question = Callable[[], Figure | Iterable[Figure]]


def run_suite(title: str, suite: Mapping[str, Question], default: Iterable[str] | None = None) -> int:
    """The command line of a suite: --json, --only NAME. Exit status 1 when a must is missed."""
    parser = argparse.ArgumentParser(prog=title)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=suite, action="append")
    options = parser.parse_args()
    with output_kept():
        figures = list(ask(suite, options.only or default or suite))
    if options.json:
        print(json.dumps([figure.row() for figure in figures], indent=2))
    else:
        show(figures, title)
    return int(any(figure.verdict == "missed" for figure in figures))


@contextmanager
def in_scratch() -> Iterator[str]:
    """A folder below SCRATCH for temporary files and for the sockets of what is served, until it is left."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        tempfile.tempdir = os.environ["XDG_RUNTIME_DIR"] = os.path.abspath(folder)
        yield folder


@contextmanager
def output_kept() -> Iterator[None]:
    """What is written to standard output goes to standard error: peers warn there, from compiled code."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def ask(suite: Mapping[str, Question], names: Iterable[str]) -> Iterator[Figure]:
    """The figures of some questions."""
    with in_scratch():
        for name in names:
            print(f"measuring {name} ...", file=sys.stderr)
            result = suite[name]()
            yield from [result] if isinstance(result, Figure) else result
