"""What is stale stays stale: after a crash, after reopening, in forks, whatever waves came in between."""

import shutil

import mmsb
from mmsb import links


def stale_of(state):
    return {page.page_id for page in state.pages() if state._is_stale(page.page_id)}


def test_a_wave_of_a_later_session_does_not_cover_what_an_earlier_one_left(tmp_path):
    with mmsb.open(tmp_path / "a") as state:
        left, right = state.create_page(8, name="left"), state.create_page(8, name="right")
        below_left, below_right = state.create_page(8), state.create_page(8)
        state.depend(below_left, on=left, link=links.passthrough())
        state.depend(below_right, on=right, link=links.passthrough())
        with state.deferred():
            left.write(b"a")
            state.sync()
            shutil.copytree(tmp_path / "a", tmp_path / "b")
    with mmsb.open(tmp_path / "b") as state:
        assert stale_of(state) == {below_left.page_id}
        state.page("right").write(b"b")
        assert stale_of(state) == {below_left.page_id}
        with state.fork() as fork:
            assert stale_of(fork) == {below_left.page_id}
    with mmsb.open(tmp_path / "b") as state:
        assert stale_of(state) == {below_left.page_id}
        state.propagate()
        assert not stale_of(state) and state.page(below_left.page_id).read(0, 1) == b"a"


def test_a_control_edge_to_a_stale_page_tells_of_changes_to_come(tmp_path):
    with mmsb.open(tmp_path / "a") as state:
        source, computed, controlled = (state.create_page(8) for _ in range(3))
        state.depend(computed, on=source, fn=lambda out, parent: parent)
    with mmsb.open(tmp_path / "a") as state:
        assert stale_of(state) == {computed.page_id}
        state.depend(controlled.page_id, on=computed.page_id, kind="control")
        assert stale_of(state) == {computed.page_id}
        with state.fork() as fork:
            assert stale_of(fork) == {computed.page_id}


def test_computing_one_page_leaves_what_else_is_stale(tmp_path):
    with mmsb.open(policy="lazy") as state:
        first, second, from_first, from_second, both = (state.create_page(8) for _ in range(5))
        state.depend(from_first, on=first, link=links.passthrough())
        state.depend(from_second, on=second, link=links.passthrough())
        state.depend(both, on=[from_first, from_second], link=links.semiring("plus-times", "uint8"))
        state.propagate()
        first.write(b"\1")
        second.write(b"\2")
        assert from_first.read(0, 1) == b"\1"
        assert stale_of(state) == {from_second.page_id, both.page_id}
        with state.fork() as fork:
            assert stale_of(fork) == {from_second.page_id, both.page_id}
        assert both.read(0, 1) == b"\3" and not stale_of(state)
