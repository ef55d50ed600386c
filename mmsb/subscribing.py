"""Subscriptions of a View: events of a State that another process owns, read from its log.

The owner keeps nothing for them and never waits: each has a place of its own in the log. docs/understand/events.md.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mmsb.arguments import several
from mmsb.bases import links_at
from mmsb.errors import RetentionError, StateClosedError, described
from mmsb.events import KINDS, OWNERS_KINDS, Event, Missed
from mmsb.following import Following
from mmsb.telling import ALONG_EDGES, TOLD, Teller, Wish, wanted_kinds, wanted_source
from mmsb.waiting import AGAIN, PARK, SLEEP, Sleeper

if TYPE_CHECKING:
    from mmsb._core.reader import Place
    from mmsb.links import Link
    from mmsb.linktable import Links
    from mmsb.view import View

# Commits read one after the other before a thread or a task looks around.
ROUNDS = 64
# Kinds for which it must be known which edges there are.
OF_EDGES = ALONG_EDGES | {"edge_removed"}


class LogEdges:
    """The edges of a State as they are after commit `seq`, which its log tells. Empty until stand()."""

    def __init__(self) -> None:
        self.seq = -1
        self.links: Links | None = None

    def stand(self, view: View, seq: int) -> None:
        """Takes the edges as they were at `seq`. RetentionError where history begins with what only its owner has."""
        if seq != self.seq:
            view._keep_up()
            assert view._log is not None  # where checkpoints are found
            self.links, self.seq = links_at(view, seq), seq  # type: ignore[arg-type]

    def linked(self, child: int, link: Link) -> None:
        """A LINK change."""
        if self.links is not None:
            self.links.add(child, link)

    def unlinked(self, child: int, kind: str, parents: tuple[int, ...]) -> Iterable[int]:
        """The parents that an UNLINK change takes from a page."""
        link = None if self.links is None else self.links.of(child, kind)
        if self.links is None or link is None:
            return ()
        self.links.remove(child, kind, parents)
        return parents or sorted(set(link.parents))

    def below(self, page_id: int) -> Iterator[tuple[int, str]]:
        """(child, kind) of the edges along which nothing is computed."""
        if self.links is None:
            return
        for child in sorted({*self.links.children.get(page_id, ()), *self.links.told.get(page_id, ())}):
            for kind in TOLD:
                link = self.links.of(child, kind)
                if link is not None and page_id in link.parents:
                    yield child, kind


class Subscription(Following[Event], Wish):
    """What a View is told. Made by View.subscribe; close it, or leave its `with` block, to end it.

    With a handler, that is called in a thread of the view. Without one, iterate it with `for` or `async for`, by one
    thread or task at a time; see mmsb.following.Following for how that ends.

    `seq`: the commit read last. `failures`: what the handler raised; `last_error`: the newest of it, or why nothing
    comes any more. `delivered`: events handed out. `missed`: commits that were skipped, see mmsb.events.Missed.
    """

    def __init__(
        self,
        listeners: Listeners,
        view: View,
        since: int,
        timeout: float | None,
        backlog: int | None,
        *wish: Any,
    ) -> None:
        Following.__init__(self, view, since, timeout)
        Wish.__init__(self, *wish)
        self.backlog = backlog
        self.delivered = self.missed = 0
        self._listeners = listeners
        self._events: deque[Event] = deque()
        self._edges = LogEdges()
        self._needs_edges = not OF_EDGES.isdisjoint(self.kinds)
        filters = self.pages is not None or self.source is not None
        self._teller = Teller(self._keep if filters else self._events.append, self._edges)
        self._teller.want(self.kinds)
        if self._needs_edges:
            self._edges.stand(view, min(self.seq, view.seq))

    @property
    def closed(self) -> bool:
        """Whether it has ended: nothing is told any more."""
        return self.over

    def close(self) -> None:
        """Ends it. May be called again, inside a handler, and while somebody waits. It waits for no handler."""
        self.end()
        self._events.clear()
        self._listeners.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription seq={self.seq}{' closed' if self.closed else ''}>"

    def take(self) -> Event | None:
        """The next event, None when there is none yet."""
        if self.handler is not None:
            raise TypeError("This subscription has a handler. Subscribe without one to iterate.")
        self.unread = False
        for _ in range(ROUNDS):
            if self._events:
                self.delivered += 1
                return self._events.popleft()
            if not self.advance():
                return None
        self.unread = True
        return None

    def advance(self) -> bool:
        """Reads one more commit, or skips what cannot or need not be read. False when there is none yet."""
        if self.backlog is not None:
            newest = self.view.seq
            if newest - self.seq > self.backlog:
                self._miss(newest - 1)
        try:
            frame = self.step()
        except RetentionError as error:
            kept = int(error.facts["first_seq"])
            if kept <= self.seq:
                raise
            self._miss(kept)
            return True
        if frame is None:
            return bool(self._events)
        if self._needs_edges:
            self._edges.stand(self.view, frame.seq - 1)
            self._edges.seq = frame.seq
        elif self.source is not None and frame.source != self.source:
            return True
        self._teller.read(frame)
        return True

    def hand_out(self) -> bool:
        """Calls the handler for the next commit. Whether there was one."""
        if not self._events and not self.advance():
            return False
        while self._events and not self.ended:
            event = self._events.popleft()
            self.delivered += 1
            error = self.call(event)
            if error is not None:
                self._listeners.failed(f"{event.kind} {event.seq}: {described(error)}")
        return True

    def _keep(self, event: Event) -> None:
        if self.wants(event):
            self._events.append(event)

    def _miss(self, last: int) -> None:
        self._events.append(Missed(last, None, self.seq + 1, last))
        self.missed += last - self.seq
        self._listeners.missed += last - self.seq
        self.seq = last


class Handing(Sleeper):
    """The thread of a view that calls the handlers of its subscriptions, each at its own place in the log."""

    def __init__(self, view: View) -> None:
        super().__init__(view, "mmsb events")

    def work(self, view: View, place: Place, gone: bool) -> str:
        """One commit for each subscription that is not at the end, and so on for some rounds."""
        for _ in range(ROUNDS):
            more = False
            for one in view._listeners.handled:
                did = True
                self.busy = True
                try:
                    did = one.hand_out()
                except StateClosedError:  # the view is closed, or reattach() has just closed what was left behind
                    return AGAIN
                except BaseException as error:  # its log cannot be read; or what is not even an Exception
                    one.last_error = error
                    one.close()
                finally:
                    self.busy = False
                if gone and not did:
                    one.last_error = view._gone()
                more = more or did
            if not more:
                return SLEEP if view._listeners.handled else PARK
        return AGAIN


class Listeners:
    """The subscriptions of one View, and what they came to."""

    def __init__(self, view: View) -> None:
        self.thread = Handing(view)
        self.lock = threading.Lock()
        self.handled: tuple[Subscription, ...] = ()
        self.iterated: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self.delivered = self.missed = self.failures = 0
        self.errors: deque[str] = deque(maxlen=16)

    def subscribe(
        self,
        view: View,
        kinds: str | Iterable[str],
        handler: Callable[[Any], object] | None,
        pages: Any,
        source: str | None,
        since: int | None,
        backlog: int | None,
        timeout: float | None,
    ) -> Subscription:
        """See View.subscribe."""
        wanted = wanted_kinds(kinds)
        unheard = wanted.intersection(OWNERS_KINDS)
        if unheard:
            heard = ", ".join(kind for kind in KINDS if kind not in OWNERS_KINDS)
            raise ValueError(
                f"Events {', '.join(sorted(unheard))} are not in the log: only the owner hears of them. Use {heard}."
            )
        if backlog is not None and (isinstance(backlog, bool) or not isinstance(backlog, int) or backlog < 1):
            raise ValueError(f"backlog is a number of commits from 1 on, not {backlog!r}")
        ids = None if pages is None else frozenset(map(view.page_id_of, several(pages)))
        begin = view.seq + 1 if since is None else since
        made = Subscription(self, view, begin, timeout, backlog, wanted, handler, ids, wanted_source(source))
        if handler is None:
            self.iterated.add(made)
        else:
            with self.lock:
                self.handled = (*self.handled, made)
            self.thread.call()
        return made

    def look_again(self) -> None:
        """The view has another owner."""
        if self.handled:
            self.thread.call()

    def remove(self, subscription: Subscription) -> None:
        """A subscription has ended."""
        with self.lock:
            if subscription in self.handled or subscription in self.iterated:
                self.delivered += subscription.delivered
            self.handled = tuple(one for one in self.handled if one is not subscription)
            self.iterated.discard(subscription)

    def failed(self, text: str) -> None:
        """A handler raised."""
        self.failures += 1
        self.errors.append(text)

    def all(self) -> list[Subscription]:
        """Those that have not ended."""
        return [one for one in (*self.handled, *self.iterated) if not one.ended]

    def close(self, *, forked: bool = False) -> None:
        """Ends all of them. In a forked child there are no threads, and a lost one may hold the locks."""
        for one in self.all():
            one.ended = True
            if forked:
                one.waits_in = None
        if forked:
            self.lock = threading.Lock()
        else:
            self.thread.end()

    def stats(self, seq: int) -> dict[str, Any]:
        """How many there are, what they were told and missed, and how many commits the last of them is behind."""
        subscriptions = self.all()
        return {
            "subscriptions": len(subscriptions),
            "delivered": self.delivered + sum(one.delivered for one in subscriptions),
            "missed": self.missed,
            "failures": self.failures,
            "errors": list(self.errors),
            "lag": max((max(0, seq - one.seq) for one in subscriptions), default=0),
        }
