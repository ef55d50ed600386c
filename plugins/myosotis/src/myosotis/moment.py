"""A memory as it was after one commit."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from myosotis.graph import Node
from myosotis.store import Store
from myosotis.view import View

if TYPE_CHECKING:
    from myosotis.chain import Commit


class Moment(View):
    """The graph after commit `id` (0, or the id before the first commit: what history begins with). Read-only.

    References resolve at that commit. Nodes are read when they are asked for. It needs its memory to stay open.
    """

    def __init__(self, store: Store, commit_id: int) -> None:
        self._store = store
        self.id = commit_id
        self._past = store.past(commit_id)
        self._nodes: dict[int, Node | None] = {}

    @property
    def commit(self) -> Commit | None:
        """The commit; None before the first."""
        return next((record.commit() for record in self._store.records(self.id, self.id)), None)

    def peek(self, node_id: int) -> Node | None:
        """The node as it was, None when there was none."""
        if node_id not in self._nodes:
            self._nodes[node_id] = self._store.nodes.node(node_id, self._past)
        return self._nodes[node_id]

    def ids(self) -> list[int]:
        """The ids of all nodes there were, ascending, tombstones included."""
        return [node_id for node_id in self._store.nodes.ids() if self.peek(node_id) is not None]

    def known(self) -> Collection[int]:
        """The ids that references might lead to."""
        return self.ids()

    def state_hash(self) -> str:
        """The state hash of format v1 (hexadecimal)."""
        return self._store.nodes.state_hash(self._past)

    def __repr__(self) -> str:
        return f"<Moment after commit {self.id}>"
