"""What `mmsb log` and `mmsb tail` share: which commits are shown, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click

from mmsb import links
from mmsb.cli.common import page_of
from mmsb.cli.output import utc

KINDS = ("delta", "create", "delete", "resize", "rename", "metadata", "label", "intent", "link", "unlink", "wave")
COLUMNS = ("seq", "time (UTC)", "source", "label", "bytes", "changes")
RIGHT = ("seq", "bytes")


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --page, --source, --label and --kind."""
    for option in (
        click.option("--kind", "-k", type=click.Choice(KINDS), help="Only commits with a change of this kind."),
        click.option("--label", "-l", help="Only commits with this label."),
        click.option("--source", "-s", help="Only commits of this source."),
        click.option("--page", "-p", help="Only commits that change this page (name or id)."),
    ):
        function = option(function)
    return function


def page_id_of(state: Any, text: str) -> int:
    """The id of a page by name, or of one that is or was, by id."""
    return int(text) if text.isdecimal() and text.isascii() and text not in state else int(page_of(state, text).page_id)


def describe(commit: Any) -> str:
    """What a commit did, in a few words."""
    parts = []
    changed_bytes: dict[int, int] = {}
    for delta in commit.deltas:
        changed_bytes[delta.page_id] = changed_bytes.get(delta.page_id, 0) + delta.nbytes
    for change in commit.changes:
        if change.kind == "create":
            ids = f"{change.page_id}" if change.count == 1 else f"{change.page_id}-{change.page_id + change.count - 1}"
            parts.append(f"create {ids} ({change.size} B)")
        elif change.kind == "resize":
            parts.append(f"resize {change.page_id} to {change.size} B")
        elif change.kind == "rename":
            parts.append(f"rename {change.page_id} to {change.text!r}" if change.text else f"unname {change.page_id}")
        elif change.kind in ("delete", "metadata"):
            parts.append(f"{change.kind} {change.page_id}")
        elif change.kind in ("link", "unlink", "wave"):
            parts.append(describe_graph(commit, change))
    parts += [f"{page_id}: {count} B" for page_id, count in islice(changed_bytes.items(), 6)]
    if len(changed_bytes) > 6:
        parts.append(f"and {len(changed_bytes) - 6} more pages")
    return ", ".join(parts)


def describe_graph(commit: Any, change: Any) -> str:
    """A link, the end of one, or a wave, in a few words."""
    if change.kind == "link":
        link = links.decode(change.blob)
        how = f"by {link.semiring or link.function or link.type}" if link.kind == "data" else f"({link.kind})"
        return f"link {change.page_id} to {few(link.parents)} {how}"
    if change.kind == "unlink":
        kind, parents = links.decode_unlink(change.blob)
        return f"unlink {change.page_id} from {few(parents) if parents else 'all'} ({kind})"
    failed, fresh, _ = links.decode_wave(change.blob)
    notes = [f"stale: {few(sorted(failed))}"] if failed else []
    notes += [f"up to date: {few(fresh)}"] if fresh else []
    return "; ".join([f"wave after {commit.cause}", *notes])


def few(pages: Sequence[int]) -> str:
    """Ids of pages, not all of many."""
    shown = " ".join(str(page_id) for page_id in pages[:6])
    return f"{shown} and {len(pages) - 6} more" if len(pages) > 6 else shown


def graph_facts(commit: Any) -> dict[str, Any]:
    """What a commit says of the graph, for --json; what it does not say is left out."""
    facts: dict[str, Any] = {}
    for change in commit.changes:
        if change.kind == "link":
            link = links.decode(change.blob)
            facts.setdefault("links", []).append(
                {"page_id": change.page_id, "kind": link.kind, "type": link.type, "parents": link.parents}
                | {key: value for key in ("semiring", "dtype", "function") if (value := getattr(link, key))}
            )
        elif change.kind == "unlink":
            kind, parents = links.decode_unlink(change.blob)
            facts.setdefault("unlinks", []).append({"page_id": change.page_id, "kind": kind, "parents": parents})
        elif change.kind == "wave":
            failed, fresh, partial = links.decode_wave(change.blob)
            stale = [{"page_id": page_id, "reason": reason} for page_id, reason in failed.items()]
            facts["wave"] = {"cause": commit.cause, "stale": stale, "fresh": fresh, "partial": partial}
    return facts


def document(commit: Any) -> dict[str, Any]:
    """A commit for --json."""
    return {
        "seq": commit.seq,
        "time_ns": commit.time_ns,
        "source": commit.source,
        "label": commit.label,
        "intent": commit.intent,
        "nbytes": commit.nbytes,
        "changes": [
            {"kind": change.kind, "page_id": change.page_id, "size": change.size, "count": change.count}
            | ({"name": change.text} if change.text is not None else {})
            for change in commit.changes
            if change.kind in ("create", "delete", "resize", "rename", "metadata")
        ],
        "deltas": [
            {"page_id": delta.page_id, "index": delta.index, "nbytes": delta.nbytes, "ranges": delta.ranges()}
            for delta in commit.deltas
        ],
        **graph_facts(commit),
    }


def row(commit: Any) -> tuple[object, ...]:
    """A commit for a table, as COLUMNS says."""
    return (commit.seq, utc(commit.time_ns), commit.source, commit.label, commit.nbytes, describe(commit))
