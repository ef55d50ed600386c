"""Deltas: of pages against XBZRLE, bsdiff4, detools and zstandard's patch-from; of a recorded game against frames by
themselves and against deltas of consecutive frames.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from measure import Figure, compare

import mmsb
from mmsb import Delta

SEED = 20261121
PAGE_BYTES = 4096
FRAMES = 2000
SEGMENT_BYTES = 1 << 16
DETOOLS_FRAMES = 10  # it takes seconds for each


def race() -> Iterator[Figure]:
    """The C encoders in turns, compiled with the same flags."""
    done = subprocess.run(["build/bench/encode_race"], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name, *numbers = line.split("\t")
        mine, theirs, bytes_, their_bytes, ratio, spread = map(float, numbers)
        yield Figure(f"encode 4 KiB, 1 % {name}: XBZRLE", mine, theirs, "ns", ratio, spread, 2, 4)
        yield Figure(f"its bytes: XBZRLE, {name}", bytes_, their_bytes, "B", their_bytes / bytes_, 0, 0.9, 1)


def page_pair() -> tuple[bytes, bytes]:
    """Two pages that differ in one per cent of their bytes, scattered."""
    rng = np.random.default_rng(SEED)
    one = rng.integers(0, 256, PAGE_BYTES, dtype="u1")
    other = one.copy()
    other[rng.choice(PAGE_BYTES, PAGE_BYTES // 100, replace=False)] ^= 0x55
    return one.tobytes(), other.tobytes()


def encoders(old: bytes, new: bytes) -> dict[str, Callable[[], bytes]]:
    """Each peer's way from two pages to a patch, all called from Python, as ours is."""
    import bsdiff4
    import detools
    import zstandard

    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    compressor = zstandard.ZstdCompressor(level=3, dict_data=dictionary)

    def by_detools() -> bytes:
        patch = io.BytesIO()
        detools.create_patch(io.BytesIO(old), io.BytesIO(new), patch, compression="none")
        return patch.getvalue()

    return {
        "bsdiff4": lambda: bsdiff4.diff(old, new),
        "detools, no compression": by_detools,
        "zstandard, old page as dictionary": lambda: compressor.compress(new),
    }


def pages() -> Iterator[Figure]:
    """From two pages to bytes that turn one into the other."""
    old, new = page_pair()
    mine = Delta.between(1, old, new)
    assert mine is not None
    for name, encode in encoders(old, new).items():
        patch = encode()
        between = partial(Delta.between, 1, old, new)
        figure = compare(f"delta of a page: {name}", between, encode, 1, 1, speed=True, calls=20)
        figure.ours, figure.reference, figure.unit = figure.ours * 1e6, figure.reference * 1e6, "us"
        yield figure
        yield Figure(f"its bytes: {name}", mine.nbytes, len(patch), "B", len(patch) / mine.nbytes, 0, 0.5, 1)


def recorded(count: int) -> np.ndarray:
    """Frames of Breakout played by seeded dice, as in ci/demo: (count, 210, 160, 3), uint8."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    environment = gymnasium.make("ALE/Breakout-v5", frameskip=4, repeat_action_probability=0.0)
    rng = np.random.default_rng(SEED)
    frame, _ = environment.reset(seed=SEED)
    frames = []
    while len(frames) < count:
        frames.append(frame)
        frame, _, ended, cut, _ = environment.step(int(rng.integers(environment.action_space.n)))
        if ended or cut:
            frame, _ = environment.reset()
    environment.close()
    return np.stack(frames)


def frames_in(folder: str, segments: int) -> int:
    """How many frames the first so many segments hold."""
    with mmsb.open(folder, read_only=True) as state:
        return state._log.segments[segments].base_seq - 1


def game() -> Iterator[Figure]:
    """The log of a recorded game, sealed segments compressed; bytes, and time to write."""
    import detools
    import zstandard

    frames = recorded(FRAMES)
    folder = tempfile.mkdtemp() + "/store"
    state = mmsb.open(folder, compress=True, segment_bytes=SEGMENT_BYTES)
    page_id = state.create_page(frames[0].nbytes).page_id
    begun = time.perf_counter()
    for frame in frames:
        state.update_page(page_id, frame)
    took = time.perf_counter() - begun
    state.close()
    # The active segment has its room reserved on the disk; what is not used yet is no part of the log.
    *sealed, _active = sorted(Path(folder, "log").iterdir())
    ours = sum(path.stat().st_size for path in sealed) * FRAMES / frames_in(folder, len(sealed))
    alone = zstandard.ZstdCompressor(level=19)
    theirs = sum(len(alone.compress(frame.tobytes())) for frame in frames[:: FRAMES // 100]) * (FRAMES // 100)
    yield Figure("log of a game, bytes: zstd-19 of each frame", ours / 1e3, theirs / 1e3, "kB", theirs / ours, 0, 2, 4)
    middle = frames[FRAMES // 2 : FRAMES // 2 + DETOOLS_FRAMES + 1]
    size, begun = 0, time.perf_counter()
    for old, new in zip(middle[:-1], middle[1:], strict=True):
        patch = io.BytesIO()
        detools.create_patch(io.BytesIO(old.tobytes()), io.BytesIO(new.tobytes()), patch)
        size += len(patch.getvalue())
    their_time = (time.perf_counter() - begun) / DETOOLS_FRAMES
    mine = took / FRAMES
    yield Figure("a frame, time: detools", mine * 1e6, their_time * 1e6, "us", their_time / mine, 0, 50, 200)
    per_frame = size / DETOOLS_FRAMES
    ratio = ours / FRAMES / per_frame
    yield Figure("a frame, bytes: detools", ours / FRAMES, per_frame, "B", ratio, 0, 2, 1, higher=False)
