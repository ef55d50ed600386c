"""The v1 file and the journal beside it: folds, other programs, damage, locks, readers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from myosotis import Memory, folding, v1
from myosotis.errors import (
    ClosedError,
    CorruptJournalError,
    FirstEngineWarning,
    LockedError,
    MyosotisError,
    ReadOnlyError,
    UnreadableFileError,
)
from myosotis.store import Store

EMPTY = (
    b'{\n  "magic": "MYOSOTIS",\n  "format_version": 1,\n  "genesis_state": null,\n  "genesis_state_hash": null,\n'
    b'  "commits": [],\n  "checkpoints": [],\n  "next_node_id": 1\n}'
)


def count(memory: Memory, times: int) -> None:
    node = memory.node(1) if 1 in memory else memory.create("Counter", n=0)
    for _ in range(times):
        node.n = memory.head + 1
        memory.commit(f"commit {memory.head + 1}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.myo"


def test_the_file_is_there_from_the_beginning(path: Path) -> None:
    with Memory.open(path):
        assert path.read_bytes() == EMPTY


def test_commits_are_in_the_journal_until_the_fold(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
        assert path.read_bytes() == EMPTY
        with Memory.open(path, read_only=True) as reader:
            assert reader.head == 3
        memory.flush()
        assert len(v1.read_file(path).commits) == 3
        written = os.stat(path).st_ino
        memory.flush()
        assert os.stat(path).st_ino == written, "nothing was new, so nothing is written"
        count(memory, 1)
    assert v1.read_file(path).head.nodes[1].fields == {"n": 4}


def test_a_fold_in_the_background(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(folding, "FOLD_LEAST", 20)
    with Memory.open(path) as memory:
        count(memory, 25)
        end = time.monotonic() + 60
        while path.read_bytes() == EMPTY and time.monotonic() < end:
            time.sleep(0.01)
        assert 20 <= len(v1.read_file(path).commits) <= 25
    assert len(v1.read_file(path).commits) == 25


def test_a_fold_in_the_background_that_failed_is_told(path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(folding, "FOLD_LEAST", 5)
    memory = Memory.open(path)
    path.write_bytes(EMPTY + b" ")
    with caplog.at_level(logging.ERROR, logger="myosotis"):
        count(memory, 6)
        memory._folder.wait()
    assert "in the background failed" in caplog.text
    with pytest.raises(CorruptJournalError, match="another program while"):
        memory.flush()
    with pytest.raises(CorruptJournalError):
        memory.close()
    path.unlink()
    with Memory.open(path) as memory:
        assert memory.head == 6


def test_two_crashes_between_saying_and_renaming(path: Path, monkeypatch) -> None:
    """The file is then neither of the two that were said last, and still known."""
    with Memory.open(path) as memory:
        count(memory, 1)
    before = path.read_bytes()
    rename = os.rename

    def crash(source: str, target: str) -> None:
        if target == str(path):
            raise InterruptedError("as if the process had ended here")
        rename(source, target)

    for times in (1, 2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", crash)
            memory = Memory.open(path)
            count(memory, 1)
            with pytest.raises(InterruptedError):
                memory.flush()
            with pytest.raises(InterruptedError):
                memory.close()
        assert path.read_bytes() == before, times
    with Memory.open(path) as memory:
        assert memory.head == 4 and memory.verify().ok
    assert len(v1.read_file(path).commits) == 4


@pytest.mark.parametrize("name", ["state.myo", "state.mmsb"])
def test_the_program_changes_its_folder(tmp_path: Path, monkeypatch, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    memory = Memory.open(name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    count(memory, 30_000 if name == "state.mmsb" else 3)  # several segments of the log
    memory.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with Memory.open(tmp_path / name) as memory:
        assert memory.head == memory[1].n > 2


def test_the_journal_alone_gives_the_file_back(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
    before = path.read_bytes()
    path.unlink()
    with Memory.open(path) as memory:
        assert memory.head == 3
    assert path.read_bytes() == before


def test_the_file_alone_is_enough(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 120)
        hashes = [commit.hash for commit in memory.commits()]
    before = path.read_bytes()
    shutil.rmtree(f"{path}.journal")
    with Memory.open(path) as memory:
        assert [commit.hash for commit in memory.commits()] == hashes
    assert path.read_bytes() == before


def test_what_another_program_added_is_taken(path: Path, tmp_path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
        memory.commits()
    shutil.copy(path, tmp_path / "other.myo")
    with Memory.open(tmp_path / "other.myo") as other:
        count(other, 2)
        thing = other.create("Thing")
        other.commit()
    shutil.copy(tmp_path / "other.myo", path)
    with Memory.open(path, read_only=True) as reader:
        assert reader.head == 6
    with Memory.open(path) as memory:
        assert memory.head == 6 and memory.node(thing.id).type == "Thing" and memory.next_node_id == 3
        assert memory.verify().ok
        count(memory, 1)
    assert len(v1.read_file(path).commits) == 7


def test_what_another_program_added_is_taken_after_a_crash(path: Path, tmp_path: Path, monkeypatch) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
    shutil.copy(path, tmp_path / "other.myo")
    with Memory.open(tmp_path / "other.myo") as other:
        count(other, 3)
    shutil.copy(tmp_path / "other.myo", path)
    append, times = Store.append, iter(range(100))

    def crash(*arguments, **named) -> bytes:
        if next(times) == 2:
            raise InterruptedError("as if the process had ended here")
        return append(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", crash)
        with pytest.raises(InterruptedError):
            Memory.open(path)
    with Memory.open(path) as memory:
        assert memory.head == 6 and memory.node(1).n == 6 and memory.verify().ok


def test_ids_that_began_anew_elsewhere_after_a_whole_compaction(path: Path, tmp_path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
        memory.compact()
    shutil.copy(path, tmp_path / "other.myo")
    with Memory.open(tmp_path / "other.myo") as other:
        count(other, 1)
        assert other.head == 1
    shutil.copy(tmp_path / "other.myo", path)
    with Memory.open(path) as memory:
        assert memory.head == 4 and memory.at(4)[1].n == 1 and memory.at(3)[1].n == 3 and memory.verify().ok


def cut(document: dict) -> None:
    del document["commits"][-1]


def shift_ids(document: dict) -> None:
    for commit in document["commits"]:
        commit["id"] += 5
        commit["parent"] = None if commit["parent"] is None else commit["parent"] + 5


def empty(document: dict) -> None:
    document["commits"], document["next_node_id"] = [], 1


@pytest.mark.parametrize("damage", [cut, shift_ids, empty])
@pytest.mark.parametrize("read_only", [False, True])
def test_files_that_are_right_in_themselves_and_yet_not_what_was_folded(path: Path, damage, read_only: bool) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
    document = json.loads(path.read_bytes())
    damage(document)
    path.write_text(json.dumps(document))
    v1.read_file(path)  # nothing is wrong with the file alone
    with pytest.raises(CorruptJournalError, match="lacks commit 3") as caught:
        Memory.open(path, read_only=read_only)
    assert caught.value.commit == 3


def test_another_program_wrote_while_commits_were_not_folded(path: Path, tmp_path: Path) -> None:
    memory = Memory.open(path)
    count(memory, 2)
    memory.flush()
    shutil.copy(path, tmp_path / "other.myo")
    count(memory, 2)
    shutil.copytree(f"{path}.journal", tmp_path / "other.myo.journal")
    with Memory.open(tmp_path / "third.myo"):
        pass
    shutil.copy(path, tmp_path / "third.myo")
    shutil.rmtree(tmp_path / "third.myo.journal")
    with Memory.open(tmp_path / "third.myo") as third:
        count(third, 1)
    shutil.copy(tmp_path / "third.myo", tmp_path / "other.myo")
    memory.close()
    with pytest.raises(CorruptJournalError, match="not folded yet"):
        Memory.open(tmp_path / "other.myo")
    (tmp_path / "other.myo").unlink()
    with Memory.open(tmp_path / "other.myo") as other:
        assert other.head == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"files": 1}',
        b'{"commit": 1, "hash": "x", "files": [1]}',
        b'{"commit": "1", "hash": "x", "files": [], "checkpoints": []}',
        b'{"commit": 1, "hash": "x", "files": [], "checkpoints": []}',
        b'{"commit": 1, "hash": 2, "files": [{"sha256": "", "size": 1, "mtime_ns": 1, "inode": 1}], "checkpoints": []}',
    ],
)
def test_a_damaged_record_is_told(path: Path, content: bytes) -> None:
    with Memory.open(path) as memory:
        count(memory, 1)
    Path(f"{path}.journal/folded").write_bytes(content)
    with pytest.raises(CorruptJournalError):
        Memory.open(path)
    with pytest.raises(CorruptJournalError):
        Memory.open(path, read_only=True)


def test_a_damaged_log_is_told(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 50)
    segment = Path(f"{path}.journal/log.mmsb/log/00000001.seg")
    data = bytearray(segment.read_bytes())
    data[1000] ^= 1
    segment.write_bytes(data)
    for checkpoint in Path(f"{path}.journal/log.mmsb/checkpoints").iterdir():
        checkpoint.unlink()
    with pytest.raises(MyosotisError):
        Memory.open(path)


def test_an_import_that_was_cut_short_is_begun_again(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 3)
    os.unlink(f"{path}.journal/folded")
    with Memory.open(path) as memory:
        assert memory.head == 3 and memory.verify().ok


def test_one_writer_many_readers(path: Path) -> None:
    with Memory.open(path) as memory:
        count(memory, 2)
        with pytest.raises(LockedError):
            Memory.open(path)
        code = (
            f"from myosotis import Memory\nm = Memory.open({str(path)!r}, read_only=True)\nprint(m.head, m.node(1).n)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout == "2 2\n"
        memory.create("Staged")
        code = f"from myosotis import Memory\nMemory.open({str(path)!r})"
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "LockedError" in refused.stderr


@pytest.mark.parametrize("name", ["state.myo", "state.mmsb"])
def test_nothing_to_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFileError):
        Memory.open(tmp_path / name, read_only=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnreadableFileError, match="directory"):
        Memory.open(tmp_path)


def test_a_refused_file_is_left_alone(path: Path) -> None:
    path.write_bytes(b"{}")
    with pytest.raises(MyosotisError):
        Memory.open(path)
    assert [each.name for each in path.parent.iterdir()] == ["state.myo"]


def test_a_store_of_something_else(tmp_path: Path) -> None:
    import mmsb

    with mmsb.open(tmp_path / "x.mmsb") as state:
        state.create_page(8)
    with pytest.raises(CorruptJournalError, match="no memory"):
        Memory.open(tmp_path / "x.mmsb")


@pytest.mark.parametrize("name", ["state.myo", "state.mmsb"])
def test_closed_and_read_only(tmp_path: Path, name: str) -> None:
    memory = Memory.open(tmp_path / name)
    count(memory, 1)
    memory.close()
    for call in (memory.commit, memory.commits, memory.flush, memory.discard, lambda: memory.create("A")):
        with pytest.raises(ClosedError):
            call()
    with Memory.open(tmp_path / name, read_only=True) as reader:
        for call in (reader.commit, reader.flush, reader.discard, reader.compact, lambda: reader.create("A")):
            with pytest.raises(ReadOnlyError):
                call()


def test_numbers_that_the_first_engine_misreads(path: Path) -> None:
    memory = Memory.open(path)
    memory.create("Number", value=90.28571428571429)
    memory.commit()
    with pytest.warns(FirstEngineWarning, match="90.28571428571429"):
        memory.close()
    with Memory.open(path) as memory:
        assert memory[1].value == 90.28571428571429


def test_the_mode(path: Path) -> None:
    with pytest.raises(ValueError, match="strict"):
        Memory.open(path, mode="lenient")  # type: ignore[arg-type]


def test_meta_and_staged_changes_survive(path: Path) -> None:
    with Memory.open(path) as memory:
        node = memory.create("Agent", goal="Explore")
        memory.keep_staged()
    assert v1.read_file(path).commits == []
    with Memory.open(path) as memory:
        assert memory.node(node.id).goal == "Explore"
        memory.commit("both", meta={"author": "Iris"})
    with Memory.open(path) as memory:
        assert memory.commits()[0].meta == {"author": "Iris"}
        assert memory.pending == ()


@pytest.mark.parametrize("name", ["state.myo", "state.mmsb"])
def test_readers_see_whole_commits_while_another_process_writes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with Memory.open(path) as memory:
        memory.create("Side", n=0)
        memory.create("Side", n=0)
        memory.commit()
    code = (
        "import sys\nfrom myosotis import Memory, folding\nfolding.FOLD_LEAST = 50\n"
        "memory = Memory.open(sys.argv[1])\nleft, right = memory.nodes()\nprint('ready', flush=True)\n"
        "while True:\n    left.n += 1\n    right.n += 1\n    memory.commit()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            heads = []
            for _ in range(30):
                with Memory.open(path, read_only=True) as reader:
                    heads.append(reader.head)
                    assert reader[1].n == reader[2].n == reader.head - 1
                    assert reader.at(reader.head // 2 + 1)[1].n == reader.head // 2
        finally:
            writer.kill()
    assert heads == sorted(heads)


def small(path) -> None:
    """A memory of one commit."""
    with Memory.open(path) as memory:
        memory.create("Agent", n=len(memory.nodes()))
        memory.commit()


def test_a_fold_leaves_modes_and_links_as_they_were(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.myo", tmp_path / "state.myo"
    link.symlink_to(real)
    small(link)
    real.chmod(0o640)
    small(link)
    small(real)
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "state.myo"]
    with Memory.open(link, read_only=True) as memory:
        assert len(memory.nodes()) == 3


def test_what_somebody_put_in_the_way_of_a_fold_is_not_written_into(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "state.myo"
    precious.write_text("mine")
    (tmp_path / "state.myo.new").symlink_to(precious)
    small(path)
    assert precious.read_text() == "mine" and not (tmp_path / "state.myo.new").exists()
    v1.read(path.read_bytes())


def test_a_write_that_fails_leaves_the_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(os, "fsync", full)
        folding.write_aside(str(path), b"after")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableFileError, match="plain file"):
        folding.write_aside(str(pipe), b"data")
    assert list(tmp_path.iterdir()) == [pipe] and pipe.is_fifo()


@pytest.mark.parametrize("read_only", [False, True])
def test_what_need_not_end_is_not_read(tmp_path, read_only):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        with pytest.raises(UnreadableFileError, match="plain file"):
            Memory.open(path, read_only=read_only)
    assert list(tmp_path.iterdir()) == [pipe]
