"""The figures of propagation: waves, links, semirings, the graph.

References stand in the same run, or are what the first MMSB took on this class of machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from measure import SCRATCH, Figure, compare, run_suite, seconds, spread_of

import mmsb
from mmsb import links
from mmsb._core.graph import Graph
from mmsb._core.semiring import builtin

SEED = 20261121
# The first MMSB on this class of machine, in seconds.
FIRST_HOP, FIRST_CHAIN, FIRST_PIPELINE = 176e-6, 1.37e-3, 25.0e-3


def nothing() -> None:
    """A bare Python call."""


def ring_of_pages(count: int) -> list[bytes]:
    """Contents of a 1 KiB page that change ten bytes from one to the next, there and back."""
    rng = np.random.default_rng(SEED)
    page, pages = bytearray(1024), []
    for _ in range(count):
        for index in rng.choice(1024, 10, replace=False):
            page[index] ^= int(rng.integers(1, 256))
        pages.append(bytes(page))
    return pages + pages[-2:0:-1]


def chain(state: Any, length: int) -> int:
    """A chain of `length` pages that pass 1 KiB through. Returns the id of its first page."""
    first = last = state.create_page(1024)
    for _ in range(length):
        child = state.create_page(1024)
        state.depend(child, on=last, link=links.passthrough())
        last = child
    return int(first.page_id)


def hops() -> Iterator[Figure]:
    """update_page of a page on which a chain of 1 or 10 others depends."""
    pages = ring_of_pages(33)
    loop = range(len(pages))
    for length in (1, 10):
        state = mmsb.open()
        page_id, update = chain(state, length), state.update_page

        def ours(page_id: int = page_id, update: Any = update) -> None:
            for page in pages:
                update(page_id, page)

        def reference() -> None:
            for _ in loop:
                nothing()

        calls = compare("", ours, reference, 15, 9, speed=False, calls=10)
        each, bare = calls.ours / len(pages), calls.reference / len(pages)
        if length == 1:
            yield Figure(
                "single hop, 1 KiB, in bare calls",
                each * 1e9,
                bare * 1e9,
                "ns",
                calls.ratio,
                calls.spread,
                15,
                9,
                False,
            )
        first, must, reach = (FIRST_HOP, 100, 200) if length == 1 else (FIRST_CHAIN, 300, 500)
        name = "single hop" if length == 1 else "chain of 10"
        yield Figure(
            f"{name}, against the first MMSB", each * 1e6, first * 1e6, "us", first / each, calls.spread, must, reach
        )
        state.close()


def wide_and_deep() -> Iterator[Figure]:
    """One write to the head of a chain of 100,000 and of a fan of 10,000 pages of 64 bytes."""
    for name, count, parent_of in (("chain of 100,000", 100_000, None), ("fan of 10,000", 10_000, 0)):
        state = mmsb.open()
        ids = np.array(state.create_pages(count + 1, 64), dtype="u8")
        parents = ids[:-1] if parent_of is None else np.full(count, ids[0])
        state.depend_many(parents, ids[1:], semiring="max-plus", dtype="int64")
        counter = iter(range(1, 1 << 30))
        head = int(ids[0])

        def write(state: Any = state, head: int = head, counter: Any = counter) -> None:
            state.update_page(head, next(counter).to_bytes(8, "little") * 8)

        write()
        took = [seconds(write) / count * 1e9 for _ in range(7)]
        if state.query_page(int(ids[-1])) != state.query_page(head):
            raise AssertionError("the last page is not what the first one is")
        median = statistics.median(took)
        yield Figure(f"{name}, per page", median, 0, "ns", median, spread_of(took), 200, 100, False)
        state.close()


def random_matrix(count: int, entries: int) -> tuple[Any, Any, Any]:
    """A sparse matrix as (row_start, columns, values) with distinct places."""
    rng = np.random.default_rng(SEED)
    places = np.unique(rng.integers(0, count * count, entries + entries // 100))
    places = np.sort(rng.permutation(places)[:entries])
    rows, columns = places // count, places % count
    row_start = np.searchsorted(rows, np.arange(count + 1)).astype("u8")
    return row_start, columns.astype("u4"), rng.random(entries)


def matrix_links() -> Iterator[Figure]:
    """A matrix link with 1,000,000 entries, against python-graphblas on the same data; and with 100 lanes changed."""
    yield from matrix_link("plus-times", 0.0)
    yield from matrix_link("min-plus", np.inf)


def matrix_link(name: str, missing: float) -> Iterator[Figure]:
    """The figures of one semiring. What writing the parent costs by itself is taken off."""
    import graphblas as gb

    gb.ss.config["nthreads"] = 1
    semiring = getattr(gb.semiring, name.replace("-", "_"))
    count, entries = 100_000, 1_000_000
    row_start, columns, values = random_matrix(count, entries)
    rng = np.random.default_rng(SEED + 1)
    xs = [rng.random(count) for _ in range(2)]
    rows = np.repeat(np.arange(count), np.diff(row_start.astype("i8")))
    peer = gb.Matrix.from_coo(columns, rows, values, nrows=count, ncols=count)
    vectors = [gb.Vector.from_dense(one) for one in xs]
    out = gb.Vector(float, count)

    state = mmsb.open(history=1 << 26)
    x, y, plain = (state.create_page(count * 8) for _ in range(3))
    parts = [state.create_page(data=part.tobytes()) for part in (row_start, columns, values)]
    state.depend(y, on=[x, *parts], link=links.matrix(name, "float64", count, count))
    turn_ours, turn_plain, turn_theirs = (iter(range(1 << 30)) for _ in range(3))

    def ours() -> None:
        state.update_page(x, xs[next(turn_ours) % 2].tobytes())

    def write_only() -> None:
        state.update_page(plain, xs[next(turn_plain) % 2].tobytes())

    def reference() -> None:
        out << semiring(vectors[next(turn_theirs) % 2] @ peer)

    reference()
    base, whole, _ = _pair(write_only, ours)
    theirs, _, _ = _pair(reference, nothing)
    step = whole - base
    state.update_page(x, xs[0].tobytes())
    expected = vectors[0].vxm(peer, semiring).new().to_dense(fill_value=missing)
    if not np.allclose(np.frombuffer(y.read(), "f8"), expected, rtol=1e-12):
        raise AssertionError("the link and GraphBLAS disagree")
    title = f"matrix link {name}, against graphblas vxm"
    yield Figure(title, step * 1e3, theirs * 1e3, "ms", theirs / step, 0.0, 1, 1.5)
    if name != "min-plus":
        return

    lanes = np.sort(rng.choice(count, 100, replace=False))
    current = xs[0].copy()

    def some() -> None:
        current[lanes] = rng.random(100)
        state.update_page(x, current.tobytes())

    def some_only() -> None:
        current[lanes] = rng.random(100)
        state.update_page(plain, current.tobytes())

    state.update_page(plain, current.tobytes())
    some()
    base, sparse, _ = _pair(some_only, some)
    part = sparse - base
    title = "the same, 100 lanes changed, against the full step"
    yield Figure(title, part * 1e3, step * 1e3, "ms", step / part, 0.0, 20, 50)
    state.close()


def _pair(a: Callable[[], None], b: Callable[[], None], repeats: int = 11) -> tuple[float, float, list[float]]:
    """Medians of both, in turn."""
    pairs = [(seconds(a), seconds(b)) for _ in range(repeats)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs), [p[1] / p[0] for p in pairs]


def tiny_links() -> Figure:
    """A wave over 100,000 pages of 8 bytes joined by 1,000,000 semiring links, per link."""
    count = 100_000
    rng = np.random.default_rng(SEED)
    a, b = rng.integers(0, count, 1_010_000), rng.integers(0, count, 1_010_000)
    edges = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], 1)[a != b], axis=0)
    edges = edges[np.sort(rng.permutation(len(edges))[:1_000_000])]
    state = mmsb.open(history=1 << 28)
    ids = np.array(state.create_pages(count, 8), dtype="u8")
    state.depend_many(
        ids[edges[:, 0]], ids[edges[:, 1]], rng.integers(1, 100, len(edges)), semiring="min-plus", dtype="int64"
    )
    sources = np.setdiff1d(np.arange(count), np.unique(edges[:, 1]))
    values = rng.integers(0, 1000, len(sources))
    counter = iter(range(1, 1 << 30))

    def wave() -> None:
        with state.batch() as batch:
            batch.write_many(ids[sources], 0, 8, (values + next(counter)).astype("i8").tobytes())

    wave()
    took = [seconds(wave) / len(edges) * 1e9 for _ in range(7)]
    median = statistics.median(took)
    state.close()
    return Figure(
        f"wave over {len(edges):,} links of 8-byte pages, per link",
        median,
        0,
        "ns",
        median,
        spread_of(took),
        60,
        25,
        False,
    )


def semiring_add() -> Figure:
    """Min over 1 MiB of f64 out of cache (64 buffers in turn), against numpy.minimum(out=).

    After the first round nothing changes any more, as in a wave that has converged; numpy stores it nevertheless.
    """
    count, lanes = 64, (1 << 20) // 8
    rng = np.random.default_rng(SEED)
    left, right = [rng.random((count, lanes)) for _ in range(2)]
    row = builtin.get("min-plus", "float64")
    turn = iter(range(1 << 30))

    def ours() -> None:
        at = next(turn) % count
        row.add(left[at], right[at])

    def reference() -> None:
        at = next(turn) % count
        np.minimum(left[at], right[at], out=left[at])

    return compare(
        "semiring min over 1 MiB of f64, against numpy.minimum", ours, reference, 1.0, 1.2, speed=True, calls=64
    )


def edges() -> Figure:
    """1,000,000 edges of a random DAG on 100,000 pages in random order, the order kept after each."""
    count, wanted = 100_000, 1_000_000
    rng = np.random.default_rng(SEED)
    hidden = rng.permutation(count)
    a, b = rng.integers(0, count, wanted + 20_000), rng.integers(0, count, wanted + 20_000)
    low, high = np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]
    pairs = rng.permutation(np.unique(np.stack([low, high], 1), axis=0))[:wanted]
    parents, children = (hidden[pairs[:, 0]] + 1).tolist(), (hidden[pairs[:, 1]] + 1).tolist()
    took = []
    for _ in range(3):
        graph = Graph(range(1, count + 1))
        add = graph.add_edge
        begun = time.perf_counter()
        for parent, child in zip(parents, children, strict=True):
            add(parent, child)
        took.append(time.perf_counter() - begun)
    median = statistics.median(took)
    return Figure("1,000,000 edges one by one, order kept", median, 0, "s", median, 0.0, 1.5, 0.7, False)


def python_function() -> Figure:
    """What a wave adds to a Python function that it calls."""
    state = mmsb.open(history=1 << 24)
    page, child, plain = state.create_page(64), state.create_page(64), state.create_page(64)

    def function(out: Any, parent: Any) -> None:
        out[0:8] = parent[0:8]

    state.depend(child, on=page, fn=function)
    buffer, view = memoryview(bytearray(64)), memoryview(bytes(64))
    counter = iter(range(1, 1 << 60))
    count = 2000

    def with_child() -> None:
        for _ in range(count):
            page.write(next(counter).to_bytes(8, "little"))

    def alone() -> None:
        for _ in range(count):
            plain.write(next(counter).to_bytes(8, "little"))
            function(buffer, view)

    ours, theirs, _ = _pair(with_child, alone)
    state.close()
    overhead = (ours - theirs) / count * 1e6
    return Figure(
        "overhead of a Python function per wave", overhead, theirs / count * 1e6, "us", overhead, 0.0, 3, 1, False
    )


def pipeline() -> Figure:
    """24 chained pages, 5 updates, checkpoint, load, replay, as the first MMSB's benchmark does.

    The checkpoint goes to a memory file system where there is one: ours is synced, and the first MMSB syncs nothing.
    """
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else SCRATCH)
    pages = [bytes([n]) * 1024 for n in range(1, 6)]
    took = []
    for n in range(50):
        path = f"{folder}/{n}.mmsb"
        begun = time.perf_counter()
        state = mmsb.open()
        first = chain(state, 23)
        for page in pages:
            state.update_page(first, page)
        state.stop(path)
        copy = mmsb.open(path)
        copy.replay()
        took.append(time.perf_counter() - begun)
        copy.close()
    shutil.rmtree(folder)
    median = statistics.median(took)
    return Figure(
        "pipeline, against the first MMSB",
        median * 1e3,
        FIRST_PIPELINE * 1e3,
        "ms",
        FIRST_PIPELINE / median,
        spread_of(took),
        25,
        60,
    )


SUITE: dict[str, Callable[[], Figure | Iterator[Figure]]] = {
    "hops": hops,
    "shapes": wide_and_deep,
    "matrix": matrix_links,
    "tiny": tiny_links,
    "add": semiring_add,
    "edges": edges,
    "function": python_function,
    "pipeline": pipeline,
}


if __name__ == "__main__":
    sys.exit(run_suite("ci/bench propagation", SUITE))
