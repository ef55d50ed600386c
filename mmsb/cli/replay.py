"""`mmsb replay`: rebuilds the pages from the log alone and compares them with what the store says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mmsb.cli.common import open_store, store_argument
from mmsb.cli.output import json_option, print_facts, print_json, progress

if TYPE_CHECKING:
    from mmsb.state import State


def differing_page(core: Any, view: Any) -> dict[str, Any] | None:
    """The first page, by id, that a replayed core and a State or PastState do not share, and its first bytes."""
    replayed, pages = set(core._page_ids()), {page.page_id: page for page in view.pages()}
    for page_id in sorted(replayed | pages.keys()):
        if page_id not in replayed or page_id not in pages:
            return {"page_id": page_id, "what": "exists on one side only", "start": None, "end": None}
        page, content = pages[page_id], bytes(core._page_bytes(page_id))
        start, end = first_difference(content, page.read())
        if start is not None:
            return {"page_id": page_id, "what": f"bytes {start} to {end} differ", "start": start, "end": end}
        if core._page_info(page_id)[:2] != (page.size, page.epoch):
            return {"page_id": page_id, "what": "size or epoch differs", "start": None, "end": None}
    return None


def first_difference(a: bytes, b: bytes) -> tuple[int | None, int | None]:
    """The first run of differing bytes, (None, None) when there is none."""
    if a == b:
        return None, None
    shared = min(len(a), len(b))
    start = next((at for at in range(shared) if a[at] != b[at]), shared)
    end = next((at for at in range(start, shared) if a[at] == b[at]), max(len(a), len(b)))
    return start, end


def first_divergence(state: State, until: int) -> dict[str, Any]:
    """Where replay and store part, by bisection: the states at `until` differ."""
    from mmsb.digest import core_digest

    same, different = state.first_seq, until
    while same + 1 < different:
        middle = (same + different) // 2
        if core_digest(state.replay(middle)) == state.at(middle).digest():
            same = middle
        else:
            different = middle
    found = differing_page(state.replay(different), state.at(different))
    if found is None:
        found = {"page_id": None, "what": "names, metadata or the next page id differ", "start": None, "end": None}
    return {"seq": different, **found}


@click.command("replay")
@store_argument
@click.option("--until", type=click.IntRange(min=0), help="Replay up to this seq instead of the head.")
@json_option
@click.pass_context
def command(ctx: click.Context, store: str, until: int | None, wants_json: bool) -> None:
    """Replay the log of STORE and compare with its pages.

    The replay begins with the oldest kept state. The digest of its pages is printed and compared with the one that
    opening or time travel gives; where they differ, the first seq, page and bytes that do are printed and the exit
    status is 1.
    """
    with open_store(store) as state:
        if until is not None and until > state.seq:
            raise click.UsageError(f"{store} ends at seq {state.seq}; --until {until} lies beyond it.")
        seq = state.seq if until is None else until
        begin_ns = time.monotonic_ns()
        with progress(f"replay {store}") as show:
            core = state.replay(seq, progress=show)
        duration_ns = time.monotonic_ns() - begin_ns
        counts = core._commit_stats()
        from mmsb.digest import core_digest

        digest, expected = core_digest(core), (state.digest() if until is None else state.at(seq).digest())
        divergence = None if digest == expected else first_divergence(state, seq)
        first_seq = state.first_seq
    facts = {
        "store": store,
        "first_seq": first_seq,
        "seq": seq,
        "commits": counts["commits"],
        "deltas": counts["deltas"],
        "duration_ns": duration_ns,
        "digest": digest.hex(),
        "divergence": divergence,
    }
    if wants_json:
        print_json(facts)
    else:
        seconds = duration_ns / 1e9
        rate = f" ({counts['deltas'] / seconds / 1e6:.2f} million deltas/s)" if counts["deltas"] > 10_000 else ""
        print_facts(
            [
                ("replayed", f"seq {first_seq} to {seq}: {counts['commits']} commits, {counts['deltas']} deltas"),
                ("time", f"{seconds:.3f} s{rate}"),
                ("digest", facts["digest"]),
                ("result", "equal to the store" if divergence is None else "DIFFERENT from the store"),
            ]
        )
        if divergence is not None:
            click.echo(f"first divergence: seq {divergence['seq']}, page {divergence['page_id']}: {divergence['what']}")
    ctx.exit(0 if divergence is None else 1)
