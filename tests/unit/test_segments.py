"""Bytes of segments: which are kept in memory, what grows, where a cursor ends."""

import pytest

import mmsb
from mmsb import segments
from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES
from mmsb.segments import Buffers, Segment, cursor_of


@pytest.fixture
def store(tmp_path):
    """A closed store of some segments of 4096 bytes."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        for n in range(2, 400):
            page.write(n.to_bytes(4, "little") * 10)
    return tmp_path / "s"


def anew(segment):
    """The Segment without what is known of it."""
    return Segment(segment.head, segment.head.capacity, path=segment.path)


def test_as_many_are_kept_as_the_bound_allows(store):
    """The least recently used goes first; the newest stays, however large."""
    with mmsb.open(store, read_only=True) as state:
        one, two, three = (anew(segment) for segment in state._log.segments[:3])
        size = len(segments.read_segment(Files(), one))
        for limit, kept in ((3 * size, [1, 2, 3]), (2 * size, [2, 3]), (2 * size - 1, [3]), (1, [3])):
            buffers = Buffers(Files(), limit)
            for segment in (one, two, three):
                buffers.of(segment)
            assert list(buffers.kept) == kept
        buffers = Buffers(Files(), 2 * size)
        first = buffers.of(one)
        buffers.of(two)
        assert buffers.of(one) is first
        buffers.of(three)
        assert list(buffers.kept) == [1, 3]
        buffers.forget(1)
        buffers.forget(7)
        assert list(buffers.kept) == [3] and buffers.of(one) is not first


def test_of_a_sealed_segment_its_tail_is_read(store):
    with mmsb.open(store, read_only=True) as state:
        segment = anew(state._log.segments[0])
        assert len(segments.read_segment(Files(), segment)) == 4096
        segment.sealed, segment.tail = True, 1000
        assert len(segments.read_segment(Files(), segment)) == 1000
        segment.tail = 1 << 40
        assert len(segments.read_segment(Files(), segment)) == 4096


def test_a_cursor_stops_at_the_tail(store):
    with mmsb.open(store, read_only=True) as state:
        segment = anew(state._log.segments[0])
        data = segments.read_segment(Files(), segment)
        cursor = cursor_of(segment, data)
        next(cursor), next(cursor)
        segment.tail, last = cursor.offset, cursor.seq
        cursor = cursor_of(segment, data)
        for _ in cursor:
            pass
        assert (cursor.offset, cursor.seq) == (segment.tail, last) and last > 1


def test_what_is_appended_without_a_mapping_is_read_once(tmp_path, monkeypatch):
    """One buffer for all readers; a look without new frames reads no file; a sealed one is kept like the others."""
    reads = []
    read = segments.read_raw

    def counted(files, segment, path):
        reads.append(segment.number)
        return read(files, segment, path)

    monkeypatch.setattr(segments, "read_raw", counted)
    with mmsb.open(tmp_path / "s", mapped=False, segment_bytes=4096, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        buffers, first = state._log.buffers, state._log.active
        page.write(b"1" * 30)
        assert state.at(2).page("a")[0:30] == b"1" * 30
        grown, known = buffers.growing[1:]
        assert buffers.growing[0] is first and known == first.tail > HEADER_BYTES
        count = len(reads)
        assert buffers.of(first) is grown and len(reads) == count
        page.write(b"2" * 30)
        assert state.at(3).page("a")[0:30] == b"2" * 30
        assert buffers.growing[0] is first and buffers.growing[1] is grown and buffers.growing[2] == first.tail
        assert len(reads) == count + 1
        n = 3
        while state._log.active is first:
            page.write(bytes([n]) * 30)
            n += 1
        assert state.at(n - 1).page("a")[0:30] == bytes([n - 2]) * 30
        assert buffers.of(first) is grown and buffers.growing is None and buffers.kept[first.number] is grown
        assert bytes(grown[: first.tail]) == segments.read_segment(Files(), anew(first))[: first.tail]
        page.write(b"z" * 30)
        buffers.of(state._log.active)
        assert buffers.growing[0] is state._log.active and first.number in buffers.kept


def test_a_grown_buffer_is_completed_when_another_segment_grows(tmp_path):
    """Whoever looked at the first segment while it grew finds the rest in the same bytes."""
    with mmsb.open(tmp_path / "s", mapped=False, segment_bytes=4096, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        buffers, first = state._log.buffers, state._log.active
        grown = buffers.of(first)
        n = 1
        while state._log.active is first:
            n += 1
            page.write(bytes([n]) * 30)
        buffers.of(state._log.active)
        assert buffers.kept[first.number] is grown
        assert bytes(grown[: first.tail]) == segments.read_segment(Files(), anew(first))[: first.tail]


# ---- what replay takes into the pages


@pytest.fixture(params=["memory", "log", "checkpoint"])
def ways(request, tmp_path):
    """Runs a history and gives the State back: as it was made, replayed, or loaded."""

    def run(history):
        if request.param == "memory":
            state = mmsb.open()
            history(state)
            return state
        with mmsb.open(tmp_path / "s", checkpoint_bytes=None) as state:
            history(state)
            if request.param == "checkpoint":
                state.checkpoint()
        return mmsb.open(tmp_path / "s")

    return run


def test_pages_of_one_byte(ways):
    def history(state):
        state.create_page(1, name="a", data=b"x")
        state.create_page(9, name="b", data=b"y").resize(1)
        state.create_page(1, name="c").resize(9)

    with ways(history) as state:
        assert [state.page(name).read() for name in "abc"] == [b"x", b"y", bytes(9)]
        assert [state.page(name).epoch for name in "abc"] == [0, 1, 1]


def test_pages_are_counted(ways):
    def history(state):
        for n in range(1, 6):
            state.create_page(n * 10)
        state.page(5).delete()
        state.page(2).delete()

    with ways(history) as state:
        assert state.stats()["pages"] == len(state) == 3 and [page.page_id for page in state.pages()] == [1, 3, 4]
        assert state.create_page(3).page_id == 6


def test_slots_of_pages_that_go_are_used_again():
    """A page that is resized, or deleted, gives back what it had."""
    with mmsb.open() as state:
        page = state.create_page(100_000)
        for n in range(200):
            page.resize(100_000 - n % 2)
            state.create_page(100_000).delete()
        arena = state.stats()["arena"]
        assert arena["bytes_asked"] == 99_999 and arena["bytes_held"] < 400_000
        assert arena["allocations"] - arena["frees"] == 1


def test_deltas_are_counted_with_their_bytes():
    with mmsb.open() as state:
        page = state.create_page(100)
        before = state.stats()["commits"]
        page.write(b"abc")
        first = state.stats()["commits"]
        page.write(bytes(range(1, 51)), at=50)
        second = state.stats()["commits"]
        assert [counts["deltas"] for counts in (before, first, second)] == [0, 1, 2]
        assert 0 == before["delta_bytes"] < 3 <= first["delta_bytes"] < 50 <= second["delta_bytes"] < 80
        with state.batch() as batch:
            batch.write(page, b"defg")
            batch.write(page, b"hijkl", at=30)
        third = state.stats()["commits"]
        assert (third["commits"], third["deltas"]) == (4, 4)
        assert 9 <= third["delta_bytes"] - second["delta_bytes"] < 30
