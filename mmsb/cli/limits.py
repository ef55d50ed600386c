"""What this machine can do, and how much of it mmsb reaches: operations, each with a limit that nothing passes."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

PAGE_BYTES = 4096
LARGE_BYTES = 64 << 20
BURST = 10_000  # deltas of one batch
BURST_BYTES = 128
CHAIN = 1000  # pages

Timed = Callable[[], Any]


@dataclass(frozen=True)
class Limit:
    """What is measured. `start(folder)` is a context that gives our function, that of the limit, and how many units
    one call of each works through; `unit` is what one of them is called.
    """

    name: str
    limit: str
    unit: str
    start: Callable[[str], Any]


@dataclass(frozen=True)
class Share:
    """What was measured: seconds per unit, of the fastest of several runs of each."""

    name: str
    limit: str
    unit: str
    ours_s: float
    limit_s: float

    @property
    def share(self) -> float:
        """The part of the limit that is reached: 1 is as fast as the machine."""
        return self.limit_s / self.ours_s


def nothing() -> None:
    """A bare Python call."""


def bare_calls(count: int) -> Timed:
    """So many of them in a loop."""
    loop = range(count)

    def run() -> None:
        for _ in loop:
            nothing()

    return run


@contextmanager
def written(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """page.write of 10 bytes, logged for a process crash."""
    from mmsb.opening import open as open_state

    count = 2000
    with open_state(os.path.join(folder, "written")) as state:
        write, loop = state.create_page(PAGE_BYTES).write, range(count // 2)

        def ours() -> None:
            for _ in loop:
                write(b"0123456789", at=100)
                write(b"9876543210", at=100)

        yield ours, bare_calls(count), count


@contextmanager
def read(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """page.read_into of 4 KiB, against a copy of as many bytes."""
    from mmsb.opening import open as open_state

    count, target = 1000, bytearray(PAGE_BYTES)
    source, view = memoryview(bytes(PAGE_BYTES)), memoryview(bytearray(PAGE_BYTES))
    with open_state() as state:
        read_into, loop = state.create_page(PAGE_BYTES).read_into, range(count)

        def ours() -> None:
            for _ in loop:
                read_into(target)

        def limit() -> None:
            for _ in loop:
                view[:] = source

        yield ours, limit, count


@contextmanager
def compared(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """A diff of 64 MiB that are equal, against a copy of them: both read and, or, write two blocks of memory."""
    from mmsb._core.delta import Delta

    old, new, target = bytes(LARGE_BYTES), bytearray(LARGE_BYTES), memoryview(bytearray(LARGE_BYTES))
    source = memoryview(old)

    def limit() -> None:
        target[:] = source

    yield lambda: Delta.between(1, old, new), limit, LARGE_BYTES >> 20


@contextmanager
def burst(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """10,000 deltas of 128 bytes through the array call, against copies of as many bytes one by one."""
    from mmsb.opening import open as open_state

    with open_state(os.path.join(folder, "burst")) as state:
        pages = list(state.create_pages(64, PAGE_BYTES))
        ids = array("Q", (pages[n % 64] for n in range(BURST)))
        offsets = array("Q", (n * 131 % (PAGE_BYTES - BURST_BYTES) for n in range(BURST)))
        payloads = cycle(bytes([value]) * (BURST * BURST_BYTES) for value in (1, 2))
        target = memoryview(bytearray(64 * PAGE_BYTES))
        source = memoryview(bytes(BURST_BYTES))
        places = [slice(n, n + BURST_BYTES) for n in range(0, 64 * PAGE_BYTES - BURST_BYTES, BURST_BYTES)]
        whole, rest = divmod(BURST, len(places))

        def ours() -> None:
            with state.batch() as batch:
                batch.write_many(ids, offsets, BURST_BYTES, next(payloads))

        def limit() -> None:
            for place in places * whole + places[:rest]:
                target[place] = source

        yield ours, limit, BURST


@contextmanager
def hops(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """A write to the first of a chain of 1,000 pages, against as many bare calls."""
    from mmsb.opening import open as open_state

    with open_state() as state:
        pages = list(state.create_pages(CHAIN, 64))
        parents, children = array("Q", pages[:-1]), array("Q", pages[1:])
        state.depend_many(parents, children, semiring="max-plus", dtype="int64")
        values, first = iter(range(1, 1 << 60)), state.page(pages[0])
        yield lambda: first.write(next(values).to_bytes(8, "little") * 8), bare_calls(CHAIN), CHAIN


@contextmanager
def synced(folder: str) -> Iterator[tuple[Timed, Timed, int]]:
    """A commit that survives a power cut, against 64 bytes and fdatasync in a file that is long enough."""
    from mmsb.opening import open as open_state

    room = 4 << 20
    places = cycle(range(0, room, 64))
    fd = os.open(os.path.join(folder, "bare"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, room)
        os.fsync(fd)
        with open_state(os.path.join(folder, "synced"), durability="power", segment_bytes=room) as state:
            values, page = iter(range(1, 1 << 60)), state.create_page(PAGE_BYTES)

            def limit() -> None:
                os.pwrite(fd, b"x" * 64, next(places))
                os.fdatasync(fd)

            yield lambda: page.write(next(values).to_bytes(8, "little")), limit, 1
    finally:
        os.close(fd)


LIMITS = (
    Limit("write 10 bytes to a page", "a bare Python call", "write", written),
    Limit("read a page of 4 KiB", "memcpy from Python", "read", read),
    Limit("compare 64 MiB", "memcpy of 64 MiB", "MiB", compared),
    Limit("10,000 deltas of 128 bytes", "a memcpy from Python for each", "delta", burst),
    Limit("propagate along 1,000 pages", "a bare Python call for each", "page", hops),
    Limit("commit for a power cut", "pwrite and fdatasync", "commit", synced),
)


def measure(limit: Limit, folder: str, seconds: float) -> Share:
    """Runs both in turn for so many seconds, at least three times each. The fastest run of each counts: what slows one
    down is somebody else's work.
    """
    with limit.start(folder) as (ours, bound, count):
        fastest = [float("inf"), float("inf")]
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < 4 or time.perf_counter() < end:
            for place, function in enumerate((ours, bound)):
                begun = time.perf_counter_ns()
                function()
                took = time.perf_counter_ns() - begun
                if rounds > 0:  # the first one warms up
                    fastest[place] = min(fastest[place], took)
            rounds += 1
    return Share(limit.name, limit.limit, limit.unit, fastest[0] / count * 1e-9, fastest[1] / count * 1e-9)
