"""Where owners and clients meet: one directory of sockets per user, each named after a State."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mmsb.config import runtime_directory
from mmsb.errors import AttachError, OwnerGoneError, StoreLockedError

SUFFIX = ".sock"
STORE_PREFIX = "store-"
# In the directory of a store that is shared with a group.
GROUP_SOCKET = "socket"
BACKLOG = 64
CREDENTIALS = struct.Struct("3i")


def key_of_store(uuid: bytes) -> str:
    """What the socket of a stored State is called."""
    return STORE_PREFIX + uuid.hex()


def key_of_name(name: str) -> str:
    """What the socket of a State of that name is called."""
    return "name-" + hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def check_directory(facts: os.stat_result, path: str, uid: int) -> None:
    """AttachError unless a directory is this user's alone."""
    if not stat.S_ISDIR(facts.st_mode):
        reason = "it is no directory"
    elif facts.st_uid != uid:
        reason = f"it belongs to user {facts.st_uid}"
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        reason = f"others may enter it (mode {stat.S_IMODE(facts.st_mode):04o})"
    else:
        return
    raise AttachError(
        f"{path} is where sockets go, and cannot be trusted: {reason}. Remove it, or set XDG_RUNTIME_DIR.",
        reason=reason,
        path=path,
    )


class Directory:
    """The directory of sockets, held open: what was checked is what is used. A context manager.

    Sockets are named through the descriptor, so that the length of the path does not matter.
    """

    def __init__(self, *, create: bool) -> None:
        self.path = runtime_directory()
        if create:
            with suppress(FileExistsError):
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                os.mkdir(self.path, 0o700)
                os.chmod(self.path, 0o700)  # whatever the umask took away
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):  # a link, or a file
                check_directory(os.lstat(self.path), self.path, os.getuid())
            raise
        try:
            check_directory(os.fstat(self.fd), self.path, os.getuid())
        except AttachError:
            os.close(self.fd)
            raise

    def address(self, key: str) -> str:
        """What to bind and connect to."""
        return f"/proc/self/fd/{self.fd}/{key}{SUFFIX}"

    def keys(self) -> list[str]:
        """Of every socket there is, sorted."""
        return sorted(name.removesuffix(SUFFIX) for name in os.listdir(self.fd) if name.endswith(SUFFIX))

    def remove(self, key: str) -> None:
        """Takes a socket away, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(key + SUFFIX, dir_fd=self.fd)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes or removes sockets meanwhile."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the descriptor. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def credentials(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of who is at the other end, as the kernel says."""
    pid, uid, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return pid, uid


def call(address: str) -> socket.socket | None:
    """A connection to who listens at an address, None when nobody does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def dial(directory: Directory, key: str) -> socket.socket | None:
    """A connection to the owner that serves a key, None when there is none."""
    return call(directory.address(key))


def dial_key(key: str) -> socket.socket | None:
    """The same, in this user's directory of sockets, which may not be there. AttachError."""
    with suppress(FileNotFoundError), Directory(create=False) as directory:
        return dial(directory, key)
    return None


def dial_store(path: str) -> socket.socket | None:
    """A connection to the owner that shares a store with a group, None when there is none. AttachError when who
    answers is not the user that the store belongs to.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        connection = call(f"/proc/self/fd/{fd}/{GROUP_SOCKET}")
        belongs_to = os.fstat(fd).st_uid
    finally:
        os.close(fd)
    if connection is not None:
        _, uid = credentials(connection)
        if uid != belongs_to:
            connection.close()
            raise AttachError(
                f"{path} is served by user {uid}, to whom it does not belong. Ask its owner.",
                reason="user",
                target=path,
            )
    return connection


def connect(key: str, target: str) -> socket.socket:
    """A connection to the owner that serves a key. OwnerGoneError when nobody does, AttachError."""
    connection = dial_key(key)
    if connection is not None:
        _, uid = credentials(connection)
        if uid != os.getuid():
            connection.close()
            raise AttachError(f"{target!r} is served by user {uid}. Attach to your own.", reason="user", target=target)
    elif key.startswith(STORE_PREFIX):
        connection = dial_store(target)
    if connection is None:
        raise OwnerGoneError(
            f"Nobody serves {target!r}. Call state.serve() in its owner; a stored State can always be read with "
            "mmsb.open(path, read_only=True).",
            target=target,
        )
    return connection


class Listener:
    """The sockets by which one owner is found: one for each of its keys. StoreLockedError when somebody has one.

    shared: a store whose lock this process holds and in which a group finds a socket, too; `group_socket` is that.
    """

    def __init__(self, keys: list[str], described: str, shared: str | None = None) -> None:
        self.directory = Directory(create=True)
        self.sockets: list[socket.socket] = []
        self.shared = shared
        self.group_socket: socket.socket | None = None
        self.keys: list[tuple[str, int]] = []  # with the inode
        try:
            with self.directory.alone():
                for key in keys:
                    self.listen(key, described)
            if shared is not None:
                self.listen_to_group(shared)
        except BaseException:
            self.close()
            raise

    def listen(self, key: str, described: str) -> None:
        """Makes one socket, in the place of one that a dead owner left."""
        other = dial(self.directory, key)
        if other is not None:
            pid, _ = credentials(other)
            other.close()
            raise StoreLockedError(
                f"{described} is served by process {pid} already. Close it there, or take another name.",
                path=described,
                holder=f"pid {pid}",
            )
        self.directory.remove(key)
        self.bind(self.directory.address(key), 0o600)
        self.keys.append((key, os.stat(key + SUFFIX, dir_fd=self.directory.fd).st_ino))

    def bind(self, address: str, mode: int) -> socket.socket:
        """Listens at an address, whose file gets that mode."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.sockets.append(made)
        made.bind(address)
        os.chmod(address, mode)
        made.listen(BACKLOG)
        return made

    def listen_to_group(self, path: str) -> None:
        """Makes the socket in a shared store. What lies there is of a dead owner, for only one has the lock."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                os.unlink(GROUP_SOCKET, dir_fd=fd)
            self.group_socket = self.bind(f"/proc/self/fd/{fd}/{GROUP_SOCKET}", 0o660)
        finally:
            os.close(fd)

    def close(self, *, remove: bool = True) -> None:
        """Stops listening, and takes its sockets away unless others stand in their place."""
        for made in self.sockets:
            made.close()
        self.sockets = []
        if self.directory.fd < 0:
            return
        if remove and self.group_socket is not None:
            with suppress(OSError):
                os.unlink(os.path.join(str(self.shared), GROUP_SOCKET))
        if remove:
            with self.directory.alone():
                for key, inode in self.keys:
                    with suppress(FileNotFoundError):
                        if os.stat(key + SUFFIX, dir_fd=self.directory.fd).st_ino == inode:
                            self.directory.remove(key)
        self.directory.close()
