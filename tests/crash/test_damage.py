"""Flipped bits in a small, cleanly closed store: every one is found, or provably harmless."""

import random
import shutil

import pytest

import mmsb
from mmsb.testing.model import picture_of


def small_store(path):
    """A store with every kind of file: segments, a checkpoint, names, metadata."""
    with mmsb.open(path, segment_bytes=4096) as state:
        state.create_page(100, name="a", metadata={"k": "v"})
        for n in range(12):
            with state.batch(label=f"step {n}", source="s", intent={"n": n}) as b:
                b.write("a", bytes([n + 1]) * 9, at=n * 7)
        state.checkpoint()
        state.page("a").write(b"after the checkpoint")
        return whole(state)


def whole(state):
    """Everything that a reader can see."""
    commits = [
        (c.seq, c.time_ns, c.source, c.label, c.intent, [(d.page_id, d.ranges(), d.values) for d in c.deltas])
        for c in state.log()
    ]
    return state.seq, state.digest(), picture_of(state), commits


def is_found_or_harmless(path, before):
    """Opens read-only, reads everything and verifies: an error, a finding, or the same as before."""
    try:
        with mmsb.open(path, read_only=True) as state:
            if state.verify().findings:
                return True
            return whole(state) == before
    except (mmsb.MMSBError, OSError):
        return True


def flips(root, bits_per_byte):
    """(file, offset, bit) of the flips to try: `bits_per_byte` of each byte, chosen by seed."""
    dice = random.Random(3)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        for offset in range(path.stat().st_size):
            for bit in dice.sample(range(8), bits_per_byte):
                yield path, offset, bit


def sweep(tmp_path, bits_per_byte, every):
    """Tries the flips one by one; returns how many were tried."""
    before = small_store(tmp_path / "s")
    tried = 0
    for number, (path, offset, bit) in enumerate(flips(tmp_path / "s", bits_per_byte)):
        if number % every:
            continue
        data = bytearray(path.read_bytes())
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        assert is_found_or_harmless(tmp_path / "s", before), (path.name, offset, bit)
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        tried += 1
    assert is_found_or_harmless(tmp_path / "s", before)
    return tried


def test_sampled_bits(tmp_path):
    assert sweep(tmp_path, 1, 5) > 600


@pytest.mark.slow
def test_every_bit(tmp_path):
    assert sweep(tmp_path, 8, 1) > 40_000


def test_opening_for_writing_never_loses_a_closed_history(tmp_path):
    """The writer either refuses or has everything: it never takes damage for a torn tail."""
    before = small_store(tmp_path / "s")
    for number, (path, offset, bit) in enumerate(flips(tmp_path / "s", 1)):
        if number % 40:
            continue
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "copy")
        target = tmp_path / "copy" / path.relative_to(tmp_path / "s")
        data = bytearray(target.read_bytes())
        data[offset] ^= 1 << bit
        target.write_bytes(data)
        try:
            with mmsb.open(tmp_path / "copy") as state:
                try:
                    same = whole(state) == before
                except mmsb.CorruptLogError:
                    same = True
                assert same, (path.name, offset, bit)
        except (mmsb.MMSBError, OSError):
            pass


@pytest.mark.parametrize("keep", [0, 1, 64, 128, 500])
def test_cut_segments_are_refused(tmp_path, keep):
    small_store(tmp_path / "s")
    (segment,) = (tmp_path / "s" / "log").iterdir()
    segment.write_bytes(segment.read_bytes()[:keep])
    with pytest.raises(mmsb.CorruptLogError) as caught:
        mmsb.open(tmp_path / "s")
    assert str(segment) in str(caught.value)


def test_missing_segments_are_refused(tmp_path):
    small_store(tmp_path / "s")
    (segment,) = (tmp_path / "s" / "log").iterdir()
    segment.unlink()
    with pytest.raises(mmsb.CorruptLogError):
        mmsb.open(tmp_path / "s")


def test_a_torn_tail_is_saved_zeroed_and_gone_on_from(tmp_path):
    """Garbage after the last durable commit, as a power cut leaves it."""
    path = tmp_path / "s"
    state = mmsb.open(path, segment_bytes=8192)
    page = state.create_page(100, name="a")
    state.sync()
    page.write(b"not durable")
    tail = state._active_tail
    import os

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    shutil.copytree(path, tmp_path / "crashed")
    state.close()
    (segment,) = (tmp_path / "crashed" / "log").iterdir()
    data = bytearray(segment.read_bytes())
    data[tail - 20] ^= 0xFF
    data[tail + 8 : tail + 40] = bytes(range(1, 33))
    segment.write_bytes(data)
    for opening in range(2):
        with mmsb.open(tmp_path / "crashed") as state:
            assert (state.recovered.torn_bytes > 0) == (opening == 0) == bool(state.recovered.saved)
            assert state.seq == 1 and state.page("a").read() == bytes(100)
            assert not state.verify().findings
    (saved,) = (tmp_path / "crashed" / "torn").iterdir()
    assert saved.read_bytes().endswith(bytes(range(1, 33)))
    with mmsb.open(tmp_path / "crashed") as state:
        state.page("a").write(b"goes on")
    with mmsb.open(tmp_path / "crashed") as state:
        assert state.seq == 2 and state.page("a")[0:7] == b"goes on"


def test_a_frame_cut_out_of_a_crashed_log_is_missed(tmp_path):
    """The frame that stands in its place does not follow, and calls it durable."""
    state = mmsb.open(tmp_path / "s", segment_bytes=8192, durability="power")
    page = state.create_page(100, name="a")
    begin = state._active_tail
    page.write(b"cut out")
    end = state._active_tail
    page.write(b"moved up")
    shutil.copytree(tmp_path / "s", tmp_path / "crashed")
    state.close()
    (segment,) = (tmp_path / "crashed" / "log").iterdir()
    data = segment.read_bytes()
    segment.write_bytes((data[:begin] + data[end:]).ljust(len(data), b"\0"))
    with pytest.raises(mmsb.CorruptLogError, match="durable up to commit 2"):
        mmsb.open(tmp_path / "crashed")
