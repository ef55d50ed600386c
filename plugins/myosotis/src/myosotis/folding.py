"""The v1 file and the journal beside it: a folder with a log of mmsb and a record of what was folded into the file.

A fold writes the file aside, syncs it, says in the record what the file will be, renames it and syncs the folder. So
the file is always one of two that the record knows, and anything else was done by another program.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import stat
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from myosotis import documents, v1
from myosotis.errors import CorruptJournalError, LockedError, UnreadableFileError
from myosotis.store import Store

_log = logging.getLogger("myosotis")
# A file up to this size is always read to see whether it is the one that was folded; of a larger one, size, time and
# inode are enough.
READ_MOST = 1 << 22
# The file is folded in the background when it lacks as many commits as it has, and at least so many.
FOLD_LEAST = 20_000


@dataclass(frozen=True, slots=True)
class Print:
    """What tells a file from every other one."""

    sha256: str
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class FoldRecord:
    """What was folded: everything up to commit `commit`, which has this `hash`.

    `files`: the file that was or is about to be written, and the one before it. `checkpoints`: commits at which the
    file that was imported had checkpoints.
    """

    commit: int
    hash: str
    files: list[Print]
    checkpoints: list[int] = field(default_factory=list)


class Journal:
    """The folder beside a v1 file: lock, log and record."""

    def __init__(self, file_path: str) -> None:
        # The program may change its folder; a link is followed once, so that it stays one.
        self.file_path = os.path.realpath(file_path)
        self.path = f"{self.file_path}.journal"
        self.log_path = os.path.join(self.path, "log.mmsb")
        self._lock: IO[bytes] | None = None

    def lock(self) -> None:
        """Makes the folder and takes its lock. LockedError."""
        os.makedirs(self.path, exist_ok=True)
        file = open(os.path.join(self.path, "lock"), "ab")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise LockedError(
                f"Another process writes to {self.file_path}. Open it with read_only=True, or wait for it.",
                path=self.file_path,
            ) from error
        self._lock = file

    def unlock(self) -> None:
        """Lets the lock go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self) -> FoldRecord | None:
        """The record; None when there is none: nothing was committed to the journal yet. CorruptJournalError."""
        try:
            with open(os.path.join(self.path, "folded"), "rb") as file:
                entries = json.loads(file.read(1 << 24))
            return _record_of(entries)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise CorruptJournalError(
                f"The record of the journal {self.path} cannot be read ({error}). Put the journal aside to open the "
                "file without the commits that are only in it.",
                path=self.path,
            ) from error

    def write(self, record: FoldRecord) -> None:
        """Replaces the record."""
        data = json.dumps(asdict(record), indent=1).encode()
        write_aside(os.path.join(self.path, "folded"), data)

    def found(self, record: FoldRecord) -> Print | None:
        """Which of the files that the record knows the file is; None when it is another one. OSError."""
        found = os.stat(self.file_path)
        known = [each for each in record.files if each.size == found.st_size]
        if found.st_size > READ_MOST:
            for each in known:
                if (found.st_mtime_ns, found.st_ino) == (each.mtime_ns, each.inode):
                    return each
        sha256 = file_sha256(self.file_path) if known else ""
        return next((each for each in known if each.sha256 == sha256), None)

    def holds(self, record: FoldRecord) -> bool:
        """Whether the file is one that the record knows. OSError."""
        return self.found(record) is not None


def _record_of(entries: Any) -> FoldRecord:
    """The record in JSON that need not be trusted. ValueError, TypeError, KeyError."""
    files = [Print(**each) for each in entries["files"]]
    record = FoldRecord(entries["commit"], entries["hash"], files, entries["checkpoints"])
    numbers = [
        record.commit,
        *record.checkpoints,
        *(n for each in files for n in (each.size, each.mtime_ns, each.inode)),
    ]
    if not all(type(n) is int for n in numbers) or not all(
        type(t) is str for t in (record.hash, *(f.sha256 for f in files))
    ):
        raise TypeError("a number or a hash is of another type")
    if not files:
        raise ValueError("no file is named")
    return record


def file_sha256(path: str) -> str:
    """The SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_aside(path: str, data: bytes, before_rename: Any = None) -> None:
    """Writes a file aside, syncs it, and puts it in its place: a crash leaves the old one or the new one, whole. Who
    may read and write it stays as it was, and so does a link to it; a failure leaves nothing.

    before_rename: called with the descriptor of the synced file. UnreadableFileError for what is no plain file;
    OSError.
    """
    path = os.path.realpath(path)
    before = os.stat(path) if os.path.exists(path) else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise UnreadableFileError(f"{path} is no plain file. Name another one.", path=path)
    aside = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(aside)  # a crash left it, or somebody else, who is not to get what is written
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            if before is not None:
                with suppress(PermissionError):
                    os.fchown(fd, before.st_uid, before.st_gid)
                os.fchmod(fd, stat.S_IMODE(before.st_mode))
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(fd)
            if before_rename is not None:
                before_rename(fd)
        finally:
            os.close(fd)
        os.rename(aside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Folder:
    """Folds a store into its v1 file: when asked, on close, and in the background when much is not folded yet."""

    def __init__(
        self, journal: Journal, store: Store, checkpoints: list[int], record: FoldRecord | None = None
    ) -> None:
        self.journal = journal
        self.checkpoints = checkpoints
        self._store = store
        self._record = record
        self._folded = -1 if record is None else record.commit
        self._wanted = 0
        self._thread: threading.Thread | None = None
        self._count_on()

    def _count_on(self) -> None:
        in_file = self._folded - self._store.head.base_id
        self._wanted = self._folded + max(FOLD_LEAST, in_file)

    def begin(self, *, written: bool) -> None:
        """Makes the first record of a journal; writes the file, too, where there is none."""
        head = self._store.head
        if not written:
            self.fold()
            return
        with open(self.journal.file_path, "rb") as file:
            found = print_of(file.fileno(), file_sha256(self.journal.file_path))
        self._record = FoldRecord(head.id, head.hash.hex(), [found], self.checkpoints)
        self.journal.write(self._record)
        self._folded = head.id
        self._count_on()

    @property
    def record(self) -> FoldRecord | None:
        """What the record says."""
        return self._record

    def after_commit(self) -> None:
        """Folds in the background when it is time to."""
        if self._store.head.id >= self._wanted and self._thread is None:
            self._wanted = self._store.head.id * 2
            self._thread = threading.Thread(target=self._fold_behind, name="myosotis-fold", daemon=True)
            self._thread.start()

    def _fold_behind(self) -> None:
        try:
            self._fold(self._store.head.id)
        except Exception:  # nothing is lost, and the next fold that is asked for raises it
            _log.exception("Folding %s in the background failed.", self.journal.file_path)

    def wait(self) -> None:
        """Waits for a fold in the background."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def fold(self) -> None:
        """Folds everything that is committed. Nothing is done when the file has it all. FirstEngineWarning."""
        self.wait()
        head = self._store.head
        record = self._record
        known = record is not None and (record.commit, record.hash) == (head.id, head.hash.hex())
        if not known or self._present() is not self._newest():
            document = self._fold(head.id)
            self._count_on()
            v1.warn_of_misread_floats(document)

    def _newest(self) -> Print | None:
        return None if self._record is None else self._record.files[0]

    def _present(self) -> Print | None:
        """Which of the files that the record knows is there; None when none is. CorruptJournalError for another one."""
        path = self.journal.file_path
        if self._record is None or not os.path.exists(path):
            return None
        present = self.journal.found(self._record)
        if present is None:
            raise CorruptJournalError(
                f"{path} was written by another program while this one had it open. Everything committed is in "
                f"{self.journal.path}; put the file aside and open the memory again.",
                path=path,
            )
        return present

    def _fold(self, commit_id: int) -> v1.Document:
        """Folds up to a commit. Returns what was written."""
        present = self._present()
        document = documents.document(self._store, commit_id, self.checkpoints)
        data = v1.encode(document)
        digest = hashlib.sha256(data).hexdigest()
        commit_hash = documents.hash_at(self._store, commit_id)

        def say(fd: int) -> None:
            # The one that is there, which is not always the newest that was said: a crash comes between.
            before = [] if present is None else [present]
            self._record = FoldRecord(commit_id, commit_hash, [print_of(fd, digest), *before], self.checkpoints)
            self.journal.write(self._record)

        write_aside(self.journal.file_path, data, say)
        self._folded = commit_id
        return document

    def check(self) -> None:
        """CorruptJournalError when the file is not the one that was folded."""
        if self._record is not None and self._present() is None:
            path = self.journal.file_path
            raise CorruptJournalError(f"{path} is gone. flush() writes it anew from the journal.", path=path)

    def close(self) -> None:
        """Folds what is left and lets the journal go."""
        try:
            self.fold()
        finally:
            self.journal.unlock()


def print_of(fd: int, sha256: str) -> Print:
    """The Print of an open file."""
    found = os.fstat(fd)
    return Print(sha256, found.st_size, found.st_mtime_ns, found.st_ino)
