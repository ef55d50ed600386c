"""Commits and the chain of their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from myosotis.mutations import Mutation
from myosotis.values import encode_text

NO_PARENT = bytes(32)
_NO_LABEL = bytes(8)


@dataclass(frozen=True, slots=True)
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
    meta: dict[str, Any] = field(default_factory=dict)


def commit_hash(parent: bytes, label: str | None, mutations_encoded: bytes) -> bytes:
    """The hash (32 bytes) of a commit. `parent` is NO_PARENT for the first of all; no label and "" are the same."""
    text = encode_text(label) if label else _NO_LABEL
    return hashlib.sha256(parent + text + mutations_encoded).digest()
