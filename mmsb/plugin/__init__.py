"""What a plugin's author imports: the marker for hooks, and the types that hooks return."""

from mmsb.plugin.markers import hookimpl
from mmsb.plugin.types import API, CommandSpec

__all__ = ["API", "CommandSpec", "hookimpl"]
