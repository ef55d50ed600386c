"""`mmsb diff`: what differs between two states, of one store or of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import click

from mmsb.cli.common import Place, open_store, state_at, store_argument
from mmsb.cli.output import json_option, print_json, print_table

RANGES_SHOWN = 4
# Long equal stretches are skipped by comparing blocks of this size.
BLOCK_BYTES = 4096


@dataclass
class Difference:
    """One page that differs. `what`: "only in A", "only in B" or "changed". `size`, `epoch`: before and after."""

    page_id: int
    name: str | None
    what: str
    size: tuple[int | None, int | None]
    epoch: tuple[int | None, int | None]
    renamed: bool = False
    metadata_changed: bool = False
    ranges: list[tuple[int, int]] = field(default_factory=list)


def changed_ranges(a: bytes, b: bytes) -> list[tuple[int, int]]:
    """Byte ranges in which two contents differ; what only the longer one has differs."""
    offsets: list[int] = []
    shared = min(len(a), len(b))
    for start in range(0, shared, BLOCK_BYTES):
        end = min(start + BLOCK_BYTES, shared)
        if a[start:end] != b[start:end]:
            offsets += [at for at in range(start, end) if a[at] != b[at]]
    ranges = []
    for _, run in groupby(enumerate(offsets), lambda pair: pair[1] - pair[0]):
        run_offsets = [offset for _, offset in run]
        ranges.append((run_offsets[0], len(run_offsets)))
    longer = max(len(a), len(b)) - shared
    if longer and ranges and sum(ranges[-1]) == shared:
        ranges[-1] = (ranges[-1][0], ranges[-1][1] + longer)
    elif longer:
        ranges.append((shared, longer))
    return ranges


def differences(a: Any, b: Any) -> Iterator[Difference]:
    """Compares two State-likes page by page, ascending by id."""
    pages_a, pages_b = ({page.page_id: page for page in state.pages()} for state in (a, b))
    for page_id in sorted(pages_a.keys() | pages_b.keys()):
        old: Any = pages_a.get(page_id)
        new: Any = pages_b.get(page_id)
        if old is None:
            yield Difference(page_id, new.name, "only in B", (None, new.size), (None, new.epoch))
            continue
        if new is None:
            yield Difference(page_id, old.name, "only in A", (old.size, None), (old.epoch, None))
            continue
        found = Difference(
            page_id,
            new.name,
            "changed",
            (old.size, new.size),
            (old.epoch, new.epoch),
            old.name != new.name,
            dict(old.metadata) != dict(new.metadata),
            changed_ranges(old.read(), new.read()),
        )
        if found.ranges or found.renamed or found.metadata_changed or old.size != new.size or old.epoch != new.epoch:
            yield found


def describe(found: Difference) -> str:
    """A difference in a few words."""
    parts = []
    if found.ranges:
        count = sum(length for _, length in found.ranges)
        shown = ", ".join(f"{offset}+{length}" for offset, length in found.ranges[:RANGES_SHOWN])
        more = f", and {len(found.ranges) - RANGES_SHOWN} more" if len(found.ranges) > RANGES_SHOWN else ""
        parts.append(f"{count} B: {shown}{more}")
    if found.renamed:
        parts.append("renamed")
    if found.metadata_changed:
        parts.append("metadata")
    return "; ".join(parts)


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
    """Show what differs between A and B of STORE (seqs, labels or times; default: now).

    Ranges are offset+length. With --against the states of two stores are compared, page id by page id.
    """
    if a is None and against is None:
        raise click.UsageError("Give two places in history, or --against another store.")
    with open_store(store) as first, open_store(against or store) as second:
        old, new = state_at(first, a), state_at(second, b)
        equal = old.digest() == new.digest()
        found = [] if equal else list(differences(old, new))
        seqs = (old.seq, new.seq)
    if wants_json:
        print_json({"a": seqs[0], "b": seqs[1], "equal": equal, "pages": [vars(one) for one in found]})
    elif equal:
        click.echo(f"no difference between seq {seqs[0]} and seq {seqs[1]}")
    else:

        def pair(values: tuple[Any, Any]) -> str:
            return (
                str(values[0]) if values[0] == values[1] else " -> ".join("-" if v is None else str(v) for v in values)
            )

        rows = ((one.page_id, one.name, one.what, pair(one.size), pair(one.epoch), describe(one)) for one in found)
        print_table(("id", "name", "what", "size", "epoch", "changes"), rows, right=("id",))
    ctx.exit(1 if exit_code and not equal else 0)
