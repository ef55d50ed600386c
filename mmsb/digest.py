"""The digest of a state: a BLAKE3 tree over its pages. Equal digests, equal states. docs/formats/digest.md.

Leaves are buckets of 64 page ids, so that calls into blake3 amortise. A live State keeps them and hashes again only
the buckets whose pages changed, which it learns by comparing epochs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

BUCKET_PAGES = 64
INLINE_BYTES = 4096
PAGE = struct.Struct("<QQQBBQQ")  # id, size, epoch, kind, has name, name bytes, metadata bytes

Described = tuple[int, int, int, int, str | None, bytes, Any]  # id, size, epoch, kind, name, metadata, content


def encode_page(page: Described, content_hash: bytes | None) -> bytes:
    """A page's part of its bucket. Long contents enter as their own hash."""
    page_id, size, epoch, kind, name, notes, content = page
    text = (name or "").encode("utf-8", "surrogateescape")
    head = PAGE.pack(page_id, size, epoch, kind, name is not None, len(text), len(notes))
    return b"".join((head, text, notes, content_hash if content_hash is not None else content))


def root_of(buckets: Iterable[tuple[int, bytes]]) -> bytes:
    """The digest from (bucket number, hash), ascending."""
    import blake3

    root = blake3.blake3(b"mmsb state 1\0")
    for number, leaf in buckets:
        root.update(struct.pack("<Q", number) + leaf)
    return root.digest()


class Digests:
    """The leaves of one core's tree, kept from one digest to the next."""

    def __init__(self) -> None:
        self.leaves: dict[int, bytes] = {}
        self.seen: dict[int, tuple[Any, ...]] = {}  # bucket -> what its leaf was made of
        self.contents: dict[int, tuple[int, bytes]] = {}  # page id -> (epoch, hash) of long contents

    def content_hash(self, page_id: int, epoch: int, content: Any) -> bytes:
        """The hash of a long content, remembered while the epoch stays."""
        import blake3

        known = self.contents.get(page_id)
        if known is None or known[0] != epoch:
            known = (epoch, blake3.blake3(content).digest())
            self.contents[page_id] = known
        return known[1]

    def root(self, core: Any) -> bytes:
        """The digest of a core (State, scratch core) as it is now. Call it with other threads kept out."""
        import blake3

        names, notes = core._name_of, core._metadata
        buckets: dict[int, list[tuple[int, int, int, int]]] = {}
        for page_id in core._page_ids():
            buckets.setdefault(page_id // BUCKET_PAGES, []).append((page_id, *core._page_info(page_id)))
        for number in [number for number in self.leaves if number not in buckets]:
            del self.leaves[number], self.seen[number]
        for number, pages in buckets.items():
            key = tuple((*page, names.get(page[0]), notes.get(page[0], b"")) for page in pages)
            if self.seen.get(number) == key:
                continue
            leaf = blake3.blake3()
            for page_id, size, epoch, kind, name, blob in key:
                content = core._page_bytes(page_id)
                long = self.content_hash(page_id, epoch, content) if size > INLINE_BYTES else None
                leaf.update(encode_page((page_id, size, epoch, kind, name, blob, content), long))
            self.leaves[number], self.seen[number] = leaf.digest(), key
        for page_id in [page_id for page_id in self.contents if not core._has_page(page_id)]:
            del self.contents[page_id]
        return root_of(sorted(self.leaves.items()))


def state_digest(state: Any) -> bytes:
    """The digest of a live State (32 bytes)."""
    with state._exclusive():
        if state._digests is None:
            state._digests = Digests()
        return state._digests.root(state)


def core_digest(core: Any) -> bytes:
    """The digest of any core, without remembering anything."""
    return Digests().root(core)
