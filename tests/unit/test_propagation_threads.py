"""Waves beside other threads: one frame at a time, nothing lost, and the store opens again."""

import threading

import pytest

import mmsb
from mmsb import links

ROUNDS = 400


def fill(state, what):
    """Commits of the other thread."""
    for number in range(1, ROUNDS):
        content = number.to_bytes(8, "little")
        if what == "batch":
            with state.batch() as batch:
                batch.write("other", content)
        elif what == "edit":
            with state.page("other").edit() as copy:
                copy[:] = content
        else:
            state.page("other").write(content, if_epoch=state.page("other").epoch)


@pytest.mark.parametrize("what", ["batch", "edit", "if_epoch"])
@pytest.mark.parametrize("how", ["deferred", "control", "links", "policy", "one by one"])
def test_waves_and_commits_of_another_thread_take_turns(tmp_path, what, how):
    with mmsb.open(tmp_path / "s") as state:
        for name in ("source", "computed", "other", "told"):
            state.create_page(8, name=name)
        state.depend("computed", on="source", link=links.passthrough())
        if how == "control":
            state.depend("told", on="source", kind="control")
        if how == "policy":
            state.policy = "deferred"
        thread = threading.Thread(target=fill, args=(state, what))
        thread.start()
        number = 0
        while thread.is_alive() and number < 5 * ROUNDS:
            number += 1
            content = number.to_bytes(8, "little")
            if how == "deferred":
                with state.deferred():
                    state.page("source").write(content)
            elif how == "links":
                state.depend("told", on="source", link=links.passthrough())
                state.undepend("told")
            else:
                state.page("source").write(content, propagate=how != "one by one" or number % 2 == 0)
                if how == "policy":
                    state.propagate()
        thread.join()
        state.propagate()
        assert state.page("computed").read() == state.page("source").read()
        assert int.from_bytes(state.page("other").read(), "little") == ROUNDS - 1
        digest = state.digest()
        assert not state.verify(recompute=True).findings
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest


def test_an_anchor_does_not_take_the_place_of_a_wave_that_waits_for_a_segment(tmp_path, monkeypatch, rng):
    """Another thread comes in as soon as there is a new segment, and appends to the log."""
    threads = []
    make_room = mmsb.State._make_room

    def make_room_and_wait(state):
        make_room(state)
        thread = threading.Thread(target=state.sync)
        thread.start()
        thread.join(0.05)
        threads.append(thread)

    monkeypatch.setattr(mmsb.State, "_make_room", make_room_and_wait)
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        source, computed = state.create_page(300), state.create_page(300)
        state.depend(computed, on=source, link=links.passthrough())
        for _ in range(60):
            source.write(rng.randbytes(300))
            assert computed.read() == source.read()
        for thread in threads:
            thread.join()
        assert len(threads) > 5
        seq, content = state.seq, source.read()
        assert state.at(seq - 1).page(source).read() == content
    with mmsb.open(tmp_path / "s") as state:
        assert (state.seq, state.page(1).read(), state.page(2).read()) == (seq, content, content)
