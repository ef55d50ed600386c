"""Data and grids that benchmarks share. Append-only: a case that changes makes its old results worthless."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

import mmsb
from mmsb._core.kernels import FEATURES

SEED = 20261121
PAGE_BYTES = [64, 4096, 1 << 20]
DENSITY = [0.0, 0.01, 1.0]  # share of the bytes that differ
DURABILITY = ["none", "process", "group", "power"]
POLICY = ["immediate", "deferred", "lazy", "parallel"]
BACKEND = ["loopback"]
# What MMSB_DISABLE_CPU names; "": all that the machine has.
ISA = ["", "avx512", "avx2", "pclmul", "sse42"]

# What the suite has a benchmark for: "kernel delta_diff", "State.write", "hook mmsb_policies", ...
COVERED: set[str] = set()
Kind = TypeVar("Kind", bound=Callable[..., Any])


def covers(*names: str) -> Callable[[Kind], Kind]:
    """Says what a benchmark class or function measures; benchmarks/__init__.py checks that nothing is missing."""

    def note(benchmark: Kind) -> Kind:
        COVERED.update(names)
        return benchmark

    return note


def random_bytes(count: int, *salt: int) -> bytes:
    """`count` bytes that depend on SEED and `salt` only."""
    return np.random.default_rng([SEED, *salt]).integers(0, 256, count, dtype="u1").tobytes()


def changed(page: bytes, density: float) -> bytes:
    """`page` with that share of its bytes changed, scattered."""
    rng = np.random.default_rng([SEED, len(page), int(density * 1000)])
    bytes_ = np.frombuffer(page, "u1").copy()
    where = rng.choice(len(page), round(len(page) * density), replace=False)
    bytes_[where] ^= rng.integers(1, 256, len(where), dtype="u1")
    return bytes_.tobytes()


def skip_unless(condition: bool) -> None:
    """Leaves this case of a grid out: asv takes NotImplementedError for that."""
    if not condition:
        raise NotImplementedError


def skip_unknown_isa(isa: str) -> None:
    """Leaves out a level that this machine has not, or that this version does not know."""
    skip_unless(isa == "" or (isa in FEATURES and isa in mmsb.cpu_report()["used"]))


class Folder:
    """A benchmark with a folder of its own, which is removed afterwards."""

    def new_path(self) -> str:
        """A path for a new store."""
        self._folders: list[tempfile.TemporaryDirectory[str]] = getattr(self, "_folders", [])
        self._folders.append(tempfile.TemporaryDirectory(prefix="mmsb-asv-"))
        return self._folders[-1].name + "/store"

    def teardown(self, *_parameters: Any) -> None:
        """Closes what `self.state` is and removes the folders."""
        state = getattr(self, "state", None)
        if state is not None:
            state.close()
        for folder in getattr(self, "_folders", []):
            folder.cleanup()


def store_with_history(path: str | None, commits: int, pages: int = 100, page_bytes: int = 4096) -> mmsb.State:
    """A State with that many commits of 16 bytes each, over pages that are written in turn."""
    state = mmsb.open(path)
    ids = state.create_pages(pages, page_bytes)
    payload = random_bytes(commits * 16)
    write = {page_id: state.page(page_id).write for page_id in ids}
    for n in range(commits):
        write[ids[n % pages]](payload[n * 16 : n * 16 + 16], at=n * 16 % (page_bytes - 16))
    return state


def contents(page_bytes: int, count: int = 16) -> Iterator[bytes]:
    """Contents of a page, each one per cent from the next, there and back, for ever."""
    pages = [random_bytes(page_bytes)]
    while len(pages) < count:
        pages.append(changed(pages[-1], 0.01))
    return itertools.cycle(pages + pages[-2:0:-1])
