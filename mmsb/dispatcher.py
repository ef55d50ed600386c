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

from mmsb import links
from mmsb.arguments import several
from mmsb.errors import described
from mmsb.events import (
    BY_KIND,
    KINDS,
    DeltaApplied,
    DeviceSyncNeeded,
    EdgeAdded,
    EdgeRemoved,
    Event,
    PageChanged,
    PageCreated,
    PageDeleted,
    PageInvalidated,
    PageStale,
    WaveFinished,
    WaveStarted,
)

if TYPE_CHECKING:
    from mmsb._core.log import Change, Cursor, Frame
    from mmsb._core.page import Page
    from mmsb.listening import Listening

# Kinds of edges along which nothing is computed.
TOLD = ("control", "device", "compiler")
WHAT = ("bytes", "size", "name", "metadata")


class Subscription:
    """A handler and what it wants to be told. Made by State.subscribe; close it, or leave its `with` block, to end it.

    `failures` counts what the handler raised, `last_error` is the newest of it.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        kinds: frozenset[str],
        handler: Callable[[Any], object],
        pages: frozenset[int] | None,
        source: str | None,
    ) -> None:
        self.kinds, self.handler, self.pages, self.source = kinds, handler, pages, source
        self.failures = 0
        self.last_error: BaseException | None = None
        self._dispatcher = dispatcher
        self._first = dispatcher.count  # events that were queued before are not for it

    @property
    def closed(self) -> bool:
        """Whether it has ended: the handler is not called any more."""
        return self not in self._dispatcher.subscriptions

    def wants(self, event: Event) -> bool:
        """Whether the filters let an event through."""
        return (
            event.kind in self.kinds
            and (self.source is None or event.source == self.source)
            and (self.pages is None or not self.pages.isdisjoint(event.pages))
        )

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
        self.kinds: frozenset[str] = frozenset()  # that anybody wants
        self.queue: deque[tuple[int, Event]] = deque()
        self.count = 0  # events queued so far
        self.delivered = 0
        self.errors: deque[str] = deque(maxlen=16)
        self.failures = 0
        self.delivering = False
        self.cursor: Cursor | None = None
        # Parents of links that went, one list per UNLINK change that the log has not told yet.
        self.unlinked: dict[tuple[int, str], deque[list[int]]] = {}
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
        wanted = frozenset([kinds] if isinstance(kinds, str) else kinds)
        unknown = sorted(wanted.difference(KINDS))
        if unknown or not wanted:
            raise ValueError(f"Unknown kinds of events {unknown}. Use some of {', '.join(KINDS)}.")
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {type(handler).__name__}")
        state = self.state
        ids = None if pages is None else frozenset(map(state.page_id_of, several(pages)))
        with state._exclusive(), self.lock:
            self.read()
            subscription = Subscription(self, wanted, handler, ids, source)
            self.change((*self.subscriptions, subscription))
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Ends a subscription. That of a State that is gone has ended."""
        with self.lock, suppress(ReferenceError):
            self.change(tuple(one for one in self.subscriptions if one is not subscription))

    def change(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Takes other subscriptions, and begins or ends to follow the log."""
        self.subscriptions = subscriptions
        self.kinds = frozenset().union(*(one.kinds for one in subscriptions))
        if not subscriptions:
            self.cursor = None
            self.queue.clear()
        elif self.cursor is None and not self.state.read_only:
            self.cursor = self.state._cursor_at_end()
        self.state._listening = self.cursor is not None

    def close(self) -> None:
        """The State is closed: nobody is told anything any more."""
        with self.lock:
            self.subscriptions = ()
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
                    self.read_frame(frame)
                if cursor.seq == until:
                    return
            log.check_read(cursor, segment)

    def put(self, event: Event) -> None:
        """Queues an event that somebody wants."""
        if event.kind in self.kinds:
            self.queue.append((self.count, event))
            self.count += 1

    def read_frame(self, frame: Frame) -> None:
        """Queues the events of one commit."""
        seq, source = frame.seq, frame.source
        changes = frame.changes()
        wave, cause = next(
            ((change.blob, seq - change.page_id) for change in changes if change.kind == "wave"), (None, 0)
        )
        self.source = source
        if wave is not None:
            self.put(WaveStarted(seq, source, cause))
        changed: dict[int, set[str]] = {}
        fresh = set()
        deltas = "delta_applied" in self.kinds
        for change in changes:
            page_id, kind = change.page_id, change.kind
            if kind == "delta":
                if deltas:
                    self.put(DeltaApplied(seq, source, page_id, change.delta))
                changed.setdefault(page_id, set()).add("bytes")
            elif kind == "create":
                for new in range(page_id, page_id + change.count):
                    fresh.add(new)
                    self.put(PageCreated(seq, source, new, change.size, change.text))
            elif kind == "delete":
                fresh.add(page_id)
                self.put(PageDeleted(seq, source, page_id))
            elif kind in ("resize", "rename", "metadata"):
                what = {"resize": "size", "rename": "name"}.get(kind, kind)
                changed.setdefault(page_id, set()).add(what)
            elif kind in ("link", "unlink"):
                self.read_edges(seq, source, change)
        for page_id in [page_id for page_id in changed if page_id not in fresh]:
            self.put(PageChanged(seq, source, page_id, tuple(what for what in WHAT if what in changed[page_id])))
        for page_id in changed:
            if page_id not in fresh and not changed[page_id].isdisjoint(("bytes", "size")):
                self.read_dependants(seq, source, page_id)
        if wave is not None:
            failed, _, partial = links.decode_wave(wave)
            for page_id in sorted(failed):
                self.put(PageStale(seq, source, page_id, failed[page_id]))
            self.put(WaveFinished(seq, source, cause, tuple(changed), tuple(sorted(failed)), partial))

    def read_edges(self, seq: int, source: str | None, change: Change) -> None:
        """Queues what a LINK or UNLINK change says of edges."""
        child = change.page_id
        if change.kind == "link":
            link = links.decode(change.blob)
            for parent in dict.fromkeys(link.parents):
                self.put(EdgeAdded(seq, source, child, parent, link.kind))
        else:
            kind, _ = links.decode_unlink(change.blob)
            gone = self.unlinked.get((child, kind))
            for parent in gone.popleft() if gone else ():
                self.put(EdgeRemoved(seq, source, child, parent, kind))

    def read_dependants(self, seq: int, source: str | None, page_id: int) -> None:
        """Queues what a page's change means for those that depend on it otherwise than by data."""
        graph = self.state._engine.graph if self.state._engine is not None else None
        if graph is None or page_id not in graph:
            return
        for child in graph.children(page_id, TOLD):
            for kind in TOLD:
                if graph.has_edge(page_id, child, kind):
                    if kind == "device":
                        self.put(DeviceSyncNeeded(seq, source, child, page_id))
                    else:
                        self.put(PageInvalidated(seq, source, child, page_id, kind))

    # ---- what the log does not tell

    def marked(self, page_ids: Iterable[int]) -> None:
        """Pages became stale, after the newest commit and without a wave."""
        with self.lock:
            self.read()
            for page_id in page_ids:
                reason = "a page that it depends on changed since"
                self.put(PageStale(self.state._applied_seq, self.source, page_id, reason))

    def announce(self, kind: str, seq: int, *facts: Any) -> None:
        """Queues an event that the log does not tell, and hands it out."""
        with self.lock:
            self.read()
            self.put(BY_KIND[kind](seq, None, *facts))
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
        try:
            one.handler(event)
        except (Exception, SystemExit) as error:
            one.failures += 1
            one.last_error = error
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
