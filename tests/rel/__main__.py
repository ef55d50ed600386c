"""Runs the reliability programme; started by ci/rel.

quick | full        every part that has no result yet for the code as it is; results lie in build/rel
table               what was found last, without running anything
keep                writes what full found to tests/rel/kept.json, so that a clone goes on from there
R3 R6/closed ...    only these measures or parts (after quick or full)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.rel.programme import BROKEN, ROOT, EnoughError, Measure, Part, Run, Tally, fingerprint, measures

RESULTS = ROOT / "build/rel"
KEPT = ROOT / "tests/rel/kept.json"


@cache
def kept() -> dict[str, dict]:
    """Results of full that came with the code: by the name of the part."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(found: list[tuple[Job, dict | None]]) -> None:
    """Writes the results that are of this code to where kept() finds them."""
    results = {job.name: result for job, result in found if result is not None}
    KEPT.write_text(json.dumps(results, indent=1) + "\n")


@dataclass
class Job:
    """A part of a measure in one size."""

    measure: Measure
    part: Part
    size: str
    key: str

    @property
    def name(self) -> str:
        return f"{self.measure.number}/{self.part.name}"

    @property
    def path(self) -> Path:
        return RESULTS / self.size / f"{self.measure.number}-{self.part.name}.json"

    def result(self, seed: int | None = None) -> dict | None:
        """The stored result, if it is of this code: the last one, or the one that was kept."""
        try:
            last = json.loads(self.path.read_text())
        except (OSError, ValueError):
            last = None
        for found in (last, kept().get(self.name) if self.size == "full" else None):
            if found is not None and found["key"] == self.key and seed in (None, found["seed"]):
                return found
        return None

    def verdict(self, result: dict) -> str:
        """What to print of a result: "ok" and "skipped" are green, everything else is red."""
        tally = result["tally"]
        broken = [f"{tally[kind]} {kind}" for kind in BROKEN if tally[kind]]
        if result.get("died"):
            broken.append(result["died"])
        if broken:
            return ", ".join(broken)
        if tally["skipped"]:
            return "skipped"
        wanted = 0 if result["partial"] else self.part.at_least[self.size == "full"]
        return "ok" if tally["injected"] >= wanted else f"only {tally['injected']:,} of {wanted:,} injected"


def jobs(size: str, wanted: list[str]) -> list[Job]:
    """The parts that `wanted` names, or all. SystemExit: a name that nothing has."""
    only = wanted[0].partition("/")[0] if len(wanted) == 1 and re.match(r"R\d\d?(/|$)", wanted[0]) else ""
    found = [
        Job(measure, part, size, fingerprint(measure, module, part))
        for measure, module in measures(only)
        for part in measure.parts
        if size == "full" or part.only != "full"
    ]
    names = {name for job in found for name in (job.measure.number, job.name)}
    if unknown := [name for name in wanted if name not in names]:
        raise SystemExit(f"ci/rel: no such measure or part: {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    return [job for job in found if not wanted or job.measure.number in wanted or job.name in wanted]


def run_here(job: Job, options: argparse.Namespace) -> int:
    """Runs one part in this process and writes its result to options.result."""

    def say(done: int, total: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told > 0.5:
            told = now
            print(f"progress {done} {total}", flush=True)

    told, begun = 0.0, time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="mmsb-rel-", dir=memory if memory.is_dir() else None) as work:
        run = Run(job.size, options.seed, Path(work), options.case, options.first, on_progress=say)
        try:
            job.part.run(run)
        except EnoughError:
            pass
    seconds = round(time.monotonic() - begun, 1)
    result = {"key": job.key, "seed": options.seed, "seconds": seconds, "tally": asdict(run.tally)}
    result["partial"] = options.case is not None or options.first
    options.result.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def run_apart(job: Job, options: argparse.Namespace, progress: Progress, task: TaskID) -> dict:
    """Runs one part in a process of its own: a signal is a result, and not the end of the programme."""
    job.path.parent.mkdir(parents=True, exist_ok=True)
    fresh = job.path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "tests.rel",
        job.size,
        job.name,
        "--result",
        str(fresh),
        "--seed",
        str(options.seed),
    ]
    command += ["--case", options.case] if options.case else []
    command += ["--first"] if options.first else []
    progress.update(task, visible=True)
    progress.start_task(task)
    last: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, *numbers = line.split() or [""]
            if word == "progress":
                progress.update(task, completed=int(numbers[0]), total=int(numbers[1]))
            else:
                last = [*last[-30:], line.rstrip()]
    if fresh.exists():
        result = json.loads(fresh.read_text())
        if not result["partial"]:
            fresh.rename(job.path)
        fresh.unlink(missing_ok=True)
    else:
        tally = asdict(Tally(failures=last))
        result = {"key": job.key, "seed": options.seed, "seconds": 0, "tally": tally, "partial": True}
        result["died"] = f"the harness ended with status {process.returncode}"
    progress.update(task, visible=False)
    verdict = job.verdict(result)
    progress.console.print(f"{job.name}: {verdict}, {result['tally']['injected']:,} injected, {result['seconds']} s")
    for failure in [*result["tally"]["failures"], *filter(None, [result["tally"]["skipped"]])]:
        progress.console.print(f"    {failure}", markup=False, highlight=False)
    return result


def report(found: list[tuple[Job, dict | None]], form: str) -> None:
    """Prints the results as a table, as JSON, or as lines of Markdown for the documentation."""
    rows = []
    for job, result in found:
        if result is None:
            rows.append((job.name, job.measure.title, "-", *("-" for _ in BROKEN), "-", "not run"))
            continue
        tally = result["tally"]
        numbers = (f"{tally['injected']:,}", *(str(tally[kind]) for kind in BROKEN), f"{result['seconds']:.0f}")
        rows.append((job.name, job.measure.title, *numbers, job.verdict(result)))
    columns = ("part", "measure", "injected", *BROKEN, "s", "verdict")
    if form == "json":
        lines = [dict(part=job.name, title=job.measure.title, **(result or {})) for job, result in found]
        for line, (job, result) in zip(lines, found, strict=True):
            line["verdict"] = job.verdict(result) if result else "not run"
        print(json.dumps(lines, indent=1))
    elif form == "markdown":
        print("| " + " | ".join(columns) + " |\n| " + " | ".join("---" for _ in columns) + " |")
        for row in rows:
            print("| " + " | ".join(row) + " |")
    else:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def main() -> int:
    """Exit status 0: all green or skipped; 1: something is red; 2: wrong arguments."""
    parser = argparse.ArgumentParser(prog="ci/rel", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("size", choices=("quick", "full", "table", "keep"))
    parser.add_argument("names", nargs="*", metavar="R3 | R3/part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", help="only the case that a failure named")
    parser.add_argument("--first", action="store_true", help="stop each part at its first failure")
    parser.add_argument("--again", action="store_true", help="run parts that have a result, too")
    parser.add_argument("--quick-table", action="store_true", help="with table: of the quick run")
    parser.add_argument("-j", "--jobs", type=int, default=min(os.cpu_count() or 1, 2), help="parts at one time")
    parser.add_argument("--json", dest="form", action="store_const", const="json", default="table")
    parser.add_argument("--markdown", dest="form", action="store_const", const="markdown")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = "quick" if options.size == "quick" or options.quick_table else "full"
    chosen = jobs(size, options.names)
    if options.result:
        return run_here(chosen[0], options)
    if options.size == "table":
        report([(job, job.result()) for job in chosen], options.form)
        return 0
    if options.size == "keep":
        keep([(job, job.result()) for job in jobs("full", [])])
        return 0
    again = options.again or options.case or options.first
    found = {job.name: None if again else job.result(options.seed) for job in chosen}
    Console(stderr=True).print(f"seed {options.seed}, {sum(result is None for result in found.values())} parts to run")
    bars = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*bars, console=Console(stderr=True)) as progress, ThreadPoolExecutor(options.jobs) as pool:
        for job in chosen:
            if found[job.name] is None:
                task = progress.add_task(job.name, start=False, visible=False)
                found[job.name] = pool.submit(run_apart, job, options, progress, task)
    results = [(job, kept if isinstance(kept := found[job.name], dict) else kept.result()) for job in chosen]
    report(results, options.form)
    red = [job.name for job, result in results if job.verdict(result) not in ("ok", "skipped")]
    if red:
        print(f"RED: {', '.join(red)}", file=sys.stderr)
    return 1 if red else 0


if __name__ == "__main__":
    raise SystemExit(main())
