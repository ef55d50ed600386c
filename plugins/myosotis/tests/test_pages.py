"""The graph as pages of mmsb: waves, events, replay, and commits of the State that are not the memory's."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from myosotis import Memory, decode_node
from myosotis.errors import MalformedFileStructureError, NodeNotFoundError

import mmsb

EXAMPLE = Path(__file__).parent.parent / "examples" / "total_cost.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are not here")
def test_the_example(capsys) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out == "total: 8\ntotal: 44\ncomputed because of commit 2\n"


@pytest.mark.parametrize("stored", [False, True])
def test_waves_and_other_commits_between(tmp_path, stored: bool) -> None:
    path = tmp_path / "m.mmsb" if stored else None
    memory = Memory.open(path)
    node = memory.create("Counter", n=0)
    memory.commit("begin")
    page = memory.state.create_page(8, name="copy")
    memory.state.depend(
        page, on=memory.page(node), fn=lambda out, data: decode_node(bytes(data)).fields["n"].to_bytes(8)
    )
    other = memory.state.create_page(8)
    for n in range(1, 40):
        node.n = n
        memory.commit(f"at {n}")
        assert int.from_bytes(page.read()) == n
        if n % 7 == 0:
            other.write(n.to_bytes(8))
            memory.create("Thing", of=node)
            memory.commit(f"thing {n}")
    expected = [commit.label for commit in memory.commits()]
    for _ in range(2):
        assert memory.head == len(expected) == 45
        for commit_id in range(1, memory.head + 1):
            assert memory.store.id_of(memory.store.seq_of(commit_id)) == commit_id
            label = expected[commit_id - 1]
            assert memory.at(label).id == commit_id
            if label.startswith("at "):
                assert memory.at(commit_id)[1].n == int(label[3:])
        assert memory.commits_from(43) == memory.commits()[42:]
        assert [c.label for c in memory.history(1, "n")][1:] == [f"at {n}" for n in range(1, 40)]
        assert memory.verify().ok
        if not stored:
            break
        memory.close()
        memory = Memory.open(path)
    memory.close()


def test_events_and_replay() -> None:
    with Memory.open() as memory:
        node = memory.create("Counter", n=0)
        memory.commit()
        seen: list[int] = []
        told = memory.state.subscribe(
            "page_changed", lambda event: seen.append(event.page_id), pages=[memory.page(node).page_id]
        )
        node.n = 1
        memory.commit()
        memory.state.unsubscribe(told)
        core = memory.state.replay()
        assert decode_node(bytes(core._page_bytes(memory.page(node).page_id))).fields == {"n": 1}
    assert seen == [memory_page for memory_page in seen if memory_page] and len(seen) == 1


def test_another_process_sees_the_nodes(tmp_path) -> None:
    with Memory.open(tmp_path / "m.mmsb") as memory:
        node = memory.create("Agent", goal="Explore")
        memory.commit()
        memory.state.serve()
        with mmsb.attach(str(tmp_path / "m.mmsb")) as view:
            page = view.page(memory.page(node).page_id)
            assert decode_node(page.read()).fields == {"goal": "Explore"}
            node.goal = "Rest"
            memory.commit()
            assert decode_node(page.read()).fields == {"goal": "Rest"}


def test_a_staged_node_has_no_page_yet() -> None:
    with Memory.open() as memory, pytest.raises(NodeNotFoundError):
        memory.page(memory.create("Agent"))


def test_a_page_grows_with_its_node_and_is_cleared_when_it_shrinks() -> None:
    with Memory.open() as memory:
        node = memory.create("Agent")
        memory.commit()
        page_id = memory.page(node).page_id
        for length in (10, 1000, 5, 100_000, 0):
            node.text = "x" * length
            memory.commit()
            assert memory.page(node).page_id == page_id
            assert decode_node(memory.page(node).read()).fields == {"text": "x" * length}
        assert memory.page(node).read().rstrip(b"\0").count(b"x") == 1  # that of the key


def test_damaged_pages_are_told() -> None:
    with Memory.open() as memory:
        node = memory.create("Agent", goal="Explore")
        memory.commit()
        memory.page(node).write(b"\xff", at=17)
        found = memory.verify()
        assert not found.ok
        with pytest.raises(MalformedFileStructureError):
            memory.at(1).page_bytes = decode_node(memory.page(node).read())
