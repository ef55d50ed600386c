"""The command line, `mmsb`. One module per command; what it needs is imported when it runs."""

from __future__ import annotations


def main() -> None:
    """Runs the command line on sys.argv and exits with 0 (ok), 1 (a fault was found) or 2 (wrong usage)."""
    from mmsb.cli.app import commands

    commands(prog_name="mmsb")
