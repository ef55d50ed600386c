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
