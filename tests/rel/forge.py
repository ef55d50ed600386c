"""Makes files of stores byte by byte, as docs/formats says, so that any of their parts can be a lie.

Checksums and hashes are right whatever the parts say, unless the caller gives others: what lies behind them is reached.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import blake3
import zstandard

from mmsb import checkpoint, horizon
from mmsb._core.log import SegmentHead, crc32c
from mmsb._core.varint import put_varint
from mmsb.links import Link
from mmsb.store import Identity

UUID, SALT = b"uuid of a store.", b"salt of a store."
BEGIN_NS = 1_700_000_000 * 10**9
MOST = (1 << 64) - 1
COMMIT, ANCHOR = 1, 2
DENSE, RUNS, BITMAP = 1, 2, 3
CREATE, DELETE, RESIZE, RENAME, METADATA, LABEL, INTENT, SOURCE, LINK, UNLINK, WAVE = range(16, 27)


def varints(*numbers: int) -> bytes:
    """Numbers in LEB128, behind one another."""
    out = bytearray()
    for number in numbers:
        put_varint(out, number)
    return bytes(out)


def text(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return varints(len(data)) + data


def change(kind: int, page_id: int, blob: bytes | None = None) -> bytes:
    """A change of a page: with a blob, or without."""
    return bytes([kind]) + varints(page_id) + (b"" if blob is None else text(blob))


def create(first: int, count: int = 1, size: int = 8, kind: int = 0, flags: int = 0, rest: bytes = b"") -> bytes:
    """A CREATE change; `rest`: what the flags announce."""
    return bytes([CREATE]) + varints(first, count, size) + bytes([kind, flags]) + rest


class Log:
    """One segment: frames that follow one another, each in order unless told otherwise."""

    def __init__(self, **head: Any) -> None:
        self.head: dict[str, Any] = {"uuid": UUID, "salt": SALT, "number": 1, "base_time_ns": BEGIN_NS, **head}
        self.capacity = self.head.pop("capacity", None)
        self.seq = self.head.setdefault("base_seq", 0)
        self.crc = self.head.setdefault("prev_crc", 0)
        self.frames = bytearray()

    @property
    def end(self) -> int:
        """Offset after the last frame."""
        return 128 + len(self.frames)

    def frame(
        self,
        changes: bytes,
        *,
        kind: int = COMMIT,
        seq: int | None = None,
        lag: int = 0,
        time: int = 0,
        branch: int = 0,
        source: int = 0,
        prev: int | None = None,
        head: bytes | None = None,
        units: int | None = None,
        crc: int | None = None,
    ) -> Log:
        """One more frame. `head` stands for its varints, `units` for its length, `crc` for its checksum."""
        self.seq += kind == COMMIT
        relative = (self.seq - self.head["base_seq"]) & MOST if seq is None else seq
        body = struct.pack("<IB", self.crc if prev is None else prev, kind)
        body += (varints(relative, lag, time, branch, source) if head is None else head) + changes
        body += bytes(-len(body) % 8)
        return self.raw(body, units, crc)

    def raw(self, body: bytes, units: int | None = None, crc: int | None = None) -> Log:
        """A frame of any body."""
        length = struct.pack("<I", len(body) // 8 if units is None else units)
        self.crc = crc32c(body, crc32c(length, crc32c(self.head["salt"]))) if crc is None else crc
        self.frames += length + struct.pack("<I", self.crc) + body
        return self

    def anchor(self, hashed: bytes = bytes(32), **odd: Any) -> Log:
        """An anchor."""
        return self.frame(hashed, kind=ANCHOR, **odd)

    def encode(self) -> bytes:
        """The file, with room for two pages behind the frames."""
        capacity = max(8192, -(-(self.end + 8) // 4096) * 4096) if self.capacity is None else self.capacity
        data = SegmentHead(capacity=capacity, **self.head).encode() + bytes(self.frames)
        return data.ljust(min(capacity, len(data) + 8192), b"\0")


def base_log(**head: Any) -> Log:
    """Three pages of 8, 8 and 7 bytes, the second a copy of the first, and one write."""
    log = Log(**head)
    log.frame(create(1, 2, 8) + create(3, 1, 7) + change(LINK, 2, Link("copy", parents=(1,)).encode()))
    return log.frame(delta(1, DENSE, varints(0, 6) + b"before"))


def delta(page_id: int, code: int, payload: bytes) -> bytes:
    """A delta change."""
    return bytes([code]) + varints(page_id) + payload


def slot(counter: int = 2, uuid: bytes = UUID, **mark: Any) -> bytes:
    """A slot of the horizon file."""
    facts = {"durable_seq": 0, "segment": 1, "offset": 128, "last_crc": 0, "time_ns": BEGIN_NS, "anchor": bytes(32)}
    return horizon.Mark(**{**facts, "clean": False, **mark}).encode(uuid, counter)


def both_slots(one: bytes, other: bytes | None = None) -> bytes:
    """The horizon file."""
    return one.ljust(horizon.SLOTS_AT[1], b"\0") + (one if other is None else other)


def write_store(
    path: Path,
    segments: Sequence[Log | bytes] = (),
    *,
    durable: int = 0,
    marks: bytes | None = None,
    checkpoints: dict[int, bytes] | None = None,
    **identity: Any,
) -> Path:
    """A whole store. `durable`: the seq that the horizon calls durable."""
    (path / "log").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    for number, segment in enumerate(segments, 1):
        name = f"{segment.head['number'] if isinstance(segment, Log) else number:08d}.seg"
        (path / "log" / name).write_bytes(segment.encode() if isinstance(segment, Log) else segment)
    for seq, data in (checkpoints or {}).items():
        (path / "checkpoints" / f"{seq:020d}.ckpt").write_bytes(data)
    (path / "horizon").write_bytes(both_slots(slot(durable_seq=durable)) if marks is None else marks)
    facts = {"uuid": UUID, "salt": SALT, "created_ns": BEGIN_NS, **identity}
    (path / "store").write_bytes(Identity(**facts).encode())
    return path


# ---- zstandard, whose frames lie more easily by hand


def packed(data: bytes) -> bytes:
    """An honest frame."""
    return zstandard.ZstdCompressor(level=1).compress(data)


def zstd_frame(
    stated: int | None, blocks: Iterable[bytes], *, window: int = 0x50, dictionary: int | None = None
) -> bytes:
    """A frame that states `stated` bytes (None: nothing), with a window descriptor and a dictionary id."""
    flags = (0xC0 if stated is not None else 0) | (3 if dictionary is not None else 0)
    head = struct.pack("<IBB", 0xFD2FB528, flags, window)
    head += struct.pack("<I", dictionary) if dictionary is not None else b""
    head += struct.pack("<Q", stated) if stated is not None else b""
    return head + b"".join(blocks)


def repeated(count: int, byte: int = 0) -> list[bytes]:
    """`count` blocks of 128 KiB of one byte, four bytes each."""
    size = 1 << 17
    return [
        struct.pack("<I", size << 3 | 1 << 1 | (number == count - 1))[:3] + bytes([byte]) for number in range(count)
    ]


# ---- checkpoints

PAGES = {1: (8, 1, 0, b"before\0\0"), 2: (8, 0, 0, bytes(8)), 3: (7, 0, 0, bytes(7))}


def page_bytes(page_id: int, size: int, epoch: int, kind: int, content: bytes) -> bytes:
    """One page of a block."""
    return varints(page_id, size, epoch, kind) + content


def block(raw: bytes, pages: int, **odd: Any) -> bytes:
    """A block; `stored`, `raw_bytes`, `stored_bytes`, `crc` replace what would be right."""
    stored = odd.get("stored", packed(raw))
    facts = (odd.get("raw_bytes", len(raw)), odd.get("stored_bytes", len(stored)), odd.get("crc", crc32c(stored)))
    return checkpoint.BLOCK.pack(*facts, pages) + stored


def description(
    sources: bytes = b"\0",
    names: bytes = b"\0",
    metadata: bytes = b"\0",
    labels: bytes = b"\0",
    live: bytes = varints(1, 1, 3),
    links: bytes = b"\0",
) -> bytes:
    """The description's content, part by part; each begins with its count."""
    return sources + names + metadata + labels + live + links


def ckpt(
    seq: int = 2,
    *,
    described: bytes | None = None,
    stored: bytes | None = None,
    blocks: Sequence[bytes] | None = None,
    pages: int = 3,
    hashed: bytes | None = None,
    **head: Any,
) -> bytes:
    """A checkpoint of the base log's state; any field of its header may be given."""
    if blocks is None:
        blocks = [block(b"".join(page_bytes(page_id, *facts) for page_id, facts in PAGES.items()), len(PAGES))]
    stored = packed(description() if described is None else described) if stored is None else stored
    log = base_log()
    facts = {
        "magic": checkpoint.MAGIC, "version": 1, "header_bytes": 256, "uuid": UUID, "seq": seq, "parent": 0,
        "time_ns": BEGIN_NS, "branch": 0, "next_page_id": 4, "pages": pages, "segment": 1, "last_crc": log.crc,
        "offset": log.end, "anchor": bytes(32), "digest": bytes(32), "description_bytes": len(stored),
        "block_count": len(blocks), "flags": 0, **head,
    }  # fmt: skip
    packed_head = checkpoint.HEAD.pack(*facts.values()).ljust(checkpoint.HEAD_BYTES - 4, b"\0")
    data = packed_head + struct.pack("<I", crc32c(packed_head)) + stored + b"".join(blocks)
    return data + (blake3.blake3(data).digest() if hashed is None else hashed)
