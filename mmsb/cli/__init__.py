"""The command line, `mmsb`. One module per command; what it needs is imported when it runs."""

from __future__ import annotations

# Where each command lives, in the order of the help text.
BUILT_IN = {
    "info": "mmsb.cli.info",
    "pages": "mmsb.cli.pages",
    "log": "mmsb.cli.log",
    "show": "mmsb.cli.show",
    "diff": "mmsb.cli.diff",
    "replay": "mmsb.cli.replay",
    "verify": "mmsb.cli.verify",
    "checkpoint": "mmsb.cli.checkpoint",
    "compact": "mmsb.cli.compact",
    "salvage": "mmsb.cli.salvage",
    "import": "mmsb.cli.import_",
    "ps": "mmsb.cli.ps",
    "tail": "mmsb.cli.tail",
    "top": "mmsb.cli.top",
    "gc": "mmsb.cli.gc",
    "bench": "mmsb.cli.bench",
    "cpu": "mmsb.cli.cpu",
    "plugins": "mmsb.cli.plugins",
}


def main() -> None:
    """Runs the command line on sys.argv and exits with 0 (ok), 1 (a fault was found) or 2 (wrong usage)."""
    from mmsb.cli.app import commands
    from mmsb.cli.output import run

    run(commands, "mmsb")
