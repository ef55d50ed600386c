"""A store as format v1 has it."""

from __future__ import annotations

from collections.abc import Iterable

from myosotis.graph import Graph
from myosotis.store import Store
from myosotis.v1 import CHECKPOINT_INTERVAL, Document
from myosotis.v1_parse import Checkpoint

# The first engine takes a checkpoint every so many commits, whatever the size of the graph. A larger graph gets none,
# so that checkpoints never cost more than a node for each commit.
CHECKPOINT_NODES_MOST = CHECKPOINT_INTERVAL


def document(store: Store, last: int | None = None, checkpoints: Iterable[int] = ()) -> Document:
    """The history up to commit `last` (default: all). `checkpoints`: commits that get one in any case."""
    head = store.head
    last = head.id if last is None else last
    genesis = None if head.genesis is None else graph_at(store, head.base_id)
    graph = Graph() if genesis is None else genesis.copy()
    made = Document(genesis, [], [], store.head.next_node_id, graph)
    always = frozenset(checkpoints)
    since = 0  # commits since the last checkpoint: a file that was compacted has its own at other counts
    for record in store.records(last=last):
        commit = record.commit()
        made.commits.append(commit)
        graph.replay(commit.mutations)
        since += 1
        due = len(made.commits) % CHECKPOINT_INTERVAL == 0 and since >= CHECKPOINT_INTERVAL
        if commit.id in always or (due and len(graph.nodes) <= CHECKPOINT_NODES_MOST):
            since = 0
            made.checkpoints.append(Checkpoint(commit.id, record.hash, graph.state_hash(), graph.copy()))
    return made


def graph_at(store: Store, commit_id: int) -> Graph:
    """The graph after a commit."""
    past = store.past(commit_id)
    nodes = ((node_id, store.nodes.node(node_id, past)) for node_id in store.nodes.ids())
    return Graph({node_id: node for node_id, node in nodes if node is not None})


def hash_at(store: Store, commit_id: int) -> str:
    """The hash of a commit (hexadecimal); before the first one, what it continues."""
    for record in store.records(commit_id, commit_id):
        return record.hash.hex()
    return (store.head.genesis or bytes(32)).hex()
