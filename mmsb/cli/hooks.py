"""The commands of mmsb itself, offered through the plugins' door, so that no plugin can take their names."""

from __future__ import annotations

from mmsb.cli import BUILT_IN
from mmsb.plugin import CommandSpec, hookimpl

MMSB_API = 1


@hookimpl
def mmsb_commands() -> list[CommandSpec]:
    """All of BUILT_IN."""
    return [CommandSpec(name, "A command of mmsb itself.", f"{module}:command") for name, module in BUILT_IN.items()]
