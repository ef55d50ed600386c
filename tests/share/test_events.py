"""Events of a State that another process owns: what is told, in which order, what is missed, and how it ends."""

import asyncio
import threading
import time

import pytest

import mmsb
from mmsb import events, links
from mmsb.testing import EventLog
from tests.share.common import until

SERVED = "told", {"a": 8, "b": 8}


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

    before = set(threading.enumerate())
    one, two = view.subscribe("page_changed", first), view.subscribe("page_changed", second)
    for n in range(500):
        served.page("a").write((n + 1).to_bytes(8, "little"))
    until(lambda: len(heard) >= 2 * (served.seq - 2))
    for who in (1, 2):
        assert [seq for seq, number in heard if number == who] == list(range(3, served.seq + 1))
    assert len(threads) == 1 and set(threading.enumerate()) - before == threads
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
        state = mmsb.open(name="fast")  # it keeps all, so that nothing is missed
        a = state.create_page(8, name="a")
        state.create_page(8, name="b")
        state.serve()
        tell("ready")
        for n in range(1, 3_000_000):
            a.write(n.to_bytes(8, "little"))
        sys.stdin.readline()
    """)
    owner.hear()
    with mmsb.attach("fast") as view:
        begun = time.monotonic()
        assert list(view.subscribe("page_created", timeout=0.2)) == []
        assert time.monotonic() - begun < 20
        quiet = view.subscribe("page_created")

        async def main():
            task = asyncio.create_task(collect(quiet))
            for _ in range(20):
                await asyncio.sleep(0.001)
            quiet.close()
            assert await task == []

        async def collect(told):
            return [event async for event in told]

        asyncio.run(asyncio.wait_for(main(), 20))


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
    assert not thread.is_alive() and time.monotonic() - began < 10 and list(told) == []
    began = time.monotonic()
    assert list(view.subscribe("page_changed", timeout=0.05)) == [] and 0.04 < time.monotonic() - began < 10
    heard.clear()
    thread = threading.Thread(target=lambda: heard.append(list(view.subscribe("page_changed"))))
    thread.start()
    time.sleep(0.05)
    began = time.monotonic()
    view.close()
    thread.join(10)
    assert heard == [[]] and time.monotonic() - began < 10


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
