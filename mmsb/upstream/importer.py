"""Writes what the readers found into a State, through its public methods only.

One delta of the log becomes one commit, so that commit k of a fresh store is delta k of the log. What mmsb has no
place for (delta id, epoch, time) is kept in the commit's intent, the page id in the page's metadata.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from mmsb._core.delta import Delta
from mmsb.upstream.checkpoint import read_checkpoint, survey_checkpoint
from mmsb.upstream.files import Path, Progress, Report
from mmsb.upstream.log import LogFrame, read_log, survey_log

if TYPE_CHECKING:
    from mmsb.state import State

CHECKPOINT_SOURCE = "mmsb import"


def page_name(page_id: int) -> str:
    """The name that page `page_id` of the first MMSB gets."""
    return f"page-{page_id}"


def import_log(
    path: Path,
    state: State,
    report: Report | None = None,
    *,
    skip_damage: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Imports a log: each delta one commit with its source, each page created in the commit of its first delta.

    The log has no page sizes: a page gets the length of its longest mask. So the file is read twice, and everything in
    `report` is known before the first commit. Reading stops at the first damage; `skip_damage` goes on at the next
    frames that look intact. `progress(done, total)` counts bytes of the second reading. Returns the report.
    Raises NotAStoreError, FormatVersionError, DuplicateNameError (a page "page-<id>" is there already).
    """
    report = Report() if report is None else report
    sizes = survey_log(path, report, skip_damage=skip_damage)
    pages: dict[int, Any] = {}
    # A log that still grows is taken as it was surveyed.
    for frame in islice(read_log(path, skip_damage=skip_damage), report.frames):
        with state.batch(source=frame.source or None, intent=_intent_of(frame)) as batch:
            if frame.page_id not in pages:
                pages[frame.page_id] = batch.create_page(
                    sizes[frame.page_id],
                    name=page_name(frame.page_id),
                    metadata={"upstream_page_id": frame.page_id},
                )
            ranges = frame.ranges()
            if ranges:
                batch.apply(Delta.from_ranges(pages[frame.page_id].page_id, ranges, frame.values()))
        if progress is not None:
            progress(frame.end, report.nbytes)
    return report


def _intent_of(frame: LogFrame) -> dict[str, Any]:
    intent: dict[str, Any] = {"upstream_delta_id": frame.delta_id, "upstream_epoch": frame.epoch}
    if frame.timestamp_ns:
        intent["upstream_time_ns"] = frame.timestamp_ns
    if frame.intent is not None:
        intent["upstream_intent"] = frame.intent
    return intent


def import_checkpoint(
    path: Path, state: State, report: Report | None = None, *, progress: Progress | None = None
) -> Report:
    """Imports a checkpoint: each page one commit, with its bytes, its metadata and where it came from.

    All lengths are checked before the first commit. Returns the report.
    Raises NotAStoreError, FormatVersionError, CorruptCheckpointError (nothing was imported), DuplicateNameError.
    """
    report = Report() if report is None else report
    survey_checkpoint(path, report)
    for page in read_checkpoint(path):
        metadata: dict[str, Any] = {key: value for key, value in page.metadata if key}
        metadata["upstream_page_id"] = page.page_id
        metadata["upstream_epoch"] = page.epoch
        metadata["upstream_location"] = page.location
        with state.batch(source=CHECKPOINT_SOURCE) as batch:
            batch.create_page(page.size, name=page_name(page.page_id), metadata=metadata, data=page.data)
        if progress is not None:
            progress(page.offset + page.size, report.nbytes)
    return report
