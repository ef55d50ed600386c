"""How frames reach a segment: through the mapping, with pwrite where they are large or the mapping cannot be had."""

import errno
import os
import time

import pytest

import mmsb
from mmsb._core.files import Files
from mmsb.log import UNSYNCED_MOST

LARGE = 300_000  # bytes of a frame that is written with pwrite


def mixed_commits(state):
    """Small frames, large ones, and batches that both come before and behind them."""
    page = state.create_page(LARGE, name="big")
    small = state.create_page(64, name="small")
    for n in range(1, 6):
        small.write(bytes([n]) * 8, at=n)
        page.write(bytes([n, n + 1]) * (LARGE // 2))
        for k in range(40):
            small.write(bytes([n, k]), at=20)
        with state.batch() as b:
            b.write(small, b"batch", at=40 + n)
            b.write(page, bytes([200 + n]) * (LARGE - 7), at=3)
    return state.digest()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_large_and_small_frames_side_by_side(tmp_path, durability):
    with mmsb.open(tmp_path / "s", durability=durability, segment_bytes=1 << 20) as state:
        digest = mixed_commits(state)
        assert state.verify().findings == []
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.digest() == digest and state.verify().findings == []
    with mmsb.open() as state:
        mixed_commits(state)
        assert state.verify().findings == []


@pytest.mark.usefixtures("mappable")
@pytest.mark.parametrize("forever", [False, True])
def test_a_mapping_whose_pages_cannot_be_had_is_written_with_pwrite(tmp_path, forever):
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=1 << 20) as state:
        files.arm("prefault", 1, "fail", errno.EIO, forever)
        digest = mixed_commits(state)
        assert files.count("prefault") > 0
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest and state.verify().findings == []


def test_a_log_of_many_segments_keeps_few_descriptors(tmp_path, monkeypatch):
    """A writer makes segments faster than the thread syncs them that does so once a second."""
    monkeypatch.setattr("mmsb.flusher.HORIZON_SECONDS", 600)
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        page = state.create_page(4096)
        before = len(os.listdir("/proc/self/fd"))
        for n in range(250):
            page.write(bytes([n, n + 1]) * 1500)
            assert len(os.listdir("/proc/self/fd")) <= before + UNSYNCED_MOST
        assert len(state._log.segments) > 200
        state.sync()
        assert not state._log.unsynced and not state._log.syncing
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 251 and not state.verify().findings


def test_timestamps_follow_the_systems_clock():
    slack_ns = 2_000_000  # the system's clock may be slewed between two looks at it
    with mmsb.open() as state:
        page = state.create_page(8)
        end = time.monotonic() + 0.05
        last = n = 0
        while time.monotonic() < end:
            n += 1
            before = time.time_ns()
            stamp = page.write(n.to_bytes(8, "little")).timestamp_ns
            assert before - slack_ns <= stamp <= time.time_ns() + slack_ns
            assert stamp >= last
            last = stamp
