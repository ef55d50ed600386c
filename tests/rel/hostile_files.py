"""Hostile files of every other kind: horizons, identities, things that are no files, names, files of the first MMSB."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mmsb._core.log import crc32c
from mmsb.store import Identity
from tests.rel import hostile_checkpoints, hostile_log
from tests.rel.forge import (
    BEGIN_NS,
    MOST,
    SALT,
    UUID,
    Log,
    base_log,
    both_slots,
    ckpt,
    slot,
    write_store,
)  # fmt: skip
from tests.unit.test_upstream import PAGES, checkpoint, frame, log_header

Builder = Callable[[Path], Path]

HORIZONS: dict[str, bytes] = {
    "durable 2^64-1": both_slots(slot(durable_seq=MOST)),
    "durable 2^63": both_slots(slot(durable_seq=1 << 63)),
    "segment 0": both_slots(slot(segment=0)),
    "segment 2": both_slots(slot(segment=2)),
    "segment 2^32-1": both_slots(slot(segment=(1 << 32) - 1)),
    "offset 0": both_slots(slot(offset=0)),
    "offset odd": both_slots(slot(offset=131)),
    "offset 2^64-1": both_slots(slot(offset=MOST)),
    "counter 2^64-1": both_slots(slot(counter=MOST)),
    "counters 2^64-1 and 0": both_slots(slot(counter=MOST, durable_seq=2), slot(counter=0)),
    "clean, and more follows": both_slots(slot(clean=True)),
    "clean, and less is there": both_slots(slot(clean=True, durable_seq=9, offset=4000)),
    "clean, of another frame": both_slots(slot(clean=True, durable_seq=2, offset=base_log().end, last_crc=1)),
    "time 2^64-1": both_slots(slot(time_ns=MOST)),
    "another store's": both_slots(slot(uuid=b"x" * 16)),
    "empty": b"",
    "one byte": b"M",
    "one slot": slot(),
    "noise": bytes(range(256)) * 32,
    "zeros": bytes(4608),
    "a megabyte": both_slots(slot()).ljust(1 << 20, b"\0"),
    "flags to come": both_slots(slot()[:12] + b"\xff" * 4 + slot()[16:]),
    "version 2": both_slots(b"MMSBHZN1" + struct.pack("<I", 2) + slot()[12:]),
}


def identity(**facts: object) -> bytes:
    """The file `store`."""
    return Identity(**{"uuid": UUID, "salt": SALT, "created_ns": BEGIN_NS, **facts}).encode()


def version(number: int) -> bytes:
    """The file `store` of another version, its checksum right."""
    body = identity()[:8] + struct.pack("<I", number) + identity()[12:-4]
    return body + struct.pack("<I", crc32c(body))


IDENTITIES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"M",
    "255 bytes": identity()[:255],
    "257 bytes": identity() + b"\0",
    "a megabyte": identity().ljust(1 << 20, b"\0"),
    "noise": bytes(range(256)),
    "something else": b"#!/bin/sh\nexit\n",
    "version 0": version(0),
    "version 2": version(2),
    "version 2^32-1": version((1 << 32) - 1),
    "checksum": identity()[:-4] + b"1234",
    "another uuid": identity(uuid=b"x" * 16),
    "another salt": identity(salt=b"x" * 16),
    "created 2^64-1": identity(created_ns=MOST),
    "a parent of seq 2^64-1": identity(parent_seq=MOST, parent_uuid=b"p" * 16),
}


def whole(path: Path, **how: object) -> Path:
    """A sound store with one of everything."""
    log = base_log()
    return write_store(
        path, [log, Log(number=2, base_seq=2, prev_crc=log.crc)], durable=2, checkpoints={2: ckpt()}, **how
    )


PLACES = (".", "store", "horizon", "lock", "log", "log/00000001.seg", "log/00000002.seg", "checkpoints", "torn",
          "checkpoints/00000000000000000002.ckpt", "log/00000003.seg.zst")  # fmt: skip


def remove(path: Path) -> None:
    """Takes away whatever is there, a FIFO too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def listening(path: Path) -> None:
    """A socket in the file system (its path may be long)."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def device(path: Path) -> None:
    """/dev/zero by another name; where devices cannot be made, a link to it."""
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))
    except OSError:
        path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    """A terabyte of nothing, with an end."""
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek((1 << 40) - 1)
        file.write(b"\1")


THINGS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "a file": lambda path: path.write_bytes(b"a file\n"),
    "an empty file": lambda path: path.write_bytes(b""),
    "a FIFO": lambda path: os.mkfifo(path),
    "a socket": listening,
    "a device": device,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /etc/passwd": lambda path: path.symlink_to("/etc/passwd"),
    "a link to /etc": lambda path: path.symlink_to("/etc"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "sparse, 1 TB": sparse,
    "without rights": lambda path: (path.write_bytes(b"closed"), path.chmod(0)),
}


def misplaced(path: Path, place: str, put: Callable[[Path], object]) -> Path:
    """A sound store with something else in one place."""
    where = whole(path) / place
    remove(where)
    put(where)
    return path


def grown(path: Path, place: str) -> Path:
    """A sound store, one file of which goes on for a terabyte."""
    os.truncate(whole(path) / place, 1 << 40)
    return path


def beside(path: Path, *names: str | bytes) -> Path:
    """A sound store with more files in it."""
    data = base_log().encode() if len(names) < 100 else b""
    whole(path)
    for name in names:
        with open(os.path.join(os.fsencode(path), os.fsencode(name)), "wb") as file:
            file.write(data)
    return path


def renamed(path: Path, name: str) -> Path:
    """A store whose first segment has a strange name."""
    store = write_store(path, [base_log()], durable=2)
    (store / "log/00000001.seg").rename(store / "log" / name)
    return store


def thousands(path: Path, *, empty: bool) -> Path:
    """3,000 segments: each with one commit, or with none."""
    logs: list[Log] = [base_log()]
    for number in range(2, 3001):
        logs.append(Log(number=number, base_seq=logs[-1].seq, prev_crc=logs[-1].crc, capacity=4096))
        if not empty:
            logs[-1].frame(b"")
    return write_store(path, logs, durable=logs[-1].seq)


def huge(path: Path, capacity: int, size: int, *, sealed: bool) -> Path:
    """A segment that claims so many bytes in a file with so many, all but the first nothing."""
    log = base_log(capacity=capacity)
    store = write_store(path, [log, Log(number=2, base_seq=2, prev_crc=log.crc)][: 1 + sealed], durable=2)
    os.truncate(store / "log/00000001.seg", size)
    return store


def lookalikes(data: bytes) -> bytes:
    """A segment whose end is made of the beginnings of frames that reach to its end."""
    head, capacity = bytearray(data[:124]), 4 << 20
    head[72:80] = struct.pack("<Q", capacity)
    log, words = base_log(), (capacity - 65536) // 16
    body = b"".join(struct.pack("<IIIBBBB", (capacity // 8) - 2 * n - 4096, 7, 0, 1, 3, 0, 0) for n in range(words))
    return hostile_log.with_checksum(bytes(head)) + (data[128 : log.end] + bytes(8) + body).ljust(capacity - 128, b"\0")


STORES: dict[str, Builder] = {
    **{f"horizon: {name}": lambda path, data=data: write_store(path, [base_log()], marks=data)
       for name, data in HORIZONS.items()},
    **{f"identity: {name}": lambda path, data=data: replaced(whole(path), data) for name, data in IDENTITIES.items()},
    **{f"{place} is {name}": lambda path, place=place, put=put: misplaced(path, place, put)
       for place in PLACES for name, put in THINGS.items()},
    **{f"{place} grew to 1 TB": lambda path, place=place: grown(path, place)
       for place in ("store", "horizon", "log/00000001.seg", "log/00000002.seg",
                     "checkpoints/00000000000000000002.ckpt")},
    **{f"a segment of {size >> 30} GiB, {'sealed' if sealed else 'last'}": lambda path, size=size, sealed=sealed: huge(
        path, size, size, sealed=sealed) for size in (1 << 35, 1 << 40) for sealed in (False, True)},
    "a segment that claims 1 TB": lambda path: huge(path, 1 << 40, 1 << 13, sealed=False),
    "noise that looks like long frames": lambda path: write_store(path, [lookalikes(base_log().encode())], durable=2),
    "the name of a segment has a line break": lambda path: renamed(path, "00000001.seg\n"),
    "the name of a segment is Arabic": lambda path: renamed(path, "\u0660" * 7 + "\u0661.seg"),
    "segment 0": lambda path: renamed(path, "00000000.seg"),
    "segment 99999999": lambda path: renamed(path, "99999999.seg"),
    "files with strange names": lambda path: beside(path, "log/\n", "log/00000003.seg\n", "checkpoints/\n.ckpt", "a\nb",
        b"log/\xff\xfe.seg", b"checkpoints/\xff", "log/" + "\u0663" * 8 + ".seg", "log/" + "n" * 250),
    "both a segment and its compressed self": lambda path: beside(path, "log/00000001.seg.zst"),
    "3000 segments": lambda path: thousands(path, empty=False),
    "3000 empty segments": lambda path: thousands(path, empty=True),
    "10^5 files": lambda path: beside(path, *(f"log/{n}.tmp" for n in range(10**5))),
    "another program's directory": lambda path: (path.mkdir(), (path / ".git").mkdir(), path)[-1],
    "an empty directory": lambda path: (path.mkdir(), path)[-1],
    **dict(hostile_log.cases()),
    **dict(hostile_checkpoints.cases()),
}  # fmt: skip


def replaced(path: Path, data: bytes) -> Path:
    """The store with another file `store`."""
    (path / "store").write_bytes(data)
    return path


# ---- files of the first MMSB

HEAD = struct.Struct("<QQII")


def log_of(*frames: bytes, number: int = 1) -> bytes:
    """A log of the first MMSB."""
    return log_header(number) + b"".join(frames)


def snap(count: int, *pages: bytes, number: int = 2) -> bytes:
    """A checkpoint of the first MMSB."""
    return b"MMSBSNAP" + struct.pack("<IIQ", number, count, 0) + b"".join(pages)


def snap_page(
    page_id: int = 1, size: int = 4, location: int = 0, metadata: bytes = b"", length: int | None = None
) -> bytes:
    """One page of it."""
    head = struct.pack("<QQIi", page_id, size, 1, location) + struct.pack("<I", len(metadata)) + metadata
    return head + struct.pack("<I", size & 0xFFFFFFFF if length is None else length) + bytes(min(size, 4096))


def pairs(count: int, *pieces: bytes) -> bytes:
    """Metadata of a page."""
    return struct.pack("<I", count) + b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


IMPORTS: dict[str, bytes] = {
    "log: empty": b"",
    "log: magic only": b"MMSBLOG1",
    "log: nothing in it": log_of(),
    "log: version 0": log_of(number=0),
    "log: version 2^32-1": log_of(number=(1 << 32) - 1),
    "log: mask of 2^31 bytes": log_of(HEAD.pack(1, 1, 1, 1 << 31) + bytes(100)),
    "log: mask of 2^32-1 bytes": log_of(HEAD.pack(1, 1, 1, (1 << 32) - 1) + bytes(100)),
    "log: empty mask": log_of(frame(1, 1, 1, b"", b"", 0)),
    "log: mask of twos": log_of(frame(1, 1, 1, b"\2\2", b"ab", 0)),
    "log: payload of 2^32-1 bytes": log_of(HEAD.pack(1, 1, 1, 1) + b"\1" + b"\xff" * 4 + bytes(100)),
    "log: payload too short": log_of(frame(1, 1, 1, b"\1\1", b"a", 0)),
    "log: sparse flag 255": log_of(frame(1, 1, 1, b"\1\1", b"ab", 255)),
    "log: time 2^64-1": log_of(frame(1, 1, 1, b"\1", b"a", 0, time_ns=MOST)),
    "log: source of 2^32-1 bytes": log_of(frame(1, 1, 1, b"\1", b"a", 0)[:-10] + b"\xff" * 4),
    "log: source not UTF-8": log_of(frame(1, 1, 1, b"\1", b"a", 0, source=b"\xff\xfe\0\n")),
    "log: source of a megabyte": log_of(frame(1, 1, 1, b"\1", b"a", 0, source=b"s" * (1 << 20))),
    "log: intent of 2^32-1 bytes": log_of(frame(1, 1, 1, b"\1", b"a", 0) + b"\xff" * 4, number=2),
    "log: intent that is no JSON": log_of(frame(1, 1, 1, b"\1", b"a", 0, intent="{" * 10**5, version=2), number=2),
    "log: intent nested 10^5 deep": log_of(
        frame(1, 1, 1, b"\1", b"a", 0, intent="[" * 10**5 + "]" * 10**5, version=2), number=2),
    "log: page 2^64-1": log_of(frame(1, MOST, 1, b"\1", b"a", 0)),
    "log: epochs 2^32-1 and 0": log_of(frame(1, 1, (1 << 32) - 1, b"\1", b"a", 0), frame(1, 1, 0, b"\1", b"b", 0)),
    "log: 10^4 tiny frames": log_of(*(frame(n, 1, n, b"\1", bytes([n % 251]), 0) for n in range(1, 10**4))),
    "log: 10^3 pages": log_of(*(frame(n, n, 1, b"\1", b"x", 0) for n in range(1, 10**3))),
    "log: a megabyte of zeros": log_of(bytes(1 << 20)),
    "log: a megabyte of ones": log_of(b"\1" * (1 << 20)),
    "log: masks of a megabyte of ones inside": log_of(HEAD.pack(1, 1, 1, 1 << 19) + b"\1" * (1 << 20)),
    "log: both versions": log_of(frame(1, 1, 1, b"\1", b"a", 0), frame(2, 1, 2, b"\1", b"b", 0, version=2)),
    "checkpoint: magic only": b"MMSBSNAP",
    "checkpoint: nothing in it": snap(0),
    "checkpoint: version 3": snap(0, number=3),
    "checkpoint: 2^32-1 pages": snap((1 << 32) - 1, snap_page()),
    "checkpoint: one page too few": snap(1, snap_page(1), snap_page(2)),
    "checkpoint: size 0": snap(1, snap_page(size=0)),
    "checkpoint: size 2^63": snap(1, snap_page(size=1 << 63)),
    "checkpoint: size 2^64-1": snap(1, snap_page(size=MOST)),
    "checkpoint: size 2^32-1": snap(1, snap_page(size=(1 << 32) - 1)),
    "checkpoint: another length": snap(1, snap_page(length=5)),
    "checkpoint: location -1": snap(1, snap_page(location=-1)),
    "checkpoint: location 2^31-1": snap(1, snap_page(location=(1 << 31) - 1)),
    "checkpoint: page twice": snap(2, snap_page(1), snap_page(1)),
    "checkpoint: page 2^64-1": snap(1, snap_page(MOST)),
    "checkpoint: metadata of 2^32-1 entries": snap(1, snap_page(metadata=b"\xff" * 4)),
    "checkpoint: metadata cut": snap(1, snap_page(metadata=b"\1\0")),
    "checkpoint: metadata key not UTF-8": snap(1, snap_page(metadata=pairs(1, b"\xff", b"v"))),
    "checkpoint: metadata key of 2^32-1 bytes": snap(1, snap_page(metadata=struct.pack("<I", 1) + b"\xff" * 4)),
    "checkpoint: metadata keys twice": snap(1, snap_page(metadata=pairs(2, b"k", b"v", b"k", b"w"))),
    "checkpoint: metadata of 10^5 entries": snap(1, snap_page(
        metadata=pairs(10**5, *(piece for n in range(10**5) for piece in (b"%d" % n, b""))))),
    "checkpoint: metadata that is ours": snap(1, snap_page(metadata=pairs(1, b"mmsb.merge", b"max-plus float64"))),
    "checkpoint: goes on": checkpoint(PAGES, 2) + b"more",
    "checkpoint: cut": checkpoint(PAGES, 2)[:-1],
    "checkpoint: layout without metadata": checkpoint(PAGES, 1),
}  # fmt: skip


def imported(path: Path, data: bytes) -> Path:
    """A file to import."""
    path.mkdir()
    (path / "old").write_bytes(data)
    return path / "old"


def things_to_import() -> Iterator[tuple[str, Builder]]:
    """Things that are no files, and files that go on for ever."""
    for name, put in THINGS.items():
        yield f"import: {name}", lambda path, put=put: (path.mkdir(), put(path / "old"), path / "old")[-1]
    for name, data in {"log": log_of(frame(1, 1, 1, b"\1", b"a", 0)), "checkpoint": snap(1, snap_page())}.items():
        yield f"import: {name} of 1 TB", lambda path, data=data: stretched(imported(path, data), 1 << 40)
    lying = snap(1, snap_page(size=(1 << 32) - 1)[:-4096])
    yield "import: checkpoint of 4 GiB", lambda path: stretched(imported(path, lying), len(lying) + (1 << 32) - 1)
    lying_log = log_of(HEAD.pack(1, 1, 1, (1 << 32) - 1))
    yield "import: log with a mask of 4 GiB", lambda path: stretched(imported(path, lying_log), 1 << 33)


def stretched(path: Path, size: int) -> Path:
    """The file with zeros behind it."""
    os.truncate(path, size)
    return path


FILES: dict[str, Builder] = {
    **{f"import: {name}": lambda path, data=data: imported(path, data) for name, data in IMPORTS.items()},
    **dict(things_to_import()),
}
