"""The graph with what is staged: changes are checked and made at once, and undone when they are discarded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from myosotis.containers import plain, refuse_stale
from myosotis.errors import MyosotisError
from myosotis.graph import Graph, Node
from myosotis.mutations import CreateNode, Mutation, SetField, decode_all, lone_value
from myosotis.store import Store, next_after
from myosotis.values import Value, check, check_key
from myosotis.view import View

# The fields of a node, and whether it is a tombstone.
Before = tuple[dict[str, Value], bool]


class Nodes(dict[int, Node]):
    """Nodes by id, each read from the store when it is first asked for by `[]`; get() finds those that were read."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, node_id: int) -> Node:
        node = self._store.nodes.node(node_id)
        if node is None:
            raise KeyError(node_id)
        self[node_id] = node
        return node

    def __contains__(self, node_id: object) -> bool:
        return dict.__contains__(self, node_id) or (
            type(node_id) is int and self._store.nodes.page_of(node_id) is not None
        )


class Staging(View):
    """A view of a store's latest graph that takes changes.

    The value of a field is changed in place only while its SetField is the newest mutation, which is therefore encoded
    last: when another one follows, or at the commit.
    """

    _refusing = False  # changes, for which _check_writable() has the reason

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes = Nodes(store)
        self._graph = Graph(self._nodes)
        self._next_node_id = store.head.next_node_id
        self._begin()

    def _begin(self) -> None:
        """Nothing is staged."""
        self._pending: list[Mutation] = []
        self._encoded: list[bytes] = []
        # Fields of each node that was changed, and whether it was a tombstone, as before; None: there was no such node.
        self._before: dict[int, Before | None] = {}

    @property
    def next_node_id(self) -> int:
        """The id that the next node gets. Ids are never used again, also of nodes that were discarded."""
        return self._next_node_id

    @property
    def pending(self) -> tuple[Mutation, ...]:
        """What is staged, in order."""
        return decode_all(self._seal())

    # ---- reading

    def peek(self, node_id: int) -> Node | None:
        """The node of an id, None when there is none."""
        try:
            return self._nodes[node_id]
        except KeyError:
            return None

    def ids(self) -> list[int]:
        """The ids of all nodes, ascending, tombstones and staged nodes included."""
        created = [node_id for node_id, before in self._before.items() if before is None]
        stored = list(self._store.nodes.ids())
        return sorted({*stored, *created}) if created else stored

    def known(self) -> Collection[int]:
        """The ids that references may lead to."""
        return self._nodes

    # ---- changing

    def stage(self, mutation: Mutation) -> None:
        """Checks a change against the graph and makes it. What Graph.apply raises; then nothing is staged.

        The value of a SetField must be checked, and the memory's own from now on.
        """
        if self._refusing:
            self._check_writable()
        node_id, before = mutation.id, self._before
        if node_id in before:
            self._graph.apply(mutation)
        else:
            try:
                node = self._nodes[node_id]
                was = node.fields.copy(), node.deleted
            except KeyError:
                was = None
            self._graph.apply(mutation)
            before[node_id] = was
        if self._pending:
            self._close_newest()
        self._pending.append(mutation)

    def stage_all(self, mutations: Sequence[Mutation]) -> None:
        """Checks and makes several changes, or none: a change that is refused undoes those before it."""
        self._check_writable()
        for mutation in mutations:
            if isinstance(mutation, SetField):
                check_key(mutation.key)
                check(mutation.value, mutation.key)
        self._close_newest()
        count = len(self._pending)
        before = {node_id: self._now(node_id) for node_id in dict.fromkeys(mutation.id for mutation in mutations)}
        known = before.keys() & self._before.keys()
        try:
            for mutation in mutations:
                self.stage(mutation)
        except MyosotisError:
            del self._pending[count:], self._encoded[count:]
            for node_id, was in before.items():
                self._put_back(node_id, was)
                if node_id not in known:
                    self._before.pop(node_id, None)
            raise

    def touch(self, node_id: int, key: str, root: Any) -> None:
        """Stages that a field has its value, which is about to be changed in place. StaleValueError, ReadOnlyError."""
        self._check_writable()
        node = self.get(node_id)
        if node.fields.get(key) is not root:
            refuse_stale(node_id, key)
        newest = self._pending[-1] if self._pending else None
        if isinstance(newest, SetField) and newest.value is root and len(self._encoded) < len(self._pending):
            return
        self.stage(SetField(node_id, key, root))
        before = self._before[node_id]
        if before is not None and before[0].get(key) is root:
            before[0][key] = plain(root)

    def _create(self, kind: str, fields: dict[str, Any]) -> int:
        """Stages a node with fields, or nothing. Returns its id."""
        node_id = self._next_node_id
        made: list[Mutation] = [
            CreateNode(node_id, kind),
            *(SetField(node_id, key, value) for key, value in fields.items()),
        ]
        self.stage_all(made)
        self._next_node_id = next_after(node_id)
        return node_id

    def _restore(self) -> None:
        """Undoes what is staged."""
        for node_id, was in self._before.items():
            self._put_back(node_id, was)
        self._begin()

    def _now(self, node_id: int) -> Before | None:
        node = self.peek(node_id)
        return None if node is None else (node.fields.copy(), node.deleted)

    def _put_back(self, node_id: int, was: Before | None) -> None:
        if was is None:
            self._nodes.pop(node_id, None)
        else:
            node = self._nodes[node_id]
            node.fields, node.deleted = was

    def _only_value(self) -> SetField | None:
        """What is staged, if it is nothing but a plain value for a field that has another one."""
        only = lone_value(self._pending)
        if only is None:
            return None
        was = self._before[only.id]
        return None if was is None or was[0].get(only.key) == only.value else only

    def _close_newest(self) -> None:
        """From now on, no change in place is part of the newest mutation."""
        if len(self._encoded) < len(self._pending):
            self._encoded.append(self._pending[-1].encode())

    def _seal(self) -> bytes:
        """What is staged, encoded."""
        self._close_newest()
        return b"".join(self._encoded) if len(self._encoded) != 1 else self._encoded[0]

    def _changed(self) -> Iterator[Node]:
        """The nodes that were changed, in the order in which they were first changed."""
        return (self._nodes[node_id] for node_id in self._before)

    def _check_writable(self) -> None:
        """ReadOnlyError, ClosedError."""
