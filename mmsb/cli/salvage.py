"""`mmsb salvage`: copies what is intact out of a damaged store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mmsb.cli.common import store_argument
from mmsb.cli.output import human_count, json_option, print_json, print_table, printable, progress

if TYPE_CHECKING:
    from mmsb.salvaging import Gap, Ranges, SalvageReport

RANGES_SHOWN = 8
DAMAGE_SHOWN = 100


def spans(ranges: Ranges) -> str:
    """Ranges for people: 1-4, 7."""
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_SHOWN])
    return shown + (f" and {len(ranges) - RANGES_SHOWN} more ranges" if len(ranges) > RANGES_SHOWN else "")


def sentence(gap: Gap, report: SalvageReport) -> str:
    """What a gap means."""
    after = next((saved for saved in report.saved if saved.first_seq == gap.last), None)
    before = next((saved for saved in reversed(report.saved) if saved.seq < gap.first), None)
    words = [f"Commits {gap.first} to {gap.last} are missing."]
    if gap.lost:
        words.append(f"Nothing is left of {spans(gap.lost)}.")
    if gap.whole:
        words.append(
            f"Whole, but without the state that they were made in: {spans(gap.whole)} (they touch pages "
            f"{spans(gap.touched)})."
        )
    if before is not None:
        words.append(f"The last state before is that of commit {before.seq}, in {before.path}.")
    if after is not None:
        words.append(f"From commit {after.first_seq} on all pages are known again, in {after.path}.")
    elif gap.pages:
        words.append(f"What these pages held afterwards is not known: {spans(gap.pages)}.")
    return " ".join(words)


@click.command("salvage")
@store_argument
@click.argument("out", type=click.Path())
@json_option
@click.pass_context
def command(ctx: click.Context, store: str, out: str, wants_json: bool) -> None:
    """Copy what is intact out of a damaged STORE into a new store at OUT, and list what is missing.

    STORE is only read. Each part of its history that can be replayed becomes a store that opens as any other: the
    newest one at OUT, an older one that ends with commit N at OUT.until-N. Exit status: 0 nothing is missing, 1
    something is, 2 nothing could be saved.
    """
    from mmsb.config import anchor_key
    from mmsb.errors import MMSBError
    from mmsb.salvaging import salvage

    try:
        with progress(f"salvage {store}") as show:
            report = salvage(store, out, anchor_key=anchor_key(), progress=show)
    except ValueError as error:
        if isinstance(error, MMSBError):
            raise
        raise click.UsageError(str(error)) from error
    if wants_json:
        saved, damage, gaps = (
            [vars(each) for each in found] for found in (report.saved, report.damage, report.missing)
        )
        facts = {"saved": saved, "missing": gaps, "damage": damage, "end_known": report.end_known}
        print_json({"store": store, "complete": report.complete, **facts})
    else:
        show_report(store, report)
    ctx.exit(0 if report.complete else 1 if report.saved else 2)


def show_report(store: str, report: SalvageReport) -> None:
    """Prints a report for people."""
    print_table(
        ("saved", "first state", "last commit", "begins with", "digest"),
        (
            (saved.path, saved.first_seq, saved.seq, saved.base or "the empty state", saved.digest.hex()[:16])
            for saved in report.saved
        ),
        right=("first state", "last commit"),
    )
    print_table(
        ("damaged", "from", "to", "commit", "how"),
        ((d.path, d.offset, d.end, d.seq, d.reason) for d in report.damage[:DAMAGE_SHOWN]),
        right=("from", "to", "commit"),
    )
    if len(report.damage) > DAMAGE_SHOWN:
        click.echo(f"and {human_count(len(report.damage) - DAMAGE_SHOWN, 'more place')}")
    for gap in report.missing:
        click.echo(printable(sentence(gap, report)))
    if report.saved and not report.end_known:
        last = report.saved[-1].seq
        click.echo(f"Nothing intact says where the log ended: commits after {last} may be missing unseen.")
    if not report.saved:
        click.echo(f"{store}: nothing could be saved")
    elif report.complete:
        click.echo(f"{store}: nothing is missing")
