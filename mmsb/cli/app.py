"""The group of all commands: ours, imported one by one, and those that plugins add."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from mmsb import __version__
from mmsb.cli import BUILT_IN
from mmsb.cli.common import DAMAGE, registry
from mmsb.cli.output import Failure
from mmsb.errors import MMSBError

if TYPE_CHECKING:
    from mmsb.plugin import CommandSpec


class PluginCommand(click.Command):
    """Shows its summary without importing anything; becomes the real command when it is run."""

    def __init__(self, spec: CommandSpec) -> None:
        super().__init__(spec.name, help=spec.summary)
        self.spec = spec

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """The context of the real command."""
        command: click.Command = self.spec.resolve()
        return command.make_context(*args, **kwargs)


def plugin_commands() -> dict[str, click.Command]:
    """Commands that installed plugins add."""
    specs = registry().commands
    return {name: PluginCommand(spec) for name, spec in specs.items() if name not in BUILT_IN}


class Commands(click.Group):
    """Loads a command when it is asked for, and plugins only for --help and for a command that is not ours."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names for the help text."""
        return [*BUILT_IN, *sorted(plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, None when there is none of this name."""
        if cmd_name in BUILT_IN:
            own = import_module(BUILT_IN[cmd_name]).command
            assert isinstance(own, click.Command)
            return own
        command = plugin_commands().get(cmd_name)
        if command is None and any(record.broken for record in registry().records):
            registry().find("commands", cmd_name)  # raises: what was asked for may be a broken plugin's
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; errors that mmsb and the system raise on purpose become one sentence."""
        try:
            result = super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output left; click ends quietly
        except (MMSBError, OSError) as error:
            raise Failure(error) from error
        except click.exceptions.Exit:
            result = None
            if DAMAGE not in ctx.meta:
                raise
        if DAMAGE in ctx.meta:
            raise Failure(ctx.meta[DAMAGE])
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Look into mmsb stores, travel through their history and keep them in order.

    Every command that reads works while another process holds the store. Exit status: 0 ok, 1 a fault was found, 2 the
    command could not be carried out as asked.
    """
