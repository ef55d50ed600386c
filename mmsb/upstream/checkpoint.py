"""Reads the first MMSB's checkpoint, versions 1 and 2, and the layout without metadata that shares number 2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mmsb import errors
from mmsb.upstream.files import HEADER_BYTES, PAGE_BYTES_MAX, U32, IdSet, Path, Report, Window, expect, opened

CHECKPOINT_HEADER_BYTES = 24
PAGE_HEAD = struct.Struct("<QQIi")  # page id, size, epoch, location
# Leaves room for what the import adds; mmsb has 16 MiB. The first MMSB kept words here.
METADATA_BYTES_MAX = 1 << 23
LOCATIONS = ("cpu", "gpu", "unified")


@dataclass(frozen=True)
class CheckpointPage:
    """One page of a checkpoint. `metadata`: (key, value) in file order."""

    offset: int
    page_id: int
    size: int
    epoch: int
    location: str
    metadata: list[tuple[str, bytes]]
    data: bytes


def _parse_metadata(raw: bytes) -> list[tuple[str, bytes]]:
    """u32 count, then length-prefixed keys and values; ValueError(message) when it is not exactly that."""
    at, pairs = 4, []

    def piece() -> bytes:
        nonlocal at
        if at + 4 > len(raw) or at + 4 + U32.unpack_from(raw, at)[0] > len(raw):
            raise ValueError("metadata is cut off")
        begin = at + 4
        at = begin + U32.unpack_from(raw, at)[0]
        return raw[begin:at]

    if not raw:
        return []
    if len(raw) < 4:
        raise ValueError("metadata is cut off")
    for _ in range(U32.unpack_from(raw)[0]):
        try:
            key = piece().decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("a metadata key is not UTF-8") from None
        pairs.append((key, piece()))
    if at != len(raw):
        raise ValueError(f"metadata has {len(raw) - at} bytes too many")
    return pairs


def read_checkpoint(path: Path, report: Report | None = None) -> Iterator[CheckpointPage]:
    """The pages of a checkpoint of the first MMSB, lazily, in file order.

    Raises CorruptCheckpointError at the first thing that cannot be right (the pages before it were yielded).
    """
    yield from _read(path, Report() if report is None else report, with_data=True)


def survey_checkpoint(path: Path, report: Report | None = None) -> None:
    """Reads everything but the pages' bytes: fills `report`. Raises as read_checkpoint() does."""
    for _ in _read(path, Report() if report is None else report, with_data=False):
        pass


def _read(path: Path, report: Report, with_data: bool) -> Iterator[CheckpointPage]:
    version = expect(path, "checkpoint", report)
    with opened(path) as source:
        file = Window(source)
        has_metadata = True
        if version == 2 and not _is_sound(file, True) and _is_sound(file, False):
            has_metadata = False
            report.note("layout", HEADER_BYTES, "no metadata fields, as mmsb-memory of 2026 wrote under version 2")
        yield from _pages(file, has_metadata, report, with_data)


def _is_sound(file: Window, has_metadata: bool) -> bool:
    report = Report()
    try:
        for _ in _pages(file, has_metadata, report, with_data=False):
            pass
    except errors.CorruptCheckpointError:
        return False
    return report.fault_count == 0


def _pages(file: Window, has_metadata: bool, report: Report, with_data: bool) -> Iterator[CheckpointPage]:
    def damage(at: int, reason: str) -> errors.CorruptCheckpointError:
        report.fault("damage", at, reason)
        message = f"{report.path}: at byte {at} {reason}. Its pages cannot be trusted from there on; use another file."
        return errors.CorruptCheckpointError(message, path=report.path, offset=at, reason=reason)

    def piece(at: int, count: int) -> bytes:
        if at + count > file.size:
            raise damage(at, f"{count} bytes are needed and the file has {file.size - at}")
        return file.take(at, count)

    page_count, _ = struct.unpack("<IQ", piece(HEADER_BYTES, 12))
    smallest = PAGE_HEAD.size + 4 + 1 + (4 if has_metadata else 0)
    if page_count * smallest > file.size - CHECKPOINT_HEADER_BYTES:
        raise damage(HEADER_BYTES, f"{page_count} pages are announced and the file is too short for them")
    at, ids = CHECKPOINT_HEADER_BYTES, IdSet()
    for _ in range(page_count):
        begin = at
        page_id, size, epoch, location = PAGE_HEAD.unpack(piece(at, PAGE_HEAD.size))
        at += PAGE_HEAD.size
        if size == 0:
            raise damage(begin, f"page {page_id} has size 0")
        if size > PAGE_BYTES_MAX:
            raise damage(begin, f"page {page_id} has {size} bytes, more than the {PAGE_BYTES_MAX} that are taken")
        if not 0 <= location < len(LOCATIONS):
            raise damage(begin + 20, f"page {page_id} has location {location}")
        if not ids.add(page_id):
            raise damage(begin, f"page {page_id} occurs twice")
        pairs: list[tuple[str, bytes]] = []
        if has_metadata:
            length = U32.unpack(piece(at, 4))[0]
            if length > METADATA_BYTES_MAX:
                raise damage(at, f"page {page_id} has {length} bytes of metadata")
            try:
                pairs = _parse_metadata(piece(at + 4, length))
            except ValueError as error:
                raise damage(at + 4, f"page {page_id}: {error}") from None
            if len({key for key, _ in pairs}) < len(pairs):
                report.note("metadata", at, f"page {page_id} has a metadata key twice; the last one counts")
            if any(not key for key, _ in pairs):
                report.note("metadata", at, f"page {page_id} has metadata without a key, which is left out")
            at += 4 + length
        length = U32.unpack(piece(at, 4))[0]
        if length != size:
            raise damage(at, f"page {page_id} has {size} bytes and {length} are stored")
        if at + 4 + length > file.size:
            raise damage(at, f"page {page_id} needs {length} bytes and the file has {file.size - at - 4}")
        data = file.take(at + 4, length) if with_data else b""
        at += 4 + length
        report.pages, report.nbytes_read = report.pages + 1, at
        yield CheckpointPage(begin, page_id, size, epoch, LOCATIONS[location], pairs, data)
    if at != file.size:
        report.fault("trailing bytes", at, f"{file.size - at} bytes follow the last page and were not read")
