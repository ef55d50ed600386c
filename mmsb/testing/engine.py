"""A small, deterministic stand-in for the engine that policies drive: pages of one number, waves written out."""

from __future__ import annotations

import random

from mmsb.plugin import Policy

Event = tuple[str | int, ...]

# child -> its parents; a child is the sum of its parents plus its own id. A diamond, a chain and a page with two paths.
GRAPH = {10: (1, 2), 11: (10,), 12: (10, 3), 13: (11, 12), 14: (13, 1)}
SOURCES = (1, 2, 3)


class FakeEngine:
    """Has what `mmsb.plugin.Engine` promises, and the user's side: `write`, `read`, `close`, time that `advance`s.

    `events` is what happened, in order: ("commit", page), ("wave", pending, now_ns), ("read", page, value), ("close",).
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.events: list[Event] = []
        self.now_ns = 0
        self.pages = dict.fromkeys([*SOURCES, *GRAPH], 0)
        self._dirty = set(SOURCES)
        self._busy = False
        self.propagate()
        self.events.clear()

    # ---- what the policy sees

    @property
    def pending(self) -> int:
        """Sources that changed since the last wave."""
        return len(self._dirty)

    def propagate(self) -> None:
        """A wave: every child, parents first."""
        assert not self._busy, "a wave inside a wave"
        self._busy = True
        self.events.append(("wave", self.pending, self.now_ns))
        for child, parents in GRAPH.items():
            self.pages[child] = child + sum(self.pages[parent] for parent in parents)
        self._dirty.clear()
        self._busy = False

    def clock(self) -> int:
        """The time, which only `advance` moves."""
        return self.now_ns

    # ---- what the user does

    def write(self, page: int, value: int) -> None:
        """A commit, when it changes something."""
        if self.pages[page] != value:
            self.pages[page] = value
            self._dirty.add(page)
            self.events.append(("commit", page))
            self.policy.after_commit(self)

    def read(self, page: int) -> int:
        """The value of a page; a stale one is announced to the policy first."""
        if page in GRAPH and self._dirty:
            self.policy.before_read(self, page)
        self.events.append(("read", page, self.pages[page]))
        return self.pages[page]

    def advance(self, duration_ns: int) -> None:
        """Lets time pass."""
        self.now_ns += duration_ns

    def close(self) -> None:
        """Ends it."""
        self.policy.close(self)
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
