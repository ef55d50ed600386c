"""The digest of a state: a BLAKE3 tree over its pages. Equal digests, equal states. docs/formats/digest.md.

Leaves are buckets of 64 page ids, so that calls into blake3 amortise. Whoever keeps a Tree hashes again only the
buckets whose pages changed since; a live State learns those from its log, so that writing pays nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from mmsb.bases import links_at, segments_between
from mmsb.errors import CorruptLogError

BUCKET_PAGES = 64
INLINE_BYTES = 4096
LEAF_PREFIX = b"mmsb bucket 1\0\0\0"
ROOT_PREFIX = b"mmsb state 1\0\0\0\0"
PAGE = struct.Struct("<QQQBBHII")  # id, size, epoch, kind, flags, 0, name bytes, metadata bytes
HAS_NAME = 1
HASHED = 2
NO_GRAPH = bytes(32)
NO_ENTRIES = b"\0"  # the encoding of empty metadata, which equals none


class Tree:
    """The leaves of one digest. An owner is a core, or anything with its `_page_ids`, `_page_info`, `_page_bytes`,
    `_page_copy`, `_name_of`, `_metadata` and `next_page_id`.
    """

    def __init__(self) -> None:
        self.leaves: dict[int, bytes] = {}
        self.contents: dict[int, tuple[int, int, bytes]] = {}  # long contents: (epoch, size, hash) by page id

    def update(self, owner: Any, changed: Iterable[int] | None) -> None:
        """Hashes the buckets of the pages that changed (None: all). Keep other threads out of `owner` meanwhile."""
        buckets: dict[int, list[int]] = {}
        if changed is None:
            self.leaves.clear()
            self.contents.clear()
            for page_id in owner._page_ids():
                buckets.setdefault(page_id // BUCKET_PAGES, []).append(page_id)
        else:
            for number in {page_id // BUCKET_PAGES for page_id in changed}:
                first = number * BUCKET_PAGES
                ids = [page_id for page_id in range(first, first + BUCKET_PAGES) if owner._has_page(page_id)]
                for page_id in range(first, first + BUCKET_PAGES):
                    if page_id in self.contents and not owner._has_page(page_id):
                        del self.contents[page_id]
                if ids:
                    buckets[number] = ids
                else:
                    self.leaves.pop(number, None)
        for number, ids in buckets.items():
            self.leaves[number] = self.leaf(owner, number, ids)

    def leaf(self, owner: Any, number: int, ids: list[int]) -> bytes:
        """The hash of one bucket."""
        import blake3

        parts: list[Any] = [LEAF_PREFIX, struct.pack("<QQ", number, len(ids))]
        for page_id in ids:
            size, epoch, kind = owner._page_info(page_id)
            name = owner._name_of.get(page_id)
            notes = owner._metadata.get(page_id) or b""
            if notes == NO_ENTRIES:
                notes = b""
            text = name.encode("utf-8", "surrogateescape") if name is not None else b""
            flags = (HAS_NAME if name is not None else 0) | (HASHED if size > INLINE_BYTES else 0)
            parts += (PAGE.pack(page_id, size, epoch, kind, flags, 0, len(text), len(notes)), text, notes)
            if size > INLINE_BYTES:
                parts.append(self.content_hash(owner, page_id, epoch, size))
            else:
                parts.append(owner._page_copy(page_id))
        return blake3.blake3(b"".join(parts)).digest()

    def content_hash(self, owner: Any, page_id: int, epoch: int, size: int) -> bytes:
        """The hash of a long content, remembered while epoch and size stay."""
        import blake3

        known = self.contents.get(page_id)
        if known is None or known[:2] != (epoch, size):
            known = (epoch, size, blake3.blake3(owner._page_bytes(page_id)).digest())
            self.contents[page_id] = known
        return known[2]

    def root(self, next_page_id: int, graph: bytes) -> bytes:
        """The digest. `graph`: the links, as Links.digest_bytes gives them."""
        import blake3

        parts = [ROOT_PREFIX, struct.pack("<QQ", next_page_id, len(self.leaves))]
        for number in sorted(self.leaves):
            parts += (struct.pack("<Q", number), self.leaves[number])
        parts.append(blake3.blake3(graph).digest() if graph else NO_GRAPH)
        return blake3.blake3(b"".join(parts)).digest()


class Digests:
    """The Tree of a live State, and the seq up to which it is."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.seq: int | None = None

    def root(self, state: Any) -> bytes:
        """The State's digest. Call it with other threads kept out."""
        if self.seq is None or self.seq != state.seq:
            changed = None if self.seq is None else changed_since(state, self.seq)
            self.seq = None  # in case of an exception half-way
            self.tree.update(state, changed)
            self.seq = state.seq
        return self.tree.root(state.next_page_id, state._links.digest_bytes())


def changed_since(state: Any, seq: int) -> set[int] | None:
    """Ids of the pages that commits after `seq` touched; None when the log cannot say."""
    if state._log.first_seq > seq:
        return None
    changed: set[int] = set()
    try:
        for segment in segments_between(state._log, seq, state.seq):
            reader = state._indexes.of(segment, state.seq)
            changed |= reader.index.touched(reader.data, seq, state.seq)
    except CorruptLogError:
        return None  # damaged on disk since it was written; the pages themselves are in memory
    return changed


def state_digest(state: Any) -> bytes:
    """The digest of a live State (32 bytes)."""
    with state._exclusive():
        if state._digests is None:
            state._digests = Digests()
        digest: bytes = state._digests.root(state)
        return digest


def core_digest(core: Any) -> bytes:
    """The digest of any core, without remembering anything."""
    tree = Tree()
    tree.update(core, None)
    return tree.root(core.next_page_id, core._links.digest_bytes())


class _Lookup:
    """`.get(page_id)` by way of a function."""

    def __init__(self, get: Any) -> None:
        self.get = get


class _View:
    """A PastState as the owner of a Tree: nothing of it is kept in memory."""

    def __init__(self, view: Any) -> None:
        self._page_ids = view._page_ids
        self._page_info = view._page_info
        self._name_of = _Lookup(view._page_name)
        self._metadata = _Lookup(view._page_notes)
        self.view = view

    def _page_bytes(self, page_id: int) -> bytes:
        content: bytes = self.view._rebuild(page_id, self._page_info(page_id)[0])
        return content

    _page_copy = _page_bytes


def pages_digest(view: Any) -> bytes:
    """The digest of a PastState."""
    tree = Tree()
    tree.update(_View(view), None)
    return tree.root(view.next_page_id, links_at(view.state, view.seq).digest_bytes())
