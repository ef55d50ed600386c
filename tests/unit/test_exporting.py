"""mmsb.export: what a State measures goes out, and an exporter that fails is in nobody's way."""

import json

import pytest

import mmsb
from mmsb.exporting import Export, readings
from mmsb.plugin import Exporter


class Kept(Exporter):
    """Keeps all it is told, and raises what it is told to."""

    def __init__(self, error=None):
        self.calls, self.error = [], error

    def metrics(self, values, time_ns):
        self.note("metrics", values["seq"], time_ns)

    def span(self, name, begin_ns, end_ns, attributes):
        self.note("span", name, begin_ns, end_ns, attributes)

    def close(self):
        self.note("close")

    def note(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error


def export_to(state, exporter, signals=("metrics", "traces")):
    ticks = iter(range(10, 1000, 10))
    return Export(state, exporter, signals, lambda: next(ticks))


def test_readings_are_numbers_by_their_place():
    stats = {
        "seq": 3,
        "log": {"bytes": 40, "failures": ["a", "b"], "deep": {"ratio": 0.5}},
        "events": None,
        "name": "x",
    }
    assert readings(stats) == {"seq": 3, "log.bytes": 40, "log.failures": 2, "log.deep.ratio": 0.5}


def test_a_state_through_the_exporter_that_is_always_there(tmp_path):
    path = tmp_path / "measured.jsonl"
    with mmsb.open(tmp_path / "store") as state, mmsb.export(state, "jsonl", str(path)) as export:
        with export.span("tick", step=1):
            state.create_page(64).write(b"x")
        export.send()
    span, sent, last = (json.loads(line) for line in path.read_text().splitlines())
    assert span["span"] == "tick" and span["begin_ns"] <= span["end_ns"]
    assert span["attributes"] == {"step": 1, "seq_begin": 0, "seq_end": 2}
    assert sent["metrics"]["seq"] == sent["metrics"]["commits.commits"] == last["metrics"]["seq"] == 2
    assert sent["metrics"]["log.bytes"] > 0 and export.failures == 0


def test_moments_come_from_the_clock():
    exporter = Kept()
    with mmsb.open() as state, export_to(state, exporter) as export:
        with export.span("work"):
            state.create_page(8)
        export.send()
    span = ("span", "work", 10, 20, {"seq_begin": 0, "seq_end": 1})
    assert exporter.calls == [span, ("metrics", 1, 30), ("metrics", 1, 40), ("close",)]


def test_a_span_that_fails_is_told_and_its_error_is_the_users():
    exporter = Kept()
    with mmsb.open() as state, export_to(state, exporter) as export:
        with pytest.raises(ZeroDivisionError), export.span("work"):
            1 / 0  # noqa: B018
    assert exporter.calls[0][:2] == ("span", "work")


def test_an_exporter_that_raises_is_counted_and_nothing_else():
    exporter = Kept(OSError("the line is dead"))
    with mmsb.open() as state:
        with export_to(state, exporter) as export:
            with export.span("work"):
                page = state.create_page(8)
            export.send()
        assert page.size == 8
    assert export.failures == 4 and str(export.last_error) == "the line is dead"


@pytest.mark.parametrize(("signal", "calls"), [("metrics", ["metrics", "close"]), ("traces", ["span", "close"])])
def test_an_exporter_gets_the_signals_it_takes(signal, calls):
    exporter = Kept()
    with mmsb.open() as state, export_to(state, exporter, (signal,)) as export, export.span("work"):
        pass
    assert [call[0] for call in exporter.calls] == calls


def test_the_state_may_go_first_and_a_closed_export_says_so():
    exporter = Kept()
    with mmsb.open() as state:
        export = export_to(state, exporter)
    export.close()
    export.close()
    assert exporter.calls == [("close",)]
    for use in (export.send, export.span("late").__enter__):
        with pytest.raises(ValueError, match="The export is closed"):
            use()


def test_exporters_that_are_not_there(tmp_path):
    with mmsb.open() as state:
        with pytest.raises(mmsb.PluginError, match=r"There is no exporter 'prometheus'.*Known: jsonl"):
            mmsb.export(state, "prometheus", "localhost")
        with pytest.raises(FileNotFoundError):
            mmsb.export(state, "jsonl", str(tmp_path / "no" / "such" / "folder"))
