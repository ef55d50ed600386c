"""Logs whose links and waves make no sense, in frames that are otherwise right: a typed error, never a wrong state."""

import struct

import pytest

import mmsb
from mmsb import links, linktable
from mmsb._core import linkcodec
from mmsb._core.files import Files
from mmsb._core.log import crc32c
from mmsb._core.varint import put_varint
from mmsb.segments import Segment, cursor_of, read_head, read_segment
from mmsb.testing.model import picture_of

LINK, UNLINK, WAVE, DELETE, RESIZE = 24, 25, 26, 17, 18


def varints(*numbers):
    out = bytearray()
    for number in numbers:
        put_varint(out, number)
    return bytes(out)


def change(kind, page_id, blob=None):
    """A change of a page: with a blob, or without."""
    return bytes([kind]) + varints(page_id) + (b"" if blob is None else varints(len(blob)) + blob)


def append(path, changes):
    """Puts one more commit at the end of a store's log, as a foreign writer might."""
    files, segment_path = Files(), max((path / "log").glob("*.seg"))
    head = read_head(files, str(segment_path))
    cursor = cursor_of(
        Segment(head, head.capacity, path=str(segment_path)),
        read_segment(files, Segment(head, head.capacity, path=str(segment_path))),
    )
    for _ in cursor:
        pass
    body = struct.pack("<IB", cursor.last_crc, 1)
    body += varints(cursor.seq + 1 - head.base_seq, 1, cursor.time_ns - head.base_time_ns, 0, 0) + changes
    body += bytes(-len(body) % 8)
    units = struct.pack("<I", len(body) // 8)
    crc = crc32c(body, crc32c(units, crc32c(head.salt)))
    with open(segment_path, "r+b") as file:
        file.seek(cursor.offset)
        file.write(units + struct.pack("<I", crc) + body)


@pytest.fixture
def store(tmp_path):
    """Two pages of 8 bytes and one of 7, the second computed from the first; closed."""
    with mmsb.open(tmp_path / "s") as state:
        for size in (8, 8, 7):
            state.create_page(size)
        state.depend(2, on=1, link=links.passthrough())
        state.page(1).write(b"before")
    return tmp_path / "s"


def test_a_foreign_commit_is_replayed_when_it_makes_sense(store):
    append(store, change(LINK, 3, links.Link("call", parents=(1,)).encode()))
    with mmsb.open(store) as state:
        assert [edge[:3] for edge in state.graph.edges()] == [(1, 2, "data"), (1, 3, "data")]
        with pytest.raises(mmsb.StalePageError):
            state.page(3).read()
        assert not state.verify().findings


GOOD = links.Link("semiring", parents=(1,), semiring="plus-times", dtype="uint8").encode()
NONSENSE = {
    "empty link": change(LINK, 3, b""),
    "link cut": change(LINK, 3, GOOD[:-2]),
    "link too long": change(LINK, 3, GOOD + b"\0"),
    "no such kind": change(LINK, 3, b"\4" + GOOD[1:]),
    "no such type": change(LINK, 3, GOOD[:1] + b"\7" + GOOD[2:]),
    "a kind that computes nothing computes": change(LINK, 3, b"\1" + GOOD[1:]),
    "half a truth": change(LINK, 3, GOOD[:2] + b"\2" + GOOD[3:]),
    "parents without end": change(LINK, 3, GOOD[:3] + varints((1 << 64) - 1) + GOOD[4:]),
    "copies without end": change(LINK, 3, b"\0\1\0" + varints(1, 1, 0, 0, 0, 0, (1 << 64) - 1, 0, 0)),
    "text without end": change(LINK, 3, GOOD[:5] + varints((1 << 63) - 1) + GOOD[6:]),
    "text that is none": change(LINK, 3, b"\0\2\0" + varints(1, 1, 1) + b"\xff" + GOOD[-9:]),
    "no parent": change(LINK, 3, b"\0\0\0" + bytes(8)),
    "page 0": change(LINK, 0, GOOD),
    "a child that is not": change(LINK, 9, GOOD),
    "a child beyond all": change(LINK, (1 << 64) - 1, GOOD),
    "a parent that is not": change(LINK, 3, links.Link("call", parents=(77,)).encode()),
    "a parent beyond all": change(LINK, 3, links.Link("call", parents=((1 << 64) - 1,)).encode()),
    "itself": change(LINK, 1, GOOD),
    "a cycle": change(LINK, 1, links.Link("call", parents=(2,)).encode()),
    "a cycle of two new ones": change(LINK, 3, links.Link("call", parents=(1,)).encode())
    + change(LINK, 1, links.Link("none", "control", (3,)).encode()),
    "lanes that do not fit": change(LINK, 3,
        links.Link("semiring", parents=(1,), semiring="plus-times", dtype="int32").encode()),
    "ranges beyond the page": change(LINK, 3, links.Link("copy", parents=(1,), copies=((0, 0, 0, 1 << 40),)).encode()),
    "a parent of the ranges that is not": change(LINK, 3,
        links.Link("copy", parents=(1,), copies=((9, 0, 0, 1),)).encode()),
    "weights missing": change(LINK, 3,
        links.Link("reduce", parents=(1,), semiring="plus-times", dtype="uint8", weights=b"12").encode()),
    "weights for half the lanes": change(LINK, 2,
        links.Link("semiring", parents=(1,), semiring="plus-times", dtype="uint8", weights=b"1234").encode()),
    "a matrix of one page": change(LINK, 3,
        links.Link("matrix", parents=(1,), semiring="plus-times", dtype="uint8",
                   rows=1 << 63, columns=1 << 63).encode()),
    "empty unlink": change(UNLINK, 2, b""),
    "unlink of no kind": change(UNLINK, 2, b"\7\0"),
    "unlink without end": change(UNLINK, 2, b"\0" + varints((1 << 64) - 1)),
    "a wave of nonsense": change(WAVE, 1, b"\7\0\0"),
    "a wave without end": change(WAVE, 1, b"\0" + varints((1 << 64) - 1)),
    "a wave cut": change(WAVE, 1, b"\0" + varints(1, 2, 9) + b"why"),
    "a wave of itself": change(WAVE, 0, b""),
    "a wave before the beginning": change(WAVE, 1000, b""),
    "the parent deleted": change(DELETE, 1),
    "the child deleted": change(DELETE, 2),
    "the parent resized": bytes([RESIZE]) + varints(1, 64),
    "the child resized": bytes([RESIZE]) + varints(2, 1),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_in_the_log_is_refused(store, what):
    """For reading and for writing, from the whole log and behind a checkpoint; it can be cut off by nobody."""
    append(store, NONSENSE[what])
    for read_only in (False, True, False):
        with pytest.raises(mmsb.CorruptLogError) as caught:
            mmsb.open(store, read_only=read_only)
        assert caught.value.reason


def test_an_unknown_semiring_makes_its_page_stale_and_nothing_else(store):
    """Its plugin may come back."""
    append(store, change(LINK, 3, links.Link("semiring", parents=(1,), semiring="of-a-plugin", dtype="uint8").encode()))
    with mmsb.open(store) as state:
        with pytest.raises(mmsb.StalePageError, match="of-a-plugin"):
            state.page(3).read()
        state.page(1).write(b"after")
        assert state.page(2)[0:5] == b"after"
        with pytest.raises(mmsb.StalePageError, match="of-a-plugin"):
            state.page(3).read()
        state.propagate()
        state.undepend(3)
        state.page(3).write(b"mine")
        assert not state.verify(recompute=True).findings


def test_a_wave_may_name_pages_that_are_gone(store):
    append(store, change(WAVE, 1, linkcodec.encode_wave({77: "gone"}, [78, 1 << 63], False)))
    with mmsb.open(store) as state:
        assert picture_of(state)[2][0] == b"before\0\0"
        state.propagate()


def test_every_cut_and_flip_of_what_checkpoints_keep():
    """Of links and stale pages: ValueError, or something that can be written again."""
    pages = _Pages()  # the links do not keep it
    table = linktable.Links(pages)
    table.link(2, links.Link("semiring", parents=(1,), semiring="x", dtype="u1"))
    table.link(3, links.Link("none", "control", (1, 2)))
    table.settle({2: "it raised"}, ())
    table.mark([3])
    data = linktable.encode_links(table.stored())
    assert linktable.decode_links(data)[1:] == ({2: "it raised"}, [3])
    for at in range(len(data)):
        for wrong in (data[:at], data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1 :], data + data[: at + 1]):
            try:
                linktable.decode_links(wrong)
            except ValueError:
                continue


class _Pages:
    """Pages that remember nothing but whether they failed."""

    def __init__(self):
        self.failed = set()
        self._notes_marked = 0

    def _flag_page(self, page_id, *, failed=None, **marks):
        if failed is not None:
            (self.failed.add if failed else self.failed.discard)(page_id)

    def _has_failed(self, page_id):
        return page_id in self.failed

    def _is_stale(self, page_id):
        return page_id in self.failed

    def _forget_touched_page(self, page_id):
        pass

    def _touched_pages(self, start=0):
        return 0, []
