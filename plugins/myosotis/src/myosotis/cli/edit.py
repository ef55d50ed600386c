"""`myo init`, `create`, `set`, `delete`, `status`, `discard`, `commit`: changes, staged and made permanent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mmsb.cli.output import human_count, json_option, print_json, print_table, printable
from myosotis.cli.common import file_option, node_argument, note, open_memory, value_of
from myosotis.exports import json_value, shown
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, Mutation, SetField, decode_all
from myosotis.values import Value

# "-7" is a value, not an option.
VALUES = {"ignore_unknown_options": True}


@click.command("init")
@click.argument("file", type=click.Path())
@json_option
def init_command(file: str, wants_json: bool) -> None:
    """Make an empty memory: a file of format v1 with a journal beside it, or a store when FILE ends in .mmsb.

    From then on it is the one that commands in this folder are about.
    """
    from myosotis.memory import Memory

    existed = Path(file).exists()
    if not existed:
        Memory.open(file).close()
    note(file)
    if wants_json:
        print_json({"file": file, "created": not existed})
    else:
        click.echo(
            f"File already exists: {printable(file)}" if existed else f"Initialized new memory at {printable(file)}"
        )


@click.command("create", context_settings=VALUES)
@click.argument("type")
@click.argument("fields", metavar="[KEY=VALUE]...", nargs=-1)
@file_option
@json_option
def create_command(type: str, fields: tuple[str, ...], path: str, wants_json: bool) -> None:
    """Stage a new node of TYPE, with fields if you like. Prints its id."""
    values: dict[str, Value] = {}
    for item in fields:
        key, equals, text = item.partition("=")
        if not equals:
            raise click.UsageError(f"{item!r} is not of the form KEY=VALUE.")
        values[key] = value_of(text, key)
    with open_memory(path) as memory:
        node = memory.create(type, **values)
        memory.keep_staged()
    if wants_json:
        print_json({"id": node.id, "type": type})
    else:
        click.echo(f"Created node {node.id} of type {printable(repr(type))} in {printable(path)}")


@click.command("set", context_settings=VALUES)
@node_argument
@click.argument("key")
@click.argument("value")
@click.option("--text", is_flag=True, help="Take VALUE as a string, whatever it looks like.")
@file_option
@json_option
def set_command(node: int, key: str, value: str, text: bool, path: str, wants_json: bool) -> None:
    """Stage a field. VALUE is 42, 1.5, true, @3 (a reference) or JSON; anything else is a string."""
    accepted: Value = value if text else value_of(value, key)
    with open_memory(path) as memory:
        memory.node(node)[key] = accepted
        memory.keep_staged()
    if wants_json:
        print_json({"id": node, "key": key, "value": json_value(accepted)})
    else:
        click.echo(f"Set node {node} field {printable(repr(key))} = {printable(shown(accepted))}")


@click.command("delete")
@node_argument
@click.argument("key", required=False)
@file_option
@json_option
def delete_command(node: int, key: str | None, path: str, wants_json: bool) -> None:
    """Stage the deletion of a node, or of its field KEY. A deleted node stays as a tombstone."""
    with open_memory(path) as memory:
        if key is None:
            memory.delete(node)
        else:
            del memory.node(node)[key]
        memory.keep_staged()
    if wants_json:
        print_json({"id": node, "key": key})
    elif key is None:
        click.echo(f"Staged delete-node for node {node}")
    else:
        click.echo(f"Staged delete-field {printable(repr(key))} on node {node}")


@click.command("commit")
@click.argument("message", required=False)
@click.option("--author", envvar="MYO_AUTHOR", help="Noted beside the commit (environment: MYO_AUTHOR).")
@click.option("--meta", "notes", metavar="KEY=VALUE", multiple=True, help="More to note beside it.")
@click.option(
    "--timestamp",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S"]),
    help="Its time, in UTC when it names no zone. [default: now]",
)
@file_option
@json_option
def commit_command(
    message: str | None,
    author: str | None,
    notes: tuple[str, ...],
    timestamp: datetime | None,
    path: str,
    wants_json: bool,
) -> None:
    """Make what is staged permanent, as one commit with the label MESSAGE."""
    meta: dict[str, Any] = {} if author is None else {"author": author}
    for pair in notes:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"{pair!r} is not of the form KEY=VALUE.")
        meta[key] = text
    if timestamp is None:
        timestamp = datetime.now(UTC)
    elif timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    with open_memory(path) as memory:
        commit = memory.commit(message, meta, timestamp.astimezone(UTC))
    if wants_json:
        print_json({"id": commit.id, "label": message, "hash": commit.hash, "mutations": len(commit.mutations)})
    elif message is None:
        click.echo(f"Committed {commit.id}")
    else:
        click.echo(f'Committed {commit.id} with message "{printable(message)}"')


@click.command("status")
@file_option
@json_option
def status_command(path: str, wants_json: bool) -> None:
    """Show the latest commit and what is staged."""
    with open_memory(path, read_only=True) as memory:
        staged = decode_all(memory.store.staged()[1])
        head = memory.head
    if wants_json:
        print_json({"file": path, "commit": head, "staged": [change_document(mutation) for mutation in staged]})
        return
    click.echo(f"{printable(path)}: {f'commit {head}' if head else 'no commits yet'}")
    if staged:
        click.echo(f"{human_count(len(staged), 'staged change')}; `myo commit` makes them permanent:")
        print_table(("change", "node", "field", "value"), map(change_row, staged), right=("node",))
    else:
        click.echo("Nothing is staged.")


@click.command("discard")
@file_option
@json_option
def discard_command(path: str, wants_json: bool) -> None:
    """Undo everything that is staged."""
    with open_memory(path) as memory:
        count = len(memory.pending)
        memory.discard()
    if wants_json:
        print_json({"discarded": count})
    else:
        click.echo(f"Discarded {human_count(count, 'staged change')}.")


def change_row(mutation: Mutation) -> tuple[str, int, str | None, str | None]:
    """What changes, of which node, which field, to what."""
    if isinstance(mutation, CreateNode):
        return "create", mutation.id, None, mutation.type
    if isinstance(mutation, SetField):
        return "set", mutation.id, mutation.key, shown(mutation.value)
    if isinstance(mutation, DeleteField):
        return "delete field", mutation.id, mutation.key, None
    assert isinstance(mutation, DeleteNode)
    return "delete", mutation.id, None, None


def change_document(mutation: Mutation) -> dict[str, Any]:
    """The same as JSON."""
    document: dict[str, Any] = {"change": type(mutation).__name__, "id": mutation.id}
    if isinstance(mutation, CreateNode):
        document["type"] = mutation.type
    elif not isinstance(mutation, DeleteNode):
        document["key"] = mutation.key
        if isinstance(mutation, SetField):
            document["value"] = json_value(mutation.value)
    return document
