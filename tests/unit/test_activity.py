"""What `mmsb top` counts, commit by commit, by a clock that stands where it is put."""

import pytest

import mmsb
from mmsb import links
from mmsb.cli.dashboard.activity import COLD_BYTES_PER_S, HISTORY_INTERVALS, Activity, Hot


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def activity(clock):
    return Activity(clock, half_life_s=2.0)


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


@pytest.fixture
def told(state, activity):
    """Feeds what was committed since the last time; the commits."""
    last = 0

    def feed():
        nonlocal last
        commits = list(state.log(since=last + 1))
        for commit in commits:
            activity.see(commit)
        last = state.seq
        return commits

    return feed


def test_rates_of_an_interval(state, activity, told, clock):
    a, b = state.create_page(64, name="a"), state.create_page(64)
    a.write(b"12345678")
    a.write(b"x", at=20)
    with state.batch() as batch:
        batch.write(a, b"y", at=30)
        batch.write(b, b"1234")
    log_bytes = sum(commit.nbytes for commit in told())
    clock.now += 4.0
    sample = activity.sample()
    assert (sample.seconds, sample.commits, sample.commits_per_s, sample.looked_at) == (4.0, 5, 1.25, 1.0)
    assert sample.log_bytes_per_s == log_bytes / 4
    # Two half lives: what was at no heat has come to three quarters of the rate.
    assert sample.hot == (Hot(a.id, 10 / 4 * 0.75, 3 / 4, 10 / 4, 5), Hot(b.id, 4 / 4 * 0.75, 1 / 4, 1.0, 5))


def test_each_interval_counts_for_itself_and_heat_fades(state, activity, told, clock):
    a, b = state.create_page(64), state.create_page(64)
    a.write(b"12345678")
    told()
    clock.now += 2.0
    first = activity.sample()
    b.write(b"12")
    told()
    clock.now += 2.0
    second = activity.sample()
    assert (first.hot[0].heat, second.hot[0].heat) == (2.0, 1.0) and second.hot[0].changes_per_s == 0
    assert second.hot[1] == Hot(b.id, 0.5, 0.5, 1.0, 4)
    clock.now += 1000.0
    third = activity.sample()
    assert third.hot == () and third.commits_per_s == 0 and activity.pages == {}
    assert second.commits_history + (0.0,) == third.commits_history == (1.5, 0.5, 0.0)
    assert third.log_history[-1] == 0 and len(third.log_history) == 3


def test_a_steady_rate_is_its_heat(state, activity, told, clock):
    page = state.create_page(8)
    told()
    for n in range(40):
        page.write(bytes([n + 1]))
        told()
        clock.now += 1.0
        sample = activity.sample()
    assert sample.hot[0].heat == pytest.approx(1.0, rel=1e-5)


def test_pages_are_sorted_by_heat_and_forgotten_when_cold_or_deleted(state, activity, told, clock):
    pages = [state.create_page(64) for _ in range(4)]
    for page, count in zip(pages, (3, 9, 9, 1), strict=True):
        page.write(b"x" * count)
    told()
    pages[0].delete()
    told()
    clock.now += 1.0
    assert [hot.page_id for hot in activity.sample().hot] == [2, 3, 4]
    clock.now += 2 * 40
    assert activity.sample().hot == () and 2**-40 * 9 < COLD_BYTES_PER_S
    pages[3].write(b"y")
    told()
    clock.now += 1.0
    assert [hot.page_id for hot in activity.sample().hot] == [4]


def test_waves(state, activity, told, clock):
    a, b, c = (state.create_page(8, name=name) for name in "abc")

    def pick(out, parent):
        if parent[0] == 3:
            raise ValueError("three")
        out[:] = parent

    state.depend(b, on=a, link=links.passthrough())
    state.depend(c, on=b, fn=pick)
    told()
    clock.now += 1.0
    activity.sample()

    a.write(b"\1")
    with state.batch() as batch:
        batch.write(a, b"\2")
    told()
    clock.now += 2.0
    waves = activity.sample().waves
    assert (waves.per_s, waves.pages_per_s, waves.pages_per_wave, waves.pages_most) == (1.0, 2.0, 2.0, 2)
    assert waves.failing == {}

    a.write(b"\3")
    told()
    clock.now += 1.0
    waves = activity.sample().waves
    assert (waves.per_s, waves.pages_per_wave, waves.failing) == (1.0, 1.0, {c.id: "ValueError: three"})
    clock.now += 1.0
    waves = activity.sample().waves
    assert (waves.per_s, waves.pages_per_wave, waves.pages_most) == (0.0, None, 0)
    assert waves.failing == {c.id: "ValueError: three"}, "it still does"

    a.write(b"\4")
    told()
    clock.now += 1.0
    assert activity.sample().waves.failing == {}
    a.write(b"\3")
    told()
    state.undepend(c)
    c.delete()
    told()
    clock.now += 1.0
    assert activity.sample().waves.failing == {}


def test_what_is_skipped_counts_as_commits_only(state, activity, told, clock):
    state.create_page(8)
    told()
    activity.skip(3)
    clock.now += 2.0
    sample = activity.sample()
    assert (sample.commits, sample.commits_per_s, sample.looked_at) == (4, 2.0, 0.25)
    assert sample.log_bytes_per_s == next(state.log()).nbytes / 2
    clock.now += 1.0
    assert activity.sample().looked_at == 1.0


def test_it_forgets_and_its_histories_are_bounded(state, activity, told, clock):
    page = state.create_page(8)
    page.write(b"x")
    told()
    for _ in range(HISTORY_INTERVALS + 5):
        clock.now += 0.5
        activity.sample()
    assert len(activity.sample().commits_history) == HISTORY_INTERVALS
    page.write(b"y")
    told()
    clock.now += 10.0
    activity.forget()
    clock.now += 1.0
    sample = activity.sample()
    assert (sample.seconds, sample.commits, sample.hot, sample.waves.failing) == (1.0, 0, (), {})
    assert len(sample.commits_history) == HISTORY_INTERVALS


def test_no_time_has_passed(activity):
    assert activity.sample().commits_per_s == 0
