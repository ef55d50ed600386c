"""Subscriptions: a State's events are read from its log and handed to those who asked for them.

A commit or a wave that became visible is one frame of the log, and its events follow from the frame. That gives their
order, and costs nothing while nobody listens. docs/understand/events.md.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mmsb.arguments import several
from mmsb.errors import described
from mmsb.events import BY_KIND, Event, PageStale
from mmsb.telling import TOLD, Teller, Wish, wanted_kinds, wanted_source

if TYPE_CHECKING:
    from mmsb._core.log import Cursor
    from mmsb._core.page import Page
    from mmsb.links import Link
    from mmsb.listening import Listening


class Subscription(Wish):
    """A handler and what it wants to be told. Made by State.subscribe; close it, or leave its `with` block, to end it.

    `failures` counts what the handler raised, `last_error` is the newest of it.
    """

    def __init__(self, dispatcher: Dispatcher, *wish: Any) -> None:
        super().__init__(*wish)
        self._dispatcher = dispatcher
        self._first = dispatcher.count  # events that were queued before are not for it

    @property
    def closed(self) -> bool:
        """Whether it has ended: the handler is not called any more."""
        return self not in self._dispatcher.subscriptions

    def close(self) -> None:
        """Ends it. May be called again, and inside a handler."""
        self._dispatcher.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Dispatcher:
    """Reads a State's events from its log and hands them out, one after the other, in the order of the log.

    `lock` guards the place in the log and the queue; it is never held while a handler runs, and whoever holds it waits
    for nobody, so that it may be taken while other threads are kept out of the State.
    """

    def __init__(self, state: Listening) -> None:
        self.state: Listening = weakref.proxy(state)  # it owns its dispatcher
        self.lock = threading.Lock()
        self.subscriptions: tuple[Subscription, ...] = ()
        self.teller = Teller(self.queue_event, self)  # of the kinds that anybody wants
        self.queue: deque[tuple[int, Event]] = deque()
        self.count = 0  # events queued so far
        self.delivered = 0
        self.errors: deque[str] = deque(maxlen=16)
        self.failures = 0
        self.delivering = False
        self.cursor: Cursor | None = None
        # Parents of links that went, one list per UNLINK change that the log has not told yet.
        self.parents_gone: dict[tuple[int, str], deque[list[int]]] = {}
        self.source: str | None = None  # of the commit read last

    # ---- subscriptions

    def subscribe(
        self,
        kinds: str | Iterable[str],
        handler: Callable[[Any], object],
        pages: Iterable[int | str | Page] | int | str | Page | None,
        source: str | None,
    ) -> Subscription:
        """See State.subscribe."""
        wanted = wanted_kinds(kinds)
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {type(handler).__name__}")
        state = self.state
        ids = None if pages is None else frozenset(map(state.page_id_of, several(pages)))
        with state._exclusive(), self.lock:
            self.read()
            subscription = Subscription(self, wanted, handler, ids, wanted_source(source))
            self.change((*self.subscriptions, subscription))
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Ends a subscription. That of a State that is gone has ended."""
        with self.lock, suppress(ReferenceError):
            self.change(tuple(one for one in self.subscriptions if one is not subscription))

    def change(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Takes other subscriptions, and begins or ends to follow the log."""
        self.subscriptions = subscriptions
        self.teller.want(frozenset().union(*(one.kinds for one in subscriptions)))
        if not subscriptions:
            self.cursor = None
            self.queue.clear()
        elif self.cursor is None and not self.state.read_only:
            self.cursor = self.state._cursor_at_end()
        self.state._listen()

    def close(self) -> None:
        """The State is closed: nobody is told anything any more."""
        with self.lock:
            self.subscriptions = ()
            self.cursor = None  # it knows the State
            self.queue.clear()

    # ---- from the log to the queue

    def read(self) -> None:
        """Queues the events of the commits that became visible. Call it with the lock held."""
        cursor, log = self.cursor, self.state._log
        if cursor is None:
            return
        until = self.state._applied_seq
        while cursor.seq < until:
            segment = log.segment_of(cursor.seq + 1)
            if segment.number == cursor.head.number and segment.memory is not None:
                log.settle()
                cursor.limit(segment.tail)
            else:
                place = (cursor.offset, cursor.seq, cursor.time_ns, cursor.last_crc, cursor.sources)
                stays = segment.number == cursor.head.number  # where nothing is mapped, what is read is a copy
                cursor = self.cursor = log.cursor(segment)
                if stays:
                    cursor.seek(*place)
            for frame in cursor:
                if frame.kind == "commit":
                    self.source = frame.source
                    self.teller.read(frame)
                if cursor.seq == until:
                    return
            log.check_read(cursor, segment)

    def queue_event(self, event: Event) -> None:
        """Queues an event that somebody wants."""
        self.queue.append((self.count, event))
        self.count += 1

    def linked(self, child: int, link: Link) -> None:
        """The State's graph has it already."""

    def unlinked(self, child: int, kind: str, parents: tuple[int, ...]) -> Iterable[int]:
        """The parents that an UNLINK change took from a page, as the State noted them."""
        gone = self.parents_gone.get((child, kind))
        return gone.popleft() if gone else ()

    def below(self, page_id: int) -> Iterator[tuple[int, str]]:
        """(child, kind) of the edges along which nothing is computed."""
        graph = self.state._engine.graph if self.state._engine is not None else None
        if graph is None or page_id not in graph:
            return
        for child in graph.children(page_id, TOLD):
            for kind in TOLD:
                if graph.has_edge(page_id, child, kind):
                    yield child, kind

    # ---- what the log does not tell

    def marked(self, page_ids: Iterable[int]) -> None:
        """Pages became stale, after the newest commit and without a wave."""
        with self.lock:
            self.read()
            for page_id in page_ids:
                reason = "a page that it depends on changed since"
                self.teller.put(PageStale(self.state._applied_seq, self.source, page_id, reason))

    def announce(self, kind: str, seq: int, *facts: Any) -> None:
        """Queues an event that the log does not tell, and hands it out."""
        with self.lock:
            self.read()
            self.teller.put(BY_KIND[kind](seq, None, *facts))
        self.deliver()

    # ---- from the queue to the handlers

    def tell(self) -> None:
        """Hands out the events of what became visible. Inside a handler, or while this thread keeps the others out of
        the State, they are only queued.
        """
        with self.lock:
            self.read()
        self.deliver()

    def deliver(self) -> None:
        """Calls the handlers until the queue is empty, unless somebody does so already."""
        if self.state._inside:
            return
        with self.lock:
            if self.delivering:
                return
            self.delivering = True
        try:
            for number, event in self.taken():
                for one in self.subscriptions:
                    if one._first <= number and one.wants(event) and not one.closed:
                        self.call(one, event)
        except BaseException:
            self.delivering = False  # Ctrl-C inside a handler: what is left waits for the next event
            raise

    def taken(self) -> Iterator[tuple[int, Event]]:
        """Takes events from the queue until there is none; then the next one to come is somebody else's task."""
        while True:
            with self.lock:
                if not self.queue:
                    self.delivering = False
                    return
                taken = self.queue.popleft()
            yield taken

    def call(self, one: Subscription, event: Event) -> None:
        """Calls a handler. What it raises is counted, and nobody else's matter."""
        self.delivered += 1
        error = one.call(event)
        if error is not None:
            self.failures += 1
            self.errors.append(f"{event.kind} {event.seq}: {described(error)}")

    def stats(self) -> dict[str, Any]:
        """Subscriptions, calls of handlers, how many of them raised, and what the newest of these raised."""
        return {
            "subscriptions": len(self.subscriptions),
            "delivered": self.delivered,
            "failures": self.failures,
            "errors": list(self.errors),
        }
