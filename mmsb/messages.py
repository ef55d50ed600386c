"""What owner and clients say to each other, byte by byte: docs/formats/shared.md."""

from __future__ import annotations

import os
import socket
import stat
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from mmsb.errors import AttachError, FormatVersionError

LAYOUT = 1
MAGIC = b"MMSBMSG1"
HEADER = struct.Struct("<8sIIQQ")
HELLO, WELCOME, REGIONS, NAMES, REFUSED, STATUS, RING = range(1, 8)
MESSAGE_BYTES_MOST = 64 << 10
DESCRIPTORS_MOST = 253
# More than the kernel lets a sender queue of the smallest ones.
QUEUED_MOST = 600
LINGER_NOT = struct.pack("ii", 0, 0)

HELLO_BODY = struct.Struct("<QQQ")
WELCOME_BODY = struct.Struct("<QIIQ16s16sQQQII")
ENTRY = struct.Struct("<IIQQ")
ENTRY_GONE = 1
NAMES_BODY = struct.Struct("<QQQ")
RING_BODY = struct.Struct("<Q")
RING_BYTES = 1 << 20  # of commands, when a client does not say otherwise
RING_BYTES_LEAST, RING_BYTES_MOST = 1 << 12, 1 << 26
NAME = struct.Struct("<QII")
NOTHING = 0xFFFFFFFF

# Why an owner refuses: the code of a REFUSED message.
FULL, LAYOUT_UNKNOWN, NOT_ALLOWED, MALFORMED = range(1, 5)
REASONS = {FULL: "full", LAYOUT_UNKNOWN: "layout", NOT_ALLOWED: "user", MALFORMED: "malformed"}


class Header(NamedTuple):
    """The first 32 bytes of each message."""

    kind: int
    number: int  # of entries, or as the kind says
    grown: int
    layout: int


def send(connection: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Sends one message with descriptors. OSError when it is not taken."""
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
    connection.sendmsg([data], beside, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket, most: int = MESSAGE_BYTES_MOST) -> tuple[bytes, list[int], bool]:
    """One message: (its bytes, its descriptors, whether it was cut). No program that is started inherits these."""
    room = socket.CMSG_SPACE(DESCRIPTORS_MOST * array("i").itemsize)
    data, beside, flags, _ = connection.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, payload in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, fds.tolist(), bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))


def let_go(fds: Sequence[int]) -> None:
    """Closes descriptors that a stranger sent. One may be a socket that lingers, and closing that would wait."""
    for fd in fds:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                with socket.socket(fileno=os.dup(fd)) as given:
                    given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        os.close(fd)


def end(connection: socket.socket, *, drain: bool = True) -> None:
    """Ends a connection to a stranger. What it sent and nobody read is let go of first: else the kernel closes the
    descriptors in it, see let_go(). Not to `drain` leaves it to others who have the connection.
    """
    with suppress(OSError):
        if drain:
            connection.setblocking(False)
            connection.shutdown(socket.SHUT_RD)
            for _ in range(QUEUED_MOST):
                let_go(receive(connection, 1)[1])
    connection.close()


def header(kind: int, number: int = 0, grown: int = 0) -> bytes:
    """The first bytes of a message."""
    return HEADER.pack(MAGIC, kind, number, grown, LAYOUT)


def broken(what: str) -> AttachError:
    """The error of a message that cannot be."""
    return AttachError(
        f"The other side does not speak as it should ({what}). Use one version of mmsb on both.", reason=what
    )


def split(data: bytes) -> tuple[Header, bytes]:
    """(header, body). AttachError when it is no message, FormatVersionError when it is of a newer layout."""
    if len(data) < HEADER.size:
        raise broken(f"a message of {len(data)} bytes")
    magic, *fields = HEADER.unpack_from(data)
    found = Header(*fields)
    if magic != MAGIC:
        raise broken("no message of mmsb")
    if found.layout > LAYOUT:
        raise newer(found.layout)
    if found.layout != LAYOUT:
        raise broken(f"layout {found.layout}")
    return found, data[HEADER.size :]


def newer(layout: int) -> FormatVersionError:
    """The error of an owner that shares its memory in a layout of the future."""
    return FormatVersionError(
        f"The owner shares its memory in layout {layout}; this release knows up to {LAYOUT}. Install a newer mmsb.",
        path=None,
        version=layout,
        supported=LAYOUT,
    )


@dataclass(frozen=True)
class Welcome:
    """What an owner says to a client that it takes in.

    entries: pieces of memory that follow. first_seq: the oldest state that can be rebuilt. log_number: the segment of
    the log that is appended to. path: of the store, None in memory.
    """

    number: int
    place: int
    entries: int
    shared_bytes: int
    uuid: bytes
    salt: bytes
    first_seq: int
    created_ns: int
    branch: int
    path: str | None
    name: str | None

    def encode(self) -> bytes:
        """The body of the message."""
        texts = [_text(self.path), _text(self.name)]
        return WELCOME_BODY.pack(
            self.number,
            self.place,
            self.entries,
            self.shared_bytes,
            self.uuid,
            self.salt,
            self.first_seq,
            self.created_ns,
            self.branch,
            *(NOTHING if text is None else len(text) for text in texts),
        ) + b"".join(text or b"" for text in texts)


def _text(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def decode_welcome(body: bytes) -> Welcome:
    """Reads the body of a WELCOME. AttachError."""
    if len(body) < WELCOME_BODY.size:
        raise broken("a welcome that is cut short")
    *facts, path_bytes, name_bytes = WELCOME_BODY.unpack_from(body)
    at = WELCOME_BODY.size
    texts: list[str | None] = []
    for count in (path_bytes, name_bytes):
        if count == NOTHING:
            texts.append(None)
            continue
        if count > len(body) - at:
            raise broken("a text that is longer than its message")
        texts.append(body[at : at + count].decode("utf-8", "surrogateescape"))
        at += count
    return Welcome(*facts, *texts)


def encode_names(names: dict[int, str], notes: dict[int, bytes]) -> bytes:
    """The table of names and metadata, as it lies in the memory that comes with NAMES."""
    parts = []
    for page_id in sorted(names.keys() | notes.keys()):
        name, blob = _text(names.get(page_id)), notes.get(page_id)
        parts.append(
            NAME.pack(page_id, *(NOTHING if part is None else len(part) for part in (name, blob)))
            + (name or b"")
            + (blob or b"")
        )
    return b"".join(parts)


def decode_names(table: memoryview) -> tuple[dict[int, str], dict[int, bytes]]:
    """({page id: name}, {page id: encoded metadata}). AttachError."""
    names: dict[int, str] = {}
    notes: dict[int, bytes] = {}
    at, end = 0, len(table)
    while at < end:
        if end - at < NAME.size:
            raise broken("a table of names that is cut short")
        page_id, name_bytes, blob_bytes = NAME.unpack_from(table, at)
        at += NAME.size
        for count, kept in ((name_bytes, True), (blob_bytes, False)):
            if count == NOTHING:
                continue
            if count > end - at:
                raise broken("a name that is longer than its table")
            part = bytes(table[at : at + count])
            at += count
            if kept:
                names[page_id] = part.decode("utf-8", "surrogateescape")
            else:
                notes[page_id] = part
    return names, notes
