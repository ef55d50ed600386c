"""Hostile checkpoints: headers, descriptions and blocks that lie, with every checksum and hash right."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mmsb.checkpoint import HEAD_BYTES
from mmsb.links import Link
from tests.rel.forge import (
    MOST,
    PAGES,
    base_log,
    block,
    ckpt,
    description,
    packed,
    page_bytes,
    repeated,
    text,
    varints,
    write_store,
    zstd_frame,
)  # fmt: skip
from tests.rel.hostile_log import BAD_METADATA, OPEN, OVERLONG

HEADS: dict[str, dict] = {
    "version 2": {"version": 2},
    "version 0": {"version": 0},
    "magic of something else": {"magic": b"MMSBSNAP"},
    "header of 64 bytes": {"header_bytes": 64},
    "another store": {"uuid": b"x" * 16},
    "another seq": {"seq": 3},
    "seq 2^64-1": {"seq": MOST},
    "its own parent": {"parent": 2},
    "a parent that is not": {"parent": 1},
    "a parent to come": {"parent": 99},
    "time 2^64-1": {"time_ns": MOST},
    "time 0": {"time_ns": 0},
    "branch 2^64-1": {"branch": MOST},
    "next page id 0": {"next_page_id": 0},
    "next page id 2": {"next_page_id": 2},
    "next page id 2^30": {"next_page_id": 1 << 30},
    "next page id 2^40+1": {"next_page_id": (1 << 40) + 1},
    "next page id 2^64-1": {"next_page_id": MOST},
    "no page": {"pages": 0},
    "10^12 pages": {"pages": 10**12},
    "2^64-1 pages": {"pages": MOST},
    "10^12 blocks": {"block_count": 10**12},
    "2^64-1 blocks": {"block_count": MOST},
    "no blocks": {"block_count": 0},
    "description of 2^63 bytes": {"description_bytes": 1 << 63},
    "description of 2^64-1 bytes": {"description_bytes": MOST},
    "description wraps": {"description_bytes": MOST - HEAD_BYTES + 1},
    "no description": {"description_bytes": 0},
    "segment 0": {"segment": 0},
    "segment 2": {"segment": 2},
    "segment 2^32-1": {"segment": (1 << 32) - 1},
    "offset 0": {"offset": 0},
    "offset 127": {"offset": 127},
    "offset odd": {"offset": 129},
    "offset in a frame": {"offset": 136},
    "offset behind the segment": {"offset": 1 << 20},
    "offset 2^64-8": {"offset": MOST - 7},
    "checksum of another frame": {"last_crc": 1},
    "anchor that lies": {"anchor": b"\xaa" * 32, "flags": 2},
    "digest that lies": {"digest": b"\xaa" * 32},
    "flags to come": {"flags": 4},
    "all flags": {"flags": (1 << 32) - 1},
    "calls itself a base": {"flags": 1},
    "calls itself a base of a log to come": {"flags": 1, "segment": 7},
}

LINK = Link("copy", parents=(1,)).encode()


def links(*pairs: tuple[int, bytes], stale: bytes = b"") -> bytes:
    """The links of a description."""
    return varints(len(pairs)) + b"".join(varints(child) + text(link) for child, link in pairs) + stale


def chain(count: int, *, ring: bool = False) -> bytes:
    """A chain of pages that copy the one before them."""
    first = [(1, Link("copy", parents=(count,)).encode())] if ring else []
    return links(*first, *((n + 1, Link("copy", parents=(n,)).encode()) for n in range(1, count)))


def many(count: int, linked: bytes) -> bytes:
    """A checkpoint of `count` pages of 1 byte."""
    pages = b"".join(page_bytes(n, 1, 0, 0, b"x") for n in range(1, count + 1))
    described = description(live=varints(1, 1, count), links=linked)
    return ckpt(described=described, blocks=[block(pages, count)], pages=count, next_page_id=count + 1)


EVERY = ("sources", "names", "metadata", "labels", "live", "links")
PARTS: dict[str, dict[str, bytes]] = {
    **{f"{part}: count 2^64-1": {part: varints(MOST)} for part in EVERY},
    **{f"{part}: count 10^12": {part: varints(10**12)} for part in EVERY},
    **{f"{part}: overlong": {part: OVERLONG} for part in ("sources", "live", "links")},
    **{f"{part}: text of 2^63 bytes": {part: varints(1, 1, 1 << 63)} for part in EVERY[:4]},
    **{f"{part}: not UTF-8": {part: varints(1, 1) + text(b"\xff\xc0\x80")} for part in ("sources", "names", "labels")},
    "sources: 0": {"sources": varints(1, 0) + text(b"zero")},
    "sources: 2^64-1": {"sources": varints(1, MOST) + text(b"most")},
    "names: of a page that is not": {"names": varints(1, 77) + text(b"x")},
    "names: of page 2^64-1": {"names": varints(1, MOST) + text(b"x")},
    "names: one for two pages": {"names": varints(2, 1) + text(b"x") + varints(2) + text(b"x")},
    "names: two for one page": {"names": varints(2, 1) + text(b"x") + varints(1) + text(b"y")},
    "names: empty": {"names": varints(1, 1) + text(b"")},
    "metadata: of a page that is not": {"metadata": varints(1, 77) + text(b"\0")},
    **{f"metadata: {what}": {"metadata": varints(1, 1) + text(blob)} for what, blob in BAD_METADATA.items()},
    "labels: seq 2^64-1": {"labels": varints(1, MOST) + text(b"x")},
    "labels: seq to come": {"labels": varints(1, 99) + text(b"x")},
    "labels: descending": {"labels": varints(2, 2) + text(b"x") + varints(1) + text(b"y")},
    "live: none": {"live": varints(0)},
    "live: overlapping": {"live": varints(2, 1, 2, 2, 2)},
    "live: descending": {"live": varints(2, 2, 2, 1, 1)},
    "live: adjacent": {"live": varints(2, 1, 1, 2, 2)},
    "live: page 0": {"live": varints(1, 0, 3)},
    "live: wraps": {"live": varints(1, MOST, 2)},
    "live: empty range": {"live": varints(2, 1, 3, 5, 0)},
    "live: 10^12 pages": {"live": varints(1, 1, 10**12)},
    "live: other pages": {"live": varints(1, 11, 3)},
    "live: 10^6 ranges": {"live": varints(10**6) + b"".join(varints(2 * n + 1, 1) for n in range(10**6))},
    "links: empty one": {"links": links((2, b""))},
    "links: itself": {"links": links((1, LINK))},
    "links: a page that is not": {"links": links((77, LINK))},
    "links: page 2^64-1": {"links": links((MOST, LINK))},
    "links: a parent that is not": {"links": links((2, Link("copy", parents=(77,)).encode()))},
    "links: a ring": {"links": links((1, Link("copy", parents=(2,)).encode()), (2, LINK))},
    "links: twice": {"links": links((2, LINK), (2, LINK))},
    "links: lanes that do not fit": {
        "links": links((3, Link("semiring", parents=(1,), semiring="plus-times", dtype="float64").encode()))},
    "links: stale pages that are not": {
        "links": links((2, LINK), stale=b"\0" + varints(1, 77) + text(b"x") + varints(1, 78))},
    "links: stale without end": {"links": links((2, LINK), stale=b"\0" + varints(MOST))},
    "links: stale reason not UTF-8": {
        "links": links((2, LINK), stale=b"\0" + varints(1, 2) + text(b"\xff") + varints(0))},
    "links: stale where no links are": {"links": b"\0\0\0\0"},
    "goes on": {"links": b"\0more"},
}  # fmt: skip

WHOLE: dict[str, Callable[[], bytes]] = {
    "a chain of 10^5": lambda: many(10**5, chain(10**5)),
    "a ring of 10^5": lambda: many(10**5, chain(10**5, ring=True)),
    "10^5 pages": lambda: many(10**5, b"\0"),
    "10^5 empty blocks": lambda: ckpt(blocks=[*honest(), *[block(b"", 0)] * 10**5]),
    "description of 4 GiB": lambda: ckpt(stored=zstd_frame(1 << 32, repeated(1 << 15))),
    "description that states nothing": lambda: ckpt(stored=zstd_frame(None, repeated(100))),
    "description cut": lambda: ckpt(stored=packed(description())[:-2]),
    "description not compressed": lambda: ckpt(stored=description()),
    "description empty": lambda: ckpt(described=b""),
    "description unterminated": lambda: ckpt(described=OPEN),
    "hash wrong": lambda: ckpt(hashed=bytes(32)),
    "bytes behind the blocks": lambda: ckpt(blocks=[*honest(), bytes(100)], block_count=1),
    "cut in its header": lambda: ckpt()[:100],
    "cut in a block": lambda: ckpt()[:-40],
    "empty": lambda: b"",
    "one byte": lambda: b"M",
    "only a header": lambda: ckpt()[:HEAD_BYTES],
    "noise": lambda: b"MMSBCKP1" + bytes(range(256)) * 64,
}  # fmt: skip


def honest() -> list[bytes]:
    """The one block of an honest checkpoint."""
    return [block(b"".join(page_bytes(number, *facts) for number, facts in PAGES.items()), 3)]


def blocks() -> Iterator[tuple[str, bytes]]:
    """One block each, in the place of the honest one."""
    raw = b"".join(page_bytes(number, *facts) for number, facts in PAGES.items())
    plain = [struct.pack("<I", len(raw) << 3 | 1)[:3] + raw]
    head = page_bytes(1, *PAGES[1]) + page_bytes(2, *PAGES[2])
    for name, odd in {
        "raw bytes 2^63": {"raw_bytes": 1 << 63},
        "raw bytes 2^64-1": {"raw_bytes": MOST},
        "raw bytes 0": {"raw_bytes": 0},
        "stored bytes 2^63": {"stored_bytes": 1 << 63},
        "stored bytes 2^64-1": {"stored_bytes": MOST},
        "stored bytes 0": {"stored_bytes": 0},
        "checksum wrong": {"crc": 1},
        "zstd states nothing": {"stored": zstd_frame(None, plain)},
        "zstd states 2^40": {"stored": zstd_frame(1 << 40, repeated(100)), "raw_bytes": 1 << 40},
        "zstd keeps 4 GiB": {"stored": zstd_frame(1 << 32, repeated(1 << 15)), "raw_bytes": 1 << 32},
        "zstd window 2^31": {"stored": zstd_frame(len(raw), plain, window=0xA8)},
        "zstd dictionary": {"stored": zstd_frame(len(raw), plain, dictionary=5)},
        "zstd skippable": {"stored": struct.pack("<II", 0x184D2A50, 4) + b"skip" + packed(raw)},
        "zstd two frames": {"stored": packed(raw) + packed(raw)},
        "zstd cut": {"stored": packed(raw)[:-4]},
        "zstd none": {"stored": raw},
    }.items():  # fmt: skip
        yield name, block(raw, 3, **odd)
    for name, last in {
        "page twice": page_bytes(1, *PAGES[1]),
        "page 0": page_bytes(0, 7, 0, 0, bytes(7)),
        "page 2^40": page_bytes(1 << 40, 7, 0, 0, bytes(7)),
        "page 2^64-1": page_bytes(MOST, 7, 0, 0, bytes(7)),
        "size 0": page_bytes(3, 0, 0, 0, b""),
        "size 2^63": varints(3, 1 << 63, 0, 0) + bytes(7),
        "size 2^64-1": varints(3, MOST, 0, 0) + bytes(7),
        "size 2^32-1": varints(3, (1 << 32) - 1, 0, 0) + bytes(7),
        "epoch 2^64-1": page_bytes(3, 7, MOST, 0, bytes(7)),
        "kind 2": page_bytes(3, 7, 0, 2, bytes(7)),
        "kind 256": page_bytes(3, 7, 0, 256, bytes(7)),
        "kind 2^64-1": page_bytes(3, 7, 0, MOST, bytes(7)),
        "merge page without metadata": page_bytes(3, 7, 0, 1, bytes(7)),
        "size overlong": varints(3) + OVERLONG + varints(0, 0) + bytes(1),
        "unterminated": OPEN,
        "bytes behind the last page": page_bytes(3, 7, 0, 0, bytes(7)) + b"more",
    }.items():
        yield name, block(head + last, 3)
    yield "2^32-1 pages", block(raw, (1 << 32) - 1)
    yield "no pages", block(raw, 0)


def cases() -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """(name, builder) of all of them: beside a whole log, or instead of it."""
    files: dict[str, Callable[[], bytes]] = {
        **{f"header: {name}": lambda head=head: ckpt(**{"seq": 2, **head}) for name, head in HEADS.items()},
        **{name: lambda parts=parts: ckpt(described=description(**parts)) for name, parts in PARTS.items()},
        **{f"block: {name}": lambda made=made: ckpt(blocks=[made]) for name, made in blocks()},
        **WHOLE,
    }
    for name, make in files.items():
        yield f"checkpoint: {name}", lambda path, make=make: write_store(
            path, [base_log()], durable=2, checkpoints={2: make()})  # fmt: skip
        yield f"one file: {name}", lambda path, make=make: one_file(path, make())
    for name in ("header: 10^12 pages", "block: zstd keeps 4 GiB", "a ring of 10^5", "live: other pages", "hash wrong"):
        yield f"base: {name}", lambda path, make=files[name]: write_store(
            path, [], durable=2, checkpoints={2: make()}, parent_seq=2)  # fmt: skip
    yield "checkpoints: a chain of 3000", lambda path: write_store(
        path, [base_log()], durable=2, checkpoints={n: ckpt(n, parent=n - 1) for n in range(1, 3001)})  # fmt: skip
    yield "checkpoints: 3000 for no commit", lambda path: write_store(
        path, [base_log()], durable=2, checkpoints={n: ckpt(n) for n in range(3, 3003)})  # fmt: skip
    yield "checkpoints: seq 10^20-1 in its name", lambda path: write_store(
        path, [base_log()], durable=2, checkpoints={10**20 - 1: ckpt()})  # fmt: skip


def one_file(path: Path, data: bytes) -> Path:
    """A checkpoint by itself."""
    path.mkdir()
    (path / "one.ckpt").write_bytes(data)
    return path / "one.ckpt"
