"""`mmsb info`: what a store is."""

from __future__ import annotations

import click

from mmsb.cli.common import open_store, store_argument
from mmsb.cli.output import human_bytes, json_option, print_facts, print_json, utc


@click.command("info")
@store_argument
@json_option
def command(store: str, wants_json: bool) -> None:
    """Show what STORE is and what it holds."""
    with open_store(store) as state:
        pages = state.pages()
        page_bytes = sum(page.size for page in pages)
        facts = {
            "path": store,
            "uuid": state.uuid.hex(),
            "seq": state.seq,
            "first_seq": state.first_seq,
            "durable_seq": state.durable_seq,
            "time_ns": state.time_ns,
            "branch": state.branch,
            "pages": len(pages),
            "page_bytes": page_bytes,
            "digest": state.digest().hex(),
            "anchor": state.anchor.hex(),
            "stats": state.stats(),
        }
    if wants_json:
        print_json(facts)
        return
    print_facts(
        [
            ("store", store),
            ("uuid", facts["uuid"]),
            ("seq", f"{facts['seq']} (kept from {facts['first_seq']}, durable to {facts['durable_seq']})"),
            ("last commit", utc(state.time_ns) if facts["seq"] else "none"),
            ("branch", facts["branch"]),
            ("pages", f"{len(pages)}, {human_bytes(page_bytes)}"),
            ("digest", facts["digest"]),
            ("anchor", facts["anchor"]),
        ]
    )
