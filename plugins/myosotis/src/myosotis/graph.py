"""The graph: nodes by id, changed by mutations, with the state hash of format v1."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from myosotis.errors import (
    DeleteNonexistentNodeError,
    DeleteOnDeletedNodeError,
    DuplicateNodeError,
    FieldNotFoundError,
    NodeDeletedError,
    SetBeforeCreateError,
)
from myosotis.mutations import CreateNode, DeleteField, Mutation, SetField
from myosotis.values import Ref, Value, check_references, encode, encode_text

_ID, _DELETED_COUNT = struct.Struct(">Q"), struct.Struct(">?Q")


@dataclass(slots=True)
class Node:
    """A node: its id (u64), its type, its fields, and whether it is a tombstone. Values are never changed in place."""

    id: int
    type: str
    fields: dict[str, Value] = field(default_factory=dict)
    deleted: bool = False

    def copy(self) -> Node:
        """A node with fields of its own."""
        return Node(self.id, self.type, dict(self.fields), self.deleted)

    def encode(self) -> bytes:
        """The bytes that the state hash is made of."""
        fields = self.fields
        parts = [_ID.pack(self.id), encode_text(self.type), _DELETED_COUNT.pack(self.deleted, len(fields))]
        for key in sorted(fields):
            parts.append(encode_text(key))
            parts.append(encode(fields[key]))
        return b"".join(parts)


_LEADING = frozenset((Ref, list, dict))  # to other nodes


@dataclass(slots=True)
class Graph:
    """Nodes by id, tombstones included."""

    nodes: dict[int, Node] = field(default_factory=dict)

    def copy(self) -> Graph:
        """A graph of its own; values are shared, for they never change."""
        return Graph({node_id: node.copy() for node_id, node in self.nodes.items()})

    def state_hash(self) -> bytes:
        """SHA-256 over all nodes in the order of their ids, as format v1 has it (32 bytes)."""
        nodes = self.nodes
        return hashlib.sha256(b"".join([nodes[node_id].encode() for node_id in sorted(nodes)])).digest()

    def replay(self, mutations: Iterable[Mutation]) -> None:
        """Applies one mutation after the other. The error of the first that breaks a rule; those before it stay."""
        for mutation in mutations:
            self.apply(mutation)

    def apply(self, mutation: Mutation) -> None:
        """Applies a mutation, or raises and changes nothing.

        DuplicateNodeError, SetBeforeCreateError, NodeDeletedError, MissingReferenceError, FieldNotFoundError,
        DeleteNonexistentNodeError, DeleteOnDeletedNodeError.
        """
        node = self.nodes.get(mutation.id)
        if type(mutation) is SetField:
            self._set(node, mutation)
        elif isinstance(mutation, CreateNode):
            if node is not None:
                raise DuplicateNodeError(
                    f"Invariant violation: duplicate create node {node.id}. Node ids are never used again.",
                    node_id=node.id,
                )
            self.nodes[mutation.id] = Node(mutation.id, mutation.type)
        elif isinstance(mutation, DeleteField):
            self._delete_field(self._deletable(node, mutation.id), mutation.key)
        else:
            self._deletable(node, mutation.id).deleted = True

    def _set(self, node: Node | None, mutation: SetField) -> None:
        if node is None:
            raise SetBeforeCreateError(
                f"Invariant violation: set before create {mutation.id}. Create the node first.", node_id=mutation.id
            )
        if node.deleted:
            raise NodeDeletedError(
                f"Node is deleted: {node.id}. Its fields stay as they were; create another node.", node_id=node.id
            )
        value = mutation.value
        if type(value) in _LEADING:
            check_references(value, self.nodes, mutation.key)
        node.fields[mutation.key] = value

    @staticmethod
    def _deletable(node: Node | None, node_id: int) -> Node:
        if node is None:
            raise DeleteNonexistentNodeError(
                f"Delete on non-existent node: {node_id}. Check the id; `myo status` lists what is there.",
                node_id=node_id,
            )
        if node.deleted:
            raise DeleteOnDeletedNodeError(
                f"Delete on deleted node: {node_id}. It is a tombstone already.", node_id=node_id
            )
        return node

    @staticmethod
    def _delete_field(node: Node, key: str) -> None:
        if key not in node.fields:
            raise FieldNotFoundError(
                f"Field not found: {key}. Node {node.id} has no such field.", node_id=node.id, key=key
            )
        del node.fields[key]
