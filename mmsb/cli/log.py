"""`mmsb log`: the commits of a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import click

from mmsb.cli.commits import COLUMNS, RIGHT, document, filter_options, page_id_of, row
from mmsb.cli.common import Place, open_store, state_at, store_argument
from mmsb.cli.output import json_option, print_json, print_table

TABLE_LIMIT = 100


@click.command("log")
@store_argument
@filter_options
@click.option("--since", type=Place(), help="From here on: a seq, a label or a time.")
@click.option("--until", type=Place(), help="Up to here, included.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the newest N up to there.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Stop after N commits; 0 for all. [default: {TABLE_LIMIT} in a table, all with --json]",
)
@json_option
def command(
    store: str,
    page: str | None,
    source: str | None,
    label: str | None,
    kind: str | None,
    since: int | str | datetime | None,
    until: int | str | datetime | None,
    last: int | None,
    limit: int | None,
    wants_json: bool,
) -> None:
    """List the commits of STORE, oldest first.

    With --json one document per line and commit.
    """
    if last is not None and since is not None:
        raise click.UsageError("Give --since or --last.")
    if limit is None:
        limit = 0 if wants_json else TABLE_LIMIT
    with open_store(store) as state:
        if last is not None:
            since = max(1, state_at(state, until).seq - last + 1)
        history: Any = state
        commits: Iterator[Any] = history.log(
            page=None if page is None else page_id_of(state, page),
            source=source,
            label=label,
            since=1 if since is None else since,
            until=until,
            kind=kind,
        )
        shown = islice(commits, limit) if limit else commits
        if wants_json:
            for commit in shown:
                print_json(document(commit))
            return
        count = print_table(COLUMNS, map(row, shown), right=RIGHT)
        if not count:
            click.echo("no commits")
        elif count == limit and next(commits, None) is not None:
            click.echo(f"There are more commits; --limit 0 shows all, --last {limit} the newest.", err=True)
