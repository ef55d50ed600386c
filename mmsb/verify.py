"""Verifying: every frame, anchor, checkpoint and file of a State, and the replayed log against its pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb._core.log import END
from mmsb.digest import core_digest
from mmsb.errors import CorruptLogError, MMSBError
from mmsb.horizon import SLOT_BYTES, decode
from mmsb.segments import Segment, cursor_of, read_head, read_segment

if TYPE_CHECKING:
    from mmsb.state import State

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, and a sentence that says what to do."""

    sentence: str
    path: str | None = None
    offset: int | None = None
    seq: int | None = None
    page_id: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass
class Report:
    """What was checked, and what was found wrong. An empty `findings` is a clean bill."""

    findings: list[Finding] = field(default_factory=list)
    segments: int = 0
    frames: int = 0
    commits: int = 0
    anchors: int = 0
    checkpoints: int = 0

    def add(self, sentence: str, **where: Any) -> None:
        """Notes a fault."""
        self.findings.append(Finding(sentence, **where))


def verify(state: State, progress: Progress | None = None) -> Report:
    """Checks a State from its first kept frame to its head. `progress(done, total)` is called with log bytes."""
    report = Report()
    damage = state._recovered.damage if state._recovered is not None else None
    if damage is not None:
        report.add(str(damage), path=damage.path, offset=damage.offset, seq=damage.seq)
    with state._exclusive():
        log = state._log
        log.settle()
        segments, head = list(log.segments), state.seq
        live = core_digest(state)
        pages = {
            page_id: (*state._page_info(page_id), bytes(state._page_bytes(page_id))) for page_id in state._page_ids()
        }
    scratch = state.scratch()
    if log.base is not None:
        if isinstance(log.base, type(scratch)):
            copy_core(log.base, scratch)
        else:
            log.base.load_into(scratch)
    checkpoints = _read_checkpoints(state, report)
    total = sum(segment.tail for segment in segments)
    done = 0
    # A compacted history begins between two anchors, so the first one it meets can only be taken as it is.
    hasher = log.store.hasher(bytes(32)) if state._store is not None and log.base is None else None
    for segment in segments:
        try:
            data = _verified_bytes(state, segment, report)
            if log.base is not None and getattr(log.base, "segment", None) is not None:
                if segment.number < log.base.segment:
                    continue
            hasher = _verify_segment(state, segment, data, scratch, checkpoints, hasher, head, report)
        except (CorruptLogError, MMSBError, OSError) as error:
            report.add(str(error), path=segment.path, offset=getattr(error, "offset", None), seq=scratch.seq + 1)
            return report
        report.segments += 1
        done += segment.tail
        if progress is not None:
            progress(done, total)
    if scratch.seq != head:
        report.add(
            f"The log ends at commit {scratch.seq} and the State is at {head}. Close it and open the store again.",
            seq=scratch.seq + 1,
        )
    elif core_digest(scratch) != live:
        report.findings.append(_first_difference(state, scratch, pages))
    if state._store is not None:
        _verify_files(state, report)
    return report


def copy_core(source: Any, target: Any) -> None:
    """Loads all that one core holds into an empty one."""
    for page_id in source._page_ids():
        size, epoch, kind = source._page_info(page_id)
        target._load_page(page_id, size, epoch, kind, source._page_bytes(page_id))
    for page_id in sorted(source._name_of.keys() | source._metadata.keys()):
        target._load_description(page_id, source._name_of.get(page_id), source._metadata.get(page_id))
    target._set_position(source.seq, source.time_ns, source.branch, source.next_page_id, source.last_crc)


def _verified_bytes(state: State, segment: Segment, report: Report) -> Any:
    """The segment's bytes, read anew from the file; bytes after its tail must be zero."""
    if segment.path is None:
        return state._log.buffer(segment)
    head = read_head(state._log.files, segment.path)
    if head.encode() != segment.head.encode():
        report.add(
            f"The header of {segment.path} changed since it was opened. Restore the file.", path=segment.path, offset=0
        )
    whole = Segment(head, head.capacity, path=segment.path)
    data = read_segment(state._log.files, whole)
    rest = memoryview(data)[segment.tail :]
    if not state.read_only and any(rest):
        offset = segment.tail + next(index for index, value in enumerate(rest) if value)
        report.add(
            f"{segment.path} has bytes after the end of the log, at offset {offset}. They are ignored, and cut off "
            "at the next open.",
            path=segment.path,
            offset=offset,
        )
    return data


def _verify_segment(
    state: State,
    segment: Segment,
    data: Any,
    scratch: Any,
    checkpoints: dict[int, bytes],
    hasher: Any,
    head: int,
    report: Report,
) -> Any:
    """Checks frames, recomputes anchors, compares checkpoints on the way. Returns the hash of the next anchor."""
    base = state._log.base
    cursor = cursor_of(segment, data)
    feeder = cursor_of(segment, data)
    applier = cursor_of(segment, data)
    if base is not None and getattr(base, "segment", None) == segment.number:
        for each in (cursor, feeder, applier):
            each.seek(base.offset, base.seq, base.time_ns, base.last_crc, base.sources)
    for frame in cursor:
        report.frames += 1
        if frame.kind == "commit":
            report.commits += 1
            if frame.seq in checkpoints:
                scratch._replay(applier, frame.seq)
                _compare_checkpoint(state, checkpoints.pop(frame.seq), scratch, frame.seq, report)
            continue
        report.anchors += 1
        if state._store is None:
            continue
        if hasher is not None:
            feeder.limit(frame.offset)
            feeder.canonical(hasher.update)
            if hasher.digest() != frame.anchor:
                report.add(
                    f"The anchor after commit {frame.seq} does not match the commits before it: "
                    "the history was changed. Compare with a replica or a backup.",
                    path=segment.path,
                    offset=frame.offset,
                    seq=frame.seq,
                )
        feeder.limit(segment.tail)
        feeder.seek(frame.offset + frame.nbytes, frame.seq, frame.time_ns, cursor.last_crc, cursor.sources)
        hasher = state._log.store.hasher(frame.anchor)
    if cursor.offset != segment.tail or (cursor.stopped != END and cursor.offset < segment.tail):
        raise CorruptLogError(
            f"{segment.path or 'The log in memory'} is damaged at offset {cursor.offset} (commit {cursor.seq + 1}): "
            f"{cursor.stopped}. Restore the file, or save what is before it with read_only=True.",
            path=segment.path,
            offset=cursor.offset,
            seq=cursor.seq + 1,
            reason=cursor.stopped,
        )
    scratch._replay(applier, head)
    if hasher is not None:
        feeder.canonical(hasher.update)
    return hasher


def _read_checkpoints(state: State, report: Report) -> dict[int, bytes]:
    """{seq: digest} of the checkpoints, each decoded whole; damaged ones are findings."""
    digests: dict[int, bytes] = {}
    if state._store is None:
        return digests
    for seq, path in state._store.checkpoint_paths():
        try:
            state._checkpoints.images.clear()
            digests[seq] = state._checkpoints.load(seq).digest
            report.checkpoints += 1
        except (MMSBError, OSError, KeyError) as error:
            report.add(f"The checkpoint {path} cannot be used: {error}", path=path, seq=seq)
    return digests


def _compare_checkpoint(state: State, digest: bytes, scratch: Any, seq: int, report: Report) -> None:
    image = state._checkpoints.load(seq)
    copy = state.scratch()
    image.load_into(copy)
    if core_digest(scratch) != digest or core_digest(copy) != digest:
        report.add(
            f"The checkpoint at {seq} differs from the log. Delete it; the log is the truth.",
            path=os.path.join(state._store.path, "checkpoints", f"{seq:020d}.ckpt"),
            seq=seq,
        )


def _first_difference(state: State, scratch: Any, pages: dict[int, tuple[int, int, int, bytes]]) -> Finding:
    """Names the first page, byte range and delta in which the pages differ from the replayed log."""
    for page_id in sorted(set(pages) | set(scratch._page_ids())):
        if page_id not in pages or not scratch._has_page(page_id):
            return Finding(f"Page {page_id} is only in the {'pages' if page_id in pages else 'log'}.", page_id=page_id)
        size, epoch, kind, content = pages[page_id]
        other = bytes(scratch._page_bytes(page_id))
        if (size, epoch, kind) != scratch._page_info(page_id):
            return Finding(f"Page {page_id} has another size or epoch than the log says.", page_id=page_id)
        if content != other:
            start = next(index for index in range(size) if content[index] != other[index])
            end = next(index for index in range(size, 0, -1) if content[index - 1] != other[index - 1])
            delta = state.last_write(page_id, at=start, length=end - start)
            return Finding(
                f"Bytes {start} to {end} of page {page_id} differ from the log; commit "
                f"{delta.seq if delta is not None else 'of its creation'} wrote them last. "
                "The memory was changed from outside.",
                seq=delta.seq if delta is not None else None,
                page_id=page_id,
                start=start,
                end=end,
            )
    return Finding("Names or metadata of pages differ from the log.")


def _verify_files(state: State, report: Report) -> None:
    """The identity file, the horizon's slots, and files that do not belong."""
    store, files = state._store, state._log.files
    path = os.path.join(store.path, "horizon")
    data = files.read_file(path, 1 << 20)
    slots = [decode(data[:SLOT_BYTES]), decode(data[SLOT_BYTES : 2 * SLOT_BYTES])]
    for number, slot in enumerate(slots):
        if slot is None or len(data) != 2 * SLOT_BYTES:
            report.add(
                f"Slot {number} of {path} is damaged. It is rewritten at the next sync.",
                path=path,
                offset=number * SLOT_BYTES,
            )
    if store.identity.encode() != files.read_file(store.identity_path, 4096):
        report.add(
            f"{store.identity_path} changed since it was opened. Restore it.", path=store.identity_path, offset=0
        )
    known = {"store", "lock", "horizon", "log", "checkpoints", "torn"}
    for name in sorted(set(os.listdir(store.path)) - known):
        report.add(
            f"{os.path.join(store.path, name)} does not belong to the store. Move it away.",
            path=os.path.join(store.path, name),
        )
