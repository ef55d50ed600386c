"""What a measure of the reliability programme is made of: parts that inject faults, and a tally of their outcome."""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Any of these above zero makes a part red. `lost`: acknowledged and missing. `phantom`: a state that no prefix of the
# history has. `refused`: a legal state of a crash that does not open. `wrong`: any other broken promise.
BROKEN = ("lost", "phantom", "refused", "wrong", "signals")
MAX_FAILURES = 20


class EnoughError(Exception):
    """The first failure, where a caller wants no more than one (planted faults)."""


@dataclass
class Tally:
    """What one part injected, and what became of it."""

    injected: int = 0
    lost: int = 0
    phantom: int = 0
    refused: int = 0
    wrong: int = 0
    signals: int = 0
    skipped: str = ""  # why this machine cannot do it
    failures: list[str] = field(default_factory=list)  # the first ones, each with the case that replays it
    figures: dict[str, Any] = field(default_factory=dict)  # whatever else the part counted

    @property
    def broken(self) -> int:
        """How many promises did not hold."""
        return sum(getattr(self, kind) for kind in BROKEN)


@dataclass
class Run:
    """One execution of one part: its size and seed, a folder to work in, and the tally to fill."""

    size: str  # "quick" or "full"
    seed: int
    work: Path
    case: str | None = None  # only this one
    first: bool = False  # stop at the first failure
    tally: Tally = field(default_factory=Tally)
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def amount(self, quick: int, full: int) -> int:
        """How many, for the size of this run."""
        return quick if self.size == "quick" else full

    def dice(self, *salt: object) -> random.Random:
        """A random source that depends on the seed and `salt` only."""
        return random.Random(":".join(str(part) for part in (self.seed, *salt)))

    def wants(self, case: str) -> bool:
        """Whether `case` is to be tried: all are, unless one was asked for."""
        return self.case is None or self.case == case

    def fail(self, kind: str, case: str, what: str) -> None:
        """Counts a broken promise of BROKEN. EnoughError: the caller wanted the first one only."""
        setattr(self.tally, kind, getattr(self.tally, kind) + 1)
        if len(self.tally.failures) < MAX_FAILURES:
            self.tally.failures.append(f"{kind}: {what} (--case {case})")
        if self.first:
            raise EnoughError

    def progress(self, done: int, total: int) -> None:
        """Says how far the part has come."""
        self.on_progress(done, total)


CORE = ("csrc/*.[ch]", "setup.py")
# All but the command line and what tests of plugins are made of.
PRODUCT = (
    *CORE,
    "mmsb/*.py",
    "mmsb/_core/*.p*",
    *(f"mmsb/{name}/**/*.py" for name in ("builtin", "plugin", "upstream")),
)


@dataclass(frozen=True)
class Part:
    """One resumable piece of a measure: under 80 minutes in full on 2 cores. `of`: globs of what it tests, `files`: of
    what it uses besides its own module and the measure's `files`.
    """

    name: str
    run: Callable[[Run], None]
    at_least: tuple[int, int] = (1, 1)  # injected, in quick and in full; fewer is red
    only: str = ""  # "full": not part of the quick run
    of: tuple[str, ...] = PRODUCT
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A line of the programme. `files`: globs of what all of its parts use besides its own module."""

    number: str
    title: str
    parts: tuple[Part, ...]
    files: tuple[str, ...] = ()


def measures(number: str = "") -> Iterator[tuple[Measure, str]]:
    """The MEASURE of every module rNN_*.py beside this one, or of the one with a number ("R3"), and the module's name,
    in order of number.
    """
    wanted = f"r{int(number[1:]):02}_*.py" if number else "r[0-9][0-9]_*.py"
    for path in sorted(Path(__file__).parent.glob(wanted)):
        yield importlib.import_module(f"tests.rel.{path.stem}").MEASURE, path.stem


def fingerprint(measure: Measure, module: str, part: Part) -> str:
    """Changes when what a part tests does, or the part itself: a result with another fingerprint is stale."""
    globs = (*part.of, "tests/rel/programme.py", f"tests/rel/{module}*", *measure.files, *part.files)
    hashed = hashlib.sha256()
    for path in sorted({path for glob in globs for path in ROOT.glob(glob)}):
        if path.is_file() and path.suffix not in (".so", ".pyc", ".pyi"):
            hashed.update(f"{path.relative_to(ROOT)}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return hashed.hexdigest()[:16]
