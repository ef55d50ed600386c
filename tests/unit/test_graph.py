"""The page graph: what acceptance point 20 asks for, many edges at once, shapes that break naive orders."""

import subprocess
import sys

import numpy as np
import pytest

from mmsb import errors
from mmsb.graph import KINDS, Edge, Graph


def graph_of(*edges, pages=()):
    graph = Graph(pages)
    for parent, child, *kind in edges:
        graph.add_pages([parent, child])
        graph.add_edge(parent, child, *kind)
    return graph


DIAMOND = [(1, 2), (1, 3), (2, 4), (3, 4)]


# ---- acceptance point 20


def test_a_self_loop_is_refused():
    graph = Graph([5])
    with pytest.raises(errors.GraphCycleError) as caught:
        graph.add_edge(5, 5)
    assert (caught.value.cycle, caught.value.parent, caught.value.child) == ([5], 5, 5)
    assert graph.edges() == [] and graph.check() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_cycle_is_refused_and_nothing_changes(kind):
    graph = graph_of((1, 2), (2, 3, "device"), (1, 3), (3, 4), pages=range(1, 9))
    before = graph.edges(), graph.order()
    with pytest.raises(errors.GraphCycleError, match="4 -> 1 -> 3 -> 4") as caught:
        graph.add_edge(4, 1, kind)
    assert caught.value.cycle == [4, 1, 3]  # the shortest
    assert isinstance(caught.value, ValueError)
    assert (graph.edges(), graph.order()) == before and graph.check() is None
    graph.remove_edge(1, 3)
    graph.remove_edge(2, 3)
    graph.add_edge(4, 1, kind)  # now it closes none


def test_among_shortest_cycles_the_one_with_the_smallest_ids():
    graph = graph_of((1, 9), (9, 3), (1, 5), (5, 3), (3, 4))
    with pytest.raises(errors.GraphCycleError) as caught:
        graph.add_edge(4, 1)
    assert caught.value.cycle == [4, 1, 5, 3]


def test_a_duplicate_edge_is_refused():
    graph = graph_of((1, 2))
    with pytest.raises(errors.EdgeExistsError) as caught:
        graph.add_edge(1, 2, "data", 9)
    assert (caught.value.parent, caught.value.child, caught.value.kind) == (1, 2, "data")
    assert isinstance(caught.value, ValueError) and graph.edges() == [Edge(1, 2, "data", 0)]


def test_edges_of_several_kinds_between_two_pages():
    graph = Graph([1, 2])
    for link, kind in enumerate(KINDS):
        graph.add_edge(1, 2, kind, link)
    assert graph.edges() == [(1, 2, kind, link) for link, kind in enumerate(KINDS)]
    assert graph.children(1) == graph.children(1, "device") == [2]
    graph.remove_edge(1, 2, "control")
    assert not graph.has_edge(1, 2, "control") and graph.has_edge(1, 2, ("control", "compiler"))
    graph.remove_edge(1, 2)  # all that are left
    assert graph.edge_count == 0 and graph.check() is None


def test_removing_an_edge_that_is_not_there():
    graph = graph_of((1, 2))
    with pytest.raises(errors.EdgeNotFoundError) as caught:
        graph.remove_edge(1, 2, "control")
    assert isinstance(caught.value, KeyError) and caught.value.kind == "control"
    with pytest.raises(errors.EdgeNotFoundError):
        graph.remove_edge(2, 1)
    assert graph.edge_count == 1


def test_parents_and_children_are_sorted_copies():
    graph = graph_of((9, 5), (2, 5), (7, 5), (5, 8), (5, 6), (2, 5, "control"))
    assert graph.parents(5) == [2, 7, 9] and graph.children(5) == [6, 8]
    graph.parents(5).clear()
    assert graph.parents(5, "control") == [2] and graph.parents(5) == [2, 7, 9]


def test_the_order_does_not_depend_on_how_the_edges_came(rng):
    edges = [(a, b) for a in range(1, 40) for b in range(a + 1, 40) if rng.random() < 0.15]
    orders = set()
    for way in range(6):
        some = rng.sample(edges, len(edges))
        graph = Graph(rng.sample(range(1, 40), 39))
        if way % 2:
            graph.add_edges(*zip(*some, strict=True))
        else:
            for parent, child in some:
                graph.add_edge(parent, child)
            graph.add_pages([100, 101])
            graph.add_edge(100, 1)
            graph.add_edge(39, 101)
            graph.remove_page(100, detach=True)
            graph.remove_page(101, detach=True)
        orders.add((tuple(graph.order()), tuple(graph.affected([3, 1]))))
    assert len(orders) == 1


def test_the_order_is_stable_across_runs():
    program = """
from mmsb.graph import Graph, to_json
graph = Graph([8, 3, 5, 1, 9])
for edge in [(8, 3), (9, 3), (3, 1), (8, 5, "control")]:
    graph.add_edge(*edge)
print(graph.order(), graph.affected({8, 9}), to_json(graph))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(outputs) == 1 and outputs.pop().startswith(b"[8, 9, 3, 5, 1] [3, 5, 1] ")


# ---- pages


def test_pages_that_are_not_in_the_graph():
    graph = graph_of((1, 2))
    for wrong in (
        lambda: graph.add_edge(1, 3),
        lambda: graph.add_edge(3, 1),
        lambda: graph.add_edges([3, 1], [1, 2]),
        lambda: graph.remove_edge(1, 3),
        lambda: graph.remove_page(3),
        lambda: graph.parents(3),
        lambda: graph.affected([3]),
        lambda: graph.level(0),
        lambda: graph.path(1, -1),
        lambda: graph.add_pages([0]),
        lambda: graph.add_pages([-1]),
        lambda: graph.add_pages([1 << 64]),
    ):
        with pytest.raises(errors.PageNotFoundError):
            wrong()
    assert 3 not in graph and 0 not in graph and 1 << 70 not in graph and not graph.has_edge(3, 1)
    assert graph.edges() == [(1, 2, "data", 0)] and graph.check() is None


def test_a_page_with_edges_goes_only_with_detach():
    graph = graph_of(*DIAMOND)
    with pytest.raises(errors.PageHasEdgesError) as caught:
        graph.remove_page(2)
    assert (caught.value.page_id, caught.value.parents, caught.value.children) == (2, [1], [4])
    graph.remove_page(2, detach=True)
    assert graph.pages() == list(graph) == [1, 3, 4] and graph.edge_count == 2 and graph.check() is None


def test_unknown_kinds_and_wrong_types():
    graph = Graph([1, 2])
    for kind in ("gpu", 0, None, b"data"):
        with pytest.raises(ValueError, match="Use one of data, control, device, compiler"):
            graph.add_edge(1, 2, kind)
    with pytest.raises(ValueError, match="Unknown kind"):
        graph.children(1, ["data", "gpu"])
    with pytest.raises(TypeError):
        graph.add_edge("1", 2)
    with pytest.raises(OverflowError):
        graph.add_edge(1, 2, "data", -1)
    with pytest.raises(TypeError):
        graph.add_edges([1.0], [2.0])
    for columns in ([[1], [2, 2]], [[1], [-2]], [[1], [[2]]], [[1], [2], [4]], [[1], [2], [0, 0]], [[1], [2], [0], []]):
        with pytest.raises(ValueError):
            graph.add_edges(*columns)
    assert graph.edge_count == 0


def test_memory_is_used_again():
    graph = Graph(range(1, 1001))
    parents, children = np.arange(1, 1000), np.arange(2, 1001)

    def fill_and_empty():
        graph.add_edges(parents, children)
        for page_id in range(1, 1001):
            graph.remove_page(page_id, detach=True)
        graph.add_pages(range(1, 1001))

    fill_and_empty()
    held = graph.nbytes
    for _ in range(5):
        fill_and_empty()
    assert graph.nbytes == held and graph.check() is None


# ---- many edges


def random_dag(pages, count, seed):
    """Distinct pairs along a hidden random order, in random order."""
    rng = np.random.default_rng(seed)
    place = rng.permutation(pages)
    a, b = rng.integers(0, pages, (2, count))
    a, b = a[a != b], b[a != b]
    later = place[a] > place[b]
    pairs = np.unique(np.stack([np.where(later, b, a), np.where(later, a, b)], 1), axis=0) + 1
    rng.shuffle(pairs)
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize(("pages", "count"), [(50, 600), (3000, 3000), (3000, 30_000)])
@pytest.mark.parametrize("step", [1, 7, 500, None])
def test_random_edges_one_by_one_in_batches_and_at_once(pages, count, step):
    parents, children = random_dag(pages, count, 7)
    graph, whole = Graph(range(1, pages + 1)), Graph(range(1, pages + 1))
    whole.add_edges(parents, children)
    if step == 1:
        for parent, child in zip(parents.tolist(), children.tolist(), strict=True):
            graph.add_edge(parent, child)
    else:
        for at in range(0, len(parents), step or len(parents)):
            graph.add_edges(parents[at : at + (step or len(parents))], children[at : at + (step or len(parents))])
    assert graph.check() is None and whole.check() is None
    assert graph.levels() == whole.levels()
    # Any edge against the order of a path must be refused, whatever way the order came about.
    for parent, child in zip(parents[:50].tolist(), children[:50].tolist(), strict=True):
        with pytest.raises(errors.GraphCycleError) as caught:
            graph.add_edge(child, parent)
        assert caught.value.cycle == [child, parent]
    assert graph.check() is None


def test_a_batch_with_a_wrong_edge_leaves_nothing():
    parents, children = random_dag(300, 2000, 8)
    for count in (5, len(parents)):
        graph = graph_of((401, 402), pages=range(1, 301))
        before = graph.edges(), graph.order()
        for wrong, error in (((7, 7), errors.GraphCycleError), ((7, 999), errors.PageNotFoundError)):
            with pytest.raises(error) as caught:
                graph.add_edges([*parents[:count], wrong[0]], [*children[:count], wrong[1]])
            assert caught.value.index == count
            assert (graph.edges(), graph.order()) == before and graph.check() is None
        with pytest.raises(errors.EdgeExistsError) as caught:
            graph.add_edges([*parents[:count], parents[2]], [*children[:count], children[2]])
        assert caught.value.index == count and caught.value.parent == parents[2]
    graph.add_edges([], [])
    assert graph.edges() == before[0]


def test_kinds_and_links_of_a_batch():
    graph = Graph([1, 2, 3])
    graph.add_edges([1, 2, 1], [2, 3, 2], [0, 3, 1], [5, (1 << 64) - 1, 7])
    graph.add_edges([1], [3], "device")
    assert graph.edges() == [
        (1, 2, "data", 5),
        (1, 2, "control", 7),
        (1, 3, "device", 0),
        (2, 3, "compiler", (1 << 64) - 1),
    ]


# ---- shapes


@pytest.mark.parametrize("way", ["forward", "backward", "shuffled"])
def test_a_chain_of_100_000(way, rng):
    count = 100_000
    edges = list(zip(range(1, count), range(2, count + 1), strict=True))
    edges = edges[::-1] if way == "backward" else rng.sample(edges, len(edges)) if way == "shuffled" else edges
    graph = Graph(range(1, count + 1))
    for parent, child in edges:
        graph.add_edge(parent, child)
    assert graph.check() is None
    assert graph.order() == list(range(1, count + 1)) and graph.level(count) == count - 1
    assert graph.affected([1]) == graph.descendants(1) == list(range(2, count + 1))
    assert graph.path(1, count) == list(range(1, count + 1))
    assert graph.critical_path() == (count, list(range(1, count + 1)))
    with pytest.raises(errors.GraphCycleError) as caught:
        graph.add_edge(count, 1)
    assert caught.value.cycle == [count, *range(1, count)]
    graph.remove_edge(count // 2, count // 2 + 1)
    assert graph.affected([1]) == list(range(2, count // 2 + 1)) and graph.level(count) == count // 2 - 1


def test_a_fan_of_10_000_and_its_join(rng):
    middle = rng.sample(range(2, 10_002), 10_000)
    graph = Graph(range(1, 10_003))
    graph.add_edges([1] * 10_000, middle)
    graph.add_edges(middle, [10_002] * 10_000)
    assert graph.affected([1]) == list(range(2, 10_003))
    assert graph.affected([1], unchanged=range(2, 10_002)) == list(range(2, 10_002))
    for page_id in middle[:5000]:
        graph.remove_page(page_id, detach=True)
    assert graph.check() is None and graph.affected([1]) == sorted([*middle[5000:], 10_002])


def test_two_chains_that_hang_on_each_other_stay_cheap():
    """Every edge lifts the second chain in an order kept by levels; bands lift it once."""
    count = 20_000
    graph = Graph(range(1, 2 * count + 1))
    graph.add_edges(
        [*range(1, count), *range(count + 1, 2 * count)], [*range(2, count + 1), *range(count + 2, 2 * count + 1)]
    )
    for page_id in range(1, count + 1):
        graph.add_edge(page_id, count + 1)
    assert graph.check() is None and graph.level(2 * count) == 2 * count - 1


def test_a_diamond_is_visited_once_after_both_sides():
    graph = graph_of(*DIAMOND, (4, 5), (2, 5))
    assert graph.affected([1]) == [2, 3, 4, 5]
    assert graph.affected([1], unchanged=[2, 3]) == [2, 3]
    assert graph.affected([1], unchanged=[2]) == [2, 3, 4, 5]
    assert graph.affected([2, 3], unchanged=[4]) == [4, 5]
    assert graph.affected([]) == graph.affected([5]) == []


def test_waves_follow_the_kinds_they_are_asked_for():
    graph = graph_of((1, 2), (2, 3, "control"), (3, 4, "device"), (4, 5))
    assert graph.affected([1]) == [2, 3]
    assert graph.affected([1], None) == [2, 3, 4, 5] and graph.affected([1], "data") == [2]
    assert graph.affected([1, 4]) == [2, 3, 5]
