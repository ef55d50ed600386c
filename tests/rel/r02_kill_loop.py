"""R2: SIGKILL at random instants in one directory throughout: of its owner, of writers and of readers, all at work."""

from __future__ import annotations

from collections import Counter

from tests.rel.kill_acts import FILES, kill_acts
from tests.rel.programme import Measure, Run
from tests.share.stage import Stage

# From the first steps of opening to well into the writing; everyone has begun after a few milliseconds.
DELAYS_S = [0.1 * (n / 19) ** 2 for n in range(20)]


def play(stage: Stage, run: Run, tally: Counter[str], kills: int) -> None:
    """One act: one or more die after each delay of a shuffled sweep."""
    done, delays = 0, []
    while done < kills:
        delays = delays or stage.dice.sample(DELAYS_S, len(DELAYS_S))
        struck = stage.strike(tally, delays.pop())
        done += struck
        run.tally.injected += struck


MEASURE = Measure(
    "R2",
    "kill loop with readers",
    (
        kill_acts("process", play, 200, 6000, durability="process"),
        kill_acts("group", play, 150, 2000, durability="group"),
        kill_acts("power", play, 150, 2000, durability="power"),
    ),
    files=FILES,
)
