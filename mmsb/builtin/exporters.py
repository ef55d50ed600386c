"""The exporter that is always there: one JSON document per line in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmsb.plugin import ExporterSpec, hookimpl

MMSB_API = 1


class JsonLines:
    """Appends metrics and spans to the file at `target`, which is made when it is not there."""

    def __init__(self, target: str) -> None:
        self._file = open(target, "a", encoding="utf-8")

    def metrics(self, values: Mapping[str, int | float], time_ns: int) -> None:
        """One line per reading of all metrics."""
        self._write({"time_ns": time_ns, "metrics": dict(values)})

    def span(self, name: str, begin_ns: int, end_ns: int, attributes: Mapping[str, Any]) -> None:
        """One line per span."""
        self._write({"span": name, "begin_ns": begin_ns, "end_ns": end_ns, "attributes": dict(attributes)})

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _write(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(document, sort_keys=True, default=str) + "\n")


@hookimpl
def mmsb_exporters() -> list[ExporterSpec]:
    """JSON lines."""
    return [ExporterSpec("jsonl", "Metrics and traces as JSON lines in a file.", JsonLines)]
