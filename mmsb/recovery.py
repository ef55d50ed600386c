"""Opening a store: replaying its log, and telling a torn tail from damage.

A frame that is not intact is *damage* when a later frame, a later segment or the horizon says that it was durable:
then nothing is changed and CorruptLogError says where. Otherwise a crash cut the log there: the bytes after it are
saved under torn/, zeroed, and the log goes on from its last whole commit. Both steps can be repeated after any crash.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb._core.log import END, HEADER_BYTES, Cursor
from mmsb.errors import CorruptLogError
from mmsb.horizon import Horizon, Mark
from mmsb.segments import Segment, cursor_of, read_head

if TYPE_CHECKING:
    from mmsb.log import FileLog
    from mmsb.state import State


@dataclass
class Recovered:
    """What opening found: bytes cut off a torn tail and where they were saved; damage that a read-only open passed."""

    torn_bytes: int = 0
    saved: list[str] = field(default_factory=list)
    damage: CorruptLogError | None = None


def damaged(path: Any, offset: int, seq: int, reason: str | None, durable: int) -> CorruptLogError:
    """The error of a frame that is gone although it was durable."""
    return CorruptLogError(
        f"{path} is damaged at offset {offset}: commit {seq} is not intact ({reason}), and the log was durable up to "
        f"commit {durable}. Restore the file from a backup, or open the store with read_only=True to save what is "
        "before the damage.",
        path=path,
        offset=offset,
        seq=seq,
        reason=reason,
    )


class Recovery:
    """One opening of one store. `start`: the checkpoint to go on from, or None to replay from the beginning."""

    def __init__(self, state: State, log: FileLog, horizon: Horizon | None, *, read_only: bool) -> None:
        self.state = state
        self.log = log
        self.files = log.files
        self.store = log.store
        self.mark: Mark | None = horizon.mark if horizon is not None else None
        self.read_only = read_only
        self.found = Recovered()

    def run(self, position: tuple[int, int] | None, sources: dict[int, str]) -> Recovered:
        """Replays from `position` (segment number, offset; None: the first frame) to the end of the log.

        Afterwards log.segments holds every segment but the last, and `last`, `cursor` describe that one (None: there is
        no segment yet).
        """
        base = self.log.base
        first = base.segment if base is not None else 1
        # What lies before the base of a compacted history is no part of it any more.
        paths = [(number, path) for number, path in self.store.segment_paths() if number >= first]
        durable = self.mark.durable_seq if self.mark is not None else 0
        self.last: Segment | None = None
        self.cursor: Cursor | None = None
        for place, (number, path) in enumerate(paths):
            if number != first + place:
                missing = self.store.segment_path(first + place)
                return self.stop(damaged(missing, 0, self.state.seq + 1, "the file is missing", durable))
            segment = self.read_segment(number, path)
            if segment is None:
                return self.found
            if self.last is not None:
                self.log.segments.append(self.last)
                if self.cursor is None:
                    self.last.ends = (segment.base_seq, segment.head.prev_crc)
            self.last = segment
            if position is not None and number < position[0]:
                # Before the checkpoint: not replayed, its end is where the next one begins.
                segment.tail = segment.head.capacity
                segment.sealed = True
                continue
            if place == len(paths) - 1 and not self.read_only:
                self.map_last(segment)
            buffer = self.log.buffer(segment)
            self.cursor = cursor_of(segment, buffer, self.state)
            if position is not None and number == position[0]:
                if position[1] > memoryview(buffer).nbytes:
                    return self.stop(damaged(path, position[1], self.state.seq + 1, "the file is cut", durable))
                state = self.state
                self.cursor.seek(position[1], state.seq, state.time_ns, state.last_crc, sources)
            self.log.replaying = (segment, self.cursor)
            self.state._replay(self.cursor)
            self.log.replaying = None
            segment.tail = self.cursor.offset
            later = paths[place + 1 :]
            if later and self.follows(later[0]):
                segment.sealed = True
                continue
            self.judge(segment, buffer, durable, later)
            return self.found
        behind = self.last is None or (position is not None and self.last.number < position[0])
        begun = position is not None and position != (first, HEADER_BYTES)
        if behind and (begun or durable > self.state.seq):
            number = position[0] if position is not None else first
            return self.stop(
                damaged(self.store.segment_path(number), 0, self.state.seq, "the file is missing", durable)
            )
        return self.found

    def read_segment(self, number: int, path: str) -> Segment | None:
        """The Segment of a file that continues what came before; None after a read-only stop."""
        try:
            head = read_head(self.files, path)
        except CorruptLogError as error:
            self.stop(error)
            return None
        reason = ""
        if head.uuid != self.store.uuid or head.salt != self.store.salt:
            reason = "it belongs to another store"
        elif head.number != number:
            reason = f"it is segment {head.number} under another name"
        if reason:
            self.stop(
                CorruptLogError(
                    f"{path} does not belong here: {reason}. Restore the store's files from one backup.",
                    path=path,
                    offset=0,
                    seq=head.base_seq + 1,
                    reason=reason,
                )
            )
            return None
        segment = Segment(head, head.capacity, path=path)
        return segment

    def map_last(self, segment: Segment) -> None:
        """Shows the last segment through a mapping: it is ours alone, mostly empty, and read only where it is not."""
        assert segment.path is not None
        if segment.path.endswith(".zst"):
            return
        fd = self.files.open(segment.path, os.O_RDONLY)
        try:
            whole = self.files.size(fd) >= segment.head.capacity
            if whole and self.files.filesystem(fd) in self.store.MAPPABLE:
                segment.memory = self.files.map(fd, segment.head.capacity, False)
        finally:
            self.files.close(fd)

    def follows(self, later: tuple[int, str]) -> bool:
        """Whether the next segment goes on exactly where the cursor stopped."""
        assert self.cursor is not None and self.last is not None
        if later[0] != self.last.number + 1:
            return False
        try:
            head = read_head(self.files, later[1])
        except CorruptLogError:
            return False
        return head.base_seq == self.state.seq and head.prev_crc == self.cursor.last_crc

    def judge(self, segment: Segment, buffer: Any, durable: int, later: list[tuple[int, str]]) -> None:
        """The cursor stopped before the log's end was proved: a clean end, a torn tail, or damage."""
        cursor = self.cursor
        assert cursor is not None
        state, reason = self.state, cursor.stopped
        clean = self.mark is not None and self.mark.clean and self.mark.durable_seq == state.seq
        if clean and reason == END and not later and self.mark is not None:
            if (self.mark.segment, self.mark.offset) == (segment.number, cursor.offset):
                return  # closed in order, and everything is there
        durable = max(durable, cursor.durable_seq)
        stranded, seq_max, stranded_durable = cursor.stranded()
        durable = max(durable, stranded_durable)
        for number, path in later:
            try:
                head = read_head(self.files, path)
            except CorruptLogError:
                continue
            durable = max(durable, head.durable_seq)
            other = Segment(head, head.capacity, path=path)
            rest = cursor_of(other, self.log.buffer(other))
            for _ in rest:
                pass
            durable = max(durable, rest.durable_seq, rest.stranded()[2])
            self.log.buffers.forget(number)
        if durable > state.seq:
            what = "missing" if reason == END else reason
            self.stop(damaged(segment.path, cursor.offset, state.seq + 1, what, durable))
            return
        cut = bytes(memoryview(buffer)[cursor.offset :]).rstrip(b"\0")
        if (cut or later) and not self.read_only:
            self.cut_off(segment, cursor.offset, cut, later)
        self.found.torn_bytes = len(cut)

    def cut_off(self, segment: Segment, offset: int, cut: bytes, later: list[tuple[int, str]]) -> None:
        """Saves what a crash left behind, then removes it: later segments from the last one back, then the tail."""
        folder = self.store.folder("torn")
        taken = len(os.listdir(folder))
        if cut:
            path = os.path.join(folder, f"{self.state.seq + 1:020d}-{taken}.bin")
            self.files.write_file(path, cut)
            self.found.saved.append(path)
        for number, path in reversed(later):
            to = os.path.join(folder, f"{self.state.seq + 1:020d}-{taken}-{number:08d}.seg")
            self.files.rename(path, to)
            self.files.sync_directory(folder)
            self.files.sync_directory(os.path.dirname(path))
            self.found.saved.append(to)
        if cut:
            assert segment.path is not None
            fd = self.files.open(segment.path, os.O_RDWR)
            try:
                # Zeroed and never cut: others may have the file mapped.
                self.files.pwrite(fd, bytes(len(cut)), offset)
                self.files.fdatasync(fd)
            finally:
                self.files.close(fd)
            self.log.buffers.forget(segment.number)

    def stop(self, error: CorruptLogError) -> Recovered:
        """Damage: raised when opening to write; a read-only State shows what is before it."""
        if not self.read_only:
            raise error
        self.found.damage = error
        return self.found


def attach_last(log: FileLog, recovery: Recovery) -> None:
    """Goes on appending to the last segment, or makes the first one."""
    segment, cursor, state = recovery.last, recovery.cursor, log.state
    if segment is None and log.base is not None:
        log.first_number = log.base.segment
    if segment is None or segment.path is None or cursor is None or segment.path.endswith(".zst"):
        if segment is not None:
            log.segments.append(segment)
        log.roll(state, 0)
        return
    fd = log.files.open(segment.path, os.O_RDWR)
    segment.fd = fd
    log.buffers.forget(segment.number)
    memory = None
    if log.mapped and log.files.filesystem(fd) in log.store.MAPPABLE:
        if log.files.size(fd) < segment.head.capacity:
            log.files.fallocate(fd, segment.head.capacity)
        memory = log.files.map(fd, segment.head.capacity, True)
    log.attach(segment, memory, max(segment.tail, HEADER_BYTES), state.last_crc)
    for local_id, name in cursor.sources.items():
        state._define_source(name, local_id)
