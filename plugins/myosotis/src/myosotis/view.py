"""What a memory and its past have in common: reading a graph through handles."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from myosotis import exports, traversal
from myosotis.containers import plain
from myosotis.errors import NodeNotFoundError, ReadOnlyError
from myosotis.handles import Handle
from myosotis.values import Ref

if TYPE_CHECKING:
    from myosotis.graph import Node
    from myosotis.mutations import Mutation
    from myosotis.store import Store


def id_of(node: Handle | Ref | int) -> int:
    """The id of a node that is given by a handle, a reference or its id. TypeError."""
    if isinstance(node, Handle | Ref):
        return node.id
    if type(node) is int:
        return node
    raise TypeError(f"a node is a handle, a Ref or an id, not {type(node).__name__}")


class View:
    """A graph to be read: of now (Memory) or of a commit (Moment)."""

    _store: Store

    @property
    def store(self) -> Store:
        """What keeps the commits."""
        return self._store

    # ---- what a view brings

    def peek(self, node_id: int) -> Node | None:
        """The node of an id, None when there is none. Not to be changed."""
        raise NotImplementedError

    def ids(self) -> list[int]:
        """The ids of all nodes, ascending, tombstones included."""
        raise NotImplementedError

    def known(self) -> Collection[int]:
        """The ids that references may lead to."""
        raise NotImplementedError

    def stage(self, mutation: Mutation) -> None:
        """Stages a change. ReadOnlyError here."""
        self._refuse()

    def stage_all(self, mutations: Sequence[Mutation]) -> None:
        """Stages several changes, or none. ReadOnlyError here."""
        self._refuse()

    def touch(self, node_id: int, key: str, root: Any) -> None:
        """Stages that the value of a field is about to change in place. ReadOnlyError here."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ReadOnlyError("This shows the past, which does not change. Change the memory itself.")

    # ---- nodes

    def get(self, node_id: int) -> Node:
        """The node of an id. NodeNotFoundError."""
        node = self.peek(node_id)
        if node is None:
            raise NodeNotFoundError(f"Node not found: {node_id}. Check the id.", node_id=node_id)
        return node

    def handle(self, node_id: int) -> Handle:
        """A handle of a node, whether it is there or not."""
        return Handle(self, node_id)

    def node(self, node: Handle | Ref | int) -> Handle:
        """The handle of a node, tombstones included. NodeNotFoundError."""
        return self.handle(self.get(id_of(node)).id)

    def nodes(self, type: str | None = None, *, deleted: bool = False) -> list[Handle]:
        """The nodes (of a type), ids ascending; `deleted`: the tombstones instead."""
        found = []
        for node_id in self.ids():
            node = self.get(node_id)
            if node.deleted == deleted and (type is None or node.type == type):
                found.append(self.handle(node_id))
        return found

    def __getitem__(self, node_id: int) -> Handle:
        """The handle of a node. NodeNotFoundError."""
        return self.node(node_id)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self.nodes())

    def __len__(self) -> int:
        """How many nodes there are, tombstones left out."""
        return len(self.nodes())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, node: object) -> bool:
        """Whether a node is there and not deleted."""
        found = self.peek(id_of(node)) if isinstance(node, Handle | Ref | int) else None
        return found is not None and not found.deleted

    def referrers(self, node: Handle | Ref | int, *, deleted: bool = False) -> list[Handle]:
        """The nodes that refer to a node, ids ascending; with `deleted` tombstones, too. NodeNotFoundError."""
        wanted = self.node(node).id
        return [
            other
            for other in (map(self.handle, self.ids()) if deleted else self.nodes())
            if any(wanted == target for _, target in traversal.targets(self.get(other.id)))
        ]

    def references(self, node: Handle | Ref | int) -> list[tuple[str, Handle]]:
        """The references of a node: where in its fields, and the handle. NodeNotFoundError."""
        return [(path, self.handle(target)) for path, target in traversal.targets(self.node(node)._node)]

    def walk(self, start: Handle | Ref | int, order: str = "breadth", *, depth: int | None = None) -> Iterator[Handle]:
        """Iterates the nodes that references lead to from `start` on, itself first, each once, tombstones included.

        order: "breadth" or "depth". depth: at most so many references away. NodeNotFoundError, ValueError.
        """
        return map(self.handle, traversal.walk(self, self.node(start).id, order, depth))

    def paths(
        self, start: Handle | Ref | int, end: Handle | Ref | int, *, depth: int | None = None
    ) -> Iterator[list[Handle]]:
        """Iterates the ways along references from `start` to `end` that meet no node twice, the shortest first.

        depth: at most so many references long. NodeNotFoundError.
        """
        found = traversal.paths(self, self.node(start).id, self.node(end).id, depth)
        return ([self.handle(node_id) for node_id in path] for path in found)

    # ---- the whole

    def to_dict(self) -> dict[int, dict[str, Any]]:
        """All nodes: `{id: {"type", "fields", "deleted"}}`, ids and keys ascending, references as `Ref`."""
        graph = {}
        for node_id in self.ids():
            node = self.get(node_id)
            fields = {key: plain(node.fields[key]) for key in sorted(node.fields)}
            graph[node_id] = {"type": node.type, "fields": fields, "deleted": node.deleted}
        return graph

    def state_hash(self) -> str:
        """The state hash of format v1 (hexadecimal): SHA-256 over all nodes."""
        digest = hashlib.sha256()
        for node_id in self.ids():
            digest.update(self.get(node_id).encode())
        return digest.hexdigest()

    def export(self, form: str = "json") -> str:
        """The graph as text: "json", "dot" (Graphviz) or "graphml". ValueError for another form."""
        return exports.export(self, form)
