"""Format v1, the first engine's file: reading with its checks in its order, and writing what it loads.

Where the first engine believes a checkpoint, strict reading replays the whole history: a forged checkpoint and a
mutation that only a checkpoint hides are refused here and not there. Unsafe reading skips the same two checks of hashes
as the first engine, and believes checkpoints as it does.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from myosotis.chain import Commit
from myosotis.errors import (
    CheckpointCommitMismatchError,
    CommitNotFoundError,
    CommitParentError,
    CommitSequenceError,
    CorruptCheckpointHashError,
    CorruptCommitHashError,
    CorruptGenesisHashError,
    CorruptParentHashError,
    FirstEngineWarning,
    ForgedCheckpointError,
    HiddenMutationError,
    MyosotisError,
    NextNodeIdError,
    UnreadableFileError,
)
from myosotis.graph import Graph
from myosotis.mutations import SetField
from myosotis.v1_parse import MAGIC, VERSION, Checkpoint, Link, Parts, parse
from myosotis.v1_shape import malformed
from myosotis.v1_text import block, float_text, graph_text, hash_text, misread_floats, mutation_text, string_text

Mode = Literal["strict", "unsafe"]
# The first engine's distance of checkpoints, in commits.
CHECKPOINT_INTERVAL = 50
REPAIR = "`myo verify` tells what is left, `myo recover` keeps it."


@dataclass(slots=True)
class Document:
    """A memory as a v1 file has it: a genesis state (None: empty), commits, checkpoints, and the latest state."""

    genesis: Graph | None
    commits: list[Commit]
    checkpoints: list[Checkpoint]
    next_node_id: int
    head: Graph

    @classmethod
    def empty(cls) -> Document:
        """A memory without a commit."""
        return cls(None, [], [], 1, Graph())

    def graph_at(self, commit_id: int) -> Graph:
        """The state after a commit, from the nearest checkpoint before it. CommitNotFoundError."""
        if not self.commits or not self.commits[0].id <= commit_id <= self.commits[-1].id:
            raise CommitNotFoundError(f"Commit not found: {commit_id}. `myo history` lists them.", commit=commit_id)
        return self._replay(commit_id)

    def replay_head(self) -> None:
        """Replays the latest state as the first engine does: from the highest checkpoint, which it believes."""
        self.head = self._replay(self.commits[-1].id) if self.commits else replay(self.genesis, ())

    def _replay(self, commit_id: int) -> Graph:
        before = [point for point in self.checkpoints if point.commit_id <= commit_id]
        nearest = max(reversed(before), key=lambda point: point.commit_id, default=None)
        first = self.commits[0].id
        since = 0 if nearest is None else nearest.commit_id - first + 1
        start = self.genesis if nearest is None else nearest.state
        return replay(start, self.commits[since : commit_id - first + 1])


@contextmanager
def without_collector() -> Iterator[None]:
    """Reading a file makes many objects that all stay: searching them for garbage meanwhile would find none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@without_collector()
def read(data: bytes, mode: Mode = "strict") -> Document:
    """The memory in the bytes of a v1 file. `mode` is "strict" or "unsafe" (no check of commit and checkpoint hashes).

    Any error of the load checks in errors.py, of the first one that fails; and those of mutations, from replay.
    """
    parts = parse(data)
    check_frame(parts)
    check_chain(parts)
    if mode == "strict":
        check_commit_hashes(parts.links)
        check_checkpoint_hashes(parts.checkpoints)
    commits = [as_commit(link) for link in parts.links]
    document = Document(parts.genesis, commits, parts.checkpoints, parts.next_node_id, Graph())
    if mode == "unsafe" or not replays(document):
        document.replay_head()
        check_next_node_id(document)
        if mode == "strict":
            check_history(document)
    else:
        check_next_node_id(document)
    return document


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a plain file. UnreadableFileError, also for pipes and devices, which need not end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is not waited for
        try:
            kind = os.fstat(fd).st_mode
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(kind):
                raise OSError(errno.EINVAL, "it is no plain file", path)
            with open(fd, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(fd)
    except OSError as error:
        raise UnreadableFileError(f"Failed to read file: {path}: {error.strerror}", path=str(path)) from error


def read_file(path: str | Path, mode: Mode = "strict") -> Document:
    """The memory in a v1 file; UnreadableFileError names the path."""
    data = read_bytes(path)
    try:
        return read(data, mode)
    except UnreadableFileError as error:
        raise UnreadableFileError(f"Failed to read file: {path}: {error}", path=str(path)) from error


# The checks, in the first engine's order.


def check_frame(parts: Parts) -> None:
    """Next node id, genesis, and that checkpoints name commits."""
    if parts.next_node_id == 0:
        raise malformed("next_node_id", "is 0")
    hashed = None if parts.genesis is None else parts.genesis.state_hash()
    if hashed != parts.genesis_hash:
        raise CorruptGenesisHashError(f"Corrupt genesis hash. The state that history begins with was changed. {REPAIR}")
    hashes = {link.id: link.hash for link in parts.links}
    for point in parts.checkpoints:
        if hashes.get(point.commit_id) != point.commit_hash:
            raise CheckpointCommitMismatchError(
                f"Checkpoint commit mismatch: no commit {point.commit_id} has the hash it names. {REPAIR}",
                commit_id=point.commit_id,
            )


def check_chain(parts: Parts) -> None:
    """Ids, parents and parent hashes, commit by commit."""
    previous: Link | None = None
    for link in parts.links:
        if previous is not None and link.id != previous.id + 1:
            raise CommitSequenceError(
                f"Invariant violation: commit id {link.id} is not sequential after {previous.id}. {REPAIR}",
                commit_id=link.id,
                previous_id=previous.id,
            )
        expected = None if previous is None else previous.id
        if link.parent != expected:
            shown = "None" if link.parent is None else f"Some({link.parent})"
            what = f"commit {link.id} has invalid parent {shown}, expected {expected}"
            what = "first commit must have no parent" if previous is None else what
            raise CommitParentError(f"Invariant violation: {what}. {REPAIR}", commit_id=link.id)
        if link.parent_hash != (parts.genesis_hash if previous is None else previous.hash):
            raise CorruptParentHashError(
                f"Corrupt parent hash: commit {link.id} does not continue the one before it. {REPAIR}",
                commit_id=link.id,
            )
        previous = link


def check_commit_hashes(links: Iterable[Link]) -> None:
    """Each commit's content gives its hash."""
    for link in links:
        if link.content_hash != link.hash:
            raise CorruptCommitHashError(
                f"Corrupt commit hash: commit {link.id} was changed after it was written. {REPAIR}", commit_id=link.id
            )


def check_checkpoint_hashes(checkpoints: Iterable[Checkpoint]) -> None:
    """Each checkpoint's state gives its hash."""
    for point in checkpoints:
        if point.state.state_hash() != point.state_hash:
            raise CorruptCheckpointHashError(
                f"Corrupt checkpoint hash: the state at commit {point.commit_id} was changed. {REPAIR}",
                commit_id=point.commit_id,
            )


def check_next_node_id(document: Document) -> None:
    """The next node id is beyond all in use."""
    highest = max(document.head.nodes, default=-1)
    if document.next_node_id <= highest:
        raise NextNodeIdError(
            f"Invariant violation: next_node_id {document.next_node_id} <= max created id {highest}. {REPAIR}",
            next_node_id=document.next_node_id,
            highest_id=highest,
        )


def replays(document: Document) -> bool:
    """Whether the whole history replays and gives every checkpoint; the latest state becomes the document's head."""
    try:
        check_history(document)
    except MyosotisError:
        return False
    return True


def check_history(document: Document) -> None:
    """Replays everything and compares each checkpoint with it: HiddenMutationError, ForgedCheckpointError."""
    points: dict[int, list[Checkpoint]] = {}
    for point in document.checkpoints:
        points.setdefault(point.commit_id, []).append(point)
    graph = replay(document.genesis, ())
    for commit in document.commits:
        try:
            graph.replay(commit.mutations)
        except MyosotisError as error:
            raise HiddenMutationError(
                f"{error.message} Commit {commit.id} does this, hidden by a later checkpoint, which the first engine "
                f"believes. {REPAIR}",
                commit_id=commit.id,
            ) from error
        for point in points.get(commit.id, ()):
            if graph.state_hash() != point.state_hash:
                raise ForgedCheckpointError(
                    f"Forged checkpoint: the commits up to {commit.id} give another state than the checkpoint there, "
                    f"which the first engine believes. {REPAIR}",
                    commit_id=commit.id,
                )
    document.head = graph


def replay(genesis: Graph | None, commits: Iterable[Commit]) -> Graph:
    """The state after these commits, from a state on (None: the empty one), which is left as it is."""
    graph = Graph() if genesis is None else genesis.copy()
    for commit in commits:
        graph.replay(commit.mutations)
    return graph


def as_commit(link: Link) -> Commit:
    """The commit that a file has."""
    parent = None if link.parent_hash is None else link.parent_hash.hex()
    return Commit(link.id, link.message, link.hash.hex(), parent, link.mutations)


# Writing.


def write(document: Document) -> bytes:
    """The bytes of a v1 file, which the first engine loads in strict mode.

    FirstEngineWarning when it would not, because it reads some number as another one.
    """
    data = encode(document)
    warn_of_misread_floats(document)
    return data


def encode(document: Document) -> bytes:
    """What write() gives, without a word about numbers."""
    indent = "    "
    genesis = document.genesis
    fields = (
        f'"magic": "{MAGIC}"',
        f'"format_version": {VERSION}',
        f'"genesis_state": {"null" if genesis is None else graph_text(genesis, "  ")}',
        f'"genesis_state_hash": {"null" if genesis is None else hash_text(genesis.state_hash(), "  ")}',
        f'"commits": {block("[", _commit_texts(document.commits, indent), "]", "  ")}',
        f'"checkpoints": {block("[", (_checkpoint_text(point, indent) for point in document.checkpoints), "]", "  ")}',
        f'"next_node_id": {document.next_node_id}',
    )
    return block("{", fields, "}", "").encode()


def _commit_texts(commits: Iterable[Commit], indent: str) -> Iterable[str]:
    inner = indent + "  "
    last_hash, last_text = "", ""
    for commit in commits:
        own = hash_text(bytes.fromhex(commit.hash), inner)
        if commit.parent_hash is None:
            parent_text = "null"
        else:
            known = commit.parent_hash == last_hash
            parent_text = last_text if known else hash_text(bytes.fromhex(commit.parent_hash), inner)
        mutations = block("[", (mutation_text(mutation, inner + "  ") for mutation in commit.mutations), "]", inner)
        yield (
            f'{{\n{inner}"id": {commit.id},\n{inner}"parent": {commit.id - 1 if last_hash else "null"},\n'
            f'{inner}"parent_hash": {parent_text},\n{inner}"hash": {own},\n'
            f'{inner}"message": {"null" if commit.label is None else string_text(commit.label)},\n'
            f'{inner}"mutations": {mutations}\n{indent}}}'
        )
        last_hash, last_text = commit.hash, own


def _checkpoint_text(point: Checkpoint, indent: str) -> str:
    inner = indent + "  "
    return (
        f'{{\n{inner}"commit_id": {point.commit_id},\n'
        f'{inner}"commit_hash": {hash_text(point.commit_hash, inner)},\n'
        f'{inner}"state_hash": {hash_text(point.state_hash, inner)},\n'
        f'{inner}"state": {graph_text(point.state, inner)}\n{indent}}}'
    )


def warn_of_misread_floats(document: Document) -> None:
    """FirstEngineWarning when the first engine would not load the document, because it misreads a number."""
    count, first = 0, ""
    for commit in document.commits:
        for mutation in commit.mutations:
            if isinstance(mutation, SetField):
                for number in misread_floats(mutation.value):
                    first = first or f"{float_text(number)} in field {mutation.key!r} of node {mutation.id}"
                    count += 1
    if count:
        warnings.warn(
            f"The first engine reads {first} as another number, and so refuses the file. Numbers like it: {count}. "
            "Every other reader of format v1 gets them right.",
            FirstEngineWarning,
            stacklevel=3,
        )
