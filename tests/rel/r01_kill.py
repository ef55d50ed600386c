"""R1: SIGKILL at every file operation and every kill point of the twelve scenarios; nothing acknowledged is lost.

A scenario runs in a forked child whose n-th operation kills it, for every n. What the child was told lies in memory
that it shares. Then the stores are opened, and must show a prefix of their history that has all of it. `recovery` kills
the opening, too, at each of its operations, and opens once more.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmsb._core.files import Files
from tests.rel.programme import Measure, Part, Run
from tests.rel.scenarios import SCENARIOS, Histories, Told, judge

STORES = "sft"
PLACES = struct.Struct("<3q")


class Shared(Told):
    """What a child was told, where its parent sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = mmap.mmap(-1, PLACES.size)

    def clear(self) -> None:
        """Nothing was told yet."""
        PLACES.pack_into(self.memory, 0, -1, -1, -1)

    def __call__(self, store: str, seq: int, durable: int) -> None:
        struct.pack_into("<q", self.memory, 8 * STORES.index(store), seq)

    def least(self) -> dict[str, int]:
        """What must be there."""
        return {store: seq for store, seq in zip(STORES, PLACES.unpack_from(self.memory), strict=True) if seq >= 0}


def killed(work: Callable[[Files], object], nth: int) -> bool:
    """Runs `work(files)` in a child whose n-th operation kills it. False when there are fewer, or it failed."""
    child = os.fork()
    if child == 0:
        try:
            files = Files(faulty=True)
            files.arm("any", nth, "kill")
            work(files)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def anew(folder: Path, like: Path | None = None) -> Path:
    """An empty folder, or a copy of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    if like is None:
        folder.mkdir()
    else:
        # Sockets of an owner that died are left behind.
        shutil.copytree(like, folder, ignore=shutil.ignore_patterns("run"))
    return folder


class Killer:
    """One scenario, and its history."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name, self.folder, self.again = run, name, run.work / "k", run.work / "again"
        files = Files(faulty=True)
        self.scenario = SCENARIOS[name]
        self.histories: Histories = self.scenario(anew(self.folder), files, Told())
        self.operations = files.count()
        self.told = Shared()
        assert threading.active_count() == 1, "a process with threads must not fork"

    def points(self, every: int, salt: str) -> range:
        """The operations to kill at: every one, or each `every`-th."""
        return range(1 + self.run.dice(self.name, salt).randrange(every), self.operations + 1, every)

    def kill(self, nth: int) -> None:
        """The scenario dies at an operation."""
        self.told.clear()
        anew(self.folder)
        killed(lambda files: self.scenario(self.folder, files, self.told), nth)

    def open_again(self, nth: int = 0) -> int:
        """Opens a copy of what is left, as often as there are stores, and dies at an operation (0: of none). How many
        there were.
        """
        anew(self.again, self.folder)
        if nth:
            killed(self.open_all, nth)
            return nth
        files = Files(faulty=True)
        self.open_all(files)
        return files.count()

    def open_all(self, files: Files) -> None:
        """Opens the copy."""
        judge(self.again, self.histories, {}, go_on=False, files=files)

    def judge(self, case: str, folder: Path) -> None:
        """Looks at what is left."""
        broken = judge(folder, self.histories, self.told.least())
        self.run.tally.injected += 1
        if broken is not None:
            self.run.fail(broken[0], case, broken[1])


def kills(run: Run) -> None:
    """Every operation in full, every third in quick."""
    for place, name in enumerate(SCENARIOS):
        run.progress(place, len(SCENARIOS))
        killer = Killer(run, name)
        for nth in killer.points(run.amount(3, 1), "kill"):
            if run.wants(case := f"{name}:{nth}"):
                killer.kill(nth)
                killer.judge(case, killer.folder)


def recoveries(run: Run, name: str) -> None:
    """Kills the opening after a kill of one scenario: at each of its operations in full, at one of them after each
    tenth in quick.
    """
    killer = Killer(run, name)
    points = killer.points(run.amount(10, 1), "recovery")
    for place, nth in enumerate(points):
        run.progress(place, len(points))
        if run.case and not run.case.startswith(f"{name}:{nth}:"):
            continue
        killer.kill(nth)
        operations = range(1, killer.open_again() + 1)
        for other in operations if run.size == "full" else [run.dice(name, nth).choice(operations)]:
            if run.wants(case := f"{name}:{nth}:{other}"):
                killer.open_again(other)
                killer.judge(case, killer.again)


MEASURE = Measure(
    "R1",
    "SIGKILL at every file operation",
    (
        Part("scenarios", kills, at_least=(1_000, 3_500)),
        *(Part(f"recovery-{name}", partial(recoveries, name=name), at_least=(5, 1_000)) for name in SCENARIOS),
    ),
    files=("tests/rel/scenarios.py",),
)
