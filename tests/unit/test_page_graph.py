"""What state.graph answers about pages, links and weights, now and in the past."""

import json

import numpy
import pytest

import mmsb
from mmsb import links


@pytest.fixture
def state():
    with mmsb.open() as state:
        for name in "abcdef":
            state.create_page(8, name=name)
        state.depend("c", on=["a", "b"], link=links.semiring("plus-times", "float64", [2.0, 0.5]))
        state.depend("d", on=["c"], link=links.passthrough())
        state.depend("e", on=["a", "a", "b"], link=links.semiring("plus-times", "int32", [3, 4, 5]))
        state.depend("e", on="d", kind="control")
        yield state


def test_paths_and_levels(state):
    graph = state.graph
    assert graph.path("a", "e") == [1, 5] and graph.path("a", "e", "control") is None
    assert graph.path("a", "d") == [1, 3, 4] and graph.path("d", "a") is None
    assert graph.path("a", "f") is None and graph.path("f", "f") == [6]
    assert [graph.level(name) for name in "abcdef"] == [0, 0, 1, 2, 3, 0]
    assert graph.affected(["a", "f"]) == [3, 4, 5] and graph.affected(["f"]) == []
    assert graph.affected(["c"], "data") == [4] and graph.affected(["a"], unchanged=["c"]) == [3, 5]
    for ask in (lambda: graph.path("a", 99), lambda: graph.level(99), lambda: graph.affected([99])):
        with pytest.raises(mmsb.PageNotFoundError):
            ask()


def test_how_a_page_is_computed(state):
    seq = state.seq
    state.undepend("c")
    for graph, parents in ((state.graph, None), (state.at(seq).graph, (1, 2))):
        link = graph.link("c")
        assert (link and link.parents) == parents
        assert graph.link("d").type == "copy" and graph.link("e", "control").parents == (4,)
        assert graph.link("a") is None and graph.link("f", "device") is None
    link = state.at(seq).graph.link("c")
    assert (link.semiring, link.dtype) == ("plus-times", "float64")
    assert numpy.frombuffer(link.weights, link.dtype).tolist() == [2.0, 0.5]
    with pytest.raises(ValueError, match="Unknown kind"):
        state.graph.link("a", "gossip")


def test_weights_of_edges(state):
    graph = state.graph
    weights = {(1, 3): 2.0, (2, 3): 0.5, (2, 5): 5}  # a parent that is named twice has no single weight
    assert {edge[:2]: edge.weight for edge in graph.edges() if edge.weight is not None} == weights
    assert [edge.weight for edge in graph.edges("control")] == [None]
    edges = json.loads(graph.to_json())["edges"]
    assert {(edge["parent"], edge["child"]): edge["weight"] for edge in edges if "weight" in edge} == weights
    assert len(edges) == 6
    pytest.importorskip("networkx")
    exported = graph.to_networkx().edges(data="weight")
    assert {(parent, child): weight for parent, child, weight in exported if weight is not None} == weights


def test_critical_path_refuses_what_are_no_weights(state):
    with pytest.raises(mmsb.PageNotFoundError, match="Page 2 has no weight"):
        state.graph.critical_path({1: 1.0})
    with pytest.raises(TypeError, match="callable or a mapping"):
        state.graph.critical_path(5)


def test_deleting_looks_at_the_links_of_the_page_alone(state):
    looked = []

    class Table(dict):
        def __iter__(self):
            looked.append(True)
            return super().__iter__()

    state.depend("f", on="a", kind="device")
    state.depend("f", on=["b", "d"], kind="compiler")
    known = state._links
    for page_id in range(1, 7):
        every = [entry for entry in known.items() if entry[0] == page_id or page_id in entry[1].parents]
        assert known.touching(page_id) == every
    known.table = Table(known.table)
    state.delete_page("f", detach=True)
    state.delete_page("e", detach=True)
    assert not looked
    assert known.told == {}


def test_pages_may_be_given_by_numbers_of_numpy():
    with mmsb.open() as state:
        ids = numpy.array(state.create_pages(3, 8))
        state.depend(ids[1], on=ids[0], link=links.passthrough())
        with state.batch() as batch:
            batch.depend(ids[2], on=ids[1:2], link=links.passthrough())
        told = []
        state.subscribe("page_changed", told.append, pages=ids[2])
        state.page(1).write(b"x", at=0)
        assert state.page(3).read() == b"x" + bytes(7)
        assert [event.page_id for event in told] == [3]
