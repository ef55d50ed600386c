"""Verifying a memory: the log, the chain, that the commits give the nodes, and the v1 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsb.errors import MMSBError
from myosotis.documents import graph_at
from myosotis.errors import CorruptJournalError, MyosotisError
from myosotis.graph import Graph
from myosotis.mutations import decode_all
from myosotis.store import Record, Store
from myosotis.v1_repair import verdict

if TYPE_CHECKING:
    from myosotis.folding import Folder


@dataclass(frozen=True, slots=True)
class Verification:
    """What verify() found. `commits`: how many are sound, counted from the first. `error`: the first fault, None when
    there is none. `first_bad`: the id of the first commit that is not sound, None when all are.
    """

    commits: int
    error: MyosotisError | MMSBError | None = None
    first_bad: int | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is sound."""
        return self.error is None

    def sentence(self) -> str:
        """The finding, for people."""
        return verdict(self.commits, self.error, self.first_bad)


def verify(store: Store, folder: Folder | None) -> Verification:
    """Checks the log, replays every commit, and compares the graph with the pages and the file with the record.

    Of a damaged log, the commits before the damage are replayed as well, to say how many survive.
    """
    damage = _damage(store)
    sound = 0
    last: Record | None = None
    try:
        graph = Graph() if store.head.genesis is None else graph_at(store, store.head.base_id)
        if store.head.genesis is not None and graph.state_hash() != store.head.genesis:
            raise CorruptJournalError(
                "The graph that history begins with is not the one it began with.", path=store.state.path
            )
        for record in store.records():
            last = record
            _check_record(store, record)
            graph.replay(decode_all(record.mutations))
            sound += 1
        last = None
        _check_nodes(store, graph)
        if folder is not None:
            folder.check()
    except MMSBError as error:
        return Verification(sound, damage or error, None if last is None else last.id)
    return Verification(sound) if damage is None else Verification(sound, damage, store.head.base_id + sound + 1)


def _damage(store: Store) -> CorruptJournalError | None:
    """What is wrong with the log as mmsb sees it."""
    for found in store.state.verify().findings:
        if found.severity == "fault":
            return CorruptJournalError(f"{found.sentence} {found.advice}", path=store.state.path)
    return None


def _check_record(store: Store, record: Record) -> None:
    if not record.genuine:
        raise CorruptJournalError(
            f"Commit {record.id} bears a hash that its content does not give (loaded in unsafe mode).",
            path=store.state.path,
        )


def _check_nodes(store: Store, graph: Graph) -> None:
    for node_id in sorted({*graph.nodes, *store.nodes.ids()}):
        node, kept = graph.nodes.get(node_id), store.nodes.node(node_id)
        if node is None or kept is None or node.encode() != kept.encode():
            raise CorruptJournalError(
                f"The page of node {node_id} is not what the commits give. It was written by something else.",
                path=store.state.path,
            )
