"""Reads the first MMSB's log, versions 1 and 2.

Its frames have no length prefix, no marker and no checksum, so that one lost byte makes everything behind it look like
something else. A frame is believed when its own fields agree and what follows it is a frame again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mmsb.upstream.files import HEADER_BYTES, PAGE_BYTES_MAX, U32, IdSet, Path, Progress, Report, Window, expect, opened

FRAME_HEAD = struct.Struct("<QQII")  # delta id, page id, epoch, mask length
FRAME_TAIL = struct.Struct("<BQI")  # is_sparse, timestamp ns, source length

# What a source of mmsb may have. Random bytes give far more.
SOURCE_BYTES_MAX = 4096
# Leaves room for what the import adds to the intent; mmsb has 16 MiB.
INTENT_BYTES_MAX = 1 << 23
# Years 2000 to 2100: clocks of programs that ran the first MMSB. 0 is what its C interface always wrote.
TIME_NS_MIN, TIME_NS_MAX = 946_684_800 * 10**9, 4_102_444_800 * 10**9
# Ids count up from 1. A frame of version 2 read as version 1 shows four foreign bytes in the low half of its id.
DELTA_ID_LIKELY_MAX = 1 << 32
# How far to look for intact frames behind damage, and how many bytes the look may inspect in all.
SEARCH_BYTES, SEARCH_COST_BYTES = 1 << 20, 1 << 26


@dataclass(frozen=True)
class LogFrame:
    """One delta of a log. `mask` has a byte 0 or 1 per page byte; `intent` is the JSON text of version 2 or None."""

    offset: int
    end: int
    delta_id: int
    page_id: int
    epoch: int
    mask: bytes
    payload: bytes
    is_sparse: bool
    timestamp_ns: int
    source: str
    source_is_lossy: bool
    intent: str | None

    def ranges(self) -> list[tuple[int, int]]:
        """The masked byte ranges as [(offset, length), ...], ascending, never adjacent."""
        return [(run.start(), run.end() - run.start()) for run in re.finditer(rb"\x01+", self.mask)]

    def values(self) -> bytes:
        """The new values of the masked bytes, ascending."""
        if self.is_sparse:
            return self.payload
        return b"".join(self.payload[offset : offset + length] for offset, length in self.ranges())

    def is_familiar(self) -> bool:
        """Whether the fields behind the payload look written and not met by chance."""
        in_time = self.timestamp_ns == 0 or TIME_NS_MIN <= self.timestamp_ns < TIME_NS_MAX
        return in_time and not self.source_is_lossy and self.source.isprintable()


class _NotAFrameError(Exception):
    """No frame stands here: `kind`, `offset` of the offending byte; `torn` when only the end of the file is missing."""

    def __init__(self, kind: str, offset: int, message: str, torn: bool = False) -> None:
        super().__init__(message)
        self.kind, self.offset, self.message, self.torn = kind, offset, message, torn


def _parse_frame(file: Window, offset: int, version: int) -> LogFrame:
    """The frame at `offset`, or _NotAFrameError."""

    def piece(at: int, count: int, what: str) -> bytes:
        data = file.take(at, count)
        if len(data) < count:
            message = f"the file ends inside a frame, in its {what}"
            raise _NotAFrameError("torn tail", offset, message, torn=True)
        return data

    delta_id, page_id, epoch, mask_bytes = FRAME_HEAD.unpack(piece(offset, FRAME_HEAD.size, "header"))
    at = offset + FRAME_HEAD.size
    if mask_bytes == 0:
        raise _NotAFrameError("phantom frame", offset, "a frame without a mask, as zeros or garbage look")
    if mask_bytes > PAGE_BYTES_MAX:
        raise _NotAFrameError("phantom frame", offset, f"a mask of {mask_bytes} bytes")
    stray = re.search(rb"[^\x00\x01]", file.take(at, mask_bytes))
    if stray:
        found = f"mask byte {stray.start()} of {mask_bytes} is {stray.group()[0]}, neither 0 nor 1"
        raise _NotAFrameError("mask byte", at + stray.start(), found)
    mask = piece(at, mask_bytes, "mask")
    at += mask_bytes
    payload_bytes = U32.unpack(piece(at, 4, "payload length"))[0]
    set_count = mask.count(1)
    if payload_bytes not in (set_count, mask_bytes):
        message = f"a payload of {payload_bytes} bytes for a mask of {mask_bytes} with {set_count} set"
        raise _NotAFrameError("payload length", at, message)
    payload = piece(at + 4, payload_bytes, "payload")
    at += 4 + payload_bytes
    is_sparse, timestamp_ns, source_bytes = FRAME_TAIL.unpack(piece(at, FRAME_TAIL.size, "timestamp"))
    if is_sparse > 1 or payload_bytes != (set_count if is_sparse else mask_bytes):
        message = f"the sparse flag is {is_sparse} and the payload has {payload_bytes} bytes"
        raise _NotAFrameError("payload length", at, message)
    at += FRAME_TAIL.size
    if source_bytes > SOURCE_BYTES_MAX:
        raise _NotAFrameError("source length", at - 4, f"a source name of {source_bytes} bytes")
    raw = piece(at, source_bytes, "source")
    source = raw.decode("utf-8", "replace")
    at += source_bytes
    intent = None
    if version == 2:
        intent, at = _parse_intent(file, at, offset)
    return LogFrame(
        offset,
        at,
        delta_id,
        page_id,
        epoch,
        mask,
        payload,
        is_sparse == 1,
        timestamp_ns,
        source,
        "\ufffd" in source,
        intent,
    )


def _parse_intent(file: Window, at: int, begin: int) -> tuple[str | None, int]:
    """The intent metadata of version 2 at `at`, and where it ends; its frame begins at `begin`."""
    length = file.take(at, 4)
    if len(length) < 4:
        raise _NotAFrameError("torn tail", begin, "the file ends inside a frame, in its intent length", torn=True)
    intent_bytes = U32.unpack(length)[0]
    if intent_bytes == 0:
        return None, at + 4
    if intent_bytes > INTENT_BYTES_MAX:
        raise _NotAFrameError("intent", at, f"intent metadata of {intent_bytes} bytes")
    raw = file.take(at + 4, intent_bytes)
    if raw[:1] not in b'{["0123456789-tfn \t\r\n':
        raise _NotAFrameError("intent", at + 4, "intent metadata that is not JSON")
    if len(raw) < intent_bytes:
        raise _NotAFrameError("torn tail", begin, "the file ends inside a frame, in its intent", torn=True)
    try:
        return raw.decode("utf-8"), at + 4 + intent_bytes
    except UnicodeDecodeError as error:
        message = "intent metadata that is not UTF-8"
        raise _NotAFrameError("intent", at + 4 + error.start, message) from None


class _LogReader:
    """Walks one log. `sizes` grows to the longest mask of each page."""

    def __init__(self, file: Window, version: int, report: Report, skip_damage: bool) -> None:
        self.file, self.version, self.report, self.skip_damage = file, version, report, skip_damage
        self.sizes: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.ids = IdSet()
        self.time_ns = 0

    def frames(self) -> Iterator[LogFrame]:
        """The frames, each yielded only when what follows it confirms where it ends."""
        offset = HEADER_BYTES
        held: LogFrame | None = None
        while offset < self.file.size:
            try:
                frame = self._frame_or_mixed(offset, held)
            except _NotAFrameError as problem:
                search_from = offset + 1
                if held is not None and held.is_familiar():
                    yield self._accept(held)
                elif held is not None:
                    search_from = held.offset + 1
                    self._report_phantom(held)
                held = None
                follower = self._report_damage(offset, problem, search_from)
                if follower is None or not self.skip_damage:
                    return
                offset = follower
                continue
            if frame is None:  # the frame before was one of version 2: read on from behind its intent
                assert held is not None
                held = _parse_frame(self.file, held.offset, self.version)
                offset = held.end
                continue
            if held is not None:
                yield self._accept(held)
            held, offset = frame, frame.end
        if held is not None:
            yield self._accept(held)

    def _frame_or_mixed(self, offset: int, held: LogFrame | None) -> LogFrame | None:
        """The frame at `offset`; None after switching to version 2, when a version 2 writer went on in a v1 file."""
        problem: _NotAFrameError | None = None
        frame: LogFrame | None = None
        try:
            frame = _parse_frame(self.file, offset, self.version)
        except _NotAFrameError as error:
            problem = error
        doubtful = frame is None or frame.delta_id % DELTA_ID_LIKELY_MAX == 0 or frame.delta_id > DELTA_ID_LIKELY_MAX
        if doubtful and self.version == 1 and held is not None and self._is_version_2_at(held.offset):
            self.version = 2
            self.report.fault(
                "mixed versions",
                held.offset,
                "the header says version 1 and frames of version 2 begin here; the first MMSB cannot read on, this "
                "import can",
            )
            return None
        if problem is not None:
            raise problem
        return frame

    def _is_version_2_at(self, offset: int) -> bool:
        """Whether a frame of version 2 stands here and another one, or the end of the file, behind it."""
        try:
            end = _parse_frame(self.file, offset, 2).end
            if end < self.file.size:
                _parse_frame(self.file, end, 2)
        except _NotAFrameError as problem:
            return problem.torn and problem.offset > offset
        return True

    def _report_phantom(self, held: LogFrame) -> None:
        """What stands before damage may itself be glued from two frames; its last fields then look met by chance."""
        self.report.fault(
            "phantom frame",
            held.offset,
            f"delta {held.delta_id} of page {held.page_id} ends in implausible fields just before damage; left out",
        )

    def _report_damage(self, offset: int, problem: _NotAFrameError, search_from: int) -> int | None:
        """Reports it, and returns where intact frames go on, if they do."""
        follower = self._find_frame(search_from)
        rest = self.file.size - offset
        kind = problem.kind if follower is None or not problem.torn else "torn frame"
        if follower is not None:
            where = f"; frames that look intact go on at byte {follower}"
            where += ", read from there" if self.skip_damage else " and were not read"
        elif offset == HEADER_BYTES and self.version == 2 and not problem.torn:
            where = "; no frame at all: mmsb-memory of 2026 wrote another layout under this version"
        else:
            where = f"; the last {rest} bytes were not read"
        self.report.fault(kind, problem.offset, problem.message + where)
        return follower

    def _find_frame(self, start: int) -> int | None:
        """The first place from which a known page's frame, followed by another or by the end, can be read."""
        cost = 0
        stop = min(self.file.size - FRAME_HEAD.size, start + SEARCH_BYTES)
        area = self.file.take(start, max(0, stop - start) + FRAME_HEAD.size)
        for at in range(max(0, stop - start)):
            _, page_id, _, mask_bytes = FRAME_HEAD.unpack_from(area, at)
            if mask_bytes == 0 or self.sizes.get(page_id) != mask_bytes:
                continue
            cost += 2 * mask_bytes
            if cost > SEARCH_COST_BYTES:
                return None
            try:
                frame = _parse_frame(self.file, start + at, self.version)
                if frame.end < self.file.size:
                    _parse_frame(self.file, frame.end, self.version)
            except _NotAFrameError as problem:
                if not problem.torn or problem.offset == start + at:
                    continue
            return start + at
        return None

    def _accept(self, frame: LogFrame) -> LogFrame:
        """Counts a frame and compares it with those before it."""
        report, page_id, where = self.report, frame.page_id, frame.offset
        who = f"delta {frame.delta_id} of page {page_id}"
        size, epoch = self.sizes.get(page_id), self.epochs.get(page_id)
        if not self.ids.add(frame.delta_id):
            report.fault("duplicate id", where, f"{who}: this delta id was used before, as by a second session")
        if epoch is None and frame.epoch != 1:
            report.note(
                "first epoch", where, f"{who} is its first and has epoch {frame.epoch}; earlier ones are not here"
            )
        elif epoch is not None and frame.epoch < epoch:
            report.fault("epoch regression", where, f"{who} has epoch {frame.epoch} after {epoch}")
        elif epoch is not None and frame.epoch == epoch:
            report.note("repeated epoch", where, f"{who} has epoch {epoch}, like the delta before it")
        elif epoch is not None and frame.epoch > epoch + 1:
            report.fault("epoch gap", where, f"{who} has epoch {frame.epoch} after {epoch}: deltas are missing")
        if frame.timestamp_ns == 0:
            report.note("timestamp 0", where, f"{who} has no time")
        elif not TIME_NS_MIN <= frame.timestamp_ns < TIME_NS_MAX:
            report.fault("timestamp", where, f"{who} has the implausible time {frame.timestamp_ns} ns")
        elif frame.timestamp_ns < self.time_ns:
            report.note("time regression", where, f"{who} is older than a delta before it")
        if frame.source_is_lossy:
            report.note("lossy source", where, f"{who}: its source is not UTF-8 and was replaced in part")
        if size is None:
            report.note("page size", where, f"page {page_id}: a log has no page sizes; the longest mask is taken")
        elif size != len(frame.mask):
            report.note("mask length", where, f"{who} has a mask of {len(frame.mask)} bytes; {size} before")
        self.sizes[page_id] = max(size or 0, len(frame.mask))
        self.epochs[page_id] = frame.epoch
        self.time_ns = max(self.time_ns, frame.timestamp_ns)
        report.frames += 1
        report.pages = len(self.sizes)
        report.nbytes_read = frame.end
        return frame


def read_log(path: Path, report: Report | None = None, *, skip_damage: bool = False) -> Iterator[LogFrame]:
    """The frames of a log of the first MMSB, lazily. `report` collects what is found.

    Reading stops at the first damage; with `skip_damage` it goes on at the next frames that look intact, if there are.
    Raises NotAStoreError and FormatVersionError for files that are no such log.
    """
    report = Report() if report is None else report
    version = expect(path, "log", report)
    with opened(path) as file:
        yield from _LogReader(Window(file), version, report, skip_damage).frames()


def survey_log(
    path: Path,
    report: Report | None = None,
    *,
    skip_damage: bool = False,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Reads a log without importing it: fills `report`, returns the page sizes {page id: bytes of the longest mask}."""
    report = Report() if report is None else report
    sizes: dict[int, int] = {}
    for frame in read_log(path, report, skip_damage=skip_damage):
        sizes[frame.page_id] = max(sizes.get(frame.page_id, 0), len(frame.mask))
        if progress is not None:
            progress(frame.end, report.nbytes)
    return sizes
