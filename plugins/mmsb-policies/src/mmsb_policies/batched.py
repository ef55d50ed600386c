"""The policy batched: one wave for many commits."""

from __future__ import annotations

from mmsb.plugin import Engine, Policy


class Batched(Policy):
    """A wave when `count` commits wait for one, or when the first of them has waited `delay_ns` nanoseconds.

    The time is looked at when a commit or a read of a stale page comes; what waits at the end is computed then. Nothing
    waits any more after a wave that somebody else ran. ValueError for a count below 1 or a negative delay.
    """

    def __init__(self, count: int = 16, delay_ns: int = 10_000_000) -> None:
        if count < 1 or delay_ns < 0:
            raise ValueError(f"count {count} and delay_ns {delay_ns} must be at least 1 and 0. Use larger ones.")
        self.count = count
        self.delay_ns = delay_ns
        self.waiting = 0
        self.due_ns = 0
        self.waves = 0  # how many had run when `waiting` was counted

    def after_commit(self, engine: Engine) -> None:
        """One more waits; runs the wave when it is time."""
        if self.still_waiting(engine) == 0:
            self.due_ns = engine.clock() + self.delay_ns
        self.waiting += 1
        if self.waiting >= self.count or engine.clock() >= self.due_ns:
            self.run(engine)

    def before_read(self, engine: Engine, page_id: int) -> None:
        """Runs the wave when it is time."""
        if self.still_waiting(engine) and engine.clock() >= self.due_ns:
            self.run(engine)

    def close(self, engine: Engine) -> None:
        """Leaves nothing behind."""
        if engine.pending:
            self.run(engine)

    def still_waiting(self, engine: Engine) -> int:
        """How many commits wait, by the waves that ran since."""
        if engine.waves != self.waves:
            self.waves = engine.waves
            self.waiting = 0
        return self.waiting

    def run(self, engine: Engine) -> None:
        """The wave."""
        self.waiting = 0
        engine.propagate()
