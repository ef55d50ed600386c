"""Verifying: every frame, anchor, checkpoint and file of a State, and the replayed log against its pages."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmsb._core.log import END, HEADER_BYTES
from mmsb.bases import copy_core
from mmsb.checkpoint import Image
from mmsb.digest import core_digest
from mmsb.errors import CorruptLogError, MMSBError, RetentionError
from mmsb.findings import Report
from mmsb.horizon import HORIZON_BYTES, SLOTS_AT, read_slots
from mmsb.segments import Segment, cursor_of

if TYPE_CHECKING:
    from mmsb._core.state import Core
    from mmsb.state import State

Progress = Callable[[int, int], None]

# A writer's frame is in the file within microseconds of its first byte; a look that finds half of one looks again.
LOOKS, LOOK_SECONDS = 10, 0.01


class Picture:
    """A copy of what a core holds, to compare with another."""

    def __init__(self, core: Core) -> None:
        self.facts = {page_id: core._page_info(page_id) for page_id in core._page_ids()}
        self.contents = {page_id: bytes(core._page_bytes(page_id)) for page_id in self.facts}
        self.notes = {page_id: (core._name_of.get(page_id), core._metadata.get(page_id)) for page_id in self.facts}
        self.next_page_id = core.next_page_id
        self.links = core._links.digest_bytes()
        self.digest = core_digest(core)


def verify(
    state: State, progress: Progress | None = None, *, recompute: bool = False, head: bytes | None = None
) -> Report:
    """Checks a State from its first kept frame to its head. `progress(done, total)` is called with log bytes.
    `recompute`: computes the pages that are computed from others once more, too. `head`: an anchor that the log must
    have.

    Other threads may go on; what they commit meanwhile is left out. No checkpoint is written meanwhile.
    """
    if head is not None and not isinstance(head, bytes):
        raise TypeError(f"head is an anchor (bytes) or None, not {type(head).__name__}")
    if state._checkpoints is None:
        report = Verification(state, progress).run()
    else:
        with state._checkpoints.lock:
            if not state.read_only:
                report = Verification(state, progress).run()
            else:
                report = state._store.steadily(
                    lambda: Verification(state, progress).run(), lambda report: not report.findings
                )
    if head is not None and head not in report.heads:
        report.add("kept anchor", f"The anchor {head.hex()} is not in the log, which is at commit {state.seq}.")
    if recompute:
        report.recomputed = _recompute(state, report)
    return report


def _recompute(state: State, report: Report) -> int:
    """Notes the first page that comes out different when all are computed again. Returns how many were computed."""
    if state._engine is None:
        return 0
    count, found = state._engine.recompute()
    if found is None:
        return count
    page_id, start, end, reason = found
    what = (
        f"Page {page_id} could not be computed once more: {reason}."
        if start is None
        else f"Bytes {start} to {end} of page {page_id} come out different when it is computed once more."
    )
    report.add(
        "recompute",
        what,
        seq=state.seq,
        page_id=page_id,
        start=start,
        end=end,
    )
    return count


def _rest(segment: Segment, data: Any, tail: int) -> bytes:
    """A segment's bytes after its frames, from the first on that is not zero; none when all are."""
    return bytes(memoryview(data)[tail : segment.data_end]).lstrip(b"\0")


class Verification:
    """One run over one State."""

    def __init__(self, state: State, progress: Progress | None) -> None:
        self.state, self.progress = state, progress
        self.log, self.store, self.base = state._log, state._store, state._log.base
        self.report = Report(self.store.path) if self.store is not None else Report()
        if state.recovered.damage is not None:
            self.damaged(state.recovered.damage.facts)
        with state._exclusive():
            self.log.settle()
            self.head = state.seq
            self.live = Picture(state)
            self.segments = [segment for segment in self.log.segments if segment.number >= self.first_segment()]
            self.tails = {segment.number: segment.tail for segment in self.segments}
            if isinstance(self.base, Image) and self.base.segment in self.tails:
                # An anchor that a reader has not seen may lie before a base that the writer of the store made since.
                self.tails[self.base.segment] = max(self.tails[self.base.segment], self.base.offset)
            # Nobody appends while these are read.
            self.active = self.read(self.segments[-1]) if self.segments else b""
        self.scratch = state.scratch()
        self.checkpoints = self.read_heads()
        self.hasher = self.first_hasher()
        self.last_anchor = self.base.anchor if isinstance(self.base, Image) else bytes(32)
        self.report.heads.add(self.last_anchor)

    def first_segment(self) -> int:
        """Number of the segment that holds the first kept commit."""
        return self.base.segment if isinstance(self.base, Image) else 0

    def first_hasher(self) -> Any:
        """The hash of the first anchor, None when it cannot be recomputed: a history may begin between two anchors."""
        if self.store is None or (self.base is not None and not self.base.anchored):
            return None
        return self.store.hasher(self.base.anchor if self.base is not None else bytes(32))

    def run(self) -> Report:
        """Checks everything; returns early where the log cannot be followed any further."""
        self.load_base()
        total, done = sum(self.tails.values()), 0
        before: tuple[int, int] | None = None
        for segment in self.segments:
            try:
                before = self.segment(segment, before)
            except RetentionError:
                raise  # compacted away by the writer of the store
            except (MMSBError, OSError) as error:
                facts = error.facts if isinstance(error, CorruptLogError) else {"reason": str(error)}
                self.damaged({**facts, "path": segment.path, "seq": self.scratch.seq + 1})
                return self.finish()
            self.report.segments += 1
            done += self.tails[segment.number]
            if self.progress is not None:
                self.progress(done, total)
        if self.scratch.seq != self.head:
            self.report.add(
                "head",
                f"The log ends at commit {self.scratch.seq} and the State is at {self.head}.",
                seq=self.scratch.seq + 1,
            )
        else:
            replayed = Picture(self.scratch)
            if replayed.digest != self.live.digest:
                sentence, where = self.difference(self.live, replayed)
                self.report.add("memory", sentence, **where)
        return self.finish()

    def damaged(self, facts: dict[str, Any]) -> None:
        """Notes damage that ends what can be replayed, once for each place."""
        path, offset, seq, reason = (facts.get(name) for name in ("path", "offset", "seq", "reason"))
        if any((known.path, known.offset) == (path, offset) for known in self.report.findings):
            return
        where = f"{path or 'The log in memory'} is damaged at offset {offset or 0}"
        commit = "" if seq is None else f", commit {seq}"
        self.report.add(
            "damage" if seq is None else "log", f"{where}{commit}: {reason}.", path=path, offset=offset, seq=seq
        )

    def finish(self) -> Report:
        """Checks what does not lie on the way along the log."""
        if self.store is not None:
            for head in self.places.values():
                if head.seq <= self.scratch.seq and not self.is_later((head.segment, head.offset)):
                    self.misplaced(head.seq)
            for seq in sorted(self.checkpoints):
                self.lone_checkpoint(seq)
            self.files()
        return self.report

    # ---- the log

    def load_base(self) -> None:
        """Makes the state that the kept history begins with."""
        if self.base is None:
            return
        if isinstance(self.base, Image):
            self.base.load_into(self.scratch)
            if self.checkpoints.pop(self.base.seq, None) is not None:
                self.report.checkpoints += 1
            if core_digest(self.scratch) != self.base.digest:
                self.report.add(
                    "base",
                    f"The base of the history, the checkpoint at {self.base.seq}, does not have the digest that it "
                    "states.",
                    path=self.state._checkpoints.path(self.base.seq) if self.store is not None else None,
                    seq=self.base.seq,
                )
        else:
            copy_core(self.base, self.scratch)

    def read(self, segment: Segment) -> Any:
        """The segment's bytes, read anew from the file."""
        if segment.path is None:
            return self.log.buffer(segment)
        data = self.log.read_anew(segment)
        if data[:HEADER_BYTES] != segment.head.encode():
            self.report.add(
                "header",
                f"The header of {segment.path} changed since it was opened.",
                path=segment.path,
                offset=0,
            )
        return data

    def bytes_of(self, segment: Segment) -> Any:
        """The segment's bytes, and in `tails` where its frames end."""
        data = self.active if segment is self.segments[-1] else self.read(segment)
        if segment.ends is not None:
            self.log.find_tail(segment, data)
        if segment is not self.segments[-1]:
            # It was a bound if opening did not read the segment, and another thread may have found it meanwhile.
            self.tails[segment.number] = segment.tail
        return data

    def after(self, segment: Segment, data: Any, cursor: Any) -> None:
        """The bytes after the log's end, where `cursor` stands, must be zero, unless a writer may be at work there."""
        tail = self.tails[segment.number]
        rest = _rest(segment, data, tail) if segment.path is not None else b""
        if not rest:
            return
        if self.state.read_only and segment is self.segments[-1]:
            mark = self.log.horizon.mark
            closed = mark is not None and mark.clean and mark.place == (segment.number, tail)
            if not closed or self.goes_on(segment, data, cursor):
                return
        offset = segment.data_end - len(rest)
        self.report.add(
            "leftover",
            f"{segment.path} has bytes after the end of the log, from offset {offset} on.",
            path=segment.path,
            offset=offset,
        )

    def goes_on(self, segment: Segment, data: Any, cursor: Any) -> bool:
        """Whether what came behind the end of a log that was closed is a writer's: commits, or one on its way.

        Nothing says that a writer came, until its first sync moves the horizon.
        """
        for _ in range(LOOKS):
            follower = cursor_of(segment, data)
            follower.limit(segment.head.capacity)
            follower.seek(cursor.offset, cursor.seq, cursor.time_ns, cursor.last_crc, cursor.sources)
            if next(follower, None) is not None:
                return True
            time.sleep(LOOK_SECONDS)
            before, data = _rest(segment, data, cursor.offset), self.log.read_anew(segment)
            if _rest(segment, data, cursor.offset) == before:
                return False
        return True

    def segment(self, segment: Segment, before: tuple[int, int] | None) -> tuple[int, int]:
        """Checks every frame, recomputes anchors and compares checkpoints on the way.

        `before`: (seq, CRC) of the last frame of the segment before. Returns those of this one's.
        """
        data = self.bytes_of(segment)
        tail = self.tails[segment.number]
        if before is not None and before != (segment.base_seq, segment.head.prev_crc):
            raise CorruptLogError(
                f"{segment.path or 'A segment in memory'} does not go on where the one before it ends. "
                "Restore the store's files from one backup.",
                path=segment.path,
                offset=0,
                seq=segment.base_seq + 1,
                reason="segments do not fit together",
            )
        cursor, feeder, applier = (cursor_of(segment, data) for _ in range(3))
        for each in (cursor, feeder, applier):
            each.limit(tail)
            if isinstance(self.base, Image) and segment.number == self.base.segment:
                base = self.base
                each.seek(base.offset, base.seq, base.time_ns, base.last_crc, base.sources)
        self.check_place(segment, cursor)
        for frame in cursor:
            self.report.frames += 1
            if frame.kind == "anchor":
                self.anchor(segment, frame, cursor, feeder, tail)
            else:
                self.report.commits += 1
                if frame.seq in self.checkpoints:
                    self.scratch._replay(applier, frame.seq)
                    self.checkpoint(frame.seq)
            self.check_place(segment, cursor)
        self.scratch._replay(applier, self.head)
        if cursor.offset == tail:
            self.after(segment, data, cursor)
        if cursor.offset != tail or (segment is not self.segments[-1] and cursor.stopped != END):
            raise CorruptLogError(
                f"{segment.path or 'The log in memory'} is damaged at offset {cursor.offset} (commit "
                f"{cursor.seq + 1}): {cursor.stopped}. Restore the file, or save what is before it with "
                "read_only=True.",
                path=segment.path,
                offset=cursor.offset,
                seq=cursor.seq + 1,
                reason=cursor.stopped,
            )
        if self.hasher is not None:
            feeder.canonical(self.hasher.update)
        return cursor.seq, cursor.last_crc

    def anchor(self, segment: Segment, frame: Any, cursor: Any, feeder: Any, tail: int) -> None:
        """Recomputes one anchor from the commits since the one before."""
        self.report.anchors += 1
        self.report.anchored = frame.seq
        self.report.heads.add(frame.anchor)
        self.last_anchor = frame.anchor
        if self.store is None:
            return
        if self.hasher is not None:
            feeder.limit(frame.offset)
            feeder.canonical(self.hasher.update)
            if self.hasher.digest() != frame.anchor:
                self.report.add(
                    "anchor",
                    f"The anchor after commit {frame.seq}, at offset {frame.offset} of {segment.path}, does not match "
                    "the commits before it.",
                    path=segment.path,
                    offset=frame.offset,
                    seq=frame.seq,
                )
        feeder.limit(tail)
        feeder.seek(frame.offset + frame.nbytes, frame.seq, frame.time_ns, cursor.last_crc, cursor.sources)
        self.hasher = self.store.hasher(frame.anchor)

    # ---- checkpoints

    def read_heads(self) -> dict[int, Image]:
        """{seq: header} of the checkpoints; those without a readable header are findings."""
        heads: dict[int, Image] = {}
        for seq, path in self.store.checkpoint_paths() if self.store is not None else []:
            try:
                heads[seq] = self.state._checkpoints.head(seq)
            except (MMSBError, OSError) as error:
                self.unusable(seq, path, error)
        self.places = {(head.segment, head.offset): head for head in heads.values() if head.seq >= self.log.first_seq}
        return heads

    def unusable(self, seq: int, path: str, error: Exception) -> None:
        """Notes a checkpoint that cannot be read, unless the writer of the store has just removed it."""
        if self.state.read_only and not os.path.exists(path):
            return
        reason, offset = getattr(error, "reason", error), getattr(error, "offset", None)
        where = "" if offset is None else f" (offset {offset})"
        self.report.add(
            "unusable checkpoint",
            f"The checkpoint {path} cannot be used: {reason}{where}.",
            path=path,
            seq=seq,
            offset=offset,
        )

    def load(self, seq: int) -> Image | None:
        """A complete checkpoint, None (and a finding) when it cannot be used."""
        checkpoints = self.state._checkpoints
        try:
            checkpoints.images.pop(seq, None)
            image: Image = checkpoints.load(seq)
        except (MMSBError, OSError) as error:
            self.unusable(seq, checkpoints.path(seq), error)
            return None
        self.report.checkpoints += 1
        return image

    def checkpoint(self, seq: int) -> None:
        """Compares a checkpoint with the log replayed up to it."""
        head = self.checkpoints.pop(seq)
        image = self.load(seq)
        if image is None:
            return
        copy = self.state.scratch()
        image.load_into(copy)
        if core_digest(copy) != head.digest or core_digest(self.scratch) != head.digest:
            sentence, where = self.difference(Picture(copy), Picture(self.scratch))
            where.update(path=self.state._checkpoints.path(seq), seq=seq)
            self.report.add("checkpoint", f"The checkpoint at {seq} differs from the log. {sentence}", **where)

    def check_place(self, segment: Segment, cursor: Any) -> None:
        """Compares what a checkpoint says about its place in the log with the log."""
        head = self.places.pop((segment.number, cursor.offset), None)
        found = (cursor.seq, cursor.time_ns, cursor.last_crc, self.last_anchor)
        if head is not None and (head.seq, head.time_ns, head.last_crc, head.anchor) != found:
            self.misplaced(head.seq)

    def is_later(self, place: tuple[int, int]) -> bool:
        """Whether a place lies in what the writer of the store appended since a reader opened it."""
        last = self.segments[-1].number if self.segments else 0
        return self.state.read_only and place > (last, self.tails.get(last, 0))

    def misplaced(self, seq: int) -> None:
        """Notes a checkpoint that points to a wrong place."""
        self.report.add(
            "checkpoint",
            f"The checkpoint at {seq} points to a place in the log that is not its own.",
            path=self.state._checkpoints.path(seq),
            seq=seq,
        )

    def lone_checkpoint(self, seq: int) -> None:
        """A checkpoint whose commit was not met on the way."""
        taken_since = self.state.read_only and seq > self.head
        if self.load(seq) is not None and seq > self.scratch.seq and not taken_since:
            self.report.add(
                "checkpoint ahead",
                f"There is a checkpoint at {seq}, and the log could be followed up to commit {self.scratch.seq} only.",
                path=self.state._checkpoints.path(seq),
                seq=seq,
            )

    # ---- differences, files

    def difference(self, one: Picture, log: Picture) -> tuple[str, dict[str, Any]]:
        """The first page, byte range and delta in which pages differ from the replayed log: a sentence, and where."""
        for page_id in sorted(one.facts.keys() | log.facts.keys()):
            where: dict[str, Any] = {"page_id": page_id}
            if (page_id in one.facts) != (page_id in log.facts):
                return f"Page {page_id} is only in the {'log' if page_id in log.facts else 'pages'}.", where
            if one.facts[page_id] != log.facts[page_id]:
                return f"Page {page_id} has another size or epoch than the log says.", where
            if one.notes[page_id] != log.notes[page_id]:
                return f"Page {page_id} has another name or other metadata than the log says.", where
            content, other = one.contents[page_id], log.contents[page_id]
            if content != other:
                start = next(index for index in range(len(content)) if content[index] != other[index])
                end = next(index for index in range(len(content), 0, -1) if content[index - 1] != other[index - 1])
                delta = self.state.last_write(page_id, at=start, length=end - start)
                writer = f"commit {delta.seq} wrote" if delta is not None else "the commit that created it wrote"
                where.update(seq=delta.seq if delta is not None else None, start=start, end=end)
                return f"Bytes {start} to {end} of page {page_id} differ from the log; {writer} them last.", where
        return "The graph differs from the log." if one.links != log.links else "The next page id differs.", {}

    def start_of(self, path: str, count: int) -> bytes:
        """The first `count` bytes of a file; none of one that cannot be read."""
        try:
            return self.log.files.read_start(path, count)
        except OSError:
            return b""

    def files(self) -> None:
        """The identity file, the horizon's slots, and files that do not belong."""
        store = self.store
        path = os.path.join(store.path, "horizon")
        for _ in range(LOOKS):
            data = self.start_of(path, HORIZON_BYTES + 1)
            slots = read_slots(data, store.uuid)
            if None not in slots or not self.state.read_only:
                break
            time.sleep(LOOK_SECONDS)  # a writer may just be writing one
        for number, slot in enumerate(slots):
            if slot is None or len(data) != HORIZON_BYTES:
                self.report.add(
                    "horizon",
                    f"Slot {number} of {path}, at offset {SLOTS_AT[number]}, is damaged.",
                    path=path,
                    offset=SLOTS_AT[number],
                )
        if store.identity.encode() != self.start_of(store.identity_path, 4096):
            self.report.add(
                "identity", f"{store.identity_path} changed since it was opened.", path=store.identity_path, offset=0
            )
        known = {
            "": r"store|lock|horizon|log|checkpoints|torn",
            "log": r"\d{8}\.seg(\.zst)?|\d{8}\.seg(\.zst)?\.new",
            "checkpoints": r"\d{20}\.ckpt(\.new)*",
        }
        for folder, pattern in known.items():
            where = os.path.join(store.path, folder) if folder else store.path
            for name in sorted(os.listdir(where)) if os.path.isdir(where) else []:
                if not re.fullmatch(pattern, name):
                    strange = os.path.join(where, name)
                    self.report.add("stranger", f"{strange} does not belong to the store.", path=strange)
