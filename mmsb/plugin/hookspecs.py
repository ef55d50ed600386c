"""Every hook that a plugin may implement, one line each; docs/hooks/ has a page per hook.

A kind of plugin is a function here: its name without `mmsb_` is the kind, its return type the result.
"""

# mypy: disable-error-code="empty-body"

from collections.abc import Iterable

from mmsb.plugin.markers import hookspec
from mmsb.plugin.types import CommandSpec, DeviceBackendSpec, ExporterSpec, PropagationPolicySpec, SemiringSpec


@hookspec
def mmsb_commands() -> Iterable[CommandSpec]:
    """Commands to add to `mmsb`; asked once per process, when the command line needs a name that is not its own."""


@hookspec
def mmsb_devices() -> Iterable[DeviceBackendSpec]:
    """Devices that can hold pages; asked once per process, when a device is first named."""


@hookspec
def mmsb_exporters() -> Iterable[ExporterSpec]:
    """Ways out for metrics and traces; asked once per process, when the first export is opened."""


@hookspec
def mmsb_policies() -> Iterable[PropagationPolicySpec]:
    """Policies that say when waves run; asked once per process, when a State first needs a policy by name."""


@hookspec
def mmsb_semirings() -> Iterable[SemiringSpec]:
    """Semirings for merge pages and links; asked once per process, when a semiring is first named."""
