"""The figures of the core: diff, apply, writes, commits, replay, memory, log bytes, time travel, opening."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from measure import SCRATCH, Figure, compare, run_suite, seconds, spread_of

import mmsb
from mmsb.digest import core_digest

SEED = 20261121


def kernel_lines() -> Iterator[Figure]:
    """Diff and apply of 4 KiB pages in cache and of 64 MiB, against memcpy in the same loop (C harness)."""
    lines = subprocess.run(["build/bench/checkkern", "--bench", "all"], check=True, capture_output=True, text=True)
    asked = {
        "diff 4KiB 0%": (0.90, 0.95),
        "diff 4KiB 0.1%": (0.75, 0.85),
        "diff 4KiB 1% runs of 16": (0.60, 0.75),
        "diff 4KiB 1% scattered": (0.30, 0.45),
        "diff 4KiB 10% scattered": (0.15, 0.25),
        "diff 4KiB 100%": (0.45, 0.60),
        "diff 64MiB 0%": (0.85, 0.95),
        "diff 64MiB 1% scattered": (0.85, 0.95),
        "apply 4KiB dense": (0.75, 0.9),
        "apply 4KiB 1% runs of 16": (3.0, 5.0),
    }
    for line in lines.stdout.splitlines():
        name, level, ours, memcpy, ratio, spread = line.split("\t")
        if level == "best" and name in asked:
            yield Figure(name, float(ours), float(memcpy), "ns", float(ratio), float(spread), *asked[name])


def nothing() -> None:
    """A bare Python call."""


def calls_per_write(durability: str, must: float, reach: float) -> Figure:
    """page.write of 10 bytes into a 4 KiB page, in bare Python calls."""
    path = None if durability == "none" else tempfile.mkdtemp(dir=SCRATCH) + "/store"
    state = mmsb.open(path, durability=durability)
    write = state.create_page(4096).write
    a, b = b"0123456789", b"9876543210"
    loop = range(20_000)

    def ours() -> None:
        for _ in loop:
            write(a, at=100)
            write(b, at=100)

    def reference() -> None:
        for _ in loop:
            nothing()
            nothing()

    figure = compare(f"page.write 10 B, {durability}, in bare calls", ours, reference, must, reach, speed=False)
    figure.ours, figure.reference, figure.unit = figure.ours / 40_000 * 1e9, figure.reference / 40_000 * 1e9, "ns"
    state.close()
    return figure


def update_against_lmdb() -> Figure:
    """update_page of 1 KiB with 10 changed bytes, against lmdb's put of the page (writemap, no sync)."""
    import lmdb

    folder = tempfile.mkdtemp(dir=SCRATCH)
    state = mmsb.open(folder + "/store")
    page_id = state.create_page(1024).page_id
    peer = lmdb.open(folder + "/lmdb", map_size=1 << 28, writemap=True, sync=False, metasync=False)
    rng = np.random.default_rng(SEED)
    page, pages = bytearray(1024), []
    for _ in range(33):
        for index in rng.choice(1024, 10, replace=False):
            page[index] ^= int(rng.integers(1, 256))
        pages.append(bytes(page))
    pages += pages[-2:0:-1]  # there and back again: every step changes ten bytes
    update = state.update_page

    def ours() -> None:
        for page in pages:
            update(page_id, page)

    def reference() -> None:
        for page in pages:
            with peer.begin(write=True) as transaction:
                transaction.put(b"page", page)

    figure = compare("update_page 1 KiB, 10 bytes, against lmdb put", ours, reference, 7, 11, speed=True, calls=20)
    figure.ours, figure.reference, figure.unit = figure.ours / 64 * 1e9, figure.reference / 64 * 1e9, "ns"
    state.close()
    peer.close()
    return figure


def power_commit() -> Figure:
    """One commit at power durability, against a bare 64-byte pwrite + fdatasync into a preallocated file."""
    folder = tempfile.mkdtemp(dir=SCRATCH)
    state = mmsb.open(folder + "/store", durability="power", segment_bytes=4 << 20)
    page = state.create_page(4096)
    fd = os.open(folder + "/bare", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 4 << 20)
    counter = iter(range(1 << 30))
    offset = iter(range(128, 1 << 30, 64))

    def ours() -> None:
        page.write(next(counter).to_bytes(10, "little"), at=8)

    def reference() -> None:
        os.pwrite(fd, bytes(63) + b"x", next(offset))
        os.fdatasync(fd)

    figure = compare(
        "commit at power, against pwrite + fdatasync", ours, reference, 1.25, 1.05, speed=False, repeats=400
    )
    figure.ours, figure.reference, figure.unit = figure.ours * 1e6, figure.reference * 1e6, "us"
    state.close()
    os.close(fd)
    return figure


def burst() -> Iterator[Figure]:
    """1,000,000 deltas of 128 bytes over 64 pages through the array call, and replaying their log."""
    count, batch_size = 1_000_000, 10_000
    rng = np.random.default_rng(SEED)
    payload = rng.integers(0, 256, count * 128, dtype="u1")
    offsets = rng.integers(0, 4096 - 128, count).astype("u8")
    rates, replays = [], []
    for _ in range(4):
        path = tempfile.mkdtemp(dir=SCRATCH) + "/store"
        state = mmsb.open(path)
        ids = np.resize(np.array(state.create_pages(64, 4096), dtype="u8"), count)
        begun = time.perf_counter()
        for start in range(0, count, batch_size):
            end = start + batch_size
            with state.batch() as b:
                b.write_many(ids[start:end], offsets[start:end], 128, payload[start * 128 : end * 128])
        rates.append(count / (time.perf_counter() - begun) / 1e6)
        begun = time.perf_counter()
        copy = state.replay()
        replays.append(count / (time.perf_counter() - begun) / 1e6)
        if core_digest(copy) != state.digest():
            raise AssertionError("the replay differs from the head")
        state.close()
    for name, values, must, reach in (("burst of 1,000,000", rates, 6, 12), ("replay of it", replays, 10, 20)):
        median = statistics.median(values[1:])
        yield Figure(f"{name} 128 B deltas, M/s", median, 0.34, "M/s", median, spread_of(values), must, reach)


def million_pages() -> Iterator[Figure]:
    """1,000,000 pages of 1 KiB: resident memory and time, every byte touched (in a process of its own)."""
    code = (
        "import time, mmsb, json\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "state = mmsb.open(); state.create_page(64); before = rss(); t = time.perf_counter()\n"
        "read = state.query_page\n"
        "for page in state.create_pages(1_000_000, 1024): read(page)\n"
        "print(json.dumps([rss() - before, time.perf_counter() - t]))"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    size = statistics.median(run[0] for run in runs) / 1e9
    took = statistics.median(run[1] for run in runs)
    yield Figure("1,000,000 pages of 1 KiB, resident", size, 1.024, "GB", size, 0, 1.10, 1.07, higher=False)
    yield Figure("1,000,000 pages of 1 KiB, time", took, 0, "s", took, 0, 1.2, 0.8, higher=False)


def log_bytes() -> Figure:
    """Log bytes of one commit of 10 scattered changed bytes in a 1 KiB page (mean of 200)."""
    state = mmsb.open()
    page = state.create_page(1024)
    rng = np.random.default_rng(SEED)
    sizes = []
    for _ in range(200):
        content = bytearray(page.read())
        for index in rng.choice(1024, 10, replace=False):
            content[index] ^= 1 + int(rng.integers(255))
        state.update_page(page, content)
        sizes.append(next(iter(state.log(since=state.seq))).nbytes)
    mean = statistics.mean(sizes)
    return Figure("log bytes, 10 scattered of 1 KiB", mean, 1080, "B", mean, 0, 72, 60, higher=False)


def random_access() -> Figure:
    """at(seq) at random over 1,000,000 deltas on 1,000 pages, one page read: the 99th percentile."""
    state = mmsb.open(tempfile.mkdtemp(dir=SCRATCH) + "/store")
    pages = state.create_pages(1000, 4096)
    rng = np.random.default_rng(SEED)
    count, step = 1_000_000, 100
    for _ in range(0, count, step):
        payload = rng.integers(0, 256, step * 16, dtype="u1")
        with state.batch() as b:
            b.write_many(rng.integers(pages[0], pages[-1] + 1, step), rng.integers(0, 4080, step), 16, payload)
    took = []
    for _ in range(2000):
        seq, page = int(rng.integers(2, state.seq + 1)), int(rng.integers(pages[0], pages[-1] + 1))
        took.append(seconds(lambda seq=seq, page=page: state.at(seq).page(page).read()) * 1e3)
    state.close()
    p99 = statistics.quantiles(took, n=100)[98]
    return Figure("at(seq) + one page read, p99", p99, statistics.median(took), "ms", p99, 0, 5, 1, higher=False)


def opening() -> Figure:
    """Opening after a clean close: 1 GiB of log, 1,000 pages of 4 KiB."""
    path = tempfile.mkdtemp(dir=SCRATCH) + "/store"
    state = mmsb.open(path)
    pages = np.array(state.create_pages(1000, 4096), dtype="u8")
    rng = np.random.default_rng(SEED)
    while state.stats()["log"]["bytes"] < 1 << 30:
        with state.batch() as b:
            b.write_many(pages, 0, 4096, rng.integers(0, 256, 4096 * 1000, dtype="u1"))
    state.close()
    took = []
    for _ in range(7):
        begun = time.perf_counter()
        state = mmsb.open(path)
        took.append((time.perf_counter() - begun) * 1e3)
        state.close()
    median = statistics.median(took)
    return Figure("open, 1 GiB of log, 1,000 pages", median, 0, "ms", median, spread_of(took), 50, 10, higher=False)


SUITE: dict[str, Callable[[], Figure | Iterator[Figure]]] = {
    "kernels": kernel_lines,
    "write-memory": lambda: calls_per_write("none", 6, 4),
    "write-process": lambda: calls_per_write("process", 7, 4.5),
    "lmdb": update_against_lmdb,
    "power": power_commit,
    "burst": burst,
    "million": million_pages,
    "logbytes": log_bytes,
    "random": random_access,
    "open": opening,
}


if __name__ == "__main__":
    sys.exit(run_suite("ci/bench core", SUITE))
