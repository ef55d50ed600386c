"""`mmsb diff`: what differs between two states, of one store or of two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from mmsb.cli.common import Place, open_store, state_at, store_argument
from mmsb.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from mmsb.history import PageDifference

RANGES_SHOWN = 4


def compare(a: Any, b: Any) -> Iterator[PageDifference]:
    """What differs between two State-likes of different stores, page by page, ascending by id."""
    from mmsb._core.delta import Delta
    from mmsb.history import PageDifference

    pages_a, pages_b = ({page.page_id: page for page in state.pages()} for state in (a, b))
    for page_id in sorted(pages_a.keys() | pages_b.keys()):
        x: Any = pages_a.get(page_id)
        y: Any = pages_b.get(page_id)
        if x is None:
            yield PageDifference(page_id, "created", (None, y.size), (None, y.epoch), (None, y.name))
        elif y is None:
            yield PageDifference(page_id, "deleted", (x.size, None), (x.epoch, None), (x.name, None))
        else:
            noted = dict(x.metadata) != dict(y.metadata)
            delta = Delta.between(page_id, x.read(), y.read()) if x.size == y.size else None
            facts = (x.size, y.size), (x.epoch, y.epoch), (x.name, y.name)
            if noted or delta is not None or any(before != after for before, after in facts):
                yield PageDifference(page_id, "changed", *facts, noted, delta)


def document(found: PageDifference) -> dict[str, Any]:
    """A difference for --json."""
    return {
        "page_id": found.page_id,
        "what": found.what,
        "name": found.name,
        "size": found.size,
        "epoch": found.epoch,
        "metadata_changed": found.metadata_changed,
        "ranges": [] if found.delta is None else found.delta.ranges(),
    }


def describe(found: PageDifference) -> str:
    """A difference in a few words."""
    parts = []
    if found.delta is not None:
        ranges = found.delta.ranges()
        shown = ", ".join(f"{offset}+{length}" for offset, length in ranges[:RANGES_SHOWN])
        more = f", and {len(ranges) - RANGES_SHOWN} more" if len(ranges) > RANGES_SHOWN else ""
        parts.append(f"{found.delta.nbytes} B: {shown}{more}")
    if found.metadata_changed:
        parts.append("metadata")
    return "; ".join(parts)


def pair(values: tuple[Any, Any]) -> str:
    """Both sides of a difference, or the one they share."""
    if values[0] == values[1]:
        return "" if values[0] is None else str(values[0])
    return " -> ".join("-" if value is None else str(value) for value in values)


@click.command("diff")
@store_argument
@click.argument("a", type=Place(), required=False)
@click.argument("b", type=Place(), required=False)
@click.option("--against", type=click.Path(exists=True), help="Compare with this store: A of STORE with B of this one.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something differs.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    store: str,
    a: int | str | datetime | None,
    b: int | str | datetime | None,
    against: str | None,
    exit_code: bool,
    wants_json: bool,
) -> None:
    """Show what differs between two states.

    A and B are places in the history of STORE: seqs, labels or times; without B it is now. Ranges are
    offset+length. With --against the states of two stores are compared, page id by page id.
    """
    if a is None and against is None:
        raise click.UsageError("Give two places in history, or --against another store.")
    with open_store(store) as first, open_store(against or store) as second:
        old, new = state_at(first, a), state_at(second, b)
        seqs = (old.seq, new.seq)
        found = list(first.diff(*seqs) if against is None else compare(old, new))
    if wants_json:
        print_json({"a": seqs[0], "b": seqs[1], "equal": not found, "pages": [document(one) for one in found]})
    elif not found:
        click.echo(f"no page differs between seq {seqs[0]} and seq {seqs[1]}")
    else:
        rows = (
            (one.page_id, pair(one.name), one.what, pair(one.size), pair(one.epoch), describe(one)) for one in found
        )
        print_table(("id", "name", "what", "size", "epoch", "changes"), rows, right=("id",))
    ctx.exit(1 if exit_code and found else 0)
