"""The owner of processes.py: owns a State, serves it, and writes to it as its mode says until its input ends."""

from __future__ import annotations

import select
import statistics
import sys
import time
from collections.abc import Callable

import mmsb

PAGE_BYTES, PAGES = 4096, 16


def over() -> bool:
    """Whether the other side closed our input."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def contents(page: int) -> list[bytes]:
    """Two contents of 64 bytes that a page changes between."""
    return [bytes([page, turn]) * 32 for turn in (1, 2)]


def rate(state: mmsb.State, per_second: int) -> None:
    """So many commits in a second, to one page after the other."""
    writes = [(state.page(page + 1).write, contents(page)) for page in range(PAGES)]
    begun, done = time.perf_counter(), 0
    while not over():
        due = int((time.perf_counter() - begun) * per_second)
        for number in range(done, due):
            write, data = writes[number % PAGES]
            write(data[number // PAGES % 2], at=number * 64 % PAGE_BYTES)
        done = due
        time.sleep(1 / per_second)


def flat(state: mmsb.State) -> None:
    """As many commits as there can be, to one page after the other."""
    writes = [(state.page(page + 1).write, contents(page)) for page in range(PAGES)]
    turn = 0
    while not over():
        for _ in range(100):
            turn ^= 1
            for write, data in writes:
                write(data[turn], at=turn * 64)


def patterns(state: mmsb.State) -> None:
    """Fills four pages with the same byte, in one commit, and then with the next."""
    payloads = [bytes([i]) * PAGE_BYTES for i in range(256)]
    while not over():
        for data in payloads:
            with state.batch() as batch:
                for page in (1, 2, 3, 4):
                    batch.write(page, data)


def timed(state: mmsb.State, pages: int) -> None:
    """For each line of input: half a second of writes, and then what the middle one and the 99th percentile took."""
    state.create_pages(pages - PAGES, PAGE_BYTES)
    write, clock = state.page(1).write, time.perf_counter_ns
    data = contents(0)
    for _ in sys.stdin:
        taken = []
        end = clock() + 500_000_000
        while (begun := clock()) < end:
            write(data[len(taken) % 2])
            taken.append(clock() - begun)
        cuts = statistics.quantiles(taken, n=100)
        print(cuts[49], cuts[98], flush=True)


def main() -> None:
    """Run as processes_owner.py NAME MODE [NUMBER]."""
    name, mode, *rest = sys.argv[1:]
    modes: dict[str, Callable[..., None]] = {"rate": rate, "flat": flat, "patterns": patterns, "timed": timed}
    with mmsb.open(name=name, history=1 << 27) as state:
        state.create_pages(PAGES, PAGE_BYTES)
        state.serve(commands=True)
        print("serving", flush=True)
        if mode in modes:
            modes[mode](state, *map(int, rest))
        else:
            sys.stdin.read()


if __name__ == "__main__":
    main()
