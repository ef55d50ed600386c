"""Trying cases in child processes: a signal, or a case that never ends, is a result and not the end of a part."""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback
from collections.abc import Callable

from tests.rel.programme import Run

CHUNK = 100  # cases of one child process
CPU_SECONDS = 300  # of one child: it runs in a circle after that, and ends by a signal
SECONDS = 3600  # it waits for something that never comes after that; a machine may be paused for long

Verdict = str | tuple[str, str]  # a word that is counted, or (kind of programme.BROKEN, what) for a broken promise
Case = tuple[str, Callable[[], Verdict]]


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


def try_each(run: Run, cases: list[Case], after_death: Callable[[], object] = lambda: None) -> None:
    """Tries the cases that are wanted and counts what comes of them. `after_death` tidies up behind a dead child."""
    left = [case for case in cases if run.wants(case[0])]
    total = len(left)
    while left:
        run.progress(total - len(left), total)
        verdicts = verdicts_of_child(left[:CHUNK])
        for (case, _), (kind, what) in zip(left, verdicts, strict=False):
            run.tally.injected += 1
            if what:
                run.fail(kind, case, what)
            else:
                run.tally.figures[kind] = run.tally.figures.get(kind, 0) + 1
        if len(verdicts) < len(left[:CHUNK]):
            case = left[len(verdicts)][0]
            verdicts.append(("signals", case))
            run.tally.injected += 1
            run.fail("signals", case, "the process that tried it ended by a signal")
            after_death()
        left = left[len(verdicts) :]


def verdicts_of_child(cases: list[Case]) -> list[tuple[str, str]]:
    """(kind, what) for each case, from a child process: fewer when it ended early."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        signal.alarm(SECONDS)
        with os.fdopen(writing, "w", buffering=1) as out:
            for _, attempt in cases:
                try:
                    verdict = attempt()
                except Exception as error:  # anything but an error that mmsb raises on purpose
                    verdict = ("wrong", f"{type(error).__name__}: {error}")
                out.write(json.dumps(verdict if isinstance(verdict, tuple) else (verdict, "")) + "\n")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        verdicts = [json.loads(line) for line in lines]
    os.waitpid(child, 0)
    return [(kind, what) for kind, what in verdicts]
