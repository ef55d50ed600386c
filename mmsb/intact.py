"""What is provably intact in a store, whatever happened to it. Nothing is written here; mmsb/salvaging.py copies it.

A *stretch* is a history that can be replayed. It begins with the empty state or with an intact checkpoint and goes on
for as long as one frame follows the other: of this store by its salt, whole by its checksum, after the one before by
its seq and by that one's checksum, and as the anchors say. What lies between two stretches is a gap: commits that are
gone, and commits that are whole but cannot be applied, because the state that they were made in is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmsb._core.files import Files
from mmsb._core.log import END, HEADER_BYTES, Cursor, Frame, SegmentHead
from mmsb._core.state import Core
from mmsb.checkpoint import Image
from mmsb.digest import core_digest
from mmsb.errors import CorruptLogError
from mmsb.remains import SEGMENT_MOST, Remains, Segment, is_place, loaded

ANCHOR_MOST = 96  # bytes of the largest anchor frame
TOUCHING = frozenset(("delta", "create", "delete", "resize", "rename", "metadata", "link", "unlink"))


class Place(NamedTuple):
    """A place in the log, and all that reading on from there takes."""

    number: int
    offset: int
    seq: int
    time_ns: int
    last_crc: int
    sources: dict[int, str]


@dataclass
class Stretch:
    """A history that can be replayed: from `base` (None: the empty state) to `seq`. `pieces`: (place, end offset).

    `anchors_end`: where in the log the anchors stop to follow from one another, because one was lost. `chained`: they
    could be computed at all.
    """

    base: Image | None
    pieces: list[tuple[Place, int]]
    seq: int
    created_ns: int
    anchors_end: tuple[int, int] | None = None
    chained: bool = True
    digest: bytes = bytes(32)
    pages: list[int] = field(default_factory=list)

    @property
    def first_seq(self) -> int:
        """Of the oldest state in it."""
        return self.base.seq if self.base is not None else 0


class Intact(Remains):
    """The stretches of a damaged store. `passed` is called for each segment that was followed or surveyed."""

    def __init__(
        self, files: Files, path: str, anchor_key: bytes | None, passed: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(files, path, anchor_key)
        self.passed = passed
        self.matched = self.mismatched = False  # whether an anchor was met that did, and one that did not
        self.known = 0

    # ---- stretches

    def stretches(self) -> list[Stretch]:
        """All that can be replayed, oldest first; none begins in another."""
        found: list[Stretch] = []
        if self.origin is not None or any(self.begins(number) for number in self.segments):
            found.append(self.follow(self.origin))
        for seq in self.later:
            if not found or seq > found[-1].seq:
                found.append(self.follow(self.checkpoints.load(seq)))
        if self.mismatched and not self.matched and self.store.identity.keyed:
            raise ValueError(f"No anchor of {self.store.path} fits the anchor key. Give the key that it was made with.")
        return found

    def begins(self, number: int) -> bool:
        """Whether a segment begins with the first commit of all."""
        head = self.segments[number].head
        return head.base_seq == 0 if head is not None else number == 1

    def follow(self, base: Image | None) -> Stretch:
        """The stretch that begins with a checkpoint, or with the empty state."""
        if base is None:
            segment = self.segments[min(number for number in self.segments if self.begins(number))]
            time_ns = segment.head.base_time_ns if segment.head is not None else self.store.created_ns
            place = Place(segment.number, HEADER_BYTES, 0, time_ns, 0, {})
        else:
            place = Place(base.segment, base.offset, base.seq, base.time_ns, base.last_crc, base.sources)
        stretch = Stretch(base, [], place.seq, place.time_ns)
        chain = Chain(self, stretch)
        going: Place | None = place
        while going is not None and going.number in self.segments:
            going = self.follow_segment(self.segments[going.number], going, stretch, chain)
            self.passed()
        while True:
            try:
                core = self.replayed(stretch)
                break
            except CorruptLogError as error:
                # A frame that is whole and does not fit the pages was not written by mmsb.
                seq = error.facts["seq"]
                path = next(self.segments[at.number].path for at, _ in reversed(stretch.pieces) if at.seq < seq)
                self.note(path, error.facts["reason"], error.facts["offset"] or 0, seq=seq)
                stretch.seq = seq - 1
        stretch.digest, stretch.pages = core_digest(core), core._page_ids()
        return stretch

    def follow_segment(self, segment: Segment, place: Place, stretch: Stretch, chain: Chain) -> Place | None:
        """Reads on in one segment. Where the log goes on in the next one, None where the stretch ends."""
        if segment.head is None:
            # All that a header says follows from what lies before it; the first frame has to agree.
            segment.head = SegmentHead(
                uuid=self.store.uuid,
                salt=self.store.salt,
                base_seq=place.seq,
                base_time_ns=place.time_ns,
                capacity=SEGMENT_MOST,
                prev_crc=place.last_crc,
                number=segment.number,
            )
        data = self.data(segment)
        if not is_place(place.offset, data) or (place.offset == HEADER_BYTES and place.seq != segment.head.base_seq):
            return None
        cursor, feeder = Cursor(data, segment.head), Cursor(data, segment.head)
        here: Place | None = place
        while here is not None:
            for each in (cursor, feeder):
                each.limit(len(data))
                each.seek(*here[1:])
            stretch.pieces.append((here, here.offset))
            for frame in cursor:
                if frame.kind == "anchor" and not chain.passes(frame, feeder):
                    reason = "the anchor does not match the commits before it: the history was changed"
                    self.note(segment.path, reason, frame.offset, seq=stretch.seq + 1)
                    return None
                stretch.pieces[-1] = (here, cursor.offset)
                stretch.seq = cursor.seq
                if frame.kind == "anchor":
                    chain.proven = (list(stretch.pieces), stretch.seq)
            chain.feed(feeder, cursor.offset)
            stop = Place(segment.number, cursor.offset, cursor.seq, cursor.time_ns, cursor.last_crc, cursor.sources)
            here = self.after_lost_anchor(data, segment.head, stop)
            if here is not None:
                chain.lost(stop)
        after = self.segments.get(segment.number + 1)
        if after is None:
            return None
        if after.head is None:
            return (
                stop._replace(number=after.number, offset=HEADER_BYTES, sources={}) if cursor.stopped == END else None
            )
        if after.head.base_seq == stop.seq and after.head.prev_crc != stop.last_crc:
            chain.lost(stop)  # the last frame of this segment was one
        return Place(after.number, HEADER_BYTES, stop.seq, after.head.base_time_ns, after.head.prev_crc, {})

    def after_lost_anchor(self, data: bytes, head: SegmentHead, stop: Place) -> Place | None:
        """Where the log goes on when nothing but an anchor was lost at `stop`: the seqs of the commits say so."""
        probe = Cursor(data, head)
        probe.seek(*stop[1:])
        if not probe.resume() or probe.seq != stop.seq or not 0 < probe.offset - stop.offset <= ANCHOR_MOST:
            return None
        offset = probe.offset
        frame = next(probe)
        return stop._replace(offset=offset, last_crc=frame.prev_crc) if frame.kind == "commit" else None

    def frames(self, place: Place, end: int, until: int) -> Iterator[Frame]:
        """The frames of a piece of a stretch, up to commit `until`."""
        return (frame for frame in self.cursor(place, end) if frame.seq <= until)

    def cursor(self, place: Place, end: int) -> Cursor:
        """Reads what lies between a place and an offset in its segment."""
        segment = self.segments[place.number]
        assert segment.head is not None
        cursor = Cursor(self.data(segment), segment.head)
        cursor.limit(end)
        cursor.seek(*place[1:])
        return cursor

    def replayed(self, stretch: Stretch) -> Core:
        """A core with the state that a stretch ends with. CorruptLogError for a commit that does not fit."""
        core = loaded(self.files, stretch.base)
        for place, end in stretch.pieces:
            core._replay(self.cursor(place, end), stretch.seq)
        return core

    # ---- between stretches

    def survey(self, stretches: list[Stretch]) -> dict[int, set[int]]:
        """{seq: pages that it touches} of the whole commits outside of the stretches. Notes where segments are damaged,
        and in `known` the newest commit that anything speaks of.
        """
        self.known = max(
            [stretch.seq for stretch in stretches] + [mark.durable_seq for mark in self.marks] + self.later, default=0
        )
        found: dict[int, set[int]] = {}
        for number, segment in sorted(self.segments.items()):
            self.passed()
            data = self.data(segment)
            if segment.head is None or not is_place(HEADER_BYTES, data):
                continue
            cursor = Cursor(data, segment.head)
            if self.origin is not None and number == self.origin.segment:
                origin = self.origin
                if not is_place(origin.offset, data):
                    continue
                cursor.seek(origin.offset, origin.seq, origin.time_ns, origin.last_crc, origin.sources)
            self.known = max(self.known, segment.head.base_seq, segment.head.durable_seq)
            while True:
                for frame in cursor:
                    self.known = max(self.known, frame.seq, frame.durable_seq)
                    if frame.kind == "commit" and not any(s.first_seq < frame.seq <= s.seq for s in stretches):
                        found.setdefault(frame.seq, set()).update(touched(frame))
                bad, seq, reason = cursor.offset, cursor.seq + 1, cursor.stopped
                going = cursor.resume()
                rest = data[bad : cursor.offset if going else len(data)]
                if going:
                    reason = "nothing is left of a frame" if reason == END else reason
                    self.note(segment.path, reason, bad, cursor.offset, seq)
                elif self.promised(number) >= seq:
                    reason = "nothing is left of a frame" if reason == END else reason
                    self.note(segment.path, reason, bad, None, seq)
                elif rest.strip(b"\0"):
                    self.note(segment.path, "bytes after the end of the log", bad, None, seq)
                if not going:
                    break
        return found

    def promised(self, number: int) -> int:
        """The newest commit that belongs before the end of a segment, as far as anything says so."""
        after = self.segments.get(number + 1)
        if after is not None and after.head is not None:
            return after.head.base_seq
        return max((mark.durable_seq for mark in self.marks if mark.segment <= number), default=0)


def touched(frame: Frame) -> set[int]:
    """The pages that a commit changes; of many that are created at once the first."""
    pages = frame.written_pages()
    if pages is not None:
        return set(pages)
    try:
        return {change.page_id for change in frame.changes() if change.kind in TOUCHING}
    except ValueError:
        return set()


class Chain:
    """The anchors along a stretch, computed once more. `proven`: the pieces and the seq up to the last that matched."""

    def __init__(self, intact: Intact, stretch: Stretch) -> None:
        self.intact, self.stretch = intact, stretch
        base = stretch.base
        self.hasher: Any = None
        self.pending = False  # whether there is a commit since the last anchor
        self.proven: tuple[list[tuple[Place, int]], int] = ([], stretch.seq)
        if intact.anchors_known and (base is None or base.anchored):
            self.hasher = intact.store.hasher(base.anchor if base is not None else bytes(32))
        stretch.chained = intact.anchors_known

    def feed(self, feeder: Cursor, until: int) -> None:
        """Hashes the commits up to an offset."""
        feeder.limit(until)
        feeder.canonical(self.update)

    def update(self, data: Any) -> None:
        """Takes canonical content."""
        self.pending = True
        if self.hasher is not None:
            self.hasher.update(data)

    def passes(self, frame: Frame, feeder: Cursor) -> bool:
        """Whether an anchor matches the commits before it. False: the stretch was cut back to the last that does."""
        self.feed(feeder, frame.offset)
        if self.hasher is not None and self.hasher.digest() != frame.anchor:
            self.intact.mismatched = True
            self.stretch.pieces, self.stretch.seq = self.proven
            return False
        if self.intact.anchors_known:
            self.intact.matched |= self.hasher is not None
            self.hasher = self.intact.store.hasher(frame.anchor)
        self.pending = False
        return True

    def lost(self, place: Place) -> None:
        """An anchor was lost here: the next one must follow from what it was."""
        if self.pending and self.hasher is not None:
            self.hasher = self.intact.store.hasher(self.hasher.digest())
            self.pending = False
        if self.stretch.anchors_end is None:
            self.stretch.anchors_end = (place.number, place.offset)
