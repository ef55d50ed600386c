"""Stored States: reopening, checkpoints, compaction, forks, verification, one-file checkpoints, compression."""

import errno
import os
import time
from datetime import UTC, datetime

import pytest

import mmsb
from mmsb._core.files import Files
from mmsb.compression import Compressor
from mmsb.testing.model import picture_of


def fill(state, steps=50, start=0):
    """Some history: pages a and b, labels, a resize."""
    if "a" not in state:
        state.create_page(1000, name="a", metadata={"k": 1})
        state.create_page(200, name="b", data=b"start")
    for step in range(start, start + steps):
        with state.batch(label=f"step {step}", source="filler", intent={"step": step}) as b:
            b.write("a", step.to_bytes(4, "little") * 5, at=step * 7 % 900)
            if step % 10 == 3:
                b.write("b", bytes([step % 256]), at=step % 100)
    return state


def test_everything_survives_reopening(tmp_path):
    with fill(mmsb.open(tmp_path / "s")) as state:
        seq, digest, uuid, now = state.seq, state.digest(), state.uuid, picture_of(state)
        past = {n: state.at(n).digest() for n in (0, 1, 2, 17, seq)}
    with mmsb.open(tmp_path / "s") as state:
        assert (state.seq, state.digest(), state.uuid, picture_of(state)) == (seq, digest, uuid, now)
        assert {n: state.at(n).digest() for n in past} == past
        assert state.at("step 30").seq == 33 and state.create_page(5).page_id == 3
        assert state.durable_seq >= seq
        commit = list(state.log(since=33, until=33))[0]
        assert (commit.source, commit.label, commit.intent) == ("filler", "step 30", {"step": 30})


def test_two_sessions_one_log(tmp_path):
    for session in range(4):
        with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
            fill(state, 40, session * 40)
            assert state.seq == 2 + 40 * (session + 1)
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        assert [commit.seq for commit in state.log()] == list(range(1, state.seq + 1))
        assert len(state._log.segments) > 2 and not state.verify().findings
        assert {commit.source for commit in state.log(since=3)} == {"filler"}


def test_checkpoints_are_incremental_and_bound_opening(tmp_path):
    with fill(mmsb.open(tmp_path / "s")) as state:
        state.create_page(100_000, name="big", data=os.urandom(100_000))
        state.checkpoint()
        fill(state, 10, 100)
        state.checkpoint()
        digest = state.digest()
    folder = tmp_path / "s" / "checkpoints"
    sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
    assert len(sizes) == 2 and sizes[1] < sizes[0] / 10
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest and not state.verify().findings
        assert state.at(20).digest() == fill(mmsb.open(), 18).digest()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_costs_no_data(tmp_path, damage):
    with fill(mmsb.open(tmp_path / "s")) as state:
        state.checkpoint()
        digest = state.digest()
    (path,) = (tmp_path / "s" / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-5], "empty": b""}[damage])
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest
        assert any(str(path) in (finding.path or "") for finding in state.verify().findings)


def test_compact_keeps_everything_from_there_on(tmp_path):
    with fill(mmsb.open(tmp_path / "s", segment_bytes=8192), 300) as state:
        digests = {n: state.at(n).digest() for n in (200, 250, state.seq)}
        plan = state.compact(before=200, dry_run=True)
        assert plan.segments and plan.forgotten_commits == 200 and state.first_seq == 0
        report = state.compact(before="step 198")
        assert report.first_seq == 201 == state.first_seq and report.bytes_freed > 0
        del digests[200]
        assert {n: state.at(n).digest() for n in digests} == digests
        with pytest.raises(mmsb.RetentionError) as caught:
            state.at(100)
        assert caught.value.first_seq == 201 and not state.verify().findings
        fill(state, 10, 300)
    with mmsb.open(tmp_path / "s") as state:
        assert state.first_seq == 201 and {n: state.at(n).digest() for n in digests} == digests
        assert not state.verify().findings
        with pytest.raises(LookupError):
            state.at(5)
        assert not any(path.startswith("0" * 19 + "1") for path in os.listdir(tmp_path / "s" / "checkpoints"))


@pytest.mark.parametrize("stored", [False, True])
def test_fork(tmp_path, stored):
    with fill(mmsb.open()) as state:
        fork = state.fork(at=20, path=tmp_path / "f" if stored else None)
        assert fork.seq == 20 and fork.digest() == state.at(20).digest() and fork.branch == 1
        fork.page("a").write(b"fork", at=0)
        assert fork.seq == 21 and state.page("a")[0:4] != b"fork"
        with pytest.raises(mmsb.RetentionError):
            fork.at(5)
        digest = fork.digest()
        assert not fork.verify().findings
        fork.close()
        if stored:
            with mmsb.open(tmp_path / "f") as fork:
                assert fork.seq == 21 and fork.digest() == digest and fork.first_seq == 20
                assert fork._store.identity.parent_uuid == state.uuid and fork._store.identity.parent_seq == 20
                assert not fork.verify().findings
            with pytest.raises(mmsb.NotAStoreError):
                state.fork(path=tmp_path / "f")


def test_one_file_checkpoint(tmp_path):
    state = fill(mmsb.start(config={"tlog_path": str(tmp_path / "s")}))
    digest, seq, now = state.digest(), state.seq, picture_of(state)
    state.stop(checkpoint_path=tmp_path / "state.ckpt")
    with mmsb.open(tmp_path / "state.ckpt") as state:
        assert (state.digest(), state.seq, picture_of(state)) == (digest, seq, now)
        state.page("a").write(b"on")
        assert state.seq == seq + 1 and state.create_page(3).page_id == 3 and not state.verify().findings
    data = (tmp_path / "state.ckpt").read_bytes()
    (tmp_path / "state.ckpt").write_bytes(data[:-1])
    with pytest.raises(mmsb.CorruptCheckpointError):
        mmsb.open(tmp_path / "state.ckpt")
    (tmp_path / "state.ckpt").write_bytes(b"garbage")
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "state.ckpt")


def test_history_bound_in_memory():
    with mmsb.open(history=20_000, segment_bytes=4096) as state:
        fill(state, 1000)
        assert 0 < state.first_seq < state.seq and state._log.bytes_used() < 40_000
        assert state.at(state.first_seq + 5).page("a").size == 1000
        with pytest.raises(mmsb.RetentionError):
            state.at(3)
        assert not state.verify().findings


def test_history_bound_of_a_state_opened_from_a_file(tmp_path):
    fill(mmsb.open()).stop(checkpoint_path=tmp_path / "c")
    with mmsb.open(tmp_path / "c", history=10_000, segment_bytes=4096) as state:
        fill(state, 600, 100)
        assert state.first_seq > 52 and state.at(state.first_seq + 1).page("b").size == 200
        assert not state.verify().findings


def test_compressed_segments_read_the_same(tmp_path):
    with fill(mmsb.open(tmp_path / "s", segment_bytes=16384, compress=True), 600) as state:
        state.sync()
        digests = {n: state.at(n).digest() for n in (50, 300, 600)}
    assert any(name.endswith(".zst") for name in os.listdir(tmp_path / "s" / "log"))
    with mmsb.open(tmp_path / "s") as state:
        assert {n: state.at(n).digest() for n in digests} == digests and not state.verify().findings


def test_segments_of_earlier_sessions_are_compressed_too(tmp_path):
    with fill(mmsb.open(tmp_path / "s", segment_bytes=4096), 600) as state:
        digests = {n: state.at(n).digest() for n in (50, 300, 600)}
    with mmsb.open(tmp_path / "s", segment_bytes=4096, compress=True) as state:
        head = state._log.active.path
    names = os.listdir(tmp_path / "s" / "log")
    assert len(names) > 3 and [name for name in names if not name.endswith(".zst")] == [os.path.basename(head)]
    with mmsb.open(tmp_path / "s") as state:
        assert {n: state.at(n).digest() for n in digests} == digests and not state.verify().findings


def test_a_compression_that_fails_is_reported_and_costs_nothing(tmp_path):
    fill(mmsb.open(tmp_path / "s", segment_bytes=4096), 600).close()
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        compressor = Compressor(files, state._log.failures)
        files.arm("rename", 1, "fail", errno.ENOSPC)
        for segment in state._log.segments[:-1]:
            compressor.add(segment)
        compressor.stop()
        (failure,) = state.stats()["log"]["failures"]
        assert "No space" in failure and state._log.segments[0].path.endswith(".seg")
        assert all(segment.path.endswith(".zst") for segment in state._log.segments[1:-1])
        assert not state.verify().findings


def test_labels_and_datetimes():
    ticks = iter(range(10**18, 10**19, 10**9))
    with mmsb.open(clock=lambda: next(ticks)) as state:
        page = state.create_page(4)
        page.write(b"1")
        with state.batch(label="here") as b:
            b.write(page, b"2")
        with state.batch(label="here") as b:
            b.write(page, b"3")
        first = datetime.fromtimestamp(state.at(1).time_ns / 1e9, UTC)
        assert state.at("here").seq == 4 and state.at(first).seq == 1
        assert state.at(datetime.fromtimestamp(state.at(3).time_ns / 1e9 + 0.5, UTC)).seq == 3
        with pytest.raises(ValueError, match="aware"):
            state.at(datetime.now())
        for missing in ("nowhere", 99, -1):
            with pytest.raises((LookupError, ValueError)):
                state.at(missing)


def test_clock_that_goes_back_does_not_matter():
    times = iter([5 * 10**18, 4 * 10**18, 3 * 10**18, 6 * 10**18])
    with mmsb.open(clock=lambda: next(times, 7 * 10**18)) as state:
        page = state.create_page(4)
        stamps = [page.write(bytes([n])).timestamp_ns for n in (1, 2, 3)]
        assert stamps == sorted(stamps)


def test_modes_ignore_the_umask(tmp_path):
    old = os.umask(0)
    try:
        fill(mmsb.open(tmp_path / "s")).close()
    finally:
        os.umask(old)
    for folder, _, files in os.walk(tmp_path / "s"):
        assert os.stat(folder).st_mode & 0o777 == 0o700
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600


def test_durability_levels(tmp_path):
    for level in ("process", "group", "power"):
        with fill(mmsb.open(tmp_path / level, durability=level), 10) as state:
            if level == "power":
                assert state.durable_seq == state.seq
            elif level == "group":
                deadline = time.monotonic() + 10
                while state.durable_seq < state.seq and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert state.durable_seq == state.seq
            with state.batch(durability="power") as b:
                b.write("a", b"now")
            assert state.durable_seq == state.seq
            assert state.sync() == state.seq


def test_keyed_anchors(tmp_path):
    key = bytes(range(32))
    fill(mmsb.open(tmp_path / "s", anchor_key=key)).close()
    with pytest.raises(ValueError, match="anchor_key"):
        mmsb.open(tmp_path / "s")
    with mmsb.open(tmp_path / "s", anchor_key=key) as state:
        report = state.verify()
        assert not report.findings and report.anchors
    with mmsb.open(tmp_path / "s", anchor_key=bytes(32)) as state:
        assert any("anchor" in finding.sentence for finding in state.verify().findings)


def test_pwrite_fallback(tmp_path):
    with fill(mmsb.open(tmp_path / "s", mapped=False, segment_bytes=8192), 200) as state:
        digest = state.digest()
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest and not state.verify().findings


def test_verify_finds_memory_changed_from_outside():
    with fill(mmsb.open()) as state:
        import ctypes

        import numpy

        address = numpy.frombuffer(state._slot(1), "u1").ctypes.data
        ctypes.c_uint8.from_address(address + 70).value ^= 0xFF
        (finding,) = state.verify().findings
        assert (finding.page_id, finding.start, finding.end) == (1, 70, 71) and finding.seq
