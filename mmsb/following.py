"""Follower: the commits of another process as they come, read from its log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mmsb.errors import RetentionError, StateClosedError
from mmsb.history import Commit

if TYPE_CHECKING:
    from mmsb._core.log import Cursor, Frame
    from mmsb.view import View

# A sleeper looks up so often, whether or not the bell rings.
SLICE_SECONDS = 1.0


class Follower:
    """Iterates the commits of a view from `seq` + 1 on, and waits for the next. Made by View.follow().

    `seq`: of the commit given last. One that falls behind misses nothing: the log keeps what it has not read.
    """

    def __init__(self, view: View, since: int, timeout: float | None) -> None:
        if isinstance(since, bool) or not isinstance(since, int) or since < 1:
            raise ValueError(f"since is a seq from 1 on, not {since!r}")
        self.view = view
        self.seq = since - 1
        self.timeout = timeout
        self.cursor: Cursor | None = None
        view._connection.saw(self.seq)

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Commit:
        try:
            return self.next()
        except StateClosedError:
            raise StopIteration from None

    def next(self) -> Commit:
        """The next commit. StopIteration when none came in time."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        view = self.view
        while True:
            place = view._reader.end()
            frame = self.step()
            if frame is not None:
                return Commit(frame)
            if view._reader.gone:
                if self.seq >= view.seq:
                    raise view._gone()
                continue
            left = SLICE_SECONDS if deadline is None else min(SLICE_SECONDS, deadline - time.monotonic())
            if left <= 0:
                raise StopIteration
            view._reader.wait(*place, left)

    def step(self) -> Frame | None:
        """The next commit, None when there is none yet."""
        view = self.view
        view._keep_up()
        log, until = view._log, view.seq
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
                cursor.limit(segment.tail)
            else:
                cursor = self.cursor = log.cursor(segment)
                log.skip_to(cursor, segment, self.seq + 1)
            for frame in cursor:
                if frame.kind == "commit" and frame.seq > self.seq:
                    self.seq = frame.seq
                    view._connection.saw(frame.seq)
                    return frame
            log.check_read(cursor, segment)
        return None
