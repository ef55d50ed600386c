"""Exceptions that a signal handler raises, Ctrl-C above all: they strike between any two lines and break nothing."""

import sys
from contextlib import contextmanager
from linecache import getline

import mmsb
from tests.unit.test_readers import write_on


class Interruption(BaseException):
    """What a signal handler raises."""


@contextmanager
def interrupted(file, nth):
    """Raises before the nth line that runs in a module; not at the ends of `with`, where no signal handler runs."""
    left = [nth]

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith(file):
            return None
        if event == "line" and not getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
            left[0] -= 1
            if left[0] == 0:
                raise Interruption
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(before)


def test_an_interrupted_sync_leaves_the_anchors_right(tmp_path):
    """Ctrl-C may strike anywhere. What was anchored by halves would be called a changed history ever after."""
    struck = 0
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        for nth in range(1, 200):
            write_on(state, 2)
            try:
                with interrupted("mmsb/anchors.py", nth) as left:
                    state.sync()
            except Interruption:
                struck += 1
            assert left[0] > 0 or struck == nth
            if left[0] > 0:
                break
            write_on(state, 1)
            state.sync()
        assert 20 < struck < 199 and not state.verify().findings
    with mmsb.open(tmp_path / "s") as state:
        assert not state.verify().findings


def test_a_view_keeps_its_bytes_whatever_happens_in_the_commit_that_takes_the_page():
    """Nothing there runs Python that a handler could interrupt."""
    with mmsb.open() as state:
        page = state.create_page(100, data=b"last bytes")
        view = page.view()
        with interrupted("weakref.py", 1) as left:
            page.delete()
        assert left[0] == 1
        for _ in range(5):
            state.create_page(100, data=b"something else")
        assert bytes(view[:10]) == b"last bytes" and state._check() is None
        del view
        slots = state.stats()["arena"]
        assert state._check() is None and slots["allocations"] - slots["frees"] == 5
