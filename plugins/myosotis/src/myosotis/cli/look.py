"""`myo history`, `log`, `show`, `diff`, `blame`, `stats`: the graph and its past."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mmsb.cli.common import Place
from mmsb.cli.output import (
    human_bytes,
    human_count,
    json_option,
    print_facts,
    print_json,
    print_table,
    printable,
)
from myosotis.chain import Commit
from myosotis.cli.common import NodeId, at_option, file_option, graph_now, node_argument, open_memory
from myosotis.cli.edit import change_document, change_row
from myosotis.errors import NodeNotFoundError
from myosotis.exports import json_value, shown
from myosotis.layout import moment_of
from myosotis.values import references

When = int | str | datetime
HASH_SHOWN = 12


def commit_document(commit: Commit) -> dict[str, Any]:
    """A commit as JSON."""
    return {
        "id": commit.id,
        "label": commit.label,
        "hash": commit.hash,
        "parent_hash": commit.parent_hash,
        "meta": commit.meta,
        "mutations": [change_document(mutation) for mutation in commit.mutations],
    }


def limit_option(function: Any) -> Any:
    """Adds --limit."""
    return click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")(function)


@click.command("history")
@click.option("--node", type=NodeId(), help="Only commits that changed this node.")
@click.option("--field", help="Only commits that changed this field of it.")
@limit_option
@file_option
@json_option
def history_command(node: int | None, field: str | None, limit: int | None, path: str, wants_json: bool) -> None:
    """List the commits, oldest first."""
    commits = chosen(path, node, field, limit)
    if wants_json:
        print_json([commit_document(commit) for commit in commits])
        return
    rows = (
        (
            commit.id,
            time_of(commit),
            commit.label,
            commit.meta.get("author"),
            len(commit.mutations),
            commit.hash[:HASH_SHOWN],
        )
        for commit in commits
    )
    if not print_table(("commit", "time", "label", "author", "changes", "hash"), rows, right=("commit", "changes")):
        click.echo("no commits")


def time_of(commit: Commit) -> str:
    """The time that was noted with a commit, in UTC; nothing when there is none."""
    moment = moment_of(commit.meta.get("timestamp"))
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@click.command("log")
@click.option("--graph", is_flag=True, help="Draw the chain beside it.")
@click.option("--node", type=NodeId(), help="Only commits that changed this node.")
@limit_option
@file_option
@json_option
def log_command(graph: bool, node: int | None, limit: int | None, path: str, wants_json: bool) -> None:
    """Show the commits and what they changed, newest first."""
    commits = chosen(path, node, None, limit)[::-1]
    if wants_json:
        for commit in commits:
            print_json(commit_document(commit))
        return
    dot, bar = ("* ", "| ") if graph else ("", "")
    for commit in commits:
        label = "" if commit.label is None else f"  {printable(commit.label)}"
        click.echo(f"{dot}{click.style(f'commit {commit.id}', bold=True)}  {commit.hash[:HASH_SHOWN]}{label}")
        for name, value in commit.meta.items():
            click.echo(f"{bar}  {printable(name)}: {printable(value)}")
        for mutation in commit.mutations:
            change, node_id, key, value = change_row(mutation)
            target = f"{node_id}" if key is None else f"{node_id}.{printable(key)}"
            click.echo(f"{bar}    {change} {target}{'' if value is None else f' = {printable(value)}'}")
        click.echo(bar.rstrip())


def chosen(path: str, node: int | None, field: str | None, limit: int | None) -> list[Commit]:
    """The commits that were asked for, oldest first."""
    if field is not None and node is None:
        raise click.UsageError("--field is a field of a node. Give --node, too.")
    with open_memory(path, read_only=True) as memory:
        commits = memory.commits() if node is None else memory.history(node, field)
    return commits if limit is None else commits[-limit:]


@click.command("show")
@node_argument
@at_option
@file_option
@json_option
def show_command(node: int, at: When | None, path: str, wants_json: bool) -> None:
    """Show a node: as it is, with what is staged, or as it was after a commit."""
    with open_memory(path, read_only=True) as memory:
        if at is None:
            found, when = graph_now(memory).nodes.get(node), "current"
        else:
            commit_id = memory.commit_id(at)
            found, when = memory.at(commit_id).peek(node), f"commit {commit_id}"
    if found is None:
        raise NodeNotFoundError(f"Node not found: {node}. `myo stats` counts what is there.", node_id=node)
    if wants_json:
        fields = json_value(found.fields)
        print_json({"id": node, "type": found.type, "fields": fields, "deleted": found.deleted, "at": when})
        return
    click.echo(f"Node {node} ({when}):" if at is None else f"Node {node} @ {when}:")
    click.echo(f"  type: {printable(found.type)}")
    if found.deleted:
        click.echo("  deleted: true")
    click.echo("  fields:")
    for key in sorted(found.fields):
        click.echo(f"    {printable(key)}: {printable(shown(found.fields[key]))}")


@click.command("diff")
@click.argument("a", metavar="COMMIT_A", type=Place())
@click.argument("b", metavar="COMMIT_B", type=Place())
@file_option
@json_option
def diff_command(a: When, b: When, path: str, wants_json: bool) -> None:
    """Show what differs between two commits, each an id, a label or a time."""
    with open_memory(path, read_only=True) as memory:
        difference = memory.diff(a, b)
    if wants_json:
        print_json(difference.to_dict())
    else:
        click.echo(str(difference))


@click.command("blame")
@node_argument
@click.argument("key")
@file_option
@json_option
def blame_command(node: int, key: str, path: str, wants_json: bool) -> None:
    """Show which commit set a field last."""
    with open_memory(path, read_only=True) as memory:
        commit = memory.blame(node, key)
        value = memory.node(node).fields[key]
    if wants_json:
        print_json(None if commit is None else commit_document(commit))
    elif commit is None:
        click.echo(f"Node {node} field {printable(repr(key))} was set before the history that is kept.")
    else:
        label = "" if commit.label is None else f' "{printable(commit.label)}"'
        click.echo(
            f"Commit {commit.id}{label} set node {node} field {printable(repr(key))} to {printable(shown(value))}"
        )
        for name, note in commit.meta.items():
            click.echo(f"  {printable(name)}: {printable(note)}")


@click.command("stats")
@file_option
@json_option
def stats_command(path: str, wants_json: bool) -> None:
    """Count what is in a memory: nodes by type, fields, references, commits, bytes."""
    with open_memory(path, read_only=True) as memory:
        nodes = memory.nodes()
        types = Counter(node.type for node in nodes)
        facts: dict[str, Any] = {
            "file": path,
            "bytes": size_of(path),
            "commits": len(memory.commits()),
            "head": memory.head,
            "nodes": len(nodes),
            "deleted": len(memory.nodes(deleted=True)),
            "fields": sum(len(node) for node in nodes),
            "references": sum(1 for node in nodes for _ in references(node.fields)),
            "next_node_id": memory.next_node_id,
            "state_hash": memory.state_hash(),
        }
    if wants_json:
        print_json({**facts, "types": dict(sorted(types.items()))})
        return
    facts["bytes"] = human_bytes(facts["bytes"])
    print_facts(facts.items())
    for name, count in sorted(types.items()):
        click.echo(f"  {printable(name)}: {human_count(count, 'node')}")


def size_of(path: str) -> int:
    """Bytes of a file or of all files in a folder, and of the journal beside it."""
    total = 0
    for place in (Path(path), Path(f"{path}.journal")):
        if place.is_dir():
            total += sum(entry.stat().st_size for entry in place.rglob("*") if entry.is_file())
        elif place.exists():
            total += os.stat(place).st_size
    return total
