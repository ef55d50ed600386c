"""What a plugin's author imports: the marker for hooks, the specs that hooks return, and the protocols behind them."""

from mmsb.plugin.markers import hookimpl
from mmsb.plugin.protocols import DeviceBackend, Engine, Exporter, Policy, Semiring
from mmsb.plugin.types import (
    API,
    CommandSpec,
    DeviceBackendSpec,
    ExporterSpec,
    PropagationPolicySpec,
    SemiringSpec,
)

__all__ = [
    "API",
    "CommandSpec",
    "DeviceBackend",
    "DeviceBackendSpec",
    "Engine",
    "Exporter",
    "ExporterSpec",
    "Policy",
    "PropagationPolicySpec",
    "Semiring",
    "SemiringSpec",
    "hookimpl",
]
