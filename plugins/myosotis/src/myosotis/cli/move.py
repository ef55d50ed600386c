"""`myo fork`, `convert`, `export`, `import`: to other files and from them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TextIO

import click

from mmsb.cli.common import Place
from mmsb.cli.output import human_count, json_option, print_json, printable
from myosotis.cli.common import absent, at_option, file_option, open_memory
from myosotis.errors import InvalidValueError
from myosotis.exports import FORMS, from_json_value
from myosotis.folding import write_aside

When = int | str | datetime


@click.command("fork")
@click.argument("target", type=click.Path())
@click.option("--at", type=Place(), help="The last commit to take along. [default: the latest]")
@file_option
@json_option
def fork_command(target: str, at: When | None, path: str, wants_json: bool) -> None:
    """Make a memory at TARGET with the history up to a commit: the same ids and hashes, from there on its own."""
    absent(target)
    with open_memory(path, read_only=True) as memory, memory.fork(at, target) as copy:
        head = copy.head
    if wants_json:
        print_json({"file": target, "commit": head})
    else:
        click.echo(f"Forked {printable(path)} at commit {head} to {printable(target)}")


@click.command("convert")
@click.argument("source", type=click.Path(exists=True))
@click.argument("target", type=click.Path())
@json_option
def convert_command(source: str, target: str, wants_json: bool) -> None:
    """Write the memory SOURCE as TARGET, with all its history: a .myo file, or a store when it ends in .mmsb.

    A file that the first engine wrote without a header gets one.
    """
    absent(target)
    with open_memory(source, read_only=True) as memory, memory.fork(path=target) as copy:
        head = copy.head
    if wants_json:
        print_json({"source": source, "target": target, "commit": head})
    else:
        click.echo(f"Converted {printable(source)} to {printable(target)}, up to commit {head}")


@click.command("export")
@click.argument("form", type=click.Choice([*FORMS, "v1"]), default="json")
@click.option("-o", "--output", type=click.Path(), help="Write to this file. [default: standard output]")
@at_option
@file_option
def export_command(form: str, output: str | None, at: When | None, path: str) -> None:
    """Write the graph for other programs, or (v1) the memory with its history for the first engine."""
    if form == "v1" and (output is None or at is not None):
        raise click.UsageError("v1 is a whole file: give --output, and no --at (`myo fork` takes a part).")
    if output is not None:
        absent(output)
    with open_memory(path, read_only=True) as memory:
        if form == "v1":
            assert output is not None
            memory.export_v1(output)
            return
        text = (memory if at is None else memory.at(at)).export(form)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_aside(output, text.encode())


@click.command("import")
@click.argument("source", type=click.File(encoding="utf-8"))
@click.argument("target", type=click.Path())
@json_option
def import_command(source: TextIO, target: str, wants_json: bool) -> None:
    """Make a memory at TARGET, with one commit, of a graph that `myo export json` wrote (- for standard input)."""
    from myosotis.memory import Memory

    absent(target)
    graph = graph_of(source.read())
    with Memory.from_dict(graph, target) as memory:
        count = len(memory.to_dict())
    if wants_json:
        print_json({"file": target, "nodes": count})
    else:
        click.echo(f"Imported {human_count(count, 'node')} into {printable(target)}")


def graph_of(text: str) -> dict[int, dict[str, object]]:
    """The graph that JSON text holds, as Memory.to_dict() gives it. InvalidValueError."""
    try:
        found = json.loads(text)
        return {
            int(node_id): {
                "type": node["type"],
                "fields": {key: from_json_value(value) for key, value in node["fields"].items()},
                "deleted": node["deleted"],
            }
            for node_id, node in found.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidValueError(
            f"This is no graph as `myo export json` writes it ({type(error).__name__}: {error}).", path=""
        ) from None
