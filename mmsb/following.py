"""Following the log of another process: its commits as they come, in a thread or on an asyncio loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmsb.arguments import seconds_of
from mmsb.errors import OwnerGoneError, RetentionError, StateClosedError
from mmsb.history import Commit
from mmsb.waiting import RING_SECONDS, SLICE_SECONDS

if TYPE_CHECKING:
    from mmsb._core.log import Cursor, Frame
    from mmsb._core.reader import Place
    from mmsb.view import View

T = TypeVar("T")
# So many times in a row a task finds something without waiting; then the others of its loop get their turn.
TURN_COUNT = 64


@coroutine
def turn() -> Generator[None]:
    """Lets the other tasks of a loop run once, as asyncio.sleep(0) does."""
    yield


class Following(Generic[T]):
    """Iterates what take() finds in the log of a view's owner, with `for` or with `async for`, and waits for more.

    `seq`: of the commit read last. One that falls behind misses nothing that the log keeps. One thread or task at a
    time. It ends when nothing comes for `timeout` seconds (None: never), and when the view is closed. OwnerGoneError
    after the last commit of an owner that is gone; after view.reattach() it goes on.
    """

    def __init__(self, view: View, since: int, timeout: float | None) -> None:
        if isinstance(since, bool) or not isinstance(since, int) or since < 1:
            raise ValueError(f"since is a seq from 1 on, not {since!r}")
        self.view = view
        self.seq = since - 1
        self.timeout = seconds_of(timeout)
        self.ended = False
        self.log: Any = None  # the one that `cursor` is in; reattach() gives the view another
        self.uuid = view.uuid
        self.cursor: Cursor | None = None
        self.waits_in: int | None = None  # the thread that waits for more
        self.finds = 0  # in a row, without waiting
        self.unread = False  # take() has found nothing yet, and has not looked at everything

    def take(self) -> T | None:
        """What comes next, None when there is nothing yet. It looks at a bounded number of commits, see `unread`."""
        raise NotImplementedError

    # ---- iterating

    def __iter__(self) -> Following[T]:
        return self

    def __next__(self) -> T:
        found = self.look()
        if found is not None:
            return found
        deadline, newest = self.deadline(), self.newest()
        while True:
            place = self.view._reader.place()
            found = self.look()  # once more, now that it is known since when nothing else came
            if found is not None:
                return found
            left = self.left(deadline, newest)
            if self.over or left <= 0:
                raise StopIteration
            if not self.unread:
                self.sleep(place, left)

    def sleep(self, place: Place, seconds: float) -> None:
        """Waits in this thread."""
        self.waits_in = threading.get_ident()
        try:
            if not self.ended:
                place.wait(min(SLICE_SECONDS, seconds))
        finally:
            self.waits_in = None

    def __aiter__(self) -> Following[T]:
        return self

    async def __anext__(self) -> T:
        self.finds += 1
        if self.finds > TURN_COUNT:
            self.finds = 0
            await turn()
        found = self.look()
        if found is not None:
            return found
        deadline, newest = self.deadline(), self.newest()
        while True:
            place = self.view._reader.place()
            found = self.look()
            if found is not None:
                return found
            left = self.left(deadline, newest)
            if self.over or left <= 0:
                raise StopAsyncIteration
            self.finds = 0
            if self.unread:
                await turn()
            else:
                await self.view._waker.wait(place, self, left)

    def deadline(self) -> float:
        """Until when something must come."""
        return math.inf if self.timeout is None else time.monotonic() + self.timeout

    def newest(self) -> int:
        """The newest commit there is."""
        try:
            return self.view.seq
        except StateClosedError:
            return 0

    def left(self, deadline: float, newest: int) -> float:
        """Seconds to the deadline, which is not for the commits that were there from the beginning."""
        return 1.0 if self.unread and self.seq < newest else deadline - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing will ever come."""
        return self.ended or self.view.closed

    def look(self) -> T | None:
        """take(), as long as the view is open. OwnerGoneError when nothing is left of an owner that is gone."""
        view = self.view
        reader = view._reader
        gone = reader.gone  # asked before, so that take() sees its last commit
        try:
            if self.ended:
                view._check_open()
                return None
            found = self.take()
            if gone and found is None and self.seq >= reader.seq:
                raise view._gone()
        except StateClosedError:
            return None  # the view is closed, or reattach() has just closed what was left behind
        return found

    def end(self) -> None:
        """Ends it, also where it waits in another thread or task."""
        self.ended = True
        while self.waits_in not in (None, threading.get_ident()):
            self.view._reader.ring()
            time.sleep(RING_SECONDS)
        self.view._waker.wake(whom=self)

    # ---- reading

    def step(self) -> Frame | None:
        """The next commit, None when there is none yet. RetentionError when it is no longer kept."""
        cursor = self.cursor
        if cursor is not None:
            # Nearly always this is all, and it is short: a thread that was woken runs it cold.
            frame = self.log.reader.next_commit(cursor, self.seq)
            if frame:
                self.seq = frame.seq
                return frame
            if frame is None:
                return None
        view = self.view
        view._keep_up()
        log = view._log
        if log is not self.log:
            self.change_over(log)
        log.reader.saw(self.seq)
        until = log.reader.seq
        while self.seq < until:
            segment = log.segment_of(self.seq + 1)
            if segment.base_seq > self.seq:
                raise RetentionError(
                    f"Commit {self.seq + 1} is no longer kept: the log begins at seq {segment.base_seq + 1}.",
                    seq=self.seq + 1,
                    first_seq=segment.base_seq,
                )
            cursor = self.cursor
            if cursor is not None and cursor.head.number == segment.number and segment.memory is not None:
                if segment is log.active:
                    log.settle()
                log.buffer(segment)  # one that has ended meanwhile: finds out where
                cursor.limit(segment.tail)
            else:
                cursor = self.cursor = log.cursor(segment)
                log.skip_to(cursor, segment, self.seq + 1)
            number, offset = log.reader.end()  # which the owner moves after the seq, and frames are there before both
            if number <= segment.number:
                cursor.limit(offset if number == segment.number else cursor.offset)
            frame = cursor.commit_after(self.seq)
            if frame is not None:
                self.seq = frame.seq
                return frame
            log.check_read(cursor, segment)
            if number <= segment.number:
                return None
        return None

    def change_over(self, log: Any) -> None:
        """The view reads another log, that of the owner's successor. OwnerGoneError where it is another State's."""
        if log.uuid != self.uuid:
            raise OwnerGoneError(
                f"What this followed is gone: another State is served as {self.view._target!r} now. Begin anew.",
                target=self.view._target,
            )
        self.log, self.cursor = log, None


class Follower(Following[Commit]):
    """Iterates the commits of a view from a seq on. Made by View.follow()."""

    def take(self) -> Commit | None:
        """The next commit. RetentionError when it is no longer kept."""
        frame = self.step()
        return None if frame is None else Commit(frame)
