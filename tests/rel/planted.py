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
    Fault(
        "a sync leaves out the segment that is written",
        "mmsb/log.py",
        "self.guarded(state, self.files.fdatasync, active.fd)",
        "pass",
        "R3/append",
    ),
    Fault(
        "a commit that is to be durable is not synced",
        "csrc/io_posix.c",
        "return sync ? io->fdatasync(io->context, fd) : 0;",
        "return 0;",
        "R3/power",
    ),
    Fault(
        "a new segment's name is not synced",
        "mmsb/log.py",
        "self.files.sync_directory(os.path.dirname(path))",
        "pass",
        "R3/rotate",
    ),
    Fault(
        "a sealed segment is not synced",
        "mmsb/log.py",
        "self.unsynced.append(self.active)",
        "pass",
        "R3/rotate",
    ),
    Fault(
        "the base of a compacted history is renamed before it is synced",
        "mmsb/compact.py",
        "log.files.write_file(aside, encode_image(image, image.pages))",
        "log.files.write_file(aside, encode_image(image, image.pages), durable=False)",
        "R3/compact",
    ),
    Fault(
        "history is deleted before its base is there",
        "mmsb/compact.py",
        "_write_base(state, seq, keeper, forgotten + at_seq if keep_labels else at_seq)",
        "_delete(log.files, report.segments); _write_base(state, seq, keeper, forgotten + at_seq)",
        "R3/compact",
    ),
    Fault(
        "a raw segment goes before the compressed one is durable",
        "mmsb/compression.py",
        "self.files.write_file(path, packed)",
        "self.files.write_file(path, packed, durable=False)",
        "R3/compress",
    ),
    Fault(
        "a frame calls the one before it durable",
        "csrc/core.c",
        ".durable_lag = seq - __atomic_load_n(&core->shared->durable_seq, __ATOMIC_RELAXED),",
        ".durable_lag = 1,",
        "R3/group",
    ),
    Fault(
        "the horizon moves before the log is synced",
        "mmsb/log.py",
        "            for segment in older:\n                self.guarded(state, self.files.fdatasync, segment.fd)\n",
        "            self.guarded(state, self.horizon.write, mark)\n",
        "R3/group",
    ),
    Fault(
        "the end of a new log is not zeroed behind what a crash left",
        "mmsb/recovery.py",
        "self.files.pwrite(fd, bytes(len(cut)), offset)",
        "pass",
        "R3/torn",
    ),
)
