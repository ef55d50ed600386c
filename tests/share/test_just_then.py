"""Views that look just when something comes: a segment of the log, or a commit of which half is told."""

import os

import pytest

import mmsb


@pytest.fixture
def rolling():
    """A view whose thread takes no message, and what puts commits into a segment that the view has not heard of."""
    with mmsb.open(name="rolling", segment_bytes=4096) as state:
        page = state.create_page(100)
        state.serve()
        with mmsb.attach("rolling") as view, view._connection.lock:

            def roll():
                segments = len(state._log.segments)
                while len(state._log.segments) == segments:
                    page.write((state.seq + 1).to_bytes(4, "little") * 25)
                assert state._log.segments[-2].tail < 4096, "room is left, or else the bound is the tail"

            yield view, roll


@pytest.mark.parametrize("look", [lambda view: view.log(), lambda view: view.follow(since=1, timeout=0)])
def test_a_segment_comes_just_before_one_looks(rolling, look):
    view, roll = rolling
    keep_up, rolls = view._keep_up, iter([roll])
    view._keep_up = lambda: next(rolls, keep_up)()
    assert [commit.seq for commit in look(view)] == list(range(1, view.seq + 1))


def test_a_segment_comes_while_one_looks(rolling):
    """What was the last segment has a tail then that is only a bound."""
    view, roll = rolling
    buffer, rolls = view._log.buffer, iter([roll])

    def buffer_then_roll(segment):
        data = buffer(segment)
        next(rolls, view._keep_up)()
        view._keep_up()
        return data

    view._log.buffer = buffer_then_roll
    seq = view.seq
    assert [commit.seq for commit in view.log(until=seq)] == list(range(1, seq + 1))


def test_a_segment_comes_before_one_knows_where_the_last_one_ends(rolling):
    view, roll = rolling
    settle, rolls, seq = view._log.settle, iter([roll]), view.seq
    view._log.settle = lambda: (next(rolls, int)(), settle())
    assert [commit.seq for commit in view.log(until=seq)] == list(range(1, seq + 1))


def own_mapping(state):
    """Address of the page that the owner shares, where it writes it."""
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
        for line in maps:
            if " rw-s " in line and "memfd" in line:
                address = int(line.split("-")[0], 16)
                memory.seek(address)
                if memory.read(4096) == os.pread(state._server.sharing.shared_fd, 4096, 0):
                    return address
    raise AssertionError("there is none")


def test_a_seq_is_there_before_its_place():
    """The owner stores the seq of a commit, and then up to where the log is applied; a view may look in between."""
    with mmsb.open(name="late") as state, open("/proc/self/mem", "r+b", buffering=0) as memory:
        state.create_page(8, name="early")
        state.serve()
        applied = own_mapping(state) + 128
        view = mmsb.attach("late")
        memory.seek(applied)
        before = memory.read(8)
        state.create_page(8, name="late")
        memory.seek(applied)
        after = memory.read(8)
        assert after != before
        memory.seek(applied)
        memory.write(before)
        assert view.seq == 2 and view.page("late").page_id == 2
        assert [commit.seq for commit in view.log()] == [1, 2] and len(view.at(2).pages()) == 2
        memory.seek(applied)
        memory.write(after)
        assert view.page("late").page_id == 2
        view.close()
