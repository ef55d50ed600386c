"""Activity: what happened to a State lately, counted from its commits."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsb import links

if TYPE_CHECKING:
    from mmsb.history import Commit

# What happened so long ago counts half.
HALF_LIFE_S = 10.0
# Colder pages are forgotten: one byte that changed two minutes ago.
COLD_BYTES_PER_S = 1e-5
HISTORY_INTERVALS = 120


@dataclass(frozen=True)
class Hot:
    """A page that changed lately. `heat`: changed bytes per second, where what is long ago counts less."""

    page_id: int
    heat: float
    changes_per_s: float
    bytes_per_s: float
    last_seq: int


@dataclass(frozen=True)
class Waves:
    """What was computed in an interval. `pages_per_s`, `pages_per_wave` (None without a wave), `pages_most` of one
    wave: pages that came out different. `failing`: pages that could not be computed, with the reason, as far as waves
    that were looked at say.
    """

    per_s: float
    pages_per_s: float
    pages_per_wave: float | None
    pages_most: int
    failing: dict[int, str]


@dataclass(frozen=True)
class Sample:
    """One interval of `seconds`. `looked_at`: the share of its commits that was looked at, which is what all but
    `commits_per_s` is about. `hot`: hottest first. The histories end with this interval.
    """

    seconds: float
    commits: int
    commits_per_s: float
    log_bytes_per_s: float
    looked_at: float
    hot: tuple[Hot, ...]
    waves: Waves
    commits_history: tuple[float, ...]
    log_history: tuple[float, ...]


class Count:
    """One page: what happened in this interval, and its heat before it."""

    __slots__ = ("changes", "heat", "last_seq", "nbytes")

    def __init__(self) -> None:
        self.heat = 0.0
        self.changes = self.nbytes = self.last_seq = 0


class Activity:
    """Takes commits in and gives a Sample for each interval, which begins with the one before (or forget()) and ends
    when it is asked for. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, half_life_s: float = HALF_LIFE_S) -> None:
        self.clock, self.half_life_s = clock, half_life_s
        self.commits_history: deque[float] = deque(maxlen=HISTORY_INTERVALS)
        self.log_history: deque[float] = deque(maxlen=HISTORY_INTERVALS)
        self.forget()

    def forget(self) -> None:
        """Begins anew, as with another State; the histories stay."""
        self.pages: dict[int, Count] = {}
        self.failing: dict[int, str] = {}
        self.begin()

    def begin(self) -> None:
        """An interval begins."""
        self.since = self.clock()
        self.seen = self.skipped = self.log_bytes = self.waves = self.wave_pages = self.wave_pages_most = 0

    def skip(self, count: int) -> None:
        """So many commits happened and are not looked at."""
        self.skipped += count

    def see(self, commit: Commit) -> None:
        """A commit happened."""
        self.seen += 1
        self.log_bytes += commit.nbytes
        deltas = 0
        for change in commit.changes:
            if change.kind == "delta":
                deltas += 1
                count = self.pages.setdefault(change.page_id, Count())
                count.changes += 1
                count.nbytes += change.delta.nbytes
                count.last_seq = commit.seq
            elif change.kind == "delete":
                self.pages.pop(change.page_id, None)
                self.failing.pop(change.page_id, None)
            elif change.kind == "wave":
                self.waves += 1
                self.wave_pages += deltas  # they stand before it
                self.wave_pages_most = max(self.wave_pages_most, deltas)
                failed, fresh, _ = links.decode_wave(change.blob)
                for page_id in fresh:
                    self.failing.pop(page_id, None)
                self.failing.update(failed)

    def sample(self) -> Sample:
        """Ends the interval."""
        seconds = max(self.clock() - self.since, 1e-9)
        commits = self.seen + self.skipped
        self.commits_history.append(commits / seconds)
        self.log_history.append(self.log_bytes / seconds)
        waves = Waves(
            self.waves / seconds,
            self.wave_pages / seconds,
            self.wave_pages / self.waves if self.waves else None,
            self.wave_pages_most,
            dict(sorted(self.failing.items())),
        )
        sample = Sample(
            seconds,
            commits,
            self.commits_history[-1],
            self.log_history[-1],
            self.seen / commits if commits else 1.0,
            self.cool(seconds),
            waves,
            tuple(self.commits_history),
            tuple(self.log_history),
        )
        self.begin()
        return sample

    def cool(self, seconds: float) -> tuple[Hot, ...]:
        """The pages that are warm after an interval, the hottest first; the others are forgotten."""
        kept = math.exp2(-seconds / self.half_life_s)
        found = []
        for page_id, count in list(self.pages.items()):
            count.heat = count.heat * kept + count.nbytes / seconds * (1 - kept)
            if count.heat < COLD_BYTES_PER_S:
                del self.pages[page_id]
                continue
            found.append(Hot(page_id, count.heat, count.changes / seconds, count.nbytes / seconds, count.last_seq))
            count.changes = count.nbytes = 0
        return tuple(sorted(found, key=lambda hot: (-hot.heat, hot.page_id)))
