"""Hostile logs: changes, frames, segment headers and compressed segments, as an attacker or a broken disk may give."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mmsb.links import Link
from tests.crash.test_hostile_links import GOOD, NONSENSE
from tests.rel.forge import (
    ANCHOR,
    BITMAP,
    DELETE,
    DENSE,
    INTENT,
    LABEL,
    LINK,
    METADATA,
    MOST,
    RENAME,
    RESIZE,
    RUNS,
    SOURCE,
    UNLINK,
    WAVE,
    Log,
    base_log,
    change,
    create,
    delta,
    packed,
    repeated,
    text,
    varints,
    write_store,
    zstd_frame,
)  # fmt: skip

OVERLONG, TOO_LONG, OPEN = b"\x81\x00", b"\xff" * 10 + b"\x01", b"\xff"
ENTRY = text(b"k") + b"\x03" + text(b"\x05")
BAD_METADATA = {
    "count 2^64-1": varints(MOST),
    "count 2^31": varints(1 << 31) + ENTRY,
    "key twice": b"\2" + ENTRY + ENTRY,
    "keys descending": b"\2" + ENTRY + text(b"a") + ENTRY[2:],
    "empty key": b"\1" + text(b"") + ENTRY[2:],
    "key that is no text": b"\1" + text(b"\xff") + ENTRY[2:],
    "text that is none": b"\1" + text(b"k") + b"\2" + text(b"\xed\xa0\x80"),
    "type 0": b"\1" + text(b"k") + b"\0" + text(b"x"),
    "type 255": b"\1" + text(b"k") + b"\xff" + text(b"x"),
    "integer too long": b"\1" + text(b"k") + b"\3" + text(b"\x05\x00"),
    "integer without bytes": b"\1" + text(b"k") + b"\3" + text(b""),
    "integer of a megabyte": b"\1" + text(b"k") + b"\3" + text(b"\x11" * (1 << 20)),
    "float of 7 bytes": b"\1" + text(b"k") + b"\4" + text(bytes(7)),
    "truth of 2": b"\1" + text(b"k") + b"\5" + text(b"\2"),
    "value of 2^63 bytes": b"\1" + text(b"k") + b"\1" + varints(1 << 63),
    "goes on": b"\1" + ENTRY + b"more",
    "overlong count": OVERLONG + ENTRY,
    "unterminated count": OPEN,
    "bomb of 10^5 entries": varints(10**5) + b"".join(text(b"%06d" % n) + b"\3" + text(b"\5") for n in range(10**5)),
}


def shaped(rest: bytes, flags: int) -> bytes:
    """A CREATE of page 4 with what its flags announce."""
    return create(4, flags=flags, rest=rest)


MERGE = b"\1" + text(b"mmsb.merge")
CHANGES: dict[str, bytes] = {
    # CREATE
    "create page 0": create(0),
    "create page 2^64-1": create(MOST),
    "create page 2^40": create(1 << 40),
    "create page 2^40-1": create((1 << 40) - 1),
    "create leaves a gap": create(1000),
    "create an id again": create(1),
    "create no page": create(4, 0),
    "create 2^31 pages": create(4, 1 << 31, 1),
    "create 2^32 pages": create(4, 1 << 32, 1),
    "create 2^40 pages": create(4, 1 << 40, 1),
    "create 2^64-1 pages": create(4, MOST, 1),
    "create ids that wrap": create(MOST - 3, 5),
    "create count times size wraps to 0": create(4, 1 << 32, 1 << 32),
    "create count times size wraps to 1": create(4, (1 << 32) + 1, (1 << 32) - 1),
    "create size 0": create(4, size=0),
    **{f"create size {size}": create(4, size=size) for size in
       (1 << 31, (1 << 32) - 1, 1 << 32, 1 << 36, (1 << 36) + 1, 1 << 40, 1 << 63, MOST)},
    "create a kind to come": create(4, kind=2),
    "create kind 255": create(4, kind=255),
    "create flags to come": create(4, flags=8),
    "create all flags": create(4, flags=255),
    "create two pages with one name": create(4, 2, flags=1, rest=text(b"x")),
    "create name of 2^31 bytes": shaped(varints(1 << 31), 1),
    "create name of 2^32-1 bytes": shaped(varints((1 << 32) - 1), 1),
    "create name of 2^64-1 bytes": shaped(varints(MOST), 1),
    "create name not UTF-8": shaped(text(b"\xff\xfe\xed\xa0\x80"), 1),
    "create name with zeros and lines": shaped(text(b"a\0b\nc\x1b[2J"), 1),
    "create name empty": shaped(text(b""), 1),
    "create name twice": shaped(text(b"x"), 1) + create(5, flags=1, rest=text(b"x")),
    "create name of a megabyte": shaped(text(b"n" * (1 << 20)), 1),
    "create content beyond the page": shaped(b"\1" + varints(0, 9) + bytes(9), 4),
    "create content offset wraps": shaped(b"\1" + varints(MOST - 3, 8) + bytes(8), 4),
    "create content code 0": shaped(b"\0", 4),
    "create content code 5": shaped(b"\5" + varints(0, 1) + b"x", 4),
    "create content missing": shaped(b"", 4),
    "merge page without metadata": create(4, kind=1),
    "merge page of no semiring": create(4, kind=1, flags=2, rest=text(MERGE + b"\2" + text(b"x y"))),
    "merge page of half lanes": create(4, size=7, kind=1, flags=2,
        rest=text(MERGE + b"\2" + text(b"max-plus float64"))),
    "merge page whose entry is a number": create(4, kind=1, flags=2, rest=text(MERGE + b"\3" + text(b"\5"))),
    # deltas
    "delta of page 0": delta(0, DENSE, varints(0, 1) + b"x"),
    "delta of no page": delta(9, DENSE, varints(0, 1) + b"x"),
    "delta of page 2^64-1": delta(MOST, DENSE, varints(0, 1) + b"x"),
    "dense offset 2^64-1": delta(1, DENSE, varints(MOST, 1) + b"x"),
    "dense offset+length wraps": delta(1, DENSE, varints(MOST - 1, 4) + b"wrap"),
    "dense offset+length wraps to the end": delta(1, DENSE, varints(MOST - 7, 16) + bytes(16)),
    "dense one byte too far": delta(1, DENSE, varints(7, 2) + b"xy"),
    "dense length 0": delta(1, DENSE, varints(0, 0)),
    "dense length 2^31": delta(1, DENSE, varints(0, 1 << 31) + b"x"),
    "dense length 2^32-1": delta(1, DENSE, varints(0, (1 << 32) - 1) + b"x"),
    "dense length 2^63": delta(1, DENSE, varints(0, 1 << 63) + b"x"),
    "dense length 2^64-1": delta(1, DENSE, varints(0, MOST) + b"x"),
    "dense overlong": delta(1, DENSE, OVERLONG + varints(1) + b"x"),
    "dense too long a varint": delta(1, DENSE, TOO_LONG + varints(1) + b"x"),
    "runs without any": delta(1, RUNS, varints(0)),
    "runs of 2^63 bytes": delta(1, RUNS, varints(1 << 63)),
    "runs gap 2^63": delta(1, RUNS, text(varints(MOST - 1)) + b"x"),
    "runs gap wraps back": delta(1, RUNS, text(varints(3 << 1, MOST - 1)) + b"xy"),
    "runs adjacent": delta(1, RUNS, text(varints(0, 0)) + b"xy"),
    "runs length 2^62": delta(1, RUNS, text(varints(1, 1 << 62)) + b"xy"),
    "runs length 2^64-1": delta(1, RUNS, text(varints(1, MOST)) + b"xy"),
    "runs lengths wrap": delta(1, RUNS, text(varints(*(1, (1 << 62) - 1) * 3, 3, 1)) + b"xy"),
    "runs lack a value": delta(1, RUNS, text(varints(0, 4)) + b"x"),
    "runs cut in a token": delta(1, RUNS, text(b"\x80") + b"x"),
    "bitmap without bits": delta(1, BITMAP, varints(0, 0)),
    "bitmap span 2^63": delta(1, BITMAP, varints(0, 1 << 63) + b"\xff"),
    "bitmap span 2^64-1": delta(1, BITMAP, varints(0, MOST) + b"\xff"),
    "bitmap offset+span wraps": delta(1, BITMAP, varints(MOST - 3, 8) + b"\xff" + bytes(8)),
    "bitmap spare bits": delta(1, BITMAP, varints(0, 3) + b"\xff" + bytes(8)),
    "bitmap first bit clear": delta(1, BITMAP, varints(0, 8) + b"\x80x"),
    "bitmap lacks values": delta(1, BITMAP, varints(0, 8) + b"\x81x"),
    "code 4, reserved": delta(1, 4, varints(0, 1) + b"x"),
    "code 5, reserved": delta(1, 5, varints(0, 1) + b"x"),
    # pages, texts, sources
    "delete page 0": change(DELETE, 0),
    "delete no page": change(DELETE, 9),
    "delete twice": change(DELETE, 3) + change(DELETE, 3),
    "delete and write": change(DELETE, 3) + delta(3, DENSE, varints(0, 1) + b"x"),
    "delete and create again": change(DELETE, 3) + create(3),
    "resize to 0": bytes([RESIZE]) + varints(3, 0),
    "resize to 2^32": bytes([RESIZE]) + varints(3, 1 << 32),
    "resize to 64 GiB": bytes([RESIZE]) + varints(3, 1 << 36),
    "resize to 2^63": bytes([RESIZE]) + varints(3, 1 << 63),
    "resize no page": bytes([RESIZE]) + varints(9, 8),
    "rename no page": change(RENAME, 9, b"x"),
    "rename to a name that is taken": change(RENAME, 1, b"x") + change(RENAME, 3, b"x"),
    "rename not UTF-8": change(RENAME, 1, b"\xc0\x80"),
    "metadata of no page": change(METADATA, 9, b"\1" + ENTRY),
    "label not UTF-8": bytes([LABEL]) + text(b"\xff\xfe"),
    "label of a megabyte": bytes([LABEL]) + text(b"l" * (1 << 20)),
    "label of 2^64-1 bytes": bytes([LABEL]) + varints(MOST),
    "ten thousand labels": (bytes([LABEL]) + text(b"again")) * 10**4,
    "source 0": change(SOURCE, 0, b"zero"),
    "source 2^64-1": change(SOURCE, MOST, b"most"),
    "source not UTF-8": change(SOURCE, 1, b"\xff"),
    "source twice": change(SOURCE, 1, b"a") + change(SOURCE, 1, b"b"),
    "a wave of nothing": change(WAVE, 0),
    "end with something behind": b"\0\0\1",
    **{f"change {kind}": bytes([kind]) + varints(1, 1, 1) for kind in (6, 15, 27, 127, 128, 255)},
    "overlong page id": b"\1" + OVERLONG + varints(0, 1) + b"x",
    "page id of 11 bytes": b"\1" + TOO_LONG + varints(0, 1) + b"x",
    "unterminated varint": bytes([DELETE]) + OPEN * 13,
    **{f"metadata: {what}": change(METADATA, 1, blob) for what, blob in BAD_METADATA.items()},
    **{f"intent: {what}": bytes([INTENT]) + text(blob) for what, blob in BAD_METADATA.items()},
    **{f"links: {what}": blob for what, blob in NONSENSE.items()},
    "links: data and control against each other": change(LINK, 3, b"\1\5\0" + varints(1, 1) + bytes(8))
        + change(LINK, 1, b"\1\5\0" + varints(1, 3) + bytes(8)),
    "links: a good one, again and again":
        change(LINK, 3, Link("call", parents=(1,)).encode()) * 1000 + change(LINK, 3, GOOD),
}  # fmt: skip

MANY: dict[str, Callable[[], bytes]] = {
    "a million tiny deltas": lambda: b"".join(delta(1, DENSE, varints(0, 1) + bytes([n % 255])) for n in range(10**6)),
    "a hundred thousand pages": lambda: b"".join(create(n, 1, 1) for n in range(4, 100_004)),
    "a hundred thousand pages in one": lambda: create(4, 10**5, 1),
    "ten thousand names": lambda: b"".join(create(n, flags=1, rest=text(b"%d" % n)) for n in range(4, 10_004)),
    "a page written and resized ten thousand times": lambda: b"".join(
        delta(1, DENSE, varints(0, 1) + bytes([n % 255])) + bytes([RESIZE]) + varints(1, 8 + n % 3)
        for n in range(10**4)),
    "links: a chain of 10^5": lambda: create(4, 10**5, 8) + chain(10**5),
    "links: a ring of 10^5": lambda: create(4, 10**5, 8) + chain(10**5)
        + change(LINK, 4, Link("copy", parents=(10**5 + 3,)).encode()),
    "links: a fan of 10^4": lambda: create(4, 10**4, 8)
        + b"".join(change(LINK, n, Link("copy", parents=(1,)).encode()) for n in range(4, 10**4 + 4)),
    "links: a page of 10^5 parents": lambda: create(4, 10**5, 8)
        + change(LINK, 3, Link("call", parents=tuple(range(4, 10**5 + 4))).encode()),
    "links: a page of 10^5 parents, all the same": lambda: change(LINK, 3, Link("call", parents=(1,) * 10**5).encode()),
    "links: unlink of 10^5 parents": lambda: change(UNLINK, 2, b"\0" + varints(10**5) + varints(1) * 10**5),
}  # fmt: skip


def chain(count: int) -> bytes:
    """Links of pages 4, 5, ..., each a copy of the one before."""
    return b"".join(change(LINK, n + 1, Link("copy", parents=(n,)).encode()) for n in range(4, count + 3))


FRAMES: dict[str, Callable[[Log], Log]] = {
    "length 0 with a checksum": lambda log: log.raw(b"", 0, 7),
    "length one unit too many": lambda log: log.frame(b"", units=2000),
    "length 2^31 units": lambda log: log.frame(b"", units=1 << 31),
    "length 2^32-1 units": lambda log: log.frame(b"", units=(1 << 32) - 1),
    "length one unit too few": lambda log: log.frame(bytes(8), units=1),
    "wrong checksum": lambda log: log.frame(create(4), crc=12345),
    "checksum of another salt": lambda log: log.frame(create(4), crc=log.crc ^ 1),
    "kind 0": lambda log: log.frame(b"", kind=0),
    "kind 3": lambda log: log.frame(b"", kind=3),
    "kind 255": lambda log: log.frame(b"", kind=255),
    "seq again": lambda log: log.frame(b"", seq=2),
    "seq leaves a gap": lambda log: log.frame(b"", seq=4),
    "seq 2^64-1": lambda log: log.frame(b"", seq=MOST),
    "durable lag beyond seq": lambda log: log.frame(b"", lag=4),
    "durable lag 2^64-1": lambda log: log.frame(b"", lag=MOST),
    "time 2^64-1": lambda log: log.frame(b"", time=MOST),
    "time 2^63": lambda log: log.frame(b"", time=1 << 63),
    "time to the end of u64": lambda log: log.frame(b"", time=MOST - 1_700_000_000 * 10**9),
    "branch 2^64-1": lambda log: log.frame(b"", branch=MOST),
    "source that is not defined": lambda log: log.frame(b"", source=77),
    "source 2^64-1": lambda log: log.frame(b"", source=MOST),
    "another frame before": lambda log: log.frame(b"", prev=1),
    "head cut": lambda log: log.raw(struct.pack("<IBBH", log.crc, 1, 3, 0)),
    "head overlong": lambda log: log.frame(b"", head=OVERLONG * 5),
    "head unterminated": lambda log: log.raw(struct.pack("<IB", log.crc, 1) + OPEN * 11),
    "head of 11 bytes a varint": lambda log: log.frame(b"", head=TOO_LONG * 5),
    "anchor cut": lambda log: log.frame(bytes(8), kind=ANCHOR),
    "anchor that lies": lambda log: log.anchor(b"\xaa" * 32),
    "anchor of a commit to come": lambda log: log.anchor(seq=9),
    "anchors without end": lambda log: many(log, 1000, lambda: log.anchor(b"\xaa" * 32)),
    "anchor with more behind": lambda log: log.frame(bytes(512), kind=ANCHOR),
    "a frame inside user bytes": lambda log: log.frame(create(4, size=256, flags=4,
        rest=b"\1" + text(b"")[:0] + varints(0, 128) + bytes(base_log().frames)[:128].ljust(128, b"\7"))),
    "ten thousand empty commits": lambda log: many(log, 10**4, lambda: log.frame(b"")),
    "a hundred thousand tiny commits": lambda log: many(log, 10**5, lambda: log.frame(TINY)),
    "ten thousand sources": lambda log: many(log, 10**4,
        lambda: log.frame(change(SOURCE, log.seq, b"%d" % log.seq), source=log.seq)),
    "ten thousand waves": lambda log: many(log, 10**4, lambda: log.frame(change(WAVE, 1, b""))),
}  # fmt: skip
TINY = delta(1, DENSE, varints(0, 1) + b"x")


def many(log: Log, count: int, one: Callable[[], Log]) -> Log:
    """The same frame again and again."""
    for _ in range(count):
        one()
    return log


HEADS: dict[str, dict] = {
    "capacity 0": {"capacity": 0},
    "capacity 127": {"capacity": 127},
    "capacity 129": {"capacity": 129},
    "capacity 2^31": {"capacity": 1 << 31},
    "capacity 2^32-1": {"capacity": (1 << 32) - 1},
    "capacity 2^40": {"capacity": 1 << 40},
    "capacity 2^63": {"capacity": 1 << 63},
    "capacity 2^64-1": {"capacity": MOST},
    "base seq 2^63": {"base_seq": 1 << 63},
    "base seq 2^64-1": {"base_seq": MOST},
    "base seq 5": {"base_seq": 5},
    "base time 2^64-1": {"base_time_ns": MOST},
    "base time 0": {"base_time_ns": 0},
    "number 0": {"number": 0},
    "number 2": {"number": 2},
    "number 2^32-1": {"number": (1 << 32) - 1},
    "durable 2^64-1": {"durable_seq": MOST},
    "previous checksum": {"prev_crc": 99},
    "another store's uuid": {"uuid": b"x" * 16},
    "another store's salt": {"salt": b"x" * 16},
}
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "127 bytes": lambda data: data[:127],
    "128 bytes": lambda data: data[:128],
    "cut in a frame": lambda data: data[:150],
    "cut in a word": lambda data: data[:132],
    "magic of something else": lambda data: b"SQLite format 3\0" + data[16:],
    "checksum of the header": lambda data: data[:124] + b"1234" + data[128:],
    "noise behind the log": lambda data: data.rstrip(b"\0") + bytes(range(256)) * 32,
    "all ones": lambda data: b"\xff" * 8192,
    "a version to come": lambda data: with_checksum(data[:8] + struct.pack("<I", 2) + data[12:124]) + data[128:],
    "version 2^32-1": lambda data: with_checksum(data[:8] + b"\xff" * 4 + data[12:124]) + data[128:],
    "version 0": lambda data: with_checksum(data[:8] + bytes(4) + data[12:124]) + data[128:],
    "header of 64 bytes": lambda data: with_checksum(data[:12] + struct.pack("<I", 64) + data[16:124]) + data[128:],
}


def with_checksum(head: bytes) -> bytes:
    """A header with the CRC that fits it."""
    from mmsb._core.log import crc32c

    return head + struct.pack("<I", crc32c(head))


def bombs() -> dict[str, bytes]:
    """Compressed segments."""
    data = base_log().encode()
    good = packed(data)
    raw = struct.pack("<I", len(data) << 3 | 1)[:3] + data
    return {
        "states 2^40": zstd_frame(1 << 40, repeated(100)),
        "states 2^64-2": zstd_frame(MOST - 1, repeated(100)),
        "states nothing": zstd_frame(None, repeated(100)),
        "states nothing, 4 GiB": zstd_frame(None, repeated(1 << 15)),
        "keeps what it states, 4 GiB": zstd_frame(1 << 32, repeated(1 << 15)),
        "states too little": zstd_frame(128, [raw]),
        "states too much": zstd_frame(1 << 20, [raw]),
        "states nothing, and is whole": zstd_frame(None, [raw]),
        "window 2^27": zstd_frame(len(data), [raw], window=(27 - 10) << 3),
        "window 2^31": zstd_frame(len(data), [raw], window=(31 - 10) << 3),
        "window 2^41": zstd_frame(len(data), [raw], window=0xFF),
        "a dictionary": zstd_frame(len(data), [raw], dictionary=7),
        "skippable frames": struct.pack("<II", 0x184D2A50, 4) + b"skip" + good,
        "a skippable frame of 4 GiB": struct.pack("<II", 0x184D2A5F, (1 << 32) - 1) + good,
        "cut": good[:-3],
        "cut in its head": good[:5],
        "empty": b"",
        "two frames": good + good,
        "something behind": good + b"more",
        "not compressed": data,
        "block of type 3": zstd_frame(len(data), [struct.pack("<I", len(data) << 3 | 7)[:3] + data]),
        "block of 2 MiB": zstd_frame(len(data), [struct.pack("<I", 0x1FFFFF << 3 | 5)[:3]]),
        "shorter than a header": packed(data[:100]),
        "only a header": packed(data[:128]),
        "a million empty blocks": zstd_frame(len(data), [bytes(3)] * 10**6 + [raw]),
    }


def compressed(path: Path, data: bytes, *, alone: bool) -> Path:
    """A store whose first segment is compressed: alone, or with another one behind it."""
    log = base_log()
    store = write_store(path, [log, Log(number=2, base_seq=2, prev_crc=log.crc)][: 1 if alone else 2])
    (store / "log/00000001.seg").unlink()
    (store / "log/00000001.seg.zst").write_bytes(data)
    return store


def cases() -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """(name, builder) of all of them. What is at the end of a log, and what the horizon calls durable."""
    for name, changes in CHANGES.items():
        yield f"change: {name}", lambda path, c=changes: write_store(path, [base_log().frame(c)], durable=3)
        if len(changes) < 100:
            yield f"change in a wrong frame: {name}", lambda path, c=changes: write_store(
                path, [base_log().frame(c, crc=1)], durable=3)  # fmt: skip
    for name, make in MANY.items():
        yield f"change: {name}", lambda path, make=make: write_store(path, [base_log().frame(make())], durable=3)
    for name, odd in FRAMES.items():
        yield f"frame: {name}", lambda path, odd=odd: write_store(path, [odd(base_log())], durable=3)
        yield f"frame that may be torn: {name}", lambda path, odd=odd: write_store(path, [odd(base_log())], durable=2)
    for name, head in HEADS.items():
        yield f"segment: {name}", lambda path, head=head: write_store(path, [base_log(**head)])
        yield f"sealed segment: {name}", lambda path, head=head: write_store(
            path, [base_log(**head), Log(number=2, base_seq=2, prev_crc=base_log().crc)])  # fmt: skip
    for name, damage in BYTES.items():
        yield (
            f"segment: {name}",
            lambda path, damage=damage: write_store(path, [damage(base_log().encode())], durable=2),
        )
    for name, data in bombs().items():
        yield f"compressed: {name}", lambda path, data=data: compressed(path, data, alone=True)
        yield f"compressed and sealed: {name}", lambda path, data=data: compressed(path, data, alone=False)
