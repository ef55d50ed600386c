"""One small change and one read, against stores that people would use instead, at the same durability."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from measure import Figure, compare

import mmsb

SEED = 20261121
VALUE_BYTES = 1024
COMMITS = 50  # per timing

Change = Callable[[bytes], None]
# What each level of ours is set beside: a suspension of power after a commit returned must find the same.
LEVELS = {
    "process": {"sqlite": "OFF", "lmdb": {"sync": False, "metasync": False, "writemap": True}, "redis": "no"},
    "power": {"sqlite": "FULL", "lmdb": {}, "redis": "always"},
}


def values(count: int = 64) -> list[bytes]:
    """Contents of a value that change ten bytes from one to the next, there and back."""
    rng = np.random.default_rng(SEED)
    page, found = bytearray(VALUE_BYTES), []
    for _ in range(count):
        for index in rng.choice(VALUE_BYTES, 10, replace=False):
            page[index] ^= int(rng.integers(1, 256))
        found.append(bytes(page))
    return found + found[-2:0:-1]


@contextmanager
def ours(durability: str) -> Iterator[tuple[Change, Callable[[], bytes]]]:
    """A page that is updated whole: the ten bytes are found by comparing."""
    with mmsb.open(tempfile.mkdtemp() + "/store", durability=durability) as state:
        page = state.create_page(VALUE_BYTES)
        page_id = page.page_id
        yield lambda value: state.update_page(page_id, value), page.read


@contextmanager
def of_sqlite(durability: str) -> Iterator[tuple[Change, Callable[[], Any]]]:
    """A row in WAL mode; an UPDATE is a transaction."""
    connection = sqlite3.connect(tempfile.mkdtemp() + "/db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={LEVELS[durability]['sqlite']}")
    connection.execute("CREATE TABLE page(id INTEGER PRIMARY KEY, content BLOB)")
    connection.execute("INSERT INTO page VALUES (1, ?)", (bytes(VALUE_BYTES),))
    yield (
        lambda value: connection.execute("UPDATE page SET content=? WHERE id=1", (value,)),
        lambda: connection.execute("SELECT content FROM page WHERE id=1").fetchone()[0],
    )
    connection.close()


@contextmanager
def of_lmdb(durability: str) -> Iterator[tuple[Change, Callable[[], Any]]]:
    """A key; a put is a transaction."""
    import lmdb

    environment = lmdb.open(tempfile.mkdtemp(), map_size=1 << 28, **LEVELS[durability]["lmdb"])

    def change(value: bytes) -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(b"page", value)

    def read() -> Any:
        with environment.begin() as transaction:
            return transaction.get(b"page")

    yield change, read
    environment.close()


@contextmanager
def of_zodb(durability: str) -> Iterator[tuple[Change, Callable[[], Any]]]:
    """An attribute of the root; FileStorage syncs each commit."""
    import transaction
    import ZODB
    import ZODB.FileStorage

    database = ZODB.DB(ZODB.FileStorage.FileStorage(tempfile.mkdtemp() + "/Data.fs"))
    root = database.open().root()

    def change(value: bytes) -> None:
        root["page"] = value
        transaction.commit()

    yield change, lambda: root["page"]
    transaction.abort()
    database.close()


@contextmanager
def of_redis(durability: str) -> Iterator[tuple[Change, Callable[[], Any]]]:
    """A key of a server on a Unix socket, with an append-only file."""
    import redis

    folder = tempfile.mkdtemp()
    command = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/socket", "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", LEVELS[durability]["redis"]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not os.path.exists(f"{folder}/socket"):
                if server.poll() is not None:
                    raise RuntimeError("redis-server does not start")
                time.sleep(0.01)
            client = redis.Redis(unix_socket_path=f"{folder}/socket")
            yield lambda value: client.set("page", value), lambda: client.get("page")
            client.close()
        finally:
            server.terminate()


PEERS = {"sqlite3, WAL": of_sqlite, "lmdb": of_lmdb, "ZODB FileStorage": of_zodb, "Redis, Unix socket": of_redis}
# A commit of ours against the peer's: must and reach-for are of this page, not promises of the earlier suites.
ONLY_DURABLE = {"ZODB FileStorage"}


def stores() -> Iterator[Figure]:
    """Changes and reads of 1 KiB, ten bytes changed, contents that differ each time."""
    contents = values()
    for durability in LEVELS:
        for name, peer in PEERS.items():
            if durability == "process" and name in ONLY_DURABLE:
                continue
            if name.startswith("Redis") and shutil.which("redis-server") is None:
                continue
            with ExitStack() as stack:
                change, read = stack.enter_context(ours(durability))
                their_change, their_read = stack.enter_context(peer(durability))
                turn = iter(range(1 << 40))

                def changes(change: Change = change, turn: Iterator[int] = turn) -> None:
                    for _ in range(COMMITS):
                        change(contents[next(turn) % len(contents)])

                def theirs(change: Change = their_change, turn: Iterator[int] = turn) -> None:
                    for _ in range(COMMITS):
                        change(contents[next(turn) % len(contents)])

                repeats = 9 if durability == "power" else 25
                figure = compare(f"commit, {durability}: {name}", changes, theirs, 1, 1, speed=True, repeats=repeats)
                figure.ours, figure.reference = figure.ours / COMMITS * 1e6, figure.reference / COMMITS * 1e6
                figure.unit = "us"
                yield figure
                if durability == "process":
                    figure = compare(f"read of 1 KiB: {name}", read, their_read, 1, 1, speed=True, calls=200)
                    figure.ours, figure.reference, figure.unit = figure.ours * 1e6, figure.reference * 1e6, "us"
                    yield figure
