"""Random programs whose outcome must not depend on the machine: what R14 runs in each process that it compares.

    python -m tests.rel.determined SEED FIRST COUNT THREADS

prints a line for each program: hashes of the digests after each commit, of the log's bytes, and of the checkpoints'.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import mmsb
from mmsb import links
from mmsb.builtin.policies import Parallel
from mmsb.log import FileLog
from mmsb.store import Identity
from mmsb.testing.histories import change_something

LANES = 67  # no multiple of any vector, so that every kernel has a rest
COMMITS = 25


def numbers(rng: random.Random) -> bytes:
    """Lanes of a page: any bits, those of a NaN, an infinity and a zero with a sign among them."""
    data = bytearray(rng.randbytes(LANES * 8))
    for special in (b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\0\0\0\0\0\x80", b"\0\0\0\0\0\0\xf0\x7f"):
        at = rng.randrange(LANES) * 8
        data[at : at + 8] = special
    return bytes(data)


def few_others(data: bytes, rng: random.Random) -> bytes:
    """The same lanes but for a few bytes, so that most blocks that a kernel compares are equal."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def derive(state: Any, rng: random.Random) -> list[int]:
    """Pages that are computed from others, of every type of lane, and merge pages. The ids that a program may write."""
    free = []
    for dtype, bytes_each in (("float64", 8), ("float32", 4), ("int64", 8), ("int32", 4), ("uint8", 1)):
        size = LANES * 8
        parents = list(state.create_pages(3, size))
        free += parents
        names = ["plus-times", "min-plus", "max-plus"] if dtype != "uint8" else ["plus-times"]
        for name in names:
            child = state.create_page(size)
            state.depend(child, on=parents, link=links.semiring(name, dtype))
            total = state.create_page(bytes_each)
            state.depend(total, on=[child], link=links.reduce(name, dtype))
    for name in ("max-plus float64", "plus-times int64"):
        semiring, dtype = name.split()
        free.append(state.create_page(LANES * 8, merge=semiring, dtype=dtype).page_id)
    return free


def program(seed: str, folder: Path, threads: int) -> list[str]:
    """One program: hashes of its digests, its log and its checkpoints."""
    rng = random.Random(seed)
    time_ns = [1_700_000_000 * 10**9]

    def clock() -> int:
        time_ns[0] += 1000
        return time_ns[0]

    identity = Identity(b"u" * 16, b"s" * 16, clock())
    digests = hashlib.sha256()
    path = folder / "store"
    policy = Parallel(threads=threads, least_bytes=1) if threads > 1 else None
    with mmsb.open(
        path, clock=clock, segment_bytes=16384, checkpoint_bytes=None, policy=policy, _identity=identity
    ) as state:
        free = derive(state, rng)
        reserved = state.next_page_id
        for step in range(COMMITS):
            if rng.randrange(3) == 0:
                page = state.page(rng.choice(free))
                page.write(numbers(rng) if rng.randrange(2) else few_others(page.read(), rng))
            else:
                with state.batch(
                    source=rng.choice([None, "a", "b"]), label=rng.choice([None, f"step {step}"])
                ) as batch:
                    own = [page.page_id for page in state.pages() if page.page_id >= reserved]
                    sizes = {page_id: state.page(page_id).size for page_id in own}
                    for _ in range(rng.randrange(5)):
                        try:
                            change_something(batch, own, sizes, rng)
                        except mmsb.MMSBError:
                            continue  # a name that is taken: the operation is left out
            digests.update(state.digest())
            if step % 9 == 8:
                state.checkpoint()
    return [digests.hexdigest(), *(contents(path / name) for name in ("log", "checkpoints"))]


def contents(folder: Path) -> str:
    """A hash of all files of a folder."""
    hashed = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        hashed.update(path.name.encode() + path.read_bytes())
    return hashed.hexdigest()


def main() -> None:
    """Runs the programs that the arguments name."""
    seed, first, count, threads = sys.argv[1], *map(int, sys.argv[2:5])
    # The flusher anchors about once a second, whatever is committed meanwhile.
    FileLog.wake = lambda self, state: None  # type: ignore[method-assign]
    for number in range(first, first + count):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            print(number, *program(f"{seed}:{number}", Path(folder), threads), flush=True)


if __name__ == "__main__":
    main()
