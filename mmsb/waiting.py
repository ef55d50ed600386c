"""Threads of a View that sleep until its owner commits, and then do what there is to do."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsb.errors import StateClosedError

if TYPE_CHECKING:
    import asyncio

    from mmsb._core.reader import Reader
    from mmsb.following import Following
    from mmsb.view import View

# A sleeper looks up so often, whether or not the bell rings.
SLICE_SECONDS = 1.0
# Between two rings for a thread that may have been about to sleep at the first.
RING_SECONDS = 50e-6

AGAIN, SLEEP, PARK = "again", "sleep", "park"


class Place(NamedTuple):
    """Up to where commits could be followed, at one moment and with one owner."""

    reader: Reader
    segment: int
    offset: int

    @classmethod
    def of(cls, view: View) -> Place:
        """The place now."""
        reader = view._reader
        return cls(reader, *reader.end())

    @property
    def passed(self) -> bool:
        """Whether there may be more than here, or nothing will come."""
        reader = self.reader
        return reader.gone or reader.closed or reader.end() != self[1:]

    def wait(self, seconds: float) -> None:
        """Returns once there may be more than here; earlier at the end of `seconds`, or for nothing."""
        try:
            self.reader.wait(self.segment, self.offset, seconds)
        except StateClosedError:  # closed, or left behind by reattach()
            return


class Sleeper:
    """A thread that works, sleeps on the bell, and works again. It starts when it is called for the first time.

    It keeps the view only while it works, so that a View that is simply dropped goes away, and the thread with it.
    """

    def __init__(self, view: View, name: str) -> None:
        self.view = weakref.ref(view)
        self.name = name
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.parked = threading.Event()  # set: there is something to do
        self.called = False
        self.sleeps_at: Reader | None = None
        self.busy = False  # with what may take any time
        self.ended = False

    def work(self, view: View, place: Place, gone: bool) -> str:
        """Does what there is to do up to `place`, or further. `gone`: nothing will come. AGAIN: it may not be all;
        SLEEP: until the next commit; PARK: until call().
        """
        raise NotImplementedError

    def call(self) -> None:
        """There is something else to do than what comes with the next commit."""
        with self.lock:
            if self.thread is None and not self.ended:
                self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
                self.thread.start()
        self.called = True
        self.parked.set()
        # Once may not be enough: only the owner can change the word on which a thread that is about to sleep looks.
        while self.called and (reader := self.sleeps_at) is not None:
            reader.ring()
            time.sleep(RING_SECONDS)

    def end(self) -> None:
        """Ends the thread. It is waited for, unless it is this one or works on something that may take any time."""
        self.ended = True
        thread = self.thread
        while thread is not None and thread.is_alive() and not self.busy and thread is not threading.current_thread():
            self.call()
            thread.join(RING_SECONDS)

    def run(self) -> None:
        """The thread."""
        while True:
            self.parked.clear()
            self.called = False
            view = self.view()
            if view is None or self.ended:
                return
            place = Place.of(view)
            gone = place.reader.gone  # asked before, so that work() sees what was published until then
            then = self.work(view, place, gone)
            del view
            if then == PARK or (gone and then == SLEEP):
                self.parked.wait(SLICE_SECONDS)
            elif then == SLEEP:
                self.sleeps_at = place.reader
                if not self.called:
                    place.wait(SLICE_SECONDS)
                self.sleeps_at = None


class Waker(Sleeper):
    """Wakes the tasks of asyncio loops that wait for commits, each by an eventfd that its loop looks at.

    However many tasks wait, it is one thread, and while none does, it rests.
    """

    def __init__(self, view: View) -> None:
        super().__init__(view, "mmsb waker")
        self.waiting: dict[int, tuple[Place, Following[Any]]] = {}  # by descriptor: since when, and for whom

    def work(self, view: View, place: Place, gone: bool) -> str:
        """Wakes those who have waited since another place."""
        if not self.waiting:
            return PARK
        self.wake(place=None if gone else place)
        return SLEEP

    def wake(self, *, place: Place | None = None, whom: Following[Any] | None = None) -> None:
        """Wakes everybody; with `place`, who does not wait since then; with `whom`, only who waits for that."""
        with self.lock:  # under which a descriptor is closed, too: it may belong to somebody else afterwards
            for fd, (since, who) in list(self.waiting.items()):
                if (place is None or since != place) and (whom is None or who is whom):
                    del self.waiting[fd]
                    os.eventfd_write(fd, 1)

    def end(self) -> None:
        """As Sleeper.end; who waits is woken."""
        super().end()
        self.wake()

    async def wait(self, place: Place, whom: Following[Any], seconds: float) -> None:
        """Returns once there may be more than at `place`; earlier at the end of `seconds`, or for nothing."""
        import asyncio  # here, because it takes long to import

        loop = asyncio.get_running_loop()
        process = os.getpid()
        woken: asyncio.Future[None] = loop.create_future()

        def ring() -> None:
            if not woken.done():
                woken.set_result(None)

        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        timer = None if seconds == math.inf else loop.call_later(seconds, ring)
        try:
            loop.add_reader(fd, ring)
            with self.lock:
                self.waiting[fd] = place, whom
            if self.thread is None:
                self.call()
            self.parked.set()
            # Looked at once more, now that whoever changes any of it finds this one waiting.
            if not (place.passed or whom.ended or self.ended):
                await woken
        finally:
            if timer is not None:
                timer.cancel()
            # A forked child shares what the loop looks at with its parent, which goes on waiting.
            if os.getpid() != process:
                os.close(fd)
            else:
                if not loop.is_closed():
                    loop.remove_reader(fd)
                with self.lock:
                    self.waiting.pop(fd, None)
                    os.close(fd)
