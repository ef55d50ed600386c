"""Hostile stores and files that once hung, died, took all memory or were refused with an untyped error."""

import os

import pytest

import mmsb
from tests.rel.forge import base_log, block, ckpt, description, page_bytes, varints, write_store
from tests.rel.hostile_files import FILES, STORES, whole
from tests.rel.r16_hostile import READER, WRITER, import_it, in_a_child

ONCE_WRONG = (
    "horizon: counter 2^64-1",
    "horizon is sparse, 1 TB",
    "horizon grew to 1 TB",
    "checkpoints is a file",
    "checkpoints/00000000000000000002.ckpt is a FIFO",
    "checkpoints/00000000000000000002.ckpt grew to 1 TB",
    "checkpoints: a chain of 3000",
    "log/00000003.seg.zst is a FIFO",
    "a segment of 32 GiB, last",
    "a segment of 32 GiB, sealed",
    "a segment of 1024 GiB, last",
    "noise that looks like long frames",
    "change: create page 2^40-1",
    "change: source 2^64-1",
    "change: source not UTF-8",
    "frame: source that is not defined",
    "checkpoint: header: next page id 2^30",
)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_a_hostile_store_is_refused_or_opened(tmp_path, name):
    path = STORES[name](tmp_path / "s")
    for work in (READER, WRITER):
        said, _, _ = in_a_child(work, path)
        assert not said.startswith(("signal", "hangs", "untyped")), said


@pytest.mark.parametrize("name", ["import: a FIFO", "import: a directory", "import: checkpoint of 4 GiB"])
def test_a_hostile_file_is_not_imported(tmp_path, name):
    said, _, _ = in_a_child(import_it, FILES[name](tmp_path / "f"))
    assert said in ("NotAStoreError", "CorruptCheckpointError", "opened")


@pytest.mark.parametrize("folder", ["log", "checkpoints", "torn"])
def test_nothing_is_written_through_a_linked_folder(tmp_path, folder):
    """Who can write to a store's directory must not make its owner write elsewhere."""
    store, elsewhere = whole(tmp_path / "s"), tmp_path / "elsewhere"
    if (store / folder).exists():
        (store / folder).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (store / folder).symlink_to(elsewhere)
    before = sorted(os.listdir(elsewhere))
    with pytest.raises(mmsb.CorruptLogError, match=folder):
        mmsb.open(store)
    assert sorted(os.listdir(elsewhere)) == before


@pytest.mark.parametrize("name", ["00000001.seg\n", "\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661.seg"])
def test_only_the_exact_names_are_segments(tmp_path, name):
    """A name with a line break behind it, or with the digits of another script, is some other file."""
    store = write_store(tmp_path / "s", [base_log()], durable=2)
    (store / "log/00000001.seg").rename(store / "log" / name)
    with pytest.raises(mmsb.CorruptLogError, match=r"00000001\.seg"):
        mmsb.open(store)
    assert (store / "log" / name).exists()


def test_a_checkpoint_of_more_than_max_bytes_is_refused_before_it_is_read(tmp_path):
    one = block(page_bytes(1, 4096, 0, 0, bytes(4096)), 1)
    described = description(live=varints(1, 1, 1))
    (tmp_path / "one.ckpt").write_bytes(ckpt(blocks=[one], pages=1, next_page_id=2, described=described))
    with pytest.raises(mmsb.ArenaFullError) as caught:
        mmsb.open(tmp_path / "one.ckpt", max_bytes=1024)
    assert caught.value.needed_bytes > 4096
    assert mmsb.open(tmp_path / "one.ckpt").page(1).size == 4096
