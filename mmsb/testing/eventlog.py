"""Events of a State, written down, for tests that say what must happen and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsb.events import KINDS, Event, PageEvent

if TYPE_CHECKING:
    from mmsb.state import State


class EventLog:
    """Listens to a State from now on; to all kinds of events when none is named. `filters`: as of State.subscribe."""

    def __init__(self, state: State, *kinds: str, **filters: Any) -> None:
        self._events: list[Event] = []
        self.subscription = state.subscribe(kinds or KINDS, self._events.append, **filters)

    def events(self) -> list[Event]:
        """The events since this or take() was called last."""
        taken = self._events[:]
        del self._events[: len(taken)]
        return taken

    def take(self) -> list[tuple[int | str, ...]]:
        """The same, each as (seq, kind) or, when it is about a page, (seq, kind, page_id)."""
        return [
            (event.seq, event.kind, event.page_id) if isinstance(event, PageEvent) else (event.seq, event.kind)
            for event in self.events()
        ]
