"""What commands share: which memory, nodes and values as people write and read them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmsb.cli.common import DAMAGE, Place
from myosotis.errors import InvalidValueError
from myosotis.exports import from_json_value
from myosotis.values import ID_MOST, Ref, Value, check

if TYPE_CHECKING:
    from myosotis.graph import Graph
    from myosotis.memory import Memory

SUFFIXES = (".myo", ".mmsb")
# The file that says which memory was initialised in a folder.
NOTE = ".myo"
PATH_BYTES_MOST = 4096

Function = Callable[..., Any]


def file_option(function: Function) -> Function:
    """Adds --file; the command gets `path`."""
    return click.option("-f", "--file", "path", type=click.Path(), callback=_chosen, help="The memory.")(function)


def _chosen(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    """The memory that was named, else the one that was initialised in this folder, else the only one in it."""
    named = value or ctx.find_root().params.get("file") or _noted()
    if named:
        return str(named)
    found = sorted(path.name for path in Path().iterdir() if path.suffix in SUFFIXES)
    if len(found) == 1:
        return found[0]
    if found:
        raise click.UsageError(
            f"This folder has several memories: {', '.join(found)}. Name one with --file or MYO_FILE."
        )
    raise click.UsageError(
        "This folder has no memory. `myo init state.myo` makes one; --file or MYO_FILE name one elsewhere."
    )


def note(path: str) -> None:
    """Remembers for this folder which memory was initialised in it, or below it."""
    inside = os.path.relpath(path)
    if not inside.startswith(os.pardir):
        Path(NOTE).write_text(f"{inside}\n", encoding="utf-8", errors="surrogateescape")


def _noted() -> str | None:
    try:
        with open(NOTE, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline(PATH_BYTES_MOST).rstrip("\n") or None
    except (FileNotFoundError, IsADirectoryError):
        return None


def open_memory(path: str, read_only: bool = False) -> Memory:
    """The memory at a path; never makes one. UsageError, and what Memory.open raises."""
    from myosotis.memory import Memory

    if not (os.path.exists(path) or os.path.exists(f"{path}.journal")):
        raise click.UsageError(f"There is no memory at {path}. `myo init {path}` makes one.")
    unsafe = click.get_current_context().find_root().params["unsafe"]
    memory = Memory.open(path, mode="unsafe" if unsafe else "strict", read_only=read_only)
    damage = memory.state.recovered.damage
    if damage is not None:  # what is before it is shown, and the command then ends with it as its error
        click.get_current_context().find_root().meta[DAMAGE] = damage
    return memory


def absent(path: str) -> None:
    """Refuses to write over something: UsageError."""
    if os.path.lexists(path):
        raise click.UsageError(f"There is something at {path} already. Choose another path.")


def graph_now(memory: Memory) -> Graph:
    """The graph with what is staged in it, also of a memory that is open for reading."""
    from myosotis.graph import Graph
    from myosotis.mutations import decode_all

    graph = Graph({node_id: memory.get(node_id).copy() for node_id in memory.ids()})
    if memory.read_only:
        graph.replay(decode_all(memory.store.staged()[1]))
    return graph


class NodeId(click.ParamType):
    """A node: 3, or @3."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The id."""
        digits = str(value).removeprefix("@")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20 or int(digits) > ID_MOST:
            self.fail(f"{value!r} is no node id.", param, ctx)
        return int(digits)


node_argument = click.argument("node", metavar="ID", type=NodeId())
at_option = click.option("--at", type=Place(), help="As it was after a commit: its id, its label, or a time.")


def value_of(text: str, path: str) -> Value:
    """A value as people write it: 42, 1.5, true, @3, JSON; anything else is a string. InvalidValueError.

    Inside JSON a reference is `{"@": 3}`.
    """
    digits = text[1:]
    if text.startswith("@") and digits.isascii() and digits.isdecimal():
        value: Any = Ref(int(digits[:21]))
    else:
        try:
            value = from_json_value(json.loads(text))
        except (ValueError, RecursionError):
            value = text
    if value is None:
        raise InvalidValueError(f"{path} would be null. Delete the field, or give --text for the word.", path=path)
    check(value, path)
    accepted: Value = value
    return accepted
