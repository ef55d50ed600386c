"""Opening a store: replaying its log, and telling a torn tail from damage.

A frame that is not intact is *damage* when a later frame, a later segment or the horizon says that it was durable:
then nothing is changed and CorruptLogError says where. Otherwise a crash cut the log there: the bytes after it are
saved under torn/, zeroed, and the log goes on from its last whole commit. Both steps can be repeated after any crash.
A segment that is missing, foreign or has a damaged header is damage in any case: its file was synced, name and all,
before the first frame went into it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb._core.log import END, HEADER_BYTES, Cursor, is_zero
from mmsb.errors import CorruptLogError
from mmsb.horizon import Horizon, Mark
from mmsb.segments import DENSE_BYTES, Segment, cursor_of, read_head, unfit

if TYPE_CHECKING:
    from mmsb.log import FileLog
    from mmsb.state import State


SOURCE_ID_MOST = (1 << 32) - 1


@dataclass
class Recovered:
    """What opening found: bytes cut off a torn tail and where they were saved; damage that a read-only open passed.

    A State in memory found nothing. `damage`: the State shows what is before it; None when all is intact.
    """

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


def is_blank(buffer: Any, offset: int, end: int) -> bool:
    """Whether only zeros follow up to `end`: no body of a later session's first commit, whose word a crash took."""
    return is_zero(memoryview(buffer)[offset:end])


class Recovery:
    """One opening of one store. Damage is raised when opening to write; a read-only State shows what is before it."""

    def __init__(self, state: State, log: FileLog, horizon: Horizon | None, *, read_only: bool) -> None:
        self.state = state
        self.log = log
        self.files = log.files
        self.store = log.store
        self.horizon = horizon
        self.mark: Mark | None = horizon.mark if horizon is not None else None
        self.read_only = read_only
        self.found = Recovered()
        self.last: Segment | None = None
        self.cursor: Cursor | None = None

    def run(self, position: tuple[int, int] | None, sources: dict[int, str]) -> Recovered:
        """Replays from `position` (segment number, offset; None: the first frame) to the end of the log.

        Afterwards log.segments holds every segment but the last, and `last`, `cursor` describe that one (None: there is
        no segment yet).
        """
        if self.horizon is not None and self.mark is None:
            self.stop(unfit(self.horizon.path, None, "both of its slots are damaged"))
        segments = self.find_segments(position)
        for place, segment in enumerate(segments):
            if self.last is not None:
                self.log.segments.append(self.last)
                if self.cursor is None:
                    self.last.ends = (segment.base_seq, segment.head.prev_crc)
            self.last = segment
            if position is not None and segment.number < position[0]:
                # Before the checkpoint: not replayed, its end is where the next one begins.
                segment.sealed = True
                continue
            if segment is segments[-1] and not self.read_only:
                self.map_last(segment)
            try:
                buffer = self.log.buffer(segment)
            except CorruptLogError as error:
                return self.stop(error)
            self.cursor = cursor_of(segment, buffer, self.state)
            if position is not None and segment.number == position[0]:
                state = self.state
                try:
                    self.cursor.seek(position[1], state.seq, state.time_ns, state.last_crc, sources)
                except CorruptLogError as error:
                    return self.stop(self.lost(segment, position[1], error.facts["reason"]))
            self.replay(segment)
            later = segments[place + 1 :]
            if later and self.follows(later[0]):
                segment.sealed = True
                continue
            self.judge(segment, buffer, later)
            return self.found
        return self.found

    # ---- the files

    def find_segments(self, position: tuple[int, int] | None) -> list[Segment]:
        """The segments, ascending. Of a read-only open with damage: those before it."""
        segments: list[Segment] = []
        # What lies before the base of a compacted history is no part of it any more.
        base = self.log.base
        first = base.segment if base is not None else 1
        try:
            for number, path in self.store.segment_paths():
                if number >= first:
                    segments.append(self.check_segment(number, path, first + len(segments)))
            self.check_reach(segments, first, position)
        except CorruptLogError as error:
            self.stop(error)
        return segments

    def check_segment(self, number: int, path: str, expected: int) -> Segment:
        """The Segment of a file. CorruptLogError when it is not the one that belongs there."""
        if number != expected:
            raise unfit(self.store.segment_path(expected), None, "the file is missing")
        head = read_head(self.files, path)
        if head.uuid != self.store.uuid or head.salt != self.store.salt:
            raise unfit(path, head.base_seq + 1, "it belongs to another store")
        if head.number != number:
            raise unfit(path, head.base_seq + 1, f"it is segment {head.number} under another name")
        return Segment(head, head.capacity, path=path)

    def check_reach(self, segments: list[Segment], first: int, position: tuple[int, int] | None) -> None:
        """Raises when segments are missing at the end: the horizon or the checkpoint lies in one of them."""
        last = first + len(segments) - 1
        reach = 0
        mark = self.mark
        if mark is not None and (mark.place > (1, HEADER_BYTES) or mark.durable_seq > self.state.seq):
            reach = mark.segment
        # A fork begins with a checkpoint only, and with no segment.
        if position is not None and (segments or position != (first, HEADER_BYTES)):
            reach = max(reach, position[0])
        if last < reach:
            raise unfit(self.store.segment_path(last + 1), None, "the file is missing")

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
                if segment.head.capacity > DENSE_BYTES:
                    segment.data_end = max((end for _, end in self.files.extents(fd, segment.head.capacity)), default=0)
        finally:
            self.files.close(fd)

    def replay(self, segment: Segment) -> None:
        """Applies the frames of a segment from the cursor on."""
        assert self.cursor is not None
        self.log.replaying = (segment, self.cursor)
        try:
            self.state._replay(self.cursor)
        except CorruptLogError as error:
            facts = {**error.facts, "path": segment.path}
            raise CorruptLogError(f"{segment.path}: {error.message}", **facts) from error
        finally:
            self.log.replaying = None
        segment.tail = self.cursor.offset

    def follows(self, later: Segment) -> bool:
        """Whether the next segment goes on exactly where the cursor stopped."""
        assert self.cursor is not None
        return later.base_seq == self.state.seq and later.head.prev_crc == self.cursor.last_crc

    # ---- the end

    def judge(self, segment: Segment, buffer: Any, later: list[Segment]) -> None:
        """The cursor stopped before the log's end was proved: a clean end, a torn tail, or damage."""
        cursor, mark = self.cursor, self.mark
        assert cursor is not None
        here = (segment.number, cursor.offset)
        if mark is not None and mark.clean and not later and cursor.stopped == END:
            if (
                mark.place == here
                and mark.last_crc == cursor.last_crc
                and is_blank(buffer, cursor.offset, segment.data_end)
            ):
                return  # closed in order, and everything is there
        durable = max(self.durable_claims(segment, cursor, later), mark.durable_seq if mark is not None else 0)
        if durable > self.state.seq or (mark is not None and mark.place > here):
            if self.read_only and self.read_on(segment):
                return
            reason = "it is missing" if cursor.stopped == END else cursor.stopped
            self.stop(damaged(segment.path, cursor.offset, self.state.seq + 1, reason, durable))
            return
        cut = bytes(memoryview(buffer)[cursor.offset : segment.data_end]).rstrip(b"\0")
        if (cut or later) and not self.read_only:
            self.cut_off(segment, cursor.offset, cut, later)
        self.found.torn_bytes = len(cut)

    def durable_claims(self, last: Segment, cursor: Cursor, later: list[Segment]) -> int:
        """The highest seq that any intact frame or header calls durable."""
        durable = max(cursor.durable_seq, cursor.stranded(last.data_end)[2])
        for segment in later:
            rest = cursor_of(segment, self.log.buffer(segment))
            for _ in rest:
                pass
            durable = max(durable, segment.head.durable_seq, rest.durable_seq, rest.stranded(segment.data_end)[2])
            self.log.buffers.forget(segment.number)
        return durable

    def read_on(self, segment: Segment) -> bool:
        """Reads the segment again: a writer may have gone on while it was read. Whether there was more."""
        before = self.cursor
        assert before is not None
        self.log.buffers.forget(segment.number)
        buffer = self.log.buffer(Segment(segment.head, segment.head.capacity, path=segment.path))
        self.cursor = Cursor(buffer, segment.head, self.state)
        self.cursor.seek(before.offset, before.seq, before.time_ns, before.last_crc, before.sources)
        self.replay(segment)
        return self.cursor.offset > before.offset

    def cut_off(self, segment: Segment, offset: int, cut: bytes, later: list[Segment]) -> None:
        """Saves what a crash left behind, then removes it: later segments from the last one back, then the tail."""
        folder = self.store.folder("torn")
        if cut:
            path = self.free_name(folder, "bin")
            self.files.write_file(path, cut)
            self.found.saved.append(path)
        for other in reversed(later):
            assert other.path is not None
            to = self.free_name(folder, f"{other.number:08d}.seg")
            self.files.rename(other.path, to)
            self.files.sync_directory(folder)
            self.files.sync_directory(os.path.dirname(other.path))
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

    def free_name(self, folder: str, end: str) -> str:
        """A name that no file in the folder has: the first seq that was cut, a count, and `end`."""
        count = 0
        while os.path.lexists(path := os.path.join(folder, f"{self.state.seq + 1:020d}-{count}.{end}")):
            count += 1
        return path

    def lost(self, segment: Segment, offset: int, reason: str) -> CorruptLogError:
        """The error of a segment that ends before a checkpoint's place in it."""
        return damaged(segment.path, offset, self.state.seq + 1, reason, self.state.seq)

    def stop(self, error: CorruptLogError) -> Recovered:
        """Damage: raised when opening to write; a read-only State shows what is before it."""
        if not self.read_only:
            raise error
        if self.found.damage is None:
            self.found.damage = error
        return self.found


def attach_last(log: FileLog, recovery: Recovery) -> None:
    """Goes on appending to the last segment, or makes the first one."""
    segment, cursor, state = recovery.last, recovery.cursor, log.owner()
    note_unsynced(log, recovery)
    if segment is None and log.base is not None:
        log.first_number = log.base.segment
    if segment is None or segment.path is None or cursor is None or segment.path.endswith(".zst"):
        go_on_after(log, segment)
        return
    capacity, memory = segment.head.capacity, None
    with ExitStack() as opened:
        fd = log.files.open(segment.path, os.O_RDWR)
        opened.callback(log.files.close, fd)
        log.buffers.forget(segment.number)
        hollow = capacity > max(DENSE_BYTES, log.segment_bytes or 0) and log.files.has_holes(fd, capacity)
        if hollow or max(cursor.sources, default=0) >= SOURCE_ID_MOST:
            # To reserve what is missing of a segment that only claims to be large might fill the disk, and after the
            # last id there is no other. The log goes on in a new one.
            segment.fd = fd
            opened.pop_all()
            go_on_after(log, segment)
            return
        # Blocks that a copy of the file left out are reserved again: a store into a hole may find the disk full.
        if log.mapped and log.reserve(fd, capacity):
            memory = log.files.map(fd, capacity, True)
        segment.fd, segment.data_end = fd, capacity
        opened.pop_all()
    log.attach(segment, memory, max(segment.tail, HEADER_BYTES), state.last_crc)
    for local_id, name in cursor.sources.items():
        state._define_source(name, local_id)


def go_on_after(log: FileLog, segment: Segment | None) -> None:
    """Appends go to a new segment behind this one, which never was the active one."""
    if segment is not None:
        log.segments.append(segment)
    tail = segment.tail if segment is not None else 0
    log.roll(log.owner(), 0)
    if segment is not None:
        segment.tail = tail  # sealing took it for that of the active one


def note_unsynced(log: FileLog, recovery: Recovery) -> None:
    """Of a process that died, sealed segments may still be unsynced: what the next sync calls durable includes them."""
    mark = recovery.mark
    for segment in log.segments:
        if mark is not None and segment.number >= mark.segment and segment.path is not None:
            segment.fd = log.files.open(segment.path, os.O_RDWR)
            log.unsynced.append(segment)
    if log.durability == "power":
        log.sync_older_segments(log.owner())
