"""Reports on the page graph and its exports."""

import json
import sys

import pytest

from mmsb import errors
from mmsb import graph as graphs
from mmsb.graph import Edge, Graph

DIAMOND = [(1, 2), (1, 3), (2, 4), (3, 4)]


def graph_of(*edges, pages=()):
    graph = Graph(pages)
    for parent, child, *kind in edges:
        graph.add_pages([parent, child])
        graph.add_edge(parent, child, *kind)
    return graph


# ---- reports


def test_reports_of_a_small_graph():
    graph = graph_of(*DIAMOND, (1, 4, "control"), pages=[6])
    assert graph.levels() == [[1, 6], [2, 3], [4]]
    assert graphs.sources(graph) == [1, 6] and graphs.sinks(graph) == [4, 6]
    assert graphs.sources(graph, "control") == [1, 2, 3, 6]
    assert graphs.closure(graph) == {1: [2, 3, 4], 6: [], 2: [4], 3: [4], 4: []}
    assert graph.redundant() == [(1, 4)] and graph.redundant("data") == []
    report = graphs.transitive_reduction(graph)
    assert report.redundant == [Edge(1, 4, "control", 0)] and [edge[:2] for edge in report.kept] == DIAMOND


def test_critical_path():
    graph = graph_of(*DIAMOND, pages=[6])
    assert graph.critical_path() == (3.0, [1, 2, 4])
    weights = {1: 1, 2: 0.5, 3: 0.75, 4: 0, 6: 1.0}
    assert graph.critical_path(weights) == (1.75, [1, 3])  # ties end at the smaller page
    assert graph.critical_path(lambda page_id: 10 * (page_id == 6)) == (10.0, [6])
    assert Graph().critical_path(weights) == (0.0, [])
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Page 3 has weight"):
            graph.critical_path(weights | {3: wrong})
    for lacking in ({1: 1}, [1, 1]):
        with pytest.raises(errors.PageNotFoundError, match="has no weight"):
            graph.critical_path(lacking)
    with pytest.raises(TypeError, match="callable or a mapping"):
        graph.critical_path(5)


def test_a_weight_function_that_removes_pages():
    graph = graph_of((1, 2), (2, 3))

    def weigh(page_id):
        if 3 in graph:
            graph.remove_page(3, detach=True)
        return 1.0

    with pytest.raises(errors.PageNotFoundError):
        graph.critical_path(weigh)
    assert graph.check() is None


# ---- exports

NAMES = {1: "camera", 3: 'a "b"\n\\c'}


def test_dot():
    graph = graph_of((1, 3), (1, 3, "control"), pages=[2])
    assert graphs.to_dot(graph, names=NAMES) == (
        "digraph mmsb {\n"
        '  1 [label="1 camera"];\n'
        '  2 [label="2"];\n'
        '  3 [label="3 a \\"b\\"\\\\n\\\\c"];\n'
        "  1 -> 3 [label=data, style=solid];\n"
        "  1 -> 3 [label=control, style=dashed];\n"
        "}\n"
    )


def test_json():
    graph = graph_of((2, 1), (2, 1, "control"))
    text = graphs.to_json(graph, names=lambda page_id: NAMES.get(page_id))
    assert json.loads(text) == {
        "pages": [{"page_id": 2, "name": None, "level": 0}, {"page_id": 1, "name": "camera", "level": 1}],
        "edges": [
            {"parent": 2, "child": 1, "kind": "data", "link": 0},
            {"parent": 2, "child": 1, "kind": "control", "link": 0},
        ],
    }
    assert len(text.splitlines()) == 8
    assert json.loads(graphs.to_json(Graph())) == {"pages": [], "edges": []}


def test_networkx():
    networkx = pytest.importorskip("networkx")
    graph = graph_of(*DIAMOND, (1, 4, "device"))
    other = graphs.to_networkx(graph, names=NAMES)
    assert list(other.nodes(data="name")) == [(1, "camera"), (2, None), (3, NAMES[3]), (4, None)]
    assert other.edges[1, 4, "device"] == {"kind": "device", "link": 0}
    assert networkx.is_directed_acyclic_graph(other) and other.number_of_edges() == 5
    reduced = networkx.transitive_reduction(networkx.DiGraph(other))
    assert sorted(reduced.edges) == [edge[:2] for edge in graphs.transitive_reduction(graph).kept]


def test_rustworkx():
    rustworkx = pytest.importorskip("rustworkx")
    graph = graph_of(*DIAMOND, (1, 4, "device"))
    other = graphs.to_rustworkx(graph, names=NAMES)
    assert other[0] == {"page_id": 1, "name": "camera"} and sorted(other.edges()) == sorted(graph.edges())
    assert rustworkx.is_directed_acyclic_graph(other)


@pytest.mark.parametrize("name", ["networkx", "rustworkx"])
def test_a_package_that_is_missing(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(errors.MissingPackageError, match=f"pip install {name}") as caught:
        getattr(graphs, f"to_{name}")(Graph())
    assert caught.value.package == name and isinstance(caught.value, ImportError)
