"""The directory of a durable State: its identity, its lock and the names of its files.

world.mmsb/store         identity: uuid, salt, parent
world.mmsb/lock          held by the one writer, names it
world.mmsb/horizon       how far the log is durable
world.mmsb/log/          segments NNNNNNNN.seg (or .seg.zst)
world.mmsb/checkpoints/  NNNNNNNNNNNNNNNNNNNN.ckpt
world.mmsb/torn/         what recovery cut off torn tails
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsb import horizon
from mmsb._core.files import Files
from mmsb._core.log import crc32c
from mmsb.errors import (
    CorruptLogError,
    FormatVersionError,
    MMSBError,
    NotAStoreError,
    ReadOnlyError,
    StoreLockedError,
)
from mmsb.segments import Segment

if TYPE_CHECKING:
    from mmsb.compression import Compressor

FORMAT = struct.Struct("<8sII16s16sQ16sQ32sQ")
MAGIC = b"MMSBSTR1"
STORE_BYTES = 256
LOCK_BYTES = 256
READ_ATTEMPTS = 32
# What opening says of a thing in the place of a file or folder of a store.
UNFIT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ESPIPE, errno.ENXIO, errno.EOVERFLOW))
VERSION = 1
SEGMENT_NAME = re.compile(r"([0-9]{8})\.seg(\.zst)?\Z")
CHECKPOINT_NAME = re.compile(r"([0-9]{20})\.ckpt\Z")
# ext2/3/4, xfs, tmpfs: preallocated blocks are really there, so a store into a mapping cannot fail.
MAPPABLE = frozenset({0xEF53, 0x58465342, 0x01021994})


@dataclass(frozen=True)
class Identity:
    """What the file `store` says. `parent_*`: what a fork came from; zeros otherwise."""

    uuid: bytes
    salt: bytes
    created_ns: int
    parent_uuid: bytes = bytes(16)
    parent_seq: int = 0
    parent_digest: bytes = bytes(32)
    keyed: bool = False

    def encode(self) -> bytes:
        """The file's bytes."""
        body = FORMAT.pack(
            MAGIC,
            VERSION,
            STORE_BYTES,
            self.uuid,
            self.salt,
            self.created_ns,
            self.parent_uuid,
            self.parent_seq,
            self.parent_digest,
            int(self.keyed),
        ).ljust(STORE_BYTES - 4, b"\0")
        return body + crc32c(body).to_bytes(4, "little")


def decode_identity(data: bytes, path: str) -> Identity:
    """Reads the file `store`. NotAStoreError, FormatVersionError, CorruptLogError."""
    if data[:7] != MAGIC[:7]:
        raise NotAStoreError(f"{path} is not the identity file of an mmsb store. Check the path.", path=path)
    version = int.from_bytes(data[8:12], "little")
    intact = len(data) == STORE_BYTES and crc32c(data[:-4]) == int.from_bytes(data[-4:], "little")
    if version > VERSION and intact:
        raise FormatVersionError(
            f"{path} was written by format {version}; this release reads up to {VERSION}. Install a newer mmsb.",
            path=path,
            version=version,
            supported=VERSION,
        )
    if not intact or data[:8] != MAGIC or version != VERSION:
        raise CorruptLogError(
            f"{path} is damaged. Restore this file from a backup; the log beside it carries the same uuid and salt.",
            path=path,
            offset=0,
            seq=None,
            reason="damaged identity",
        )
    _, _, _, uuid, salt, created, parent, parent_seq, digest, keyed = FORMAT.unpack_from(data)
    return Identity(uuid, salt, created, parent, parent_seq, digest, bool(keyed))


def check_owner(path: str) -> None:
    """ReadOnlyError where another user, who can read and exchange what is written there, owns a directory."""
    owner = os.stat(path).st_uid
    if os.geteuid() not in (0, owner) and owner != 0:
        raise ReadOnlyError(
            f"{path} belongs to user {owner}. Open it with read_only=True, or write to a directory of yours.",
            path=path,
            owner=owner,
        )


def take_lock(files: Files, folder: str, *, sign: bool = True) -> int:
    """Becomes the one writer of the store in `folder`. Returns the descriptor that holds the lock until it is closed.
    Without `sign` nothing is written: the lock only keeps writers out.

    The lock belongs to the open file and not to the process, so it stays when some other descriptor of the file is
    closed, and goes when its holder dies. StoreLockedError names the holder; ReadOnlyError: see check_owner().
    """
    if sign:
        check_owner(folder)
    fd = files.open(os.path.join(folder, "lock"), os.O_RDWR | (os.O_CREAT if sign else 0))
    try:
        files.lock(fd)
        if not sign:
            return fd
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        note = f"pid {os.getpid()} on {socket.gethostname()} since {since}"
        files.pwrite(fd, note.encode()[:LOCK_BYTES].ljust(LOCK_BYTES, b"\0"), 0)
    except BlockingIOError:
        holder = files.pread(fd, LOCK_BYTES, 0).decode("utf-8", "replace").strip("\0\n ")
        files.close(fd)
        raise StoreLockedError(
            f"The store at {folder} is open for writing by {holder or 'another process'}. "
            "Close it there, or open it here with read_only=True.",
            path=folder,
            holder=holder,
        ) from None
    except BaseException:
        files.close(fd)
        raise
    return fd


class Store:
    """An existing store on disk. Open with `lock=True` to write, or with the `lock_fd` of create().

    `identity`: stands in for the file `store`, where that may be damaged.
    """

    MAPPABLE = MAPPABLE

    def __init__(
        self,
        files: Files,
        path: str,
        *,
        lock: bool,
        anchor_key: bytes | None = None,
        lock_fd: int = -1,
        identity: Identity | None = None,
    ) -> None:
        self.lock_fd = lock_fd
        self.files = files
        self.path = os.path.abspath(path)
        self.identity_path = os.path.join(self.path, "store")
        self.anchor_key = anchor_key
        try:
            self.identity = identity or self.identify(path)
            if lock and self.lock_fd < 0:
                self.lock_fd = take_lock(files, self.path)
        except BaseException:
            self.unlock()
            raise

    def identify(self, path: str) -> Identity:
        """Reads the file `store`. NotAStoreError, FormatVersionError, CorruptLogError, ValueError about the key."""
        if not os.path.isdir(self.path):
            raise NotAStoreError(f"{path} is a file, not the directory of a store. Check the path.", path=path)
        if not os.path.lexists(self.identity_path) or os.path.isdir(self.identity_path):
            raise NotAStoreError(f"{path} is not an mmsb store: it has no file 'store'. Check the path.", path=path)
        for folder in (os.path.join(self.path, name) for name in ("log", "checkpoints", "torn")):
            # Files are never opened through a link, and no others may be made where it points.
            wrong = "a link" if os.path.islink(folder) else "no directory" if not os.path.isdir(folder) else None
            if wrong is not None and os.path.lexists(folder):
                raise CorruptLogError(
                    f"{folder} is {wrong}. Put the directory that belongs there in its place.",
                    path=folder,
                    offset=0,
                    seq=None,
                    reason=f"it is {wrong}",
                )
        identity = decode_identity(self.files.read_file(self.identity_path, 4096), self.identity_path)
        if identity.keyed != (self.anchor_key is not None):
            need = "needs its anchor_key" if identity.keyed else "has no keyed anchors"
            raise ValueError(
                f"The store at {path} {need}. Open it {'with' if identity.keyed else 'without'} one; the command line "
                "takes it from the file that MMSB_ANCHOR_KEY_FILE names."
            )
        return identity

    @property
    def uuid(self) -> bytes:
        """16 bytes."""
        return self.identity.uuid

    @property
    def salt(self) -> bytes:
        """16 bytes."""
        return self.identity.salt

    @property
    def created_ns(self) -> int:
        """When the store was made, ns since 1970."""
        return self.identity.created_ns

    def unlock(self) -> None:
        """Lets the next writer in."""
        # A close that fails has closed all the same: repeated, it would hit whoever has the number by then.
        fd, self.lock_fd = self.lock_fd, -1
        if fd >= 0:
            self.files.close(fd)

    def folder(self, name: str) -> str:
        """Path of one of the store's folders, made when missing."""
        path = os.path.join(self.path, name)
        if not os.path.isdir(path):
            self.files.mkdir(path)
            self.files.sync_directory(self.path)
        return path

    def segment_path(self, number: int) -> str:
        """Path of the segment file of that number."""
        return os.path.join(self.path, "log", f"{number:08d}.seg")

    def segment_paths(self) -> list[tuple[int, str]]:
        """(number, path) of the segment files, ascending; a compressed one only where the raw one is gone."""
        found: dict[int, str] = {}
        folder = os.path.join(self.path, "log")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            match = SEGMENT_NAME.match(name)
            if match:
                found.setdefault(int(match[1]), os.path.join(folder, name))
        return sorted(found.items())

    def checkpoint_paths(self) -> list[tuple[int, str]]:
        """(seq, path) of the checkpoint files, ascending."""
        folder = os.path.join(self.path, "checkpoints")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [(int(name[:20]), os.path.join(folder, name)) for name in names if CHECKPOINT_NAME.match(name)]

    def listing(self) -> list[str]:
        """Names of the segments and checkpoints that are there now, ascending."""
        paths = [path for _, path in self.segment_paths()] + [path for _, path in self.checkpoint_paths()]
        return [os.path.basename(path) for path in paths]

    def steadily(self, attempt: Callable[[], Any], is_whole: Callable[[Any], bool]) -> Any:
        """What attempt() returns to a reader.

        A result that is not whole, or an error, may only mean that the writer of the store deleted or renamed a file
        between two looks at it (compaction, compression). So the attempt is repeated when the files changed under it,
        a bounded number of times; the last one stands.
        """
        for _ in range(READ_ATTEMPTS - 1):
            names = self.listing()
            try:
                result = attempt()
                if is_whole(result) or self.listing() == names:
                    return result
            except (MMSBError, OSError):
                if self.listing() == names:
                    raise
        return attempt()

    def hasher(self, head: bytes) -> object:
        """The BLAKE3 hash of the anchor that follows `head`, before any commit was fed to it."""
        import blake3

        hasher = blake3.blake3(key=self.anchor_key) if self.anchor_key is not None else blake3.blake3()
        hasher.update(head)
        return hasher

    def sealed(self, segment: Segment) -> None:
        """A segment was sealed and synced: compressed in the background where asked for."""
        if self.compressor is not None:
            self.compressor.add(segment)

    compressor: Compressor | None = None

    def close(self) -> None:
        """Gives the lock back."""
        self.unlock()

    def __del__(self) -> None:
        # A State that is dropped without being closed must not keep the next writer out.
        self.unlock()


def create(files: Files, path: str, identity: Identity, base: tuple[int, bytes] | None = None) -> int:
    """Makes a new store. Returns the descriptor of its lock, for Store.

    Nothing is at `path` before, or an empty directory, or a creation that was cut short.
    `base`: seq and bytes of the checkpoint that a fork begins with. The file `store` comes last: until it is there the
    directory is no store, and creating it again completes it. Of two processes that create one store at a time, one
    gets StoreLockedError. NotAStoreError where other files are, CorruptLogError where a store lost its file `store`.
    """
    path = os.path.abspath(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise NotAStoreError(f"{path} exists and is not a directory. Choose another path.", path=path)
    if not os.path.isdir(path):
        if not os.path.isdir(os.path.dirname(path)):
            raise NotAStoreError(f"There is no directory for a new store at {path}. Make its parent first.", path=path)
        with suppress(FileExistsError):  # another process is faster
            files.mkdir(path)
            files.sync_directory(os.path.dirname(path))
    elif not os.path.exists(os.path.join(path, "store")):
        refuse_strangers(path, locked=False)  # before anything is added to a directory that is not ours
    lock = take_lock(files, path)
    try:
        if os.path.exists(os.path.join(path, "store")):
            return lock  # another process was faster, and has closed it already
        refuse_strangers(path, locked=True)
        for name in ("log", "checkpoints"):
            if not os.path.isdir(os.path.join(path, name)):
                files.mkdir(os.path.join(path, name))
        if base is not None:
            files.write_file(os.path.join(path, "checkpoints", f"{base[0]:020d}.ckpt"), base[1])
        files.write_file(os.path.join(path, "horizon"), horizon.initial(identity.uuid))
        files.write_file(os.path.join(path, "store"), identity.encode())
    except BaseException:
        files.close(lock)
        raise
    return lock


def refuse_strangers(path: str, *, locked: bool) -> None:
    """Raises unless the directory holds nothing but what a creation that was cut short leaves; or, as long as it is not
    `locked`, what another process leaves that makes a store there just now.
    """
    held = {
        name: os.listdir(os.path.join(path, name))
        for name in ("log", "checkpoints")
        if os.path.isdir(os.path.join(path, name))
    }
    # After what the folders hold: whatever another process had put into them, its lock is seen here.
    names = set(os.listdir(path))
    known = {"log", "checkpoints", "horizon", "horizon.new", "store.new", "lock"}
    if not locked and "lock" in names and names <= known | {"store", "torn", "socket"}:
        return
    # A creation makes no segment, and a checkpoint only for a fork: history is here, its identity is gone.
    if any(SEGMENT_NAME.match(name) or CHECKPOINT_NAME.match(name) for found in held.values() for name in found):
        raise CorruptLogError(
            f"{path} holds the history of a store, but its file 'store' is missing. Restore that file from a backup. "
            "If this is a fork that was cut short, remove the directory and fork again.",
            path=os.path.join(path, "store"),
            offset=0,
            seq=None,
            reason="the file is missing",
        )
    strange = names - known
    strange |= {os.path.join(folder, name) for folder, found in held.items() for name in found}
    if strange:
        raise NotAStoreError(
            f"{path} holds other files ({min(strange)!r}) and is no store. Choose an empty or a new directory.",
            path=path,
        )


def explain(error: OSError, path: str) -> OSError:
    """The typed error of an OSError that opening a store met."""
    if isinstance(error, MMSBError):
        return error
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else path
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnlyError(
            f"{where} cannot be opened for writing ({error.strerror}). Open the store with read_only=True, or get the "
            "right to write.",
            path=where,
            errno=error.errno,
        )
    if error.errno in UNFIT:
        return CorruptLogError(
            f"{where} is missing, or is not what belongs there ({error.strerror}). Restore the store's files from one "
            "backup.",
            path=where,
            offset=0,
            seq=None,
            reason=str(error.strerror),
        )
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return NotAStoreError(f"No store can be at {where} ({error.strerror}). Check the path.", path=where)
    return error
