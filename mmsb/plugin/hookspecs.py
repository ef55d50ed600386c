"""Every hook that a plugin may implement, one line each; docs/hooks/ has a page per hook."""

from collections.abc import Iterable

from mmsb.plugin.markers import hookspec
from mmsb.plugin.types import CommandSpec


@hookspec
def mmsb_commands() -> Iterable[CommandSpec]:  # type: ignore[empty-body]
    """Commands to add to `mmsb`; asked once, when the command line needs a name that is not built in."""
