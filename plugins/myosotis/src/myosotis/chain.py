"""Commits and the chain of their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from myosotis.mutations import Mutation
from myosotis.values import encode_text

NO_PARENT = bytes(32)
_NO_LABEL = bytes(8)


@dataclass(frozen=True, slots=True, init=False)
class Commit:
    """A commit: a link of the chain.

    `hash` and `parent_hash` are hexadecimal (None: the first of all). `meta` (timestamp, author and what else was
    given) lies beside the chain: format v1 does not know it, and no hash covers it.
    """

    id: int
    label: str | None
    hash: str
    parent_hash: str | None
    mutations: tuple[Mutation, ...]
    meta: dict[str, Any]

    def __init__(
        self,
        id: int,
        label: str | None,
        hash: str,
        parent_hash: str | None,
        mutations: tuple[Mutation, ...],
        meta: dict[str, Any] | None = None,
    ) -> None:
        # One is made for each commit: the slots themselves are twice as quick as what a frozen dataclass does.
        _put_id(self, id)
        _put_label(self, label)
        _put_hash(self, hash)
        _put_parent_hash(self, parent_hash)
        _put_mutations(self, mutations)
        _put_meta(self, {} if meta is None else meta)


_put_id, _put_label, _put_hash = Commit.id.__set__, Commit.label.__set__, Commit.hash.__set__  # type: ignore
_put_parent_hash, _put_mutations = Commit.parent_hash.__set__, Commit.mutations.__set__  # type: ignore
_put_meta = Commit.meta.__set__  # type: ignore


def commit_hash(parent: bytes, label: str | None, mutations_encoded: bytes) -> bytes:
    """The hash (32 bytes) of a commit. `parent` is NO_PARENT for the first of all; no label and "" are the same."""
    text = encode_text(label) if label else _NO_LABEL
    return hashlib.sha256(parent + text + mutations_encoded).digest()
