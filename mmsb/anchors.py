"""Anchors: the chain of BLAKE3 hashes over the canonical content of a store's commits. docs/formats/log.md, "Anchors".

An anchor is the hash of the one before it and of every commit since. Commits are fed to the hash as they come, by the
flusher and without keeping writers out, so that little is left to hash when the anchor itself is appended.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from mmsb._core.log import HEADER_BYTES
from mmsb.segments import cursor_of

if TYPE_CHECKING:
    from mmsb._core.log import Cursor
    from mmsb.log import FileLog
    from mmsb.segments import Segment
    from mmsb.state import State

# While more than this is left to hash, writers are not kept out for it; but no more than so many rounds.
LEFT_BYTES = 1 << 20
ROUNDS = 4


class Anchors:
    """The chain of one FileLog. `head`: the newest anchor. Its position is what was fed to the hash so far."""

    def __init__(self, log: FileLog, head: bytes = bytes(32)) -> None:
        self.log: FileLog = weakref.proxy(log)  # it owns its anchors
        self.lock = threading.Lock()
        self.torn = False  # whether an exception (of a signal handler, say) left the position half moved
        self.start(head, 0, HEADER_BYTES, None)

    def start(self, head: bytes, number: int, offset: int, seek: tuple[int, int, int, dict[int, str]] | None) -> None:
        """The anchor `head` covers all before `offset` of segment `number`.

        `seek`: (seq, time_ns, last_crc, sources) there, None at the beginning of a segment.
        """
        self.begun = (head, number, offset, seek)
        self.head = head
        self.number = number
        self.offset = offset
        self.seek = seek
        self.hasher: Any = None
        self.pending = False  # whether there is a commit in the hash

    def passed(self, segment: Segment, cursor: Cursor, anchor: bytes, seq: int, time_ns: int) -> None:
        """A replay passed an anchor; the cursor stands behind it."""
        self.start(anchor, segment.number, cursor.offset, (seq, time_ns, cursor.last_crc, dict(cursor.sources)))

    def update(self, data: Any) -> None:
        """Feeds the hash."""
        if self.hasher is None:
            self.hasher = self.log.store.hasher(self.head)
        self.hasher.update(data)
        self.pending = True

    def feed(self) -> int:
        """Hashes the commits up to where the log ends now. Returns how many bytes of log that were."""
        if self.torn:
            self.begin_again()
        self.torn = True
        fed = 0
        self.log.settle()
        for segment in list(self.log.segments):
            if segment.number < self.number:
                continue
            if segment.number > self.number:
                self.number, self.offset, self.seek = segment.number, HEADER_BYTES, None
            tail = segment.tail
            if tail <= self.offset:
                continue
            cursor = cursor_of(segment, self.log.buffer(segment))
            if self.seek is not None:
                cursor.seek(self.offset, *self.seek)
            cursor.limit(tail)
            cursor.canonical(self.update)
            fed += cursor.offset - self.offset
            self.offset = cursor.offset
            self.seek = (cursor.seq, cursor.time_ns, cursor.last_crc, dict(cursor.sources))
            self.log.check_read(cursor, segment)
        self.torn = False
        return fed

    def begin_again(self) -> None:
        """Goes back to the newest anchor that the log holds: whether the last one was appended, only the log knows."""
        self.start(*self.begun)
        self.log.settle()
        for segment in list(self.log.segments):
            if segment.number < self.begun[1]:
                continue
            cursor = cursor_of(segment, self.log.buffer(segment))
            if segment.number == self.begun[1] and self.begun[3] is not None:
                cursor.seek(self.begun[2], *self.begun[3])
            for frame in cursor:
                if frame.kind == "anchor":
                    self.passed(segment, cursor, frame.anchor, frame.seq, frame.time_ns)

    def catch_up(self) -> None:
        """Hashes most of what is new, while writers go on."""
        with self.lock:
            for _ in range(ROUNDS):
                if self.feed() < LEFT_BYTES:
                    return

    def append(self, state: State) -> None:
        """Appends an anchor over all commits so far, if there is one since the last. Takes no seq.

        Call it inside _exclusive(). StoreFullError when there is no room for it: it may be tried again.
        """
        with self.lock:
            self.feed()
            if not self.pending:
                return
            anchor = self.hasher.digest()
            self.torn = True
            state._append_anchor(anchor, False)
            self.log.settle()
            active = self.log.active
            sources = state._segment_sources()
            self.start(anchor, active.number, active.tail, (state.seq, state.time_ns, state.last_crc, sources))
            self.torn = False
