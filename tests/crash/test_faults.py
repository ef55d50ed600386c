"""File operations that fail. tests/rel/r07_errors.py tries all of them; here are a few of each scenario."""

import errno
import gc
import os
from functools import partial

import pytest

import mmsb
from mmsb._core.files import Files
from tests.rel import r07_errors
from tests.rel.programme import Run
from tests.rel.scenarios import SCENARIOS, Told


@pytest.mark.parametrize("name", ["append", "rotate", "compact"])
def test_a_few_operations_of_a_scenario_fail(tmp_path, name):
    run, files = Run("quick", 1, tmp_path), Files(faulty=True)
    (tmp_path / "undisturbed").mkdir()
    histories = SCENARIOS[name](tmp_path / "undisturbed", files, Told())
    dice = run.dice(name)
    for error, effect in r07_errors.EFFECTS:
        for often in r07_errors.OFTEN:
            how = ("any", dice.randrange(files.count()) + 1, error, effect, often)
            verdict = r07_errors.scenario_case(run, name, histories, *how)
            assert isinstance(verdict, str), (how, verdict)


@pytest.mark.parametrize("kind", ["fallocate", "pwrite", "fdatasync", "rename"])
def test_a_program_goes_on(tmp_path, kind):
    attempt = partial(r07_errors.going_on_case, Run("quick", 1, tmp_path), kind)
    verdicts = [attempt(nth, error, "fail", "for ever") for nth in (2, 5) for error in ("ENOSPC", "EIO")]
    assert all(isinstance(verdict, str) for verdict in verdicts), verdicts


def test_a_close_that_fails_is_not_repeated(tmp_path):
    """The descriptor is closed all the same, and by then its number may be somebody else's."""
    files = Files(faulty=True)
    state = mmsb.open(tmp_path / "s", files=files)
    state.create_page(3)
    taken = {state._store.lock_fd, state._log.horizon.fd}
    files.arm("close", 1, "fail", errno.EIO, True)
    with pytest.raises(OSError, match="Input/output"):
        state.close()
    files.arm("any", 0)
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(6)]
    assert taken <= set(others)
    del state
    gc.collect()
    for fd in others:
        os.fstat(fd)
        os.close(fd)


def test_a_failed_sync_poisons_for_good(tmp_path):
    files = Files(faulty=True)
    state = mmsb.open(tmp_path / "s", files=files, durability="power")
    page = state.create_page(10, name="a")
    files.arm("fdatasync", 1, "fail", errno.EIO)
    with pytest.raises(mmsb.CommitInDoubtError) as caught:
        page.write(b"x")
    assert caught.value.errno == errno.EIO and page[0] == 0
    for attempt in (lambda: page.write(b"y"), state.sync, lambda: state.create_page(3)):
        with pytest.raises(mmsb.CommitInDoubtError):
            attempt()
    state.close()
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq in (1, 2)
        state.page("a").write(b"z")


@pytest.mark.usefixtures("mappable")
def test_a_segment_that_was_cut_poisons_and_does_not_kill(tmp_path):
    """Stores into its mapping find no file behind it, as on a disk that is gone: SIGBUS, unless it is caught."""
    state = mmsb.open(tmp_path / "s")
    page = state.create_page(20_000, name="a")
    (segment,) = (tmp_path / "s" / "log").iterdir()
    os.truncate(segment, 4096)
    with pytest.raises(mmsb.CommitInDoubtError) as caught:
        for n in range(3):
            page.write(bytes([n + 1]) * 4000, at=n * 4000)
    assert caught.value.errno == errno.EIO
    with pytest.raises(mmsb.CommitInDoubtError):
        page.write(b"x")
    state.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_where_segments_cannot_be_preallocated(tmp_path, nth, error):
    """Nothing was exposed before the word of a frame, so the commit is rejected and may be tried again."""
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, mapped=False) as state:
        page = state.create_page(3000, name="a")
        for durability in (None, "power"):
            files.arm("pwrite", nth, "tear", error)
            seq, digest = state.seq, state.digest()
            with pytest.raises(mmsb.StoreFullError) as caught, state.batch(durability=durability) as batch:
                batch.write(page, bytes([seq]) * 3000)
            assert caught.value.errno == error and caught.value.needed_bytes > 10
            assert (state.seq, state.digest()) == (seq, digest)
            page.write(b"2" * 10 + bytes([seq]))
        files.arm("pwrite", 3, "fail", error)  # the word itself: too late
        with pytest.raises(mmsb.CommitInDoubtError):
            page.write(b"3" * 3000)
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 3 and state.page("a")[0:10] == b"2" * 10
        assert not state.verify().findings


@pytest.mark.usefixtures("mappable")
def test_a_checkpoint_that_finds_no_room_leaves_none_taken(tmp_path):
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files) as state:
        state.create_page(3000, name="a", data=os.urandom(3000))
        for act in (state.checkpoint, lambda: state.stop(tmp_path / "one"), lambda: state.compact(before=1)):
            files.arm("pwrite", 2 if act == state.checkpoint else 1, "fail", errno.ENOSPC)
            with pytest.raises(mmsb.StoreFullError) as caught:
                act()
            assert caught.value.needed_bytes > 3000
            assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".new")]
        state.checkpoint()


def test_a_full_disk_rejects_and_may_be_tried_again(tmp_path):
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        page = state.create_page(3000, name="a")
        page.write(b"1" * 3000)
        files.arm("fallocate", 1, "fail", errno.ENOSPC)
        seq, digest = state.seq, state.digest()
        with pytest.raises(mmsb.StoreFullError):
            page.write(b"2" * 3000)
        assert (state.seq, state.digest()) == (seq, digest)
        assert page.write(b"2" * 3000).seq == seq + 1
        assert not state.verify().findings
    with mmsb.open(tmp_path / "s") as state:
        assert state.page("a").read() == b"2" * 3000


def test_a_sync_that_ends_after_a_failure_makes_nothing_durable(tmp_path):
    """Kernels tell an error once: what another thread was told, this sync was not."""

    class Meanwhile(Files):
        def fdatasync(self, fd):
            super().fdatasync(fd)
            if failing:
                state._poison(errno.EIO)

    failing = False
    state = mmsb.open(tmp_path / "s", files=Meanwhile())
    state.create_page(8, name="a").write(b"1")
    durable = state.sync()
    state.page("a").write(b"2")
    failing = True
    with pytest.raises(mmsb.CommitInDoubtError):
        state.sync()
    assert state.durable_seq == durable < state.seq
    state.close()
