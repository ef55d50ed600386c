"""Forks and one-file checkpoints: self-contained States that begin with another one's."""

import pytest

import mmsb
from mmsb.testing.model import picture_of


@pytest.fixture
def parent(tmp_path):
    with mmsb.open(tmp_path / "parent", segment_bytes=4096) as state:
        state.create_page(300, name="a", metadata={"k": b"v"})
        state.create_page(10, name="b")
        for n in range(60):
            with state.batch(label=f"step {n}") as b:
                b.write("a", bytes([n + 1]) * 20, at=n)
                if n == 30:
                    b.delete_page("b")
        yield state


@pytest.mark.parametrize("at", [0, 1, 20, "step 30", 62])
def test_a_stored_fork(tmp_path, parent, at):
    past = parent.at(at)
    with parent.fork(at=at, path=tmp_path / "fork") as fork:
        assert (fork.seq, fork.digest(), fork.first_seq) == (past.seq, past.digest(), past.seq)
        assert fork.branch == parent.branch + 1 and fork.uuid != parent.uuid
        fork.create_page(5, name="new")
        assert fork.seq == past.seq + 1
    identity = fork._store.identity
    assert (identity.parent_uuid, identity.parent_seq) == (parent.uuid, past.seq)
    assert identity.parent_digest == past.digest()
    with mmsb.open(tmp_path / "fork") as fork:
        assert fork.branch == parent.branch + 1 and fork.page("new").size == 5
        assert {frame.branch for frame in fork._log.frames(since=past.seq + 1)} == {1}
        assert fork.at(past.seq).digest() == past.digest() and fork.verify().findings == []
        if past.seq:
            with pytest.raises(mmsb.RetentionError):
                fork.at(past.seq - 1)
        with fork.fork() as second:
            assert second.branch == 2 and second.digest() == fork.digest()


def test_a_fork_goes_its_own_way(tmp_path, parent):
    with parent.fork(at=20) as memory, parent.fork(at=20, path=tmp_path / "fork") as stored:
        for fork in (memory, stored):
            fork.page("a").write(b"fork")
            assert fork.page("b").read() == bytes(10) and fork.create_page(1).page_id == 3
        assert memory.digest() == stored.digest()
        assert memory.verify().findings == [] and "b" not in parent


def test_a_fork_remembers_deleted_ids(parent):
    with parent.fork() as fork:
        assert fork.create_page(1).page_id == 3 == parent.create_page(1).page_id


def test_a_fork_needs_a_place_of_its_own(tmp_path, parent):
    (tmp_path / "there").mkdir()
    with pytest.raises(mmsb.NotAStoreError):
        parent.fork(path=tmp_path / "there")


@pytest.mark.parametrize("name", ["checkpoints", "everything"])
def test_a_fork_that_lost_its_base_is_refused(tmp_path, parent, name):
    parent.fork(at=20, path=tmp_path / "fork").close()
    for path in (tmp_path / "fork" / "checkpoints").iterdir():
        path.unlink()
    if name == "everything":
        for path in (tmp_path / "fork" / "log").iterdir():
            path.unlink()
    with pytest.raises(mmsb.CorruptLogError):
        mmsb.open(tmp_path / "fork")


def test_one_file_of_a_state_in_memory(tmp_path):
    with mmsb.open() as state:
        state.create_page(100, name="a", data=b"in memory", metadata={"k": 1.5})
        state.delete_page(state.create_page(1))
        digest, seq, picture = state.digest(), state.seq, picture_of(state)
        state.stop(checkpoint_path=tmp_path / "one.ckpt")
    with mmsb.open(tmp_path / "one.ckpt") as state:
        assert (state.digest(), state.seq, picture_of(state)) == (digest, seq, picture)
        assert state.create_page(1).page_id == 3 and state.verify().findings == []


def test_a_store_starts_from_one_file(tmp_path, parent):
    digest, seq, uuid = parent.digest(), parent.seq, parent.uuid
    parent.stop(checkpoint_path=tmp_path / "one.ckpt")
    with mmsb.open(tmp_path / "new", start=tmp_path / "one.ckpt") as state:
        assert (state.digest(), state.seq, state.first_seq) == (digest, seq, seq)
        assert state._store.identity.parent_uuid == uuid
        state.page("a").write(b"on")
    with mmsb.open(tmp_path / "new") as state:
        assert state.seq == seq + 1 and state.verify().findings == []
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "new", start=tmp_path / "one.ckpt")
    with mmsb.open(start=tmp_path / "one.ckpt") as state:
        assert state.digest() == digest and state.path is None


def test_one_file_of_a_reader(tmp_path, parent):
    """Nothing is written into the store that is only read."""
    parent.page("a").write(b"behind the last anchor")
    before = sorted(path.name for path in (tmp_path / "parent" / "log").iterdir())
    with mmsb.open(tmp_path / "parent", read_only=True) as reader:
        reader.stop(checkpoint_path=tmp_path / "one.ckpt")
    assert sorted(path.name for path in (tmp_path / "parent" / "log").iterdir()) == before
    with mmsb.open(tmp_path / "one.ckpt") as state:
        assert state.digest() == parent.digest()
