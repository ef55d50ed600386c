"""Values of fields: what may be one, and the bytes that are hashed and kept.

The encoding is the one that the hashes of format v1 are made of (integers big-endian, strings with their length in
front, maps in the order of their keys' bytes). It ends by itself, so that the journal keeps exactly these bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from myosotis.errors import InvalidValueError, MalformedFileStructureError, MissingReferenceError

NESTING_MOST = 60
INT_LEAST, INT_MOST = -(2**63), 2**63 - 1
ID_MOST = 2**64 - 1

INT, FLOAT, BOOL, STR, REF, LIST, MAP = range(1, 8)
_INT, _FLOAT, _REF = struct.Struct(">Bq"), struct.Struct(">Bd"), struct.Struct(">BQ")
_COUNT, _I64, _F64 = struct.Struct(">Q"), struct.Struct(">q"), struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to the node of this id (u64)."""

    id: int


Value = int | float | bool | str | Ref | list["Value"] | dict[str, "Value"]


def check(value: object, path: str, level: int = 0) -> None:
    """Refuses what format v1 cannot keep. `path` names the value in the error: InvalidValueError.

    Integers beyond 64 bits, NaN and infinities, lone surrogates, more than 60 levels of lists and maps, keys that are
    no strings and every type that is not a value. `level`: how many lists and maps the value is to lie in.
    """
    _check(value, path, level)


def _check(value: Any, path: str, level: int) -> None:
    kind = type(value)
    if kind is bool:
        return
    if isinstance(value, Ref):
        if type(value.id) is not int or not 0 <= value.id <= ID_MOST:
            raise InvalidValueError(f"{path} refers to {value.id!r}. Node ids are integers of 64 bits.", path=path)
    elif kind is int:
        if not INT_LEAST <= value <= INT_MOST:
            raise InvalidValueError(f"{path} is an integer beyond 64 bits. Keep it as a string.", path=path)
    elif kind is float:
        if value - value != 0:
            raise InvalidValueError(f"{path} is {value}. Only finite numbers can be kept.", path=path)
    elif kind is str:
        check_text(value, path)
    elif kind is list or kind is dict:
        if level == NESTING_MOST:
            raise InvalidValueError(f"{path} is nested more than {NESTING_MOST} levels deep. Use nodes.", path=path)
        if kind is list:
            for index, item in enumerate(value):
                _check(item, f"{path}[{index}]", level + 1)
        else:
            for key, item in value.items():
                inner = f"{path}[{key!r}]"
                if type(key) is not str:
                    raise InvalidValueError(f"{inner} has a key that is no string.", path=inner)
                check_text(key, inner)
                _check(item, inner, level + 1)
    else:
        raise InvalidValueError(
            f"{path} is of type {kind.__name__}. Values are int, float, bool, str, references, lists and maps.",
            path=path,
        )


def check_text(text: str, path: str) -> None:
    """Refuses lone surrogates, which UTF-8 cannot express: InvalidValueError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"{path} holds a lone surrogate at character {error.start}. Text must be valid Unicode.", path=path
        ) from None


def check_key(key: object) -> None:
    """Refuses what cannot be the name of a field: InvalidValueError."""
    if type(key) is not str:
        raise InvalidValueError(
            f"{key!r} is no string. Fields and entries of maps are named by strings.", path=repr(key)
        )
    check_text(key, repr(key))


def references(value: Value, path: str = "") -> Iterator[tuple[str, int]]:
    """Path and node id of every reference inside a value."""
    if type(value) is Ref:
        yield path, value.id
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from references(item, f"{path}[{index}]")
    elif type(value) is dict:
        for key, item in value.items():
            yield from references(item, f"{path}[{key!r}]")


def check_references(value: Value, nodes: Container[int], path: str) -> None:
    """Every reference must lead to a node that exists, tombstones included: MissingReferenceError."""
    for inner, node_id in references(value, path):
        if node_id not in nodes:
            raise MissingReferenceError(
                f"Invariant violation: reference to missing node {node_id} in {inner}. Create the node first.",
                node_id=node_id,
                path=inner,
            )


def encode_text(text: str) -> bytes:
    """u64 length in bytes, then UTF-8."""
    data = text.encode()
    return _COUNT.pack(len(data)) + data


def encode(value: Any) -> bytes:
    """The bytes of a Value that `check` let through."""
    kind = type(value)
    if kind is int:
        return _INT.pack(INT, value)
    if kind is str:
        data: bytes = value.encode()
        return _REF.pack(STR, len(data)) + data
    if kind is float:
        return _FLOAT.pack(FLOAT, value)
    if kind is bool:
        return b"\x03\x01" if value else b"\x03\x00"
    if kind is Ref:
        return _REF.pack(REF, value.id)
    if kind is list:
        return _REF.pack(LIST, len(value)) + b"".join(map(encode, value))
    assert type(value) is dict
    # Python compares strings by code point, which is the order of their UTF-8 bytes.
    parts = (encode_text(key) + encode(value[key]) for key in sorted(value))
    return _REF.pack(MAP, len(value)) + b"".join(parts)


def take(data: bytes, at: int, count: int) -> int:
    """The end of `count` bytes from `at`; MalformedFileStructureError when the data ends before."""
    if count > len(data) - at:
        raise MalformedFileStructureError(
            f"Malformed file structure: the record ends within a value at byte {at}.", where=f"byte {at}"
        )
    return at + count


def decode_text(data: bytes, at: int) -> tuple[str, int]:
    """A string and where it ends. MalformedFileStructureError."""
    start = take(data, at, 8)
    end = take(data, start, _COUNT.unpack_from(data, at)[0])
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError:
        raise _unknown(at, "is no valid text") from None


def decode_id(data: bytes, at: int) -> tuple[int, int]:
    """A node id and where it ends. MalformedFileStructureError."""
    end = take(data, at, 8)
    return _COUNT.unpack_from(data, at)[0], end


def decode(data: bytes, at: int = 0) -> tuple[Value, int]:
    """A value and where it ends. The bytes need not be trusted: MalformedFileStructureError."""
    return _decode(data, at, 0)


def _decode(data: bytes, at: int, level: int) -> tuple[Value, int]:
    start = take(data, at, 1)
    tag = data[at]
    if tag == STR:
        return decode_text(data, start)
    if tag == BOOL:
        end = take(data, start, 1)
        if data[start] > 1:
            raise _unknown(at, "is no truth value")
        return data[start] == 1, end
    end = take(data, start, 8)
    if tag == INT:
        return _I64.unpack_from(data, start)[0], end
    if tag == FLOAT:
        number: float = _F64.unpack_from(data, start)[0]
        if number - number != 0:
            raise _unknown(at, "is not a finite number")
        return number, end
    count: int = _COUNT.unpack_from(data, start)[0]
    if tag == REF:
        return Ref(count), end
    if tag not in (LIST, MAP):
        raise _unknown(at, f"has the unknown type {tag}")
    if level > NESTING_MOST:  # one more than `check` allows: the genesis of a v1 file may be so deep
        raise _unknown(at, "is nested too deep")
    if tag == LIST:
        items: list[Value] = []
        for _ in range(count):
            item, end = _decode(data, end, level + 1)
            items.append(item)
        return items, end
    return _decode_map(data, end, count, level)


def _decode_map(data: bytes, at: int, count: int, level: int) -> tuple[dict[str, Value], int]:
    fields: dict[str, Value] = {}
    last = None
    for _ in range(count):
        key, start = decode_text(data, at)
        if last is not None and key <= last:
            raise _unknown(at, "has keys out of order")
        fields[key], at = _decode(data, start, level + 1)
        last = key
    return fields, at


def _unknown(at: int, what: str) -> MalformedFileStructureError:
    return MalformedFileStructureError(f"Malformed file structure: the value at byte {at} {what}.", where=f"byte {at}")
