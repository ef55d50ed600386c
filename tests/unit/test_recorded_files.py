"""Files that write down what is done to them, for tests that work out what a power cut may leave."""

import os

import pytest

import mmsb
from mmsb._core.files import Files


def short(files, root):
    """The operations without what varies: (kind, path below root)."""
    return [(kind, path and os.path.relpath(path, root)) for kind, path, *_ in files.operations()]


def test_every_operation_in_order(tmp_path):
    files = Files(recorded=True)
    files.write_file(tmp_path / "a", b"content")
    fd = files.open(tmp_path / "a", os.O_RDWR)
    files.rename(tmp_path / "a", tmp_path / "b")
    files.pwrite(fd, b"x", 3)
    files.fallocate(fd, 100)
    files.unlink(tmp_path / "b")
    files.pwrite(fd, b"y", 0)
    files.close(fd)
    files.mkdir(tmp_path / "c")
    assert short(files, tmp_path) == [
        ("open", "a.new"), ("pwrite", "a.new"), ("fdatasync", "a.new"), ("close", "a.new"), ("rename", "a.new"),
        ("open", "."), ("fsync", "."), ("close", "."),
        ("open", "a"), ("rename", "a"), ("pwrite", "b"), ("fallocate", "b"), ("unlink", "b"), ("pwrite", None),
        ("close", None), ("mkdir", "c"),
    ]  # fmt: skip
    assert files.count() == 16
    found = files.operations()
    assert found[1][2:4] == (0, b"content") and found[2][4] == 2 and found[10][2:4] == (3, b"x")
    assert found[4][3] == os.fspath(tmp_path / "a") and found[11][3] == 100


@pytest.mark.usefixtures("mappable")
def test_stores_into_a_mapping(tmp_path):
    """The body before the word, and the zero word where something else was."""
    files = Files(recorded=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        state.create_page(300, name="a")
        begun = files.count()
        state.page("a").write(b"x" * 200)
        stores = files.operations()[begun:]
    assert [kind for kind, *_ in stores] == ["store", "store"]
    (_, path, body, content, _), (_, _, word, head, _) = stores
    assert path.endswith("00000001.seg") and body == word + 8 and len(head) == 8 and b"x" * 200 in content


def test_faulty_or_recorded(tmp_path):
    with pytest.raises(ValueError, match="not both"):
        Files(faulty=True, recorded=True)
