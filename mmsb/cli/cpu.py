"""`mmsb cpu`: what the kernels run on."""

from __future__ import annotations

import click


@click.command("cpu")
def command() -> None:
    """Show the CPU features found and used. MMSB_DISABLE_CPU=avx2,... turns features off."""
    from mmsb._core.kernels import cpu_report

    click.echo(cpu_report().rstrip("\n"))
