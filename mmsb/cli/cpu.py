"""`mmsb cpu`: what the kernels run on."""

from __future__ import annotations

import json

import click


@click.command("cpu")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(as_json: bool) -> None:
    """Show the CPU features found and used. MMSB_DISABLE_CPU=avx2,... turns features off."""
    from mmsb._core.kernels import Kernels, cpu_report

    report = cpu_report()
    try:
        Kernels(",".join(report["disabled"]))
    except ValueError as error:
        raise click.UsageError(f"MMSB_DISABLE_CPU: {error}.") from error
    if as_json:
        click.echo(json.dumps(report))
        return
    for title in ("detected", "disabled", "used"):
        click.echo(f"{title:<14}{' '.join(report[title]) or '-'}")
    for kernel, level in report["kernels"].items():
        click.echo(f"{kernel:<14}{level}")
