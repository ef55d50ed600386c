"""A durable history of small changes to 1,000 arrays of 4 KiB, and random states of its past.

The peers would take hours for all changes, so they make a part of them, and their figures are scaled up linearly, in
their favour: both get slower, and need more per change, the longer their history is.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Figure

import mmsb

SEED = 20261121
ARRAYS, ARRAY_BYTES, CHANGE_BYTES = 1000, 4096, 16
CHANGES, READS, PER_COMMIT = 100_000, 1000, 100


@dataclass
class Outcome:
    """Of one system: seconds to write and to read, bytes on disk; all for CHANGES and READS."""

    write: float
    read: float
    size: int

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.write + self.read


def program(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which array, where, and what, of each change."""
    rng = np.random.default_rng(SEED)
    arrays = rng.integers(0, ARRAYS, count)
    places = rng.integers(0, ARRAY_BYTES - CHANGE_BYTES, count)
    return arrays, places, rng.integers(0, 256, (count, CHANGE_BYTES), dtype="u1")


def beginning() -> np.ndarray:
    """What the arrays hold before the first change; bytes on disk are counted from here on."""
    return np.random.default_rng(SEED + 2).integers(0, 256, (ARRAYS, ARRAY_BYTES), dtype="u1")


def size_of(folder: str) -> int:
    """Bytes of all files below a folder, as they take room on the disk."""
    return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def picks(count: int, limit: int) -> list[tuple[int, int]]:
    """(commit, array) pairs to read, the same ones for everybody who has as many commits."""
    rng = np.random.default_rng(SEED + 1)
    return [
        (int(a), int(b)) for a, b in zip(rng.integers(1, limit, count), rng.integers(0, ARRAYS, count), strict=True)
    ]


def ours() -> Outcome:
    """One commit per change, with a sync after every hundred, as the peers have."""
    folder = tempfile.mkdtemp() + "/store"
    arrays, places, values = program(CHANGES)
    with mmsb.open(folder, compress=True) as state:
        pages = [state.create_page(ARRAY_BYTES, data=content.tobytes()) for content in beginning()]
        state.checkpoint()
        first = state.seq
        before = state.stats()["log"]["bytes"] + size_of(folder + "/checkpoints")
        begun = time.perf_counter()
        for n in range(CHANGES):
            pages[arrays[n]].write(values[n].tobytes(), at=int(places[n]))
            if n % PER_COMMIT == PER_COMMIT - 1:
                state.sync()
        state.checkpoint()
        wrote = time.perf_counter() - begun
        begun = time.perf_counter()
        for commit, array in picks(READS, CHANGES):
            state.at(first + commit).page(pages[array].page_id).read()
        read = time.perf_counter() - begun
    return Outcome(wrote, read, size_of(folder) - before)


def of_icechunk(changes: int, reads: int) -> Outcome:
    """One chunk per array, one commit per hundred changes."""
    import icechunk
    import zarr

    folder = tempfile.mkdtemp()
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(folder))
    session = repository.writable_session("main")
    group = zarr.group(session.store)
    group.create_array("a", shape=(ARRAYS, ARRAY_BYTES), chunks=(1, ARRAY_BYTES), dtype="u1")[:] = beginning()
    session.commit("empty")
    before = size_of(folder)
    arrays, places, values = program(changes)
    snapshots = []
    begun = time.perf_counter()
    for start in range(0, changes, PER_COMMIT):
        session = repository.writable_session("main")
        target = zarr.open_group(session.store)["a"]
        for n in range(start, start + PER_COMMIT):
            target[int(arrays[n]), int(places[n]) : int(places[n]) + CHANGE_BYTES] = values[n]
        snapshots.append(session.commit(str(start)))
    os.sync()
    wrote = time.perf_counter() - begun
    begun = time.perf_counter()
    for commit, array in picks(reads, len(snapshots)):
        past = repository.readonly_session(snapshot_id=snapshots[commit])
        zarr.open_group(past.store, mode="r")["a"][array]
    read = time.perf_counter() - begun
    scale = CHANGES / changes
    return Outcome(wrote * scale, read * READS / reads, round((size_of(folder) - before) * scale))


def of_tiledb(changes: int, reads: int) -> Outcome:
    """A dense array, a timestamp per change."""
    import tiledb

    folder = tempfile.mkdtemp() + "/array"
    whole = tiledb.Dim("array", domain=(0, ARRAYS - 1), tile=1, dtype="i4")
    inside = tiledb.Dim("byte", domain=(0, ARRAY_BYTES - 1), tile=ARRAY_BYTES, dtype="i4")
    schema = tiledb.ArraySchema(domain=tiledb.Domain(whole, inside), attrs=[tiledb.Attr("v", dtype="u1")])
    tiledb.Array.create(folder, schema)
    with tiledb.open(folder, "w", timestamp=1) as target:
        target[:] = beginning()
    before = size_of(folder)
    arrays, places, values = program(changes)
    begun = time.perf_counter()
    for n in range(changes):
        with tiledb.open(folder, "w", timestamp=n + 2) as target:
            at, place = int(arrays[n]), int(places[n])
            target[at : at + 1, place : place + CHANGE_BYTES] = values[n][None, :]
    os.sync()
    wrote = time.perf_counter() - begun
    begun = time.perf_counter()
    for commit, array in picks(reads, changes):
        with tiledb.open(folder, "r", timestamp=commit + 1) as past:
            past[array : array + 1]
    read = time.perf_counter() - begun
    scale = CHANGES / changes
    return Outcome(wrote * scale, read * READS / reads, round((size_of(folder) - before) * scale))


def history(full: bool = False) -> Iterator[Figure]:
    """Time and bytes, against the better of the two peers."""
    mine = ours()
    peers = {
        "zarr + icechunk": of_icechunk(CHANGES if full else 2000, READS if full else 20),
        "TileDB": of_tiledb(CHANGES if full else 500, READS if full else 10),
    }
    for name, peer in peers.items():
        best = min(peer.seconds for peer in peers.values()) == peer.seconds
        must, reach = (50, 200) if best else (1, 1)
        yield Figure(
            f"history of arrays, time: {name}",
            mine.seconds,
            peer.seconds,
            "s",
            peer.seconds / mine.seconds,
            0,
            must,
            reach,
        )
        best = min(peer.size for peer in peers.values()) == peer.size
        must, reach = (20, 50) if best else (1, 1)
        sizes = (mine.size / 1e6, peer.size / 1e6)
        yield Figure(f"history of arrays, bytes: {name}", *sizes, "MB", peer.size / mine.size, 0, must, reach)
