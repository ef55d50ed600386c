"""The group of all commands."""

from __future__ import annotations

import warnings
from typing import Any

import click

from mmsb.cli.common import DAMAGE
from mmsb.cli.output import Failure, printable
from mmsb.errors import MMSBError
from myosotis import __version__
from myosotis.cli import COMMANDS, module


class Refusal(Failure):
    """An error of ours or of the system, as a sentence (with --json: a document) on stderr; exit status 1."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.status = 1


class Commands(click.Group):
    """Loads a command when it is asked for; errors that are raised on purpose become one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names for the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(module(cmd_name), f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; warnings follow its output."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                result = super().invoke(ctx)
            except BrokenPipeError:
                raise  # the reader of our output left; click ends quietly
            except (MMSBError, OSError) as error:
                raise Refusal(error) from error
            finally:
                for text in dict.fromkeys(str(warning.message) for warning in caught):
                    click.echo(f"Warning: {printable(text)}", err=True)
        if DAMAGE in ctx.meta:
            raise Refusal(ctx.meta[DAMAGE])
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "-f",
    "--file",
    envvar="MYO_FILE",
    type=click.Path(),
    help="The memory (environment: MYO_FILE). Without it, the one in this folder.",
)
@click.option("--unsafe", is_flag=True, help="Open a file whose commits or checkpoints bear wrong hashes.")
def commands(file: str | None, unsafe: bool) -> None:
    """Keep a graph of objects that remembers: stable identity, commits, and every past state.

    Changes are staged by `create`, `set` and `delete`, and become permanent with `commit`. Exit status: 0 ok, 1 an
    error (or a fault that `verify` found), 2 wrong usage.
    """
