"""Children of a harness, forked so that they cost milliseconds, and numbers that all of them share."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1


def shared_numbers(count: int) -> memoryview:
    """So many numbers from 0 to 2^64 - 1 that are the same ones in every child that is forked from now on."""
    return memoryview(mmap.mmap(-1, count * 8)).cast("Q")


class Forked:
    """A process that calls function(*arguments) and ends: with status 0, or 1 when it raised. The caller has no threads
    and has opened nothing.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                function(*arguments)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self.pidfd = os.pidfd_open(self.pid)

    def ends(self, seconds: float | None = None) -> bool:
        """Whether it ends within so many seconds (None: waits for it). Then `status` is there, -N after signal N."""
        if self.status is None:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if seconds is None else seconds * 1000):
                return False
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
        return True

    def kill(self) -> None:
        """Ends it now."""
        if self.status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.ends()


def kill_all(children: Iterable[Forked]) -> None:
    """Ends all that still live."""
    for child in children:
        child.kill()
