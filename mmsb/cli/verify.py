"""`mmsb verify`: proves a store, or says what is wrong with it."""

from __future__ import annotations

from typing import Any

import click

from mmsb.cli.common import open_store, store_argument
from mmsb.cli.output import as_json, json_option, print_json, print_table, progress


def document(finding: Any) -> dict[str, Any]:
    """A finding for --json: whatever facts it has."""
    facts = vars(finding) if hasattr(finding, "__dict__") else {"message": str(finding)}
    return {name: as_json(value) for name, value in facts.items() if not name.startswith("_")}


@click.command("verify")
@store_argument
@json_option
@click.pass_context
def command(ctx: click.Context, store: str, wants_json: bool) -> None:
    """Check every frame, anchor and checkpoint of STORE, and that a replay equals the head."""
    with open_store(store) as state, progress(f"verify {store}") as show:
        seq = state.seq
        report = state.verify(progress=show)
    if wants_json:
        print_json({"store": store, "seq": seq, "findings": [document(finding) for finding in report.findings]})
    elif report.findings:
        print_table(("what",), ((str(finding),) for finding in report.findings))
        click.echo(f"{len(report.findings)} found in {store}", err=True)
    else:
        click.echo(f"{store}: nothing found, {seq} commits")
    ctx.exit(1 if report.findings else 0)
