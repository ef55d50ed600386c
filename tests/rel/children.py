"""Work in a child process, whose end is a result and not that of the programme."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


def in_child(work: Callable[..., int | None], *arguments: object) -> int:
    """Runs work(*arguments) in a forked child that ends without closing anything. Its wait status; what it returned is
    its exit status, and 1 an exception.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work(*arguments) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        return os.waitpid(child, 0)[1]
    except BaseException:  # this process is to end, and the child with it
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
