"""The horizon: a small file of two slots that says how far the log was durable when it was last synced.

It is what tells a torn tail from lost history: whatever it calls durable must be there. docs/formats/log.md.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace

from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES, crc32c

SLOT_BYTES = 512
# A slot each on disk sectors (of up to 4 KiB) of their own: a write that is torn hits one of them.
SLOTS_AT = (0, 4096)
HORIZON_BYTES = SLOTS_AT[1] + SLOT_BYTES
FORMAT = struct.Struct("<8sII16sQQIIQ32sQ")
VERSION = 1
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

    @property
    def place(self) -> tuple[int, int]:
        """Segment number and offset: places compare in the order of the log."""
        return self.segment, self.offset

    def encode(self, uuid: bytes, counter: int) -> bytes:
        """The slot's bytes, for the store of that uuid."""
        body = FORMAT.pack(
            MAGIC,
            VERSION,
            CLEAN if self.clean else 0,
            uuid,
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


def decode(slot: bytes, uuid: bytes) -> tuple[int, Mark] | None:
    """(counter, Mark) of an intact slot of that store, else None."""
    if len(slot) != SLOT_BYTES or crc32c(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    magic, version, flags, owner, counter, seq, segment, last_crc, offset, anchor, time_ns = FORMAT.unpack_from(slot)
    # A counter that nobody counted to would have no successor.
    if magic != MAGIC or version != VERSION or owner != uuid or any(slot[FORMAT.size : -4]) or counter >> 63:
        return None
    return counter, Mark(seq, segment, offset, last_crc, time_ns, anchor, bool(flags & CLEAN))


def read_slots(data: bytes, uuid: bytes) -> list[tuple[int, Mark] | None]:
    """Both slots of a horizon file's bytes, None for a damaged or foreign one."""
    return [decode(data[at : at + SLOT_BYTES], uuid) for at in SLOTS_AT]


class Horizon:
    """The open horizon file of a store. `mark`: of the newest intact slot, None when both are damaged."""

    def __init__(self, files: Files, path: str, uuid: bytes, *, writable: bool) -> None:
        self.files = files
        self.path = path
        self.uuid = uuid
        self.fd = files.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            self.slots = read_slots(files.pread(self.fd, HORIZON_BYTES, 0), uuid)
        except BaseException:
            files.close(self.fd)
            raise
        self.counter = 0
        self.mark: Mark | None = None
        intact = [slot for slot in self.slots if slot is not None]
        if intact:
            self.counter, self.mark = max(intact, key=lambda slot: slot[0])

    def mend(self) -> None:
        """Rewrites both slots where one of them is damaged, as a crash in the middle of write() leaves it."""
        if self.mark is not None and None in self.slots:
            mark = replace(self.mark, clean=False)
            for _ in SLOTS_AT:
                self.put(mark)
                self.sync()
            self.mark = mark

    def put(self, mark: Mark) -> None:
        """Writes the older slot. When that fails it is the next to be written as well: the newer one stays."""
        counter = self.counter + 1
        self.files.pwrite(self.fd, mark.encode(self.uuid, counter), SLOTS_AT[counter % 2])
        self.counter = counter

    def sync(self) -> None:
        """Makes what was put durable."""
        self.files.fdatasync(self.fd)

    def close(self) -> None:
        """Closes the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.files.close(fd)


FIRST = Mark(0, 1, HEADER_BYTES, 0, 0, bytes(32), False)


def initial(uuid: bytes) -> bytes:
    """A new store's horizon file."""
    return FIRST.encode(uuid, 0).ljust(SLOTS_AT[1], b"\0") + FIRST.encode(uuid, 1)
