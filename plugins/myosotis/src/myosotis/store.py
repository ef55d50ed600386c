"""A memory's log: commits, nodes and their past, in the pages and the log of an mmsb State (see layout)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import mmsb
from mmsb.errors import (
    CorruptCheckpointError,
    CorruptLogError,
    FormatVersionError,
    PageNotFoundError,
    RetentionError,
    StoreLockedError,
)
from myosotis import layout
from myosotis.chain import NO_PARENT, Commit, commit_hash
from myosotis.errors import CommitNotFoundError, CorruptJournalError, LockedError
from myosotis.graph import Node
from myosotis.layout import Head
from myosotis.mutations import CreateNode, SetField, decode_all
from myosotis.nodepages import NodePages, Run
from myosotis.values import ID_MOST, encode

ANCHOR_REACH = 2 * layout.ANCHOR_EVERY
ANCHORS_MOST = 4096
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Record(NamedTuple):
    """A commit as it lies in the log: ids and hashes included, mutations still encoded."""

    id: int
    seq: int
    time_ns: int
    label: str | None
    hash: bytes
    parent: bytes
    mutations: bytes
    meta: dict[str, Any]
    genuine: bool  # whether the hash is the one that the content gives

    def commit(self) -> Commit:
        """The commit for users. MalformedFileStructureError."""
        parent = None if self.parent == NO_PARENT else self.parent.hex()
        return Commit(self.id, self.label, self.hash.hex(), parent, decode_all(self.mutations), self.meta)


def open_state(path: str | None, *, read_only: bool = False, durability: str | None = None) -> mmsb.State:
    """The State at `path`, or one in memory. LockedError, CorruptJournalError, and what mmsb.open raises."""
    if path is None:
        return mmsb.open()
    try:
        return mmsb.open(path, read_only=read_only, durability=durability)
    except StoreLockedError as error:
        raise LockedError(
            f"Another process writes to {path}. Open it with read_only=True, or wait for it.", path=path
        ) from error
    except (CorruptLogError, CorruptCheckpointError, FormatVersionError) as error:
        raise CorruptJournalError(f"{error} `mmsb salvage {path} OUT` saves what is intact.", path=path) from error


class Store:
    """Commits appended to a State, and read from it. One at a time per State; a reader has a State of its own."""

    def __init__(self, state: mmsb.State) -> None:
        """Takes a State that begin() has prepared. CorruptJournalError when it is none."""
        self.state = state
        self._anchors: dict[int, Head] = {}
        try:
            self._head_page = state.page(layout.HEAD_PAGE).page_id
            self._staged_page = state.page(layout.STAGED_PAGE).page_id
            self.head = Head.decode(state.page(self._head_page).read(), state.path)
            self.nodes = NodePages(state, self.head.open_nodes)
        except PageNotFoundError:
            raise CorruptJournalError(
                f"{state.path} is a store of mmsb that holds no memory. Check the path.", path=state.path
            ) from None
        self._read_tail()
        self.has_staged = self.staged() != (0, b"")

    @classmethod
    def begin(
        cls, state: mmsb.State, nodes: Iterable[Node], *, base_id: int, genesis: bytes | None, next_node_id: int
    ) -> Store:
        """Prepares an empty State: its history begins with these nodes, after commit `base_id`."""
        with state.batch() as batch:
            seq = state.seq + 1
            head = Head(base_id, seq, genesis or NO_PARENT, next_node_id, base_id, seq, genesis)
            head_page = batch.create_page(layout.HEAD_BYTES, name=layout.HEAD_PAGE)
            batch.create_page(layout.STAGED_HEAD.size, name=layout.STAGED_PAGE)
            head.open_nodes = NodePages.begin(batch, nodes)
            batch.write(head_page, head.encode())
        return cls(state)

    def _read_tail(self) -> None:
        """Goes on from the head page, which is some commits old."""
        head = self.head
        for record in self._records_from(replace(head), self.state.seq):
            head.foreign += record.seq - head.seq - 1
            head.id, head.seq, head.hash = record.id, record.seq, record.hash
            for mutation in decode_all(record.mutations):
                if isinstance(mutation, CreateNode):
                    head.next_node_id = max(head.next_node_id, next_after(mutation.id))
                    head.open_nodes += 1
        self.nodes.set_open(head.open_nodes)

    # ---- writing

    def append(
        self,
        label: str | None,
        meta: dict[str, Any],
        mutations: bytes,
        nodes: Iterable[Node],
        *,
        next_node_id: int,
        stored_hash: bytes | None = None,
    ) -> bytes:
        """Appends a commit in which these nodes changed. Returns its hash.

        stored_hash: the hash that the commit bears where its content gives another one (unsafe loading). What mmsb
        raises when there is no room leaves everything as it was.
        """
        head, state = self.head, self.state
        digest = commit_hash(head.hash, label, mutations)
        if stored_hash == digest:
            stored_hash = None
        short = label is None or 0 < len(label) <= layout.LABEL_MOST
        intent = layout.intent_of(mutations, None if short else label, meta, stored_hash)
        batch = mmsb.Batch(state, layout.SOURCE, label if short else None, intent)
        try:
            changed = tuple(nodes)
            runs = self.nodes.stage(batch, changed)
            expected, after = state.seq + 1, head
            # Most commits change nothing but fields: what the head page says of them follows from the log.
            plain = runs is self.nodes.runs and not meta and stored_hash is None and next_node_id == head.next_node_id
            if not plain or expected != head.seq + 1 or (head.id + 1) % layout.ANCHOR_EVERY == 0:
                after = replace(head, id=head.id + 1, seq=expected, hash=stored_hash or digest)
                after.foreign += expected - head.seq - 1
                after.timed = head.timed or "timestamp" in meta
                after.open_nodes = runs[-1][2] if runs else 0
                after.next_node_id = max([head.next_node_id, *(next_after(node.id) for node in changed)])
                self._stage_head(batch, after, next_node_id, runs, stored_hash)
            if self.has_staged:
                batch.write(self._staged_page, bytes(layout.STAGED_HEAD.size))
            made = batch.commit()
        except BaseException:
            self.nodes.failed()
            raise
        self.nodes.committed(runs)
        self.has_staged = False
        after.id, after.seq, after.hash = head.id + 1, made, stored_hash or digest
        self.head = after
        if made != expected:  # another thread or process was quicker: what the page says of seqs is put right
            after.foreign += made - expected
            self._write_head(after)
        return after.hash

    def append_value(self, label: str | None, change: SetField, *, next_node_id: int) -> bytes | None:
        """Appends a commit that is one SetField of a value that differs. Returns its hash.

        The shortest way, for what most commits are: the bytes of the value are written over those of the one before.
        None, and nothing is done, where that is not all there is to write; append() does it.
        """
        head, known = self.head, self.nodes.place_of(change)
        if known is None:
            return None
        page_id, (at, length, prefix) = known
        value = encode(change.value)
        if (
            len(value) != length
            or len(prefix) + length > layout.SHORT_MOST
            or not (label is None or 0 < len(label) <= layout.LABEL_MOST)
            or next_node_id != head.next_node_id
            or (head.id + 1) % layout.ANCHOR_EVERY == 0
            or self.has_staged
            or self.state.seq != head.seq
        ):
            return None
        mutation = prefix + value
        digest = commit_hash(head.hash, label, mutation)
        batch = mmsb.Batch(self.state, layout.SOURCE, label, layout.short_intent(mutation))
        batch.write(page_id, value, at)
        made, expected = batch.commit(), head.seq + 1
        head.id, head.seq, head.hash = head.id + 1, made, digest
        if made != expected:  # as in append()
            head.foreign += made - expected
            self._write_head(head)
        return digest

    def _stage_head(
        self, batch: mmsb.Batch, after: Head, next_node_id: int, runs: list[Run], stored_hash: bytes | None
    ) -> None:
        """Stages the head page, if it does not follow from the one before and the log; the log gives next node ids."""
        head = self.head
        follows = (after.foreign, after.timed, after.next_node_id, len(runs)) == (
            head.foreign,
            head.timed,
            next_node_id,
            len(self.nodes.runs),
        )
        after.next_node_id = next_node_id
        if not follows or stored_hash is not None or after.id % layout.ANCHOR_EVERY == 0:
            batch.write(self._head_page, after.encode())

    def erase(self, node_ids: Collection[int]) -> None:
        """Lets nodes not be there, now and at any time before: what a believed checkpoint without them says."""
        with self.state.batch() as batch:
            self.head.open_nodes = self.nodes.erase(batch, node_ids)
            batch.write(self._head_page, self.head.encode())

    def _write_head(self, head: Head) -> None:
        with self.state.batch() as batch:
            batch.write(self._head_page, head.encode())

    def settle(self) -> None:
        """Writes the head as it is now, so that whoever opens the store next need not read the newest commits."""
        if Head.decode(self.state.page(self._head_page).read(), self.state.path).id != self.head.id:
            self._write_head(self.head)

    def rebase(self, head: Head, name: str, notes: bytes) -> None:
        """Lets history begin elsewhere: replaces the head, and the bytes of the page `name`, in one step."""
        with self.state.batch() as batch:
            batch.write(self._head_page, head.encode())
            try:
                page = self.state.page(name)
                batch.resize(page, len(notes))
                batch.write(page, notes)
            except PageNotFoundError:
                batch.create_page(data=notes, name=name)
        self.head = head

    def stage(self, next_node_id: int, mutations: bytes) -> None:
        """Keeps staged mutations until the next commit, or until others take their place."""
        data = layout.encode_staged(next_node_id, mutations)
        size = self.state.page(self._staged_page).size
        with self.state.batch() as batch:
            if len(data) > size:
                batch.resize(self._staged_page, 2 * len(data))
            batch.write(self._staged_page, data.ljust(size, b"\0"))
        self.has_staged = True

    def staged(self) -> tuple[int, bytes]:
        """The next node id (0: that of the head) and the mutations that were staged. MalformedFileStructureError."""
        return layout.decode_staged(self.state.page(self._staged_page).read())

    # ---- the past

    def _anchor(self, seq: int) -> Head:
        """The head page after commit `seq` of the State."""
        head = self._anchors.get(seq)
        if head is None:
            head = Head.decode(self.state.at(seq).page(self._head_page).read(), self.state.path)
            if len(self._anchors) >= ANCHORS_MOST:
                self._anchors = {}  # a fold in the background may hold the old one
            self._anchors[seq] = head
        return head

    def seq_of(self, commit_id: int) -> int:
        """The seq of a commit, of the last one before the history: of the graph it begins with. CommitNotFoundError."""
        head = self.head
        if not head.base_id <= commit_id <= head.id:
            raise CommitNotFoundError(
                f"Commit not found: {commit_id}. There are commits {head.base_id + 1} to {head.id}.", commit=commit_id
            )
        if commit_id == head.id:
            return head.seq if commit_id > head.base_id else head.base_seq
        if commit_id == head.base_id or head.foreign == 0:
            return head.base_seq + commit_id - head.base_id
        # Ids never go up faster than seqs, so that this is never too far, and comes nearer each time.
        seq = head.base_seq + commit_id - head.base_id
        while (missing := commit_id - self.id_of(seq)) > 0:
            seq += missing
        return seq

    def id_of(self, seq: int) -> int:
        """The last commit up to a seq."""
        head = self.head
        if seq >= head.seq:
            return head.id
        if head.foreign == 0:
            return head.base_id + seq - head.base_seq
        anchor = self._anchor(seq)
        since, known = max((anchor.seq, anchor.id), (head.base_seq, head.base_id))
        return known + sum(1 for _ in self.state.log(source=layout.SOURCE, since=since + 1, until=seq))

    def past(self, commit_id: int) -> mmsb.PastState:
        """The State as it was after a commit. CommitNotFoundError."""
        return self.state.at(self.seq_of(commit_id))

    def labelled(self, label: str) -> int | None:
        """The newest commit with a label, None when there is none."""
        found = 0
        if 0 < len(label) <= layout.LABEL_MOST:
            for commit in self.state.log(source=layout.SOURCE, label=label, since=self.head.base_seq + 1):
                found = commit.seq
        else:
            for record in self.records():
                found = record.seq if record.label == label else found
        return self.id_of(found) if found else None

    def not_after(self, time: datetime) -> int:
        """The last commit that was made (or was given a timestamp) not after an aware datetime. CommitNotFoundError."""
        head = self.head
        found = None
        if head.timed:
            limit = (time - EPOCH) // EPOCH.resolution * 1000
            for record in self.records():
                if time_of(record.meta, record.time_ns) <= limit:
                    found = record.id
        else:
            try:
                seq = self.state.at(time).seq
            except RetentionError:  # before what a compaction left
                seq = 0
            found = self.id_of(seq) if seq > head.base_seq else None
        if found is None:
            raise CommitNotFoundError(f"Commit not found: none is as old as {time}.", commit=time)
        return found

    def records(self, first: int | None = None, last: int | None = None) -> Iterator[Record]:
        """The commits `first` to `last`, both included, oldest first. CorruptJournalError."""
        head = self.head
        first = head.base_id + 1 if first is None else max(first, head.base_id + 1)
        last = head.id if last is None else min(last, head.id)
        if first > last:
            return
        for record in self._records_from(self._start(self.seq_of(first - 1)), self.seq_of(last)):
            if first <= record.id <= last:
                yield record

    def records_at(self, seqs: Iterable[int]) -> Iterator[Record]:
        """The commits of these seqs, which are the memory's own and ascend. CorruptJournalError."""
        going: Iterator[Record] = iter(())
        at = -ANCHOR_REACH
        for seq in seqs:
            if seq - at >= ANCHOR_REACH:  # it is quicker to begin anew than to go on
                going = self._records_from(self._start(seq - 1), self.state.seq)
            for record in going:
                at = record.seq
                if at == seq:
                    yield record
                if at >= seq:
                    break

    def _start(self, seq: int) -> Head:
        """A head, not after a seq, from which hashes can be computed on."""
        head = self.head
        if seq > head.base_seq:
            anchor = self._anchor(seq)
            if anchor.base_seq == head.base_seq:
                return anchor
        return replace(head, id=head.base_id, seq=head.base_seq, hash=head.genesis or NO_PARENT)

    def _records_from(self, start: Head, until: int) -> Iterator[Record]:
        commit_id, parent = start.id, start.hash
        for commit in self.state.log(source=layout.SOURCE, since=start.seq + 1, until=until):
            blob = label = None
            for change in commit.changes:
                if change.kind == "intent":
                    blob = change.blob
                elif change.kind == "label":
                    label = change.text
            meta: dict[str, Any] = {}
            stored = None
            mutations = layout.plain_mutations(blob or b"")
            if mutations is None:
                mutations, long_label, meta, stored = layout.from_intent(commit.intent)
                label = label if long_label is None else long_label
            digest = commit_hash(parent, label, mutations)
            commit_id += 1
            yield Record(
                commit_id, commit.seq, commit.time_ns, label, stored or digest, parent, mutations, meta, stored is None
            )
            parent = stored or digest


def next_after(node_id: int) -> int:
    """The id after a node's. There is none after the last of 64 bits, which then counts as used up."""
    return min(node_id + 1, ID_MOST)


def time_of(meta: dict[str, Any], time_ns: int) -> int:
    """When a commit was made, ns since 1970: what its meta says, else what the log says."""
    moment = layout.moment_of(meta.get("timestamp"))
    return time_ns if moment is None else (moment - EPOCH) // EPOCH.resolution * 1000
