"""R14: one program gives one history: the same digest at every commit, the same log and checkpoints to the byte.

Whatever the level of the kernels, the seed of Python's hashes, the number of threads, the optimisation and the Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.rel.builds import Build, MissingError, python
from tests.rel.programme import ROOT, Measure, Part, Run

BUNDLE = 20  # programs of one process
WHAT = ("digests", "the log", "checkpoints")
Outcome = dict[int, list[str]]


@dataclass(frozen=True)
class Way:
    """A way to run the programs. With threads a wave goes level by level, and its deltas stand in another order in the
    log: ways with threads share their bytes with one another and their digests with all.
    """

    name: str
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    build: Callable[[], Build] | None = None


class Here(Build):
    """The normal build, where it is."""

    @property
    def tree(self) -> Path:
        return ROOT


HERE = Here("normal")
REFERENCE = Way("as it is")
LEVELS = [
    Way(f"without {level}", environment={"MMSB_DISABLE_CPU": level}) for level in ("avx512", "avx2", "pclmul", "sse42")
]
SEEDS = [Way(f"hash seed {seed}", environment={"PYTHONHASHSEED": seed}) for seed in ("0", "1", "4294967295")]
THREADS = [Way(f"{threads} threads", threads) for threads in (2, 3)]
BUILDS = [Way("-O0", build=lambda: Build("O0", "-O0").make())]
PYTHONS = [
    Way(f"Python {version}", build=lambda version=version: Build(f"py{version}", python=python(version)).make())
    for version in ("3.11", "3.12", "3.13")
    if version != f"{sys.version_info.major}.{sys.version_info.minor}"
]


def outcome(run: Run, way: Way, build: Build, first: int, count: int) -> Outcome:
    """{program: its hashes}. RuntimeError: the process failed."""
    arguments = ["-m", "tests.rel.determined", run.seed, first, count, way.threads]
    done = build.run(arguments, **way.environment)
    lines = [line.split() for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(lines) != count:
        raise RuntimeError(f"{way.name} ended with status {done.returncode}: {done.stderr[-500:]}")
    return {int(number): hashes for number, *hashes in lines}


def compare(run: Run, ways: list[Way], programs: int) -> None:
    """Runs all programs in all ways."""
    builds: dict[str, Build] = {}
    for way in ways:
        try:
            builds[way.name] = HERE if way.build is None else way.build()
        except MissingError as error:
            run.tally.skipped = str(error)
            run.tally.figures[f"without {way.name}"] = str(error)
    ways = [REFERENCE, *(way for way in ways if way.name in builds)]
    builds[REFERENCE.name] = HERE
    run.tally.figures["ways"] = [way.name for way in ways]
    run.tally.figures["programs"] = 0
    if len(ways) == 1:
        return
    run.tally.skipped = ""  # some of them can be compared
    bundles = [(first, min(BUNDLE, programs - first)) for first in range(0, programs, BUNDLE)]
    with ThreadPoolExecutor(2 if run.size == "full" else 1) as pool:
        for first, count in bundles:
            run.progress(first, programs)
            if not run.wants(f"{first}"):
                continue
            found = list(pool.map(lambda way, b=(first, count): outcome(run, way, builds[way.name], *b), ways))
            run.tally.figures["programs"] += count
            judge(run, ways, found, first)


def judge(run: Run, ways: list[Way], found: list[Outcome], first: int) -> None:
    """Compares what the ways made of a bundle of programs."""
    threaded = next((seen for way, seen in zip(ways, found, strict=True) if way.threads > 1), None)
    for way, seen in zip(ways, found, strict=True):
        for number, hashes in seen.items():
            run.tally.injected += 1
            expected = found[0][number]
            if threaded is not None and way.threads > 1:
                expected = [expected[0], *threaded[number][1:]]
            wrong = [what for what, one, other in zip(WHAT, hashes, expected, strict=True) if one != other]
            if wrong:
                run.fail("wrong", f"{first}", f"program {number}, {way.name}: {' and '.join(wrong)} differ")


def part(name: str, ways: list[Way], quick: int, full: int, only: str = "") -> Part:
    """A comparison of some ways; it counts programs times ways."""
    least = 2 if ways is PYTHONS else len(ways) + 1  # a machine may lack a Python
    return Part(name, lambda run: compare(run, ways, run.amount(quick, full)), (quick * least, full * least), only)


MEASURE = Measure(
    "R14",
    "determinism",
    (
        part("levels", LEVELS + SEEDS + THREADS, 60, 2000),
        part("optimisation", BUILDS, 60, 2000, only="full"),
        part("pythons", PYTHONS, 60, 2000, only="full"),
    ),
    files=("tests/rel/determined.py", "tests/rel/builds.py"),
)
