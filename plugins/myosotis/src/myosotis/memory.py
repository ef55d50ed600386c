"""Memory: a graph of objects that remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import mmsb
from myosotis import documents, queries, v1
from myosotis.chain import NO_PARENT, Commit
from myosotis.compacting import Compaction, compact, folded_labels
from myosotis.containers import plain
from myosotis.errors import (
    ClosedError,
    CommitNotFoundError,
    InvalidValueError,
    NodeNotFoundError,
    NothingToCommitError,
    ReadOnlyError,
    UncommittedChangesError,
    UnreadableFileError,
)
from myosotis.folding import Folder, write_aside
from myosotis.layout import moment_of, notes_of
from myosotis.moment import Moment
from myosotis.mutations import DeleteNode, decode_all
from myosotis.opening import Opened, open_path
from myosotis.staging import Staging
from myosotis.values import check_text
from myosotis.verifying import Verification, verify
from myosotis.view import id_of
from myosotis.watching import Subscription, Watchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from myosotis.handles import Handle
    from myosotis.queries import Diff, NodeChange
    from myosotis.v1 import Document, Mode
    from myosotis.values import Ref

When = int | str | datetime | float | Commit


class Memory(Staging):
    """A graph of nodes with stable ids, kept as a chain of commits.

    Made by Memory.open(). Changes are made through handles and staged; commit() makes them permanent, all or nothing,
    and discard() undoes them. One writer at a time; readers in other processes see whole commits. Not safe for use from
    several threads at once.
    """

    def __init__(self, opened: Opened) -> None:
        """Use Memory.open()."""
        super().__init__(opened.store)
        self.path = opened.path
        self.read_only = self._refusing = opened.read_only
        self._folder: Folder | None = opened.folder
        self._checkpoints = opened.checkpoints
        self._watchers = Watchers()
        self._closed = False
        if not opened.read_only and opened.store.has_staged:
            self._take_staged()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        mode: Mode = "strict",
        read_only: bool = False,
        *,
        durability: str | None = None,
    ) -> Self:
        """Opens the memory at `path`, or makes an empty one; without a path one that is not kept.

        A path that ends in ".mmsb", or that is a folder, is a store of mmsb. Any other path is a file of format v1 with
        a journal beside it (`state.myo.journal`): a commit is one append to the journal, and the file is folded from it
        on flush(), on close() and in the background. mode: "unsafe" takes a file whose commits or checkpoints do not
        have the hashes they should, as the first engine does. read_only: works while another process writes, and shows
        what is committed now. durability: "process" (default), "group" or "power", as in mmsb.open().

        Raises what format v1's load checks say (errors.py), LockedError, CorruptJournalError, UnreadableFileError.
        """
        return cls(open_path(path, mode, read_only, durability))

    @classmethod
    def from_dict(cls, graph: Mapping[int, Mapping[str, Any]], path: str | os.PathLike[str] | None = None) -> Self:
        """A new memory of one commit from what to_dict() gives. InvalidValueError, MissingReferenceError."""
        memory = cls.open(path)
        try:
            queries.load_dict(memory, graph)
        except BaseException:
            memory.discard()
            memory.close()
            raise
        return memory

    # ---- changing

    def create(self, type: str, /, **fields: Any) -> Handle:
        """Stages a node of a type with fields. Returns its handle. InvalidValueError, MissingReferenceError."""
        if not isinstance(type, str):
            raise InvalidValueError(f"The type of a node is a string, not {type!r}.", path="type")
        check_text(type, "type")
        return self.handle(self._create(type, {key: plain(value, self._store) for key, value in fields.items()}))

    def delete(self, node: Handle | Ref | int) -> None:
        """Stages that a node becomes a tombstone; what refers to it stays. NodeNotFoundError, NodeDeletedError."""
        self.stage(DeleteNode(id_of(node)))

    def commit(
        self,
        label: str | None = None,
        meta: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> Commit:
        """Makes what is staged permanent, all of it or nothing. Returns the commit.

        label: its name, which at() finds. meta: what JSON can hold, kept beside the chain ("author" and so on).
        timestamp: an aware datetime, its ISO 8601 form, or seconds since 1970; kept in meta. NothingToCommitError,
        InvalidValueError.
        """
        if self._refusing:
            self._check_writable()
        if not self._pending:
            raise NothingToCommitError("Nothing was changed since the last commit. Change something first.")
        if label is not None:
            if not isinstance(label, str):
                raise InvalidValueError(f"A label is a string, not {label!r}.", path="label")
            check_text(label, "label")
        notes = notes_of(meta, timestamp) if meta or timestamp is not None else {}
        store, parent = self._store, self._store.head.hash
        digest, only = None, self._only_value()
        if only is not None and not notes:
            digest = store.append_value(label, only, next_node_id=self._next_node_id)
        if digest is None:
            only, encoded = None, self._seal()
            digest = store.append(label, notes, encoded, self._changed(), next_node_id=self._next_node_id)
        mutations = decode_all(encoded) if only is None else (only,)
        parent_hash = None if parent == NO_PARENT else parent.hex()
        commit = Commit(store.head.id, label, digest.hex(), parent_hash, mutations, notes)
        self._begin()
        if self._folder is not None:
            self._folder.after_commit()
        if self._watchers.subscriptions:
            self._watchers.tell(commit)
        return commit

    def discard(self) -> None:
        """Undoes everything since the last commit, also what keep_staged() kept. Ids of nodes are not used again."""
        self._check_writable()
        self._restore()
        if self._store.has_staged:
            self._store.stage(self._next_node_id, b"")

    def keep_staged(self) -> None:
        """Keeps what is staged in the journal, for whoever opens the memory next and commits all of it."""
        self._check_writable()
        self._store.stage(self._next_node_id, self._seal())

    def _take_staged(self) -> None:
        next_node_id, mutations = self._store.staged()
        for mutation in decode_all(mutations):
            self.stage(mutation)
        self._next_node_id = max(self._next_node_id, next_node_id)

    @contextmanager
    def commit_on_exit(
        self,
        label: str | None = None,
        meta: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> Iterator[Self]:
        """Commits when the block ends, if it changed anything; an exception discards what it staged.

        UncommittedChangesError when something is staged already.
        """
        self._check_writable()
        self._check_nothing_staged()
        try:
            yield self
        except BaseException:
            self.discard()
            raise
        if self._pending:
            self.commit(label, meta, timestamp)

    # ---- the past

    @property
    def head(self) -> int:
        """The id of the latest commit; 0 when there is none."""
        return self._store.head.id

    def commits(self) -> list[Commit]:
        """All commits, oldest first."""
        self._check_open()
        return [record.commit() for record in self._store.records()]

    def commits_from(self, first: int) -> list[Commit]:
        """The commits from an id on, oldest first: what a reader asks for who knows the ones before."""
        self._check_open()
        return [record.commit() for record in self._store.records(first)]

    def commit_id(self, when: When) -> int:
        """The id of a commit that is given by its id, by its label (the newest of that name), by a time (the last not
        after it; an aware datetime, or a float of seconds since 1970) or by itself. CommitNotFoundError, TypeError.
        """
        self._check_open()
        if isinstance(when, Commit):
            when = when.id
        if isinstance(when, str):
            return self._labelled(when)
        if isinstance(when, float):
            moment = moment_of(when)
            if moment is None:
                raise CommitNotFoundError(f"Commit not found: {when} is no time.", commit=when)
            when = moment
        if isinstance(when, datetime):
            return self._store.not_after(when)
        if type(when) is not int:
            raise TypeError(f"a commit is given by an id, a label or a time, not by a {type(when).__name__}")
        self._store.seq_of(when)
        return when

    def _labelled(self, label: str) -> int:
        found = self._store.labelled(label)
        if found is not None:
            return found
        folded = [commit_id for commit_id, name in self.folded_labels() if name == label]
        if not folded:
            raise CommitNotFoundError(f"Commit not found: no commit is labelled {label!r}.", commit=label)
        if folded[-1] != self._store.head.base_id:
            raise CommitNotFoundError(
                f"Commit not found: {folded[-1]}, labelled {label!r}, went into the beginning of the history when that "
                "was compacted. Look for it in a copy from before.",
                commit=label,
            )
        return folded[-1]  # the beginning itself

    def at(self, when: When) -> Moment:
        """The graph as it was after a commit (see commit_id). Read-only. CommitNotFoundError."""
        return Moment(self._store, self.commit_id(when))

    def history(self, node: Handle | Ref | int | None = None, field: str | None = None) -> list[Commit]:
        """The commits, oldest first; only those that changed a node, or a field of it."""
        self._check_open()
        return queries.history(self, None if node is None else id_of(node), field)

    def blame(self, node: Handle | Ref | int, field: str) -> Commit | None:
        """The commit that set a field last; None when it lies before the history (compaction).

        NodeNotFoundError, FieldNotFoundError: as committed, what is staged left out.
        """
        self._check_open()
        return queries.blame(self, id_of(node), field)

    def diff(self, a: When | None = None, b: When | None = None) -> Diff:
        """What differs between two commits. b: None for now, what is staged included; a: None for the latest commit."""
        self._check_open()
        return queries.diff(self, a, b)

    def revert(self, when: When, label: str | None = None) -> Commit:
        """Undoes what one commit changed, as a new commit. RevertError when a later commit changed the same, or when a
        deletion would have to be undone; UncommittedChangesError.
        """
        self._check_writable()
        self._check_nothing_staged()
        return queries.revert(self, self.commit_id(when), label)

    def fork(self, at: When | None = None, path: str | os.PathLike[str] | None = None) -> Memory:
        """A memory of its own (at `path`, where nothing may be; else not kept) with the history up to a commit
        (default: the latest), same ids and hashes. What is staged stays here.
        """
        self._check_open()
        last = self.head if at is None else self.commit_id(at)
        if path is not None and os.path.lexists(path):
            raise UnreadableFileError(f"{os.fspath(path)} exists already. Fork to a new path.", path=os.fspath(path))
        return Memory(open_path(path, "strict", False, new=documents.document(self._store, last, self._checkpoints)))

    def to_dict(self, at: When | None = None) -> dict[int, dict[str, Any]]:
        """All nodes: `{id: {"type", "fields", "deleted"}}`, now (what is staged included) or after a commit."""
        return super().to_dict() if at is None else self.at(at).to_dict()

    def state_hash(self, at: When | None = None) -> str:
        """The state hash of format v1 (hexadecimal), now (what is staged included) or after a commit."""
        return super().state_hash() if at is None else self.at(at).state_hash()

    # ---- being told

    def watch(self, node: Handle | Ref | int, callback: Callable[[Commit, NodeChange], Any]) -> Subscription:
        """Calls `callback(commit, change)` after each commit that changed a node. NodeNotFoundError."""
        return self._watchers.watch(self, self.node(node).id, callback)

    def subscribe(self, callback: Callable[[Commit], Any]) -> Subscription:
        """Calls `callback(commit)` after each commit of this memory."""
        return self._watchers.subscribe(callback)

    # ---- the store

    @property
    def state(self) -> mmsb.State:
        """The State of mmsb in whose pages the nodes lie. Its pages of nodes are to be read, not written."""
        return self._store.state

    def page(self, node: Handle | Ref | int) -> mmsb.Page:
        """The page of mmsb that a committed node lies in (see myosotis.decode_node). NodeNotFoundError."""
        node_id = id_of(node)
        page_id = self._store.nodes.page_of(node_id)
        if page_id is None:
            raise NodeNotFoundError(
                f"Node not found: {node_id}. Commit it first; pages hold what is committed.", node_id=node_id
            )
        return self._store.state.page(page_id)

    def document(self) -> Document:
        """The committed memory as format v1 has it."""
        self._check_open()
        return documents.document(self._store, None, self._checkpoints)

    def export_v1(self, path: str | os.PathLike[str]) -> None:
        """Writes a file of format v1, which the first engine loads, aside and then in place. FirstEngineWarning."""
        write_aside(os.fspath(path), v1.write(self.document()))

    def verify(self) -> Verification:
        """Checks everything: the log, the chain of hashes, that the commits give the nodes, and the v1 file."""
        self._check_open()
        return verify(self._store, self._folder)

    def compact(self, at: When | None = None) -> Compaction:
        """Folds the history up to a commit (default: all) into the state it leads to, tombstones included. The latest
        state stays as it is, ids of commits too; the hashes of later commits become others, as in the first engine.

        UncommittedChangesError, InvalidCompactionTargetError.
        """
        self._check_writable()
        self._check_nothing_staged()
        if self._folder is not None:
            self._folder.wait()
        done = compact(self._store, self.head if at is None else self.commit_id(at))
        if self._folder is not None:
            self._folder.fold()
        return done

    def folded_labels(self) -> list[tuple[int, str]]:
        """Ids and labels of the commits that compactions folded, oldest first."""
        self._check_open()
        return folded_labels(self._store)

    def _check_nothing_staged(self) -> None:
        if self._pending:
            raise UncommittedChangesError(
                f"{len(self._pending)} changes are staged. Commit or discard them first.", count=len(self._pending)
            )

    def flush(self) -> None:
        """Folds every commit into the v1 file, synced; of a store without one, syncs the store."""
        self._check_writable()
        if self._folder is not None:
            self._folder.fold()
        else:
            self._store.state.sync()

    def close(self) -> None:
        """Folds what is not folded yet, and closes. What is staged and not kept is lost. May be called again."""
        if self._closed:
            return
        self._closed = self._refusing = True
        try:
            if not self.read_only:
                self._store.settle()
            if self._folder is not None:
                self._folder.close()
        finally:
            self._store.state.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("The memory was closed. Open it again.")

    def _check_writable(self) -> None:
        if self._closed or self.read_only:
            self._check_open()
            raise ReadOnlyError("The memory was opened for reading. Open it without read_only=True.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.head} commits"
        return f"<Memory {self.path or 'not kept'}, {state}>"
