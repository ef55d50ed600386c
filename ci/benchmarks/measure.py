"""Measuring: paired repeats of two functions, the median of their ratios, and tables of figures."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


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
        """'reach', 'must' or 'missed'."""
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
        colour = {"reach": "green", "must": "cyan", "missed": "red"}[figure.verdict]
        wide = figure.spread > 0.25
        table.add_row(
            figure.name,
            f"{figure.ours:.3g} {figure.unit}",
            f"{figure.reference:.3g} {figure.unit}" if figure.reference else "",
            f"{figure.ratio:.3g}" + (" (noisy)" if wide else ""),
            f"{figure.spread:.0%}",
            f"{figure.must:g}",
            f"{figure.reach:g}",
            f"[{colour}]{figure.verdict}[/]",
        )
    Console(width=150).print(table)
