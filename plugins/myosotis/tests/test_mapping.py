"""Dataclasses as nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import Memory, Ref
from myosotis.errors import InvalidValueError
from myosotis.mapping import load, save


@dataclass
class Place:
    x: float
    y: float = 0.0


@dataclass
class Agent:
    name: str
    energy: float = 1.0
    lives: int = 3
    tags: list[str] = field(default_factory=list)
    friend: Ref | None = None
    at: Place | None = None
    notes: dict[str, int | str] = field(default_factory=dict)
    anything: Any = None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
AGENTS = st.builds(
    Agent,
    TEXT,
    FLOATS,
    st.integers(-(2**63), 2**63 - 1),
    st.lists(TEXT),
    st.just(Ref(1)) | st.none(),
    st.builds(Place, FLOATS, FLOATS) | st.none(),
    st.dictionaries(TEXT, TEXT | st.integers(0, 9)),
    TEXT | st.none(),
)


@given(AGENTS, AGENTS)
def test_what_is_saved_is_loaded(first: Agent, second: Agent) -> None:
    with Memory.open() as memory:
        memory.create("World")
        node = save(memory, first)
        assert load(Agent, node) == first
        memory.commit()
        save(memory, second, node)
        assert load(Agent, node) == second
        changed = {m.key for m in memory.pending}
        assert changed <= {key for key in vars(first) if getattr(first, key) != getattr(second, key)} | {"energy", "at"}


def test_only_what_differs_is_set() -> None:
    with Memory.open() as memory:
        node = save(memory, Agent("Iris", at=Place(1.0)))
        memory.commit()
        save(memory, Agent("Iris", at=Place(1.0)), node)
        assert memory.pending == ()


@pytest.mark.parametrize(
    ("agent", "path"),
    [
        (Agent(5), "Agent.name"),  # type: ignore[arg-type]
        (Agent("a", lives=True), "Agent.lives"),
        (Agent("a", lives=1.0), "Agent.lives"),  # type: ignore[arg-type]
        (Agent("a", tags=["x", 1]), "Agent.tags[1]"),  # type: ignore[list-item]
        (Agent("a", at=Place("far")), "Agent.at.x"),  # type: ignore[arg-type]
        (Agent("a", notes={"k": None}), "Agent.notes['k']"),  # type: ignore[dict-item]
    ],
)
def test_refused_on_the_way_in(agent: Agent, path: str) -> None:
    with Memory.open() as memory:
        with pytest.raises(InvalidValueError) as caught:
            save(memory, agent)
        assert caught.value.path.startswith(path)
        assert memory.pending == ()


def test_refused_on_the_way_out() -> None:
    with Memory.open() as memory:
        with pytest.raises(InvalidValueError, match="is a World"):
            load(Agent, memory.create("World"))
        with pytest.raises(InvalidValueError, match="name"):
            load(Agent, memory.create("Agent", energy=1.0))
        with pytest.raises(InvalidValueError, match="Agent.energy"):
            load(Agent, memory.create("Agent", name="a", energy="much"))


def test_an_integer_is_a_float_where_one_is_wanted() -> None:
    with Memory.open() as memory:
        node = save(memory, Agent("a", energy=2))
        assert type(node.energy) is float


def test_handles_become_references() -> None:
    with Memory.open() as memory:
        iris = save(memory, Agent("Iris"))
        other = save(memory, Agent("Otto", friend=iris))  # type: ignore[arg-type]
        assert other.friend == iris
        assert load(Agent, other).friend == Ref(iris.id)


def test_what_is_no_dataclass() -> None:
    with Memory.open() as memory, pytest.raises(TypeError):
        save(memory, {"name": "Iris"})
