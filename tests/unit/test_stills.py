"""Stills: with them, however close, every page is at every moment what it was; when they are made; what they cost."""

import random
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb._core.index import COVERED, OPEN
from mmsb._core.pagebuilder import PageBuilder
from mmsb.index import Indexes
from mmsb.testing.histories import random_history
from mmsb.testing.model import picture_of


@contextmanager
def stills(least):
    """Every segment gets its stills as soon as it is indexed, from the oldest on, so many bytes of log apart."""
    indexed = Indexes.of

    def of(self, segment, until=None):
        reader = indexed(self, segment, until)
        older = [kept for number, kept in self.kept.items() if number == segment.number - 1]
        reader.index.add_stills(reader.data, older[0] if older else None, least)
        return reader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Indexes, "of", of)
        yield


def check_every_moment(state, pictures, digests, first=0):
    state._indexes.kept.clear()
    for segment in state._log.listed():
        state._indexes.of(segment)
    for seq in range(first, len(pictures)):
        view = state.at(seq)
        assert picture_of(view) == pictures[seq]
        assert view.digest() == digests[seq]


@given(st.integers(0, 1 << 32), st.sampled_from([0, 1, 40, 400]))
def test_every_moment_of_a_random_history(seed, least):
    with mmsb.open(segment_bytes=4096) as state, stills(least):
        history = random_history(state, random.Random(seed), 30)
        check_every_moment(state, history.pictures, history.digests)


def busy_history(state, rng, commits):
    """Few pages and many changes of every encoding: pages that shrink, grow, go and come, and one that is merged."""
    pages = [state.create_page(rng.choice([1, 63, 64, 65, 700])) for _ in range(3)]
    pages.extend(state.page(page_id) for page_id in state.create_pages(2, 200))
    merged = state.create_page(64, merge="max-plus", dtype="int64")
    pictures, digests = [{}] * state.seq, [b""] * state.seq
    for _ in range(commits):
        choice, page = rng.randrange(40), rng.choice(pages)
        if choice == 0:
            page.resize(rng.choice([1, 64, page.size, page.size // 2 + 1, 130, 900]))
        elif choice == 1 and len(pages) > 2:
            state.delete_page(page)
            pages.remove(page)
        elif choice == 2:
            pages.append(state.create_page(300, data=rng.randbytes(20)))
        elif choice == 3:
            page.write(rng.randbytes(page.size))
        elif choice == 4:
            merged.write(rng.randrange(1 << 40).to_bytes(8, "little"), at=8 * rng.randrange(8))
        elif choice < 10:
            content = bytearray(page.read())
            for _ in range(rng.randrange(1, 40)):
                content[rng.randrange(page.size)] ^= 1 + rng.randrange(255)
            state.update_page(page, content)
        elif choice == 10:
            page.rename(rng.choice([None, f"name {page.page_id}"]))
        else:
            at = rng.choice([0, rng.randrange(page.size)])
            page.write(rng.randbytes(min(rng.choice([1, 8, 16, 100]), page.size - at)), at=at)
        while len(pictures) <= state.seq:
            pictures.append(picture_of(state))
            digests.append(state.digest())
    return pictures, digests


@pytest.mark.parametrize("least", [0, 100, 1024])
def test_every_moment_of_a_busy_stored_history(tmp_path, rng, least):
    path = tmp_path / "store"
    with stills(least):
        with mmsb.open(path, segment_bytes=8192, checkpoint_bytes=30_000) as state:
            pictures, digests = busy_history(state, rng, 600)
            check_every_moment(state, pictures, digests, 8)
            state.checkpoint()
            state.compact(250)
            check_every_moment(state, pictures, digests, state.first_seq)
        with mmsb.open(path, read_only=True) as state:
            check_every_moment(state, pictures, digests, state.first_seq)


def test_reads_make_the_stills_that_spare_others_their_time(tmp_path):
    with mmsb.open(tmp_path / "store") as state:
        page = state.create_page(256)
        rng = random.Random(3)
        contents = [b"", page.read()]
        for _ in range(20):
            with state.batch() as batch:
                for _ in range(500):
                    batch.write(page, rng.randbytes(8), at=rng.randrange(248))
            contents.append(page.read())
        assert state.at(3).page(page).read() == contents[3]
        [index] = state._indexes.kept.values()
        assert index.still_bytes == 0, "one read is not worth it"
        assert not index.wants_stills
        for seq in (9, 12, 15, 18, 20, 21):
            assert state.at(seq).page(page).read() == contents[seq]
        assert 0 < index.still_bytes < index.nbytes
        assert not index.wants_stills
        segment = state._log.active
        data = state._log.buffer(segment)
        for seq in range(1, 22):
            nodes = index.collect(data, page.page_id, 0, seq)
            assert len(nodes) < 100
            assert state.at(seq).page(page).read() == contents[seq]


def test_a_still_that_has_every_byte_needs_nothing_older():
    with mmsb.open(segment_bytes=1 << 14) as state, stills(0):
        page = state.create_page(100)
        for number in range(400):
            page.write(bytes([number % 251]) * 50, at=50 * (number % 2))
        check_every_moment(
            state, [picture_of(state.at(seq)) for seq in range(5)], [state.at(n).digest() for n in range(5)]
        )
        first, *_, last = state._log.listed()
        reader = state._indexes.of(last)
        nodes = reader.index.collect(reader.data, 1, 0, state.seq, 100)
        assert (len(nodes), nodes.end, nodes.size, nodes.since) == (0, COVERED, 100, 0)
        assert reader.index.collect(reader.data, 1, 0, last.base_seq, 100).end == OPEN
        assert first is not last


def test_stills_of_bytes_that_changed_are_never_those_of_another_page():
    with mmsb.open() as state:
        first, second = state.create_page(64), state.create_page(64)
        for number in range(40):
            first.write(b"\1" * (number % 9 + 1), at=number)
            second.write(b"\2" * (number % 9 + 1), at=number)
        reader = state._indexes.of(state._log.active)
        data, rng = bytes(memoryview(reader.data)[: reader.index.offset]), random.Random(5)
        for _ in range(300):
            state._indexes.kept.clear()
            index = state._indexes.of(state._log.active).index
            damaged = bytearray(data)
            for _ in range(rng.randrange(1, 9)):
                damaged[rng.randrange(128, len(data))] ^= 1 << rng.randrange(8)
            index.add_stills(damaged, None, rng.choice([0, 50]))
            try:
                nodes = index.collect(damaged, 1, 0, rng.randrange(2, state.seq + 1))
                builder = PageBuilder(1)
                builder.begin(64)
                builder.apply(nodes, damaged)
                assert len(builder.take()) >= 1
            except (mmsb.CorruptLogError, mmsb.InvalidDeltaError, MemoryError):
                pass


def test_the_cost_of_a_read_does_not_depend_on_how_much_came_before():
    """A counter, and a page of which the two ends are hot and the middle is cold."""
    for offsets in ([5], [0, (1 << 20) - 8]):
        with mmsb.open() as state:
            page = state.create_page(1 << 20)
            for number in range(100):
                with state.batch() as batch:
                    for step in range(200):
                        batch.write(
                            page, (number * 200 + step + 1).to_bytes(8, "little"), at=offsets[step % len(offsets)]
                        )
            reader = state._indexes.of(state._log.active)
            reader.index.add_stills(reader.data)
            assert reader.index.still_bytes < 100 * reader.index.change_count
            for seq in (2, 50, 101):
                expected = (seq - 1) * 200 if len(offsets) == 1 else (seq - 1) * 200 - 1
                assert state.at(seq).page(page).read(offsets[0], 8) == expected.to_bytes(8, "little")
                assert len(reader.index.collect(reader.data, 1, 0, seq)) < 100


def test_no_stills_are_made_where_the_index_is_forgotten_anyway(monkeypatch):
    """A read through more segments than the bound on indexes has room for."""
    looked_at = []
    add_stills = Indexes.add_stills

    def spy(self, readers):
        add_stills(self, readers)
        looked_at.extend(readers)

    monkeypatch.setattr(Indexes, "add_stills", spy)
    with mmsb.open(segment_bytes=1 << 16) as state:
        state._indexes.limit_bytes = 1 << 20
        page, rng = state.create_page(4096), random.Random(7)
        for _ in range(30):
            with state.batch() as batch:
                for _ in range(2000):
                    batch.write(page, rng.randbytes(8), at=rng.randrange(4088))
        assert state.at(state.seq).page(page).read() == page.read()
        assert len(looked_at) > 5
        assert 1 <= sum(reader.index.still_bytes > 0 for reader in looked_at) < len(looked_at) // 2
        assert sum(index.nbytes for index in state._indexes.kept.values()) <= 1 << 20
        state._indexes.limit_bytes = 1 << 30
        assert state.at(state.seq).page(page).read() == page.read()
