"""What a State holds goes with its last user, without waiting for Python's collector of cycles."""

import gc
import weakref

import numpy as np
import pytest

import mmsb
from tests.share.common import fds

PAGE_BYTES = 1 << 20


def rewritten(state):
    page = state.create_page(PAGE_BYTES, name="page")
    for n in range(4):
        page.write(bytes([n + 1]) * PAGE_BYTES)
    return page


def past(state):
    page = rewritten(state)
    assert len(list(state.log())) == 5 and page.at(2)[0] == 2
    assert state.at(state.seq - 1).page(page.id)[0] == 3
    assert state.last_write(page).seq == state.seq
    assert not state.verify().findings


def compacted(state):
    past(state)
    state.checkpoint()
    state.compact(before=state.seq)
    assert state.at(state.seq).page("page")[0] == 4


def told(state):
    seen = []
    state.subscribe("page_changed", seen.append)
    rewritten(state)
    assert seen


def linked(state):
    page = rewritten(state)
    state.depend(state.create_page(PAGE_BYTES), [page], fn=lambda parent: parent)
    page.write(b"x")


def served(state):
    rewritten(state)
    state.serve()
    with mmsb.attach(state.name) as view:
        view.page("page").write(b"x")


@pytest.fixture(autouse=True)
def no_collector(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


EITHER = (rewritten, past, told, linked)


@pytest.mark.parametrize(
    ("use", "stored"),
    [*((use, stored) for use in EITHER for stored in (False, True)), (served, False), (compacted, True)],
)
def test_a_closed_state_goes_with_its_last_name(tmp_path, use, stored):
    path = tmp_path / "s" if stored else None
    with mmsb.open(path, name="going" if use is served else None) as state:
        use(state)  # whatever is imported and kept once
    del state
    gc.collect()
    before = fds()
    for n in range(3):
        with mmsb.open(path and tmp_path / str(n), name="going" if use is served else None) as state:
            use(state)
        there = weakref.ref(state)
        del state
        assert there() is None
        assert fds() == before


@pytest.mark.parametrize("stored", [False, True])
def test_a_state_that_is_dropped_goes_as_well(tmp_path, stored):
    state = mmsb.open(tmp_path / "s" if stored else None)
    past(state)
    there = weakref.ref(state)
    del state
    assert there() is None


def test_what_shows_a_page_keeps_its_bytes_and_not_the_state():
    before = fds()
    with mmsb.open() as state:
        page = rewritten(state)
        shown = np.asarray(page.view())
    del state, page
    assert shown.nbytes == PAGE_BYTES and (shown == 4).all()
    del shown
    assert fds() == before
