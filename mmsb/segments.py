"""Segments of the log: where their bytes are, and reading them whole."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES, Cursor, SegmentHead
from mmsb.errors import CorruptLogError, FormatVersionError

BUFFERS_BYTES = 256 << 20
DENSE_BYTES = 64 << 20  # a larger file is looked at for holes before memory is taken for it


class Segment:
    """One segment. `tail`: offset after its last frame. `memory`: its mapping or memfd while it can be read there.

    `ends`: (seq, CRC) of its last frame as the next segment tells it, while its frames have not been read and `tail`
    is therefore only a bound (Log.buffer finds it).
    """

    def __init__(self, head: SegmentHead, tail: int, *, path: str | None = None, fd: int = -1, memory: Any = None):
        self.head = head
        self.tail = tail
        self.path = path
        self.fd = fd
        self.memory = memory
        self.sealed = False
        self.ends: tuple[int, int] | None = None
        self.data_end = head.capacity  # only zeros follow it in the file

    @property
    def number(self) -> int:
        """1, 2, 3, ..."""
        return self.head.number

    @property
    def base_seq(self) -> int:
        """Seq of the last commit before this segment."""
        return self.head.base_seq


class Buffers:
    """The bytes of sealed segments, read with pread when needed, the last used ones kept (bounded in bytes)."""

    def __init__(self, files: Files, limit: int = BUFFERS_BYTES) -> None:
        self.files = files
        self.limit = limit
        self.kept: OrderedDict[int, Any] = OrderedDict()
        self.growing: tuple[Segment, bytearray, int] | None = None  # appended to without a mapping; known up to there
        self.lock = threading.RLock()  # a signal handler may read while its thread fills the buffer

    def of(self, segment: Segment) -> Any:
        """Bytes-like of a segment from offset 0."""
        memory = segment.memory
        if memory is not None:
            return memory
        with self.lock:
            if segment.number in self.kept:
                self.kept.move_to_end(segment.number)
                return self.kept[segment.number]
            if (segment.fd >= 0 and not segment.sealed) or (self.growing and self.growing[0] is segment):
                return self.grow(segment)
        data = read_segment(self.files, segment)
        with self.lock:
            return self.keep(segment, data)

    def keep(self, segment: Segment, data: Any) -> Any:
        """Remembers the bytes of a sealed segment. Call it with the lock."""
        self.kept[segment.number] = data
        while len(self.kept) > 1 and sum(map(len, self.kept.values())) > self.limit:
            self.kept.popitem(last=False)
        return data

    def grow(self, segment: Segment) -> bytearray:
        """The bytes of the segment that is appended to without a mapping. Call it with the lock.

        There is one buffer, filled up as the log goes on: whoever has held it since it was shorter finds in it all that
        an index of the segment has learned meanwhile.
        """
        if self.growing is None or self.growing[0] is not segment:
            before, self.growing = self.growing, (segment, bytearray(segment.head.capacity), 0)
            if before is not None:
                with suppress(OSError):  # it was compacted away
                    self.fill(*before)
        return self.fill(*self.growing)

    def fill(self, segment: Segment, data: bytearray, known: int) -> bytearray:
        """Reads what came since into a buffer; what is in front of the segment's tail stays as it is."""
        sealed, tail = segment.sealed, segment.tail
        if tail > known:
            fresh = memoryview(read_segment(self.files, segment))[known:tail]
            memoryview(data)[known : known + len(fresh)] = fresh
        if sealed:
            self.keep(segment, data)
        if self.growing is not None and self.growing[0] is segment:
            self.growing = None if sealed else (segment, data, max(tail, known))
        return data

    def forget(self, number: int) -> None:
        """Drops one segment's bytes."""
        with self.lock:
            self.kept.pop(number, None)


def read_segment(files: Files, segment: Segment) -> Any:
    """The file's bytes, decompressed when it is compressed. FileNotFoundError when it is gone."""
    while True:
        path = segment.path
        assert path is not None
        try:
            return read_raw(files, segment, path) if not path.endswith(".zst") else read_packed(files, segment, path)
        except FileNotFoundError:
            # It may have been compressed just now, by this process or by the one that writes the store.
            if segment.path == path:
                packed = path + ".zst"
                if path.endswith(".zst") or not os.path.exists(packed):
                    raise
                segment.path = packed


def unfit(path: str | None, seq: int | None, reason: str) -> CorruptLogError:
    """The error of a file that is missing, or is not the one that belongs there."""
    return CorruptLogError(
        f"{path} does not fit the store: {reason}. Restore the store's files from one backup, or open it with "
        "read_only=True to save what is before the damage.",
        path=path,
        offset=0,
        seq=seq,
        reason=reason,
    )


def read_raw(files: Files, segment: Segment, path: str) -> Any:
    """The bytes of a segment file, up to the segment's tail when it is sealed."""
    limit = segment.head.capacity
    fd = files.open(path, os.O_RDONLY)
    try:
        wanted = min(segment.tail, limit) if segment.sealed else limit
        # A header may claim any capacity: no memory is taken for more than there is.
        wanted = min(wanted, files.size(fd))
        if wanted <= DENSE_BYTES:
            return files.pread(fd, wanted, 0)
        data, segment.data_end = files.pread_sparse(fd, wanted)
        return data
    finally:
        files.close(fd)


def read_packed(files: Files, segment: Segment, path: str) -> bytes:
    """The content of a compressed segment file."""
    from mmsb.compression import decompress

    limit = segment.head.capacity
    return decompress(files.read_file(path, limit + (1 << 20)), limit, path)


def read_head(files: Files, path: str) -> SegmentHead:
    """The header of a segment file. CorruptLogError, FormatVersionError."""
    if path.endswith(".zst"):
        from mmsb.compression import decompress_head

        data = decompress_head(files, path, HEADER_BYTES)
    else:
        data = files.read_start(path, HEADER_BYTES)
    head, reason = SegmentHead.decode(data) if data else (None, "damaged")
    if head is not None:
        return head
    if reason.startswith("newer"):
        raise FormatVersionError(
            f"{path} was written in a newer format ({reason}). Install a newer mmsb.",
            path=path,
            version=int(reason.rsplit(" ", 1)[1]),
            supported=1,
        )
    raise CorruptLogError(
        f"The header of {path} is damaged. Run `mmsb verify`, or open the store with read_only=True to save the rest.",
        path=path,
        offset=0,
        seq=None,
        reason="damaged header",
    )


def cursor_of(segment: Segment, buffer: Any, state: Any = None) -> Cursor:
    """A Cursor over a segment's bytes that stops at its tail."""
    cursor = Cursor(buffer, segment.head, state)
    cursor.limit(segment.tail)
    return cursor
