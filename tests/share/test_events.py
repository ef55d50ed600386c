"""Events of a State that another process owns: what is told, in which order, what is missed, and how it ends."""

import asyncio
import threading
import time
from itertools import islice

import pytest

import mmsb
from mmsb import events, links
from mmsb.testing import EventLog


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


@pytest.fixture
def served():
    with mmsb.open(name="told") as state:
        state.create_page(8, name="a")
        state.create_page(8, name="b")
        state.serve()
        yield state


@pytest.fixture
def view(served):
    with mmsb.attach("told") as view:
        yield view


TRAVEL = [kind for kind in events.KINDS if kind not in events.OWNERS_KINDS]


def plain(found):
    """Events without what only one of two sides can have: a Delta knows where it was read."""
    return [
        (event.seq, event.source, event.page_id, event.delta.values) if event.kind == "delta_applied" else event
        for event in found
    ]


# ---- what is told


def test_a_view_hears_what_its_owner_hears(served, view):
    log = EventLog(served, *TRAVEL)
    with view.subscribe(TRAVEL, since=1, timeout=0) as early:
        assert [event.page_id for event in early] == [1, 2]
    heard = view.subscribe(TRAVEL, timeout=0)
    c, d = served.create_page(8, name="c", data=b"c"), served.create_page(8, name="d")
    served.depend("b", on="a", link=links.passthrough(), source="me")
    served.depend(c, on=["a", "b"], kind="control")
    served.depend(c, on=["a"], kind="device")
    served.depend(d, on=["a", c], kind="compiler")
    served.page("a").write(b"1", source="me")
    with served.batch(label="more", source="you") as batch:
        batch.write(c, b"2")
        batch.rename(c, "e")
        batch.resize(d, 16)
        batch.undepend(d, on=["a"], kind="compiler")
    served.set_metadata("a", {"k": 1})
    served.undepend(c, on=["a"], kind="control")
    served.undepend("b")
    served.undepend(d, kind="compiler")
    served.page("a").write(b"3")
    served.delete_page("e", detach=True)
    told = log.events()
    assert {event.kind for event in told} == set(TRAVEL)
    assert plain(heard) == plain(told)
    again = view.subscribe(TRAVEL, since=served.seq - 6, timeout=0)
    assert plain(again) == plain(event for event in told if event.seq >= served.seq - 6)


def test_edges_from_before(tmp_path):
    """What a frame does not say of edges is taken from a checkpoint and the log after it."""
    with mmsb.open(tmp_path / "s") as state:
        a, b, c = (state.create_page(8, name=name) for name in "abc")
        state.depend(b, on=[a], kind="device")
        state.checkpoint()
        state.depend(c, on=[a], kind="compiler")
    with mmsb.open(tmp_path / "s") as state:
        state.serve()
        with mmsb.attach(tmp_path / "s") as view:
            log = EventLog(state, "device_sync_needed", "page_invalidated", "edge_removed")
            heard = view.subscribe(["device_sync_needed", "page_invalidated", "edge_removed"], timeout=0)
            state.page("a").write(b"x")
            state.undepend("b", kind="device")
            state.page("a").write(b"y")
            told = log.events()
            assert len(told) == 4 and list(heard) == told


def test_filters(served, view):
    by_page = view.subscribe("page_changed", pages=["a"], timeout=0)
    by_id = view.subscribe("page_changed", pages=view.page("b"), timeout=0)
    by_source = view.subscribe(["page_changed", "page_created"], source="me", timeout=0)
    both = view.subscribe("page_changed", pages=["a", 2], source="you", timeout=0)
    for n in range(12):
        served.page("ab"[n % 2]).write(bytes([n + 1]), source=("me", "you", None)[n % 3])
    served.create_page(8, name="c", source="me")
    assert [event.page_id for event in by_page] == [1] * 6 and [event.page_id for event in by_id] == [2] * 6
    assert [(event.seq, event.kind) for event in by_source] == [
        *((seq, "page_changed") for seq in (3, 6, 9, 12)),
        (15, "page_created"),
    ]
    assert [(event.seq, event.source) for event in both] == [(seq, "you") for seq in (4, 7, 10, 13)]
    with view.subscribe("page_changed", pages="a", timeout=0) as served_by_name:
        served.page("a").rename("z")
        assert [event.what for event in served_by_name] == [("name",)]


def test_handlers_are_called_in_order_in_one_thread(served, view):
    heard, threads = [], set()

    def first(event):
        threads.add(threading.current_thread())
        heard.append((event.seq, 1))

    def second(event):
        threads.add(threading.current_thread())
        heard.append((event.seq, 2))

    before = threading.active_count()
    one, two = view.subscribe("page_changed", first), view.subscribe("page_changed", second)
    for n in range(500):
        served.page("a").write((n + 1).to_bytes(8, "little"))
    until(lambda: len(heard) >= 2 * (served.seq - 2))
    for who in (1, 2):
        assert [seq for seq, number in heard if number == who] == list(range(3, served.seq + 1))
    assert len(threads) == 1 and threading.active_count() == before + 1
    assert one.delivered == two.delivered == served.seq - 2 and one.failures == 0 and not one.closed
    stats = view.stats()["events"]
    assert stats == {
        "subscriptions": 2,
        "delivered": len(heard),
        "missed": 0,
        "failures": 0,
        "errors": [],
        "lag": 0,
    }
    one.close()
    two.close()
    assert one.closed and view.stats()["events"]["subscriptions"] == 0
    thread = threads.pop()
    view.close()
    until(lambda: not thread.is_alive())


def test_filters_that_let_nothing_through_end_in_time(process):
    """However fast the owner is, an iterator that finds nothing ends, lets the others run, and can be closed."""
    owner = process("""
        state = mmsb.open(name="fast", history=1 << 20, segment_bytes=1 << 18)
        a = state.create_page(8, name="a")
        state.create_page(8, name="b")
        state.serve()
        tell("ready")
        n = 0
        while True:
            n += 1
            a.write(n.to_bytes(8, "little"))
    """)
    owner.hear()
    with mmsb.attach("fast") as view:
        begun = time.monotonic()
        quiet = view.subscribe("page_created", timeout=0.2)
        assert {event.kind for event in quiet} <= {"missed"} and time.monotonic() - begun < 5
        quiet = view.subscribe("page_created")

        async def main():
            task = asyncio.create_task(collect(quiet))
            for _ in range(20):
                await asyncio.sleep(0.001)
            quiet.close()
            assert {event.kind for event in await task} <= {"missed"}

        async def collect(told):
            return [event async for event in told]

        asyncio.run(asyncio.wait_for(main(), 10))


def test_handlers_that_raise_and_handlers_that_close(served, view):
    heard = []

    def bad(event):
        raise KeyError("bad")

    def once(event):
        heard.append(event.seq)
        third.close()

    first, second = view.subscribe("page_changed", bad), view.subscribe("page_changed", lambda e: heard.append(e.kind))
    third = view.subscribe("page_changed", once)
    for n in range(3):
        served.page("a").write(bytes([n + 1]))
    until(lambda: heard.count("page_changed") == 3 and first.failures == 3)
    assert third.closed and heard.count(3) == 1 and len(heard) == 4
    assert isinstance(first.last_error, KeyError) and not second.failures and second.last_error is None
    stats = view.stats()["events"]
    assert stats["failures"] == 3 and "page_changed 3: KeyError" in stats["errors"][0]


def test_a_handler_may_close_the_view_subscribe_and_write(served, view):
    heard = []

    def last(event):
        view.close()
        heard.append("closed")

    def write(event):
        if event.page_id == 1:
            view.page("b").write(b"from the")
            view.subscribe("page_changed", last, pages=["b"], since=event.seq)
        heard.append(event.page_id)

    view.subscribe("page_changed", write)
    served.page("a").write(b"x")
    until(lambda: "closed" in heard)
    assert heard[0] == 1 and view.closed
    served.page("a").write(b"y")
    until(lambda: served.stats()["sharing"]["clients"] == 0)


def test_the_owner_sees_how_far_a_subscriber_is(served, view):
    def lag():
        (client,) = served._server.status()["clients"]
        return client["lag"]

    told = view.subscribe("page_changed", timeout=0)
    for n in range(10):
        served.page("a").write(bytes([n + 1]))
    assert lag() >= 10
    assert len(list(told)) == 10 and lag() == 0


def test_an_iterator_waits(served, view):
    heard = []
    told = view.subscribe("page_changed")
    thread = threading.Thread(target=lambda: heard.extend(told))
    thread.start()
    for n in range(3):
        time.sleep(0.02)
        served.page("a").write(bytes([n + 1]))
        until(lambda n=n: len(heard) == n + 1 and heard[-1].seq == served.seq)
    began = time.monotonic()
    told.close()
    thread.join(10)
    assert not thread.is_alive() and time.monotonic() - began < 0.5 and list(told) == []
    began = time.monotonic()
    assert list(view.subscribe("page_changed", timeout=0.05)) == [] and 0.04 < time.monotonic() - began < 1
    heard.clear()
    thread = threading.Thread(target=lambda: heard.append(list(view.subscribe("page_changed"))))
    thread.start()
    time.sleep(0.05)
    began = time.monotonic()
    view.close()
    thread.join(10)
    assert heard == [[]] and time.monotonic() - began < 0.5


# ---- falling behind


def account(found, first, last):
    """Every seq was told or is in one range of what was missed, and in one only, ascending."""
    place = first
    for event in found:
        if event.kind == "missed":
            assert (event.first, event.source) == (place, None) and event.last == event.seq >= event.first
            place = event.last + 1
        else:
            assert event.seq == place
            place += 1
    assert place == last + 1


FLAT_OUT = """
kind, count = sys.argv[1], int(sys.argv[2])
how = dict(history=65536, segment_bytes=16384) if kind == "bounded" else dict(segment_bytes=65536)
state = mmsb.open(None if kind != "stored" else sys.argv[3], name="flat", **how)
a = state.create_page(8, name="a")
state.serve()
tell("ready")
sys.stdin.readline()
for n in range(count):
    a.write((n + 1).to_bytes(8, "little"))
tell(state.seq)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["handler", "iterator", "async"])
@pytest.mark.parametrize("kind", ["memory", "bounded", "stored"])
def test_what_a_slow_subscriber_misses(process, tmp_path, how, kind):
    count = 20_000
    owner = process(FLAT_OUT, kind, count, tmp_path / "s")
    owner.hear()
    with mmsb.attach("flat") as view:
        found, last = [], count + 1
        wish = {"backlog": 100} if kind != "bounded" else {}

        def slow(event):
            found.append(event)
            if len(found) % 50 == 0:
                time.sleep(0.005)
            return event.seq >= last

        told = view.subscribe("page_changed", slow if how == "handler" else None, **wish)
        owner.say()
        if how == "handler":
            until(lambda: found and found[-1].seq >= last)
        elif how == "iterator":
            assert any(slow(event) for event in told)
        else:

            async def listen():
                async for event in told:
                    if slow(event):
                        return

            asyncio.run(asyncio.wait_for(listen(), 60))
        assert owner.hear() == last
        account(found, 2, last)
        missed = [event for event in found if event.kind == "missed"]
        assert told.missed == sum(event.last - event.first + 1 for event in missed) == view.stats()["events"]["missed"]
        if kind != "bounded":
            assert missed, "it was too fast for this test"
            for event in missed[-3:]:  # they can be read again
                commits = view.log(since=event.first, until=event.last)
                assert [commit.seq for commit in commits] == list(range(event.first, event.last + 1))
        owner.say()


def test_backlog_goes_on_with_the_newest(served, view):
    told = view.subscribe("page_changed", pages=["a"], backlog=3, timeout=0)
    for n in range(3):
        served.page("a").write(bytes([n + 1]))
    assert [event.seq for event in told] == [3, 4, 5]
    for n in range(4):
        served.page("b").write(bytes([n + 1]))
    assert list(told) == [events.Missed(8, None, 6, 8)], "whatever the filters; the newest is of another page"
    served.page("a").write(b"x")
    assert [event.seq for event in told] == [10] and told.missed == 3 and told.delivered == 5


def test_edges_are_known_again_after_commits_were_missed(served, view):
    told = view.subscribe("page_invalidated", backlog=2, timeout=0)
    served.depend("b", on="a", kind="compiler")
    for n in range(5):
        served.page("a").write(bytes([n + 1]))
    missed, *rest = told
    assert missed.kind == "missed" and [(event.seq, event.page_id) for event in rest] == [(served.seq, 2)]


def test_history_that_was_cut():
    with mmsb.open(name="cut", history=16384, segment_bytes=4096) as state:
        a = state.create_page(64, name="a")
        state.serve()
        with mmsb.attach("cut") as view:
            told, edges = view.subscribe("page_changed", timeout=0), view.subscribe("edge_removed", timeout=0)
            while state.first_seq < 50:
                a.write(bytes([state.seq % 250 + 1]) * 64)
            account(found := list(told), 2, state.seq)
            assert found[0].kind == "missed"
            assert next(edges).kind == "missed"
            with pytest.raises(mmsb.RetentionError):
                list(edges)
            with pytest.raises(mmsb.RetentionError):
                view.subscribe("edge_removed")
            heard = []
            late = view.subscribe("page_changed", heard.append, since=1)
            until(lambda: heard and heard[-1].seq == state.seq)
            account(heard, 1, state.seq)
            assert late.missed == heard[0].last


# ---- the owner dies, and another one comes

DYING = """
path = sys.argv[1] if sys.argv[1] != "memory" else None
state = mmsb.open(path, name="mortal")
a = state.page("a") if "a" in state else state.create_page(8, name="a")
state.serve()
tell("ready", state.seq)
n = state.seq * 1000
while True:
    line = sys.stdin.readline()
    if not line:
        break
    for _ in range(int(line)):
        n += 1
        a.write(n.to_bytes(8, "little"))
    tell(state.seq)
"""


@pytest.mark.parametrize("times", range(3))
def test_owner_is_killed_while_everybody_waits(process, times):
    owner = process(DYING, "memory")
    owner.hear()
    with mmsb.attach("mortal") as view:
        called, iterated, awaited, ends = [], [], [], []
        handled = view.subscribe("page_changed", called.append)

        def iterate():
            try:
                iterated.extend(event.seq for event in told)
            except mmsb.OwnerGoneError as error:
                ends.append(error)

        told = view.subscribe("page_changed")
        thread = threading.Thread(target=iterate)
        seqs = []

        async def listen():
            try:
                async for event in view.subscribe("page_changed"):
                    awaited.append(event.seq)
            except mmsb.OwnerGoneError as error:
                ends.append(error)

        async def main():
            tasks = [asyncio.create_task(listen()) for _ in range(3)]
            await asyncio.sleep(0.02)
            owner.say("5")
            seqs.append(owner.hear())
            if times:
                await asyncio.sleep(0.05)
            owner.kill()
            await asyncio.wait_for(asyncio.gather(*tasks), 5)

        thread.start()
        asyncio.run(main())
        thread.join(5)
        assert not thread.is_alive() and len(ends) == 4
        until(lambda: isinstance(handled.last_error, mmsb.OwnerGoneError))
        expected = list(range(seqs[0] - 4, seqs[0] + 1))
        assert [event.seq for event in called] == expected and sorted(awaited) == sorted(expected * 3)
        assert iterated == expected and handled.failures == 0 and not handled.closed
        with pytest.raises(mmsb.OwnerGoneError):
            next(told)


def test_reattach_goes_on_where_it_was(process, tmp_path):
    owner = process(DYING, tmp_path / "s")
    owner.hear()
    with mmsb.attach(tmp_path / "s") as view:
        called = []
        handled, told = view.subscribe("page_changed", called.append), view.subscribe("page_changed")
        for _ in range(3):
            owner.say("7")
            last = owner.hear()
            assert [event.seq for event in islice(told, 7)] == list(range(last - 6, last + 1))
            owner.kill()
            with pytest.raises(mmsb.OwnerGoneError):
                next(told)
            owner = process(DYING, tmp_path / "s")
            owner.hear()
            view.reattach()
        owner.say("1")
        last = owner.hear()
        assert next(told).seq == last
        until(lambda: called and called[-1].seq == last)
        assert [event.seq for event in called] == list(range(2, last + 1)) and not handled.closed


def test_another_state_of_the_same_name(process):
    owner = process(DYING, "memory")
    owner.hear()
    with mmsb.attach("mortal") as view:
        called = []
        handled, told = view.subscribe("page_changed", called.append), view.subscribe("page_changed")
        owner.say("3")
        owner.hear()
        assert len(list(islice(told, 3))) == 3
        until(lambda: len(called) == 3)
        owner.kill()
        until(lambda: not view.owner_alive)
        owner = process(DYING, "memory")
        owner.hear()
        view.reattach()
        with pytest.raises(mmsb.OwnerGoneError, match="another State"):
            next(told)
        until(lambda: handled.closed)
        owner.say("9")
        owner.hear()
        assert "another State" in str(handled.last_error) and len(called) == 3


def test_fork(process):
    with mmsb.open(name="told") as state:
        state.create_page(8, name="a")
        state.serve()
        client = process("""
            import threading
            view = mmsb.attach("told")
            called = []
            handled, told = view.subscribe("page_changed", called.append), view.subscribe("page_changed")
            pid = os.fork()
            if pid == 0:
                for look in (lambda: next(told), lambda: view.subscribe("page_changed")):
                    try:
                        look()
                    except mmsb.ForkedStateError:
                        continue
                    os._exit(1)
                view.reattach()
                os._exit(0 if threading.active_count() == 2 and handled.closed and list(told) == [] else 2)
            tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            tell(next(told).seq)
            while not called:
                time.sleep(0.01)
            tell(called[0].seq)
        """)
        assert client.hear() == 0
        state.page("a").write(b"x")
        assert client.hear() == client.hear() == state.seq


def test_fork_while_a_thread_waits(served, process):
    """Closing does not wait in the child for a thread that is not there."""
    client = process("""
        import threading
        view = mmsb.attach("told")
        told = view.subscribe("page_changed")
        threading.Thread(target=lambda: list(told), daemon=True).start()
        time.sleep(0.1)
        pid = os.fork()
        if pid == 0:
            told.close()
            os._exit(0)
        tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """)
    assert client.hear() == 0


# ---- arguments


def test_bad_input(served, view):
    def refused(error, match, *arguments, **named):
        with pytest.raises(error, match=match):
            view.subscribe(*arguments, **named)

    for wrong in ("page_changing", [], ["page_changed", "missed"], [5]):
        refused(ValueError, "Unknown kinds", wrong)
    for wrong in events.OWNERS_KINDS:
        refused(ValueError, "only the owner", ["page_changed", wrong])
    refused(TypeError, "iterable", 5)
    refused(TypeError, "callable", "page_changed", "print")
    refused(mmsb.PageNotFoundError, "'c'", "page_changed", pages=["a", "c"])
    refused(mmsb.PageNotFoundError, "99", "page_changed", pages=99)
    refused(TypeError, "page", "page_changed", pages=[None])
    refused(TypeError, "source", "page_changed", source=5)
    for wrong in (0, -1, "x", 1.5, True):
        refused(ValueError, "since", "page_changed", since=wrong)
        refused(ValueError, "backlog", "page_changed", backlog=wrong)
    refused(ValueError, "float", "page_changed", timeout="x")
    assert view.stats()["events"]["subscriptions"] == 0
    handled = view.subscribe("page_changed", print)
    with pytest.raises(TypeError, match="handler"):
        next(handled)
    told = view.subscribe("page_changed", since=served.seq + 3, timeout=0)
    for n in range(4):
        served.page("a").write(bytes([n + 1]))
    assert [event.seq for event in told] == [served.seq - 1, served.seq]
    view.close()
    with pytest.raises(mmsb.StateClosedError):
        view.subscribe("page_changed")
