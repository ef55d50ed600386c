"""Subscribing to what happens to a State. Mixed into State; mmsb.dispatcher finds and hands out the events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mmsb._core.state import Core

if TYPE_CHECKING:
    from mmsb._core.engine import Engine
    from mmsb._core.log import Cursor
    from mmsb._core.page import Page
    from mmsb.dispatcher import Dispatcher, Subscription


class Listening(Core):
    """The part of State that tells others."""

    _log: Any
    _engine: Engine | None
    _events: Dispatcher | None = None

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
        subscription.close()

    def _cursor_at_end(self) -> Cursor:
        """A Cursor on the log behind its last frame. Call it inside _exclusive()."""
        log = self._log
        log.settle()
        cursor: Cursor = log.cursor(log.active)
        cursor.seek(log.active.tail, self.seq, self.time_ns, self.last_crc, self._segment_sources())
        return cursor

    def _tell(self) -> None:
        if self._events is not None:
            self._events.tell()

    def _marked(self, page_ids: list[int]) -> None:
        if self._events is not None:
            self._events.marked(page_ids)

    def _announce(self, kind: str, seq: int, *facts: Any) -> None:
        """Something happened that the log does not tell."""
        if self._events is not None:
            self._events.announce(kind, seq, *facts)
