"""PastState: every moment of random histories, in memory and on disk, and how moments are named."""

import os
import random
import threading
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb.bases import bases_of, plan
from mmsb.digest import core_digest
from mmsb.testing.histories import random_history
from mmsb.testing.model import picture_of


def check_moment(history, seq):
    """Compares at(seq) with what the State was."""
    view = history.state.at(seq)
    expected = history.pictures[seq]
    assert picture_of(view) == expected
    assert view.digest() == history.digests[seq]
    for page_id, (content, epoch, name, metadata) in expected.items():
        page = view.page(page_id if name is None else name)
        assert (page.page_id, page.epoch, page.name, dict(page.metadata)) == (page_id, epoch, name, metadata)
        assert len(page) == len(content)
        assert page[1:7] == content[1:7]
    for name in {f"name {number}" for number in range(20)} - {page[2] for page in expected.values()}:
        assert name not in view


@given(st.integers(0, 1 << 32))
def test_every_moment_of_a_random_history(seed):
    rng = random.Random(seed)
    with mmsb.open(segment_bytes=4096) as state:
        history = random_history(state, rng, 30)
        for seq in range(31):
            check_moment(history, seq)
        assert core_digest(state.replay()) == history.digests[-1]


def test_a_stored_history_with_checkpoints(tmp_path, rng):
    path = tmp_path / "store"
    with mmsb.open(path, segment_bytes=8192, checkpoint_bytes=20_000) as state:
        history = random_history(state, rng, 60)
        state.checkpoint()
        for _ in range(3):
            with state.batch() as batch:
                batch.create_page(100, data=b"later")
            history.note()
        for seq in rng.sample(range(64), 30):
            check_moment(history, seq)
    with mmsb.open(path, read_only=True) as history.state:
        for seq in rng.sample(range(64), 30):
            check_moment(history, seq)


def test_a_damaged_checkpoint_costs_time_and_no_data(tmp_path, rng):
    path = tmp_path / "store"
    with mmsb.open(path) as state:
        history = random_history(state, rng, 20)
        state.checkpoint()
        with state.batch():
            pass
        history.note()
        [checkpoint] = (path / "checkpoints").iterdir()
        checkpoint.write_bytes(b"x" * checkpoint.stat().st_size)
        state._checkpoints.images.clear()
        check_moment(history, 21)


def test_moments_have_names(monkeypatch):
    now = [1_000_000_000_000_000_000]
    with mmsb.open(clock=lambda: now[0]) as state:
        page = state.create_page(8, name="a")
        for step in range(5):
            now[0] += 10**9
            with state.batch(label=f"step {step % 3}") as batch:
                batch.write(page, bytes([step + 1]))
        assert [state.at(f"step {number}").seq for number in range(3)] == [5, 6, 4]
        start = datetime.fromtimestamp(10**9, UTC)
        assert [state.at(start + timedelta(seconds=s)).seq for s in (-1, 0, 1, 1.5, 5, 99)] == [0, 1, 2, 2, 6, 6]
        assert state.at(3).time == start + timedelta(seconds=2)
        assert state.at(0).pages() == []
        with pytest.raises(ValueError, match="time zone"):
            state.at(datetime(2020, 1, 1))  # noqa: DTZ001
        for unknown in ("step 9", 7, -1):
            with pytest.raises(mmsb.UnknownMomentError) as caught:
                state.at(unknown)
            assert isinstance(caught.value, LookupError)
            assert caught.value.when == unknown
        for strange in (True, 1.5, None):
            with pytest.raises(TypeError):
                state.at(strange)


def test_a_bounded_history_refuses_what_it_forgot(rng):
    with mmsb.open(segment_bytes=4096, history=16384) as state:
        page = state.create_page(1000, name="a", metadata={"k": 1})
        contents = [b"", bytes(1000)]
        early = state.at(1)
        assert early.page("a").epoch == 0
        for _ in range(200):
            page.write(rng.randbytes(300), at=rng.randrange(700))
            contents.append(page.read())
        first = state.first_seq
        assert 1 < first < state.seq
        for seq in (first, first + 1, state.seq):
            view = state.at(seq).page("a")
            assert (view.read(), view.epoch, dict(view.metadata)) == (contents[seq], seq - 1, {"k": 1})
        for moment in (lambda: state.at(first - 1), lambda: early.page("a").read()):
            with pytest.raises(mmsb.MMSBError) as caught:
                moment()
            assert caught.value.first_seq == first
        stays = state.at(first + 5)
        for _ in range(4):
            page.write(rng.randbytes(300), at=rng.randrange(700))
        if state.first_seq <= stays.seq:
            assert stays.page("a").read() == contents[stays.seq]


def test_the_past_is_read_only_and_bounded():
    with mmsb.open() as state:
        state.create_page(8, name="a", data=b"abcdefgh")
        with state.at(1) as past:
            page = past.page("a")
            for refuse in (lambda: page.write(b"x"), lambda: past.create_page(3), lambda: page.resize(3), past.batch):
                with pytest.raises(mmsb.ReadOnlyError):
                    refuse()
            target = bytearray(3)
            assert page.read_into(target, 2) == 3
            assert (bytes(target), page[-1], page[2:4], page.read(1, 2), bytes(page)) == (
                b"cde",
                ord("h"),
                b"cd",
                b"bc",
                b"abcdefgh",
            )
            assert page.view(">u2").tolist()[0] == 0x6162
            with pytest.raises(ValueError, match="read-only"):
                page.view()[0] = 1
            for outside in (lambda: page[8], lambda: page.read(4, 5), lambda: page.read(-1)):
                with pytest.raises(mmsb.PageRangeError):
                    outside()
            for unknown in ("b", 2, 0, 1 << 63):
                with pytest.raises(mmsb.PageNotFoundError):
                    past.page(unknown)
            assert past.page(state.page("a")) == page
        with pytest.raises(mmsb.StateClosedError):
            page.read()


def test_replay_says_how_far_it_is_and_what_it_cannot_reach(rng):
    with mmsb.open(segment_bytes=4096) as state:
        history = random_history(state, rng, 100)
        seen = []
        core = state.replay(progress=lambda done, total: seen.append((done, total)))
        assert core_digest(core) == history.digests[-1] and len(seen) == len(state._log.segments) > 2
        assert seen == sorted(seen) and seen[-1] == (100, 100)
        text = next(iter(history.labels.values()))
        seq = max(seq for seq, name in history.labels.items() if name == text)
        assert core_digest(state.replay(text)) == history.digests[seq]
        for beyond in (101, -1, "no such label"):
            with pytest.raises(mmsb.UnknownMomentError):
                state.replay(beyond)
    with mmsb.open(history=1, segment_bytes=4096) as state:
        random_history(state, rng, 200)
        with pytest.raises(mmsb.RetentionError):
            state.replay(state.first_seq - 1)


def test_a_deleted_page_lives_on_in_the_past():
    with mmsb.open() as state:
        page = state.create_page(3, name="a", data=b"abc")
        page.delete()
        state.create_page(1, name="a")
        assert state.at(1).page("a").read() == b"abc"
        assert "a" not in state.at(2)
        assert state.at(3).page("a").page_id == 2
        assert state.at(2).pages() == []


def test_readers_of_the_past_while_a_writer_goes_on():
    with mmsb.open(segment_bytes=65536) as state:
        page = state.create_page(64, name="a")
        wrong = []

        def read():
            rng = random.Random(1)
            for _ in range(300):
                seq = rng.randrange(1, state.seq + 1)
                if state.at(seq).page("a").read()[:4] != (seq - 1).to_bytes(4, "little"):
                    wrong.append(seq)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 5000):
            page.write(number.to_bytes(4, "little"))
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.parametrize("options", [{"mapped": False}, {"compress": True}, {"durability": "power"}])
def test_a_log_that_is_not_simply_mapped(tmp_path, options, rng):
    with mmsb.open(tmp_path / "store", segment_bytes=8192, **options) as state:
        page = state.create_page(1000, name="a")
        contents = [b"", page.read()]
        for _ in range(40):
            page.write(rng.randbytes(500), at=rng.randrange(500))
            contents.append(page.read())
            assert state.at(state.seq).page("a").read() == contents[-1]
        state.sync()
        for seq in rng.sample(range(1, len(contents)), 20):
            assert state.at(seq).page("a").read() == contents[seq]


def test_views_and_steppers_survive_a_compaction_below_them(tmp_path, rng):
    with mmsb.open(tmp_path / "store", segment_bytes=4096) as state:
        page = state.create_page(1000, name="a")
        digests = [b"", state.digest()]
        for _ in range(60):
            page.write(rng.randbytes(500))
            digests.append(state.digest())
        above, below, walker = state.at(50), state.at(5), state.stepper(2)
        state.compact(before=40)
        assert above.digest() == digests[50]
        assert above.page("a").epoch == 49
        with pytest.raises(mmsb.RetentionError):
            below.page("a")
        with pytest.raises(mmsb.RetentionError):
            walker.step()
        assert walker.goto(55) == 55
        assert walker.digest() == digests[55]
        assert state.at(state.first_seq).digest() == digests[state.first_seq]
    with mmsb.open(tmp_path / "store") as state:
        assert [state.at(seq).digest() for seq in range(state.first_seq, 62)] == digests[state.first_seq :]


def test_a_log_that_is_not_mapped_goes_on_while_its_past_is_read(tmp_path):
    with mmsb.open(tmp_path / "store", mapped=False, segment_bytes=4096) as state:
        page = state.create_page(64, name="a")
        page.write(b"x", source="one")
        page.write(b"y", source="two")
        old = state.at(2).page("a")
        assert old.epoch == 1
        commits, seqs = state.log(), []
        for commit in commits:
            seqs.append(commit.seq)
            page.write(bytes([commit.seq]) * 60, source=f"{commit.seq}")
            assert state.at(state.seq).page("a").read() == page.read()
            assert (old.name, old.read(0, 1)) == ("a", b"x")
        assert seqs == [1, 2, 3]
        reader = state._indexes.of(state._log.active)
        while len(state._log.segments) < 3:
            page.write(page.epoch.to_bytes(8, "big"), source=f"{page.epoch}")
        for seq in range(2, state.seq + 1):
            assert state.at(seq).page("a").epoch == seq - 1
        assert len(reader.sources) > 5
        assert reader.index.seq == state._log.segments[1].base_seq


def test_readers_in_threads_of_a_log_that_is_not_mapped(tmp_path):
    wrong = []
    with mmsb.open(tmp_path / "store", mapped=False, segment_bytes=1 << 16) as state:
        page = state.create_page(8)

        def read():
            try:
                while state.seq < 1500:
                    seq = state.seq
                    assert state.at(seq).page(page).read() == (seq - 1).to_bytes(8, "little")
                    assert state.at(seq).digest() == state.at(seq).digest()
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 1500):
            page.write(number.to_bytes(8, "little"))
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_base_that_goes_while_it_is_looked_for(tmp_path, monkeypatch, read_only):
    """Compactions delete the base before theirs too, so that the look for the newest one may find none at all."""
    with mmsb.open(tmp_path / "store", mapped=False, segment_bytes=4096) as state:
        page = state.create_page(512)
        for n in range(60):
            page.write(bytes([n]) * 512)
        state.sync()
        with mmsb.open(tmp_path / "store", read_only=True) if read_only else nullcontext(state) as reader:
            segment, look = reader._log.segments[0], reader._checkpoints.newest_base
            reader._log.buffers.forget(segment.number)
            state.compact(20)
            looks = []

            def racing():
                looks.append(1)
                if len(looks) > 1:
                    return look()
                if read_only:
                    state.compact(40)
                return None, None

            monkeypatch.setattr(reader._checkpoints, "newest_base", racing)
            with pytest.raises(mmsb.RetentionError, match="compacted"):
                reader._log.buffer(segment)
            assert len(looks) == 2 * read_only and reader.first_seq == (40 if read_only else 20)
            assert reader.at(50).page(1).read() == bytes([49]) * 512
            os.unlink(reader._log.segments[1].path)
            with pytest.raises(mmsb.CorruptLogError, match="missing"):
                reader._log.read_anew(reader._log.segments[1])


def test_history_that_moves_beyond_a_moment_while_it_is_planned(tmp_path, monkeypatch):
    """The oldest base is then one after the moment, and shows nothing of it."""
    with mmsb.open(tmp_path / "store", segment_bytes=4096, checkpoint_bytes=None) as state:
        page = state.create_page(512)
        for n in range(1, 60):
            page.write(bytes([n]) * 512)
        state.compact(5)
        views = [state.at(10) for _ in range(3)]
        state.delete_page(page)
        state.compact(8)
        bases = bases_of(state)

        def racing(seq):
            monkeypatch.undo()
            state.compact(state.seq)
            return bases.oldest()

        monkeypatch.setattr(bases, "before", racing)
        with pytest.raises(mmsb.RetentionError, match="begins at seq 61"):
            views[0].page(1)
        for view in views:
            with pytest.raises(mmsb.RetentionError, match="begins at seq 61"):
                view.pages()
        with pytest.raises(mmsb.RetentionError):
            plan(state, 10)
