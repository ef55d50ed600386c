"""The command line, `myo`. What a command needs is imported when it runs."""

from __future__ import annotations

import importlib

# Where the commands live, in the order of the help text.
COMMANDS = {
    "init": "edit",
    "create": "edit",
    "set": "edit",
    "delete": "edit",
    "status": "edit",
    "discard": "edit",
    "commit": "edit",
    "history": "look",
    "log": "look",
    "show": "look",
    "diff": "look",
    "blame": "look",
    "stats": "look",
    "verify": "keep",
    "recover": "keep",
    "compact": "keep",
    "fork": "move",
    "convert": "move",
    "export": "move",
    "import": "move",
}


def main() -> None:
    """Runs the command line on sys.argv and exits with 0 (ok), 1 (an error) or 2 (wrong usage)."""
    from mmsb.cli.output import run
    from myosotis.cli.app import commands

    run(commands, "myo")


def module(name: str) -> object:
    """The module that a command lives in."""
    return importlib.import_module(f"myosotis.cli.{COMMANDS[name]}")
