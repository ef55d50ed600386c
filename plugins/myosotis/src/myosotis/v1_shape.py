"""The shape of format v1: JSON becomes nodes and mutations here, or MalformedFileStructureError.

`depth` is the number of brackets around a JSON value in the file; format v1 ends at 127, which unknown fields that are
otherwise ignored have to keep to as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from myosotis.errors import MalformedFileStructureError
from myosotis.graph import Graph, Node
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, Mutation, SetField
from myosotis.values import ID_MOST, INT_LEAST, INT_MOST, Ref, Value

DEPTH_MOST = 127
NODE_KEY = re.compile(r"\+?[0-9]+", re.ASCII)
U64_DIGITS = 20


class Repeated(dict[str, Any]):
    """A JSON object with a key that comes twice: format v1 takes the last one, files without a header may not."""


def mark_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For JSON parsers: marks objects in which a key comes twice."""
    result = dict(pairs)
    return result if len(result) == len(pairs) else Repeated(result)


def malformed(where: str, what: str) -> MalformedFileStructureError:
    """The error of a place in the file."""
    return MalformedFileStructureError(
        f"Malformed file structure: {where} {what}. Restore the file, or `myo recover` it.", where=where
    )


def text(item: Any, where: str) -> str:
    """A string that UTF-8 can express."""
    if type(item) is not str:
        raise malformed(where, "is not a string")
    if not item.isascii():
        try:
            item.encode()
        except UnicodeEncodeError:
            raise malformed(where, "holds a lone surrogate") from None
    return item


def u64(item: Any, where: str) -> int:
    """An integer from 0 to 2**64 - 1."""
    if type(item) is not int or not 0 <= item <= ID_MOST:
        raise malformed(where, "is not an unsigned integer of 64 bits")
    return item


def optional_u64(item: Any, where: str) -> int | None:
    """The same, or null."""
    return None if item is None else u64(item, where)


def optional_hash(item: Any, where: str) -> bytes | None:
    """A hash, or null."""
    return None if item is None else digest(item, where)


def digest(item: Any, where: str) -> bytes:
    """32 numbers from 0 to 255."""
    if type(item) is not list or len(item) != 32 or any(type(byte) is not int for byte in item):
        raise malformed(where, "is not a list of 32 bytes")
    try:
        return bytes(item)
    except ValueError:
        raise malformed(where, "is not a list of 32 bytes") from None


def array(item: Any, where: str) -> list[Any]:
    """A JSON array."""
    if type(item) is not list:
        raise malformed(where, "is not an array")
    return item


def record(item: Any, needed: Sequence[str], where: str, depth: int, optional: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object with these fields. Others are ignored, but may not break the rules of JSON."""
    if type(item) is not dict:
        raise malformed(where, "has a key that comes twice" if isinstance(item, Repeated) else "is not an object")
    for name in needed:
        if name not in item:
            raise malformed(where, f"lacks {name!r}")
    if len(item) > len(needed):
        for name in item.keys() - {*needed, *optional}:
            sound(name, where, depth)
            sound(item[name], where, depth)
    return item


def sound(item: Any, where: str, depth: int) -> None:
    """What is ignored must still be JSON that the first engine parses."""
    if type(item) is str:
        text(item, where)
    elif isinstance(item, (list, dict)):
        if depth == DEPTH_MOST:
            raise malformed(where, "is nested too deep")
        if isinstance(item, dict):
            for key in item:
                text(key, where)
        for inner in item.values() if isinstance(item, dict) else item:
            sound(inner, where, depth + 1)
    elif type(item) is float:
        number(item, where)


def number(item: Any, where: str) -> float:
    """A finite float; an integer is one too."""
    if type(item) is int:
        try:
            return float(item)
        except OverflowError:
            raise malformed(where, "is beyond all floats") from None
    if type(item) is not float or item - item != 0:
        raise malformed(where, "is not a finite number")
    return item


def integer(item: Any, where: str) -> int:
    """An integer of 64 bits."""
    if type(item) is not int or not INT_LEAST <= item <= INT_MOST:
        raise malformed(where, "is not an integer of 64 bits")
    return item


def boolean(item: Any, where: str) -> bool:
    """A truth value."""
    if type(item) is not bool:
        raise malformed(where, "is not true or false")
    return item


SCALARS: dict[str, Callable[[Any, str], Value]] = {
    "Int": integer,
    "Float": number,
    "Bool": boolean,
    "Str": text,
    "Ref": lambda item, where: Ref(u64(item, where)),
}


def variant(item: Any, where: str) -> tuple[str, Any]:
    """Name and content of an object with one key."""
    if type(item) is not dict or len(item) != 1:
        raise malformed(where, "is not an object with one key")
    ((name, content),) = item.items()
    return name, content


def value(item: Any, where: str, depth: int) -> Value:
    """A value under the name of its type."""
    name, content = variant(item, where)
    scalar = SCALARS.get(name)
    if scalar is not None:
        return scalar(content, where)
    # The value's own brackets, and those of the list or map inside.
    if depth + 2 > DEPTH_MOST:
        raise malformed(where, "is nested too deep")
    if name == "List":
        return [value(inner, where, depth + 2) for inner in array(content, where)]
    if name == "Map":
        return fields(content, where, depth + 2)
    raise malformed(where, f"has the unknown type {name!r}")


def fields(item: Any, where: str, depth: int) -> dict[str, Value]:
    """Values by key. `depth` counts the brackets of the map as well."""
    if not isinstance(item, dict):
        raise malformed(where, "is not a map")
    return {text(key, where): value(content, where, depth) for key, content in item.items()}


MUTATION_FIELDS = {
    "CreateNode": ("id", "ty"),
    "SetField": ("id", "key", "value"),
    "DeleteField": ("id", "key"),
    "DeleteNode": ("id",),
}


def mutation(item: Any, where: str) -> Mutation:
    """A mutation under its name; it stands at depth 5 of a file."""
    name, content = variant(item, where)
    needed = MUTATION_FIELDS.get(name)
    if needed is None:
        raise malformed(where, f"has the unknown mutation {name!r}")
    content = record(content, needed, where, 6)
    node_id = u64(content["id"], where)
    if name == "SetField":
        return SetField(node_id, text(content["key"], where), value(content["value"], where, 6))
    if name == "CreateNode":
        return CreateNode(node_id, text(content["ty"], where))
    if name == "DeleteField":
        return DeleteField(node_id, text(content["key"], where))
    return DeleteNode(node_id)


def graph(item: Any, where: str, depth: int) -> Graph:
    """Nodes by id. `depth` counts the brackets of the object as well.

    A node's own id is read and otherwise ignored, as the first engine does: what names a node is its key.
    """
    if not isinstance(item, dict):
        raise malformed(where, "is not an object of nodes")
    nodes: dict[int, Node] = {}
    for key, content in item.items():
        digits = key.lstrip("+0")
        if not NODE_KEY.fullmatch(key) or len(digits) > U64_DIGITS:
            raise malformed(where, f"has the key {key[:40]!r}, which is no node id")
        node_id = u64(int(digits or "0"), where)
        inside = f"{where}, node {node_id}"
        content = record(content, ("id", "ty", "fields", "deleted"), inside, depth + 1)
        u64(content["id"], inside)
        nodes[node_id] = Node(
            node_id,
            text(content["ty"], inside),
            fields(content["fields"], inside, depth + 2),
            boolean(content["deleted"], inside),
        )
    return Graph(nodes)
