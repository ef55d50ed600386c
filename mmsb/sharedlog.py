"""The log of a State as a process sees it that is attached: segments that the owner hands over, and files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from mmsb._core.log import HEADER_BYTES, SegmentHead
from mmsb.bases import Base, Bases
from mmsb.errors import RetentionError
from mmsb.log import FileLog, Log
from mmsb.segments import Segment, read_head, unfit
from mmsb.store import Identity, Store, decode_identity

if TYPE_CHECKING:
    from mmsb._core.files import Files
    from mmsb._core.sharing import Region

# Of a stored State: segments that stay mapped. Older ones are read from their files.
MAPPED_MOST = 2


class Shared(Log):
    """What both kinds share: the newest segments are mapped, and grow while one looks."""

    owner: Callable[[], Any]  # of a View
    reader: Any  # of the same connection; after View.reattach() the view has another one, with another log

    def listed(self) -> list[Segment]:
        """The segments, ascending. The message of a new one is sent before there is a commit in it."""
        self.owner()._keep_up()
        return self.segments

    def settle(self) -> None:
        """Notes where the commits end: all whose seq anybody has seen are in front of that."""
        while True:
            with self.tail_lock:
                number, offset = self.reader.published()
                active = self.active
                if number <= active.number:
                    active.tail = offset if number == active.number else HEADER_BYTES
                    return
            self.owner()._keep_up()  # the message of a newer segment waits
            if active is self.active:
                return  # it never came: the connection has ended

    def came(self, region: Region) -> None:
        """A segment came: the one that is appended to from now on."""
        head, _ = SegmentHead.decode(memoryview(region)[:HEADER_BYTES])
        assert head is not None  # the reader has looked at it
        with self.tail_lock:
            if self.segments:
                if head.number <= self.active.number:
                    return
                before = self.active
                before.ends, before.sealed, before.tail = (head.base_seq, head.prev_crc), True, before.head.capacity
            self.segments.append(Segment(head, HEADER_BYTES, path=self.path_of(head.number), memory=region))
            for old in self.segments[:-MAPPED_MOST]:
                if old.path is not None:
                    old.memory = None

    def went(self, number: int) -> None:
        """The owner keeps a segment no more. One in a file is read from there."""

    def path_of(self, number: int) -> str | None:
        """Path of a segment's file."""
        return None


class SharedMemoryLog(Shared):
    """The log of a State in memory. What the owner drops is dropped here."""

    def __init__(self, view: Any, files: Files) -> None:
        super().__init__(view, files, None)
        self.reader = view._reader
        welcome = view._welcome
        self.uuid, self.salt, self.created_ns = welcome.uuid, welcome.salt, welcome.created_ns
        self.oldest_seq = welcome.first_seq

    @property
    def first_seq(self) -> int:
        """The oldest seq whose state can be rebuilt."""
        return self.oldest_seq

    def went(self, number: int) -> None:
        """The owner keeps a segment no more."""
        gone = [segment for segment in self.segments[:-1] if segment.number == number]
        if gone:
            self.oldest_seq = min(kept.base_seq for kept in self.segments if kept not in gone)
            self.forget(gone)


class SharedFileLog(Shared, FileLog):
    """The log of a stored State: its end is mapped, the rest is read from the files."""

    def __init__(self, view: Any, store: Store, files: Files) -> None:
        FileLog.__init__(self, view, store, durability="none", files=files, segment_bytes=None)
        self.reader = view._reader

    def path_of(self, number: int) -> str:
        """Path of a segment's file."""
        return str(self.store.segment_path(number))

    def find_older(self, until: int) -> None:
        """Finds where history begins and lists the segments from there to number `until`, which is known. Where their
        frames end is found out when they are read. CorruptLogError when one is missing, CorruptCheckpointError.
        """
        # The owner may be compacting: then the files that there were with one base are looked for with the next one.
        missing = self.store.steadily(lambda: self.look_for_older(until), lambda missing: missing is None)
        if missing is not None:
            raise unfit(self.path_of(missing), None, "the file is missing")

    def look_for_older(self, until: int) -> int | None:
        """The same, once. The number of a segment that is missing, None when all are there."""
        self.base = self.owner()._checkpoints.base(read_only=True)
        first = self.base.segment if self.base is not None else 1
        older = []
        for number, path in reversed(self.store.segment_paths()):
            if not first <= number < until:
                continue
            segment = Segment(read_head(self.files, path), 0, path=path)
            segment.sealed, segment.tail = True, segment.head.capacity
            older.append(segment)
        self.segments = older[::-1]
        for segment, following in zip(self.segments, self.segments[1:], strict=False):
            segment.ends = (following.base_seq, following.head.prev_crc)
        there = {segment.number for segment in older}
        return next((number for number in range(first, until) if number not in there), None)


class ReadStore(Store):
    """A store whose owner is another process. Its anchors are not looked at, so its key is not needed."""

    def identify(self, path: str) -> Identity:
        """Reads the file `store`."""
        return identity_of(self.files, path)


def identity_of(files: Files, path: str) -> Identity:
    """What a store says that it is. NotAStoreError, FormatVersionError, CorruptLogError, OSError."""
    file = os.path.join(path, "store")
    return decode_identity(files.read_file(file, 4096), file)


class UnsharedBase:
    """The state with which the kept history of a State in memory begins. Its owner keeps it to itself."""

    def __init__(self, seq: int) -> None:
        self.seq = seq

    def refuse(self, *_: object) -> NoReturn:
        """RetentionError."""
        raise RetentionError(
            f"The history of this State in memory begins at seq {self.seq}, with pages that only its owner has. Read "
            "the pages as they are now, or follow what comes.",
            seq=self.seq,
            first_seq=self.seq,
        )

    time_ns = branch = next_page_id = property(refuse)
    page_ids = info = content = name = notes = find = links = load_into = refuse


class SharedBases(Bases):
    """Where rebuilding the past begins in a process that is attached."""

    def oldest(self) -> Base:
        """The state with which the kept history begins."""
        log = self.state._log
        if log.base is None and log.first_seq:
            base: Any = UnsharedBase(log.first_seq)
            return base  # type: ignore[no-any-return]
        return super().oldest()
