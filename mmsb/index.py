"""Indexes: the segment indexes of one State's log, made when they are first needed, and the oldest uses forgotten."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmsb._core.index import SegmentIndex
from mmsb.errors import CorruptLogError

if TYPE_CHECKING:
    from mmsb.segments import Segment
    from mmsb.state import State

INDEXES_BYTES = 1 << 30  # half of it can be stills


class Reader:
    """One segment with its index and its bytes: what time travel works on. Made by Indexes.of()."""

    __slots__ = ("_sources", "data", "index")

    def __init__(self, index: SegmentIndex, data: Any) -> None:
        self.index = index
        self.data = data
        self._sources: dict[int, str] | None = None

    @property
    def sources(self) -> dict[int, str]:
        """{local id: name} of the sources that the segment defines."""
        if self._sources is None:
            self._sources = self.index.sources(self.data)
        return self._sources


class Indexes:
    """The indexes of `state._log`, by segment number. Bounded in bytes; the newest use is kept in any case."""

    def __init__(self, state: State, limit_bytes: int = INDEXES_BYTES) -> None:
        self.owner: Callable[[], State] = weakref.ref(state)  # type: ignore[assignment]  # it keeps its indexes
        self.limit_bytes = limit_bytes
        self.kept: OrderedDict[int, SegmentIndex] = OrderedDict()
        self.lock = threading.Lock()
        self.bases: Any = None  # of mmsb.bases, made when first needed

    def existing(self, segment: Segment) -> SegmentIndex | None:
        """The index of a segment if there is one already (of the active segment it may lag behind)."""
        return self.kept.get(segment.number)

    def forget(self, segment: Segment) -> None:
        """The segment is gone from the log."""
        with self.lock:
            self.kept.pop(segment.number, None)

    def of(self, segment: Segment, until: int | None = None) -> Reader:
        """The segment's Reader, its index reaching at least to commit `until` (None: to its last one).

        CorruptLogError when the segment is damaged before that.
        """
        log = self.owner()._log
        index = self.kept.get(segment.number)
        if index is None:
            with self.lock:
                index = self.kept.setdefault(segment.number, SegmentIndex(segment.head))
        elif until is not None and index.seq >= until:
            return Reader(index, log.buffer(segment))
        if segment is log.active:
            log.settle()
        data = self.extend(segment, index, log.buffer(segment))
        self.trim(index)
        return Reader(index, data)

    def extend(self, segment: Segment, index: SegmentIndex, data: Any) -> Any:
        """Brings an index up to its segment's tail. Returns the bytes that it then fits."""
        log, tail = self.owner()._log, segment.tail  # another thread may move it on
        try:
            index.extend(data, tail)
            if index.offset < tail and segment.memory is None:
                log.buffers.forget(segment.number)  # read before the file had grown to here
                data = log.buffer(segment)
                index.extend(data, tail)
        except Exception:
            self.forget(segment)  # it may have taken a frame in half
            raise
        if index.offset < tail:
            # The tail was a bound if the next segment came meanwhile: now it is looked for.
            data = log.buffer(segment)
            tail = segment.tail
        if index.offset < tail:
            raise CorruptLogError(
                f"{segment.path or 'The log in memory'} ends at offset {index.offset} instead of {tail}. "
                "Run `mmsb verify` on the store.",
                path=segment.path,
                offset=index.offset,
                seq=index.seq + 1,
                reason="frames are missing",
            )
        return data

    def add_stills(self, readers: list[Reader]) -> None:
        """Makes stills in the segments of readers that follow one another, newest first: each carries on those of the
        one before. Where the index was forgotten meanwhile they would be forgotten with it, and none are made.
        """
        before: SegmentIndex | None = None
        for reader in reversed(readers):
            index = reader.index
            if self.kept.get(index.head.number) is index:
                index.add_stills(reader.data, before)
                self.trim(index)
            before = index

    def trim(self, used: SegmentIndex) -> None:
        """Forgets the indexes that were not extended or asked for to their end for longest."""
        with self.lock:
            if used.head.number in self.kept:
                self.kept.move_to_end(used.head.number)
            while len(self.kept) > 1 and sum(index.nbytes for index in self.kept.values()) > self.limit_bytes:
                self.kept.popitem(last=False)
