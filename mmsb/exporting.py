"""What a State measures, on its way out through an exporter. docs/hooks/exporters.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsb.plugin import Exporter
    from mmsb.state import State


def export(state: State, exporter: str, target: str) -> Export:
    """Opens an exporter for a State: "jsonl", or one that a plugin brings. What `target` may be is up to it.

    PluginError when there is no such exporter, OSError when it cannot open its target.
    """
    from mmsb.plugin.manager import installed

    spec = installed().find("exporters", exporter)
    return Export(state, spec.make(target), spec.signals)


class Export:
    """An exporter at work for one State. Close it, or leave its `with` block, to deliver what is left.

    The exporter never stands in the way: `failures` counts what it raised, `last_error` is the newest of it.
    """

    def __init__(
        self, state: State, exporter: Exporter, signals: tuple[str, ...], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.state = state
        self.failures = 0
        self.last_error: Exception | None = None
        self.closed = False
        self._exporter, self._signals, self._clock = exporter, signals, clock

    def send(self) -> None:
        """Hands over the readings of `state.stats()` as they are now. ValueError when the export is closed."""
        self._check_open()
        if "metrics" in self._signals:
            self._call(self._exporter.metrics, readings(self.state.stats()), self._clock())

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[None]:
        """What runs inside becomes a span. Its attributes are these and the State's `seq_begin` and `seq_end`, so that
        the commits made meanwhile are found in the log. ValueError when the export is closed.
        """
        self._check_open()
        begin_ns, seq_begin = self._clock(), self.state.seq
        try:
            yield
        finally:
            if "traces" in self._signals and not self.closed:
                attributes = {**attributes, "seq_begin": seq_begin, "seq_end": self.state.seq}
                self._call(self._exporter.span, name, begin_ns, self._clock(), attributes)

    def close(self) -> None:
        """Sends the readings a last time if the State is still open, and closes the exporter. May be called again."""
        if self.closed:
            return
        if not self.state.closed:
            self.send()
        self.closed = True
        self._call(self._exporter.close)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("The export is closed. Open another with mmsb.export().")

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as error:
            self.failures += 1
            self.last_error = error

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def readings(stats: Mapping[str, Any], place: str = "") -> dict[str, int | float]:
    """The numbers among statistics by their place, as in "log.bytes"; of a list its length."""
    found: dict[str, int | float] = {}
    for key, value in stats.items():
        if isinstance(value, Mapping):
            found |= readings(value, f"{place}{key}.")
        elif isinstance(value, (list, tuple)):
            found[place + key] = len(value)
        elif isinstance(value, (int, float)):
            found[place + key] = value
    return found
