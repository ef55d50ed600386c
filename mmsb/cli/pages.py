"""`mmsb pages`: the pages of a store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from mmsb.cli.common import at_option, open_store, state_at, store_argument
from mmsb.cli.output import json_option, print_json, print_table, short


def metadata_text(metadata: Any) -> str:
    """Metadata on one line, values shortened."""
    parts = []
    for key, value in metadata.items():
        text = repr(value) if isinstance(value, (str, bytes)) else str(short(value))
        parts.append(f"{key}={text if len(text) <= 40 else text[:37] + '...'}")
    return " ".join(parts)


@click.command("pages")
@store_argument
@at_option
@json_option
def command(store: str, place: int | str | datetime | None, wants_json: bool) -> None:
    """List the pages of STORE."""
    with open_store(store) as state:
        pages = state_at(state, place).pages()
        if wants_json:
            print_json(
                [
                    {
                        "page_id": page.page_id,
                        "name": page.name,
                        "size": page.size,
                        "epoch": page.epoch,
                        "location": page.location,
                        "metadata": dict(page.metadata),
                    }
                    for page in pages
                ]
            )
            return
        rows = (
            (page.page_id, page.name, page.size, page.epoch, page.location, metadata_text(page.metadata))
            for page in pages
        )
        columns = ("id", "name", "size", "epoch", "location", "metadata")
        if not print_table(columns, rows, right=("id", "size", "epoch")):
            click.echo("no pages")
