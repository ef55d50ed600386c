"""Compaction, against a literal model of what the format page says, on files that the first engine wrote."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from myosotis import Memory, errors, v1
from myosotis.chain import commit_hash
from myosotis.mutations import encode_all

with zipfile.ZipFile(Path(__file__).parent / "data" / "corpus.zip") as archive:
    FILES = {
        name: archive.read(f"golden/{name}.myo") for name in ("07_checkpoint_60", "05_tombstones", "16_ref_cycles")
    }
    FILES["folded"] = archive.read("golden/08_compact_at_25_of_70.myo")


def folded(document, target):
    """The history up to commit `target` becomes the genesis, and what follows is hashed anew."""
    genesis = document.graph_at(target)
    parent = genesis.state_hash()
    commits = []
    for commit in document.commits:
        if commit.id > target:
            own = commit_hash(parent, commit.label, encode_all(commit.mutations))
            commits.append(replace(commit, hash=own.hex(), parent_hash=parent.hex()))
            parent = own
    return v1.Document(genesis, commits, [], document.next_node_id, v1.replay(genesis, commits))


@pytest.mark.parametrize("suffix", ["myo", "mmsb"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_compaction(tmp_path, name, share, suffix):
    document = v1.read(FILES[name])
    target = document.commits[round(share * (len(document.commits) - 1))].id
    (tmp_path / "state.myo").write_bytes(FILES[name])
    path = tmp_path / f"copy.{suffix}"
    with Memory.open(tmp_path / "state.myo") as memory, memory.fork(path=path) as copy:
        before = copy.state_hash()
        done = copy.compact(target)
        assert copy.state_hash() == done.state_hash == before
        assert copy.verify().ok
    with Memory.open(path) as copy:
        found = copy.document()
        expected = folded(document, target)
        found.checkpoints.clear()
        assert found == expected
        assert [label for _, label in copy.folded_labels()] == [
            commit.label for commit in document.commits if commit.id <= target and commit.label is not None
        ]
        assert (done.commit, done.kept) == (target, len(expected.commits))
        copy.export_v1(tmp_path / "out.myo")
    assert v1.read((tmp_path / "out.myo").read_bytes()).head.state_hash().hex() == before


@pytest.mark.parametrize("at", [0, 5, "missing"])
def test_what_cannot_be_a_target(tmp_path, at):
    path = tmp_path / "state.myo"
    path.write_bytes(FILES["folded"])
    with Memory.open(path) as memory:
        with pytest.raises((errors.CommitNotFoundError, errors.InvalidCompactionTargetError)):
            memory.compact(at)
        assert len(memory.commits()) == 45
    assert path.read_bytes() == FILES["folded"]


def test_twice_is_the_same_as_once(tmp_path):
    histories = []
    for targets in ([40, 60], [60]):
        path = tmp_path / f"{len(targets)}.myo"
        path.write_bytes(FILES["folded"])
        with Memory.open(path) as memory:
            for target in targets:
                memory.compact(target)
            histories.append((memory.commits(), memory.to_dict(), memory.folded_labels()))
    assert histories[0] == histories[1]


def test_checkpoints_of_a_compacted_file_stay_where_they_are(tmp_path):
    """One node of one field, so that the first engine always writes the same bytes; folded up to commit 75."""
    path = tmp_path / "state.myo"
    with Memory.open(path) as memory:
        node = memory.create("A")
        for number in range(180):
            node["n"] = number
            memory.commit()
    whole = v1.read(path.read_bytes())
    document = folded(whole, 75)
    hashes = {commit.id: bytes.fromhex(commit.hash) for commit in document.commits}
    document.checkpoints = [
        replace(point, commit_hash=hashes[point.commit_id]) for point in whole.checkpoints if point.commit_id > 75
    ]
    assert [point.commit_id for point in document.checkpoints] == [100, 150]
    other = tmp_path / "compacted.myo"
    other.write_bytes(v1.write(document))
    for read_only in (True, False):
        with Memory.open(other, read_only=read_only) as memory:
            memory.export_v1(tmp_path / "out.myo")
        assert (tmp_path / "out.myo").read_bytes() == other.read_bytes()


@pytest.mark.parametrize("suffix", ["myo", "mmsb"])
def test_moments_before_what_is_left(tmp_path, suffix):
    path = tmp_path / f"state.{suffix}"
    with Memory.open(path) as memory:
        node = memory.create("Agent", n=1)
        for n in (2, 3, 4):
            memory.commit(f"step {n - 1}")
            node.n = n
        memory.commit("last")
        memory.compact(3)
    with Memory.open(path) as memory:
        assert memory.commit_id("step 3") == 3 and memory.at("step 3")[1].n == 3
        assert memory.at("last")[1].n == 4
        with pytest.raises(errors.CommitNotFoundError, match="compacted"):
            memory.at("step 2")
        for unknown in ("step 9", 1.5, 2):
            with pytest.raises(errors.CommitNotFoundError):
                memory.at(unknown)
        memory.nodes()[0].n = 5
        memory.commit("step 2")  # a label may come again
        assert memory.at("step 2")[1].n == 5


@pytest.mark.parametrize("path", ["", b""])
def test_an_empty_path(tmp_path, monkeypatch, path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(errors.UnreadableFileError, match="empty"):
        Memory.open(path)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["here"]


def test_a_path_of_bytes(tmp_path):
    with Memory.open(bytes(tmp_path / "state.mmsb")) as memory:
        memory.create("Agent")
        memory.commit()
    with Memory.open(tmp_path / "state.mmsb", read_only=True) as memory:
        assert len(memory.nodes()) == 1


@pytest.mark.parametrize("suffix", [".myo", ".mmsb"])
def test_the_label_of_the_commit_with_which_history_begins_still_names_it(tmp_path, suffix):
    with Memory.open(tmp_path / f"m{suffix}") as memory:
        for label in ("one", "two", "three"):
            memory.create("Thing")
            memory.commit(label)
        memory.compact(2)
    with Memory.open(tmp_path / f"m{suffix}") as memory:
        assert memory.at("two").id == 2 and memory.at("three").id == 3
        with pytest.raises(errors.CommitNotFoundError):
            memory.at("one")
