"""Writing arrays that another process changes meanwhile: whatever gets into a page, the log must say the same."""

from __future__ import annotations

import mmap
import os

import mmsb
from tests.rel.forks import Forked, kill_all
from tests.rel.programme import Run

WRITES = 60_000, 6_000_000
SIZES = (63, 4096)
DISABLED = (None, "avx512", "avx2", "sse42")  # up to the scalar kernels
HISTORY_BYTES = 16 << 20
WRONG = 3  # the status of a writer whose log is not what its pages are


def scribble(array: mmap.mmap, size: int) -> None:
    """Changes the array all the time: to much, to little, to what it was."""
    contents = [bytes(size), b"\1\0" * (size // 2), bytes(size - 1) + b"\2", b"\3" * size, b"\4" + bytes(size - 1)]
    while True:
        for content in contents:
            array[: len(content)] = content


def write(array: mmap.mmap, size: int, disabled: str | None, count: int) -> None:
    """Writes the array so often, then replays what is kept; the rest was replayed when it was folded."""
    with mmsb.open(history=HISTORY_BYTES, segment_bytes=1 << 20, disable_cpu=disabled) as state:
        page, moving = state.create_page(size), memoryview(array)[:size]
        for number in range(count):
            page.write(moving)
            if number % 7 == 0:
                page.write(bytes(size))
        if state.verify().findings:
            os._exit(WRONG)


def moving(run: Run) -> None:
    """Every kernel level, with a page that takes the short way and one that does not."""
    count = run.amount(*WRITES) // (len(SIZES) * len(DISABLED))
    for size in SIZES:
        for disabled in DISABLED:
            if not run.wants(case := f"{size}-{disabled}"):
                continue
            array = mmap.mmap(-1, size)
            children = [Forked(scribble, array, size), Forked(write, array, size, disabled, count)]
            try:
                while not children[1].ends(0.2):
                    run.progress(run.tally.injected, run.amount(*WRITES))
            finally:
                kill_all(children)
            status = children[1].status or 0
            if status:
                run.fail("signals" if status < 0 else "wrong", case, f"the writer ended with {status}")
            run.tally.injected += count
