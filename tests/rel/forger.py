"""Somebody who knows the formats and changes a closed store so that everything fits again: checksums, seqs, horizon
and, where no key stands in the way, the anchors. Written from docs/formats/log.md, with none of mmsb's own encoders.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import blake3

from mmsb._core.log import crc32c

HEADER_BYTES, COMMIT, ANCHOR, SOURCE = 128, 1, 2, 23
SLOT = struct.Struct("<8sII16sQQIIQ32sQ")


def varint(number: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, offset after it)."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


@dataclass(frozen=True)
class Record:
    """One frame: seq, durable, time and branch as they are meant, source as an id of the segment."""

    kind: int
    seq: int
    durable: int
    time: int
    branch: int
    source: int
    changes: bytes  # of an anchor: its 32 bytes

    @property
    def content(self) -> bytes:
        """The changes without the definition of a source, and without padding."""
        return self.changes[self.definition()[1] :].rstrip(b"\0")

    def definition(self) -> tuple[tuple[int, bytes] | None, int]:
        """((id, name) of the source that is defined first, or None; where the other changes begin)."""
        if self.kind == ANCHOR or self.changes[:1] != bytes([SOURCE]):
            return None, 0
        number, at = read_varint(self.changes, 1)
        size, at = read_varint(self.changes, at)
        return (number, self.changes[at : at + size]), at + size


class Segment:
    """The only segment of a closed store, as records. `write` makes everything fit what they are then."""

    def __init__(self, path: Path) -> None:
        self.store = path
        (self.path,) = (path / "log").iterdir()
        data = self.path.read_bytes()
        self.capacity, self.header = len(data), data[:HEADER_BYTES]
        self.uuid, self.salt = data[16:32], data[32:48]
        self.base_seq, self.base_time = struct.unpack_from("<QQ", data, 48)
        self.records: list[Record] = []
        at = HEADER_BYTES
        while units := struct.unpack_from("<I", data, at)[0]:
            self.records.append(self.decode(data[at + 8 : at + 8 + units * 8]))
            at += 8 + units * 8

    def decode(self, body: bytes) -> Record:
        """The record of a frame's body."""
        at, numbers = 5, []
        for _ in range(5):
            number, at = read_varint(body, at)
            numbers.append(number)
        seq, lag, time, branch, source = numbers
        seq += self.base_seq
        changes = body[at : at + 32] if body[4] == ANCHOR else body[at:]
        return Record(body[4], seq, seq - lag, time + self.base_time, branch, source, changes)

    def commits(self) -> list[int]:
        """Places of the commits among the records."""
        return [place for place, record in enumerate(self.records) if record.kind == COMMIT]

    def renumber(self) -> None:
        """Makes seqs gap-free and times ascending again. Sources keep their first definition."""
        seq, time, defined, out = self.base_seq, self.base_time, set(), []
        for record in self.records:
            seq += record.kind == COMMIT
            time = max(time, record.time)
            definition, begin = record.definition()
            if definition is not None and definition[0] in defined:
                record = replace(record, changes=record.changes[begin:])
            elif definition is not None:
                defined.add(definition[0])
            out.append(replace(record, seq=seq, time=time, durable=min(record.durable, max(seq - 1, 0))))
        self.records = out

    def reanchor(self, key: bytes | None = None) -> None:
        """Computes the anchors anew, plain or with a key."""
        names: dict[int, bytes] = {0: b""}
        head, out = bytes(32), []
        hasher = self.hasher(head, key)
        for record in self.records:
            if record.kind == ANCHOR:
                head = hasher.digest()
                record = replace(record, changes=head)
                hasher = self.hasher(head, key)
            else:
                definition = record.definition()[0]
                if definition is not None:
                    names[definition[0]] = definition[1]
                name = names[record.source]
                hasher.update(struct.pack("<QQQQ", record.seq, record.time, record.branch, len(name)) + name)
                hasher.update(struct.pack("<Q", len(record.content)) + record.content)
            out.append(record)
        self.records = out

    @staticmethod
    def hasher(head: bytes, key: bytes | None):
        """The hash of the anchor that follows `head`."""
        hasher = blake3.blake3(key=key) if key is not None else blake3.blake3()
        hasher.update(head)
        return hasher

    def write(self) -> None:
        """Writes the segment with checksums that fit, a horizon that calls it closed here, and no checkpoint."""
        out, crc, anchor = bytearray(self.header), 0, bytes(32)
        for record in self.records:
            body = struct.pack("<IB", crc, record.kind) + varint(record.seq - self.base_seq)
            body += varint(record.seq - record.durable) + varint(record.time - self.base_time)
            body += varint(record.branch) + varint(record.source) + record.changes
            body += bytes(-len(body) % 8)
            units = struct.pack("<I", len(body) // 8)
            crc = crc32c(units + body, crc32c(self.salt))
            out += units + struct.pack("<I", crc) + body
            anchor = record.changes if record.kind == ANCHOR else anchor
        self.path.write_bytes(bytes(out).ljust(self.capacity, b"\0")[: self.capacity])
        last = self.records[-1]
        slots = []
        for counter in (100, 101):
            mark = (counter, last.seq, 1, crc, len(out), anchor, last.time)
            slot = SLOT.pack(b"MMSBHZN1", 1, 1, self.uuid, *mark).ljust(508, b"\0")
            slots.append(slot + struct.pack("<I", crc32c(slot)))
        (self.store / "horizon").write_bytes(slots[0].ljust(4096, b"\0") + slots[1])
        for path in (self.store / "checkpoints").iterdir():
            path.unlink()
