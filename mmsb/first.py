"""The first MMSB's way in: `mmsb.start(...)`, the statistics it kept, and `stop(checkpoint_path=)`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mmsb._core.delta import Delta
from mmsb.errors import PluginError
from mmsb.opening import open as open_state
from mmsb.state import State


class Latency:
    """Exact latencies of one kind of operation, in nanoseconds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all that was measured."""
        self.count = 0
        self.total_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    def add(self, ns: int) -> None:
        """Counts one operation that took `ns` nanoseconds."""
        self.min_ns = min(self.min_ns, ns) if self.count else ns
        self.max_ns = max(self.max_ns, ns)
        self.count += 1
        self.total_ns += ns

    def report(self) -> dict[str, float]:
        """count, total_ns, avg_ns, min_ns, max_ns."""
        average = self.total_ns / self.count if self.count else 0.0
        return {
            "count": self.count,
            "total_ns": self.total_ns,
            "avg_ns": average,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
        }


class InstrumentedState(State):
    """A State that measures update_page, apply and route_delta."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delta_latency = Latency()

    def update_page(self, page: Any, data: Any, source: str | None = None) -> Delta | None:
        """As State.update_page, measured."""
        begun = time.perf_counter_ns()
        try:
            return super().update_page(page, data, source)
        finally:
            self.delta_latency.add(time.perf_counter_ns() - begun)

    def apply(self, delta: Delta, **options: Any) -> Delta | None:
        """As State.apply, measured."""
        begun = time.perf_counter_ns()
        try:
            return super().apply(delta, **options)
        finally:
            self.delta_latency.add(time.perf_counter_ns() - begun)

    def stats(self) -> dict[str, Any]:
        """As State.stats, with `latency`."""
        return {**super().stats(), "latency": {"delta": self.delta_latency.report()}}

    def reset_stats(self) -> None:
        """Starts the latencies anew."""
        self.delta_latency.reset()


# What a configuration may say, and the argument of mmsb.open that it becomes.
CONFIGURATION = {"tlog_path": "path", "durability": "durability", "max_bytes": "max_bytes", "history": "history"}


def start(
    enable_gpu: bool = False, enable_instrumentation: bool = False, config: Mapping[str, Any] | None = None
) -> State:
    """Opens a State as the first MMSB did.

    `enable_gpu`: needs a device backend plugin, PluginError without one. `enable_instrumentation`: stats() then holds
    exact latencies, and reset_stats() clears them. `config`: tlog_path (directory of a durable store; none: in
    memory), durability, max_bytes, history. ValueError on an unknown key.
    """
    if enable_gpu:
        raise PluginError(
            "No device backend is installed. Install a backend plugin, or start with enable_gpu=False.",
            plugin="device backend",
            reason="not installed",
        )
    settings = dict(config or {})
    unknown = sorted(set(settings) - set(CONFIGURATION))
    if unknown:
        raise ValueError(f"Unknown configuration {', '.join(unknown)}. Known: {', '.join(CONFIGURATION)}.")
    arguments = {CONFIGURATION[key]: value for key, value in settings.items()}
    return open_state(**arguments, _state_class=InstrumentedState if enable_instrumentation else State)
