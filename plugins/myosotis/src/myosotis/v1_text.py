"""The text of format v1, letter by letter as the first engine writes it: numbers, strings, hashes, values, nodes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Any

from myosotis.graph import Graph, Node
from myosotis.mutations import CreateNode, DeleteField, Mutation, SetField
from myosotis.values import Ref

# Escapes what the first engine escapes: quotes, backslashes and characters below 0x20, nothing else.
string_text = encode_basestring

NAMES = {int: "Int", float: "Float", bool: "Bool", str: "Str", Ref: "Ref", list: "List", dict: "Map"}
BYTES = [str(byte) for byte in range(256)]
_POWERS = [float(f"1e{exponent}") for exponent in range(309)]


def float_text(number: float) -> str:
    """The shortest text that reads back as this number: positional from 1e-5 to below 1e16, else with an exponent."""
    text = repr(number)
    if "e" not in text:
        return text
    digits, _, exponent = text.partition("e")
    power = int(exponent)
    if power != -5:
        return f"{digits}e{power}"
    sign = "-" if digits.startswith("-") else ""
    return f"{sign}0.0000{digits.lstrip('-').replace('.', '')}"


def first_engine_reads(number: float) -> float:
    """What the first engine reads from `float_text`: it rounds twice, and so misses about every tenth number by a bit.

    It takes all digits as one integer, rounds that to a float, and multiplies or divides by one power of ten.
    """
    digits, _, exponent = float_text(abs(number)).partition("e")
    whole, _, rest = digits.partition(".")
    power = int(exponent or 0) - len(rest)
    result = float(int(whole + rest))
    if power < -308:
        result /= _POWERS[308]
        power += 308
    result = result * _POWERS[power] if power >= 0 else result / _POWERS[-power]
    return -result if struct.pack(">d", number)[0] >= 128 else result


def misread_floats(value: Any) -> Iterable[float]:
    """The numbers inside a value that the first engine would read as others."""
    kind = type(value)
    if kind is float:
        if first_engine_reads(value) != value:
            yield value
    elif kind is list:
        for item in value:
            yield from misread_floats(item)
    elif kind is dict:
        for item in value.values():
            yield from misread_floats(item)


def block(opening: str, parts: Iterable[str], closing: str, indent: str) -> str:
    """An array or object, an element a line; one without elements closes on the same line."""
    inner = f",\n{indent}  ".join(parts)
    return f"{opening}\n{indent}  {inner}\n{indent}{closing}" if inner else opening + closing


def hash_text(digest: bytes | None, indent: str) -> str:
    """A hash as 32 numbers, one a line."""
    return "null" if digest is None else block("[", map(BYTES.__getitem__, digest), "]", indent)


def value_text(value: Any, indent: str) -> str:
    """A value under the name of its type, maps in the order of their keys."""
    kind, inner = type(value), indent + "  "
    if kind is int:
        text = str(value)
    elif kind is float:
        text = float_text(value)
    elif kind is bool:
        text = "true" if value else "false"
    elif kind is str:
        text = string_text(value)
    elif kind is Ref:
        text = str(value.id)
    elif kind is list:
        text = block("[", (value_text(item, inner + "  ") for item in value), "]", inner)
    else:
        text = fields_text(value, inner)
    return f'{{\n{inner}"{NAMES[kind]}": {text}\n{indent}}}'


def fields_text(fields: dict[str, Any], indent: str) -> str:
    """Keys and values in the order of the keys."""
    inner = indent + "  "
    parts = (f"{string_text(key)}: {value_text(fields[key], inner)}" for key in sorted(fields))
    return block("{", parts, "}", indent)


def node_text(node: Node, indent: str) -> str:
    """A node."""
    inner = indent + "  "
    return (
        f'{{\n{inner}"id": {node.id},\n{inner}"ty": {string_text(node.type)},\n'
        f'{inner}"fields": {fields_text(node.fields, inner)},\n'
        f'{inner}"deleted": {"true" if node.deleted else "false"}\n{indent}}}'
    )


def graph_text(graph: Graph, indent: str) -> str:
    """All nodes in the order of their ids."""
    inner = indent + "  "
    parts = (f'"{node_id}": {node_text(graph.nodes[node_id], inner)}' for node_id in sorted(graph.nodes))
    return block("{", parts, "}", indent)


def mutation_text(mutation: Mutation, indent: str) -> str:
    """A mutation under its name."""
    name, inner = type(mutation).__name__, indent + "    "
    lines = [f'"id": {mutation.id}']
    if isinstance(mutation, CreateNode):
        lines.append(f'"ty": {string_text(mutation.type)}')
    elif isinstance(mutation, SetField):
        lines.append(f'"key": {string_text(mutation.key)}')
        lines.append(f'"value": {value_text(mutation.value, inner)}')
    elif isinstance(mutation, DeleteField):
        lines.append(f'"key": {string_text(mutation.key)}')
    body = f",\n{inner}".join(lines)
    return f'{{\n{indent}  "{name}": {{\n{inner}{body}\n{indent}  }}\n{indent}}}'
