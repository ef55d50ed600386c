"""`mmsb verify`: proves a store, or says what is wrong with it."""

from __future__ import annotations

import click

from mmsb.cli.common import DAMAGE, open_store, store_argument
from mmsb.cli.output import json_option, print_json, printable, progress


@click.command("verify")
@store_argument
@click.option("--recompute", is_flag=True, help="Also compute pages that native links compute once more.")
@json_option
@click.pass_context
def command(ctx: click.Context, store: str, recompute: bool, wants_json: bool) -> None:
    """Check all of STORE, and that a replay equals its head.

    Every frame, anchor, checkpoint and file is read. Nothing is changed. Of what is found three things are said: what
    it is and where, what it means, and what to do about it.
    """
    with open_store(store) as state, progress(f"verify {store}") as show:
        seq = state.seq
        report = state.verify(progress=show, recompute=recompute)
    ctx.find_root().meta.pop(DAMAGE, None)  # it is one of the findings
    if wants_json:
        findings = [vars(finding) for finding in report.findings]
        print_json({"store": store, "seq": seq, **vars(report), "findings": findings})
    else:
        for finding in report.findings:
            for words in (
                f"{finding.severity}: {finding.sentence}",
                f"  {finding.meaning}",
                f"  To do: {finding.advice}",
            ):
                click.echo(printable(words))
        names = ("segments", "commits", "anchors", "checkpoints")
        checked = ", ".join(f"{getattr(report, name)} {name}" for name in names)
        click.echo(f"{store}: {len(report.findings) or 'nothing'} found in {checked}")
    ctx.exit(1 if report.findings else 0)
