"""`mmsb cpu`: what the kernels run on."""

from __future__ import annotations

import click

from mmsb.cli.output import json_option, print_facts, print_json


@click.command("cpu")
@json_option
def command(wants_json: bool) -> None:
    """Show the CPU features found and used.

    MMSB_DISABLE_CPU=avx2,... turns features off.
    """
    from mmsb._core.kernels import Kernels, cpu_report

    report = cpu_report()
    try:
        Kernels(",".join(report["disabled"]))
    except ValueError as error:
        raise click.UsageError(f"MMSB_DISABLE_CPU: {error}") from error
    if wants_json:
        print_json(report)
        return
    features = [(title, " ".join(report[title]) or "-") for title in ("detected", "disabled", "used")]
    print_facts([*features, *report["kernels"].items()])
