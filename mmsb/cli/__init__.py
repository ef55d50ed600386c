"""The command line, `mmsb`. One module per command; what it needs is imported when it runs."""

from __future__ import annotations


def main() -> None:
    """Runs the command line on sys.argv and exits with 0 (ok), 1 (a fault was found) or 2 (wrong usage)."""
    import io
    import sys

    from mmsb.cli.app import commands

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding does not
    commands(prog_name="mmsb")
