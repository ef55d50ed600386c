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
from tests.rel.disk import Disk, Image, Platter
from tests.rel.programme import Measure, Part, Run
from tests.rel.scenarios import SCENARIOS, VARIANTS, Histories, Told, judge

ALL = 48  # a moment that may leave no more combinations than these leaves all of them
AGAIN = 3  # states in the middle of each recovery that is cut
YIELD = 0.03  # a round in which fewer of a moment's states are new was a poor one
POOR_MOST = 4  # a moment with so many poor rounds gets no more


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
        # What was tried: by the hash of an image, how many of the promises it keeps.
        self.tried: dict[int, int] = {}
        self.fresh: dict[int, int] = {}
        self.failures: list[tuple[str, str, str]] = []
        self.moments: dict[int, int] = dict.fromkeys(range(1, self.disk.moment + 1), 0)
        self.picks = run.amount(1, 8)
        self.case = mmap.mmap(-1, 256)

    def round(self, number: int) -> None:
        """All states of a moment that leaves few, some of others, more where more is in doubt. Afterwards `moments` are
        those that are worth another round, with the number of their poor ones.
        """
        moments, self.moments = self.moments, {}
        for moment, poor in moments.items():
            cut = self.disk.at(moment)
            many, before = cut.count(), len(self.fresh)
            few = many <= ALL
            picks = many if few else many.bit_length() * self.picks
            dice = self.run.dice(self.name, number, moment)
            promised = sum(at <= moment for at, _ in self.promises)
            for place, choice in enumerate(cut.all() if few else (cut.pick(dice) for _ in range(picks))):
                chance = dice.random()
                if self.run.first and self.failures:
                    return
                if self.run.wants(f"{number}:{moment}:{place}"):
                    self.state(f"{number}:{moment}:{place}", cut.image(*choice), promised, chance)
            poor += len(self.fresh) - before < YIELD * picks
            if not few and poor < POOR_MOST:
                self.moments[moment] = poor

    def state(self, case: str, image: Image, promised: int, chance: float) -> None:
        """Tries one state, unless it was tried. `promised`: how many promises it must keep."""
        if not self.is_new(image, promised):
            return
        operations = self.judge(case, image, promised, go_on=chance < 0.1)
        if chance < 0.85 and not self.run.case:
            return
        disk = Disk(self.platter.folder, image)
        disk.play(operations)
        dice = random.Random(chance)
        for _ in range(AGAIN):
            cut = disk.at(dice.randint(1, max(1, disk.moment)))
            image = cut.image(*cut.pick(dice))
            if self.is_new(image, promised):
                self.judge(case, image, promised, go_on=dice.random() < 0.1)

    def is_new(self, image: Image, promised: int) -> bool:
        """Whether an image was never tried, or breaks one of the first `promised` promises."""
        key = hash(tuple(image.items()))
        return max(self.tried.get(key, -1), self.fresh.get(key, -1)) < promised

    def judge(self, case: str, image: Image, promised: int, *, go_on: bool) -> list:
        """Shows an image and judges it. What opening it did to its files."""
        least = self.promises[promised - 1][1] if promised else {}
        self.case[:] = case.encode().ljust(256)
        self.platter.show(image)
        files = Files(recorded=True)
        found: dict[str, int] = {}
        folder = Path(self.platter.folder)
        broken = judge(folder, self.histories, least, go_on=go_on, files=files, found=found)
        operations = files.operations()
        self.platter.changed(operations)
        if broken is not None:
            self.failures.append((broken[0], case, broken[1]))
        kept = promised
        while kept < len(self.promises):
            if any(found.get(store, -1) < seq for store, seq in self.promises[kept][1].items()):
                break
            kept += 1
        self.fresh[hash(tuple(image.items()))] = kept
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
                result.write_bytes(pickle.dumps((flat.tobytes(), self.failures, self.moments)))
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
        flat, failures, self.moments = pickle.loads(result.read_bytes())
        words = array("q")
        words.frombytes(flat)
        self.tried.update(zip(words[::2], words[1::2], strict=True))
        for failure in failures:
            self.run.fail(*failure)
        self.run.tally.injected = len(self.tried)
        return True


def states(name: str, sizes: tuple[int, int], run: Run) -> None:
    """As many distinct states of one scenario as the run asks for, or as there are."""
    player = Player(run, name)
    assert threading.active_count() == 1, "a process with threads must not fork"
    wanted, number = run.amount(*sizes), 0
    if run.case:
        player.moments = {int(run.case.split(":")[1]): 0}
        player.play(int(run.case.split(":")[0]))
        return
    while run.tally.injected < wanted and player.moments and player.play(number):
        number += 1
        run.progress(min(run.tally.injected, wanted), wanted)
    run.tally.figures = {"operations": player.disk.moment, "rounds": number}


# Distinct states in quick and in full. Where less is in doubt at any moment, all that there are are fewer: such a
# scenario ends when hardly any of those that are picked are new. The sizes in full are what each leaves (compact, for
# one, syncs so often that it leaves little), and more where a state takes little time: 5,000,000 and some in all.
STATES = {
    "append": (12_000, 1_400_000),
    "group": (5_000, 20_000),
    "group-64": (18_000, 1_700_000),
    "rotate": (20_000, 700_000),
    "compress": (12_000, 400_000),
    "compact": (12_000, 110_000),
    "plugin": (10_000, 560_000),
    "fork": (3_000, 140_000),
    "rotate-power": (3_000, 140_000),
}
FEW = (1_500, 80_000)  # of the others, which leave less than that
FEWEST = (250, 250)


MEASURE = Measure(
    "R3",
    "power loss: every legal state",
    tuple(
        Part(name, partial(states, name, STATES.get(name, FEW)), at_least=STATES.get(name, FEWEST))
        for name in SCENARIOS | VARIANTS
    ),
    files=("tests/rel/disk.py", "tests/rel/scenarios.py"),
)
