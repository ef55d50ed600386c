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


def test_what_a_partial_wave_computed_counts_in_the_next_whole_one():
    with mmsb.open(policy="lazy") as state:
        first, second, third = (state.create_page(8) for _ in range(3))
        state.depend(second, on=first, link=links.passthrough())
        state.depend(third, on=second, link=links.passthrough())
        state.propagate()
        first.write(b"1")
        second.read()
        first.write(b"2", at=5)
        state.propagate()
        assert third.read() == second.read() == first.read()
        assert not state.verify(recompute=True).findings


def test_what_was_written_before_a_page_is_computed_counts_for_its_children():
    with mmsb.open() as state:
        first, second, third = (state.create_page(8) for _ in range(3))
        third.write(b"another!")
        state.depend(second, on=first, link=links.passthrough())
        with state.deferred():
            first.write(b"1")
            state.depend(first, on=third, link=links.copy([(0, 4, 4, 4)]))
        assert second.read() == first.read() == b"1\0\0\0her!"


def test_the_cause_of_a_wave_is_the_commit_that_set_it_off():
    with mmsb.open(policy="deferred") as state:
        source, child, other = (state.create_page(8) for _ in range(3))
        state.depend(child, on=source, link=links.passthrough())
        state.propagate()
        cause = source.write(b"1").seq
        other.write(b"2")
        state.propagate()
        assert [commit.cause for commit in state.log()][-1] == cause


def test_what_went_stale_by_a_link_that_has_gone_is_up_to_date_after_one_logged_wave():
    with mmsb.open() as state:
        source, first, second = (state.create_page(8) for _ in range(3))
        state.depend(first, on=source, link=links.passthrough())
        state.depend(second, on=first, link=links.passthrough())
        with state.deferred():
            source.write(b"1")
            state.undepend(first)
            seq = state.seq
            assert stale_of(state) == {second.page_id} and state._engine.pending == 1
        assert not stale_of(state) and [commit.cause for commit in state.log(since=seq + 1)] == [seq - 1]
        with state.fork() as fork:
            assert not stale_of(fork)
        with state.deferred():
            state.depend(first, on=source, link=links.passthrough())
            state.undepend(first)
            state.propagate()
            with state.fork() as fork:
                assert not stale_of(state) and not stale_of(fork)
        assert second.read() == first.read()


def test_a_change_that_nobody_follows_any_more_sets_off_no_wave():
    with mmsb.open() as state:
        source, child, other, failing = (state.create_page(8) for _ in range(4))
        state.depend(child, on=source, link=links.passthrough())
        state.depend(failing, on=other, fn=lambda out, parent: 1 // 0)
        with state.deferred():
            source.write(b"1")
            state.undepend(child)
            seq = state.seq
            assert state._engine.pending == 0
        assert state.seq == seq and stale_of(state) == {failing.page_id}


def test_another_function_makes_nothing_else_stale(tmp_path):
    """It is registered without a commit, so nobody who reads the log can know of it."""
    with mmsb.open(tmp_path / "a") as state:
        source, computed, below = (state.create_page(8) for _ in range(3))
        state.depend(computed, on=source, fn=lambda out, parent: parent)
        state.depend(below, on=computed, link=links.passthrough())
        with state.deferred():
            state.depend(computed, on=source, fn=lambda out, parent: b"another!")
            assert stale_of(state) == {computed.page_id}
            with state.fork() as fork:
                assert stale_of(fork) == {computed.page_id}
        assert not stale_of(state) and below.read() == b"another!"


def test_writing_a_controlled_page_covers_no_commit_that_came_before_it():
    with mmsb.open() as state:
        source, controlled = state.create_page(8), state.create_page(8)
        state.depend(controlled, on=source, kind="control")
        source.write(b"1")
        with state.deferred():
            source.write(b"2")
            with state.fork() as fork:
                for each in (state, fork):
                    each.page(controlled.page_id).write(b"seen")
                    assert stale_of(each) == {controlled.page_id}


def test_what_failed_in_an_earlier_session_is_tried_once_what_it_is_computed_from_has_changed(tmp_path):
    """Also when a wave over another page came between, which tells of all that opening found stale."""
    with mmsb.open(tmp_path / "a") as state:
        source, controlled, below, other = (state.create_page(8) for _ in range(4))
        state.depend(controlled, on=source, kind="control")
        state.depend(below, on=controlled, link=links.passthrough())
        source.write(b"1")  # nobody computes the controlled page, so what depends on it cannot be computed
        assert stale_of(state) == {controlled.page_id, below.page_id}
    with mmsb.open(tmp_path / "a", policy="lazy") as state:
        below, controlled, other = (state.page(page.page_id) for page in (below, controlled, other))
        state.undepend(controlled, kind="control")
        assert stale_of(state) == {below.page_id}
        with state.batch() as batch:
            batch.write(controlled, b"2")
            batch.depend(other, on=controlled, link=links.passthrough())
        assert other.read(0, 1) == b"2" and stale_of(state) == {below.page_id}
        assert below.read(0, 1) == b"2" and not stale_of(state)
