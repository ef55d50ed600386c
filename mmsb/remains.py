"""The files of a damaged store, as far as they can be read. Nothing here stops at damage; it is noted, and passed."""

from __future__ import annotations

import errno
import os
from collections import Counter, OrderedDict
from dataclasses import dataclass

from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES, SegmentHead
from mmsb._core.state import Core
from mmsb.checkpoint import Image
from mmsb.checkpoints import Checkpoints
from mmsb.compression import decompress_readable
from mmsb.digest import core_digest
from mmsb.errors import CorruptCheckpointError, FormatVersionError, MMSBError, NotAStoreError
from mmsb.horizon import HORIZON_BYTES, SLOTS_AT, Mark, read_slots
from mmsb.segments import read_head
from mmsb.store import Identity, Store, decode_identity

BLOCK_BYTES = 4096  # what is given up where a disk cannot be read
MISSING_MOST = 100  # segment files in a row that are told one by one
KEPT_SEGMENTS = 2  # whose bytes stay in memory
SEGMENT_MOST = 1 << 27  # of a compressed segment whose header is gone: no more than this is made of it


@dataclass(frozen=True)
class Damage:
    """A place where a file is not what it was. `end`: where it is whole again, None when nowhere or not known."""

    path: str
    offset: int
    end: int | None
    seq: int | None  # the first commit that it may touch
    reason: str


@dataclass
class Segment:
    """One segment file. `head`: None while it is damaged and not known from what lies before it."""

    number: int
    path: str
    head: SegmentHead | None


class Remains:
    """The files of the store at `path`, as far as they can be read. `damage`: what was met that is not as it was."""

    def __init__(self, files: Files, path: str, anchor_key: bytes | None) -> None:
        self.files = files
        self.damage: list[Damage] = []
        self.kept: OrderedDict[int, bytes] = OrderedDict()
        self.store = Store(files, path, lock=False, anchor_key=anchor_key, identity=Identity(bytes(16), bytes(16), 0))
        self.segments = {number: Segment(number, at, None) for number, at in self.store.segment_paths()}
        self.anchors_known = True  # whether they can be computed: it takes the store's key, if it has one
        heads = {number: self.read_head(segment) for number, segment in self.segments.items()}
        self.store.identity = self.identify(heads)
        for number, head in heads.items():
            self.adopt(self.segments[number], head)
        self.marks = self.read_horizon()
        self.checkpoints = Checkpoints(self.store, files, None)
        self.origin, self.later = self.read_checkpoints()
        if self.origin is not None:
            # What lies before the base of a compacted history is no part of it any more.
            self.segments = {n: segment for n, segment in self.segments.items() if n >= self.origin.segment}
        self.note_missing_segments()

    # ---- the files

    def note(self, path: str, reason: object, offset: int = 0, end: int | None = None, seq: int | None = None) -> None:
        """Remembers damage."""
        self.damage.append(Damage(path, offset, end, seq, str(reason)))

    def read_head(self, segment: Segment) -> SegmentHead | None:
        """The header of a segment, None when it is damaged. FormatVersionError for that of a newer version."""
        try:
            return read_head(self.files, segment.path)
        except FormatVersionError:
            raise
        except (MMSBError, OSError) as error:
            self.note(segment.path, getattr(error, "reason", error), end=HEADER_BYTES)
            return None

    def identify(self, heads: dict[int, SegmentHead | None]) -> Identity:
        """The identity of the store: of its file, or what most of the segments and checkpoints say."""
        store = self.store
        try:
            identity = decode_identity(self.files.read_file(store.identity_path, 4096), store.identity_path)
        except FormatVersionError:
            raise
        except (MMSBError, OSError) as error:
            self.note(store.identity_path, getattr(error, "reason", error))
        else:
            if identity.keyed != (store.anchor_key is not None):
                store.identify(store.path)  # raises: a key is missing, or one too many
            return identity
        said = Counter((head.uuid, head.salt) for head in heads.values() if head is not None)
        if not said:
            raise NotAStoreError(
                f"Neither the file 'store' nor any segment in {store.path} says what store this is. Check the path; "
                "restore the file 'store' from a backup.",
                path=store.path,
            )
        (uuid, salt), _ = said.most_common(1)[0]
        self.anchors_known = store.anchor_key is not None
        first = heads.get(1)
        created_ns = first.base_time_ns if first is not None and (first.uuid, first.salt) == (uuid, salt) else 0
        return Identity(uuid, salt, created_ns, keyed=store.anchor_key is not None)

    def adopt(self, segment: Segment, head: SegmentHead | None) -> None:
        """Takes a header when it is that of this store and this file."""
        if head is None:
            return
        identity = self.store.identity
        if (head.uuid, head.salt) != (identity.uuid, identity.salt):
            self.note(segment.path, "it belongs to another store", seq=head.base_seq + 1)
        elif head.number != segment.number:
            self.note(segment.path, f"it is segment {head.number} under another name", seq=head.base_seq + 1)
        else:
            segment.head = head

    def read_horizon(self) -> list[Mark]:
        """The marks of the intact slots, the newest last."""
        path = os.path.join(self.store.path, "horizon")
        try:
            data = self.files.read_file(path, 1 << 20)
        except OSError as error:
            self.note(path, error.strerror)
            return []
        slots = read_slots(data[:HORIZON_BYTES], self.store.uuid)
        for at, slot in zip(SLOTS_AT, slots, strict=True):
            if slot is None:
                self.note(path, "the slot is damaged", offset=at)
        return [mark for _, mark in sorted((slot for slot in slots if slot is not None), key=lambda slot: slot[0])]

    def read_checkpoints(self) -> tuple[Image | None, list[int]]:
        """The base of the history, None when it begins with the empty state or its base is gone; seqs of the others
        that can be used, ascending.
        """
        base, usable = None, []
        for seq, path in self.store.checkpoint_paths():
            try:
                image = self.checkpoints.load(seq)
                if core_digest(loaded(self.files, image)) != image.digest:
                    raise CorruptCheckpointError(path=path, offset=0, seq=seq, reason="it has not the digest it states")
            except FormatVersionError:
                raise
            except (MMSBError, OSError, ValueError) as error:
                self.note(path, getattr(error, "reason", error), offset=getattr(error, "offset", 0), seq=seq)
                continue
            usable.append(seq)
            base = image if image.base else base
        return base, [seq for seq in usable if base is None or seq > base.seq]

    def note_missing_segments(self) -> None:
        """Notes segments that ought to be there and are not."""
        first = self.origin.segment if self.origin is not None else 1
        last = max([0, *self.segments, *(mark.segment for mark in self.marks if mark.durable_seq)])
        if self.origin is not None and self.origin.seq >= max((mark.durable_seq for mark in self.marks), default=0):
            last = max([0, *self.segments])  # a fork begins without a segment
        for number in [*sorted(number for number in self.segments if number >= first), last + 1]:
            # A number that stands alone at the end may be anything: what is said is bounded.
            for missing in range(first, min(number, first + MISSING_MOST)):
                self.note(self.store.segment_path(missing), "the file is missing")
            if number - first > MISSING_MOST:
                rest = first + MISSING_MOST
                self.note(self.store.segment_path(rest), f"it and all others before segment {number} are missing")
            first = number + 1

    def data(self, segment: Segment) -> bytes:
        """The bytes of a segment, as many as can be had; what the disk does not give is zero."""
        if segment.number not in self.kept:
            capacity = segment.head.capacity if segment.head is not None else SEGMENT_MOST
            data = b""
            try:
                data = self.read(segment.path, capacity + (1 << 20) if segment.path.endswith(".zst") else capacity)
                if segment.path.endswith(".zst"):
                    data, whole = decompress_readable(data, capacity)
                    if not whole:
                        self.note(segment.path, "it cannot be unpacked to its end")
            except OSError as error:
                self.note(segment.path, error.strerror)
            self.kept[segment.number] = data
            while len(self.kept) > KEPT_SEGMENTS:
                self.kept.popitem(last=False)
        return self.kept[segment.number]

    def read(self, path: str, limit: int) -> bytes:
        """Up to `limit` bytes of a file. Where the disk fails it is read block by block, and a lost block is zero."""
        fd = self.files.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            size = min(self.files.size(fd), limit)
            try:
                return self.files.pread(fd, size, 0)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
            out = bytearray()
            for offset in range(0, size, BLOCK_BYTES):
                count = min(BLOCK_BYTES, size - offset)
                try:
                    out += self.files.pread(fd, count, offset).ljust(count, b"\0")
                except OSError as error:
                    self.note(path, error.strerror, offset, offset + count)
                    out += bytes(count)
            return bytes(out)
        finally:
            self.files.close(fd)


def loaded(files: Files, base: Image | None) -> Core:
    """A core with the state of a checkpoint, or with the empty one."""
    core = Core()
    core._start(files, private=True)
    if base is not None:
        base.load_into(core)
    return core


def is_place(offset: int, data: bytes) -> bool:
    """Whether a frame could stand at an offset of a segment, or behind its last one."""
    return HEADER_BYTES <= offset <= len(data) and offset % 8 == 0
