"""Handles, containers, walks, exports and callbacks, case by case."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from myosotis import Memory, Ref
from myosotis.errors import (
    CommitNotFoundError,
    FieldNotFoundError,
    InvalidValueError,
    MyosotisError,
    NodeNotFoundError,
    RevertError,
    StaleValueError,
)
from myosotis.exports import from_json_value, json_value


@pytest.fixture
def memory():
    with Memory.open() as made:
        yield made


# ---- handles


def test_fields_are_attributes_and_items(memory: Memory) -> None:
    agent = memory.create("Agent", name="Iris", type_="x")
    agent.goal = "Explore"
    agent["id"] = 7
    assert (agent.goal, agent["goal"], agent["id"], agent.id, agent.type) == ("Explore", "Explore", 7, 1, "Agent")
    assert list(agent) == ["goal", "id", "name", "type_"] == agent.keys()
    assert dict(agent.items()) == agent.fields == {"goal": "Explore", "id": 7, "name": "Iris", "type_": "x"}
    assert "goal" in agent and "missing" not in agent and len(agent) == 4
    assert agent.get("missing", 3) == 3 and not hasattr(agent, "missing")
    del agent.goal
    del agent["id"]
    assert "goal" not in agent and "name" in dir(agent)
    for call in (lambda: agent["goal"], lambda: agent.goal):
        with pytest.raises(FieldNotFoundError) as caught:
            call()
        assert (caught.value.node_id, caught.value.key) == (1, "goal")
    with pytest.raises(FieldNotFoundError):
        del agent.goal
    for name in ("id", "fields", "_private"):
        with pytest.raises(AttributeError):
            setattr(agent, name, 1)


def test_fields_named_like_parameters(memory: Memory) -> None:
    node = memory.create("Agent", type="t", self=1)
    assert node.fields == {"self": 1, "type": "t"} and node.type == "Agent"


def test_references_are_handles(memory: Memory) -> None:
    a = memory.create("Agent")
    b = memory.create("Agent", friend=a, others=[a, {"deep": a}])
    assert b.friend == a and b.others[0] == a and b.others[1]["deep"] == a
    assert b.fields["friend"] == Ref(1)
    assert {a: 1}[b.friend] == 1 and a != b
    with Memory.open() as other:
        assert other.create("Agent") != a


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"k": [1, float("nan")]}, "goal['k'][1]"),
        ([2**63], "goal[0]"),
        ({"k": {"\ud800": 1}}, "goal['k']"),
        ([[None]], "goal[0][0]"),
        ([Ref(9)], "goal[0]"),
    ],
)
def test_refused_values_name_the_path_and_stage_nothing(memory: Memory, value: object, path: str) -> None:
    agent = memory.create("Agent", goal=1)
    memory.commit()
    with pytest.raises(InvalidValueError) as caught:
        agent.goal = value
    assert caught.value.path.startswith(path)
    with pytest.raises(InvalidValueError):
        memory.create("Agent", good=1, goal=value)
    assert memory.pending == () and memory.next_node_id == 2 and agent.goal == 1


def test_a_handle_of_another_memory_is_no_reference(memory: Memory) -> None:
    mine = memory.create("Agent", friends=[])
    memory.commit()
    memory.at(1).node(mine)
    mine.self = memory.at(1)[1]
    with Memory.open() as other:
        stranger = other.create("Agent")
        for call in (
            lambda: memory.create("Agent", friend=stranger),
            lambda: setattr(mine, "friend", [stranger]),
            lambda: mine.friends.append(stranger),
            lambda: mine.update({"friend": {"k": stranger}}),
        ):
            with pytest.raises(InvalidValueError, match="another memory"):
                call()
    assert len(memory.pending) == 1


def test_sixty_levels_and_no_more(memory: Memory) -> None:
    agent = memory.create("Agent")
    value: list = []
    for _ in range(59):
        value = [value]
    agent.deep = value
    inner = agent.deep
    for _ in range(59):
        inner = inner[0]
    with pytest.raises(InvalidValueError, match="60 levels"):
        inner.append([])
    inner.append(1)
    memory.commit()
    assert memory.verify().ok
    with pytest.raises(InvalidValueError, match="60 levels"):
        agent.deeper = [value]


@pytest.mark.parametrize("kind", [5, None, "\ud800"])
def test_a_type_is_text(memory: Memory, kind: object) -> None:
    with pytest.raises(InvalidValueError):
        memory.create(kind)  # type: ignore[arg-type]


def test_a_handle_of_a_discarded_node(memory: Memory) -> None:
    agent = memory.create("Agent")
    memory.discard()
    assert repr(agent) == "<node 1, not there>" and agent not in memory
    with pytest.raises(NodeNotFoundError):
        agent.goal = 1
    assert memory.create("Agent").id == 2, "an id is never used again"


# ---- lists and maps


def test_changes_in_place_are_one_mutation(memory: Memory) -> None:
    agent = memory.create("Agent", tags=["a"], notes={"x": [1]})
    memory.commit()
    tags = agent.tags
    tags.append("b")
    tags += ["c"]
    tags.insert(0, "z")
    tags.sort(reverse=True)
    assert agent.tags == ["z", "c", "b", "a"] and tags == agent.tags and tags.index("b") == 2
    assert len(memory.pending) == 1
    agent.notes["x"].append(2)
    agent.notes["y"] = {}
    tags.pop()
    assert [m.key for m in memory.pending] == ["tags", "notes", "tags"]
    assert memory.pending[0].value == ["z", "c", "b", "a"], "what follows is not part of what went before"
    memory.commit()
    assert memory.at(1)[1].tags == ["a"] and memory.at(2)[1].notes == {"x": [1, 2], "y": {}}


def test_what_was_given_stays_the_givers(memory: Memory) -> None:
    tags = ["a"]
    agent = memory.create("Agent", tags=tags)
    tags.append("b")
    assert agent.tags == ["a"]
    commit = memory.commit()
    agent.tags.append("c")
    assert commit.mutations[1].value == ["a"]
    plain = agent.fields
    plain["tags"].append("d")
    assert agent.tags == ["a", "c"]


def test_a_value_that_was_replaced_is_stale(memory: Memory) -> None:
    agent = memory.create("Agent", tags=["a"])
    tags = agent.tags
    agent.tags = ["b"]
    with pytest.raises(StaleValueError) as caught:
        tags.append("c")
    assert (caught.value.node_id, caught.value.key) == (1, "tags") and agent.tags == ["b"]


def test_discard_undoes_changes_in_place(memory: Memory) -> None:
    agent = memory.create("Agent", tags=["a", ["b"]])
    memory.commit()
    agent.tags[1].append("c")
    agent.tags.clear()
    memory.discard()
    assert agent.tags == ["a", ["b"]] and memory.state_hash() == memory.state_hash(1)


def test_refused_changes_in_place(memory: Memory) -> None:
    agent = memory.create("Agent", tags=["a"], notes={"k": 1})
    memory.commit()
    for call in (
        lambda: agent.tags.append(None),
        lambda: agent.tags.extend([1, None]),
        lambda: agent.tags.append(Ref(7)),
        lambda: agent.notes.update({5: 1}),
        lambda: agent.notes.__setitem__("k", {"deep": float("inf")}),
    ):
        with pytest.raises(InvalidValueError):
            call()
    with pytest.raises(IndexError):
        agent.tags[5] = 1
    with pytest.raises(KeyError):
        del agent.notes["missing"]
    with pytest.raises(ValueError):
        agent.tags[::2] = [1, 2, 3]
    assert memory.pending == ()


# ---- commits and the past


def test_labels_times_and_commits_say_when(memory: Memory) -> None:
    agent = memory.create("Agent", n=1)
    first = memory.commit("begin", timestamp=datetime(2020, 1, 1, tzinfo=UTC))
    agent.n = 2
    memory.commit("middle", timestamp=datetime(2021, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    agent.n = 3
    memory.commit("begin", timestamp=1640995200)
    assert memory.at("begin")[1].n == 3 and memory.at(first)[1].n == 1
    assert memory.at(datetime(2021, 6, 1, tzinfo=UTC))[1].n == memory.at(1622505600.0)[1].n == 2
    assert memory.commits()[1].meta == {"timestamp": "2021-01-01T00:00:00+02:00"}
    assert len(memory.at(0)) == 0 and memory.at(2).commit.label == "middle" and memory.at(0).commit is None
    for when in (4, -1, "never", 1e300, float("nan"), datetime(2019, 1, 1, tzinfo=UTC)):
        with pytest.raises(CommitNotFoundError):
            memory.at(when)
    with pytest.raises(TypeError):
        memory.at(True)
    with pytest.raises(InvalidValueError, match="aware"):
        agent.n = 4
        memory.commit(timestamp=datetime(2020, 1, 1))


def test_a_commit_without_a_timestamp_is_found_by_the_logs_time(memory: Memory) -> None:
    memory.create("Agent")
    before = datetime.now(UTC)
    memory.commit()
    assert memory.at(datetime.now(UTC) + timedelta(seconds=1)).id == 1
    with pytest.raises(CommitNotFoundError):
        memory.at(before - timedelta(days=1))
    assert memory.commits()[0].meta == {}


@pytest.mark.parametrize("meta", [{"a": object()}, {"a": float("nan")}, {"a": b""}])
def test_meta_is_what_json_can_hold(memory: Memory, meta: dict) -> None:
    memory.create("Agent")
    with pytest.raises(InvalidValueError):
        memory.commit(meta=meta)
    assert memory.head == 0 and len(memory.pending) == 1


def test_labels_are_text(memory: Memory) -> None:
    memory.create("Agent")
    for label in (5, "\ud800"):
        with pytest.raises(InvalidValueError):
            memory.commit(label)  # type: ignore[arg-type]
    assert memory.commit("x" * 100_000).label == "x" * 100_000
    assert memory.at("x" * 100_000).id == 1


def test_past_handles_resolve_references_at_their_commit(memory: Memory) -> None:
    a = memory.create("Agent", n=1)
    b = memory.create("Agent", friend=a)
    memory.commit()
    a.n = 2
    memory.delete(b)
    memory.commit()
    past = memory.at(1)
    assert past[b.id].friend.n == 1 and not past[b.id].deleted and past[b.id].friend != a
    assert memory[b.id].friend.n == 2 and memory[b.id].deleted and b not in memory and b.id in memory.at(1)


def test_a_diff_for_people(memory: Memory) -> None:
    a = memory.create("Agent", goal="Explore", lives=3)
    memory.commit()
    a.goal = "Rest"
    del a.lives
    b = memory.create("Task", of=a)
    memory.commit()
    memory.delete(b)
    assert str(memory.diff(1, 2)) == (
        '~ Agent 1 (changed)\n  - goal = "Explore"\n  + goal = "Rest"\n  - lives = 3\n+ Task 2 (created)\n  + of = @1'
    )
    assert str(memory.diff(2, 1)).splitlines()[-2:] == ["- Task 2 (removed)", "  - of = @1"]
    assert str(memory.diff()) == "x Task 2 (deleted)"
    assert memory.diff(1, 2).to_dict()[0]["fields"]["lives"] == {"old": 3}
    assert not memory.diff(2, 2) and len(memory.diff(1, 2)) == 2


def test_revert(memory: Memory) -> None:
    a = memory.create("Agent", goal="Explore")
    memory.commit()
    a.goal = "Rest"
    a.mood = "calm"
    memory.commit()
    commit = memory.revert(2)
    assert (commit.id, commit.label, commit.meta) == (3, "Revert commit 2", {"reverts": 2})
    assert a.fields == {"goal": "Explore"}
    with pytest.raises(RevertError, match="changed since"):
        memory.revert(2)
    memory.delete(a)
    memory.commit()
    for when in (1, 2, 4):
        with pytest.raises(RevertError):
            memory.revert(when)
    assert memory.pending == () and memory.head == 4
    with pytest.raises(CommitNotFoundError):
        memory.revert(9)


# ---- walks


@pytest.fixture
def ring(memory: Memory) -> Memory:
    """1 -> 2 -> 3 -> 1, 1 -> 3, 3 -> 4, and 5 alone."""
    nodes = [memory.create("Node") for _ in range(5)]
    nodes[0].to = [nodes[1], nodes[2]]
    nodes[1].to = nodes[2]
    nodes[2].to = {"back": nodes[0], "on": nodes[3]}
    return memory


def test_walks(ring: Memory) -> None:
    def ids(nodes) -> list[int]:
        return [node.id for node in nodes]

    assert ids(ring.walk(1)) == [1, 2, 3, 4]
    assert ids(ring.walk(1, "depth")) == [1, 2, 3, 4]
    assert ids(ring.walk(3, "depth")) == [3, 1, 2, 4]
    assert ids(ring.walk(3)) == [3, 1, 4, 2]
    assert ids(ring.walk(1, depth=1)) == [1, 2, 3] and ids(ring.walk(1, "depth", depth=0)) == [1]
    assert [ids(path) for path in ring.paths(1, 4)] == [[1, 3, 4], [1, 2, 3, 4]]
    assert [ids(path) for path in ring.paths(1, 4, depth=2)] == [[1, 3, 4]]
    assert list(ring.paths(1, 5)) == [] and [ids(path) for path in ring.paths(5, 5)] == [[5]]
    assert ids(ring.referrers(3)) == [1, 2]
    assert [(path, node.id) for path, node in ring.references(3)] == [("to['back']", 1), ("to['on']", 4)]
    with pytest.raises(NodeNotFoundError):
        ring.walk(9)
    with pytest.raises(ValueError, match="breadth"):
        ring.walk(1, "wide")


def test_long_chains_need_no_stack(memory: Memory) -> None:
    last = memory.create("Node")
    for _ in range(3000):
        last = memory.create("Node", to=last)
    assert sum(1 for _ in memory.walk(last, "depth")) == 3001
    assert len(next(memory.paths(last, 1))) == 3001


# ---- exports


def test_exports(ring: Memory) -> None:
    ring[5].text = 'a "quote", \\ and <tag> & \x01\n'
    ring.delete(5)
    entries = json.loads(ring.export("json"))
    assert entries["1"] == {"type": "Node", "fields": {"to": [{"@": 2}, {"@": 3}]}, "deleted": False}
    root = ElementTree.fromstring(ring.export("graphml"))
    space = "{http://graphml.graphdrawing.org/xmlns}"
    assert len(root.findall(f".//{space}node")) == 5
    edges = [(edge.get("source"), edge.get("target")) for edge in root.findall(f".//{space}edge")]
    assert edges == [("n1", "n2"), ("n1", "n3"), ("n2", "n3"), ("n3", "n1"), ("n3", "n4")]
    dot = ring.export("dot")
    assert dot.startswith("digraph memory {\n") and dot.count(" -> ") == 5 and "style=dashed" in dot
    with pytest.raises(ValueError, match="graphml"):
        ring.export("yaml")


@pytest.mark.parametrize("value", [Ref(3), {"@": 3}, {"@": {"@": 3}}, {"@": {"k": Ref(1)}}, [{"@": "x", "k": 1.5}], {}])
def test_values_as_json_and_back(value: object) -> None:
    assert from_json_value(json.loads(json.dumps(json_value(value)))) == value


def test_from_dict_refuses_what_no_graph_is(memory: Memory) -> None:
    for graph in (
        {-1: {"type": "A"}},
        {1: {"type": "A", "fields": {"a": None}}},
        {1: {"type": "A", "fields": {"a": Ref(2)}}},
    ):
        with pytest.raises(MyosotisError):
            Memory.from_dict(graph)


# ---- callbacks


def test_watchers_are_told_after_the_commit(memory: Memory) -> None:
    a, b = memory.create("Agent", n=0), memory.create("Agent")
    memory.commit()
    told: list = []
    watch = memory.watch(a, lambda commit, change: told.append((commit.id, change.kind, change.fields[0].new)))
    memory.subscribe(lambda commit: told.append(commit.id))
    a.n = 1
    memory.commit()
    b.n = 1
    memory.commit()
    assert told == [(2, "changed", 1), 2, 3]
    watch.cancel()
    watch.cancel()
    a.n = 2
    memory.commit()
    assert told[3:] == [4]


def test_callbacks_that_raise_commit_or_cancel(memory: Memory, caplog) -> None:
    told: list = []
    node = memory.create("Agent", n=0)

    def commits(commit) -> None:
        told.append(("first", commit.id))
        if commit.id < 3:
            node.n += 1
            memory.commit()
        second.cancel()

    def raises(commit) -> None:
        raise RuntimeError("no")

    memory.subscribe(raises)
    memory.subscribe(commits)
    second = memory.subscribe(lambda commit: told.append(("second", commit.id)))
    with caplog.at_level(logging.ERROR, logger="myosotis"):
        memory.commit()
    assert memory.head == 3 and told == [("first", 1), ("first", 2), ("first", 3)]
    assert len(caplog.records) == 3
