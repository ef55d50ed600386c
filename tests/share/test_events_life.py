"""Subscribers of another process that fall behind, whose owner dies, and that fork."""

import asyncio
import threading
import time
from itertools import islice

import pytest

import mmsb
from mmsb import events
from tests.share.common import until

SERVED = "told", {"a": 8, "b": 8}


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
        found, early, last = [], [], count + 1
        wish = {"backlog": 100} if kind != "bounded" else {}

        def slow(event):
            found.append(event)
            if view.seq < event.seq:
                early.append(event)  # the log may be read on, but the commit is not in the pages
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
        assert early == []
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
            await asyncio.wait_for(asyncio.gather(*tasks), 20)

        thread.start()
        asyncio.run(main())
        thread.join(20)
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
