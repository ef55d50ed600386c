"""The graph and the chain, against the rules and the worked example of format v1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import errors
from myosotis.chain import NO_PARENT, commit_hash
from myosotis.graph import Graph
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, SetField, encode_all
from myosotis.values import Ref

IDS = st.integers(0, 3)
KEYS = st.sampled_from(["a", "b"])
VALUES = st.integers(0, 2) | st.builds(Ref, IDS) | st.lists(st.builds(Ref, IDS), max_size=2)
MUTATIONS = (
    st.builds(CreateNode, IDS, KEYS)
    | st.builds(SetField, IDS, KEYS, VALUES)
    | st.builds(DeleteField, IDS, KEYS)
    | st.builds(DeleteNode, IDS)
)


def verdict(model, mutation):
    """Changes a model ({id: [type, fields, deleted]}), or says which error the rules give."""
    node = model.get(mutation.id)
    if isinstance(mutation, CreateNode):
        if node:
            return errors.DuplicateNodeError
        model[mutation.id] = [mutation.type, {}, False]
    elif isinstance(mutation, SetField):
        if node is None:
            return errors.SetBeforeCreateError
        if node[2]:
            return errors.NodeDeletedError
        items = mutation.value if isinstance(mutation.value, list) else [mutation.value]
        if any(isinstance(item, Ref) and item.id not in model for item in items):
            return errors.MissingReferenceError
        node[1][mutation.key] = mutation.value
    else:
        if node is None:
            return errors.DeleteNonexistentNodeError
        if node[2]:
            return errors.DeleteOnDeletedNodeError
        if isinstance(mutation, DeleteNode):
            node[2] = True
        elif mutation.key not in node[1]:
            return errors.FieldNotFoundError
        else:
            del node[1][mutation.key]
    return None


@given(st.lists(MUTATIONS, max_size=30))
def test_rules(mutations):
    graph, model = Graph(), {}
    for mutation in mutations:
        before = graph.copy()
        expected = verdict(model, mutation)
        if expected is None:
            graph.apply(mutation)
        else:
            with pytest.raises(expected) as caught:
                graph.apply(mutation)
            assert type(caught.value) is expected
            assert graph == before
        assert {key: [node.type, node.fields, node.deleted] for key, node in graph.nodes.items()} == model


@given(st.lists(MUTATIONS, max_size=30))
def test_copies_are_independent(mutations):
    graph = Graph()
    for mutation in mutations:
        before, digest = graph.copy(), graph.state_hash()
        try:
            graph.apply(mutation)
        except errors.MyosotisError:
            pass
        assert before.state_hash() == digest


def test_worked_example():
    mutations = (CreateNode(1, "Agent"),)
    assert (
        commit_hash(NO_PARENT, "c1", encode_all(mutations)).hex()
        == "196f6f97297c1d0ecf74917cdd20fa8eaff06e07d3fa5bacdf21cc1428ab270b"
    )
    graph = Graph()
    graph.replay(mutations)
    assert graph.state_hash().hex() == "33d2356a67459a37a37955f87fb3a5513d10ee90e8c45946c052e3eff7d8c509"
    assert Graph().state_hash().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert commit_hash(NO_PARENT, None, b"") == commit_hash(NO_PARENT, "", b"")


def test_state_hash_sees_everything():
    hashes = {Graph().state_hash()}
    graph = Graph()
    for mutation in (
        CreateNode(1, "A"),
        CreateNode(2, "A"),
        SetField(1, "k", 1),
        SetField(1, "k", True),
        SetField(1, "l", 1),
        DeleteField(1, "l"),
        DeleteNode(2),
    ):
        graph.apply(mutation)
        hashes.add(graph.state_hash())
    assert len(hashes) == 7 + 1 - 1  # taking `l` away again gives the state before
