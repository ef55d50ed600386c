"""`mmsb compact`: lets go of history."""

from __future__ import annotations

from datetime import datetime

import click

from mmsb.cli.common import Place, open_store, store_argument
from mmsb.cli.output import json_option, print_facts, print_json


@click.command("compact")
@store_argument
@click.option("--before", type=Place(), required=True, help="Keep history from here on: a seq, a label or a time.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--no-keep-labels", is_flag=True, help="Let labelled states go too.")
@json_option
def command(store: str, before: int | str | datetime, dry_run: bool, no_keep_labels: bool, wants_json: bool) -> None:
    """Let go of the history of STORE before a seq, a label or a time. Needs the store for itself."""
    with open_store(store, read_only=False) as state:
        result = state.compact(before=before, keep_labels=not no_keep_labels, dry_run=dry_run)
    facts = {name: value for name, value in vars(result).items() if not name.startswith("_")}
    if wants_json:
        print_json({"store": store, **facts})
        return
    print_facts([("store", store), *((name.replace("_", " "), value) for name, value in facts.items())])
