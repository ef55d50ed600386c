"""Salvaging: copying what is provably intact out of a damaged store, and saying exactly what is missing.

mmsb/intact.py finds the histories that can be replayed. Each becomes an ordinary store: the newest at the path that was
asked for, older ones beside it. docs/decisions/0014-salvage.md says why there is one store for each.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from mmsb import horizon
from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES, Frame, SegmentHead
from mmsb._core.varint import put_text, put_varint
from mmsb.checkpoint import Image, encode_image
from mmsb.errors import CorruptLogError, NotAStoreError, StoreLockedError
from mmsb.horizon import Mark
from mmsb.intact import Intact, Place, Stretch
from mmsb.log import SEGMENT_BYTES_LEAST
from mmsb.remains import Damage
from mmsb.store import Identity, create, take_lock

SOURCE = 23  # the kind of the change that defines one

Ranges = list[tuple[int, int]]  # [first, last], both in it


@dataclass(frozen=True)
class Saved:
    """A store that was written: states from `first_seq` to `seq`. `base`: the checkpoint that it begins with."""

    path: str
    first_seq: int
    seq: int
    digest: bytes
    base: str | None = None


@dataclass(frozen=True)
class Gap:
    """Commits `first` to `last` are in no store that was written.

    `lost`: those of which nothing is left. `whole`: those that can be read in the damaged store and cannot be applied.
    `pages`: ids of the pages whose content is not known any more after the gap; none where a checkpoint stands there.
    `touched`: of these and of others, those that the whole commits changed.
    """

    first: int
    last: int
    lost: Ranges
    whole: Ranges
    pages: Ranges
    touched: Ranges


@dataclass
class SalvageReport:
    """What was saved, oldest first (the last one is at the path that was asked for), what is missing, and why.

    `end_known`: something intact says where the log ended. Without that, commits may be missing at the end unseen.
    """

    saved: list[Saved] = field(default_factory=list)
    missing: list[Gap] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    end_known: bool = True

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.saved) and not self.missing and self.end_known


def salvage(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    anchor_key: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    files: Files | None = None,
) -> SalvageReport:
    """Copies all that is provably intact out of the store at `path` into a new store at `out`. See SalvageReport.

    The store at `path` is only read. Where damage parts its history, each part that can be replayed becomes a store:
    the newest one is `out`, an older one that ends with commit N is `out` with ".until-N" appended. Each is complete
    or not there. Nothing is written when nothing can be saved: then `saved` is empty.

    Raises NotAStoreError, StoreLockedError, FormatVersionError, CorruptLogError, ValueError about the key, OSError.
    """
    source, target = os.path.abspath(os.fsdecode(path)), os.path.abspath(os.fsdecode(out))
    if not os.path.isdir(source):
        raise NotAStoreError(f"There is no store at {os.fsdecode(path)}. Check the path.", path=path)
    if not os.path.isdir(os.path.dirname(target)):
        raise NotAStoreError(f"There is no directory for a new store at {target}. Make its parent first.", path=out)
    refuse_taken(target)
    files = files or Files()
    lock = keep_writers_out(files, source)
    try:
        intact = Intact(files, source, anchor_key)
        done, total = 0, 2 * len(intact.segments) + 1

        def passed() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(min(done, total), total)

        intact.passed = passed
        stretches = intact.stretches()
        gaps = gaps_between(stretches, intact)
        # The empty state is nothing to save, unless there never was more.
        stretches = [stretch for stretch in stretches if stretch.seq or not intact.known]
        report = SalvageReport(missing=gaps, damage=intact.damage, end_known=bool(intact.marks))
        paths = [f"{target}.until-{stretch.seq}" for stretch in stretches[:-1]] + [target]
        for each in paths:
            refuse_taken(each)
        try:
            for stretch, each in zip(stretches, paths, strict=False):
                report.saved.append(write(files, intact, stretch, each))
            for each in paths[: len(stretches)]:
                files.rename(each + ".new", each)
            files.sync_directory(os.path.dirname(target))
        except BaseException:
            for each in paths:
                shutil.rmtree(each + ".new", ignore_errors=True)
            raise
        passed()
        return report
    finally:
        if lock >= 0:
            files.close(lock)


def keep_writers_out(files: Files, folder: str) -> int:
    """Takes the lock of a store, without a word in it. -1 where that cannot be: there is no lock, or no right to it."""
    try:
        return take_lock(files, folder, sign=False)
    except StoreLockedError:
        raise
    except OSError:
        return -1


def refuse_taken(path: str) -> None:
    """NotAStoreError when something is where a store is to be written."""
    for each in (path, path + ".new"):
        if os.path.lexists(each):
            raise NotAStoreError(f"{each} exists already. Salvage to a new path, or move it away.", path=each)


# ---- what is missing


def ranges(numbers: Iterable[int]) -> Ranges:
    """Numbers as ranges, ascending."""
    found: Ranges = []
    for number in sorted(numbers):
        if found and found[-1][1] + 1 == number:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def gaps_between(stretches: list[Stretch], intact: Intact) -> list[Gap]:
    """What lies between the stretches, before the first and after the last."""
    whole = intact.survey(stretches)
    edges = [(stretch.first_seq, stretch.seq, stretch.pages) for stretch in stretches]
    begin, before, gaps = intact.origin.seq if intact.origin is not None else 0, list[int](), []
    for first_seq, seq, pages in [*edges, (intact.known + 1, intact.known, [])]:
        last = first_seq if first_seq <= intact.known else intact.known
        if last > begin:
            readable = {at: touched for at, touched in whole.items() if begin < at <= last}
            touched = set().union(*readable.values())
            gaps.append(
                Gap(
                    begin + 1,
                    last,
                    without(begin + 1, last, ranges(readable)),
                    ranges(readable),
                    ranges({*before, *touched} if first_seq > intact.known else ()),
                    ranges(touched),
                )
            )
        begin, before = max(begin, seq), pages
    return gaps


def without(first: int, last: int, taken: Ranges) -> Ranges:
    """What is left of first..last."""
    left: Ranges = []
    for begin, end in [*taken, (last + 1, last)]:
        if first < begin:
            left.append((first, begin - 1))
        first = end + 1
    return left


# ---- writing


def write(files: Files, intact: Intact, stretch: Stretch, path: str) -> Saved:
    """Makes the store of a stretch beside `path`, opens it as its owner will, and proves that it is right."""
    from mmsb.opening import open as open_state

    old, aside = intact.store.identity, path + ".new"
    identity = Identity(
        os.urandom(16),
        os.urandom(16),
        stretch.created_ns if stretch.base is None else time.time_ns(),
        parent_uuid=old.uuid,
        parent_seq=stretch.seq,
        parent_digest=stretch.digest,
        keyed=old.keyed,
    )
    base = base_of(stretch, identity) if stretch.base is not None else None
    lock = create(files, aside, identity, (base.seq, encode_image(base, base.pages)) if base is not None else None)
    try:
        write_log(files, intact, stretch, identity, aside)
    finally:
        files.close(lock)
    with open_state(aside, anchor_key=intact.store.anchor_key, checkpoint_bytes=None, files=files) as state:
        if (state.seq, state.digest()) != (stretch.seq, stretch.digest) or state.verify().findings:
            raise CorruptLogError(
                f"What was written to {aside} did not read back as it was. Check the disk, and salvage again.",
                path=aside,
                offset=None,
                seq=stretch.seq,
                reason="read back differs",
            )
        state.checkpoint()
    origin = intact.checkpoints.path(stretch.base.seq) if stretch.base is not None else None
    return Saved(path, stretch.first_seq, stretch.seq, stretch.digest, origin)


def base_of(stretch: Stretch, identity: Identity) -> Image:
    """The checkpoint that a saved store begins with: as the one in the damaged store, and a base now."""
    image = stretch.base
    assert image is not None
    return replace(
        image,
        uuid=identity.uuid,
        base=True,
        parent_seq=0,
        # The log begins with segment 2: the base stands in for the one before, as after a compaction.
        segment=2,
        offset=HEADER_BYTES,
        last_crc=0,
        anchor=image.anchor if stretch.chained else bytes(32),
        anchored=image.anchored or not stretch.chained,
        sources={},
    )


def write_log(files: Files, intact: Intact, stretch: Stretch, identity: Identity, folder: str) -> None:
    """Writes the segments, one for each of the damaged store, and says in the horizon how far they are durable."""
    writer = LogWriter(files, stretch, identity, folder)
    for place, end in stretch.pieces:
        for frame in intact.frames(place, end, stretch.seq):
            writer.put(place, frame)
    writer.finish()
    if writer.mark is not None:
        first, second = (writer.mark.encode(identity.uuid, counter) for counter in range(2))
        files.write_file(os.path.join(folder, "horizon"), first.ljust(horizon.SLOTS_AT[1], b"\0") + second)


class LogWriter:
    """Writes frames of one store as those of another: other salt, other segments, the same commits and anchors."""

    def __init__(self, files: Files, stretch: Stretch, identity: Identity, folder: str) -> None:
        self.files, self.stretch, self.identity, self.folder = files, stretch, identity, folder
        self.copied = 0  # the segment that is being copied, and what was written of it
        self.number = 0 if stretch.base is None else 1
        self.head: SegmentHead | None = None
        self.body = bytearray()
        self.defined: set[int] = set()
        self.crc = 0
        self.anchor = stretch.base.anchor if stretch.base is not None and stretch.chained else bytes(32)
        self.mark: Mark | None = None

    def put(self, place: Place, frame: Frame) -> None:
        """Takes one frame of the piece that begins at `place`."""
        end = self.stretch.anchors_end
        if frame.kind == "anchor" and not self.stretch.chained:
            return
        if frame.kind == "anchor" and end is not None and (place.number, frame.offset) >= end:
            return  # it follows from one that was lost
        if place.number != self.copied:
            self.finish()
            self.copied, self.body, self.defined = place.number, bytearray(HEADER_BYTES), set()
            self.number += 1
            self.head = SegmentHead(
                uuid=self.identity.uuid,
                salt=self.identity.salt,
                base_seq=place.seq,
                base_time_ns=place.time_ns,
                capacity=HEADER_BYTES,
                durable_seq=place.seq,
                prev_crc=self.crc,
                number=self.number,
                anchor=self.anchor,
            )
        assert self.head is not None
        data, self.crc = frame.copy(self.head, self.crc, self.definition(frame))
        self.body += data
        if frame.kind == "anchor":
            self.anchor = frame.anchor
        self.mark = Mark(frame.seq, self.number, len(self.body), self.crc, frame.time_ns, self.anchor, clean=True)

    def definition(self, frame: Frame) -> bytes:
        """The change that defines the frame's source, where it was defined before the copy begins."""
        number = frame.source_id
        if number in self.defined or frame.source is None:
            return b""
        self.defined.add(number)
        if frame.change_bytes[0] == SOURCE:
            return b""
        out = bytearray([SOURCE])
        put_varint(out, number)
        put_text(out, frame.source.encode("utf-8", "surrogateescape"))
        return bytes(out)

    def finish(self) -> None:
        """Writes the segment that was begun."""
        if self.head is None:
            return
        capacity = -(-len(self.body) // SEGMENT_BYTES_LEAST) * SEGMENT_BYTES_LEAST
        self.body[:HEADER_BYTES] = self.head.resized(capacity).encode()
        path = os.path.join(self.folder, "log", f"{self.number:08d}.seg")
        self.files.write_file(path, self.body.ljust(capacity, b"\0"))
        self.head = None
