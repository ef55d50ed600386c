"""Damage in a store is found, or changes nothing. tests/rel/r06_damage.py tries all of it; here is a little of each."""

import os
import shutil
import signal

import pytest

import mmsb
from tests.rel import damage, r06_damage
from tests.rel.programme import Run


@pytest.mark.parametrize(
    "judge", [r06_damage.found_or_harmless, r06_damage.refused_or_whole, r06_damage.salvaged_truly]
)
@pytest.mark.parametrize("name", ["small", "compacted", "packed"])
def test_a_little_of_each_damage(tmp_path, name, judge):
    run, path = Run("quick", 1, tmp_path), tmp_path / "s"
    truth = damage.closed(path, name)
    dice = run.dice(name, judge.__name__)
    chosen = damage.some(damage.contents_of(path), dice, 5)
    damage.attempt(run, name, path, chosen, judge(path, truth))
    assert run.tally.injected >= 20 and not run.tally.broken, run.tally


def test_a_judge_finds_what_is_wrong(tmp_path):
    """A store that is not what it was, a process that ends, and an error that mmsb does not raise on purpose."""
    run, path = Run("quick", 1, tmp_path), tmp_path / "s"
    truth = damage.closed(path, "small")
    chosen = damage.some(damage.contents_of(path), run.dice(), 2)
    truth.digests.clear()
    truth.commits.clear()
    nothing = damage.Damage("nothing", lambda contents: {})
    damage.attempt(run, "small", path, [nothing], r06_damage.found_or_harmless(path, truth))
    assert run.tally.wrong == 1
    damage.attempt(run, "small", path, chosen, lambda changes: os.kill(os.getpid(), signal.SIGKILL))
    assert run.tally.signals == len(chosen)
    damage.attempt(run, "small", path, chosen, lambda changes: 1 // 0)
    assert run.tally.wrong == 1 + len(chosen)


@pytest.mark.parametrize("keep", [0, 1, 64, 128, 500])
def test_cut_segments_are_refused(tmp_path, keep):
    damage.small(tmp_path / "s")
    (segment,) = (tmp_path / "s" / "log").iterdir()
    segment.write_bytes(segment.read_bytes()[:keep])
    with pytest.raises(mmsb.CorruptLogError) as caught:
        mmsb.open(tmp_path / "s")
    assert str(segment) in str(caught.value)


def test_missing_segments_are_refused(tmp_path):
    damage.small(tmp_path / "s")
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


def test_a_body_without_its_word_behind_a_clean_close_is_cut_off(tmp_path):
    """A crash in the first commit of a session: the horizon still says that the log was closed in order."""
    path = tmp_path / "s"
    with mmsb.open(path, segment_bytes=8192) as state:
        state.create_page(100, name="a")
        state.close()
        tail = state._log.active.tail
    (segment,) = (path / "log").iterdir()
    data = bytearray(segment.read_bytes())
    data[tail + 8 : tail + 40] = bytes(range(1, 33))
    segment.write_bytes(data)
    for opening in range(2):
        with mmsb.open(path) as state:
            assert (state.recovered.torn_bytes > 0) == (opening == 0)
            assert state.seq == 1 and not state.verify().findings
