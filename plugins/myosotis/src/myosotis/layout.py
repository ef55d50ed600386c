"""The bytes that a memory keeps in the pages and commits of an mmsb State.

Pages: one for the head (where the chain stands), one that says which pages hold nodes, one for staged mutations, and
one for each node. A commit of a memory is a commit of the State whose source is SOURCE: it writes the nodes that
changed, and its intent holds the encoded mutations. Hashes are not kept; they follow from the mutations, and every
ANCHOR_EVERY commits the head page says what they came to, so that opening reads little.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from myosotis.errors import CorruptJournalError, InvalidValueError
from myosotis.graph import Node
from myosotis.mutations import set_prefix
from myosotis.values import decode, decode_id, decode_text, encode, take

SOURCE = "myosotis"
HEAD_PAGE, NODES_PAGE, STAGED_PAGE = "myosotis.head", "myosotis.nodes", "myosotis.staged"
ANCHOR_EVERY = 256
LABEL_MOST = 200  # characters; a longer label lies with the notes, as does an empty one

_MAGIC = b"MYOHEAD1"
_HEAD = struct.Struct("<8sQQ32sQQQ32sQQQ")
HEAD_BYTES = _HEAD.size
_HAS_GENESIS, _TIMED = 1, 2
_COUNT = struct.Struct(">Q")
RUN = struct.Struct("<QQQ")
STAGED_HEAD = struct.Struct("<QQ")
# Where in a node's page a field's value begins, how many bytes it has, and what a SetField of it begins with.
Place = tuple[int, int, bytes]


@dataclass(slots=True)
class Head:
    """Where the chain stands: commit `id` is commit `seq` of the State and has `hash`.

    `next_node_id`: the id that the next node gets. `base_id`, `base_seq`: the last commit before the history that is
    kept, and the seq whose pages are the graph after it. `genesis`: the state hash of that graph, which the first
    commit has as its parent; None where the history begins with nothing. `foreign`: how many commits of the State
    after `base_seq` and up to `seq` are not the memory's. `open_nodes`: nodes of the newest run. `timed`: some commits
    were given a timestamp. The page keeps `id` and `base_id` plus one, because a file's first commit may be 0.
    """

    id: int
    seq: int
    hash: bytes
    next_node_id: int
    base_id: int
    base_seq: int
    genesis: bytes | None
    foreign: int = 0
    open_nodes: int = 0
    timed: bool = False

    def encode(self) -> bytes:
        """The bytes of the head page."""
        flags = (self.genesis is not None) * _HAS_GENESIS + self.timed * _TIMED
        genesis = self.genesis or bytes(32)
        counts = self.foreign, self.open_nodes, flags
        ids = self.next_node_id, self.base_id + 1
        return _HEAD.pack(_MAGIC, self.id + 1, self.seq, self.hash, *ids, self.base_seq, genesis, *counts)

    @staticmethod
    def decode(data: bytes, path: str | None) -> Head:
        """The head in these bytes. CorruptJournalError."""
        if len(data) < HEAD_BYTES or data[:8] != _MAGIC:
            raise CorruptJournalError(
                f"The head page of {path} was not written by this version. Open it with the one that made it.",
                path=path,
            )
        _, commit_id, seq, digest, next_id, base_id, base_seq, genesis, foreign, open_nodes, flags = _HEAD.unpack(
            data[:HEAD_BYTES]
        )
        commit_id, base_id = commit_id - 1, base_id - 1
        if not (base_id <= commit_id and base_seq <= seq and commit_id - base_id == seq - base_seq - foreign):
            raise CorruptJournalError(f"The head page of {path} contradicts itself. Recover the file.", path=path)
        head = Head(commit_id, seq, digest, next_id, base_id, base_seq, genesis if flags & _HAS_GENESIS else None)
        return replace(head, foreign=foreign, open_nodes=open_nodes, timed=bool(flags & _TIMED))


def node_page(node: Node, size: int = 0, touch: int = 0) -> bytes:
    """The bytes of a node's page: a counter, the node as it is hashed, zeros up to `size` bytes.

    The counter makes a page differ also after a commit that sets what was there before, so that a page's history is
    that of its node. A node that `size` has no room for gets some more than it needs, so that it may grow.
    """
    data = bytes((touch,)) + node.encode()
    if len(data) > size:
        size = (len(data) * 5 // 4 + 31) // 32 * 32
    return data.ljust(size, b"\0")


def field_places(node: Node) -> dict[str, Place]:
    """The place of each field's value."""
    places = {}
    at = 1 + 8 + 8 + len(node.type.encode()) + 9
    for key in sorted(node.fields):
        name, length = 8 + len(key.encode()), len(encode(node.fields[key]))
        places[key] = at + name, length, set_prefix(node.id, key)
        at += name + length
    return places


def decode_node(data: bytes) -> Node:
    """The node that a page holds. The bytes need not be trusted: MalformedFileStructureError."""
    return _take_node(data)[0]


def node_bytes(data: bytes) -> bytes:
    """What the state hash takes of a node's page. MalformedFileStructureError."""
    return data[1 : _take_node(data)[1]]


def _take_node(data: bytes) -> tuple[Node, int]:
    node_id, at = decode_id(data, 1)
    kind, at = decode_text(data, at)
    end = take(data, at, 9)
    deleted, (count,) = data[at] == 1, _COUNT.unpack_from(data, at + 1)
    take(data, end, 9 * count)
    fields = {}
    for _ in range(count):
        key, at = decode_text(data, end)
        fields[key], end = decode(data, at)
    return Node(node_id, kind, fields, deleted), end


# Intents: a mapping in mmsb's encoding of metadata, with the mutations under "m", the notes as JSON under "n", a label
# that mmsb does not take under "l", and under "h" a hash that is not the one that the content gives.

_PLAIN = b"\x01\x01m\x01"
SHORT_MOST = 127  # bytes whose number takes one byte
_SHORT = [_PLAIN + bytes((length,)) for length in range(SHORT_MOST + 1)]


def moment_of(timestamp: Any) -> datetime | None:
    """The moment of a timestamp in a commit's meta; None when it is none, or has no time zone."""
    try:
        if isinstance(timestamp, str):
            moment = datetime.fromisoformat(timestamp)
        elif isinstance(timestamp, int | float) and not isinstance(timestamp, bool):
            moment = datetime.fromtimestamp(timestamp, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return None if moment.utcoffset() is None else moment


def notes_of(meta: Mapping[str, Any] | None, timestamp: datetime | str | float | None) -> dict[str, Any]:
    """The meta of a commit as it will be read again. InvalidValueError."""
    notes = dict(meta or {})
    if timestamp is not None:
        notes["timestamp"] = timestamp.isoformat() if isinstance(timestamp, datetime) else timestamp
        if moment_of(notes["timestamp"]) is None:
            raise InvalidValueError(
                f"{timestamp!r} is no timestamp. Use an aware datetime (like datetime.now(UTC)), its ISO 8601 form, or "
                "seconds since 1970.",
                path="timestamp",
            )
    try:
        copied: dict[str, Any] = json.loads(json.dumps(notes, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"The meta of a commit must be what JSON can hold ({error}). Use strings, numbers, lists and maps.",
            path="meta",
        ) from None
    return copied


def short_intent(mutations: bytes) -> bytes:
    """The intent of at most SHORT_MOST bytes of mutations, and of nothing else."""
    return _SHORT[len(mutations)] + mutations


def intent_of(
    mutations: bytes, label: str | None, meta: dict[str, Any], stored_hash: bytes | None
) -> bytes | dict[str, Any]:
    """The intent of a commit, encoded where that is quickly done; `label` only where mmsb does not take it."""
    if not meta and label is None and stored_hash is None:
        length = len(mutations)
        if length <= SHORT_MOST:
            return short_intent(mutations)
        size = bytearray()
        while length > 127:
            size.append(length & 127 | 128)
            length >>= 7
        size.append(length)
        return _PLAIN + size + mutations
    entries: dict[str, Any] = {"m": mutations}
    if label is not None:
        entries["l"] = label
    if stored_hash is not None:
        entries["h"] = stored_hash
    if meta:
        entries["n"] = json.dumps(meta, separators=(",", ":"))
    return entries


def plain_mutations(blob: bytes) -> bytes | None:
    """The mutations of an encoded intent that holds nothing else, None for any other one."""
    if not blob.startswith(_PLAIN):
        return None
    length = shift = 0
    at = len(_PLAIN)
    while at < len(blob) and blob[at] > 127:
        length |= (blob[at] & 127) << shift
        at, shift = at + 1, shift + 7
    if at < len(blob) and len(blob) == at + 1 + (length | blob[at] << shift):
        return blob[at + 1 :]
    return None


def from_intent(entries: Mapping[str, Any] | None) -> tuple[bytes, str | None, dict[str, Any], bytes | None]:
    """Mutations, label (where mmsb does not have it), meta and stored hash of an intent. CorruptJournalError."""
    entries = entries or {}
    mutations, label, stored = entries.get("m"), entries.get("l"), entries.get("h")
    try:
        meta = json.loads(str(entries.get("n", "{}")))
    except (ValueError, RecursionError):
        meta = None
    if (
        not isinstance(mutations, bytes)
        or not isinstance(meta, dict)
        or not (label is None or isinstance(label, str))
        or not (stored is None or (isinstance(stored, bytes) and len(stored) == 32))
    ):
        raise CorruptJournalError("A commit of the journal does not say what it changed. Verify the file.", path=None)
    return mutations, label, meta, stored


def encode_staged(next_node_id: int, mutations: bytes) -> bytes:
    """The bytes of the page of staged mutations."""
    return STAGED_HEAD.pack(len(mutations), next_node_id) + mutations


def decode_staged(data: bytes) -> tuple[int, bytes]:
    """The next node id (0: none burnt) and the encoded mutations. MalformedFileStructureError."""
    length, next_node_id = STAGED_HEAD.unpack_from(data, take(data, 0, STAGED_HEAD.size) - STAGED_HEAD.size)
    end = take(data, STAGED_HEAD.size, length)
    return next_node_id, data[STAGED_HEAD.size : end]
