"""From a path to a store: a store of mmsb, a v1 file with its journal, or nothing yet."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mmsb
from mmsb.errors import NotAStoreError
from myosotis import v1
from myosotis.chain import NO_PARENT, Commit
from myosotis.compacting import finish
from myosotis.documents import graph_at, hash_at
from myosotis.errors import CorruptJournalError, InvariantError, MyosotisError, UnreadableFileError
from myosotis.folding import Folder, FoldRecord, Journal
from myosotis.graph import Graph
from myosotis.mutations import encode_all, lone_value
from myosotis.store import Store, open_state
from myosotis.values import ID_MOST

if TYPE_CHECKING:
    from myosotis.v1 import Document, Mode


@dataclass(frozen=True, slots=True)
class Opened:
    """What Memory is made of. `folder`: of a v1 file that is written to. `checkpoints`: commits at which the v1 file
    that it comes from has checkpoints.
    """

    store: Store
    path: str | None
    read_only: bool
    folder: Folder | None = None
    checkpoints: tuple[int, ...] = ()


def open_path(
    path: str | os.PathLike[str] | None,
    mode: Mode,
    read_only: bool,
    durability: str | None = None,
    new: Document | None = None,
) -> Opened:
    """See Memory.open. `new`: the history that a new memory begins with (default: none)."""
    new = v1.Document.empty() if new is None else new
    if mode not in ("strict", "unsafe"):
        raise ValueError(f"There is no mode {mode!r}. Use 'strict' or 'unsafe'.")
    if path is None:
        return Opened(import_document(open_state(None), new), None, read_only)
    path = os.fsdecode(path)
    if not path:
        raise UnreadableFileError("Failed to read file: the path is empty. Give the path of a file.", path=path)
    if is_store(path):
        return _open_store(path, read_only, durability, new)
    with v1.without_collector():
        return _read_file(path, mode) if read_only else _open_file(path, mode, durability, new)


def is_store(path: str) -> bool:
    """Whether a path is meant as a store of mmsb, not as a v1 file."""
    return path.endswith(".mmsb") or os.path.exists(os.path.join(path, "store"))


def _open_store(path: str, read_only: bool, durability: str | None, new: Document) -> Opened:
    try:
        state = open_state(path, read_only=read_only, durability=durability)
    except NotAStoreError as error:
        raise UnreadableFileError(f"Failed to read file: {path}: {error}", path=path) from error
    try:
        # A store without a commit was just made, by us or by someone who did not come further.
        store = import_document(state, new) if state.seq == 0 and not read_only else Store(state)
        if not read_only:
            finish(store)
    except BaseException:
        state.close()
        raise
    return Opened(store, path, read_only)


def _read_file(path: str, mode: Mode) -> Opened:
    journal = Journal(path)
    record = journal.read()
    while record is not None:
        if not os.path.exists(path) or journal.holds(record):
            store = Store(open_state(journal.log_path, read_only=True))
            return Opened(store, path, True, None, tuple(record.checkpoints))
        if record == (record := journal.read()):  # else a writer folded meanwhile
            break
    document = v1.read_file(path, mode)
    if record is not None:
        _added(path, record.commit, record.hash, document)
    return Opened(import_document(open_state(None), document, mode), path, True, None, tuple(_points(document)))


def _open_file(path: str, mode: Mode, durability: str | None, new: Document) -> Opened:
    journal = Journal(path)
    if os.path.exists(path) and not os.path.exists(journal.path):
        new = v1.read_file(path, mode)  # and nothing is made when it is refused
    journal.lock()
    try:
        record = journal.read()
        if record is None:
            document = v1.read_file(path, mode) if os.path.exists(path) and os.path.exists(journal.log_path) else new
            store = _new_log(journal, document, mode, durability)
            folder = Folder(journal, store, _points(document))
            try:
                folder.begin(written=os.path.exists(path))
            except BaseException:
                store.state.close()
                raise
            return Opened(store, path, False, folder, tuple(folder.checkpoints))
        store = Store(open_state(journal.log_path, durability=durability))
        try:
            finish(store)
            folder = Folder(journal, store, record.checkpoints, record)
            if os.path.exists(path) and not journal.holds(record):
                _take_added(path, store, record, v1.read_file(path, mode))
                folder.begin(written=True)
        except BaseException:
            store.state.close()
            raise
        return Opened(store, path, False, folder, tuple(folder.checkpoints))
    except BaseException:
        journal.unlock()
        raise


def _points(document: Document) -> list[int]:
    return [point.commit_id for point in document.checkpoints]


def _new_log(journal: Journal, document: Document, mode: Mode, durability: str | None) -> Store:
    """A log with a file's history. What an import that was cut short left is taken away first."""
    path = journal.log_path
    shutil.rmtree(path, ignore_errors=True)
    state = open_state(path, durability=durability)
    try:
        return import_document(state, document, mode)
    except BaseException:
        state.close()
        raise


def _added(path: str, commit_id: int, digest: str, document: Document) -> list[Commit]:
    """The commits that another program added to a file, which must still hold what was folded into it.

    CorruptJournalError: so a file is found that was cut, or whose ids were changed, although its own hashes are right.
    """
    commits = document.commits
    genesis = None if document.genesis is None else document.genesis.state_hash()
    if digest == (genesis or NO_PARENT).hex() and (not commits or commits[0].id in (1, commit_id + 1)):
        return commits
    for place, commit in enumerate(commits):
        if (commit.id, commit.hash) == (commit_id, digest):
            return commits[place + 1 :]
    raise CorruptJournalError(
        f"{path} lacks commit {commit_id} as it was folded into it, so it was cut or rewritten by another program. "
        "To take it as it is, put its journal aside; to get back what it had, put the file aside.",
        path=path,
        commit=commit_id,
    )


def _take_added(path: str, store: Store, record: FoldRecord, document: Document) -> None:
    """Takes the commits that another program added to a file. Those that were taken before a crash stay."""
    added = _added(path, record.commit, record.hash, document)
    own = [each.hash.hex() for each in store.records(record.commit + 1)]
    if hash_at(store, record.commit) != record.hash or own != [commit.hash for commit in added[: len(own)]]:
        raise CorruptJournalError(
            f"{path} was written by another program while its journal held commits that are not folded yet. Put the "
            "file aside to keep those, or the journal to keep the file.",
            path=path,
            commit=record.commit,
        )
    graph = graph_at(store, store.head.id)
    for commit in added[len(own) :]:
        graph.replay(commit.mutations)
        nodes = [graph.nodes[node_id] for node_id in dict.fromkeys(m.id for m in commit.mutations)]
        store.append(commit.label, {}, encode_all(commit.mutations), nodes, next_node_id=document.next_node_id)


def import_document(state: mmsb.State, document: Document, mode: Mode = "strict") -> Store:
    """Fills an empty State with a document's history. In unsafe mode checkpoints are believed, as the first engine
    does.

    InvariantError for a commit id beyond what can be counted on from.
    """
    first = document.commits[0].id if document.commits else 1
    if first + len(document.commits) > ID_MOST:
        raise InvariantError("Invariant violation: commit ids are used up. Compact the file to number them anew.")
    nodes = {} if document.genesis is None else document.genesis.nodes
    store = Store.begin(
        state,
        [nodes[node_id] for node_id in sorted(nodes)],
        base_id=first - 1,
        genesis=None if document.genesis is None else document.genesis.state_hash(),
        next_node_id=document.next_node_id,
    )
    believed = {point.commit_id: point.state for point in document.checkpoints} if mode == "unsafe" else {}
    last_believed = max(believed, default=-1)
    graph = Graph() if document.genesis is None else document.genesis.copy()
    for commit in document.commits:
        only = lone_value(commit.mutations) if mode == "strict" and not commit.meta else None
        if only is not None and (node := graph.nodes.get(only.id)) is not None:
            if node.fields.get(only.key) != only.value and store.append_value(
                commit.label, only, next_node_id=document.next_node_id
            ):
                graph.apply(only)
                continue
        changed, erased = dict.fromkeys(mutation.id for mutation in commit.mutations), set[int]()
        try:
            graph.replay(commit.mutations)
        except MyosotisError:
            if commit.id > last_believed:
                raise
        if commit.id in believed:
            shown, erased = believed[commit.id].nodes, graph.nodes.keys() - believed[commit.id].nodes.keys()
            changed.update(dict.fromkeys(i for i in sorted(shown) if graph.nodes.get(i) != shown[i]))
            graph = believed[commit.id].copy()
        store.append(
            commit.label,
            commit.meta,
            encode_all(commit.mutations),
            [graph.nodes[node_id] for node_id in changed if node_id in graph.nodes],
            next_node_id=document.next_node_id,
            stored_hash=bytes.fromhex(commit.hash),
        )
        if erased:
            store.erase(erased)
    return store
