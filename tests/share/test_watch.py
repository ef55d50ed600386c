"""What `mmsb top` looks at, when it cannot look at all of it."""

import mmsb
from mmsb.cli.dashboard import watch as watching
from mmsb.cli.dashboard.watch import Watch


def test_commits_that_there_is_no_time_for_are_skipped():
    with mmsb.open(name="fast") as state:
        page = state.create_page(8)
        state.serve()
        watch = Watch("fast", budget_s=0)
        for n in range(100):
            page.write(n.to_bytes(8, "little"))
        first = watch.look()
        assert first.sample.looked_at == 0 and first.sample.commits == state.seq - 1 == 99 and first.listed == ()
        watch.budget_s = 5.0
        page.write(b"x")
        assert watch.look().sample.looked_at == 1 and watch.last.listed[0].last_seq == state.seq
        watch.close()


def test_commits_that_are_no_longer_kept_are_skipped():
    with mmsb.open(name="short", history=4096, segment_bytes=4096) as state:
        page, other = state.create_page(8), state.create_page(8)
        state.serve()
        watch = Watch("short", budget_s=5.0)
        for n in range(1000):
            page.write(n.to_bytes(8, "little"))
        other.delete()
        sample = watch.look().sample
        assert 0 < sample.looked_at < 1 and sample.commits == state.seq - 2
        watch.close()


def test_an_owner_that_does_not_answer(monkeypatch):
    with mmsb.open(name="mute") as state:
        state.create_page(8)
        state.serve()
        watch = Watch("mute", budget_s=1.0)
        assert watch.look().owner["pages"] == 1
        monkeypatch.setattr("mmsb.owners.ANSWER_SECONDS", 0.05)
        server = state._server
        with server.lock:
            picture = watch.look()
        assert picture.alive and picture.owner["pages"] == 1, "what it said last"
        watch.close()


def test_many_pages_are_not_asked_one_by_one(monkeypatch):
    with mmsb.open(name="many") as state:
        state.create_pages(30, 8)
        state.serve()
        watch = Watch("many", budget_s=5.0)
        assert (watch.look().pages, watch.last.stale) == (30, 0)
        monkeypatch.setattr(watching, "ASKED_MOST", 29)
        monkeypatch.setattr(watching, "LISTED_MOST", 2)
        with state.batch() as batch:
            for page_id in range(1, 31):
                batch.write(page_id, bytes([1] * (page_id % 8 + 1)))
        picture = watch.look()
        assert picture.stale is None and [page.page_id for page in picture.listed] == [7, 15], "the hottest"
        assert len(picture.sample.hot) == 30
        watch.close()


def test_a_client_that_was_dropped_comes_back(monkeypatch):
    """What was seen last stays meanwhile."""
    monkeypatch.setattr(watching, "REATTACH_SECONDS", 0.0)
    with mmsb.open(name="drops") as state:
        page = state.create_page(8)
        state.serve()
        watch = Watch("drops", budget_s=5.0)
        page.write(b"x")
        assert watch.look().listed[0].last_seq == 2
        [fd] = state._server.sharing.clients()
        state._server.sharing.drop(fd)
        picture = watch.look()
        assert picture.listed[0].last_seq == 2 and not picture.alive
        page.write(b"y")
        page.write(b"z")
        picture = watch.look()
        assert picture.alive and picture.seq == 4
        watch.close()
