"""SIGKILL at random instants, for owner and clients alike: nothing lost, nothing torn, no reader stuck.

Measure R2 of the reliability programme does the same ten thousand times.
"""

import time
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import mmsb
import mmsb.view
from tests.share import everyone
from tests.share.everyone import OWN, SETS, Ledger
from tests.share.stage import STUCK_NS, Nursery, Stage, check_log, check_successions

KILLS = 40


@pytest.fixture
def nursery():
    one = Nursery()
    yield one
    one.close()


def test_nothing_is_lost_or_torn(tmp_path, nursery, rng):
    tally, stage = Counter(), Stage(nursery, tmp_path / "stage", rng)
    try:
        for _ in range(2):
            done = 0
            stage.begin()
            while done < KILLS / 2:
                done += stage.strike(tally)
            stage.end(tally)
    finally:
        stage.close()
    print(*(f"{what}: {count}" for what, count in sorted(tally.items())), sep="\n")
    assert len(tally) == 12 and all(tally.values()), "something was never tried"


# ---- that it would be noticed


def test_what_is_lost_or_invented_is_noticed():
    found = {everyone.number_of(1, 1): 2, everyone.number_of(1, 2): 3}

    def check(notes, found=found):
        return check_log(found, [SimpleNamespace(role="writer", incarnation=1, notes=notes)])

    first, second, third = (everyone.number_of(1, n) for n in (1, 2, 3))
    assert check([(first, 2)]) == 1 and check([(first, 2), (second, 3)]) == 2
    for wrong in ([(third, 4)], [(first, 3)]):
        with pytest.raises(AssertionError, match="was acknowledged"):
            check(wrong)
    for wrong in ({second: 2}, {second: 2, first: 3}, {first: 2, third: 3}):
        with pytest.raises(AssertionError, match="left out"):
            check([], wrong)
    owners = [SimpleNamespace(role="owner", pid=pid, notes=[(0, seq)]) for pid, seq in ((1, 0), (2, 7))]
    assert check_successions([*owners, SimpleNamespace(role="reader", notes=[(1, 7)])], 7) == 1
    assert check_successions([*owners, SimpleNamespace(role="reader", notes=[(1, 8)])], 8) == 1
    for wrong, last in ((8, 7), (6, 9)):
        with pytest.raises(AssertionError, match=f"the last commit was {wrong}"):
            check_successions([*owners, SimpleNamespace(role="reader", notes=[(1, wrong)])], last)


def test_what_is_torn_is_noticed():
    ids = {name: place for place, name in enumerate((*OWN, *SETS), 1)}
    pages = {ids[name]: everyone.own(5) for name in OWN} | {ids[name]: everyone.whole(5, SETS[name]) for name in SETS}

    def look(seq=1, **changed):
        now = mmsb.view.Snapshot(seq, pages | {ids[name]: content for name, content in changed.items()}, ids)
        view, watch = SimpleNamespace(snapshot=lambda ids: now), nullcontext()
        everyone.look_at_all(view, ids, looked, watch)

    looked = everyone.Looked()
    look(2)
    for text, change in (
        ("mixes", {"s2": everyone.whole(6, 1024)}),
        ("mixes", {"s0": everyone.whole(5, 64)[:-1] + b"x"}),
        ("torn", {"w0": everyone.own(6)[:512] + everyone.own(5)[512:]}),
        ("went back", {"w0": everyone.own(4)}),
        ("seq went back", {"seq": 1}),
        ("half", {name: everyone.whole(6, size) for name, size in SETS.items()}),
    ):
        with pytest.raises(AssertionError, match=text):
            look(**{"seq": 2} | change)


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("how", [time.sleep, spin])
def test_a_reader_that_is_kept_is_noticed(tmp_path, how):
    """Whether it sleeps or spins: only the lack of a processor is discounted."""
    ledger = Ledger(tmp_path / "ledger", make=True)
    with everyone.Stopwatch(ledger):
        how(0.12)
    assert ledger[everyone.HELD_NS] > STUCK_NS and ledger[everyone.READS] == 1
