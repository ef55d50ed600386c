"""R13: the owner dies inside a commit, or anywhere else, while readers read.

No read is torn or goes back, none takes 100 ms (time without a processor aside), and the next owner, who recovers from
the log, begins exactly where the readers saw the last one end.
"""

from __future__ import annotations

from collections import Counter

from tests.rel.kill_acts import FILES, kill_acts
from tests.rel.programme import Measure, Run
from tests.share.stage import Stage

CAST = (("owner", 0), ("reader", 0), ("reader", 1))
MOST_SECONDS = 0.1


def play(stage: Stage, run: Run, tally: Counter[str], kills: int) -> None:
    """One act: one owner after the other. The last one has no kill points, for it is to end the act."""
    for n in range(kills):
        stage.lose_owner(tally, stage.dice.random() * MOST_SECONDS, kill_points=n < kills - 1)
        run.tally.injected += 1


MEASURE = Measure("R13", "owners killed inside commits", (kill_acts("owner", play, 200, 5000, cast=CAST),), files=FILES)
