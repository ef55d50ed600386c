"""The four mutations, and the bytes that commits are hashed over and journals keep."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from myosotis.errors import MalformedFileStructureError
from myosotis.values import Value, decode, decode_id, decode_text, encode, encode_text

CREATE_NODE, SET_FIELD, DELETE_FIELD, DELETE_NODE = range(1, 5)
_HEAD = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class CreateNode:
    """Makes the node `id` (u64) of this type."""

    id: int
    type: str

    def encode(self) -> bytes:
        """The bytes that are hashed."""
        return _HEAD.pack(CREATE_NODE, self.id) + encode_text(self.type)


@dataclass(frozen=True, slots=True, init=False)
class SetField:
    """Sets the field `key` of the node `id` to a value."""

    id: int
    key: str
    value: Value

    def __init__(self, id: int, key: str, value: Value) -> None:
        # Most mutations are one: the slots themselves are twice as quick as what a frozen dataclass does.
        _put_id(self, id)
        _put_key(self, key)
        _put_value(self, value)

    def encode(self) -> bytes:
        """The bytes that are hashed."""
        return set_prefix(self.id, self.key) + encode(self.value)


_put_id, _put_key, _put_value = SetField.id.__set__, SetField.key.__set__, SetField.value.__set__  # type: ignore


def set_prefix(node_id: int, key: str) -> bytes:
    """The bytes of a SetField before its value."""
    return _HEAD.pack(SET_FIELD, node_id) + encode_text(key)


@dataclass(frozen=True, slots=True)
class DeleteField:
    """Takes the field `key` from the node `id`."""

    id: int
    key: str

    def encode(self) -> bytes:
        """The bytes that are hashed."""
        return _HEAD.pack(DELETE_FIELD, self.id) + encode_text(self.key)


@dataclass(frozen=True, slots=True)
class DeleteNode:
    """Makes the node `id` a tombstone."""

    id: int

    def encode(self) -> bytes:
        """The bytes that are hashed."""
        return _HEAD.pack(DELETE_NODE, self.id)


Mutation = CreateNode | SetField | DeleteField | DeleteNode
_WITH_PARTS = frozenset((list, dict))


def lone_value(mutations: Sequence[Mutation]) -> SetField | None:
    """The mutation, if there is no other one and it sets a value without parts: no list, no map."""
    if len(mutations) != 1:
        return None
    only = mutations[0]
    return only if type(only) is SetField and type(only.value) not in _WITH_PARTS else None


def encode_all(mutations: tuple[Mutation, ...]) -> bytes:
    """The bytes of several mutations, one after the other."""
    return b"".join([mutation.encode() for mutation in mutations])


def decode_all(data: bytes) -> tuple[Mutation, ...]:
    """The mutations in these bytes, which need not be trusted. MalformedFileStructureError."""
    mutations: list[Mutation] = []
    at = 0
    while at < len(data):
        tag = data[at]
        node_id, at = decode_id(data, at + 1)
        if tag == SET_FIELD:
            key, at = decode_text(data, at)
            value, at = decode(data, at)
            mutations.append(SetField(node_id, key, value))
        elif tag == CREATE_NODE:
            name, at = decode_text(data, at)
            mutations.append(CreateNode(node_id, name))
        elif tag == DELETE_FIELD:
            key, at = decode_text(data, at)
            mutations.append(DeleteField(node_id, key))
        elif tag == DELETE_NODE:
            mutations.append(DeleteNode(node_id))
        else:
            raise MalformedFileStructureError(
                f"Malformed file structure: there is no mutation of type {tag}.", where=f"byte {at - 9}"
            )
    return tuple(mutations)
