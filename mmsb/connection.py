"""Connection: a client's side of being attached. It greets the owner, maps what is handed over, and keeps up."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable

from mmsb import messages
from mmsb._core.files import Memory
from mmsb._core.reader import HEADERS, LOG, PAGES, Reader, shared_facts
from mmsb._core.sharing import SHARED_BYTES, WORDS_BYTES, Region
from mmsb.commands import Client
from mmsb.errors import AttachError, BusyError, FormatVersionError, MMSBError, OwnerGoneError, RightsError
from mmsb.rendezvous import connect, credentials
from mmsb.sharedlog import MAPPED_MOST

NOT_READING = b"\xff" * 8
WORDS_AT_READING = 64
WORDS_AT_SEEN_SEQ = 72


def words() -> Memory:
    """The memory in which a client says what it is reading."""
    memory = Memory(WORDS_BYTES)
    view = memoryview(memory)
    view[:8] = b"MMSBCLI1"
    view[WORDS_AT_READING : WORDS_AT_READING + 8] = NOT_READING
    return memory


class Connection:
    """One attachment. `reader` reads the owner's memory; it outlives the owner.

    `came(region)`, `went(number)`: called for segments of the log, once they are set.
    """

    def __init__(self, key: str, target: str, timeout: float) -> None:
        self.target = target
        self.came: Callable[[Region], None] = lambda region: None
        self.went: Callable[[int], None] = lambda number: None
        self.lock = threading.RLock()  # one thread takes messages
        self.reader: Reader | None = None
        self.welcome: messages.Welcome | None = None
        self.names: tuple[int, dict[int, str], dict[int, bytes]] | None = None
        self.entries = 0
        self.failure: Exception | None = None
        self.ended = False
        self.client: Client | None = None  # of the ring for commands, once somebody asked for it
        self.no_ring: str | None = None  # why there is none
        self.asking = threading.Lock()  # one thread asks for it
        self.asked = False
        self.find_page: Callable[[str], int] | None = None
        self.answered = threading.Event()
        self.words = words()
        self.seen = memoryview(self.words).cast("Q")[WORDS_AT_SEEN_SEQ // 8 :]
        self.socket = connect(key, target)
        self.owner_pid, _ = credentials(self.socket)
        try:
            self.greet(timeout)
        except BaseException:
            self.ended = True
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.end = weakref.finalize(self, shut, self.socket)
        self.thread = threading.Thread(
            target=run, args=(weakref.ref(self), self.socket), name="mmsb client", daemon=True
        )
        self.thread.start()

    # ---- greeting

    def greet(self, timeout: float) -> None:
        """Asks to be taken in, and takes all there is. OwnerGoneError, AttachError, BusyError, FormatVersionError."""
        deadline = time.monotonic() + timeout
        self.socket.settimeout(timeout)
        hello = messages.header(messages.HELLO) + messages.HELLO_BODY.pack(WORDS_BYTES, 0, 0)
        try:
            messages.send(self.socket, hello, [self.words.fd])
            self.words.forget_fd()
            while self.welcome is None or self.names is None or self.entries < self.welcome.entries:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                if not self.receive():
                    raise OwnerGoneError(f"The owner of {self.target!r} went away. Try again.", target=self.target)
        except BusyError:  # a TimeoutError as well
            raise
        except TimeoutError as error:
            raise BusyError(
                f"The owner of {self.target!r} did not answer within {timeout:g} s. If it serves by hand, it must call "
                "state.poll()."
            ) from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise OwnerGoneError(f"The owner of {self.target!r} went away. Try again.", target=self.target) from error

    def receive(self) -> bool:
        """Takes one message. False when none will ever come."""
        data, fds, is_cut = messages.receive(self.socket)
        try:
            if not data:
                return False
            if is_cut:
                raise messages.broken("a message that is too long")
            self.understand(data, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def understand(self, data: bytes, fds: list[int]) -> None:
        """Does what a message says."""
        header, body = messages.split(data)
        try:
            if header.kind == messages.REFUSED:
                raise refused(header.number, body, self.target)
            if header.kind == messages.WELCOME:
                self.take_welcome(header, body, fds)
            elif self.reader is None or self.welcome is None:
                raise messages.broken("something before the welcome")
            elif header.kind == messages.REGIONS:
                self.take_regions(header, body, fds)
            elif header.kind == messages.NAMES:
                self.take_names(body, fds)
            elif header.kind == messages.RING:
                self.take_ring(header, body, fds)
            # Other kinds are of later versions that still share in this layout.
        except ValueError as error:
            if isinstance(error, MMSBError):
                raise
            raise messages.broken(str(error)) from error

    def take_welcome(self, header: messages.Header, body: bytes, fds: list[int]) -> None:
        """The owner takes us in."""
        welcome = messages.decode_welcome(body)
        if self.welcome is not None or len(fds) != 1 or welcome.shared_bytes < SHARED_BYTES:
            raise messages.broken("a welcome that does not fit")
        shared = Region(fds[0], welcome.shared_bytes)
        layout, _ = shared_facts(shared)
        if layout > messages.LAYOUT:
            raise messages.newer(layout)
        self.reader = Reader(shared, self.words, welcome.place, welcome.number, welcome.salt, self.take)
        self.reader.grown = header.grown
        self.welcome = welcome

    def take_regions(self, header: messages.Header, body: bytes, fds: list[int]) -> None:
        """Memory came or went."""
        assert self.reader is not None and self.welcome is not None
        if len(body) != header.number * messages.ENTRY.size:
            raise messages.broken("a list of another length than it says")
        given = iter(fds)
        for at in range(0, len(body), messages.ENTRY.size):
            kind, number, size, flags = messages.ENTRY.unpack_from(body, at)
            if kind not in (HEADERS, PAGES, LOG):
                raise messages.broken(f"memory of kind {kind}")
            if flags & messages.ENTRY_GONE:
                if kind == LOG:
                    self.went(number)
                self.reader.set(kind, number, None)
                continue
            fd = next(given, None)
            if fd is None:
                raise messages.broken("memory without a descriptor")
            in_file = kind == LOG and self.welcome.path is not None
            region = Region(fd, size, sealed=not in_file, grows=in_file)
            self.reader.set(kind, number, region)
            if kind == LOG:
                if in_file:
                    self.reader.set(LOG, max(0, number - MAPPED_MOST), None)
                self.came(region)
            self.entries += 1
        self.reader.grown = max(self.reader.grown, header.grown)

    def take_names(self, body: bytes, fds: list[int]) -> None:
        """The table of names came."""
        if len(body) != messages.NAMES_BODY.size or len(fds) != 1:
            raise messages.broken("names of another length")
        seq, size, _ = messages.NAMES_BODY.unpack(body)
        table = memoryview(Region(fds[0], size)) if size else memoryview(b"")
        self.names = (seq, *messages.decode_names(table))

    def saw(self, seq: int) -> None:
        """Tells the owner, for people, how far a follower is; reads of pages tell it by themselves."""
        self.seen[0] = seq

    # ---- commands

    def ask_ring(self, ring_bytes: int, timeout: float, names: Callable[[str], int]) -> Client:
        """The client of this connection's ring, which the owner is asked for once. RightsError, BusyError,
        OwnerGoneError.
        """
        with self.asking:
            if not self.asked:
                self.asked, self.find_page = True, names
                with contextlib.suppress(OSError):  # of an owner that is gone, which is noticed below
                    messages.send(self.socket, messages.header(messages.RING) + messages.RING_BODY.pack(ring_bytes))
            if not self.answered.wait(timeout):
                raise BusyError(
                    f"The owner of {self.target!r} did not answer within {timeout:g} s. If it serves by hand, it must "
                    "call state.poll()."
                )
        if self.no_ring is not None:
            raise RightsError(self.no_ring, right="commands", page_id=None)
        if self.client is None:
            raise OwnerGoneError(
                f"The owner of {self.target!r} went away. Attach again.", target=self.target
            ) from self.failure
        return self.client

    def take_ring(self, header: messages.Header, body: bytes, fds: list[int]) -> None:
        """The answer to the wish for a ring."""
        if not self.asked or self.answered.is_set():
            raise messages.broken("a ring that nobody asked for")
        if header.number:
            self.no_ring = body.decode("utf-8", "replace")
        elif len(fds) != 3:
            raise messages.broken("a ring without its descriptors")
        else:
            mine = [os.dup(fd) for fd in fds]
            try:
                ring, flag, bell = mine
                self.client = Client(ring, flag, bell, self.find_page)
            except BaseException as error:
                for fd in mine:
                    os.close(fd)
                raise messages.broken(f"its ring: {error}") from error
            self.client.ring.owner_alive = lambda: not self.ended
        self.answered.set()

    # ---- keeping up

    def take(self) -> None:
        """Takes the messages that wait. An owner that is gone leaves its memory as it is."""
        with self.lock:
            while not self.ended and self.reader is not None:
                try:
                    if not self.receive():
                        self.over()
                except BlockingIOError:
                    return
                except OSError as error:
                    if isinstance(error, MMSBError):
                        self.failure = error
                    self.over()
                except (MemoryError, MMSBError) as error:
                    self.failure = error
                    self.over()
            if self.failure is not None:
                raise self.failure

    def over(self) -> None:
        """Nothing will come any more."""
        assert self.reader is not None
        self.ended = True
        self.reader.owner_went()
        self.end()
        self.answered.set()

    def close(self, *, forked: bool = False) -> None:
        """Ends it. What was mapped goes when nobody looks at it any more."""
        if self.client is not None:
            # Not closed: a thread may be waiting in it, and finds out by this.
            self.client.ring.owner_alive = None
            self.client.ring.disown("the view is closed")
            self.client = self.find_page = None
        # Not in the middle of a message, which needs the memory. In a forked child a lost thread may hold the lock.
        with contextlib.nullcontext() if forked else self.lock:
            self.ended = True
        self.answered.set()
        if forked:
            self.end.detach()
            self.socket.close()  # the parent's connection stays
        if self.reader is not None:
            self.reader.close(forked=forked)
        if not forked:
            self.end()
            if self.thread is not threading.current_thread():
                self.thread.join()


def refused(code: int, body: bytes, target: str) -> Exception:
    """The error of an owner that does not want us."""
    text = body.decode("utf-8", "replace")
    if code == messages.FULL:
        return BusyError(text)
    if code == messages.LAYOUT_UNKNOWN:
        return FormatVersionError(
            f"The owner of {target!r} shares its memory in an older layout than {messages.LAYOUT}. Use one version of "
            "mmsb on both sides.",
            path=None,
            version=None,
            supported=messages.LAYOUT,
        )
    reason = messages.REASONS.get(code, f"code {code}")
    return AttachError(f"The owner of {target!r} refused ({reason}): {text}", reason=reason, target=target)


def shut(connection: socket.socket) -> None:
    """Ends a connection, which wakes the thread that listens to it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def run(connection: weakref.ref[Connection], listened: socket.socket) -> None:
    """The thread: takes messages as they come, so that the owner's queue never fills while nobody reads."""
    poller = select.poll()
    poller.register(listened, select.POLLIN)
    try:
        while True:
            poller.poll()
            found = connection()
            if found is None:
                return
            with contextlib.suppress(Exception):  # kept in `failure`, for whoever asks next
                found.take()
            if found.ended:
                return
            del found
    finally:
        listened.close()
