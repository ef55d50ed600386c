"""R3: power loss. Every state that a power cut may leave opens, shows a prefix, and has what was called durable.

A scenario runs once on files that write down what is done; disk.py then works out what a power cut at each moment could
leave: all of it where it is little, and as much as the run asks for, by seed, where it is not. Each state is put on a
memory disk and opened. One in ten goes on from there; one in eight is cut again in the middle of its recovery.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import random
import shutil
import threading
import traceback
from array import array
from functools import partial
from pathlib import Path

from mmsb._core.files import Files
from tests.rel.disk import Cut, Disk, Image, Platter
from tests.rel.programme import Measure, Part, Run
from tests.rel.scenarios import SCENARIOS, VARIANTS, Histories, Told, judge

ALL = 48  # a moment that may leave no more combinations than these leaves all of them
PICKS = 6  # states at each moment, each round
AGAIN = 3  # states in the middle of each recovery that is cut
FRUITLESS = 4  # rounds that bring next to nothing new end a part


class Recorded(Told):
    """Notes when something was promised, too."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files = files
        self.promises: list[tuple[int, dict[str, int]]] = []

    def __call__(self, store: str, seq: int, durable: int) -> None:
        super().__call__(store, seq, durable)
        self.promises.append((self.files.count(), dict(self.durable)))


class Player:
    """Tries states of one scenario, in a process that may die of one."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        folder = run.work / "s"
        folder.mkdir()
        files = Files(recorded=True)
        told = Recorded(files)
        self.histories: Histories = (SCENARIOS | VARIANTS)[name](folder, files, told)
        self.disk = Disk(folder)
        self.platter: Platter
        self.disk.play(files.operations())
        self.promises = told.promises
        # What was tried: by the hash of an image, the latest moment, for later ones promise more.
        self.tried: dict[int, int] = {}
        self.fresh: dict[int, int] = {}
        self.failures: list[tuple[str, str, str]] = []
        self.case = mmap.mmap(-1, 256)

    def least(self, moment: int) -> dict[str, int]:
        """What was called durable by then."""
        least: dict[str, int] = {}
        for at, promised in self.promises:
            if at > moment:
                break
            least = promised
        return least

    def round(self, number: int) -> None:
        """All or PICKS states of each moment. The first round has those of few choices."""
        for moment in range(1, self.disk.moment + 1):
            cut = self.disk.at(moment)
            few = cut.count(ALL + 1) <= ALL
            if few and number:
                continue
            dice = self.run.dice(self.name, number, moment)
            for place, choice in enumerate(cut.all() if few else (cut.pick(dice) for _ in range(PICKS))):
                self.state(f"{number}:{moment}:{place}", cut, choice, self.least(moment), moment, dice.random())

    def state(self, case: str, cut: Cut, choice: tuple, least: dict, moment: int, chance: float) -> None:
        """Tries one state, unless it was tried."""
        image = cut.image(*choice)
        if not self.is_new(image, moment) or not self.run.wants(case):
            return
        operations = self.judge(case, image, least, go_on=chance < 0.1)
        if chance < 0.85 and not self.run.case:
            return
        disk = Disk(self.platter.folder, image)
        disk.play(operations)
        dice = random.Random(chance)
        for _ in range(AGAIN):
            cut = disk.at(dice.randint(1, max(1, disk.moment)))
            image = cut.image(*cut.pick(dice))
            if self.is_new(image, moment):
                self.judge(case, image, least, go_on=dice.random() < 0.1)

    def is_new(self, image: Image, moment: int) -> bool:
        """Whether an image was never tried, or only for an earlier moment."""
        key = hash(tuple(image.items()))
        if max(self.tried.get(key, 0), self.fresh.get(key, 0)) >= moment:
            return False
        self.fresh[key] = moment
        return True

    def judge(self, case: str, image: Image, least: dict, *, go_on: bool) -> list:
        """Shows an image and judges it. What opening it did to its files."""
        self.case[:] = case.encode().ljust(256)
        self.platter.show(image)
        files = Files(recorded=True)
        broken = judge(Path(self.platter.folder), self.histories, least, go_on=go_on, files=files)
        operations = files.operations()
        self.platter.changed(operations)
        if broken is not None:
            self.failures.append((broken[0], case, broken[1]))
        return operations

    def play(self, number: int) -> bool:
        """One round in a process of its own. Whether it lived."""
        result, folder = self.run.work / "result", self.run.work / "p"
        folder.mkdir()
        self.platter = Platter(folder)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                gc.freeze()
                self.round(number)
                flat = array("q", [word for item in self.fresh.items() for word in item])
                result.write_bytes(pickle.dumps((flat.tobytes(), self.failures)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        shutil.rmtree(folder)
        if os.WIFSIGNALED(status):
            what = f"the process was ended by signal {os.WTERMSIG(status)}"
            self.run.fail("signals", self.case[:].decode().strip(), what)
            return False
        if status:
            raise RuntimeError(f"a round of {self.name} failed in case {self.case[:].decode().strip()}")
        flat, failures = pickle.loads(result.read_bytes())
        words = array("q")
        words.frombytes(flat)
        self.tried.update(zip(words[::2], words[1::2], strict=True))
        for failure in failures:
            self.run.fail(*failure)
        self.run.tally.injected = len(self.tried)
        return True


def states(name: str, quick: int, full: int, run: Run) -> None:
    """As many distinct states of one scenario as the run asks for, or as there are."""
    player = Player(run, name)
    assert threading.active_count() == 1, "a process with threads must not fork"
    wanted, number, fruitless = run.amount(quick, full), 0, 0
    if run.case:
        player.play(int(run.case.split(":")[0]))
        return
    while run.tally.injected < wanted and fruitless < FRUITLESS:
        before = run.tally.injected
        if not player.play(number):
            break
        number += 1
        fruitless = 0 if run.tally.injected - before > 20 or number < 3 else fruitless + 1
        run.progress(min(run.tally.injected, wanted), wanted)
    run.tally.figures = {"operations": player.disk.moment, "rounds": number}


QUICK, FULL = 7_000, 350_000
# Scenarios that sync after each step leave fewer states; the others make up for them.

MEASURE = Measure(
    "R3",
    "power loss: every legal state",
    tuple(Part(name, partial(states, name, QUICK, FULL), at_least=(1, 1)) for name in SCENARIOS | VARIANTS),
    files=("tests/rel/disk.py", "tests/rel/scenarios.py"),
)
