"""SegmentIndex: search, growth, bounds, damage; the cache of indexes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb._core.index import COVERED, CREATED, OPEN, SegmentIndex
from mmsb._core.pagebuilder import PageBuilder
from mmsb.index import Indexes


def index_of(state):
    """(index of the active segment, its bytes)."""
    state._log.settle()
    segment = state._log.active
    data = bytes(memoryview(state._log.buffer(segment))[: segment.tail])
    index = SegmentIndex(segment.head)
    index.extend(data, len(data))
    return index, data


def test_searching_long_chains_finds_the_newest_node_at_every_seq():
    with mmsb.open() as state:
        page, other = state.create_page(64), state.create_page(64)
        seqs = {page.page_id: [1], other.page_id: [2]}
        rng = random.Random(7)
        for number in range(3000):
            chosen = page if rng.random() < 0.9 else other
            chosen.write(number.to_bytes(4, "little") + b"\1")
            seqs[chosen.page_id].append(state.seq)
        index, _ = index_of(state)
        for page_id, touching in seqs.items():
            assert index.page_seqs(page_id, 0, state.seq) == touching
            for since, until in ((0, 1), (5, 5), (17, 18), (1000, 1003), (2990, 3002)):
                assert index.page_seqs(page_id, since, until) == [s for s in touching if since < s <= until]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_an_index_that_grows_equals_one_built_at_once(steps):
    with mmsb.open() as state:
        growing = SegmentIndex(state._log.active.head)
        page = state.create_page(100, name="a")
        for step in steps:
            for number in range(step):
                page.write(bytes([state.seq % 255 + 1]) * 3, at=number)
            state._log.settle()
            growing.extend(state._log.buffer(state._log.active), state._log.active.tail)
        whole, data = index_of(state)
        assert (growing.seq, growing.offset, growing.change_count) == (whole.seq, whole.offset, whole.change_count)
        assert growing.page_seqs(1, 0, state.seq) == whole.page_seqs(1, 0, state.seq)
        assert growing.facts(1, 0, state.seq) == whole.facts(1, 0, state.seq)
        assert growing.find_name(data, "a", state.seq) == 1


def test_collecting_stops_at_what_replaces_the_page():
    with mmsb.open() as state:
        page = state.create_page(50, data=b"start")
        state.create_pages(10, 20)
        for number in range(5):
            page.write(bytes([number + 1]), at=number)
        page.write(b"\xff" * 50)
        page.write(b"end")
        index, data = index_of(state)
        covered = index.collect(data, 1, 0, state.seq, 50)
        assert (len(covered), covered.end, covered.size) == (2, COVERED, 50)
        unknown = index.collect(data, 1, 0, state.seq)
        assert (len(unknown), unknown.end) == (8, CREATED)
        partly = index.collect(data, 1, 3, 5, 50)
        assert (len(partly), partly.end) == (2, OPEN)
        many = index.collect(data, 7, 0, state.seq, 20)
        assert (len(many), many.end, many.size) == (0, CREATED, 20)
        assert index.range_of(7) == 2
        assert index.range_of(1) is None
        for nodes in (covered, unknown):
            builder = PageBuilder(1)
            builder.begin(nodes.size)
            builder.apply(nodes, data)
            assert builder.take() == b"end" + b"\xff" * 47


def test_ranges_of_pages_take_no_node_each():
    with mmsb.open() as state:
        state.create_pages(100_000, 64)
        index, _ = index_of(state)
        assert index.change_count == 0
        assert index.nbytes < 10_000
        touched, created, deleted, gained, size, *_ = index.facts(99_999, 0, 1)
        assert (touched, created, deleted, gained, size) == (True, True, False, 0, 64)
        assert not index.facts(100_001, 0, 1)[0]


def test_bytes_that_changed_under_the_index_are_an_error_and_never_another_page():
    with mmsb.open() as state:
        first, second = state.create_page(64), state.create_page(64)
        first.write(b"one")
        second.write(b"two")
        index, data = index_of(state)
        nodes = index.collect(data, 1, 0, state.seq)
        reference = PageBuilder(1)
        reference.begin(64)
        reference.apply(nodes, data)
        rng = random.Random(5)
        for _ in range(2000):
            damaged = bytearray(data)
            damaged[rng.randrange(128, len(data))] ^= 1 << rng.randrange(8)
            builder = PageBuilder(1)
            builder.begin(64)
            try:
                builder.apply(nodes, damaged)
                assert len(builder.take()) >= 1
                index.touched(damaged, 0, state.seq)
                index.usage(damaged, 1, state.seq)
                index.next_commit(damaged, 1, state.seq, None, 1 << 20)
                for seq in range(1, 5):
                    index.frame(damaged, seq, {})
            except (mmsb.CorruptLogError, mmsb.InvalidDeltaError, MemoryError):
                pass
        with pytest.raises(ValueError, match="not the bytes"):
            builder.apply(nodes, data[:200])


def test_an_intact_prefix_is_indexed_and_damage_is_named():
    with mmsb.open() as state:
        page = state.create_page(64)
        for number in range(10):
            page.write(bytes([number + 1]))
        index, data = index_of(state)
        end = index.offset
        damaged = bytearray(data)
        damaged[-20] ^= 1
        broken = SegmentIndex(state._log.active.head)
        with pytest.raises(mmsb.CorruptLogError) as caught:
            broken.extend(damaged, end)
        assert caught.value.offset < end
        assert broken.seq == 10


class Slow:
    """An index that is not done before another thread has appended an anchor."""

    def __init__(self, state):
        self.state, self.index = state, SegmentIndex(state._log.active.head)

    def extend(self, data, limit):
        self.index.extend(data, limit)
        self.state.sync()

    @property
    def offset(self):
        return self.index.offset


def test_an_anchor_that_comes_while_the_log_is_read_is_no_damage(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        page, log = state.create_page(8), state._log
        log.settle()
        index, tail = Slow(state), log.active.tail
        state._indexes.extend(log.active, index, log.buffer(log.active))
        assert index.offset == tail < log.active.tail

        page.write(b"1")
        cursor = log.cursor(log.active)
        assert [frame.kind for frame in cursor] == ["commit", "anchor", "commit"]
        state.sync()
        log.check_read(cursor, log.active)


def test_the_cache_is_bounded_and_forgets_the_oldest():
    with mmsb.open(segment_bytes=4096) as state:
        page = state.create_page(1000)
        rng = random.Random(1)
        for _ in range(40):
            page.write(rng.randbytes(1000))
        state._indexes = Indexes(state, limit_bytes=6000)
        for segment in state._log.segments:
            reader = state._indexes.of(segment)
            assert reader.index.offset == segment.tail
        kept = list(state._indexes.kept)
        assert len(state._log.segments) > 6
        assert 1 <= len(kept) < 5
        assert kept[-1] == state._log.active.number
        assert state.at(5).page(1).epoch == 4
