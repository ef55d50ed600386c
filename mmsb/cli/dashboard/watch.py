"""Watch: looks at a running owner again and again, and says what it saw."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmsb.attaching import attach, key_of
from mmsb.cli.dashboard.activity import Activity, Hot, Sample
from mmsb.errors import BusyError, ClientDroppedError, OwnerGoneError, PageNotFoundError, RetentionError
from mmsb.owners import owner_of, rated

# Pages that are listed, the hottest ones.
LISTED_MOST = 500
# With more pages, nobody asks each whether it is stale.
ASKED_MOST = 20_000
REATTACH_SECONDS = 1.0


@dataclass(frozen=True)
class Listed(Hot):
    """A page that changed lately, as it is now."""

    name: str | None
    size: int


@dataclass(frozen=True)
class Picture:
    """What was seen. `alive`: whether somebody serves the State; if nobody does, the rest is what was seen last.
    `owner`: what it said of itself last (Server.status, with rates), None when it never answered. `stale`: pages, None
    when there are too many to ask. `failing`: page id, name and reason. `me`: the pid of who looks.
    """

    title: str
    path: str | None
    owner_pid: int
    alive: bool
    seq: int
    durable_seq: int
    pages: int
    stale: int | None
    owner: dict[str, Any] | None
    listed: tuple[Listed, ...]
    failing: tuple[tuple[int, str | None, str], ...]
    sample: Sample
    me: int

    def document(self) -> dict[str, Any]:
        """For --json."""
        sample = self.sample
        return {
            "state": self.title,
            "path": self.path,
            "alive": self.alive,
            "seq": self.seq,
            "durable_seq": self.durable_seq,
            "seconds": sample.seconds,
            "commits_per_s": sample.commits_per_s,
            "log_bytes_per_s": sample.log_bytes_per_s,
            "looked_at": sample.looked_at,
            "page_count": self.pages,
            "stale": self.stale,
            "pages": [asdict(page) for page in self.listed],
            "waves": asdict(sample.waves)
            | {"failing": [{"page_id": page, "name": name, "reason": why} for page, name, why in self.failing]},
            "owner": self.owner,
        }


class Watch:
    """Attached to whoever serves `store`. OwnerGoneError when nobody does, NotAStoreError, as mmsb.attach().

    `budget_s`: how long one look may read commits; the rest of them is skipped. Use it from one thread.
    """

    def __init__(self, store: str, *, budget_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.budget_s = clock, budget_s
        self.view = attach(store)
        self.key = key_of(store, is_path=False)
        self.title = os.path.basename(os.path.abspath(self.view.path)) if self.view.path else str(self.view.name)
        self.activity = Activity(clock)
        self.last: Picture | None = None
        self.begin()

    def begin(self) -> None:
        """Counts from now on."""
        self.activity.forget()
        self.follower = self.view.follow(timeout=0)
        self.asked = self.ask()
        self.tried = self.clock()

    def close(self) -> None:
        """Detaches."""
        self.view.close()

    def look(self) -> Picture:
        """What happened since the last look. Once the owner is gone: what was seen last, until there is another."""
        last = self.last
        if last is not None and not last.alive and not self.reattach():
            return last
        try:
            self.last = self.picture(alive=self.drain())
        except ClientDroppedError:
            if last is None:
                raise
            self.last = replace(last, alive=False)
        if last is not None and self.last.owner is None:
            self.last = replace(self.last, owner=last.owner)
        return self.last

    def reattach(self) -> bool:
        """Goes on with the owner there is now. False when there is none, or it is too early to ask."""
        if self.clock() - self.tried < REATTACH_SECONDS:
            return False
        self.tried = self.clock()
        try:
            self.view.reattach()
        except (OwnerGoneError, BusyError):
            return False
        self.begin()
        return True

    def drain(self) -> bool:
        """Takes in the commits that came, or as many as there is time for. False after the last one of an owner."""
        follower, until = self.follower, time.monotonic() + self.budget_s
        while time.monotonic() < until:
            try:
                commit = next(follower, None)
            except RetentionError as error:
                first_kept = error.facts["first_seq"]
                self.activity.skip(first_kept - follower.seq)
                follower.seq = first_kept
                continue
            except OwnerGoneError:
                return False
            if commit is None:
                return True
            self.activity.see(commit)
        self.follower = self.view.follow(timeout=0)
        self.activity.skip(self.follower.seq - follower.seq)
        return True

    def ask(self) -> dict[str, Any] | None:
        """What the owner says of itself."""
        owner = None
        with suppress(OSError):
            owner = owner_of(self.key)
        return None if owner is None or owner.get("busy") else owner

    def picture(self, *, alive: bool) -> Picture:
        """Ends an interval."""
        view, before = self.view, self.asked
        self.asked = owner = self.ask()
        if owner is not None:
            [owner] = rated([] if before is None else [before], [owner])
        sample = self.activity.sample()
        count = len(view)
        return Picture(
            self.title,
            view.path,
            view.owner_pid,
            alive,
            view.seq,
            view.durable_seq,
            count,
            sum(map(self.is_stale, view.pages())) if count <= ASKED_MOST else None,
            owner,
            tuple(listed for hot in sample.hot[:LISTED_MOST] if (listed := self.listed(hot)) is not None),
            tuple((page_id, self.name_of(page_id), why) for page_id, why in sample.waves.failing.items()),
            sample,
            os.getpid(),
        )

    def is_stale(self, page: Any) -> bool:
        """Whether a page is not up to date; one that is deleted meanwhile is of no matter."""
        try:
            return bool(page.stale)
        except PageNotFoundError:
            return False

    def listed(self, hot: Hot) -> Listed | None:
        """A page with its name and size, None when it is deleted meanwhile."""
        try:
            page = self.view.page(hot.page_id)
            return Listed(**vars(hot), name=page.name, size=page.size)
        except PageNotFoundError:
            return None

    def name_of(self, page_id: int) -> str | None:
        """The name of a page; of one that is deleted meanwhile none."""
        try:
            return self.view.page(page_id).name
        except PageNotFoundError:
            return None
