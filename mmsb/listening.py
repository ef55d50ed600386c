"""Subscribing to what happens to a State, and tracing it. Mixed into State; mmsb.dispatcher and mmsb.tracing do it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from mmsb._core.state import Core
from mmsb.errors import ReadOnlyError

if TYPE_CHECKING:
    from mmsb._core.engine import Engine
    from mmsb._core.log import Cursor
    from mmsb._core.page import Page
    from mmsb.dispatcher import Dispatcher, Subscription
    from mmsb.state import State
    from mmsb.tracing import Trace


class Listening(Core):
    """The part of State that tells others."""

    _log: Any
    _engine: Engine | None
    _events: Dispatcher | None = None
    _trace: Trace | None = None
    _own_clock = False  # commits have the timestamps of a clock given to open()

    def subscribe(
        self,
        kinds: str | Iterable[str],
        handler: Callable[[Any], object],
        *,
        pages: Iterable[int | str | Page] | int | str | Page | None = None,
        source: str | None = None,
    ) -> Subscription:
        """Calls `handler(event)` for events of these kinds (one or several of mmsb.events.KINDS) from now on.

        pages: only events of these pages (ids, names or Pages, as they are now called). source: only events of commits
        with that source. Events come in the order of the log, after their commit is visible; what a handler raises
        is counted and kept from everybody else; what it writes is told after what is queued. ValueError for an unknown
        kind, PageNotFoundError.
        """
        from mmsb.dispatcher import Dispatcher

        self._check_open()
        if self._events is None:
            self._events = Dispatcher(self)
        return self._events.subscribe(kinds, handler, pages, source)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription, as its close() does."""
        from mmsb.dispatcher import Subscription

        if not isinstance(subscription, Subscription):
            raise TypeError(f"unsubscribe() takes what subscribe() returned, not {type(subscription).__name__}")
        subscription.close()

    def trace(self, path: str | os.PathLike[str], *, limit: int = 1_000_000) -> Trace:
        """Traces commits, waves, syncs and checkpoints from now on, until the Trace is closed (a `with` block does) or
        the State is. Then `path` is written, for https://ui.perfetto.dev or chrome://tracing.

        A row for each source of commits, one for waves (with an arrow from what set them off), syncs and checkpoints;
        times are nanoseconds. limit: the first so many commits are in the file, the rest is counted. While it runs a
        commit costs about a microsecond more. OSError where the file cannot be written, ValueError for a State that
        is traced already or a limit below 1, ReadOnlyError for one that is open for reading only.
        """
        from mmsb.tracing import Trace

        self._check_open()
        if self.read_only:
            raise ReadOnlyError("A State that is open for reading commits nothing. Trace the one that writes.")
        if limit < 1:
            raise ValueError(f"A trace holds at least 1 commit, and the limit is {limit}.")
        if self._trace is not None:
            raise ValueError(f"This State is traced already, to {self._trace.path}. Close that Trace first.")
        with self._exclusive():
            self._trace = Trace(cast("State", self), path, limit)
            self._listen()
        return self._trace

    def _end_trace(self, trace: Trace) -> None:
        with self._exclusive():
            if self._trace is trace:
                self._trace = None
            self._listen()

    def _listen(self) -> None:
        """Has _tell() called after each commit from now on, or not any more."""
        events = self._events is not None and self._events.cursor is not None
        self._listening = events or self._trace is not None

    def _timed(self, what: str) -> AbstractContextManager[None]:
        """Around work that a trace shows."""
        trace = self._trace
        return trace._span(what) if trace is not None else nullcontext()

    def _cursor_at_end(self) -> Cursor:
        """A Cursor on the log behind its last frame. Call it inside _exclusive()."""
        log = self._log
        log.settle()
        cursor: Cursor = log.cursor(log.active)
        cursor.seek(log.active.tail, self.seq, self.time_ns, self.last_crc, self._segment_sources())
        return cursor

    def _tell(self) -> None:
        if (trace := self._trace) is not None:
            trace._visible()
        if self._events is not None:
            self._events.tell()

    def _marked(self, page_ids: list[int]) -> None:
        if self._events is not None:
            self._events.marked(page_ids)

    def _announce(self, kind: str, seq: int, *facts: Any) -> None:
        """Something happened that the log does not tell."""
        if self._events is not None:
            self._events.announce(kind, seq, *facts)
