"""What stays in memory: numpy arrays without a past, and the graphs of rustworkx."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from measure import Figure, compare

import mmsb
from mmsb._core.graph import Graph

SEED = 20261122
NODES, EDGES, CHECKED = 20_000, 100_000, 200


def arrays() -> Iterator[Figure]:
    """What a log costs one who has a plain array today; and what a past costs one who keeps copies of it."""
    state = mmsb.open(history=1 << 24)
    page = state.create_page(4096)
    array, values = np.zeros(4096, "u1"), itertools.cycle(n.to_bytes(8, "little") for n in range(1, 1000))
    rows = itertools.cycle(np.frombuffer(n.to_bytes(8, "little"), "u1") for n in range(1, 1000))

    def write() -> None:
        page.write(next(values), at=64)

    def assign() -> None:
        array[64:72] = next(rows)

    figure = compare("8 bytes written, logged: numpy without a log", write, assign, 3, 2, speed=False, calls=2000)
    figure.ours, figure.reference, figure.unit = figure.ours * 1e9, figure.reference * 1e9, "ns"
    yield figure

    size, changes = 1 << 20, 200
    large, plain = state.create_page(size), np.zeros(size, "u1")
    places = np.random.default_rng(SEED).integers(0, size - 8, changes).tolist()

    def remembered() -> None:
        for at in places:
            large.write(next(values), at=at)
        state.at(state.seq - changes // 2).page(large.page_id).read()

    def copied() -> None:
        past = []
        for at in places:
            plain[at : at + 8] = next(rows)
            past.append(plain.copy())
        past[changes // 2].tobytes()

    title = "200 changes of 1 MiB, one past state read: numpy copies"
    figure = compare(title, remembered, copied, 1, 10, speed=True, repeats=7)
    figure.ours, figure.reference, figure.unit = figure.ours * 1e3, figure.reference * 1e3, "ms"
    state.close()
    yield figure


def graphs() -> Iterator[Figure]:
    """What depends on a node, and edges one by one into a graph that must stay without circles."""
    import rustworkx as rx

    rng = np.random.default_rng(SEED)
    pairs = np.sort(rng.integers(0, NODES, (EDGES, 2)), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    mine, theirs = Graph(range(1, NODES + 1)), rx.PyDiGraph()
    mine.add_edges(pairs[:, 0] + 1, pairs[:, 1] + 1)
    theirs.add_nodes_from(range(NODES))
    theirs.add_edges_from_no_data([tuple(pair) for pair in pairs.tolist()])
    if len(mine.descendants(1)) != len(rx.descendants(theirs, 0)):
        raise AssertionError("the two graphs differ")
    figure = compare(
        "4,000 descendants of a node: rustworkx",
        lambda: mine.descendants(1),
        lambda: rx.descendants(theirs, 0),
        1,
        2,
        speed=True,
        calls=2,
    )
    figure.ours, figure.reference, figure.unit = figure.ours * 1e6, figure.reference * 1e6, "us"
    yield figure

    known = set(map(tuple, pairs.tolist()))
    new = np.sort(rng.integers(0, NODES, (2 * CHECKED, 2)), axis=1).tolist()
    fresh = [pair for pair in dict.fromkeys(map(tuple, new)) if pair not in known and pair[0] != pair[1]][:CHECKED]
    theirs.check_cycle = True

    def ours() -> None:
        for parent, child in fresh:
            mine.add_edge(parent + 1, child + 1)
        for parent, child in fresh:
            mine.remove_edge(parent + 1, child + 1)

    def reference() -> None:
        for parent, child in fresh:
            theirs.add_edge(parent, child, None)
        for parent, child in fresh:
            theirs.remove_edge(parent, child)

    figure = compare("edges come and go, checked for circles: rustworkx", ours, reference, 1, 10, speed=True, repeats=7)
    figure.ours, figure.reference, figure.unit = figure.ours * 1e3, figure.reference * 1e3, "ms"
    yield figure
