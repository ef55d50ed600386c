"""Clocks that jump: the order of commits does not follow them, and no wait is longer or shorter for it."""

import itertools
import time

import mmsb

DAY = 86_400 * 10**9


def test_a_clock_that_jumps_moves_neither_order_nor_waits(monkeypatch):
    now = 1_700_000_000 * 10**9
    jumps = itertools.cycle([now, now + 400 * DAY, now - 400 * DAY, now + DAY, 1, now])
    with mmsb.open(name="jumps", clock=lambda: next(jumps)) as state:
        state.create_page(64, name="a")
        state.serve()
        with mmsb.attach("jumps") as view:
            # The client's wall clock goes back a year with each look.
            walls = itertools.count(now // 10**9, -365 * 86_400)
            monkeypatch.setattr(time, "time", lambda: float(next(walls)))
            monkeypatch.setattr(time, "time_ns", lambda: int(next(walls)) * 10**9)
            told = view.subscribe("page_changed", since=1, timeout=0.05)
            seqs = [view.page("a").write(n.to_bytes(8, "little"), timeout=10).seq for n in range(1, 21)]
            assert seqs == list(range(2, 22)) and view.durable_seq == 0
            times = [commit.time_ns for commit in view.log()]
            assert times == sorted(times) and len(times) == 21
            assert [event.seq for event in told] == seqs
            begun = time.monotonic()
            assert not view.wait(view.seq + 1, timeout=0.05)
            assert list(view.follow(timeout=0.05)) == []
            assert 0.1 <= time.monotonic() - begun < 10
            assert view.at(10).page("a").read(0, 1) == b"\x09"
            assert not state.verify().findings
