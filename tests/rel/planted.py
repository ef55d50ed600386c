"""The planted faults: bugs of one line that a real mistake could make, and the part that must find each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`old` stands in `file` exactly once, and becomes `new`. `case`: where the part finds it soonest."""

    name: str
    file: str
    old: str
    new: str
    part: str
    case: str | None = None


FAULTS = (
    Fault(
        "a read that a commit overtook is taken for whole",
        "csrc/reader.c",
        "if (MMSB_LIKELY(tail == applied)) {",
        "if (true) {",
        "R12/pages",
        "4096x1",
    ),
    Fault(
        "a snapshot that a commit overtook is taken for whole",
        "csrc/reader.c",
        "bool moved = tail != applied && MMSB_LIKELY(!reader->never_redo);",
        "bool moved = false;",
        "R12/snapshots",
        "x1",
    ),
    Fault(
        "readers of a dead owner end before its last commits",
        "csrc/reader.c",
        "        reader->last = mmsb_log_position(log->number, offset);\n",
        "",
        "R13/owner",
    ),
    Fault(
        "an owner goes on behind its predecessor's last commit but one",
        "mmsb/recovery.py",
        "log.attach(segment, memory, max(segment.tail, HEADER_BYTES), state.last_crc)",
        "log.attach(segment, memory, max(segment.tail - 64, HEADER_BYTES), state.last_crc)",
        "R2/process",
    ),
)
