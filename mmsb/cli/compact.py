"""`mmsb compact`: lets go of history."""

from __future__ import annotations

from datetime import datetime

import click

from mmsb.cli.common import Place, open_store, store_argument
from mmsb.cli.output import human_bytes, json_option, print_facts, print_json


@click.command("compact")
@store_argument
@click.option("--before", type=Place(), required=True, help="Keep history from here on: a seq, a label or a time.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--no-keep-labels", is_flag=True, help="Forget the labels of what goes, too.")
@json_option
def command(store: str, before: int | str | datetime, dry_run: bool, no_keep_labels: bool, wants_json: bool) -> None:
    """Let go of the history of STORE before a place.

    Needs the store for itself. The state at that place becomes the oldest one that can be read. It is written as a
    checkpoint and read back before anything is deleted.
    """
    with open_store(store, read_only=False) as state:
        report = state.compact(before, keep_labels=not no_keep_labels, dry_run=dry_run)
    if wants_json:
        print_json({"store": store, **vars(report)})
        return
    would = "would go" if report.dry_run else "gone"
    print_facts(
        [
            ("store", store),
            ("oldest state", f"seq {report.first_seq}"),
            (would, f"{report.forgotten_commits} commits, {human_bytes(report.bytes_freed)}"),
            ("files", f"{len(report.segments)} segments, {len(report.checkpoints)} checkpoints"),
            ("labels", ", ".join(f"{label} ({seq})" for seq, label in report.labels) or "none"),
        ]
    )
