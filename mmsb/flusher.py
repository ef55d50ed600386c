"""The thread that makes commits durable behind the writer's back: about once a second, or within the group's delay."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from mmsb.errors import CommitInDoubtError, MMSBError

if TYPE_CHECKING:
    from mmsb.log import FileLog
    from mmsb.state import State

HORIZON_SECONDS = 1.0
GROUP_SECONDS = 0.005


class Flusher:
    """One daemon thread of a durable State. It sleeps until the first commit, syncs what there is, sleeps again.

    It holds the State weakly, so that a State that is simply dropped goes away.
    """

    def __init__(self, state: State, log: FileLog) -> None:
        self.state = weakref.ref(state, self.dismissed)
        self.log = weakref.ref(log)
        self.group = log.durability == "group"
        # Not events: these are written in C, so an exception out of a signal handler cannot leave one half set.
        self.work: SimpleQueue[None] = SimpleQueue()
        self.ends: SimpleQueue[None] = SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="mmsb flusher", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """There is something to sync."""
        self.work.put(None)

    def dismissed(self, _: object) -> None:
        """The State is gone, and the thread goes with it."""
        self.ends.put(None)
        self.work.put(None)

    def stop(self) -> None:
        """Ends the thread; returns when it is gone."""
        self.ends.put(None)
        self.work.put(None)
        if self.thread is not threading.current_thread():
            self.thread.join()

    def run(self) -> None:
        """The thread."""
        anchored = time.monotonic()
        while True:
            self.work.get()
            # A group waits a little for company; the rest is in no hurry.
            with suppress(Empty):
                self.ends.get(timeout=GROUP_SECONDS if self.group else HORIZON_SECONDS)
                return
            state, log = self.state(), self.log()
            if state is None or log is None or state.closed or state.poisoned:
                return
            # Asked for before the sync: a commit that comes after it wakes the thread again.
            state._wake_me()
            try:
                # A group syncs often, and anchors and moves the horizon once a second like everybody.
                due = time.monotonic() - anchored >= HORIZON_SECONDS
                log.sync(state, anchor=due or not self.group)
                if due:
                    anchored = time.monotonic()
                    if state._checkpoints.due(state):
                        state._checkpoints.write(state)
            except CommitInDoubtError:
                return  # the State is poisoned; its next commit says so
            except (MMSBError, OSError) as error:
                log.failures.append(error)  # a checkpoint that failed costs nothing; stats() shows it
            del state, log
