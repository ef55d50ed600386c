"""Compacting: forgetting the history before a seq, explicitly. What is kept, and what goes, is a written contract.

A full checkpoint, the *base*, is written aside at the new beginning, read back and compared with the replayed log.
Renaming it is the one step that counts: before it nothing is forgotten, after it the history begins there, and whoever
opens the store deletes what a crash left of the rest.
"""

from __future__ import annotations

import os
import re
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmsb.bases import segments_between
from mmsb.digest import core_digest
from mmsb.errors import CorruptCheckpointError, ReadOnlyError
from mmsb.log import room_for

if TYPE_CHECKING:
    from mmsb._core.files import Files
    from mmsb.checkpoints import Checkpoints
    from mmsb.segments import Segment
    from mmsb.state import State


@dataclass
class CompactReport:
    """What goes (or went): commits before `first_seq`, the oldest state kept; files, their bytes, and labels.

    `labels`: (seq, label) of the forgotten commits.
    """

    first_seq: int
    forgotten_commits: int = 0
    bytes_freed: int = 0
    segments: list[str] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    labels: list[tuple[int, str]] = field(default_factory=list)
    dry_run: bool = False


def compact(
    state: State, before: int | str | datetime, *, keep_labels: bool = True, dry_run: bool = False
) -> CompactReport:
    """Forgets every state before `before` (a seq, label or datetime), which becomes the oldest one kept.

    Whole segments and checkpoints before it are deleted. With `keep_labels` the labels of forgotten commits still stand
    for their seqs, though the states are gone. RetentionError when `before` is gone already, ReadOnlyError for a State
    in memory or open for reading, CorruptCheckpointError when the new base does not read back: then all is kept.
    """
    if state._store is None or state.read_only:
        raise ReadOnlyError(
            "Only a stored State that is open for writing can be compacted. Open it without read_only=True."
        )
    compressor = state._store.compressor
    with state._checkpoints.lock, compressor.lock if compressor is not None else nullcontext():
        seq = state.at(before).seq
        log, checkpoints = state._log, state._checkpoints
        keeper = log.segment_of(seq + 1)
        going = [segment for segment in log.segments if segment.number < keeper.number]
        forgotten, at_seq = _labels(state, seq)
        orphans = _orphans(checkpoints, seq)
        report = CompactReport(seq, max(0, seq - log.first_seq), labels=forgotten, dry_run=dry_run)
        if seq <= log.first_seq:
            return report
        report.segments = [segment.path for segment in going if segment.path is not None]
        report.checkpoints = [checkpoints.path(at) for at in orphans]
        report.bytes_freed = sum(os.path.getsize(path) for path in report.segments + report.checkpoints)
        if dry_run:
            return report
        # The head keeps a checkpoint of its own, so that opening stays quick.
        if checkpoints.last is not None and checkpoints.last.seq in orphans and checkpoints.last.seq > seq:
            checkpoints.write(state, full=True)
            orphans = _orphans(checkpoints, seq)
            report.checkpoints = [checkpoints.path(at) for at in orphans]
        _write_base(state, seq, keeper, forgotten + at_seq if keep_labels else at_seq)
        _forget(state, going)
        _delete(log.files, report.segments + [path + ".zst" for path in report.segments])
        _drop(checkpoints, seq)
    state._announce("compaction_done", state.seq, seq, report.bytes_freed)
    return report


def _labels(state: State, seq: int) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """(seq, label) of the kept commits before `seq`, those kept of earlier ones first; and of commit `seq` itself."""
    log = state._log
    found = list(log.base.labels) if log.base is not None else []
    for segment in segments_between(log, log.first_seq, seq):
        reader = state._indexes.of(segment, seq)
        found += sorted(reader.index.labels(reader.data, max(log.first_seq, segment.base_seq) + 1, seq))
    return [each for each in found if each[0] < seq], [each for each in found if each[0] == seq]


def _orphans(checkpoints: Checkpoints, seq: int) -> list[int]:
    """Checkpoints that are of no use once those before `seq` are gone, ascending. Damaged ones stay to be reported.

    CorruptCheckpointError when the disk does not give one: nobody knows on what it builds.
    """
    orphans: list[int] = []
    for at, _ in checkpoints.store.checkpoint_paths():
        try:
            parent = checkpoints.head(at).parent_seq
        except CorruptCheckpointError as error:
            if isinstance(error.__cause__, OSError):
                raise
            parent = 0
        # The base itself takes the place of the checkpoint at `seq`, full, and those that build on it go on. A crash
        # may have taken the parents of others already.
        if at < seq or (at > seq and (0 < parent < seq or parent in orphans)):
            orphans.append(at)
    return orphans


def _drop(checkpoints: Checkpoints, seq: int) -> None:
    """Deletes the checkpoints before `seq` and all that build on them: these first, durably and from the last one on.

    So there is never one above `seq` whose parent is gone, whenever a crash or a reader looks.
    """
    orphans = _orphans(checkpoints, seq)[::-1]
    _delete(checkpoints.files, [checkpoints.path(at) for at in orphans if at > seq])
    _delete(checkpoints.files, [checkpoints.path(at) for at in orphans if at < seq])


def _write_base(state: State, seq: int, keeper: Segment, labels: list[tuple[int, str]]) -> None:
    """Writes the full checkpoint that the history begins with from now on, proves it right, and puts it there."""
    from mmsb.checkpoint import encode_image, image_at
    from mmsb.checkpoints import read_file

    log, checkpoints = state._log, state._checkpoints
    log.sync(state)
    image = image_at(state, seq, keeper)
    image.base = True
    image.labels = labels
    path = checkpoints.path(seq)
    aside = path + ".new"
    data = encode_image(image, image.pages)
    with room_for(path, len(data)):
        state._store.folder("checkpoints")
        log.files.write_file(aside, data)
    copy = state.scratch()
    try:
        back = read_file(log.files, aside)
        back.load_into(copy)
        right = core_digest(copy) == image.digest
    except CorruptCheckpointError:
        right = False
    if not right:
        log.files.unlink(aside)
        raise CorruptCheckpointError(
            f"The checkpoint {aside} did not read back as it was written. Nothing was deleted; check the disk.",
            path=aside,
            offset=0,
            seq=seq,
            reason="read back differs",
        )
    log.files.rename(aside, path)
    log.files.sync_directory(os.path.dirname(path))
    checkpoints.images.clear()
    with state._exclusive():
        log.base = back
    if checkpoints.last is not None and checkpoints.last.seq <= seq:
        checkpoints.remember(back, {page_id: (page[1], page[0]) for page_id, page in back.pages.items()})
        checkpoints.chain = 0


def _forget(state: State, going: list[Segment]) -> None:
    """Takes segments out of the log."""
    log = state._log
    with log.sync_lock, state._exclusive():
        for segment in going:
            if segment in log.unsynced:
                log.unsynced.remove(segment)
                log.release(segment)
        log.forget(going)


def _delete(files: Files, paths: list[str]) -> None:
    """Deletes what is there of `paths`, and makes that durable."""
    folders = set()
    for path in paths:
        if os.path.lexists(path):
            files.unlink(path)
            folders.add(os.path.dirname(path))
    for folder in sorted(folders):
        files.sync_directory(folder)


def sweep(files: Files, checkpoints: Checkpoints, base: Any) -> None:
    """Deletes what a crash left: history before `base` (an Image or None), files half written, doubles of segments."""
    going, store = [], checkpoints.store
    for folder in ("log", "checkpoints"):
        path = os.path.join(store.path, folder)
        names = set(os.listdir(path)) if os.path.isdir(path) else set()
        for name in sorted(names):
            match = re.fullmatch(r"([0-9]+)\.seg(\.zst)?", name)
            if (
                name.endswith(".new")
                or (match and base is not None and int(match[1]) < base.segment)
                or (name.endswith(".zst") and name.removesuffix(".zst") in names)
            ):
                going.append(os.path.join(path, name))
    _delete(files, going)
    if base is not None:
        with suppress(CorruptCheckpointError):  # the next opening finds them again
            _drop(checkpoints, base.seq)
