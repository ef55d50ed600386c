"""`mmsb import`: brings what the first MMSB wrote into a new store."""

from __future__ import annotations

import os
from typing import Any

import click

from mmsb.cli.output import json_option, print_facts, print_json, print_table, progress


@click.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("store", type=click.Path(), required=False)
@click.option("--dry-run", is_flag=True, help="Only read SOURCE and report what is found.")
@click.option("--skip-damage", is_flag=True, help="After damage in a log go on at the next frames that look intact.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str, store: str | None, dry_run: bool, skip_damage: bool, wants_json: bool
) -> None:
    """Import a log or checkpoint of the first MMSB.

    SOURCE is the file, STORE the new store. Reports the damage that those formats could not detect, and then exits
    with 1. What was read up to the damage is imported.
    """
    from mmsb import upstream

    if store is None and not dry_run:
        raise click.UsageError("Give the path of the new STORE, or --dry-run.")
    if store is not None and os.path.lexists(store):
        raise click.UsageError(f"{store} exists; import makes a new store.")
    report = upstream.Report()
    kind, _ = upstream.sniff(source)
    seq = None
    with progress(f"import {source}") as show:
        if dry_run or store is None:
            if kind == "log":
                upstream.survey_log(source, report, skip_damage=skip_damage, progress=show)
            else:
                upstream.survey_checkpoint(source, report)
        else:
            seq = run(kind, source, store, report, skip_damage, show)
    print_report(report, store, seq, wants_json)
    ctx.exit(1 if report.fault_count else 0)


def run(kind: str, source: str, store: str, report: Any, skip_damage: bool, show: Any) -> int:
    """Makes the store and fills it; its last seq. A damaged checkpoint is refused before a store is made."""
    from mmsb import upstream
    from mmsb.opening import open as open_state

    if kind == "checkpoint":
        upstream.survey_checkpoint(source)
    with open_state(store) as state:
        if kind == "log":
            upstream.import_log(source, state, report, skip_damage=skip_damage, progress=show)
        else:
            upstream.import_checkpoint(source, state, report, progress=show)
        return int(state.seq)


def print_report(report: Any, store: str | None, seq: int | None, wants_json: bool) -> None:
    """The report of a reading, as tables or as one document."""
    if wants_json:
        print_json(
            {
                "source": report.path,
                "format": report.format,
                "version": report.version,
                "store": store if seq is not None else None,
                "seq": seq,
                "frames": report.frames,
                "pages": report.pages,
                "nbytes": report.nbytes,
                "nbytes_read": report.nbytes_read,
                "faults": report.fault_count,
                "counts": report.counts,
                "findings": [vars(finding) for finding in report.findings],
            }
        )
        return
    facts = [("source", f"{report.path} ({report.format}, version {report.version})")]
    if report.format == "log":
        facts.append(("frames", str(report.frames)))
    facts += [("pages", str(report.pages)), ("bytes read", f"{report.nbytes_read} of {report.nbytes}")]
    if seq is not None:
        facts.append(("store", f"{store}, seq {seq}"))
    facts.append(("faults", str(report.fault_count)))
    print_facts(facts)
    if report.findings:
        click.echo()
        rows = ((found.severity, found.kind, found.offset, found.message) for found in report.findings)
        print_table(("severity", "kind", "byte", "what"), rows, right=("byte",))
    for kind, count in report.counts.items():
        shown = sum(1 for found in report.findings if found.kind == kind)
        if count > shown:
            click.echo(f"{kind}: {count - shown} more")
