"""Telling of commits: callbacks for nodes and for everything."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from myosotis.queries import NodeChange, compare_nodes

if TYPE_CHECKING:
    from myosotis.chain import Commit
    from myosotis.memory import Memory

_log = logging.getLogger("myosotis")


class Subscription:
    """A callback that is told of commits until cancel(). Usable in a `with` block."""

    def __init__(self, watchers: Watchers, tell: Callable[[Commit], Any]) -> None:
        self._watchers = watchers
        self.tell = tell

    def cancel(self) -> None:
        """Tells no more. May be called again."""
        self._watchers.drop(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()


class Watchers:
    """The subscriptions of a memory, told in the order in which they were made, after the commit.

    A callback that raises is reported to the logger "myosotis" and disturbs neither the commit nor the others. One may
    commit itself: those commits are told afterwards.
    """

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self._waiting: list[Commit] = []
        self._telling = False

    def subscribe(self, callback: Callable[[Commit], Any]) -> Subscription:
        """Adds a callback for every commit."""
        subscription = Subscription(self, callback)
        self.subscriptions.append(subscription)
        return subscription

    def watch(self, memory: Memory, node_id: int, callback: Callable[[Commit, NodeChange], Any]) -> Subscription:
        """Adds a callback for the commits that change a node."""

        def tell(commit: Commit) -> None:
            if any(mutation.id == node_id for mutation in commit.mutations):
                old, new = memory.at(commit.id - 1).peek(node_id), memory.at(commit.id).peek(node_id)
                callback(commit, compare_nodes(node_id, old, new))

        return self.subscribe(tell)

    def drop(self, subscription: Subscription) -> None:
        """Removes a subscription."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)

    def tell(self, commit: Commit) -> None:
        """Tells every subscription of a commit."""
        self._waiting.append(commit)
        if self._telling:
            return
        self._telling = True
        try:
            while self._waiting:
                told = self._waiting.pop(0)
                for subscription in list(self.subscriptions):
                    self._call(subscription, told)
        finally:
            self._telling = False

    def _call(self, subscription: Subscription, commit: Commit) -> None:
        if subscription not in self.subscriptions:  # another callback cancelled it
            return
        try:
            subscription.tell(commit)
        except Exception:
            _log.exception("A callback failed at commit %d.", commit.id)
