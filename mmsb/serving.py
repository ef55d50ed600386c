"""Server: the owner's side of attaching. It takes clients in, does their commands, and notices when they go.

What a client reads it reads from memory: once it is in, nothing here is asked, and no commit waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsb import messages, rights
from mmsb._core.files import Memory
from mmsb._core.sharing import CLIENTS_MAX, SHARED_BYTES, WORDS_BYTES, Region, Sharing
from mmsb.config import runtime_directory
from mmsb.errors import AttachError, BusyError, FormatVersionError, StateClosedError, described
from mmsb.executing import LOOK_SECONDS, CommandServer
from mmsb.log import room_for
from mmsb.rendezvous import Listener, credentials, key_of_name, key_of_store

if TYPE_CHECKING:
    from mmsb._core.ringserver import RingSlot
    from mmsb.segments import Segment
    from mmsb.state import State

HELLO_SECONDS = 5.0
# Connections that have not said what they want.
STRANGERS_MOST = 2 * CLIENTS_MAX
# Of one round: whoever knocks on and on keeps nobody else waiting.
ACCEPTED_MOST = 16
WAKE_SECONDS = 1.0
SEND_BUFFER_BYTES = 1 << 20
PAUSE_SECONDS = 0.02


@dataclass
class Peer:
    """One connection. `number`: of a client that was taken in, None for one that has not asked. `slot`: of the ring of
    its commands, if it wanted one.
    """

    socket: socket.socket
    pid: int
    uid: int
    since: float = field(default_factory=time.monotonic)
    attached: float = 0.0
    number: int | None = None
    slot: RingSlot | None = None


class Server:
    """Serves one State. All its work is done by its thread, or by poll(). `commands`: see State.serve."""

    def __init__(self, state: State, *, clients_most: int, commands: Any) -> None:
        self.closed = True  # until it is open
        if isinstance(clients_most, bool) or not isinstance(clients_most, int):
            raise TypeError(f"clients is a number (int), not {type(clients_most).__name__}")
        if not 1 <= clients_most <= CLIENTS_MAX:
            raise ValueError(f"A State serves 1 to {CLIENTS_MAX} clients, not {clients_most}.")
        if not callable(commands):
            allowed = rights.checked(commands)
            if allowed is not None:
                rights.parts(state, allowed)  # raises for a page that there is not
        self._state = weakref.ref(state)
        self.rights = commands
        self.clients_most = clients_most
        self.started = time.monotonic()
        self.refused = 0
        self.failures: deque[str] = deque(maxlen=16)
        self.sharing = Sharing(state)
        self.peers: dict[int, Peer] = {}
        self.lock = threading.Lock()  # one thread works at a time,
        self.worker: int | None = None  # and this is it
        self.ending = False  # no command is to be begun any more
        keys = [] if state.path is None else [key_of_store(state.uuid)]
        if state.name is not None:
            keys.append(key_of_name(state.name))
        if not keys:
            raise ValueError("Nobody could find this State. Give it a name: mmsb.open(name=...).")
        shared = None if state.path is None or state._log.files.shared is None else state.path
        with room_for(runtime_directory(), 0):
            self.listener = Listener(keys, repr(state.name) if state.path is None else state.path, shared)
        self.epoll = select.epoll()
        self.thread: threading.Thread | None = None
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll.register(self.bell, select.EPOLLIN)
        for made in self.listener.sockets:
            self.epoll.register(made.fileno(), select.EPOLLIN)
        self.commands: CommandServer | None = CommandServer(state)
        self.commands.on_broken = self.broke
        self.epoll.register(self.commands.fileno(), select.EPOLLIN)
        self.closed = False

    @property
    def state(self) -> State:
        """The State that is served."""
        state = self._state()
        if state is None:
            raise StateClosedError("The State is closed. Open it again.")
        return state

    # ---- the thread

    def start(self) -> None:
        """Begins to serve in the background."""
        self.thread = threading.Thread(target=run, args=(weakref.ref(self),), name="mmsb server", daemon=True)
        self.thread.start()

    def stop_commands(self) -> None:
        """No command is begun after this; what clients had published is done. May be called again.

        Call it while the State is open, and without a lock that a handler of its commits could wait for.
        """
        self.ending = True
        if self.closed or self.worker == threading.get_ident():
            return  # a handler of a command: alone() sees to it
        self.ring()
        with self.alone():
            pass

    def stop(self) -> None:
        """Ends it, after the last commit: every client learns that the owner is gone. May be called again."""
        if self.closed:
            return
        self.closed = self.ending = True
        if self.worker == threading.get_ident():
            return
        self.ring()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
        with self.lock:
            self.close()

    def ring(self) -> None:
        """Wakes whoever waits."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self.bell, 1)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One thread works at a time. What a handler of its commands ends meanwhile ends afterwards."""
        with self.lock:
            self.worker = threading.get_ident()
            try:
                yield
            finally:
                if self.ending:
                    self.end_commands()
                if self.closed:
                    self.close()
                self.worker = None

    def end_commands(self) -> None:
        """Does what is published, and lets go of the rings. Clients learn of it when their connection ends."""
        commands = self.commands
        if commands is None:
            return
        try:
            commands.finish()
        except Exception as error:
            self.failures.append(described(error))
        self.commands = None
        for peer in self.peers.values():
            peer.slot = None
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(commands.fileno())
        commands.abandon()

    def close(self, *, remove: bool = True) -> None:
        """Lets go of all descriptors. `remove`: and of the sockets' names."""
        self.closed = True
        if self.bell < 0:
            return
        try:
            # First of all: whoever learns that its owner is gone may look for the next one.
            self.listener.close(remove=remove)
        finally:
            if self.commands is not None:
                self.commands.abandon()
                self.commands = None
            self.sharing.end()
            for peer in self.peers.values():
                peer.slot = None
                messages.end(peer.socket, drain=remove)
            self.peers.clear()
            # Of a State that was dropped, the thread may wait just now: the epoll goes with it, when it next looks.
            # While the interpreter ends, threads that wait seem dead.
            dead = self.thread is not None and not self.thread.is_alive() and not sys.is_finalizing()
            if self.thread is None or self.thread is threading.current_thread() or dead:
                self.epoll.close()
            os.close(self.bell)
            self.bell = -1
            if (state := self._state()) is not None:
                state._server = None  # what it knows the State by would keep that in memory

    def abandon(self) -> None:
        """In a forked child: lets go of everything, so that clients do not take the child for their owner."""
        self.close(remove=False)

    def __del__(self) -> None:
        # Of a State that is dropped without being closed.
        if not self.closed:
            self.close()

    # ---- one round

    def poll(self, timeout: float | None = 0.0) -> int:
        """Does what is to be done; waits up to `timeout` seconds (None: for ever) for it. How much it was."""
        if self.closed or self.worker == threading.get_ident():
            return 0
        with self.alone():
            done = self.work()
            if not done and timeout != 0 and not self.ending:
                if self.fall_asleep():
                    try:
                        self.epoll.poll(timeout, 1)
                    finally:
                        self.wake_up()
                done = self.work()
        return done

    def work_until_idle(self) -> None:
        """Does all there is to do, and asks clients to ring when there is more."""
        with self.alone():
            self.wake_up()
            while not self.ending:
                self.work()
                if not self.do_commands(LOOK_SECONDS) and self.fall_asleep():
                    return

    def fall_asleep(self) -> bool:
        """Asks clients to ring. False when there is something to do already."""
        return self.commands is None or bool(self.commands.fall_asleep())

    def wake_up(self) -> None:
        """Takes that back."""
        if self.commands is not None:
            self.commands.hush()

    def work(self) -> int:
        """Does what is to be done now: what came over sockets, and one turn for each ring. How much it was."""
        done = 0
        if self.closed:
            return done
        listeners = {made.fileno(): made for made in self.listener.sockets}
        for fd, event in self.epoll.poll(0):
            if fd == self.bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.bell)
            elif fd in listeners:
                self.accept(listeners[fd])
                done += 1
            elif fd in self.peers:
                try:
                    self.hear(self.peers[fd], event)
                except Exception as error:  # of one peer, and no matter of the others
                    self.failures.append(described(error))
                    self.forget(fd)
                done += 1
        self.forget_silent()
        commands = self.commands
        if not self.ending and commands is not None and (commands.left or commands.is_ready(spin=False)):
            self.do_commands(0.0)
            done += 1
        return done

    def do_commands(self, seconds: float) -> bool:
        """One turn for each ring, and more while clients go on sending, but not over `seconds`. True when there may be
        more to do.
        """
        if self.ending or self.commands is None:
            return False
        try:
            return self.commands.poll_while_busy(seconds)
        except Exception as error:  # not of a command, whose errors its client gets
            self.failures.append(described(error))
            time.sleep(PAUSE_SECONDS)
            return True

    def accept(self, listener: socket.socket) -> None:
        """Lets in who knocks, so many of them at once."""
        for _ in range(ACCEPTED_MOST):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no descriptor is left, and they stay in front of the door
                self.failures.append(described(error))
                time.sleep(PAUSE_SECONDS)
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            peer = Peer(connection, *credentials(connection))
            self.peers[connection.fileno()] = peer
            self.epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
            strangers = [one for one in self.peers.values() if one.number is None]
            if peer.uid != os.getuid() and listener is not self.listener.group_socket:
                self.refuse(peer, messages.NOT_ALLOWED, f"the owner is user {os.getuid()} and you are {peer.uid}")
            elif len(strangers) > STRANGERS_MOST:
                self.forget(strangers[0].socket.fileno())

    def forget_silent(self) -> None:
        """Ends connections that never said what they want."""
        late = time.monotonic() - HELLO_SECONDS
        for fd, peer in list(self.peers.items()):
            if peer.number is None and peer.since < late:
                self.forget(fd)

    def hear(self, peer: Peer, event: int) -> None:
        """A peer said something, or went."""
        fds: list[int] = []
        try:
            data, fds, _ = messages.receive(peer.socket)
            if not data:
                self.forget(peer.socket.fileno())
            elif peer.number is None:
                self.answer(peer, data, fds)
            else:
                self.hear_client(peer, data)
        except BlockingIOError:
            if event & (select.EPOLLHUP | select.EPOLLERR):
                self.forget(peer.socket.fileno())
        except OSError:
            self.forget(peer.socket.fileno())
        finally:
            messages.let_go(fds)

    def answer(self, peer: Peer, data: bytes, fds: list[int]) -> None:
        """The first message of a peer."""
        try:
            header, body = messages.split(data)
            if header.kind == messages.STATUS:
                self.send(peer, messages.header(messages.STATUS) + json.dumps(self.status()).encode())
            elif header.kind == messages.HELLO:
                self.admit(peer, body, fds)
            else:
                raise messages.broken(f"a message of kind {header.kind}")
        except FormatVersionError as error:
            self.refuse(peer, messages.LAYOUT_UNKNOWN, str(error))
        except AttachError as error:
            self.refuse(peer, messages.MALFORMED, str(error.facts["reason"]))
        except BusyError as error:
            self.refuse(peer, messages.FULL, str(error))

    def hear_client(self, peer: Peer, data: bytes) -> None:
        """A later message of a client. Only one means anything in this layout: that it wants a ring."""
        try:
            header, body = messages.split(data)
        except (AttachError, FormatVersionError):
            return
        if header.kind == messages.RING:
            try:
                self.give_ring(peer, body)
            except AttachError as error:
                self.refuse(peer, messages.MALFORMED, str(error.facts["reason"]))

    def give_ring(self, peer: Peer, body: bytes) -> None:
        """Hands a client the ring for its commands, or says why it gets none. AttachError."""
        if len(body) != messages.RING_BODY.size or peer.slot is not None:
            raise messages.broken("a second ring, or a wish of another length")
        (size,) = messages.RING_BODY.unpack(body)
        if self.commands is None:
            return  # the State is being closed, of which it hears soon
        try:
            mine = peer.uid == os.getuid()  # or of the group, which may only read unless a function says more
            given = self.rights(peer) if callable(self.rights) else mine and self.rights
            allowed = rights.checked(given)
            facts = None if allowed is None else rights.parts(self.state, allowed)
        except Exception as error:
            self.failures.append(described(error))
            facts = None
        if facts is None:
            text = b"This client may not change anything. Ask its owner for the right to."
            self.send(peer, messages.header(messages.RING, messages.NOT_ALLOWED) + text)
            return
        if not messages.RING_BYTES_LEAST <= size <= messages.RING_BYTES_MOST or size & (size - 1):
            raise messages.broken(f"a ring of {size} bytes")
        slot = self.commands.add(size, max(messages.RING_BYTES_LEAST, size // 4))
        slot.allow(**facts)
        peer.slot = slot
        if not self.send(peer, messages.header(messages.RING), (slot.fd, slot.flag_fd, slot.bell_fd)):
            self.forget(peer.socket.fileno())

    def broke(self, slot: RingSlot, reason: str) -> None:
        """A client does not keep to what a ring asks of it: that ends the connection."""
        for fd, peer in list(self.peers.items()):
            if peer.slot is slot:
                self.failures.append(f"client {peer.number} of process {peer.pid}: {reason}")
                peer.slot = None
                self.forget(fd)

    def send(self, peer: Peer, data: bytes, fds: tuple[int, ...] = ()) -> bool:
        """Whether the peer took a message; one that does not is not waited for."""
        try:
            messages.send(peer.socket, data, fds)
        except OSError:
            return False
        return True

    def refuse(self, peer: Peer, code: int, text: str) -> None:
        """Says why, and ends the connection."""
        self.refused += 1
        self.send(peer, messages.header(messages.REFUSED, code) + text.encode()[:1000])
        self.forget(peer.socket.fileno())

    def forget(self, fd: int) -> None:
        """A peer is gone, and everything of it."""
        peer = self.peers.pop(fd, None)
        if peer is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(fd)
        if peer.slot is not None and self.commands is not None:
            slot, peer.slot = peer.slot, None
            try:
                self.commands.leave(slot)  # what it had published is done yet
            except Exception as error:
                self.failures.append(described(error))
        if peer.number is not None:
            state = self._state()
            if state is not None:
                with state._exclusive():
                    self.sharing.remove(fd)
        messages.end(peer.socket)

    # ---- taking in

    def admit(self, peer: Peer, body: bytes, fds: list[int]) -> None:
        """Makes a client of a peer. AttachError, BusyError."""
        if len(body) != messages.HELLO_BODY.size or len(fds) != 1:
            raise messages.broken("a hello of another length, or without its words")
        words_bytes, wants, ring_bytes = messages.HELLO_BODY.unpack(body)
        if words_bytes != WORDS_BYTES or wants or ring_bytes:
            raise messages.broken("a hello that asks for what there is not")
        leaving = 0 if self.commands is None else max(0, len(self.commands.leaving) - self.clients_most)
        if sum(one.number is not None for one in self.peers.values()) + leaving >= self.clients_most:
            raise BusyError(
                f"The owner serves {self.clients_most} clients, which is its most. Close one, or serve with more."
            )
        try:
            words = Region(fds[0], words_bytes)
        except ValueError as error:
            raise messages.broken(f"its words: {error}") from error
        state, fd = self.state, peer.socket.fileno()
        # What follows is sent while nobody commits: what comes later is then told in messages of its own.
        with state._exclusive():
            try:
                place, peer.number = self.sharing.add(fd, words)
            except ValueError as error:
                raise messages.broken(str(error)) from error
            segments = self.segments_to_tell(state)
            welcome = messages.Welcome(
                peer.number,
                place,
                self.sharing.entries + len(segments),
                SHARED_BYTES,
                state.uuid,
                state._log.salt,
                state.first_seq,
                state._log.created_ns,
                state.branch,
                state.path,
                state.name,
            )
            data = messages.header(messages.WELCOME, 0, self.sharing.grown) + welcome.encode()
            told = self.send(peer, data, (self.sharing.shared_fd,)) and self.sharing.tell_all(fd)
            for segment in segments:
                told = told and self.tell_log(segment, fd)
            names, notes, seq = dict(state._name_of), dict(state._metadata), state.seq
        if not told or not self.send_names(peer, names, notes, seq):
            self.forget(fd)
            return
        peer.attached = time.time()

    def send_names(self, peer: Peer, names: dict[int, str], notes: dict[int, bytes], seq: int) -> bool:
        """Sends the table of names as it is at `seq`."""
        table = messages.encode_names(names, notes)
        memory = Memory(-(-max(len(table), 1) // 4096) * 4096)
        memoryview(memory)[: len(table)] = table
        body = messages.NAMES_BODY.pack(seq, len(table), len(names.keys() | notes.keys()))
        return self.send(peer, messages.header(messages.NAMES) + body, (memory.fd,))

    def segments_to_tell(self, state: State) -> list[Segment]:
        """The segments of the log that a client cannot find by itself."""
        log = state._log
        return [segment for segment in log.segments if segment.path is None or segment is log.active]

    @contextlib.contextmanager
    def readable(self, segment: Segment) -> Any:
        """A descriptor of a segment that is good for reading only."""
        if segment.path is None:
            yield segment.memory.fd
            return
        files = self.state._log.files
        fd = files.open(segment.path, os.O_RDONLY)
        try:
            yield fd
        finally:
            files.close(fd)

    def tell_log(self, segment: Segment, to: int) -> bool:
        """Sends a client one segment of the log. Whether it took it."""
        with self.readable(segment) as fd:
            return bool(self.sharing.tell_log(to, segment.number, fd, segment.head.capacity))

    def log_came(self, segment: Segment) -> None:
        """Tells everybody of a segment before it is used. Call it inside _exclusive()."""
        if self.sharing.stats()["clients"]:
            with self.readable(segment) as fd:
                self.sharing.log(segment.number, fd, segment.head.capacity)

    def log_went(self, segment: Segment) -> None:
        """Tells everybody that a segment in memory is kept no more."""
        self.sharing.log(segment.number, -1, 0)

    # ---- looking at it

    def status(self) -> dict[str, Any]:
        """What `mmsb ps` shows."""
        state = self.state
        log, told = state._log, self.sharing.clients()
        seq = state.seq
        clients = []
        for fd, peer in self.peers.items():
            facts = told.get(fd)
            if facts is None:
                continue
            seen = min(facts["seen_seq"], seq)
            clients.append(
                {
                    "pid": peer.pid,
                    "number": facts["number"],
                    "attached": peer.attached,
                    "seen_seq": seen,
                    "lag": seq - seen,
                    "waiting": facts["waiting"],
                    "ring": None if peer.slot is None else peer.slot.stats,
                }
            )
        return {
            "pid": os.getpid(),
            "uuid": state.uuid.hex(),
            "name": state.name,
            "path": state.path,
            "seq": seq,
            "durable_seq": state.durable_seq,
            "pages": state.page_count,
            "log": {"segments": len(log.segments), "bytes": log.bytes_used()},
            "seconds": round(time.monotonic() - self.started, 3),
            "clients_most": self.clients_most,
            "refused": self.refused,
            "failures": list(self.failures),
            "dropped": self.sharing.stats()["drops"],
            "kept_bytes": self.sharing.stats()["kept_bytes"],
            "clients": sorted(clients, key=lambda client: client["number"]),
        }


def run(server: weakref.ref[Server]) -> None:
    """The thread. It holds the Server only while it works, so that a State that is simply dropped goes away."""
    while True:
        found = server()
        if found is None or found.closed:
            return
        epoll = found.epoll
        del found
        try:
            ready = epoll.poll(WAKE_SECONDS, 1)
        except (ValueError, OSError):
            return
        found = server()
        if found is None or found.closed:
            return
        if ready or found.peers:
            try:
                found.work_until_idle()
            except StateClosedError:
                return
        del found
