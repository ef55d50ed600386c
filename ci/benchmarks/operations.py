"""The operations whose instructions are counted. Started under callgrind by instructions.py; counts itself nothing.

python operations.py MARKS FOLDER    MARKS: callgrind_marks.c as a shared library; FOLDER: for stores
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mmsb
import mmsb.flusher
from mmsb import Delta, links
from mmsb._core.kernels import Kernels

SEED = 20261121
Operation = tuple[str, int, Callable[[], Any]]


def alternating(function: Callable[..., Any], *values: Any, **named: Any) -> Callable[[], Any]:
    """`function` with one of `values` at a time, so that each call changes something."""
    turns = itertools.cycle(values)
    return lambda: function(next(turns), **named)


def contents(page_bytes: int, changed: int) -> tuple[bytes, bytes]:
    """Two contents of a page that differ in that many scattered bytes."""
    rng = np.random.default_rng(SEED)
    one = rng.integers(0, 256, page_bytes, dtype="u1")
    other = one.copy()
    other[rng.choice(page_bytes, changed, replace=False)] ^= 0x55
    return one.tobytes(), other.tobytes()


def of_pages(folder: str) -> Iterator[Operation]:
    """Reading and writing pages."""
    short = (b"0123456789", b"9876543210")
    state = mmsb.open(history=1 << 20)
    page = state.create_page(4096, name="a")
    yield "page.write, in memory", 500, alternating(page.write, *short, at=100)
    yield "page.write of what is there", 500, lambda: page.write(b"same", at=2000)
    yield "page.read 4 KiB", 500, page.read
    buffer = bytearray(4096)
    yield "page.read_into 4 KiB", 500, lambda: page.read_into(buffer)
    yield "page[0:10]", 500, lambda: page[0:10]
    yield "query_page", 500, lambda: state.query_page(page.page_id)
    yield "state.page by name", 500, lambda: state.page("a")
    yield "create_page and delete_page", 100, lambda: state.delete_page(state.create_page(64))
    yield "create_pages 1,000", 5, lambda: state.create_pages(1000, 64)
    small = state.create_page(1024).page_id
    yield (
        "update_page 1 KiB, 10 bytes",
        300,
        alternating(lambda data: state.update_page(small, data), *contents(1024, 10)),
    )
    wide = state.create_page(4096).page_id
    yield (
        "update_page 4 KiB, all",
        100,
        alternating(lambda data: state.update_page(wide, data), bytes(4096), b"\1" * 4096),
    )
    stored = mmsb.open(folder + "/process").create_page(4096)
    yield "page.write, process", 500, alternating(stored.write, *short, at=100)
    merged = state.create_page(64, merge="plus-times", dtype="int64")
    yield "assign to a merge page", 300, lambda: merged.assign(b"\1\0\0\0\0\0\0\0")


def of_deltas(folder: str) -> Iterator[Operation]:
    """Batches, deltas, and the kernels below them."""
    state = mmsb.open()
    ids = np.resize(np.array(state.create_pages(64, 4096), dtype="u8"), 1000)
    rng = np.random.default_rng(SEED)
    offsets = rng.integers(0, 3968, 1000).astype("u8")
    payloads = [rng.integers(0, 256, 128_000, dtype="u1") for _ in range(2)]

    def write_one(data: bytes) -> None:
        with state.batch() as batch:
            batch.write(1, data)

    def write_many(payload: Any) -> None:
        with state.batch() as batch:
            batch.write_many(ids, offsets, 128, payload)

    yield "batch of one write", 200, alternating(write_one, b"a" * 10, b"b" * 10)
    yield "write_many of 1,000", 4, alternating(write_many, *payloads)
    deltas = [Delta.from_ranges(1, [(7, 10)], bytes([n] * 10)) for n in (1, 2)]
    yield "apply a delta", 300, alternating(state.apply, *deltas)
    yield "Delta.from_ranges", 300, lambda: Delta.from_ranges(1, [(7, 10)], b"0123456789")
    yield "Delta.merge", 300, lambda: deltas[0].merge(deltas[1])
    kernels = Kernels()
    old, new = contents(4096, 41)
    code, payload = kernels.diff(old, new) or (0, b"")
    target = bytearray(old)
    yield "diff 4 KiB, 1 %", 100, lambda: kernels.diff(old, new)
    yield "apply to 4 KiB, 1 %", 100, lambda: kernels.apply(target, code, payload)
    yield "crc32c of 4 KiB", 100, lambda: kernels.crc32c(old)
    semiring = mmsb.Semirings().get("min-plus", "int64")
    x, y = np.arange(4096), np.arange(4096)[::-1].copy()
    yield "semiring add, 4,096 lanes", 50, lambda: semiring.add(y, x)


def of_history(folder: str) -> Iterator[Operation]:
    """The log, the past, stores."""
    path = folder + "/history"
    state = mmsb.open(path)
    pages = [state.create_page(256) for _ in range(10)]
    for n in range(1000):
        pages[n % 10].write(n.to_bytes(4, "little"), at=n % 250)
    yield "log of 1,000 commits", 2, lambda: sum(1 for _ in state.log())
    seqs = itertools.cycle(range(20, 1000, 37))
    yield "at(seq) and a read", 10, lambda: state.at(next(seqs)).page(5).read()
    yield "last_write", 20, lambda: state.last_write(pages[3], at=3, length=4, before=500)
    stepper = state.stepper(500)
    yield "a step forward and back", 50, alternating(stepper.step, 1, -1)
    yield "digest", 5, state.digest
    changing = alternating(pages[0].write, b"x", b"y")
    yield "write and checkpoint", 3, lambda: (changing(), state.checkpoint())
    state.close()
    yield "open and close", 5, lambda: mmsb.open(path).close()


def of_graphs(folder: str) -> Iterator[Operation]:
    """Links, waves, events."""
    state = mmsb.open(history=1 << 20)
    parent, child = state.create_page(1024), state.create_page(1024)

    def link() -> None:
        state.depend(child, on=parent, link=links.passthrough())
        state.undepend(child, on=parent)

    yield "depend and undepend", 50, link
    state.depend(child, on=parent, link=links.passthrough())
    yield "one hop", 200, alternating(parent.write, b"0123456789", b"9876543210")
    chained = mmsb.open(history=1 << 20)
    ids = np.array(chained.create_pages(101, 64), dtype="u8")
    chained.depend_many(ids[:-1], ids[1:], semiring="max-plus", dtype="int64")
    head = chained.page(int(ids[0]))
    yield "chain of 100", 10, alternating(head.write, b"\1" * 8, b"\2" * 8)
    told = mmsb.open(history=1 << 20)
    page = told.create_page(64)
    told.subscribe("page_changed", lambda event: None)
    yield "write with a handler", 200, alternating(page.write, b"x", b"y")


def main() -> int:
    """Runs each operation once to warm it, then so often between two marks."""
    marks = ctypes.CDLL(sys.argv[1])
    gc.disable()
    mmsb.flusher.HORIZON_SECONDS = 1e6  # what a thread does once a second belongs to no operation
    for family in (of_pages, of_deltas, of_history, of_graphs):
        for name, times, operation in family(sys.argv[2]):
            for _ in range(3):
                operation()
            loop = range(times)
            marks.begin()
            for _ in loop:
                operation()
            marks.end(f"{times}:{name}".encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
