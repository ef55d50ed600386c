"""Compaction, checkpoints and compression cut short at every file operation: either history, never a mixture."""

import errno
import os
import shutil

import pytest

import mmsb
from mmsb._core.files import Files
from mmsb.compression import Compressor

AT = 60


def history(path):
    """A store of many segments with a chain of checkpoints. {seq: digest} of all its states."""
    with mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None) as state:
        state.create_page(3000, name="a", data=os.urandom(3000))
        state.create_page(9000, name="b", data=os.urandom(9000))  # never changed: each checkpoint builds on the first
        for n in range(120):
            with state.batch(label=f"step {n}", source="writer") as b:
                b.write("a", n.to_bytes(2, "little") * 40, at=n * 20)
            if n in (20, 50, 70, 90):
                state.checkpoint()
        return {seq: state.at(seq).digest() for seq in range(state.seq + 1)}


def killed(path, nth, work):
    """Runs `work(state)` in a child that dies at the nth file operation after opening. False when there are fewer."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            files = Files(faulty=True)
            state = mmsb.open(path, files=files, checkpoint_bytes=None, segment_bytes=4096)
            files.arm("any", nth, "kill")
            work(state)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status) or os.WEXITSTATUS(status) not in (0, 9), status
    return status != 0


def check(path, digests, first_seqs):
    """Opens twice: the history is whole from one of `first_seqs` on, and nothing is left lying about."""
    for _ in range(2):
        with mmsb.open(path, segment_bytes=4096) as state:
            assert state.first_seq in first_seqs
            assert state.seq == max(digests)
            for seq in range(state.first_seq, state.seq + 1, 7):
                assert state.at(seq).digest() == digests[seq]
            assert state.digest() == digests[state.seq]
            assert state.verify().findings == []
            first = state.first_seq
        left = [name for folder in ("log", "checkpoints") for name in os.listdir(path / folder)]
        assert not [name for name in left if name.endswith(".new")]
    return first


def compact(state):
    state.compact(before=AT)


def compact_twice(state):
    state.compact(before=30)
    state.compact(before=AT)


def checkpoint(state):
    state.checkpoint()


@pytest.mark.parametrize("work", [compact, compact_twice, checkpoint])
def test_killed_at_every_file_operation(tmp_path, work):
    digests = history(tmp_path / "s")
    outcomes = set()
    nth = 1
    while True:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "c")
        cut_short = killed(tmp_path / "c", nth, work)
        outcomes.add(check(tmp_path / "c", digests, {0, 30, AT}))
        if not cut_short:
            break
        nth += 1
    assert nth > 5
    assert outcomes == {compact: {0, AT}, compact_twice: {0, 30, AT}, checkpoint: {0}}[work]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failing_disk_during_compaction_costs_nothing(tmp_path, error):
    digests = history(tmp_path / "s")
    nth, failures = 1, 0
    while True:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "c")
        files = Files(faulty=True)
        state = mmsb.open(tmp_path / "c", files=files, checkpoint_bytes=None, segment_bytes=4096)
        before = files.count("any")
        files.arm("any", nth, "fail", error)
        try:
            state.compact(before=AT)
            failed = False
        except (mmsb.MMSBError, OSError):
            failed = True
        used = files.count("any") - before
        files.arm("any", 0)
        failures += failed
        assert state.at(100).digest() == digests[100]
        state.close()
        check(tmp_path / "c", digests, {0, AT})
        if used < nth:
            break
        nth += 1
    assert failures > 5


def test_killed_while_segments_are_compressed(tmp_path):
    digests = history(tmp_path / "s")

    nth = 1
    while True:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "c")

        def compress(state):
            compressor = Compressor(state._log.files, state._log.failures)
            for segment in state._log.segments[:-1]:
                compressor.add(segment)
            compressor.stop()

        cut_short = killed(tmp_path / "c", nth, compress)
        check(tmp_path / "c", digests, {0})
        names = os.listdir(tmp_path / "c" / "log")
        assert len({name[:8] for name in names}) == len(names)
        if not cut_short:
            break
        nth += 5
    assert sum(name.endswith(".zst") for name in names) == len(names) - 1
