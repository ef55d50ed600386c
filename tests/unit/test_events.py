"""Events: what is told, in which order, to whom, and what handlers may do."""

import random
import threading

import pytest

import mmsb
from mmsb import events, links
from mmsb.builtin.loopback import Loopback
from mmsb.mirror import Mirror
from mmsb.plugin import Policy
from mmsb.testing import EventLog

pytest_plugins = ["mmsb.testing.pytest_plugin"]


def passed_on(state, parent):
    child = state.create_page(parent.size)
    state.depend(child, on=[parent], link=links.passthrough())
    return child


# ---- what is told


def test_pages_come_change_and_go(state, eventlog):
    page = state.create_page(8, name="a", data=b"content", source="me")
    page.write(b"C")
    with state.batch(source="me", label="l") as batch:
        batch.write(page, b"xy")
        batch.rename(page, "b")
        batch.write(page, b"z", at=4)
    page.resize(9)
    state.set_metadata(page, {"k": 1})
    page.delete()
    found = eventlog.events()
    first, second, third = (event.delta for event in found if event.kind == "delta_applied")
    assert (first.values, second.values, third.values) == (b"C", b"xy", b"z") and third.index == 1
    assert found == [
        events.PageCreated(1, "me", 1, 8, "a"),
        events.DeltaApplied(2, None, 1, first),
        events.PageChanged(2, None, 1, ("bytes",)),
        events.DeltaApplied(3, "me", 1, second),
        events.DeltaApplied(3, "me", 1, third),
        events.PageChanged(3, "me", 1, ("bytes", "name")),
        events.PageChanged(4, None, 1, ("size",)),
        events.PageChanged(5, None, 1, ("metadata",)),
        events.PageDeleted(6, None, 1),
    ]
    assert eventlog.events() == []


def test_a_page_that_is_new_or_gone_in_a_commit_did_not_change_in_it(state, eventlog):
    with state.batch() as batch:
        new = batch.create_page(4)
        batch.write(new, b"1")
    with state.batch() as batch:
        batch.write(new, b"2")
        batch.delete_page(new)
    assert [entry[1] for entry in eventlog.take()] == ["page_created", "delta_applied", "delta_applied", "page_deleted"]


def test_create_pages_tells_of_each(state, eventlog):
    assert list(state.create_pages(3, 16)) == [1, 2, 3]
    assert eventlog.events() == [events.PageCreated(1, None, page, 16, None) for page in (1, 2, 3)]


def test_a_commit_comes_before_its_wave(state):
    a = state.create_page(8)
    b = passed_on(state, a)
    c = passed_on(state, b)
    log = EventLog(state)
    a.write(b"x", source="me")
    delta = log.events()
    assert [(event.seq, event.kind) for event in delta] == [
        (state.seq - 1, "delta_applied"),
        (state.seq - 1, "page_changed"),
        (state.seq, "wave_started"),
        (state.seq, "delta_applied"),
        (state.seq, "delta_applied"),
        (state.seq, "page_changed"),
        (state.seq, "page_changed"),
        (state.seq, "wave_finished"),
    ]
    changed = (b.page_id, c.page_id)
    assert delta[2] == events.WaveStarted(state.seq, None, state.seq - 1)
    assert delta[-1] == events.WaveFinished(state.seq, None, state.seq - 1, changed, (), False)


def test_edges(state, eventlog):
    a, b, c = (state.create_page(8).page_id for _ in range(3))
    eventlog.take()
    state.depend(b, on=[a], link=links.passthrough())
    state.depend(c, on=[a, b], kind="control")
    state.undepend(c, on=[a], kind="control")
    state.delete_page(b, detach=True)
    edges = [event for event in eventlog.events() if isinstance(event, events.EdgeEvent | events.PageDeleted)]
    assert edges == [
        events.EdgeAdded(4, None, b, a, "data"),
        events.EdgeAdded(6, None, c, a, "control"),
        events.EdgeAdded(6, None, c, b, "control"),
        events.EdgeRemoved(7, None, c, a, "control"),
        events.EdgeRemoved(8, None, b, a, "data"),
        events.EdgeRemoved(8, None, c, b, "control"),
        events.PageDeleted(8, None, b),
    ]


def test_edges_that_compute_nothing_tell_of_changes(state):
    a, b = state.create_page(8), state.create_page(8)
    for kind in ("compiler", "device", "control"):
        state.depend(b, on=[a], kind=kind)
    log = EventLog(state, "page_invalidated", "device_sync_needed")
    seq = state.seq + 1
    a.write(b"x", source="me")
    a.rename("nothing that anybody computes with")
    assert log.events() == [
        events.PageInvalidated(seq, "me", b.page_id, a.page_id, "control"),
        events.DeviceSyncNeeded(seq, "me", b.page_id, a.page_id),
        events.PageInvalidated(seq, "me", b.page_id, a.page_id, "compiler"),
    ]


def test_a_function_that_raises_makes_pages_stale(state):
    a, b, c = (state.create_page(1) for _ in range(3))
    state.depend(b, on=[a], fn=lambda out, parent: 1 // parent[0] and None)
    c = passed_on(state, b)
    log = EventLog(state, "page_stale", "wave_finished")
    a.write(b"\1")
    a.write(b"\0")
    found = log.events()
    assert [type(event) for event in found] == [
        events.WaveFinished,
        events.PageStale,
        events.PageStale,
        events.WaveFinished,
    ]
    assert "ZeroDivisionError" in found[1].reason and [event.page_id for event in found[1:3]] == [b.page_id, c.page_id]
    assert found[0].failed == () and found[3].failed == (b.page_id, c.page_id)


def test_stale_pages_are_told_once(state):
    a = state.create_page(8)
    b = passed_on(state, a)
    log = EventLog(state, "page_stale", "page_changed")
    with state.deferred():
        a.write(b"1", source="me")
        a.write(b"2")
        assert log.take() == [
            (state.seq - 1, "page_changed", a.page_id),
            (state.seq - 1, "page_stale", b.page_id),
            (state.seq, "page_changed", a.page_id),
        ]
    assert log.take() == [(state.seq, "page_changed", b.page_id)]


def test_a_new_page_of_a_lazy_state_is_stale(state):
    state.policy = "lazy"
    a = state.create_page(8, data=b"a")
    log = EventLog(state, "page_stale", "wave_finished")
    b = passed_on(state, a)
    assert log.take() == [(state.seq, "page_stale", b.page_id)]
    assert b[0:1] == b"a" and log.events() == [
        events.WaveFinished(state.seq, None, state.seq - 1, (b.page_id,), (), True)
    ]


def test_checkpoints_and_compaction(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        page = state.create_page(1024)
        log = EventLog(state, "checkpoint_created", "compaction_done")
        rng = random.Random(1)
        for _ in range(12):
            page.write(rng.randbytes(1024))
        seq = state.checkpoint()
        assert state.checkpoint() == seq
        report = state.compact(before=seq - 1)
        first, second = log.events()
        assert first == events.CheckpointCreated(seq, None, str(tmp_path / "s" / "checkpoints" / f"{seq:020d}.ckpt"))
        assert second == events.CompactionDone(seq, None, seq - 1, report.bytes_freed)
        state.compact(before=seq - 1)
        page.write(b"after")
        assert log.events() == []


# ---- the log is followed over segments, in every kind of State


@pytest.mark.parametrize("how", ["memory", "history", "mapped", "unmapped"])
def test_no_event_is_lost_between_segments(how, tmp_path):
    options = {
        "memory": {"segment_bytes": 4096},
        "history": {"segment_bytes": 4096, "history": 0},
        "mapped": {"path": tmp_path / "s", "segment_bytes": 4096, "compress": True},
        "unmapped": {"path": tmp_path / "s", "segment_bytes": 4096, "mapped": False},
    }[how]
    with mmsb.open(**options) as state:
        page = state.create_page(1000)
        log = EventLog(state, "page_changed", source="me")
        rng = random.Random(2)
        for i in range(40):
            page.write(rng.randbytes(1000), source="me" if i % 2 else f"other {i}")
        assert log.take() == [(seq, "page_changed", 1) for seq in range(3, 42, 2)]


def test_subscribing_late_tells_nothing_of_before(state):
    page = state.create_page(8)
    page.write(b"before")
    log = EventLog(state)
    page.write(b"after")
    assert {entry[0] for entry in log.take()} == {3}


def test_who_only_reads_may_subscribe_and_hears_nothing(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert EventLog(state).take() == [] and not state._listening


# ---- filters and refusals


def test_filters(state):
    a, b, c = (state.create_page(8, name=name) for name in "abc")
    state.depend(c, on=[b], link=links.passthrough())
    by_page = EventLog(state, "page_changed", pages=["a", b, c.page_id])
    one = EventLog(state, "page_changed", "wave_finished", pages="c")
    by_source = EventLog(state, source="me")
    a.write(b"1")
    b.write(b"2", source="me")
    assert [entry[2] for entry in by_page.take()] == [1, 2, 3]
    assert one.take() == [(state.seq, "page_changed", 3), (state.seq, "wave_finished")]
    assert {entry[0] for entry in by_source.take()} == {state.seq - 1}
    state.depend(a, on=[b], kind="compiler")
    edges = EventLog(state, "edge_removed", pages=[b])
    state.undepend(a, kind="compiler")
    assert edges.take() == [(state.seq, "edge_removed", 1)]


def test_refusals(state):
    state.create_page(8)
    with pytest.raises(ValueError, match="page_chnged"):
        state.subscribe("page_chnged", print)
    with pytest.raises(ValueError, match="Unknown kinds"):
        state.subscribe([], print)
    with pytest.raises(TypeError, match="callable"):
        state.subscribe("page_changed", None)
    with pytest.raises(mmsb.PageNotFoundError):
        state.subscribe("page_changed", print, pages=["nobody"])
    assert not state._listening
    state.close()
    with pytest.raises(mmsb.StateClosedError):
        state.subscribe("page_changed", print)


def test_kinds_are_documented_and_frozen():
    assert len(events.KINDS) == 14
    with pytest.raises(AttributeError):
        events.PageDeleted(1, None, 1).seq = 2


# ---- what handlers may do


def test_nobody_listens_any_more(state):
    page, heard = state.create_page(8), []
    with state.subscribe("page_changed", heard.append) as subscription:
        page.write(b"1")
        assert state._listening and not subscription.closed
    assert subscription.closed and not state._listening
    page.write(b"2")
    subscription.close()
    other = state.subscribe("page_changed", heard.append)
    state.unsubscribe(other)
    page.write(b"3")
    assert [event.seq for event in heard] == [2]


def test_a_handler_that_raises_is_counted_and_disturbs_nobody(state):
    page, heard = state.create_page(8), []

    def bad(event):
        raise ValueError(f"no {event.seq}")

    first = state.subscribe("page_changed", bad)
    state.subscribe("page_changed", heard.append)
    page.write(b"1")
    page.write(b"2")
    assert [event.seq for event in heard] == [2, 3]
    assert first.failures == 2 and str(first.last_error) == "no 3"
    assert state.stats()["events"] == {
        "subscriptions": 2,
        "delivered": 4,
        "failures": 2,
        "errors": ["page_changed 2: ValueError: no 2", "page_changed 3: ValueError: no 3"],
    }


def test_unsubscribing_inside_a_handler(state):
    page, heard = state.create_page(8), []

    def once(event):
        heard.append(("once", event.seq))
        first.close()
        second.close()

    first = state.subscribe("page_changed", once)
    second = state.subscribe("page_changed", lambda event: heard.append(("second", event.seq)))
    state.subscribe("page_changed", lambda event: heard.append(("third", event.seq)))
    page.write(b"1")
    page.write(b"2")
    assert heard == [("once", 2), ("third", 2), ("third", 3)]


def test_subscribing_inside_a_handler_begins_with_what_comes_next(state):
    page, heard = state.create_page(8), []

    def more(event):
        if event.seq == 2:
            state.subscribe("page_changed", lambda event: heard.append(event.seq))
            page.write(b"inside")

    state.subscribe("page_changed", more)
    page.write(b"1")
    assert heard == [3]


def test_writes_of_a_handler_are_told_after_what_is_queued(state):
    a, b = state.create_page(8), state.create_page(8)
    heard, depth = [], [0]

    def echo(event):
        depth[0] += 1
        assert depth[0] == 1, "a handler inside a handler"
        heard.append((event.seq, event.page_id))
        if event.page_id == a.page_id:
            b.write(bytes([event.seq]))
        depth[0] -= 1

    state.subscribe("page_changed", echo)
    with state.batch() as batch:
        batch.write(a, b"1")
    a.write(b"2")
    assert heard == [(3, 1), (4, 2), (5, 1), (6, 2)] and state.stats()["events"]["failures"] == 0


def test_a_handler_that_writes_without_end_does_not_recurse(state):
    page = state.create_page(8)

    def again(event):
        if event.seq < 3000:
            page.write(event.seq.to_bytes(8, "little"))

    state.subscribe("page_changed", again)
    page.write(b"x")
    assert state.seq == 3000


def test_handlers_run_when_the_change_can_be_seen_and_the_state_is_free(state):
    page, seen = state.create_page(8), []
    child = passed_on(state, page)

    def look(event):
        thread = threading.Thread(target=lambda: seen.append((state.page(event.page_id)[0:1], child[0:1])))
        thread.start()
        thread.join(10)

    state.subscribe("page_changed", look)
    page.write(b"1")
    state.depend(state.create_page(8), on=[page], link=links.passthrough())
    assert seen == [(b"1", b"1")] * 3


def test_ctrl_c_in_a_handler_leaves_the_rest_for_later(state):
    page, heard = state.create_page(8), []

    def interrupted(event):
        heard.append((event.seq, event.kind))
        if len(heard) == 1:
            raise KeyboardInterrupt

    state.subscribe(("delta_applied", "page_changed"), interrupted)
    with pytest.raises(KeyboardInterrupt):
        page.write(b"1")
    page.write(b"2")
    assert heard == [(seq, kind) for seq in (2, 3) for kind in ("delta_applied", "page_changed")]


def test_a_handler_may_close_the_state(state):
    page, heard = state.create_page(8), []

    def end(event):
        heard.append(event.kind)
        state.close()

    state.subscribe(("delta_applied", "page_changed"), end)
    page.write(b"1")
    assert heard == ["delta_applied"] and state.closed


def test_two_threads_are_told_in_the_order_of_the_log(state):
    pages = [state.create_page(8) for _ in range(2)]
    child = state.create_page(8)
    state.depend(child, on=pages, link=links.semiring("plus-times", "int64"))
    heard = []
    state.subscribe(events.KINDS, lambda event: heard.append(event.seq))
    begin = state.seq

    def work(page):
        for i in range(1, 400):
            page.write(i.to_bytes(8, "little"))

    threads = [threading.Thread(target=work, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages[0].write(bytes(8))  # whoever comes last hands out what is left
    assert heard == sorted(heard) and sorted(set(heard)) == list(range(begin + 1, state.seq + 1))


def test_the_same_commands_give_the_same_events():
    def life():
        with mmsb.open() as state:
            log, rng = EventLog(state), random.Random(7)
            pages = [state.create_page(16) for _ in range(4)]
            child = passed_on(state, pages[0])
            for _ in range(100):
                rng.choice(pages).write(rng.randbytes(3), at=rng.randrange(13), source=rng.choice(["a", "b", None]))
            state.delete_page(child, detach=True)
            return log.events()

    assert life() == life()


# ---- a copy on a device


def test_a_mirror_follows_its_page(state):
    device, rng = Loopback(), random.Random(3)
    page, other = state.create_page(100, data=b"begin"), state.create_page(8)

    def copy():
        out = bytearray(page.size)
        device.download(mirror.buffer, out)
        return bytes(out)

    with Mirror(state, page, device) as mirror:
        log = EventLog(state, "device_sync_done")
        assert copy() == page.read()
        for _ in range(20):
            with state.batch() as batch:
                for _ in range(3):
                    batch.write(page, rng.randbytes(7), at=rng.randrange(93))
            other.write(rng.randbytes(8))
            assert copy() == page.read() and mirror.seq == state.seq - 1
        assert log.take() == [(seq, "device_sync_done", page.page_id) for seq in range(3, 43, 2)]
        page.resize(200)
        page.write(b"end", at=197)
        assert copy() == page.read()
        buffer = mirror.buffer
    with pytest.raises(mmsb.DeviceBufferError):
        device.free(buffer)
    page.write(b"unseen")
    assert state.stats()["events"]["failures"] == 0


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize("error", [Unspeakable, SystemExit])
def test_what_cannot_even_be_said_stops_nobody(state, error):
    def handler(event):
        raise error

    told = []
    a = state.create_page(8)
    state.subscribe("page_changed", handler)
    state.subscribe("page_changed", told.append)
    a.write(b"1")
    assert len(told) == 1 and state.stats()["events"]["failures"] == 1


def test_a_handler_may_close_the_state_that_is_closing(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        a, b = state.create_page(8), state.create_page(8)
        state.depend(b, on=a, link=links.passthrough())

        class AtTheEnd(Policy):
            def close(self, engine):
                engine.propagate()

        state.policy = AtTheEnd()
        told = []
        state.subscribe("wave_finished", lambda event: (told.append(event), state.close()))
        a.write(b"1")
    assert state.closed and len(told) == 1


def test_every_edge_that_goes_in_one_commit_is_told(state):
    a, b, c = (state.create_page(8) for _ in range(3))
    state.depend(c, on=[a, b], kind="control")
    log = EventLog(state, "edge_removed")
    with state.batch() as batch:
        batch.delete_page(a, detach=True)
        batch.delete_page(b, detach=True)
    assert [event.parent for event in log.events()] == [a.page_id, b.page_id]
