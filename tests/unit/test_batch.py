"""Batches: all or nothing, one commit, staged reads, arrays of writes."""

import numpy
import pytest

import mmsb


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


def test_one_commit_with_label_source_and_intent(state):
    a, _ = state.create_page(16, name="a"), state.create_page(16, name="b")
    with state.batch(label="tick 1", source="physics", intent={"step": 1}) as batch:
        batch.write(a, b"one", at=0)
        batch.write("b", b"two", at=4)
    assert state.seq == 3 == batch.seq
    assert [(d.page_id, d.index, d.source, d.intent) for d in batch.deltas] == [
        (1, 0, "physics", {"step": 1}),
        (2, 1, "physics", {"step": 1}),
    ]
    assert state.at("tick 1").seq == 3


def test_empty_batch_commits(state):
    with state.batch(label="nothing") as batch:
        pass
    assert state.seq == 1 == batch.seq and batch.deltas == []


def test_entries_are_separate_deltas_and_each_raises_the_epoch(state):
    page = state.create_page(16)
    with state.batch() as batch:
        batch.write(page, b"aaaa")
        batch.write(page, b"aaab")
        batch.write(page, b"aaab")
    assert page.epoch == 2 and [d.values for d in batch.deltas] == [b"aaaa", b"b"]


def test_exception_discards_everything(state):
    page = state.create_page(16, data=b"old")
    digest = state.digest()
    with pytest.raises(KeyError), state.batch() as batch:
        batch.write(page, b"new")
        batch.create_page(10, name="x")
        batch.delete_page(page)
        raise KeyError("stop")
    assert state.seq == 1 and page.read(0, 3) == b"old" and "x" not in state and batch.seq is None
    assert state.digest() == digest and state.create_page(1).page_id == 2


def test_failed_entry_rejects_the_whole_batch(state):
    a, b = state.create_page(16), state.create_page(16)
    with pytest.raises(mmsb.PageRangeError), state.batch() as batch:
        batch.write(a, b"x")
        batch.write(b, b"y", at=16)
    assert a[0] == 0 and state.seq == 2


def test_page_deleted_meanwhile_rejects_the_batch(state):
    a, b = state.create_page(16), state.create_page(16)
    batch = state.batch()
    batch.write(a, b"x")
    batch.write(b, b"y")
    b.delete()
    with pytest.raises(mmsb.PageNotFoundError):
        batch.commit()
    assert a[0] == 0 and state.seq == 3


def test_staged_reads(state):
    page = state.create_page(8, data=b"01234567")
    with state.batch() as batch:
        batch.write(page, b"ab", at=2)
        assert batch.read(page) == b"01ab4567" and page.read() == b"01234567"
        batch.resize(page, 4)
        assert batch.read(page) == b"01ab"
        batch.resize(page, 6)
        batch.write(page, b"z", at=5)
        assert batch.read(page, 3) == b"b\0z"
    assert page.read() == b"01ab\0z" and page.epoch == 4


def test_create_write_delete_inside(state):
    with state.batch() as batch:
        page = batch.create_page(8, name="new", data=b"abc", metadata={"m": 1})
        batch.write("new", b"X", at=1)
        ids = batch.create_pages(3, 100)
        batch.write(ids[1], b"mid", at=97)
        gone = batch.create_page(5)
        batch.delete_page(gone)
        with pytest.raises(mmsb.PageNotFoundError):
            batch.write(gone, b"x")
    assert page.read() == b"aXc\0\0\0\0\0" and page.epoch == 1 and dict(page.metadata) == {"m": 1}
    assert list(ids) == [2, 3, 4] and state.page(3)[97:] == b"mid" and len(state.pages()) == 4


@pytest.mark.parametrize("size", [1, 2, 700])
def test_content_of_a_page_made_inside(state, size):
    """It is one change with the page; a write of what is there already is none, and one of zeros is."""
    data = bytes(n % 255 + 1 for n in range(size))
    with state.batch() as batch:
        page = batch.create_page(size + 5, data=data)
        batch.write(page, data)
    assert page.read() == data + bytes(5) and page.epoch == 0
    with state.batch() as batch:
        page = batch.create_page(size + 5, data=data)
        batch.write(page, bytes(size))
    assert page.read() == bytes(size + 5) and page.epoch == 1


def test_content_of_zeros_takes_no_bytes_of_the_log():
    with mmsb.open(clock=lambda: 1) as state:
        logged = [state._log.bytes_used()]
        for data in (b"", bytes(1), bytes(500), b"x" * 100):
            state.create_page(500, data=data)
            logged.append(state._log.bytes_used())
    empty, one, all_of_them, other = (after - before for before, after in zip(logged, logged[1:], strict=False))
    assert empty == one == all_of_them < other - 90


def test_names_move_inside_a_batch(state):
    a, b = state.create_page(1, name="a"), state.create_page(1, name="b")
    with state.batch() as batch:
        batch.rename(a, "tmp")
        batch.rename(b, "a")
        batch.rename(a, "b")
    assert (a.name, b.name) == ("b", "a")
    with pytest.raises(mmsb.DuplicateNameError), state.batch() as batch:
        batch.create_page(1, name="a")
    with state.batch() as batch:
        batch.delete_page(b)
        c = batch.create_page(1, name="a")
    assert state.page("a") == c


def test_others_may_commit_while_a_batch_is_open(state):
    page = state.create_page(8)
    batch = state.batch()
    batch.write(page, b"\5")
    page.write(b"\7")
    batch.commit()
    assert page[0] == 5, "the batch wrote last"


def test_write_many(state):
    ids = state.create_pages(4, 64)
    with state.batch() as batch:
        batch.write_many([1, 2, 1], [0, 10, 2], [4, 2, 4], b"aaaabbcccc")
    assert state.page(1)[0:6] == b"aacccc" and state.page(2)[10:12] == b"bb" and len(batch.deltas) == 3
    payload = numpy.arange(4 * 64, dtype="u1")
    with state.batch() as batch:
        batch.write_many(numpy.array(ids), 0, 64, payload)
    assert b"".join(state.page(i).read() for i in ids) == payload.tobytes()


@pytest.mark.parametrize(
    ("ids", "offsets", "lengths", "payload", "error"),
    [
        ([1, 9], [0, 0], [1, 1], b"xx", mmsb.PageNotFoundError),
        ([1, 0], [0, 0], [1, 1], b"xx", mmsb.PageNotFoundError),
        ([1, 2], [0, 64], [1, 1], b"xx", mmsb.PageRangeError),
        ([1, 2], [0, 2**63], [1, 1], b"xx", mmsb.PageRangeError),
        ([1, 2], [0, -1], [1, 1], b"xx", mmsb.PageRangeError),
        ([1, 2], [0, 0], [1, 1], b"x", mmsb.InvalidDeltaError),
        ([1, 2], [0, 0], [1, 1], b"xxx", mmsb.InvalidDeltaError),
        ([1, 2], [0], [1, 1], b"xx", mmsb.InvalidDeltaError),
        ([1.5, 2], [0, 0], [1, 1], b"xx", TypeError),
        ([], [], [], b"x", mmsb.InvalidDeltaError),
        ([1], 0, 2**63, b"x", mmsb.PageRangeError),
    ],
)
def test_write_many_refuses(state, ids, offsets, lengths, payload, error):
    state.create_pages(2, 64)
    with pytest.raises(error), state.batch() as batch:
        batch.write_many(ids, offsets, lengths, payload)
    assert state.seq == 1 and state.page(1).read() == bytes(64)


def test_apply_delta_drops_bytes_that_do_not_change(state):
    page = state.create_page(16, data=b"abcd")
    delta = mmsb.Delta.from_ranges(1, [(0, 2), (3, 1)], b"aXd", source="far", intent={"i": 1})
    done = state.apply(delta)
    assert done.ranges() == [(1, 1)] and done.source == "far" and done.intent == {"i": 1}
    assert state.apply(delta) is None and state.seq == 2 and page[0:4] == b"aXcd"


def test_first_mmsb_deltas(state):
    state.create_page(4, data=b"abcd")
    dense = state.create_delta(1, [1, 0, 0, 1], b"X??Y")
    assert dense.ranges() == [(0, 1), (3, 1)] and state.seq == 1
    state.route_delta(dense)
    sparse = state.create_delta(1, [0, 1, 1, 0], b"12")
    assert state.batch_route_deltas([sparse]) == [sparse]
    assert state.query_page(1) == b"X12Y"
    for mask, data in [([1, 0], b"xx"), ([1, 0, 0, 1], b"xxx"), ([0, 0, 0, 0], b"")]:
        with pytest.raises(mmsb.InvalidDeltaError):
            state.create_delta(1, mask, data)


def test_batch_is_over_after_its_end(state):
    page = state.create_page(4)
    with state.batch() as batch:
        batch.write(page, b"x")
    with pytest.raises(ValueError, match="over"):
        batch.write(page, b"y")
    with pytest.raises(ValueError, match="over"):
        batch.commit()


def test_rebase_inside_a_batch(state):
    page = state.create_page(100)
    batch = state.batch()
    batch.write(page, b"a", at=0, if_epoch=0, rebase=True)
    page.write(b"z", at=50)
    batch.commit()
    assert page[0:1] == b"a" and page[50:51] == b"z"
    batch = state.batch()
    batch.write(page, b"b", at=0, if_epoch=page.epoch)
    page.write(b"y", at=50)
    with pytest.raises(mmsb.ConflictError):
        batch.commit()
    assert page[0:1] == b"a"


def test_a_power_batch_in_memory_has_nothing_to_sync():
    with mmsb.open() as state:
        with state.batch(durability="power") as b:
            b.create_page(8)
        state.create_page(8)
        assert state.seq == 2


@pytest.mark.parametrize("commits", [True, False])
def test_a_checkpoint_while_a_batch_has_made_a_page(tmp_path, commits):
    """The page's id is taken, and no part of the state: the store opens again, and the checkpoint fits the log."""
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(10)
        batch = state.batch()
        made = batch.create_page(8, data=b"late")
        state.page(1).write(b"x")
        assert state.checkpoint() == 2 and state.next_page_id == 2
        other = state.create_page(3)
        assert other.page_id == made.page_id + 1
        assert state.checkpoint() == 3
        if commits:
            batch.commit()
        else:
            batch.discard()
        digest, expected = state.digest(), [1, made.page_id, other.page_id] if commits else [1, other.page_id]
        assert not state.verify().findings
    for read_only in (True, False):
        with mmsb.open(tmp_path / "s", read_only=read_only) as state:
            assert [page.page_id for page in state.pages()] == expected and state.digest() == digest
            assert not state.verify().findings
