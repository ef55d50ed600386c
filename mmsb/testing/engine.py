"""A small State on trial: a graph of numbers, a policy, and everything that happens written down."""

from __future__ import annotations

import random
import struct
from typing import Any

from mmsb.errors import StalePageError
from mmsb.events import Event as StateEvent
from mmsb.opening import open as open_state

Event = tuple[str | int, ...]

# child -> its parents; a child is the sum of its parents plus its own id. A diamond, a chain and a page with two paths.
GRAPH = {10: (1, 2), 11: (10,), 12: (10, 3), 13: (11, 12), 14: (13, 1)}
SOURCES = (1, 2, 3)
BEGIN_NS = 10**18  # of the trial's clock, so that it never shows a time that means "none"


def number(page: Any) -> int:
    """The number that a page holds."""
    value: int = struct.unpack("<q", page)[0]
    return value


class Trial:
    """A State in memory with a policy (a name or an object), and what its user does: `write`, `read`, `propagate`,
    `close`, time that `advance`s.

    `events` is what happened, in order: ("commit", page), ("wave", now_ns), ("read", page, value), ("stale", page) of
    a read that was refused, ("close",).
    """

    def __init__(self, policy: Any) -> None:
        self.events: list[Event] = []
        self.now_ns = 0
        self.state = open_state(clock=lambda: BEGIN_NS + self.now_ns)
        self.state.create_pages(max(GRAPH), 8)
        self._views = {page: self.state._page_bytes(page) for page in (*SOURCES, *GRAPH)}
        for child, parents in GRAPH.items():
            self.state.depend(child, on=parents, fn=self._sum(child))
        self.state.policy = policy
        self.state.subscribe("page_changed", self._committed, pages=SOURCES)
        self.state.subscribe("wave_finished", self._ended)

    @staticmethod
    def _sum(child: int) -> Any:
        def compute(out: memoryview, *parents: memoryview) -> None:
            out[:] = struct.pack("<q", child + sum(map(number, parents)))

        return compute

    def _committed(self, event: Any) -> None:
        self.events.append(("commit", event.page_id))

    def _ended(self, event: StateEvent) -> None:
        self.events.append(("wave", self.now_ns))

    @property
    def pages(self) -> dict[int, int]:
        """What each page holds, up to date or not; also after close()."""
        return {page: number(view) for page, view in self._views.items()}

    def write(self, page: int, value: int) -> None:
        """A commit, when it changes something."""
        self.state.page(page).write(struct.pack("<q", value))

    def read(self, page: int) -> int | None:
        """The value of a page; None when it is stale and the policy leaves it so."""
        try:
            value = number(self.state.page(page).read())
        except StalePageError:
            self.events.append(("stale", page))
            return None
        self.events.append(("read", page, value))
        return value

    def propagate(self) -> None:
        """The user asks for a wave."""
        self.state.propagate()

    def advance(self, duration_ns: int) -> None:
        """Lets time pass."""
        self.now_ns += duration_ns

    def close(self) -> None:
        """Ends it."""
        self.state.close()
        self.events.append(("close",))

    def live(self, rng: random.Random, steps: int) -> None:
        """So many random writes, reads and pauses."""
        for _ in range(steps):
            choice = rng.randrange(4)
            if choice == 0:
                self.read(rng.choice([*SOURCES, *GRAPH]))
            elif choice == 1:
                self.advance(rng.choice([0, 1, 10**6, 10**9, 10**12]))
            else:
                self.write(rng.choice(SOURCES), rng.randrange(-5, 6))
