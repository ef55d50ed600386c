"""Checkpoints: every page's bytes, names and metadata at one seq, in one compressed file. docs/formats/checkpoint.md.

They bound opening and time travel. A damaged one costs time and no data, because the log can be replayed without it;
only the base of a compacted history is truth.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb._core.log import HEADER_BYTES, crc32c
from mmsb._core.page import PAGE_ID_MOST
from mmsb._core.varint import Reader, put_text, put_varint
from mmsb.compression import compress_block, decompress_block
from mmsb.errors import CorruptCheckpointError, FormatVersionError
from mmsb.linktable import NO_LINKS, StoredLinks, decode_links, encode_links
from mmsb.log import room_for

if TYPE_CHECKING:
    from mmsb._core.state import Core
    from mmsb.segments import Segment
    from mmsb.state import State

MAGIC = b"MMSBCKP1"
VERSION = 1
HEAD = struct.Struct("<8sII16sQQQQQQIIQ32s32sQQI")
HEAD_BYTES = 256
BLOCK = struct.Struct("<QQII")  # raw bytes, stored bytes, CRC32C of the stored bytes, pages
BLOCK_BYTES = 1 << 20
BASE = 1
ANCHORED = 2
CHAIN_MOST = 8
SEQ_MOST = BRANCH_MOST = (1 << 63) - 1

Stored = tuple[int, int, int, Any]  # size, epoch, kind, bytes


@dataclass
class Image:
    """The whole state at `seq`. `segment`, `offset`: where the log goes on; `anchor`: head of the anchors there.

    `anchored`: that anchor stands right before this place, so that the next one can be recomputed. `pages` maps ids to
    (size, epoch, kind, bytes); `labels` are those of a history that is gone.
    """

    uuid: bytes
    seq: int
    time_ns: int
    branch: int
    next_page_id: int
    segment: int
    offset: int
    last_crc: int
    anchor: bytes
    digest: bytes
    base: bool = False
    anchored: bool = True
    parent_seq: int = 0
    sources: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    metadata: dict[int, bytes] = field(default_factory=dict)
    labels: list[tuple[int, str]] = field(default_factory=list)
    links: StoredLinks = NO_LINKS
    pages: dict[int, Stored] = field(default_factory=dict)
    live: list[tuple[int, int]] = field(default_factory=list)  # ids as [first, end), all that exist
    epochs: dict[int, tuple[int, int]] = field(default_factory=dict)  # (epoch, size) by id, while it is being taken

    def page(self, page_id: int) -> Stored | None:
        """(size, epoch, kind, bytes) of a page, None when there is none."""
        return self.pages.get(page_id)

    def page_ids(self) -> list[int]:
        """Ids of the pages, ascending."""
        return sorted(self.pages)

    def load_into(self, core: Core) -> None:
        """Makes the pages in an empty core and sets its place in history."""
        load = core._load_page
        for page_id in sorted(self.pages):
            size, epoch, kind, content = self.pages[page_id]
            load(page_id, size, epoch, kind, content)
        for page_id in sorted(self.names.keys() | self.metadata.keys()):
            core._load_description(page_id, self.names.get(page_id), self.metadata.get(page_id))
        core._links.load(self.links)
        core._set_position(self.seq, self.time_ns, self.branch, self.next_page_id, self.last_crc)


# ---- the file


def _encode_description(image: Image) -> bytes:
    out = bytearray()
    put_varint(out, len(image.sources))
    for local_id, name in sorted(image.sources.items()):
        put_varint(out, local_id)
        put_text(out, name.encode("utf-8", "surrogateescape"))
    for notes in (
        {page_id: name.encode("utf-8", "surrogateescape") for page_id, name in image.names.items()},
        image.metadata,
    ):
        put_varint(out, len(notes))
        for page_id, text in sorted(notes.items()):
            put_varint(out, page_id)
            put_text(out, text)
    put_varint(out, len(image.labels))
    for seq, label in image.labels:
        put_varint(out, seq)
        put_text(out, label.encode("utf-8", "surrogateescape"))
    put_varint(out, len(image.live))
    for first, end in image.live:
        put_varint(out, first)
        put_varint(out, end - first)
    return bytes(out) + encode_links(image.links)


def _decode_description(data: bytes, image: Image) -> None:
    reader = Reader(data)

    def pairs() -> Iterator[tuple[int, bytes]]:
        for _ in range(reader.number()):
            key = reader.number()
            yield key, reader.text()

    image.sources = {key: value.decode("utf-8", "surrogateescape") for key, value in pairs()}
    image.names = {key: value.decode("utf-8", "surrogateescape") for key, value in pairs()}
    image.metadata = dict(pairs())
    image.labels = [(key, value.decode("utf-8", "surrogateescape")) for key, value in pairs()]
    for _ in range(reader.number()):
        first = reader.number()
        image.live.append((first, first + reader.number()))
    image.links = decode_links(reader.take(reader.left))


def _blocks(pages: dict[int, Stored]) -> Iterator[tuple[int, bytes]]:
    """(pages, raw bytes) of about BLOCK_BYTES each, page by page in ascending order."""
    raw = bytearray()
    count = 0
    for page_id in sorted(pages):
        size, epoch, kind, content = pages[page_id]
        for number in (page_id, size, epoch, kind):
            put_varint(raw, number)
        raw += content
        count += 1
        if len(raw) >= BLOCK_BYTES:
            yield count, bytes(raw)
            raw, count = bytearray(), 0
    if count:
        yield count, bytes(raw)


def encode_image(image: Image, pages: dict[int, Stored]) -> bytes:
    """The file's bytes; `pages` are those it holds (an incremental one: those that changed)."""
    import blake3

    description = compress_block(_encode_description(image))
    body = bytearray()
    blocks = 0
    for count, raw in _blocks(pages):
        stored = compress_block(raw)
        body += BLOCK.pack(len(raw), len(stored), crc32c(stored), count) + stored
        blocks += 1
    head = HEAD.pack(
        MAGIC,
        VERSION,
        HEAD_BYTES,
        image.uuid,
        image.seq,
        image.parent_seq,
        image.time_ns,
        image.branch,
        image.next_page_id,
        len(pages),
        image.segment,
        image.last_crc,
        image.offset,
        image.anchor,
        image.digest,
        len(description),
        blocks,
        (BASE if image.base else 0) | (ANCHORED if image.anchored else 0),
    ).ljust(HEAD_BYTES - 4, b"\0")
    data = head + crc32c(head).to_bytes(4, "little") + description + bytes(body)
    return data + blake3.blake3(data).digest()


def damaged(path: str, offset: int, reason: str) -> CorruptCheckpointError:
    """The error of a checkpoint that cannot be read."""
    return CorruptCheckpointError(
        f"The checkpoint {path} is damaged at offset {offset}: {reason}. "
        "Delete it if the log is complete, or restore it.",
        path=path,
        offset=offset,
        seq=None,
        reason=reason,
    )


def decode_head(data: bytes, path: str) -> tuple[Image, int, int, int]:
    """Reads the 256 bytes of a header: an Image without pages; bytes of the description, blocks, pages in the file.

    CorruptCheckpointError, FormatVersionError.
    """
    if len(data) < HEAD_BYTES or data[:7] != MAGIC[:7]:
        raise damaged(path, 0, "it is no checkpoint, or cut")
    head = data[: HEAD_BYTES - 4]
    if crc32c(head) != int.from_bytes(data[HEAD_BYTES - 4 : HEAD_BYTES], "little"):
        raise damaged(path, 0, "the header's checksum does not match")
    (magic, version, _, uuid, seq, parent, time_ns, branch, next_id, count, segment, last_crc, offset, anchor, digest,
     description_bytes, blocks, flags) = HEAD.unpack_from(head)  # fmt: skip
    if version != VERSION or magic != MAGIC:
        raise FormatVersionError(
            f"{path} was written by format {version}; this release reads up to {VERSION}. Install a newer mmsb.",
            path=path,
            version=version,
            supported=VERSION,
        )
    if parent >= max(seq, 1) or flags & ~(BASE | ANCHORED) or seq > SEQ_MOST or branch > BRANCH_MOST:
        raise damaged(path, 0, "the header contradicts itself")
    image = Image(uuid, seq, time_ns, branch, next_id, segment, offset, last_crc, anchor, digest)
    image.base, image.anchored, image.parent_seq = bool(flags & BASE), bool(flags & ANCHORED), parent
    return image, description_bytes, blocks, count


def decode_image(data: bytes, path: str, most_bytes: int = 1 << 40) -> Image:
    """Reads one file. CorruptCheckpointError, FormatVersionError. An incremental one still lacks its parent's pages.

    `most_bytes`: bound of the description's content.
    """
    import blake3

    image, description_bytes, blocks, count = decode_head(data, path)
    if blake3.blake3(memoryview(data)[:-32]).digest() != data[-32:]:
        raise damaged(path, HEAD_BYTES, "its hash does not match")
    at = HEAD_BYTES + description_bytes
    try:
        _decode_description(decompress_block(data[HEAD_BYTES:at], None, most_bytes), image)
        for _ in range(blocks):
            raw_bytes, stored_bytes, crc, pages = BLOCK.unpack_from(data, at)
            at += BLOCK.size
            stored = data[at : at + stored_bytes]
            if len(stored) != stored_bytes or crc32c(stored) != crc:
                raise ValueError("a block's checksum does not match")
            _read_block(decompress_block(stored, raw_bytes), pages, image.pages)
            at += stored_bytes
        if at != len(data) - 32 or len(image.pages) != count:
            raise ValueError("the number of pages is wrong")
        _check_pages(image)
    except (ValueError, struct.error) as error:
        raise damaged(path, at, str(error)) from error
    return image


def _check_pages(image: Image) -> None:
    """ValueError when ids, ranges or descriptions of a file do not fit together."""
    last = 0
    if image.next_page_id > PAGE_ID_MOST + 1:
        raise ValueError("the next page id is beyond all ids")
    for first, end in image.live:
        if not last <= first < end <= image.next_page_id or first == 0:
            raise ValueError("the ranges of live pages are wrong")
        last = end + 1
    if image.parent_seq == 0 and len(image.pages) != sum(end - first for first, end in image.live):
        raise ValueError("the number of live pages is wrong")
    if not all(is_live(image, page_id) for pages in (image.pages, image.names, image.metadata) for page_id in pages):
        raise ValueError("it describes a page that there is not")
    if any(page[0] == 0 or page[2] > 1 for page in image.pages.values()):
        raise ValueError("a page is wrong")
    if len(set(image.names.values())) != len(image.names):
        raise ValueError("two pages have one name")


def is_live(image: Image, page_id: int) -> bool:
    """Whether a page exists, by the ranges of live ids."""
    place = bisect_right(image.live, (page_id, PAGE_ID_MOST)) - 1
    return place >= 0 and page_id < image.live[place][1]


def _read_block(raw: bytes, count: int, pages: dict[int, Stored]) -> None:
    view, reader = memoryview(raw), Reader(raw)
    for _ in range(count):
        page_id, size, epoch, kind = reader.numbers(4)
        at = reader.at
        reader.skip(size)
        if page_id in pages:
            raise ValueError("a page is there twice")
        pages[page_id] = (size, epoch, kind, view[at : at + size])
    if reader.left:
        raise ValueError("a block goes on after its last page")


# ---- taking one


def _ranges(ids: list[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for page_id in ids:
        if ranges and ranges[-1][1] == page_id:
            ranges[-1] = (ranges[-1][0], page_id + 1)
        else:
            ranges.append((page_id, page_id + 1))
    return ranges


def take(state: State, known: dict[int, tuple[int, int]] | None = None) -> tuple[Image, dict[int, Stored]]:
    """The Image of a State now, and copies of its pages (of those whose (epoch, size) is not in `known`)."""
    with state._exclusive():
        log = state._log
        segment, offset = 1, HEADER_BYTES
        if not state.read_only:
            if state._store is not None:
                log.append_anchor(state)
            log.settle()
            segment, offset = log.active.number, log.active.tail
        ids = state._page_ids()
        pages: dict[int, Stored] = {}
        epochs = {}
        for page_id in ids:
            size, epoch, kind = state._page_info(page_id)
            epochs[page_id] = (epoch, size)
            if known is None or known.get(page_id) != (epoch, size):
                pages[page_id] = (size, epoch, kind, state._page_copy(page_id))
        image = Image(
            log.uuid,
            state.seq,
            state.time_ns,
            state.branch,
            state.next_page_id,
            segment,
            offset,
            state.last_crc,
            log.anchor_head,
            state.digest(),
            sources=state._segment_sources(),
            names=dict(state._name_of),
            metadata=dict(state._metadata),
            labels=list(log.base.labels) if isinstance(log.base, Image) else [],
            live=_ranges(ids),
            links=state._links.stored(),
        )
    image.epochs = epochs
    return image, pages


def image_at(state: State, seq: int, keeper: Segment | None) -> Image:
    """The Image of a past seq. `keeper`: the segment in which the log goes on after it (None: it goes on nowhere)."""
    from mmsb.digest import core_digest
    from mmsb.past import rebuild

    core = rebuild(state, seq)
    ids = core._page_ids()
    image = Image(
        state._log.uuid,
        core.seq,
        core.time_ns,
        core.branch,
        core.next_page_id,
        1,
        HEADER_BYTES,
        core.last_crc,
        bytes(32),
        core_digest(core),
        names=dict(core._name_of),
        metadata=dict(core._metadata),
        pages={page_id: (*core._page_info(page_id), core._page_copy(page_id)) for page_id in ids},
        live=_ranges(ids),
        links=core._links.stored(),
    )
    if keeper is not None:
        # Behind commit `seq`, and behind the anchors that follow it.
        image.segment, image.last_crc, image.anchor = keeper.number, keeper.head.prev_crc, keeper.head.anchor
        image.anchored = keeper.number == 1
        cursor = state._log.cursor(keeper)
        for frame in cursor:
            if frame.seq > seq:
                break
            image.offset, image.last_crc, image.sources = cursor.offset, cursor.last_crc, dict(cursor.sources)
            image.anchored = frame.kind == "anchor"
            if image.anchored:
                image.anchor = frame.anchor
    return image


def write_image(state: State, path: Any) -> None:
    """Writes the State as one full file that mmsb.open() can start from."""
    image, pages = take(state)
    path, data = os.path.abspath(os.fsdecode(path)), encode_image(image, pages)
    with room_for(path, len(data)):
        state._log.files.write_file(path, data)
