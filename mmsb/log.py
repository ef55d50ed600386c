"""The log of one State: its segments, where appends go, and reading it from end to end.

MemoryLog keeps its segments in memfds, FileLog in the files of a store.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mmsb._core.files import Files, Mapping, Memory
from mmsb._core.log import END, HEADER_BYTES, Cursor, Frame, SegmentHead
from mmsb._core.state import Core
from mmsb.anchors import Anchors
from mmsb.errors import CommitInDoubtError, CorruptLogError, MMSBError, RetentionError, StoreFullError
from mmsb.horizon import HORIZON_BYTES, Horizon, Mark
from mmsb.segments import Buffers, Segment, cursor_of, read_segment, unfit

if TYPE_CHECKING:
    from mmsb.state import State

SEGMENT_BYTES_FIRST = 1 << 20
SEGMENT_BYTES_MOST = 64 << 20
SEGMENT_BYTES_LEAST = 4096
UNSYNCED_MOST = 64  # sealed segments that wait for a sync, each with a descriptor


class Log:
    """What both kinds share. `segments` ascend; the last one is the active one."""

    def __init__(self, state: State, files: Files, segment_bytes: int | None) -> None:
        # The State whose log this is. It keeps its log, and whoever asks for it keeps the State.
        self.owner: Callable[[], State] = weakref.ref(state)  # type: ignore[assignment]
        self.files = files
        self.segment_bytes = segment_bytes
        self.segments: list[Segment] = []
        self.buffers = Buffers(files)
        self.base: Any = None  # image of the oldest kept state, None when history begins at 0
        # Of work in the background that could be done without; the newest ones.
        self.failures: deque[Exception] = deque(maxlen=16)
        self.tail_lock = threading.Lock()

    @property
    def active(self) -> Segment:
        """The segment that is appended to; the last one."""
        return self.segments[-1]

    @property
    def first_seq(self) -> int:
        """The oldest seq whose state can be rebuilt."""
        return self.base.seq if self.base is not None else 0

    def next_capacity(self, needed_bytes: int) -> int:
        """Bytes of the next segment: growing by doubling, and enough for a frame of `needed_bytes`."""
        size = self.segment_bytes or min(
            SEGMENT_BYTES_MOST, self.active.head.capacity * 2 if self.segments else SEGMENT_BYTES_FIRST
        )
        return max(size, -(-(needed_bytes + HEADER_BYTES + 8) // 4096) * 4096)

    def next_head(self, capacity: int) -> SegmentHead:
        """Header of the segment that follows the active one."""
        state = self.owner()
        last = self.segments[-1].head if self.segments else None
        return SegmentHead(
            uuid=self.uuid,
            salt=self.salt,
            base_seq=state.seq,
            base_time_ns=state.time_ns if state.seq else self.created_ns,
            capacity=capacity,
            durable_seq=state.durable_seq,
            prev_crc=state.last_crc,
            number=last.number + 1 if last else self.first_number,
            anchor=self.anchor_head,
        )

    @property
    def anchor_head(self) -> bytes:
        """The newest anchor; zeros before the first."""
        return bytes(32)

    uuid: bytes
    salt: bytes
    created_ns: int
    first_number = 1  # of the first segment; 2 where a fork's base stands in for the one before

    def settle(self) -> None:
        """Notes where the active segment ends now. Cheap; called before reading."""
        state = self.owner()
        if not state.read_only:
            # Not while another thread is changing over to the next segment.
            with self.tail_lock:
                self.active.tail = state._active_tail

    def buffer(self, segment: Segment) -> Any:
        """Bytes-like of a segment from offset 0."""
        data = self.buffers.of(segment)
        if segment.ends is not None:
            self.find_tail(segment, data)
        return data

    def find_tail(self, segment: Segment, data: Any) -> None:
        """Finds where the frames end in a segment that opening did not read.

        Leaves the tail at its bound when they do not end as they should; whoever reads the segment finds the damage.
        """
        cursor = cursor_of(segment, data)
        cursor.canonical(len)
        if cursor.stopped == END and (cursor.seq, cursor.last_crc) == segment.ends:
            segment.tail = cursor.offset
        segment.ends = None

    def cursor(self, segment: Segment) -> Cursor:
        """A Cursor before the segment's first frame that stops at its last applied one."""
        if segment is self.active:
            self.settle()
        tail = segment.tail  # another thread may move it on after the buffer was filled, or find it before
        cursor = cursor_of(segment, self.buffer(segment), self.owner())
        cursor.limit(min(tail, segment.tail))
        return cursor

    def listed(self) -> list[Segment]:
        """The segments, ascending. Every commit whose seq was seen before is in one of them."""
        return self.segments

    def segment_of(self, seq: int) -> Segment:
        """The segment that holds commit `seq` (the active one for what is still to come)."""
        segments = self.listed()
        low, high = 0, len(segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if segments[middle].base_seq < seq:
                low = middle
            else:
                high = middle - 1
        return segments[low]

    def frames(self, since: int = 1, until: int | None = None) -> Iterator[Frame]:
        """Frames of the commits since..until and the anchors between them, ascending, read as they are asked for.

        CorruptLogError where a segment is damaged.
        """
        state = self.owner()  # a State that nobody else keeps stays as long as its frames are read
        until = state.seq if until is None else min(until, state.seq)
        first = self.segment_of(max(since, 1))
        for segment in list(self.listed()):
            if segment.number < first.number:
                continue
            if segment.base_seq >= until:
                return
            cursor = self.cursor(segment)
            self.skip_to(cursor, segment, since)
            for frame in cursor:
                if frame.seq > until:
                    return
                if frame.seq >= since:
                    yield frame
                    if frame.seq == until and frame.kind == "commit":
                        return
            self.check_read(cursor, segment)

    def skip_to(self, cursor: Cursor, segment: Segment, seq: int) -> None:
        """Moves a fresh cursor forward where an index knows a frame before commit `seq`."""
        index = self.owner()._indexes.existing(segment)
        if index is not None:
            index.seek(cursor, seq)

    def check_read(self, cursor: Cursor, segment: Segment) -> None:
        """Raises CorruptLogError when a cursor stopped before its end. The segment's tail may lie behind that by now:
        another thread appends.
        """
        if cursor.offset >= cursor.end:
            return
        raise CorruptLogError(
            f"{segment.path or 'The log in memory'} is damaged at offset {cursor.offset} (commit {cursor.seq + 1}): "
            f"{cursor.stopped}. Run `mmsb verify` on the store, or save what is before it with read_only=True.",
            path=segment.path,
            offset=cursor.offset,
            seq=cursor.seq + 1,
            reason=cursor.stopped,
        )

    def seal_active(self) -> None:
        """The active segment takes no more frames."""
        if self.segments:
            self.settle()
            self.active.sealed = True

    def use(self, segment: Segment, address: int, tail: int, last_crc: int) -> None:
        """Appends go to `segment` from now on."""
        head = segment.head
        if self.owner()._server is not None:
            self.owner()._server.log_came(segment)
        with self.tail_lock:
            self.segments.append(segment)
            self.owner()._use_segment(
                head.number,
                segment.fd,
                address,
                head.capacity,
                tail,
                head.base_seq,
                head.base_time_ns,
                head.salt,
                last_crc,
            )

    def forget(self, segments: list[Segment]) -> None:
        """Takes segments out of the log. Call it inside _exclusive()."""
        self.segments = [segment for segment in self.segments if segment not in segments]
        for segment in segments:
            self.buffers.forget(segment.number)
            self.owner()._indexes.forget(segment)

    def protect(self) -> None:
        """In a forked child: nothing there can write to the log of its parent."""
        for segment in self.segments:
            if segment.memory is not None:
                segment.memory.protect()

    def bytes_used(self) -> int:
        """Bytes of frames and headers in all segments."""
        self.settle()
        return sum(segment.tail for segment in self.segments)

    def anchored(self, frame: Frame) -> None:
        """A replay passed an anchor."""


class MemoryLog(Log):
    """Segments in memfds. With `history` (bytes) the oldest ones are folded into a base image."""

    def __init__(self, state: State, *, salt: bytes, uuid: bytes, created_ns: int, history: int | None, **how: Any):
        super().__init__(state, **how)
        self.salt, self.uuid, self.created_ns = salt, uuid, created_ns
        self.history = history

    def roll(self, state: State, needed_bytes: int) -> None:
        """Makes a new active segment with room for a frame of `needed_bytes`."""
        head = self.next_head(self.next_capacity(needed_bytes))
        memory = Memory(head.capacity)
        memoryview(memory)[:HEADER_BYTES] = head.encode()
        self.seal_active()
        self.use(Segment(head, HEADER_BYTES, memory=memory), memory.address, HEADER_BYTES, state.last_crc)
        if self.history is not None:
            self.forget_oldest()

    def forget_oldest(self) -> None:
        """Folds segments into the base while more than `history` bytes are kept."""
        while len(self.segments) > 2 and sum(segment.tail for segment in self.segments) > (self.history or 0):
            segment = self.segments[0]
            if not isinstance(self.base, Core):
                # History began at 0, or with the checkpoint that this State was opened from.
                base = self.owner().scratch()
                if self.base is not None:
                    self.base.load_into(base)
                self.base = base
            self.base._replay(cursor_of(segment, self.buffer(segment)))
            self.owner()._indexes.forget(segment)
            if self.owner()._server is not None:
                self.owner()._server.log_went(segment)
            self.segments = self.segments[1:]

    def sync(self, state: State) -> None:
        """Memory has nothing to sync."""

    def sync_older_segments(self, state: State) -> None:
        """Memory has nothing to sync."""

    def wake(self, state: State) -> None:
        """Memory has no flusher."""

    def close(self) -> None:
        """Memory goes with its last user."""


def full(error: OSError, path: str, needed_bytes: int) -> StoreFullError | None:
    """The StoreFullError of an OSError that means a full disk or quota, else None."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return StoreFullError(
        f"There is no room for {needed_bytes} more bytes at {path} ({error.strerror}). "
        "Free space and try again; nothing was changed.",
        path=path,
        needed_bytes=needed_bytes,
        errno=error.errno,
    )


@contextmanager
def room_for(path: str, needed_bytes: int) -> Iterator[None]:
    """A full disk or quota is a StoreFullError inside."""
    try:
        yield
    except OSError as error:
        found = None if isinstance(error, MMSBError) else full(error, path, needed_bytes)
        if found is None:
            raise
        raise found from error


class FileLog(Log):
    """Segments in the files `log/NNNNNNNN.seg` of a store, preallocated and mapped."""

    def __init__(self, state: State, store: Any, *, durability: str, mapped: bool = True, **how: Any):
        super().__init__(state, **how)
        self.store = store
        self.uuid, self.salt, self.created_ns = store.uuid, store.salt, store.created_ns
        self.durability = durability
        self.mapped = mapped
        self.horizon: Horizon | None = None
        self.unsynced: list[Segment] = []  # sealed
        self.syncing: list[Segment] = []  # what a sync has taken of them, and the segment that was active then
        self.sync_lock = threading.Lock()
        self.flusher: Any = None
        self.anchors = Anchors(self)

    @property
    def anchor_head(self) -> bytes:
        """The newest anchor; zeros before the first."""
        return self.anchors.head

    def buffer(self, segment: Segment) -> Any:
        """As Log.buffer. RetentionError when the writer of the store compacted the segment away."""
        try:
            return super().buffer(segment)
        except FileNotFoundError as error:
            raise self.gone(segment) from error

    def read_anew(self, segment: Segment) -> Any:
        """All bytes of a segment's file as it is now. Errors as those of buffer()."""
        whole = Segment(segment.head, segment.head.capacity, path=segment.path)
        try:
            data = read_segment(self.files, whole)
            segment.data_end = whole.data_end
            return data
        except FileNotFoundError as error:
            raise self.gone(segment) from error

    def gone(self, segment: Segment) -> MMSBError:
        """The error of a segment whose file is not there: history before a new base was compacted, or it was lost.

        A reader beside the writer that compacted goes on with what is kept of what it knows.
        """

        def explains(base: Any) -> bool:
            return base is not None and base.segment > segment.number

        base = self.base  # another thread may have compacted, and may be deleting the base before that one just now
        if not explains(base):
            base = self.store.steadily(lambda: self.owner()._checkpoints.newest_base()[0], explains)
            if not explains(base):
                return unfit(segment.path, segment.base_seq + 1, "the file is missing")
            with self.owner()._exclusive():
                if self.first_seq < base.seq <= self.owner().seq:
                    self.base = base
                    self.forget([old for old in self.segments if old.number < base.segment])
        return RetentionError(
            f"The writer of the store compacted its history meanwhile: it begins at seq {base.seq} now. Ask for that "
            "or what follows, or open the store again.",
            seq=segment.base_seq + 1,
            first_seq=base.seq,
        )

    def roll(self, state: State, needed_bytes: int) -> None:
        """Makes a new active segment. StoreFullError when the disk is full; nothing changed then."""
        self.relieve(state)
        head = self.next_head(self.next_capacity(needed_bytes))
        path = self.store.segment_path(head.number)
        aside = path + ".new"
        fd = -1
        try:
            fd = self.files.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            mapped = self.mapped and self.reserve(fd, head.capacity)
            self.files.pwrite(fd, head.encode(), 0)
            self.files.fdatasync(fd)
            memory = self.files.map(fd, head.capacity, True) if mapped else None
            self.files.rename(aside, path)
            self.files.sync_directory(os.path.dirname(path))
        except OSError as error:
            self.abandon(fd, aside)
            raise full(error, path, head.capacity) or self.doubt(state, error) from error
        self.seal_active()
        if self.segments and self.active.fd >= 0:
            if self.durability == "power":
                self.guarded(state, self.files.fdatasync, self.active.fd)
            if self.active not in self.syncing:
                self.unsynced.append(self.active)
        self.attach(Segment(head, HEADER_BYTES, path=path, fd=fd), memory, HEADER_BYTES, state.last_crc)

    def relieve(self, state: State) -> None:
        """Syncs what was sealed where much of it waits: each has a descriptor, and there are not many of them. Call it
        inside _exclusive().
        """
        if len(self.unsynced) < UNSYNCED_MOST:
            return
        for segment in self.unsynced:
            self.guarded(state, self.files.fdatasync, segment.fd)
        older, self.unsynced = self.unsynced, []
        for segment in older:
            self.release(segment)

    def attach(self, segment: Segment, memory: Mapping | None, tail: int, last_crc: int) -> None:
        """Appends to `segment` through its mapping, or with pwrite when there is none."""
        segment.memory = memory
        self.use(segment, memory.address if memory is not None else 0, tail, last_crc)

    def reserve(self, fd: int, capacity: int) -> bool:
        """Preallocates a segment. False where the file system cannot, or where mapping it would not be safe."""
        try:
            self.files.fallocate(fd, capacity)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return False
        return self.files.filesystem(fd) in self.store.MAPPABLE

    def abandon(self, fd: int, aside: str) -> None:
        """Removes what a failed roll left."""
        try:
            if fd >= 0:
                self.files.close(fd)
                self.files.unlink(aside)
        except OSError:
            pass  # the next roll truncates it

    # ---- making durable

    def sync_older_segments(self, state: State) -> None:
        """Syncs the sealed segments that still have unsynced frames. Call it inside _exclusive()."""
        for segment in (*self.syncing, *self.unsynced):
            self.guarded(state, self.files.fdatasync, segment.fd)

    def guarded(self, state: State, operation: Any, *arguments: Any) -> None:
        """Runs a write or sync; a failure poisons the writer for good."""
        try:
            operation(*arguments)
        except OSError as error:
            raise self.doubt(state, error) from error

    def doubt(self, state: State, error: OSError) -> CommitInDoubtError:
        """Poisons the writer for good, because nobody knows what a failed write or sync left. The error to raise."""
        state._poison(error.errno or errno.EIO)
        return CommitInDoubtError(
            f"Writing or syncing the log failed ({error.strerror}). Close the State and open the store again; "
            "recovery decides.",
            seq=state.seq,
            errno=error.errno,
        )

    def must_be_sound(self, state: State) -> None:
        """Raises CommitInDoubtError after a failed write or sync. None is tried again: what it left is unknown."""
        if state.poisoned:
            raise CommitInDoubtError(
                "An earlier write or sync failed. Close the State and open the store again; recovery decides.",
                seq=state.seq,
                errno=errno.EIO,
            )

    def sync(self, state: State, *, anchor: bool = True, clean: bool = False) -> None:
        """Makes all commits so far durable. `anchor`: also chains them and moves the horizon. `clean`: for closing.

        One thread at a time; writers are kept out only for as long as it takes to note where the log ends.
        """
        with self.sync_lock, state._timed("sync"):
            self.must_be_sound(state)
            if anchor:
                self.anchors.catch_up()
            with state._exclusive():
                if anchor:
                    self.try_anchor(state)
                self.settle()
                active = self.active
                mark = Mark(
                    state.seq, active.number, active.tail, state.last_crc, state.time_ns, self.anchor_head, clean
                )
                if self.horizon is not None and self.horizon.mark == mark:
                    return
                self.syncing, self.unsynced = [*self.syncing, *self.unsynced, active], []
            for segment in self.syncing:
                self.guarded(state, self.files.fdatasync, segment.fd)
            with state._exclusive():
                self.must_be_sound(state)  # a write may have failed meanwhile, and have taken the error from this sync
                state.durable_seq = mark.durable_seq
            if anchor and self.horizon is not None:
                self.move_horizon(state, self.horizon, mark)
            with state._exclusive():
                older, self.syncing = [segment for segment in self.syncing if segment is not active], []
                if active is not self.active:
                    self.unsynced.append(active)  # it was sealed meanwhile, with frames that this sync has not seen
            for segment in older:
                self.release(segment)

    def try_anchor(self, state: State) -> None:
        """An anchor needs a few bytes of log. Where a full disk refuses them, commits can be synced all the same."""
        try:
            self.append_anchor(state)
        except StoreFullError as error:
            self.failures.append(error)

    def move_horizon(self, state: State, horizon: Horizon, mark: Mark) -> None:
        """Writes both slots when the log is closed, so that one damaged bit costs nothing.

        A full disk may refuse that where nothing is written in place; the commits are durable all the same.
        """
        for _ in range(2 if mark.clean else 1):
            try:
                horizon.put(mark)
            except OSError as error:
                if (found := full(error, horizon.path, HORIZON_BYTES)) is None:
                    raise self.doubt(state, error) from error
                self.failures.append(found)
                return
            self.guarded(state, horizon.sync)
        horizon.mark = mark

    def release(self, segment: Segment) -> None:
        """A sealed, synced segment needs its descriptor and mapping no more; it is read with pread."""
        segment.memory = None
        fd, segment.fd = segment.fd, -1
        if fd < 0:
            return  # listed twice: a signal handler raised while a segment was being made
        self.files.close(fd)
        self.store.sealed(segment)

    def append_anchor(self, state: State) -> None:
        """Chains all commits since the last anchor into one more. Call it inside _exclusive()."""
        self.anchors.append(state)

    replaying: tuple[Segment, Cursor] | None = None

    def anchored(self, frame: Frame) -> None:
        """A replay passed an anchor."""
        if self.replaying is not None:
            self.anchors.passed(*self.replaying, frame.anchor, frame.seq, frame.time_ns)

    def wake(self, state: State) -> None:
        """The first commit since the flusher slept."""
        if self.flusher is None:
            from mmsb.flusher import Flusher

            self.flusher = Flusher(state, self)
        self.flusher.wake()

    def close(self) -> None:
        """Closes every descriptor, whatever one of them says. Nothing is synced here."""
        with ExitStack() as closing:
            if self.horizon is not None:
                closing.callback(self.horizon.close)
            for segment in self.segments:
                segment.memory = None
                if segment.fd >= 0:
                    closing.callback(self.files.close, segment.fd)
                    segment.fd = -1

    def __del__(self) -> None:
        # Of a State that is dropped without being closed.
        with suppress(OSError):
            self.close()
