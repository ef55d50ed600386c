"""Compaction: the beginning of a history becomes the state it leads to, and the rest continues from there.

Writing the head page is the one step that counts. Before it nothing has changed, after it the history begins at the
target; what mmsb still keeps of the time before goes afterwards, or when the memory is opened next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from mmsb.errors import PageNotFoundError
from myosotis.chain import commit_hash
from myosotis.errors import CorruptCommitHashError, CorruptJournalError, InvalidCompactionTargetError
from myosotis.store import Store

LABELS_PAGE = "myosotis.labels"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: `commit`, the last commit that went into the genesis; how many `forgotten` and `kept`;
    `labels` (id, label) of the forgotten ones; the `state_hash` (hexadecimal) of the latest state, which is as before.
    """

    commit: int
    forgotten: int
    kept: int
    labels: tuple[tuple[int, str], ...]
    state_hash: str


def compact(store: Store, target: int) -> Compaction:
    """Folds the commits up to `target` into the genesis; ids stay, later commits get new hashes.

    InvalidCompactionTargetError; CorruptCommitHashError when a commit that stays has not the hash it should.
    """
    head = store.head
    if target <= head.base_id:
        raise InvalidCompactionTargetError(
            f"History cannot be folded up to commit {target}: it begins with commit {head.base_id + 1}.", commit=target
        )
    past = store.past(target)
    genesis = bytes.fromhex(store.nodes.state_hash(past))
    digest = genesis
    for record in store.records(target + 1):
        if not record.genuine:
            raise CorruptCommitHashError(
                f"Corrupt commit hash: commit {record.id} was changed after it was written. Load the file strictly "
                "first.",
                commit_id=record.id,
            )
        digest = commit_hash(digest, record.label, record.mutations)
    forgotten = [(record.id, record.label) for record in store.records(last=target) if record.label is not None]
    labels = [*folded_labels(store), *forgotten]
    seq = store.seq_of(target)
    foreign = head.seq - seq - (head.id - target)
    changed = replace(head, hash=digest, base_id=target, base_seq=seq, genesis=genesis, foreign=foreign)
    before = target - head.base_id
    store.rebase(changed, LABELS_PAGE, json.dumps(labels).encode())
    finish(store)
    return Compaction(target, before, head.id - target, tuple(forgotten), store.nodes.state_hash())


def finish(store: Store) -> None:
    """Lets go of what mmsb keeps of the time before the history."""
    state = store.state
    if state.path is not None and state.first_seq < store.head.base_seq and store.head.base_seq > 1:
        state.compact(store.head.base_seq)


def folded_labels(store: Store) -> list[tuple[int, str]]:
    """Ids and labels of the commits that compactions folded, oldest first. CorruptJournalError."""
    try:
        entries = json.loads(store.state.page(LABELS_PAGE).read().rstrip(b"\0"))
        return [(int(commit_id), str(label)) for commit_id, label in entries]
    except PageNotFoundError:
        return []
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptJournalError(
            f"The page of folded labels cannot be read ({error}). Verify the file.", path=store.state.path
        ) from error
