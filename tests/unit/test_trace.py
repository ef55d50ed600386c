"""Traces: what a State did is in the file, where Perfetto expects it, and costs nothing afterwards."""

import json
import os
import threading

import pytest

import mmsb
from mmsb.errors import ReadOnlyError, StateClosedError


def document(path):
    """The file, checked for what viewers rely on."""
    facts = json.loads(path.read_text())
    rows = {event["tid"]: event["args"]["name"] for event in facts["traceEvents"] if event["name"] == "thread_name"}
    for event in facts["traceEvents"]:
        assert event["pid"] == os.getpid() and event["ph"] in "XsfM"
        if event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and event["tid"] in rows
    spans = [{**event, "row": rows[event["tid"]]} for event in facts["traceEvents"] if event["ph"] == "X"]
    return facts, spans


def of(spans, row):
    return [span for span in spans if span["row"] == row]


def test_commits_waves_syncs_and_checkpoints(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        a, b = state.create_page(8), state.create_page(8)
        state.depend(b, on=a, fn=lambda out, parent: out.__setitem__(0, parent[0]))
        with state.trace(tmp_path / "trace.json") as trace:
            a.write(b"1", source="me")
            with state.batch(label="both", source="you") as batch:
                batch.write(a, b"22", at=1)
                batch.write(a, b"3", at=7)
            state.sync()
            state.checkpoint()
            assert not trace.closed
        seq = state.seq
        a.write(b"9")
    assert trace.closed and (trace.commits, trace.left_out) == (seq - 4, 0)
    facts, spans = document(tmp_path / "trace.json")
    assert facts["otherData"]["commits"] == trace.commits and facts["otherData"]["commits_left_out"] == 0
    (mine,), (yours,) = of(spans, "commits: me"), of(spans, "commits: you")
    assert (mine["args"]["pages"], mine["args"]["deltas"], mine["cat"]) == ([a.page_id], 1, "commits")
    assert (yours["name"], yours["args"]["label"], yours["args"]["deltas"]) == ("both", "both", 2)
    waves = of(spans, "waves")
    assert [wave["args"]["cause"] for wave in waves] == [mine["args"]["seq"], yours["args"]["seq"]]
    assert waves[0]["args"]["pages"] == [b.page_id] and waves[0]["ts"] == mine["ts"]
    assert mine["ts"] + mine["dur"] <= yours["ts"]
    assert of(spans, "sync") and len(of(spans, "checkpoint")) == 1
    starts, ends = ([e for e in facts["traceEvents"] if e["ph"] == end] for end in "sf")
    assert [e["id"] for e in starts] == [e["id"] for e in ends] == [wave["args"]["cause"] for wave in waves]
    assert {e["tid"] for e in ends} == {waves[0]["tid"]} and starts[0]["tid"] == mine["tid"]


def test_closing_the_state_ends_the_trace_and_shows_its_last_sync(tmp_path):
    state = mmsb.open(tmp_path / "s")
    trace = state.trace(tmp_path / "trace.json")
    state.create_page(8).write(b"x")
    state.close()
    trace.close()
    _, spans = document(tmp_path / "trace.json")
    assert trace.closed and of(spans, "sync") and len(of(spans, "commits: no source")) == 2


def test_many_threads_and_a_subscriber(tmp_path):
    told = []
    with mmsb.open() as state:
        pages = state.create_pages(4, 64)
        with state.trace(tmp_path / "trace.json") as trace:
            subscription = state.subscribe("page_changed", told.append)

            def work(page):
                for number in range(200):
                    state.page(page).write(number.to_bytes(2, "little"), source=f"thread {page}")

            threads = [threading.Thread(target=work, args=(page,)) for page in pages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            subscription.close()
            state.page(1).write(b"after")
        assert not state._listening
    _, spans = document(tmp_path / "trace.json")
    assert trace.commits == len(spans) == len(told) + 1
    for page in pages:
        row = of(spans, f"commits: thread {page}")
        assert all(one["ts"] + one["dur"] <= two["ts"] + 1e-3 for one, two in zip(row, row[1:], strict=False))


def test_a_subscription_goes_on_after_the_trace(tmp_path):
    told = []
    with mmsb.open() as state:
        page = state.create_page(8)
        with state.trace(tmp_path / "one.json"), state.subscribe("page_changed", told.append):
            page.write(b"1")
        with state.subscribe("page_changed", told.append):
            with state.trace(tmp_path / "two.json"):
                page.write(b"2")
            page.write(b"3")
    assert len(told) == 3


def test_limit_and_history_that_is_cut(tmp_path):
    with mmsb.open(history=0, segment_bytes=4096) as state:
        page = state.create_page(8)
        with state.trace(tmp_path / "short.json", limit=3) as short:
            for number in range(1, 9):
                page.write(bytes([number]))
        assert (short.commits, short.left_out) == (3, 5)
        with state.trace(tmp_path / "cut.json") as cut:
            for number in range(2000):
                page.write(number.to_bytes(4, "big"))
        assert cut.left_out > 0 and cut.commits + cut.left_out == 2000
    _, spans = document(tmp_path / "cut.json")
    assert len(spans) == cut.commits


def test_a_deferred_wave_follows_the_newest_commit(tmp_path):
    with mmsb.open(policy="deferred") as state:
        a, b, c = (state.create_page(8) for _ in range(3))
        state.depend(b, on=a, fn=lambda out, parent: out.__setitem__(0, parent[0]))
        with state.trace(tmp_path / "before.json"):
            a.write(b"1")
            c.write(b"2")
        with state.trace(tmp_path / "trace.json"):
            c.write(b"3")
            cause = state.seq
            state.propagate()
        with state.trace(tmp_path / "after.json"):
            pass
    _, spans = document(tmp_path / "before.json")
    assert len(spans) == 2 and not of(spans, "waves")
    facts, spans = document(tmp_path / "trace.json")
    (wave,) = of(spans, "waves")
    assert wave["args"]["cause"] == cause == next(e["id"] for e in facts["traceEvents"] if e["ph"] == "s")
    assert document(tmp_path / "after.json")[1] == []


def test_a_clock_of_its_own_does_not_place_anything(tmp_path):
    with mmsb.open(clock=iter(range(5, 1 << 40)).__next__) as state:
        with state.trace(tmp_path / "trace.json"):
            state.create_page(8).write(b"x")
    _, spans = document(tmp_path / "trace.json")
    assert [span["args"]["time_ns"] < 100 for span in spans] == [True, True]
    assert all(0 <= span["ts"] < 60e6 for span in spans)


def test_refusals(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        for limit in (0, -1):
            with pytest.raises(ValueError, match="at least 1 commit"):
                state.trace(tmp_path / "trace.json", limit=limit)
        with pytest.raises(FileNotFoundError):
            state.trace(tmp_path / "no" / "trace.json")
        with pytest.raises(IsADirectoryError):
            state.trace(tmp_path)
        assert not state._listening and not (tmp_path / "trace.json").exists()
        with state.trace(tmp_path / "trace.json"):
            with pytest.raises(ValueError, match=r"traced already, to .*trace\.json"):
                state.trace(tmp_path / "other.json")
        with mmsb.open(tmp_path / "s", read_only=True) as reader, pytest.raises(ReadOnlyError):
            reader.trace(tmp_path / "other.json")
    with pytest.raises(StateClosedError):
        state.trace(tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()
