"""Readers beside a writer that compacts and compresses: what is kept stays readable, what is gone says so."""

import os
import threading
import time

import pytest

import mmsb
from mmsb._core.files import Files
from mmsb.compression import Compressor
from mmsb.store import READ_ATTEMPTS, Store


def write_on(state, commits):
    """Commits to page "a"; segments of 4 KiB hold about thirty each."""
    if "a" not in state:
        state.create_page(200, name="a")
    for _ in range(commits):
        state.page("a").write(os.urandom(90), at=state.seq % 90)


def test_a_reader_follows_segments_that_were_compressed(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096, compress=True) as state:
        write_on(state, 300)
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            digests = {seq: state.at(seq).digest() for seq in (10, 150, 290)}
            assert all(segment.path.endswith(".seg") for segment in reader._log.segments)
            state.close()
            assert sum(name.endswith(".zst") for name in os.listdir(tmp_path / "s" / "log")) > 5
            assert {seq: reader.at(seq).digest() for seq in digests} == digests and not reader.verify().findings


def test_a_reader_goes_on_with_what_a_compaction_left(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        write_on(state, 300)
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            early = reader.at(50)
            state.compact(200)
            reader._log.buffers.kept.clear()  # as when the log is larger than what is kept of it in memory
            with pytest.raises(mmsb.RetentionError) as caught:
                early.page("a").read()
            assert caught.value.first_seq == 200 == reader.first_seq
            for ask in (lambda: reader.at(199), lambda: reader.replay(100), lambda: early.page("a").read()):
                with pytest.raises(mmsb.RetentionError):
                    ask()
            assert [reader.at(seq).digest() for seq in (200, 301)] == [state.at(seq).digest() for seq in (200, 301)]
            assert [commit.seq for commit in reader.log()] == list(range(201, 302)) and not reader.verify().findings


def test_a_reader_whose_whole_history_was_compacted_keeps_its_pages(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        write_on(state, 300)
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            content = state.page("a").read()
            write_on(state, 300)
            state.compact(500)
            reader._log.buffers.kept.clear()
            for ask in (lambda: reader.at(50).digest(), lambda: list(reader.log()), reader.verify):
                with pytest.raises(mmsb.RetentionError) as caught:
                    ask()
                assert caught.value.first_seq == 500
            assert (reader.seq, reader.page("a").read()) == (301, content)


def test_a_reader_of_a_store_that_grows_finds_nothing_wrong(tmp_path):
    """Checkpoints, segments and an anchor that came after it was opened are none of its business."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        write_on(state, 50)
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            state.checkpoint()
            write_on(state, 100)
            state.checkpoint()
            assert reader.seq == 51 and not reader.verify().findings


def test_a_segment_that_was_lost_is_damage(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        write_on(state, 300)
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        path = reader._log.segments[0].path
        os.unlink(path)
        reader._log.buffers.forget(1)
        with pytest.raises(mmsb.CorruptLogError, match="missing") as caught:
            reader.at(3).digest()
        assert caught.value.path == path
        assert [finding.path for finding in reader.verify().findings if finding.severity == "fault"] == [path]


def test_a_reader_of_a_log_without_segments(tmp_path):
    with mmsb.open() as state:
        write_on(state, 3)
        state.fork(path=tmp_path / "s").close()
    for segment in (tmp_path / "s" / "log").iterdir():
        segment.unlink()
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        assert reader.seq == 4 and list(reader.log()) == [] and reader.at(4).digest() == reader.digest()
        assert reader.last_write("a") is None and reader.stats()["log"]["segments"] == 0


def test_readers_while_a_writer_compacts_and_compresses(tmp_path):
    """Nothing is called damaged, and what is gone is refused by its name."""
    passed, faults, stop = [], [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                with mmsb.open(tmp_path / "s", read_only=True) as reader:
                    faults.extend(reader.verify().findings)
                    faults.extend([reader.recovered.damage] if reader.recovered.damage is not None else [])
                    assert reader.at(reader.first_seq).seq == reader.first_seq
                    passed.append([commit.seq for commit in reader.log()][-1:] == [reader.seq])
            except mmsb.RetentionError:
                continue
            except BaseException as error:
                faults.append(error)

    with mmsb.open(tmp_path / "s", segment_bytes=4096, compress=True) as state:
        write_on(state, 100)
        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(25):
                write_on(state, 60)
                state.sync()
                state.checkpoint()
                state.compact(max(state.first_seq, state.seq - 90))
            while not passed and not faults:
                stop.wait(0.01)
        finally:
            stop.set()
            thread.join()
    assert not faults and passed


def test_a_compaction_and_the_compressor_do_not_cross(tmp_path, monkeypatch):
    """The compressor starts, and gets all the time it could want, between the look at a file and its deletion."""
    exists, add, waiting = os.path.lexists, Compressor.add, []

    def slowly(path):
        answer = exists(path)
        while waiting:
            add(*waiting.pop())
        time.sleep(0.05)
        return answer

    monkeypatch.setattr(Compressor, "add", lambda compressor, segment: waiting.append((compressor, segment)))
    with mmsb.open(tmp_path / "s", segment_bytes=4096, compress=True) as state:
        write_on(state, 300)
        state.sync()
        assert waiting
        monkeypatch.setattr(os.path, "lexists", slowly)
        state.compact(250)
        digest = state.digest()
        assert not waiting and not state._log.failures
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        assert (reader.first_seq, reader.digest()) == (250, digest) and not reader.verify().findings


def test_attempts_are_repeated_only_while_the_files_change(tmp_path):
    mmsb.open(tmp_path / "s").close()
    store = Store(Files(), tmp_path / "s", lock=False)
    made = []

    def attempt(changes):
        made.append(len(made))
        if len(made) <= changes:
            (tmp_path / "s" / "log" / f"{len(made) + 10:08d}.seg").touch()
        return len(made)

    assert store.steadily(lambda: attempt(99), lambda result: True) == 1
    made.clear()
    assert store.steadily(lambda: attempt(0), lambda result: False) == 1
    for path in (tmp_path / "s" / "log").iterdir():
        path.unlink()
    made.clear()
    assert store.steadily(lambda: attempt(3), lambda result: False) == 4
    for path in (tmp_path / "s" / "log").iterdir():
        path.unlink()
    made.clear()
    assert store.steadily(lambda: attempt(99), lambda result: False) == READ_ATTEMPTS

    def fail():
        made.append(0)
        raise mmsb.RetentionError("gone")

    made.clear()
    with pytest.raises(mmsb.RetentionError):
        store.steadily(fail, bool)
    assert len(made) == 1
