"""What both readers stand on: the report, bounded reads, and telling the files apart."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from mmsb import errors

LOG_MAGIC = b"MMSBLOG1"
CHECKPOINT_MAGIC = b"MMSBSNAP"
VERSIONS = (1, 2)
HEADER_BYTES = 12
U32 = struct.Struct("<I")
FINDINGS_KEPT = 20
PAGE_BYTES_MAX = 1 << 30  # a longer page or mask is taken for damage, since it would be read into memory whole

Progress = Callable[[int, int], None]
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Finding:
    """Something found in a file: `kind`, `severity` ("fault" or "note"), byte `offset`, `message`."""

    kind: str
    severity: str
    offset: int
    message: str


@dataclass
class Report:
    """What reading a file showed. Of each kind the first 20 findings are kept; `counts` has them all."""

    path: str = ""
    format: str = ""
    version: int = 0
    frames: int = 0
    pages: int = 0
    nbytes: int = 0
    nbytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    fault_count: int = 0

    def fault(self, kind: str, offset: int, message: str) -> None:
        """Notes damage, or something that only damage or a defect of the writer explains."""
        self.fault_count += 1
        self._add(Finding(kind, "fault", offset, message))

    def note(self, kind: str, offset: int, message: str) -> None:
        """Notes something that a sound file may have and that its reader should know."""
        self._add(Finding(kind, "note", offset, message))

    def _add(self, finding: Finding) -> None:
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        if self.counts[finding.kind] <= FINDINGS_KEPT:
            self.findings.append(finding)


def opened(path: Path) -> BinaryIO:
    """The file, open for reading. NotAStoreError for anything else than a file; never waits for the end of a FIFO."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ELOOP):
            raise not_a_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise not_a_file(path)
    return os.fdopen(fd, "rb")


def not_a_file(path: Path) -> errors.NotAStoreError:
    """The error of a path where something else is."""
    where = os.fspath(path)
    return errors.NotAStoreError(f"{where!r} is no regular file. Check the path.", path=where)


class Window:
    """Exact reads at any offset of an open file, through a window. Nothing is allocated beyond the file's size."""

    READ_BYTES = 1 << 20

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.base, self.window = 0, b""

    def take(self, offset: int, count: int) -> bytes:
        """The bytes, fewer only where the file ends."""
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        if not self.base <= offset <= offset + count <= self.base + len(self.window):
            self.file.seek(offset)
            self.base, self.window = offset, self.file.read(max(count, self.READ_BYTES))
        return self.window[offset - self.base : offset - self.base + count]


class IdSet:
    """A set of integers; a run that counts up from the first costs nothing, whatever its length."""

    def __init__(self) -> None:
        self.first = self.next = 0
        self.others: set[int] = set()

    def add(self, value: int) -> bool:
        """Adds and returns whether it was new."""
        if self.first == self.next:
            self.first = self.next = value
        if self.first <= value < self.next or value in self.others:
            return False
        if value != self.next:
            self.others.add(value)
            return True
        self.next += 1
        while self.next in self.others:
            self.others.remove(self.next)
            self.next += 1
        return True


def sniff(path: Path) -> tuple[str, int]:
    """("log" or "checkpoint", version) of a file. NotAStoreError when it is neither, FormatVersionError when newer."""
    with opened(path) as file:
        head = file.read(HEADER_BYTES)
    kind = {LOG_MAGIC: "log", CHECKPOINT_MAGIC: "checkpoint"}.get(head[:8])
    if kind is None or len(head) < HEADER_BYTES:
        raise errors.NotAStoreError(
            f"{os.fspath(path)} is neither a log nor a checkpoint of the first MMSB. "
            "Give a file that begins with MMSBLOG1 or MMSBSNAP.",
            path=os.fspath(path),
        )
    version = U32.unpack_from(head, 8)[0]
    if version not in VERSIONS:
        raise errors.FormatVersionError(
            f"{os.fspath(path)} has version {version} of the first MMSB's {kind}; versions 1 and 2 are known. "
            "If the file is sound, import it with a newer release.",
            path=os.fspath(path),
            version=version,
            supported=VERSIONS[-1],
        )
    return kind, version


def expect(path: Path, wanted: str, report: Report) -> int:
    """The version of a file that must be a `wanted`, put down in `report`. NotAStoreError when it is the other kind."""
    kind, version = sniff(path)
    if kind != wanted:
        raise errors.NotAStoreError(
            f"{os.fspath(path)} is a {kind}, not a {wanted}. Use the import for it.", path=os.fspath(path)
        )
    report.path, report.format, report.version = os.fspath(path), kind, version
    report.nbytes = os.stat(path).st_size
    return version
