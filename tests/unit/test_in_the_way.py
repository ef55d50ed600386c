"""What somebody puts where a store is, or will be: links, files and directories that are not ours."""

import os
import shutil

import pytest

import mmsb
from mmsb import store
from mmsb._core.files import Files

FOLDERS = ("log", "checkpoints", "torn")


@pytest.mark.parametrize("put", ["a file", "a link"])
def test_nothing_is_written_into_a_file_that_was_there(tmp_path, put):
    """A checkpoint is written aside first, under a name that can be foreseen; in /tmp anybody may have taken it."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"open for ever")
    aside = tmp_path / "one.ckpt.new"
    if put == "a link":
        aside.symlink_to(theirs)
    else:
        os.link(theirs, aside)
    with mmsb.open() as state:
        state.create_page(8, name="secret", data=b"told me.")
        state.stop(checkpoint_path=tmp_path / "one.ckpt")
    assert theirs.read_bytes() == b"open for ever" and not aside.exists()
    with mmsb.open(tmp_path / "one.ckpt") as state:
        assert state.page("secret").read() == b"told me."


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_a_store_is_no_link(tmp_path, folder, read_only):
    """It was followed on opening, and refused with the first sync."""
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8)
    moved = tmp_path / "elsewhere"
    if (tmp_path / "s" / folder).exists():
        shutil.move(tmp_path / "s" / folder, moved)
    else:
        moved.mkdir()
    (tmp_path / "s" / folder).symlink_to(moved)
    before = sorted(os.listdir(moved))
    with pytest.raises(mmsb.CorruptLogError, match="is a link"):
        mmsb.open(tmp_path / "s", read_only=read_only)
    assert sorted(os.listdir(moved)) == before


def test_another_user_s_directory_is_only_read(tmp_path, monkeypatch):
    """It may have been made to be written to: its owner reads and exchanges what is in it."""
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid() == 0:
        for name in ("s", "empty"):
            os.chown(tmp_path / name, 2, -1)
    for name in ("s", "empty"):
        with pytest.raises(mmsb.ReadOnlyError, match="belongs to user") as caught:
            mmsb.open(tmp_path / name)
        assert caught.value.owner == os.stat(tmp_path / "s").st_uid
    assert os.listdir(tmp_path / "empty") == []
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.seq == 1


def test_the_directory_of_a_new_store_comes_just_then(tmp_path):
    mkdir = Files.mkdir

    class Late(Files):
        def mkdir(self, path):
            if not os.path.exists(path) and str(path) == str(tmp_path / "s"):
                os.mkdir(path)
            mkdir(self, path)

    with mmsb.open(tmp_path / "s", files=Late()) as state:
        state.create_page(8)
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 1


@pytest.mark.parametrize("mask", [0o277, 0o777])
def test_the_directory_of_sockets_is_its_owners_whatever_the_umask(tmp_path, monkeypatch, mask):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = os.umask(mask)
    try:
        with mmsb.open(name="masked") as state:
            state.serve()
            assert os.stat(tmp_path / "mmsb").st_mode & 0o777 == 0o700
            mmsb.attach("masked").close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("then", [lambda state: None, lambda state: state.create_page(8)])
def test_another_process_makes_the_store_just_then(tmp_path, monkeypatch, then):
    """Between the looks for an identity and for files of others: what it has made is no stranger's."""
    refuse_strangers = store.refuse_strangers

    def too_late(path, *, locked):
        monkeypatch.undo()
        faster.append(mmsb.open(path))
        then(faster[0])
        refuse_strangers(path, locked=locked)

    faster = []
    (tmp_path / "s").mkdir()
    monkeypatch.setattr(store, "refuse_strangers", too_late)
    with pytest.raises(mmsb.StoreLockedError):
        mmsb.open(tmp_path / "s")
    faster[0].close()


@pytest.mark.parametrize("look", ["isdir", "listdir"])
def test_another_process_makes_the_store_between_two_looks(tmp_path, monkeypatch, look):
    """What was seen of an empty directory says nothing of what another process has put there meanwhile."""
    looked, faster = (os.path.isdir, []) if look == "isdir" else (os.listdir, [])

    def too_late(path):
        seen = looked(path)
        if not faster and str(path).startswith(str(tmp_path / "s")) and not seen:
            faster.append(None)
            faster[0] = mmsb.open(tmp_path / "s")
            faster[0].create_page(8)
        return seen

    (tmp_path / "s").mkdir()
    monkeypatch.setattr(os.path if look == "isdir" else os, look, too_late)
    with pytest.raises(mmsb.StoreLockedError):
        mmsb.open(tmp_path / "s")
    faster[0].close()


def test_a_lock_file_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "lock").write_bytes(b"theirs")
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path)
    assert (tmp_path / "lock").read_bytes() == b"theirs"
