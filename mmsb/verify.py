"""Verifying: every frame, anchor, checkpoint and file of a State, and the replayed log against its pages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb._core.log import END, HEADER_BYTES
from mmsb.bases import copy_core
from mmsb.checkpoint import Image
from mmsb.digest import core_digest
from mmsb.errors import CorruptLogError, MMSBError, RetentionError
from mmsb.horizon import HORIZON_BYTES, SLOTS_AT, read_slots
from mmsb.segments import Segment, cursor_of

if TYPE_CHECKING:
    from mmsb._core.state import Core
    from mmsb.state import State

Progress = Callable[[int, int], None]
FAULT = "fault"  # history or state is not what it was
OUTSIDE = "The memory was changed from outside."
WARNING = "warning"  # something else is wrong, and nothing is lost


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, and a sentence that says what to do. `start`, `end`: bytes of page `page_id`."""

    sentence: str
    path: str | None = None
    offset: int | None = None
    seq: int | None = None
    page_id: int | None = None
    start: int | None = None
    end: int | None = None
    severity: str = FAULT


@dataclass
class Report:
    """What was checked, and what was found wrong. An empty `findings` is a clean bill."""

    findings: list[Finding] = field(default_factory=list)
    segments: int = 0
    frames: int = 0
    commits: int = 0
    anchors: int = 0
    checkpoints: int = 0
    recomputed: int = 0

    def add(self, sentence: str, **where: Any) -> None:
        """Notes a fault."""
        self.findings.append(Finding(sentence, **where))


class Picture:
    """A copy of what a core holds, to compare with another."""

    def __init__(self, core: Core) -> None:
        self.facts = {page_id: core._page_info(page_id) for page_id in core._page_ids()}
        self.contents = {page_id: bytes(core._page_bytes(page_id)) for page_id in self.facts}
        self.notes = {page_id: (core._name_of.get(page_id), core._metadata.get(page_id)) for page_id in self.facts}
        self.next_page_id = core.next_page_id
        self.links = core._links.digest_bytes()
        self.digest = core_digest(core)


def verify(state: State, progress: Progress | None = None, *, recompute: bool = False) -> Report:
    """Checks a State from its first kept frame to its head. `progress(done, total)` is called with log bytes.
    `recompute`: computes the pages that are computed from others once more, too.

    Other threads may go on; what they commit meanwhile is left out. No checkpoint is written meanwhile.
    """
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
        f"{what} What computes it must be a pure function of its parents; register the right one with state.depend().",
        seq=state.seq,
        page_id=page_id,
        start=start,
        end=end,
    )
    return count


class Verification:
    """One run over one State."""

    def __init__(self, state: State, progress: Progress | None) -> None:
        self.state, self.progress = state, progress
        self.report = Report()
        self.log, self.store, self.base = state._log, state._store, state._log.base
        damage = state.recovered.damage
        if damage is not None:
            self.report.add(str(damage), **{fact: damage.facts[fact] for fact in ("path", "offset", "seq")})
        with state._exclusive():
            self.log.settle()
            self.head = state.seq
            self.live = Picture(state)
            self.segments = [segment for segment in self.log.segments if segment.number >= self.first_segment()]
            self.tails = {segment.number: segment.tail for segment in self.segments}
            # Nobody appends while these are read.
            self.active = self.read(self.segments[-1]) if self.segments else b""
        self.scratch = state.scratch()
        self.checkpoints = self.read_heads()
        self.hasher = self.first_hasher()
        self.last_anchor = self.base.anchor if isinstance(self.base, Image) else bytes(32)

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
                self.report.add(
                    str(error), path=segment.path, offset=getattr(error, "offset", None), seq=self.scratch.seq + 1
                )
                return self.finish()
            self.report.segments += 1
            done += self.tails[segment.number]
            if self.progress is not None:
                self.progress(done, total)
        if self.scratch.seq != self.head:
            self.report.add(
                f"The log ends at commit {self.scratch.seq} and the State is at {self.head}. "
                "Close it and open the store again.",
                seq=self.scratch.seq + 1,
            )
        else:
            replayed = Picture(self.scratch)
            if replayed.digest != self.live.digest:
                self.report.findings.append(
                    self.difference(self.live, replayed, "The memory was changed from outside.")
                )
        return self.finish()

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
                    f"The base of the history, the checkpoint at {self.base.seq}, does not have the digest that it "
                    "states. Restore it from a backup.",
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
                f"The header of {segment.path} changed since it was opened. Restore the file.",
                path=segment.path,
                offset=0,
            )
        return data

    def bytes_of(self, segment: Segment) -> Any:
        """The segment's bytes; those after its tail must be zero, unless a writer may be at work there."""
        data = self.active if segment is self.segments[-1] else self.read(segment)
        if segment.ends is not None:
            self.log.find_tail(segment, data)
            self.tails[segment.number] = segment.tail
        tail = self.tails[segment.number]
        mark = self.log.horizon.mark if self.store is not None else None
        settled = not self.state.read_only or segment is not self.segments[-1] or (mark is not None and mark.clean)
        rest = bytes(memoryview(data)[tail:]) if segment.path is not None and settled else b""
        if rest.strip(b"\0"):
            offset = tail + len(rest) - len(rest.lstrip(b"\0"))
            self.report.add(
                f"{segment.path} has bytes after the end of the log, at offset {offset}. They count for nothing: "
                "zero them, or open the store for writing and close it.",
                path=segment.path,
                offset=offset,
                severity=WARNING,
            )
        return data

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
        self.scratch._replay(applier, self.head)
        if self.hasher is not None:
            feeder.canonical(self.hasher.update)
        return cursor.seq, cursor.last_crc

    def anchor(self, segment: Segment, frame: Any, cursor: Any, feeder: Any, tail: int) -> None:
        """Recomputes one anchor from the commits since the one before."""
        self.report.anchors += 1
        self.last_anchor = frame.anchor
        if self.store is None:
            return
        if self.hasher is not None:
            feeder.limit(frame.offset)
            feeder.canonical(self.hasher.update)
            if self.hasher.digest() != frame.anchor:
                self.report.add(
                    f"The anchor after commit {frame.seq} does not match the commits before it: the history was "
                    "changed, or the anchor key is another one. Compare with a replica or a backup.",
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
        """Notes a checkpoint that cannot be read."""
        self.report.add(f"The checkpoint {path} cannot be used: {error}", path=path, seq=seq, severity=WARNING)

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
            found = self.difference(Picture(copy), Picture(self.scratch), "")
            self.report.add(
                f"The checkpoint at {seq} differs from the log, which is the truth. Delete it. {found.sentence}",
                path=self.state._checkpoints.path(seq),
                seq=seq,
                page_id=found.page_id,
                start=found.start,
                end=found.end,
            )

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
            f"The checkpoint at {seq} points to a place in the log that is not its own. Delete it.",
            path=self.state._checkpoints.path(seq),
            seq=seq,
        )

    def lone_checkpoint(self, seq: int) -> None:
        """A checkpoint whose commit was not met on the way."""
        taken_since = self.state.read_only and seq > self.head
        if self.load(seq) is not None and seq > self.scratch.seq and not taken_since:
            self.report.add(
                f"There is a checkpoint at {seq}, and the log could be followed up to commit {self.scratch.seq} only. "
                "Opened with read_only=True the store shows it.",
                path=self.state._checkpoints.path(seq),
                seq=seq,
                severity=WARNING,
            )

    # ---- differences, files

    def difference(self, one: Picture, log: Picture, reason: str) -> Finding:
        """Names the first page, byte range and delta in which pages differ from the replayed log."""
        for page_id in sorted(one.facts.keys() | log.facts.keys()):
            if (page_id in one.facts) != (page_id in log.facts):
                where = "log" if page_id in log.facts else "pages"
                return Finding(f"Page {page_id} is only in the {where}. {reason}", page_id=page_id)
            if one.facts[page_id] != log.facts[page_id]:
                return Finding(f"Page {page_id} has another size or epoch than the log says. {reason}", page_id=page_id)
            if one.notes[page_id] != log.notes[page_id]:
                return Finding(
                    f"Page {page_id} has another name or other metadata than the log says. {reason}", page_id=page_id
                )
            content, other = one.contents[page_id], log.contents[page_id]
            if content != other:
                start = next(index for index in range(len(content)) if content[index] != other[index])
                end = next(index for index in range(len(content), 0, -1) if content[index - 1] != other[index - 1])
                delta = self.state.last_write(page_id, at=start, length=end - start)
                return Finding(
                    f"Bytes {start} to {end} of page {page_id} differ from the log; commit "
                    f"{delta.seq if delta is not None else 'of its creation'} wrote them last. {reason}",
                    seq=delta.seq if delta is not None else None,
                    page_id=page_id,
                    start=start,
                    end=end,
                )
        if one.links != log.links:
            return Finding(f"The graph differs from the log. {reason}")
        return Finding(f"The next page id differs from the log. {reason}")

    def files(self) -> None:
        """The identity file, the horizon's slots, and files that do not belong."""
        store, files = self.store, self.log.files
        path = os.path.join(store.path, "horizon")
        data = files.read_file(path, 1 << 20)
        for number, slot in enumerate(read_slots(data, store.uuid)):
            if slot is None or len(data) != HORIZON_BYTES:
                self.report.add(
                    f"Slot {number} of {path} is damaged. It is written anew when the store is next closed.",
                    path=path,
                    offset=SLOTS_AT[number],
                    severity=WARNING,
                )
        if store.identity.encode() != files.read_file(store.identity_path, 4096):
            self.report.add(
                f"{store.identity_path} changed since it was opened. Restore it.", path=store.identity_path, offset=0
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
                    self.report.add(
                        f"{strange} does not belong to the store. Move it away.", path=strange, severity=WARNING
                    )
