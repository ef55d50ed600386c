"""Work in a child process, whose end is a result and not that of the programme."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def in_child(work: Callable[..., object], *arguments: object) -> int:
    """Runs work(*arguments) in a forked child that ends without closing anything. Its wait status; 0: it returned."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
