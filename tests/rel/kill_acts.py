"""Killing by the thousand on the stage of tests/share/stage.py, in acts of a hundred in one store throughout.

At the end of an act everything is checked that was acknowledged, seen and logged in it; then its history is forgotten,
and the next act goes on in the same store. After a broken promise it goes on in another one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import mmsb
from tests.rel.programme import Part, Run
from tests.share.stage import Nursery, Stage

FILES = ("tests/rel/kill_acts.py", "tests/share/stage.py", "tests/share/everyone.py")
KILLS_PER_ACT = 100
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


def kill_acts(
    name: str, play: Callable[[Stage, Run, Counter[str], int], None], quick: int, full: int, **how: Any
) -> Part:
    """A part of so many kills, which play(stage, run, tally, kills) inflicts, act by act; `how`: of the Stage."""

    def run(run: Run) -> None:
        kills = run.amount(quick, full)
        acts = -(-kills // KILLS_PER_ACT)
        tally: Counter[str] = Counter()
        os.environ["XDG_RUNTIME_DIR"] = str(run.work)
        nursery, stage = Nursery(), None
        try:
            for act in range(acts):
                case = str(act)
                if not run.wants(case):
                    continue
                dice = run.dice(name, act)
                if stage is None:
                    stage = Stage(nursery, run.work / case, dice, **how)
                stage.dice = dice
                try:
                    stage.begin()
                    play(stage, run, tally, min(KILLS_PER_ACT, kills - act * KILLS_PER_ACT))
                    stage.end(tally)
                except (AssertionError, OSError, mmsb.MMSBError) as error:
                    stage.close()
                    stage = None
                    run.fail(kind_of(error), case, f"{type(error).__name__}: {error}")
                run.progress(act + 1, acts)
        finally:
            if stage is not None:
                stage.close()
            nursery.close()
            run.tally.figures = dict(sorted(tally.items()))

    return Part(name, run, at_least=(quick, full))
