"""What somebody puts where a store is, or will be: links, files and directories that are not ours."""

import os
import shutil

import pytest

import mmsb

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
