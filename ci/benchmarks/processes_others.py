"""The other ways of processes.py: pipes, Redis, ZeroMQ and a Manager, each with a process of its own at the far end."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mmsb

SPAWN = multiprocessing.get_context("spawn")


class Shared:
    """Two words that both ends see, whatever carries the message: how many were heard, and when the last one was."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 4096)

    @classmethod
    @contextmanager
    def made(cls, folder: Path) -> Iterator[Shared]:
        """A new one, in a file of `folder`."""
        path = folder / "words"
        path.write_bytes(bytes(4096))
        shared = cls(path)
        try:
            yield shared
        finally:
            path.unlink()

    def heard(self) -> None:
        """At the far end, first thing in the handler."""
        struct.pack_into("<Q", self.map, 8, time.monotonic_ns())
        struct.pack_into("<Q", self.map, 0, struct.unpack_from("<Q", self.map, 0)[0] + 1)

    def block(self, send: Callable[[bytes], object], gap: float, count: int) -> Callable[[], list[int]]:
        """Sends `count` messages, each `gap` seconds after the one before was heard; how long each took, in ns."""
        words = memoryview(self.map).cast("Q")

        def run() -> list[int]:
            taken = []
            for number in range(count):
                data = (time.monotonic_ns() << 8 | number % 256).to_bytes(16, "little")
                before = words[0]
                if gap:
                    time.sleep(gap)
                begun = time.monotonic_ns()
                send(data)
                limit = begun + 1_000_000_000
                while words[0] == before and time.monotonic_ns() < limit:
                    pass
                if words[0] == before:
                    raise RuntimeError("a message got lost")
                taken.append(words[1] - begun)
            return taken

        return run


def listen_ours(path: Path, name: str) -> None:
    """A handler of changes of a page."""
    shared = Shared(path)
    with mmsb.attach(name) as view:
        view.subscribe("page_changed", lambda event: shared.heard())
        print("ready", flush=True)
        sys.stdin.read()


def listen_pipe(path: Path, fd: str) -> None:
    """The far end of a multiprocessing.Pipe."""
    shared, end = Shared(path), Connection(int(fd))
    print("ready", flush=True)
    try:
        while True:
            end.recv_bytes()
            shared.heard()
    except EOFError:
        return


def listen_redis(path: Path, socket: str) -> None:
    """A subscriber."""
    import redis

    shared = Shared(path)
    channel = redis.Redis(unix_socket_path=socket).pubsub()
    channel.subscribe("bench")
    for message in channel.listen():
        if message["type"] == "subscribe":
            print("ready", flush=True)
        elif message["data"] == b"end":
            return
        else:
            shared.heard()


def answer_zeromq(path: Path, address: str) -> None:
    """Keeps what it is sent, and says so."""
    import zmq

    kept = {}
    socket = zmq.Context().socket(zmq.REP)
    socket.bind(address)
    print("ready", flush=True)
    while data := socket.recv():
        kept[1] = data
        socket.send(b"ok")


class Others:
    """Starts the far ends, and Redis when somebody asks for it; ends them all."""

    def __init__(self, folder: Path, shared: Shared) -> None:
        self.folder, self.shared = folder, shared
        self.stack = ExitStack()
        self.server: Any = None

    def __enter__(self) -> Others:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def child(self, kind: str, argument: str, fds: tuple[int, ...] = ()) -> None:
        """Runs a function of this file in a process of its own, until the end."""
        process = subprocess.Popen(
            [sys.executable, __file__, kind, str(self.folder / "words"), argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
        )
        assert process.stdin is not None and process.stdout is not None
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.stack.callback(process.stdin.close)
        self.stack.callback(process.stdout.close)
        if not process.stdout.readline():
            raise RuntimeError(f"the process for {kind} did not start")

    def start(self, kind: str, name: str = "") -> Callable[[bytes], object]:
        """Starts a listener; what sends to it."""
        if kind == "pipe":
            mine, other = SPAWN.Pipe()
            self.child("listen_pipe", str(other.fileno()), (other.fileno(),))
            return mine.send_bytes
        if kind == "redis":
            client = self.redis()
            self.child("listen_redis", str(self.folder / "redis"))
            return lambda data: client.publish("bench", data)
        self.child("listen_ours", name)
        return lambda data: None

    def redis(self) -> Any:
        """A client of a Redis server on a Unix socket, without persistence."""
        import redis

        path = str((self.folder / "redis").absolute())
        if self.server is None:
            program = shutil.which("redis-server")
            if program is None:
                raise SystemExit("ci/bench: redis-server is missing; install Debian's package redis-server.")
            self.server = subprocess.Popen(
                [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"],
                stdout=subprocess.DEVNULL,
            )
            self.stack.callback(self.server.wait)
            self.stack.callback(self.server.terminate)
            while not os.path.exists(path):
                time.sleep(0.01)
        return redis.Redis(unix_socket_path=path)

    def redis_set(self) -> Callable[[bytes], object]:
        """Sets a key."""
        client = self.redis()
        return lambda data: client.set("bench", data)

    def zeromq(self) -> Callable[[bytes], object]:
        """Asks and waits for the answer."""
        import zmq

        address = f"ipc://{self.folder / 'zeromq'}"
        self.child("answer_zeromq", address)
        socket = zmq.Context.instance().socket(zmq.REQ)
        self.stack.callback(socket.close, 0)
        socket.connect(address)

        def ask(data: bytes) -> object:
            socket.send(data)
            return socket.recv()

        return ask

    def manager(self) -> Callable[[bytes], object]:
        """Sets a key of a dictionary in the process of a Manager."""
        manager = self.stack.enter_context(SPAWN.Manager())
        there = manager.dict()
        return lambda data: there.__setitem__(1, data)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
