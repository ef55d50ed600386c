"""mmsb_exporters: an exporter is opened by its spec with a target, and takes the signals it names."""

import json

from mmsb.plugin.manager import PluginManager


def test_hook_mmsb_exporters(example, capsys):
    registry, names = example("exporters")
    assert names == ["loudest"]
    spec = registry.exporters["loudest"]
    assert spec.signals == ("metrics",)
    exporter = spec.make("loudest is")
    exporter.metrics({"commits.commits": 3, "log.bytes": 400}, 0)
    exporter.close()
    assert capsys.readouterr().out == "loudest is log.bytes\n"


def test_jsonl_writes_a_line_per_reading_and_span(tmp_path):
    path = tmp_path / "out.jsonl"
    for _ in range(2):
        exporter = PluginManager([]).load().exporters["jsonl"].make(str(path))
        exporter.metrics({"log.bytes": 400}, 7)
        exporter.span("wave", 10, 30, {"pages": 2})
        exporter.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == 2 * [
        {"time_ns": 7, "metrics": {"log.bytes": 400}},
        {"span": "wave", "begin_ns": 10, "end_ns": 30, "attributes": {"pages": 2}},
    ]
