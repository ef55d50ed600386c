"""R2: SIGKILL at random instants in one directory throughout: of its owner, of writers and of readers, all at work.

An act of a hundred kills ends with a check of everything that was acknowledged, seen and logged in it; then its history
is forgotten, and the next act goes on in the same store.
"""

from __future__ import annotations

from collections import Counter

import mmsb
from tests.rel.programme import Measure, Part, Run
from tests.share.stage import Nursery, Stage

KILLS_PER_ACT = 100
# From the first steps of opening to well into the writing; everyone has begun after a few milliseconds.
DELAYS_S = [0.1 * (n / 19) ** 2 for n in range(20)]
# What the assertions of the stage and its players mean, by their words; all others are broken promises as well.
KINDS = {
    "was acknowledged as": "lost",
    "a commit was lost": "lost",
    "the next owner": "lost",
    "left out": "phantom",
    "done twice": "phantom",
    "mmsb.errors.": "refused",
}


def kind_of(error: BaseException) -> str:
    """Which promise does not hold."""
    return next((kind for words, kind in KINDS.items() if words in str(error)), "wrong")


def kill_loop(durability: str, quick: int, full: int) -> Part:
    """The part for a durability level."""

    def run(run: Run) -> None:
        kills = run.amount(quick, full)
        acts = -(-kills // KILLS_PER_ACT)
        tally: Counter[str] = Counter()
        nursery, stage = Nursery(), None
        try:
            for act in range(acts):
                case = str(act)
                if not run.wants(case):
                    continue
                dice = run.dice(durability, act)
                if stage is None:
                    stage = Stage(nursery, run.work / case, dice, durability)
                stage.dice = dice
                try:
                    play(stage, run, tally, min(KILLS_PER_ACT, kills - act * KILLS_PER_ACT))
                except (AssertionError, OSError, mmsb.MMSBError) as error:
                    stage.close()
                    stage = None  # the next act has another store
                    run.fail(kind_of(error), case, f"{type(error).__name__}: {error}")
                run.progress(act + 1, acts)
        finally:
            if stage is not None:
                stage.close()
            nursery.close()
            run.tally.figures = dict(sorted(tally.items()))

    return Part(durability, run, at_least=(quick, full))


def play(stage: Stage, run: Run, tally: Counter[str], kills: int) -> None:
    """One act: so many kills, each after the next delay of a shuffled sweep."""
    stage.begin()
    done, delays = 0, []
    while done < kills:
        delays = delays or stage.dice.sample(DELAYS_S, len(DELAYS_S))
        struck = stage.strike(tally, delays.pop())
        done += struck
        run.tally.injected += struck
    stage.end(tally)


MEASURE = Measure(
    "R2",
    "kill loop with readers",
    (kill_loop("process", 200, 6000), kill_loop("group", 150, 2000), kill_loop("power", 150, 2000)),
    files=("tests/share/stage.py", "tests/share/everyone.py"),
)
