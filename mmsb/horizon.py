"""The horizon: a small file of two slots that says how far the log was durable when it was last synced.

It is what tells a torn tail from lost history: whatever it calls durable must be there. docs/formats/log.md.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace

from mmsb._core.files import Files
from mmsb._core.log import crc32c

SLOT_BYTES = 512
FORMAT = struct.Struct("<8sIIQQIIQ32sQ")
MAGIC = b"MMSBHZN1"
CLEAN = 1


@dataclass(frozen=True)
class Mark:
    """`durable_seq` and the position right after its frame; `clean`: the log ends there and was closed."""

    durable_seq: int
    segment: int
    offset: int
    last_crc: int
    time_ns: int
    anchor: bytes
    clean: bool

    def encode(self, counter: int) -> bytes:
        """The slot's bytes."""
        body = FORMAT.pack(
            MAGIC,
            1,
            CLEAN if self.clean else 0,
            counter,
            self.durable_seq,
            self.segment,
            self.last_crc,
            self.offset,
            self.anchor,
            self.time_ns,
        )
        body = body.ljust(SLOT_BYTES - 4, b"\0")
        return body + crc32c(body).to_bytes(4, "little")


def decode(slot: bytes) -> tuple[int, Mark] | None:
    """(counter, Mark) of an intact slot, else None."""
    if len(slot) != SLOT_BYTES or crc32c(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    magic, version, flags, counter, seq, segment, last_crc, offset, anchor, time_ns = FORMAT.unpack_from(slot)
    if magic != MAGIC or version != 1 or any(slot[FORMAT.size : -4]):
        return None
    return counter, Mark(seq, segment, offset, last_crc, time_ns, anchor, bool(flags & CLEAN))


class Horizon:
    """The open horizon file of a store."""

    def __init__(self, files: Files, path: str, *, writable: bool) -> None:
        self.files = files
        self.path = path
        self.fd = files.open(path, os.O_RDWR if writable else os.O_RDONLY)
        data = files.pread(self.fd, 2 * SLOT_BYTES + 1, 0)
        self.right_size = len(data) == 2 * SLOT_BYTES
        self.slots = [decode(data[:SLOT_BYTES]), decode(data[SLOT_BYTES : 2 * SLOT_BYTES])]
        intact = [slot for slot in self.slots if slot is not None]
        self.counter = 0
        self.mark: Mark | None = None
        if intact:
            self.counter, self.mark = max(intact, key=lambda slot: slot[0])

    def mend(self) -> None:
        """Rewrites both slots where one of them is damaged, as a crash in the middle of write() leaves it."""
        if self.mark is not None and (None in self.slots or not self.right_size):
            self.write(replace(self.mark, clean=False), both=True)

    def write(self, mark: Mark, both: bool = False) -> None:
        """Writes and syncs one slot; both when the mark is clean, so that one damaged bit costs nothing."""
        for _ in range(2 if mark.clean or both else 1):
            self.counter += 1
            self.files.pwrite(self.fd, mark.encode(self.counter), self.counter % 2 * SLOT_BYTES)
            self.files.fdatasync(self.fd)
        self.mark = mark

    def close(self) -> None:
        """Closes the file."""
        self.files.close(self.fd)


FIRST = Mark(0, 1, 128, 0, 0, bytes(32), False)


def initial() -> bytes:
    """A new store's horizon file."""
    return FIRST.encode(0) + FIRST.encode(1)
