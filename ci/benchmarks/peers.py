"""mmsb beside what people would use instead, for the same work at the same durability.

The musts of 1 say only that ours is no slower; where an issue asked for more, the line has its figure.
"""

from __future__ import annotations

import sys
from functools import partial

from measure import run_suite
from peers_deltas import game, pages, race
from peers_history import history
from peers_memory import arrays, graphs
from peers_stores import stores

if __name__ == "__main__":
    SUITE = {"encode": race, "pages": pages, "stores": stores, "arrays": arrays, "graphs": graphs}
    SUITE |= {"game": game, "history": history}
    SUITE["history-full"] = partial(history, full=True)
    sys.exit(run_suite("ci/bench peers", SUITE, default=[name for name in SUITE if name != "history-full"]))
