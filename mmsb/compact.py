"""Compacting: forgetting the history before a seq, explicitly. What is kept, and what goes, is a written contract.

A full checkpoint at the new beginning is written, read back and compared with the replayed log before anything is
deleted. Then older checkpoints go, then whole segments that lie before it. A crash at any step leaves either history.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mmsb.digest import core_digest
from mmsb.errors import CorruptCheckpointError, ReadOnlyError

if TYPE_CHECKING:
    from mmsb.state import State


@dataclass
class CompactReport:
    """What goes (or went): commits up to `forgotten_seq`, files, bytes, labels. `first_seq`: the oldest state kept."""

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

    With `keep_labels` the labels of forgotten commits are still listed, though their states are gone. RetentionError
    when `before` is gone already, ReadOnlyError for a State in memory or open for reading.
    """
    if state._store is None or state.read_only:
        raise ReadOnlyError(
            "Only a stored State that is open for writing can be compacted. Open it without read_only=True."
        )
    seq = state.at(before).seq
    log, store = state._log, state._store
    report = CompactReport(seq, forgotten_commits=max(0, seq - log.first_seq), dry_run=dry_run)
    report.labels = [
        (frame.seq, change.text)
        for frame in log.frames(since=log.first_seq + 1, until=seq - 1)
        if frame.kind == "commit"
        for change in frame.changes()
        if change.kind == "label"
    ]
    keeper = log.segment_of(seq + 1) if seq < state.seq else log.active
    going = [segment for segment in log.segments if segment.number < keeper.number and segment is not log.active]
    report.segments = [segment.path for segment in going]
    report.checkpoints = [path for at, path in store.checkpoint_paths() if at < seq]
    report.bytes_freed = sum(os.path.getsize(path) for path in report.segments + report.checkpoints)
    if dry_run or seq <= log.first_seq:
        return report
    write_base(state, seq, keeper, report.labels if keep_labels else [])
    for path in report.checkpoints:
        log.files.unlink(path)
    log.files.sync_directory(store.folder("checkpoints"))
    with state._exclusive():
        log.base = state._checkpoints.load(seq)
        for segment in going:
            if segment in log.unsynced:
                log.unsynced.remove(segment)
                log.release(segment)
            log.segments.remove(segment)
            state._indexes.forget(segment)
    for path in report.segments:
        log.files.unlink(path)
    log.files.sync_directory(os.path.join(store.path, "log"))
    return report


def write_base(state: State, seq: int, keeper: object, labels: list[tuple[int, str]]) -> None:
    """Writes the full checkpoint that the history begins with from now on, and proves that it is right."""
    from mmsb.checkpoint import encode_image, image_at

    log, store = state._log, state._store
    log.sync(state)
    image = image_at(state, seq, keeper)
    image.base = True
    image.labels = [*(log.base.labels if log.base is not None else []), *labels]
    path = os.path.join(store.folder("checkpoints"), f"{seq:020d}.ckpt")
    log.files.write_file(path, encode_image(image, image.pages))
    state._checkpoints.images.clear()
    copy = state.scratch()
    state._checkpoints.load(seq).load_into(copy)
    if core_digest(copy) != image.digest:
        log.files.unlink(path)
        raise CorruptCheckpointError(
            f"The checkpoint {path} did not read back as it was written. Nothing was deleted; check the disk.",
            path=path,
            offset=0,
            seq=seq,
            reason="read back differs",
        )
