"""Disks to break: file systems in files, seen only by this process, and gone with it however it ends.

Mounts are made in a mount namespace of this process and loop devices detach themselves, so that nothing is left behind.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 1 << 14 | 1 << 18
MNT_DETACH = 2
LOOP_CONFIGURE, LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
LOOP_AUTOCLEAR, LOOP_DIRECT_IO = 4, 16

# How each file system is made, as small and as quickly as it lets itself be: the command and what it needs of bytes.
MKFS = {
    "ext4": ("mkfs.ext4 -q -m 0 -b 4096 -J size=4 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1", 16 * MIB),
    "xfs": ("mkfs.xfs -q -K", 24 * MIB),
    "btrfs": ("mkfs.btrfs -q -K -m single -d single", 64 * MIB),
}
PACKAGE = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
# mkfs.xfs makes file systems below 300 MiB for the tests of xfs only, which say so like this.
SMALL_XFS = {"TEST_DIR": "1", "TEST_DEV": "1", "QA_CHECK_FS": "1"}

# Where the commands of root are, which a shell that became root without a login does not look for.
ENVIRONMENT = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}

libc = ctypes.CDLL(None, use_errno=True)


def missing(*file_systems: str, fuse: bool = False) -> str:
    """One sentence that says what this machine lacks for mounting these file systems; empty when it can."""
    if os.geteuid() != 0:
        return "Mounting needs root: run ci/rel as root."
    if file_systems and not os.path.exists("/dev/loop-control"):
        return "There is no /dev/loop-control: load the kernel module loop."
    known = Path("/proc/filesystems").read_text().split()
    for name in file_systems:
        if shutil.which(MKFS[name][0].split()[0], path=ENVIRONMENT["PATH"]) is None:
            return f"mkfs.{name} is missing: install the package {PACKAGE[name]}."
        modprobe = ["modprobe", name]
        if name not in known and subprocess.run(modprobe, env=ENVIRONMENT, capture_output=True, check=False).returncode:
            return f"The kernel does not know {name}: load its module."
    if fuse:
        if not os.path.exists("/dev/fuse"):
            return "There is no /dev/fuse: load the kernel module fuse."
        if shutil.which("cc") is None or shutil.which("pkg-config") is None:
            return "A C compiler and pkg-config are missing: install the packages gcc and pkg-config."
        if subprocess.run(["pkg-config", "--exists", "fuse3"], check=False).returncode:
            return "The headers of libfuse3 are missing: install the packages fuse3 and libfuse3-dev."
    return ""


def checked(result: int, what: object) -> None:
    """Raises the OSError of a failed call of libc."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(what))


def keep_private() -> None:
    """From now on what this process mounts is seen by nobody else, and an asked-for end runs the `finally`s."""
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    checked(libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "/")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def mount(source: object, target: Path, kind: str, options: str = "") -> None:
    """mount(2)."""
    arguments = [os.fsencode(str(part)) for part in (source, target, kind)]
    checked(libc.mount(*arguments, 0, options.encode()), target)


def remount(target: Path, kind: str, options: str) -> None:
    """mount(2) with MS_REMOUNT."""
    checked(libc.mount(b"none", os.fsencode(target), kind.encode(), 32, options.encode()), target)


def unmount(target: Path) -> None:
    """umount(2). What is still in use (an exception holds a State, say) goes when its last user does."""
    if libc.umount2(os.fsencode(target), 0) < 0:
        checked(libc.umount2(os.fsencode(target), MNT_DETACH), target)


@contextmanager
def mounted(source: object, target: Path, kind: str, options: str = "") -> Iterator[Path]:
    """`source` at `target` (made when missing) while the context lasts."""
    target.mkdir(exist_ok=True)
    mount(source, target, kind, options)
    try:
        yield target
    finally:
        unmount(target)


@contextmanager
def loop_device(backing: Path) -> Iterator[str]:
    """A loop device over a file. It detaches itself when nobody uses it any more."""
    with open(backing, "r+b", buffering=0) as file:
        info = struct.pack(
            "<QQQQQIIII64s64s32sQQ", 0, 0, 0, 0, 0, 0, 0, 0, LOOP_AUTOCLEAR | LOOP_DIRECT_IO, *[b""] * 3, 0, 0
        )
        config = struct.pack("<II", file.fileno(), 512) + info + bytes(64)
        while True:
            with open("/dev/loop-control", "rb") as control:
                path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, config)
                break
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # somebody else was faster
                    raise
    try:
        yield path
    finally:
        os.close(device)


def make_file_system(kind: str, image: Path, size_bytes: int | None = None) -> None:
    """A new file with an empty file system."""
    command, least_bytes = MKFS[kind]
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size_bytes or least_bytes)
    environment = {**ENVIRONMENT, **(SMALL_XFS if kind == "xfs" else {})}
    done = subprocess.run([*command.split(), image], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command} failed: {done.stdout}{done.stderr}")


class Recorder:
    """blocks.c over `image`, in `folder`: `disk` for a loop device, `log` of what passed. A context manager."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.root, self.log = folder / "blocks", folder / "log"
        self.program, self.image = folder / "blocks-server", image
        self.root.mkdir(exist_ok=True)

    def __enter__(self) -> Recorder:
        if not self.program.exists():
            flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3"], text=True).split()
            source = Path(__file__).with_name("blocks.c")
            subprocess.run(["cc", "-O2", "-Wall", "-Werror", source, "-o", self.program, *flags], check=True)
        self.server = subprocess.Popen([self.program, self.root, self.image, self.log])
        while not (self.root / "disk").exists():
            if self.server.poll() is not None:
                raise OSError(f"the block recorder ended with status {self.server.returncode}")
            time.sleep(0.002)
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.root)
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    @property
    def disk(self) -> Path:
        """The file for the loop device."""
        return self.root / "disk"

    def say(self, name: str, data: bytes) -> None:
        """Writes to `mark` or `fail`."""
        (self.root / name).write_bytes(data)


WRITE, FLUSH, MARK, FAILED = 1, 2, 3, 4
ENTRY = struct.Struct("<IIQ")
PIECE_BYTES = 4096
# The index of a flush, and (index of a write, first byte, end) of what is kept of the writes after it.
Choice = tuple[int, tuple[tuple[int, int, int], ...]]


@dataclass(frozen=True)
class Entry:
    """One line of a recorder's log; `data` of a write or a mark."""

    kind: int
    offset: int
    data: memoryview


def read_log(path: Path) -> list[Entry]:
    """What passed a recorder, in order."""
    data, entries, at = memoryview(path.read_bytes()), [], 0
    while at < len(data):
        kind, count, offset = ENTRY.unpack_from(data, at)
        count = count if kind in (WRITE, MARK) else 0
        at += ENTRY.size
        entries.append(Entry(kind, offset, data[at : at + count]))
        at += count
    return entries


def copy_sparse(source: Path, to: Path) -> None:
    """Copies a file's data and leaves its holes: most of a small disk is one."""
    with source.open("rb") as old, to.open("wb") as new:
        size, at = os.fstat(old.fileno()).st_size, 0
        new.truncate(size)
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            new.seek(at)
            while at < end:
                at += os.sendfile(new.fileno(), old.fileno(), at, end - at)


class PowerLoss:
    """States that a disk may be in after a power loss: all that was written before the last flush that ended, and any
    of the writes after it. `base`: the image before the first entry; it is moved on, so points must ascend.
    """

    def __init__(self, entries: list[Entry], base: Path) -> None:
        self.entries, self.base, self.flushed = entries, base, 0

    def points(self) -> list[int]:
        """Indexes of the writes, after which a loss may leave something by halves, and of the marks, after which it
        has to leave the most.
        """
        return [index for index, entry in enumerate(self.entries) if entry.kind in (WRITE, MARK)]

    def choose(self, point: int, dice: random.Random) -> Choice:
        """What a loss right after entry `point` may leave."""
        flushes = (at for at in range(point, self.flushed, -1) if self.entries[at].kind == FLUSH)
        flushed = next(flushes, self.flushed)
        pending = [index for index in range(flushed, point + 1) if self.entries[index].kind == WRITE]
        # A write of several blocks is no unit for a disk.
        piece_bytes = dice.choice((PIECE_BYTES, 1 << 30))
        pieces = [
            (index, at, at + piece_bytes)
            for index in pending
            for at in range(0, len(self.entries[index].data), piece_bytes)
        ]
        share = dice.choice((0.0, 0.1, 0.5, 0.5, 0.9, 1.0))
        return flushed, tuple(piece for piece in pieces if dice.random() < share)

    def make(self, choice: Choice, to: Path) -> None:
        """The image that a choice stands for."""
        flushed, pieces = choice
        with self.base.open("r+b", buffering=0) as image:
            for entry in self.entries[self.flushed : flushed]:
                if entry.kind == WRITE:
                    os.pwrite(image.fileno(), entry.data, entry.offset)
        self.flushed = flushed
        copy_sparse(self.base, to)
        with to.open("r+b", buffering=0) as image:
            for index, start, end in pieces:
                entry = self.entries[index]
                os.pwrite(image.fileno(), entry.data[start:end], entry.offset + start)
