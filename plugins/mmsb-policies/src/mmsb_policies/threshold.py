"""The policy threshold: changes that hardly matter do not set off a wave."""

from __future__ import annotations

from mmsb.plugin import Engine, Policy

NORMS = ("max", "sum", "euclid")


class Threshold(Policy):
    """A wave when a page has moved by more than `limit` since the last one, whoever ran that; until then stale pages
    can be read.

    How far a page has moved: by `norm` ("max", "sum", "euclid") over the differences of its lanes, numbers of type
    `dtype`. Another size, a page that was never looked at, NaN and bytes that are no whole lanes count as far. It keeps
    a copy of each page that changes. ValueError for an unknown norm or a limit that is no number of 0 or more.
    """

    def __init__(self, limit: float = 1.0, dtype: str = "float64", norm: str = "max") -> None:
        import numpy

        if norm not in NORMS or not limit >= 0:
            raise ValueError(f"norm {norm!r} must be one of {', '.join(NORMS)} and limit {limit} 0 or more.")
        self.limit = limit
        self.dtype = numpy.dtype(dtype)
        self.norm = norm
        self.computed: dict[int, bytes] = {}  # pages as the last wave saw them
        self.seen: dict[int, bytes] = {}  # pages that no wave has covered, as they were at the last look
        self.waves = 0  # how many had run then
        self.began = False

    def after_commit(self, engine: Engine) -> None:
        """Runs the wave if it is worth it. What is stale from before this policy came is."""
        self.look(engine)
        if engine.linked or not self.began or any(self.is_far(page_id, data) for page_id, data in self.seen.items()):
            self.run(engine)

    def before_read(self, engine: Engine, page_id: int) -> bool:
        """The page is near enough."""
        if not self.began:
            self.look(engine)
            self.run(engine)
        return True

    def look(self, engine: Engine) -> None:
        """Notes how the pages that changed stand. A wave that somebody else ran since computed from the last look."""
        if engine.waves != self.waves:
            self.waves = engine.waves
            self.computed.update(self.seen)
        self.seen = {page_id: engine.read(page_id) for page_id in engine.changed}

    def run(self, engine: Engine) -> None:
        """The wave over what was just looked at."""
        engine.propagate()
        self.computed.update(self.seen)
        self.seen = {}
        self.waves = engine.waves
        self.began = True

    def is_far(self, page_id: int, data: bytes) -> bool:
        """Whether a page has moved by more than the limit."""
        import numpy

        before = self.computed.get(page_id)
        if before is None or len(before) != len(data) or len(data) % self.dtype.itemsize:
            return True
        new, old = (numpy.frombuffer(one, self.dtype).astype(numpy.float64) for one in (data, before))
        with numpy.errstate(invalid="ignore", over="ignore"):
            moved = numpy.abs(new - old)
            if self.norm == "max":
                distance = moved.max()
            elif self.norm == "sum":
                distance = moved.sum()
            else:
                distance = numpy.sqrt((moved * moved).sum())
        return not distance <= self.limit
