"""Every suite one after the other. --page writes the tables and pictures of docs/understand/performance.md anew."""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = Path("build/bench")
PAGE, PICTURES = Path("docs/understand/performance.md"), Path("docs/pictures")
# In this order; what each is about stands in the page.
SUITES = ("core", "propagation", "processes", "peers", "scale", "upstream")
COLOURS = {"reach": "#2e7d32", "must": "#1f5f8b", "missed": "#b3261e"}


def number(value: float) -> str:
    """Three digits, without an exponent where people read numbers."""
    if value == 0:
        return ""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"


def figures_table(figures: list[dict[str, Any]]) -> str:
    """Markdown. A ratio that spreads too widely is not shown."""
    lines = ["| figure | ours | reference | ratio | ± | must | reach for | |", "| --- " * 8 + "|"]
    for row in figures:
        unsteady = row["verdict"] == "unsteady"
        reference = f"{number(row['reference'])} {row['unit']}" if row["reference"] else ""
        cells = (
            row["name"],
            f"{number(row['ours'])} {row['unit']}",
            reference,
            "too unsteady" if unsteady else number(row["ratio"]),
            f"{row['spread']:.0%}",
            f"{row['must']:g}",
            f"{row['reach']:g}",
            row["verdict"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves_table(curves: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| cost of | against | unit | at each place | exponent | where it bends |", "| --- " * 6 + "|"]
    for curve in curves:
        span = f"{curve['of']}, {curve['x'][0]:,} to {curve['x'][-1]:,}"
        places = " ".join(number(value) for value in curve["y"])
        cells = (curve["name"], span, curve["unit"], places, f"{curve['exponent']:+.2f}", curve["bend"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def workloads_table(workloads: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| workload | name in its suite | ours, ns | A, ns | B, ns | C, ns | best / ours |", "| --- " * 7 + "|"]
    for row in workloads:
        baselines = ["" if baseline is None else f"{baseline:,}" for baseline in row["baselines"]]
        cells = (row["name"], f"`{row['first_name']}`", f"{row['ours']:,.0f}", *baselines, number(row["ratio"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(found: dict[str, Any]) -> dict[str, str]:
    """{suite: Markdown}."""
    made = {}
    for name, content in found.items():
        if name == "scale":
            made[name] = curves_table(content["curves"]) + "\n\n" + figures_table(content["figures"])
        else:
            made[name] = workloads_table(content) if name == "upstream" else figures_table(content)
    return made


def picture(found: dict[str, Any]) -> None:
    """All figures of a kind in one picture: how many times better than the must, which is 1."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mmsb"
    from matplotlib import pyplot

    rows = [
        row
        for name, content in found.items()
        if name != "upstream"
        for row in (content["figures"] if name == "scale" else content)
        if row["verdict"] != "unsteady"
    ]
    better = [row["ratio"] / row["must"] if row["higher"] else row["must"] / row["ratio"] for row in rows]
    figure, axis = pyplot.subplots(figsize=(11, 0.24 * len(rows) + 1), layout="constrained")
    axis.barh(range(len(rows)), better, color=[COLOURS[row["verdict"]] for row in rows], left=1e-9)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(min(0.3, *better) * 0.9, max(better) * 1.2)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_xlabel("times better than what is asked for (green: what is reached for; red: missed)")
    figure.savefig(PICTURES / "figures.svg", metadata={"Date": None})


def write_page(found: dict[str, Any]) -> None:
    """Puts each suite's table between its marks in the page. SystemExit: a mark is missing."""
    text = PAGE.read_text()
    for name, table in tables(found).items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        if not marks.search(text):
            raise SystemExit(f"{PAGE} has no marks for {name}")
        text = marks.sub(lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", text)
    PAGE.write_text(text)
    picture(found)


def main() -> int:
    """Exit status 1: a must is missed; 2: a suite failed."""
    parser = argparse.ArgumentParser(prog="ci/bench all", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--again", action="store_true", help="with --page: what was measured last, without measuring")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    missed, found = 0, {}
    for name in SUITES:
        kept = OUT / f"{name}.json"
        if not options.again:
            begun = time.monotonic()
            command = [sys.executable, str(HERE / f"{name}.py"), "--json"]
            command += ["--plot", str(PICTURES)] if name == "scale" and options.page else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode not in (0, 1):
                return 2
            kept.write_text(done.stdout)
            missed |= done.returncode
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        found[name] = json.loads(kept.read_text())
    if options.page:
        write_page(found)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, table in tables(found).items():
            print(f"## {name}\n\n{table}\n")
    return missed


if __name__ == "__main__":
    sys.exit(main())
