"""Merge pages: every way to write is page ⊕ operand, and what they are survives whatever pages survive."""

import math
import resource

import numpy as np
import pytest

import mmsb


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


@pytest.fixture
def page(state):
    return state.create_page(data=np.array([5.0, 1.0, 7.0, 3.0]), name="m", merge="max-plus", dtype="f8")


def lanes(page):
    return page.view(page.merge[1]).tolist()


@pytest.mark.parametrize(
    ("name", "dtype", "zero"),
    [
        ("min-plus", "f8", math.inf),
        ("max-plus", "f4", -math.inf),
        ("min-plus", "i4", 2**31 - 1),
        ("plus-times", "i8", 0),
        ("or-and", "u1", 0),
        ("min-max", "u1", 255),
    ],
)
def test_it_begins_with_the_zero_of_its_semiring(state, name, dtype, zero):
    page = state.create_page(64, merge=name, dtype=dtype)
    assert set(lanes(page)) == {zero}
    assert page.merge == (name, np.dtype(dtype).name) and page.epoch == 0
    assert state.create_page(8).merge is None
    part = state.create_page(64, data=np.ones(8, "u1"), merge=name, dtype=dtype)
    assert part.read()[:8] == b"\1" * 8 and set(lanes(part)[8 // np.dtype(dtype).itemsize :]) == {zero}


def test_a_write_is_joined_with_what_is_there(page):
    delta = page.write(np.array([6.0, 0.0]), at=0)
    assert lanes(page) == [6.0, 1.0, 7.0, 3.0]
    assert all(start < 8 for start, _ in delta.ranges()) and page.epoch == 1
    assert page.write(np.array([6.0, 0.0]), at=0) is None
    assert page.epoch == 1


WRITES = {
    "write": lambda state, page, data: page.write(data),
    "write_in_batch": lambda state, page, data: page.write(data, propagate=False),
    "update_page": lambda state, page, data: state.update_page(page, data),
    "write_many": lambda state, page, data: write_many(state, page, data),
    "create": lambda state, page, data: state.create_page(data=data, merge="max-plus", dtype="f8"),
}


def write_many(state, page, data):
    with state.batch() as batch:
        batch.write_many([page.page_id], 0, 32, data)


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("dtype", ["i8", ">f8"])
def test_arrays_of_another_type_are_refused(state, page, how, dtype):
    write, wrong, seq = WRITES[how], np.full(4, 9).astype(dtype), state.seq
    with pytest.raises(mmsb.MergePageError, match="merges lanes of float64"):
        write(state, page, wrong)
    assert state.seq == seq and lanes(page) == [5.0, 1.0, 7.0, 3.0]
    write(state, page, bytearray(np.full(4, 9.0).tobytes()))
    write(state, page, np.full(4, 11.0))
    assert how == "create" or lanes(page) == [11.0] * 4


def test_assign_overwrites(state, page):
    assert page.assign(np.array([0.0]), at=8, source="x", intent={"a": 1}).source == "x"
    assert page.assign(np.array([0.0]), at=8) is None
    page.assign(b"\0", at=31)
    assert lanes(page)[:3] == [5.0, 0.0, 7.0] and page.read()[31] == 0
    raw = state.create_page(4)
    raw.assign(b"ab", at=1)
    assert raw.read() == b"\0ab\0"
    with pytest.raises(mmsb.PageRangeError):
        raw.assign(b"ab", at=3)


def test_a_batch_merges_one_write_after_another(state, page):
    with state.batch() as batch:
        batch.write(page, np.array([6.0]), at=0)
        assert np.frombuffer(batch.read(page))[0] == 6.0
        batch.write(page, np.array([4.0, 9.0]), at=0)
        assert np.frombuffer(batch.read(page, 0, 16)).tolist() == [6.0, 9.0]
        batch.assign(page, np.array([-1.0]), at=0)
        batch.write(page, np.array([-2.0]), at=0)
        assert np.frombuffer(batch.read("m", 0, 8))[0] == -1.0
    assert lanes(page) == [-1.0, 9.0, 7.0, 3.0]


def test_a_batch_creates_and_fills_one(state):
    with state.batch() as batch:
        page = batch.create_page(16, name="new", merge="min-plus", dtype="f8")
        batch.write(page, np.array([3.0]))
        batch.write("new", np.array([4.0, 5.0]))
        assert np.frombuffer(batch.read(page)).tolist() == [3.0, 5.0]
        batch.resize(page, 24)
        batch.write(page, np.array([1.0]), at=16)
        batch.set_metadata(page, {"a": 1})
        with pytest.raises(mmsb.MergePageError):
            batch.write(page, b"abc")
    assert lanes(page) == [3.0, 5.0, 1.0] and page.metadata["a"] == 1


def test_write_many(state, page):
    other = state.create_page(4)
    payload = np.array([9.0, 0.0]).tobytes() + b"ab" + np.array([8.0]).tobytes()
    with state.batch() as batch:
        batch.write_many([page.id, other.id, page.id], [0, 1, 0], [16, 2, 8], payload)
    assert lanes(page) == [9.0, 1.0, 7.0, 3.0] and other.read() == b"\0ab\0"
    with state.batch() as batch, pytest.raises(mmsb.MergePageError):
        batch.write_many([page.id, page.id], [0, 4], [8, 8], bytes(16))


def test_update(state, page):
    state.update_page(page, np.array([0.0, 2.0, 0.0, 4.0]))
    assert lanes(page) == [5.0, 2.0, 7.0, 4.0]
    page.update(lambda old: (np.frombuffer(old) + [1.0, -1.0, 0.0, 0.0]).tobytes())
    assert lanes(page) == [6.0, 2.0, 7.0, 4.0]
    assert page.update(bytes(32), when=lambda old: False) is None


def test_an_edit_joins_the_lanes_that_differ(page):
    with page.edit("f8") as view:
        view[0], view[1] = 2.0, 4.0
        page.write(np.array([0.0, 0.0, 0.0, 8.0]))
    assert lanes(page) == [5.0, 4.0, 7.0, 8.0]
    with page.edit("f8"):
        pass
    assert page.epoch == 2


def test_a_delta_made_elsewhere_is_an_operand(state, page):
    flags = [1] * 8 + [0] * 16 + [1] * 8
    values = np.array([4.0, 100.0, 100.0, 4.0]).tobytes()
    delta = state.create_delta(page, flags, values)
    state.apply(delta)
    assert lanes(page) == [5.0, 1.0, 7.0, 4.0]
    state.batch_route_deltas([state.create_delta(page, flags, bytes(32)), delta])
    assert lanes(page) == [5.0, 1.0, 7.0, 4.0]
    for wrong in ([1] * 7 + [0] * 25, [0] * 4 + [1] * 8 + [0] * 20, [1] * 8 + [0] * 9 + [1] * 15):
        seq = state.seq
        with pytest.raises(mmsb.MergePageError, match="whole lanes"):
            state.apply(state.create_delta(page, wrong, bytes(32)))
        assert state.seq == seq


@pytest.mark.parametrize(
    "write",
    [
        lambda page: page.write(b"abc"),
        lambda page: page.write(np.ones(1), at=4),
        lambda page: page.write(b"", at=3),
        lambda page: page.write(np.ones(1), if_epoch=0),
        lambda page: page.write(np.ones(1), if_epoch=99, rebase=True),
        lambda page: page.state.apply(mmsb.Delta.from_ranges(page.id, [(0, 8)], bytes(8)), if_epoch=0),
        lambda page: page.resize(12),
        lambda page: page.state.create_page(12, merge="max-plus", dtype="f8"),
        lambda page: page.state.create_page(16, data=b"abc", merge="max-plus", dtype="f8"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(page, write):
    before = page.state.digest(), page.state.seq
    with pytest.raises(mmsb.MergePageError):
        write(page)
    assert (page.state.digest(), page.state.seq) == before


def test_definitions_that_do_not_fit(state):
    with pytest.raises(TypeError):
        state.create_page(8, merge="max-plus")
    with pytest.raises(TypeError):
        state.create_page(8, dtype="f8")
    with pytest.raises(mmsb.UnknownSemiringError):
        state.create_page(8, merge="or-and", dtype="f8")
    with pytest.raises(mmsb.SemiringError):
        state.create_page(8, merge="or-and", dtype="f2")
    with pytest.raises(mmsb.MetadataError):
        state.create_page(8, metadata={"mmsb.merge": "max-plus float64"})
    assert state.seq == 0


def test_metadata_keep_the_rule(page):
    page.metadata = {"a": 1}
    assert dict(page.metadata) == {"a": 1, "mmsb.merge": "max-plus float64"}
    page.metadata = {**page.metadata, "b": 2}
    page.metadata = {}
    assert page.merge == ("max-plus", "float64")
    with pytest.raises(mmsb.MetadataError, match="stays as it is"):
        page.metadata = {"mmsb.merge": "min-plus float64"}


def test_a_resize_adds_zeros_of_the_semiring(page):
    page.resize(48)
    assert lanes(page) == [5.0, 1.0, 7.0, 3.0, -math.inf, -math.inf]
    page.resize(16)
    assert lanes(page) == [5.0, 1.0]


def test_a_clone_merges_too(page):
    clone = page.clone("c")
    clone.write(np.array([6.0]))
    assert clone.merge == page.merge and lanes(clone) == [6.0, 1.0, 7.0, 3.0]


def test_it_feeds_links_and_is_fed_by_none(state, page):
    child = state.create_page(32, name="child")
    state.depend(child, on=page, fn=lambda out, a: out.__setitem__(slice(None), a))
    page.write(np.array([6.0]))
    assert child.read() == page.read()
    with pytest.raises(mmsb.LinkError, match="merge page"):
        state.depend(page, on=state.create_page(32), fn=lambda out, a: None)


def test_it_lives_on(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        page = state.create_page(16, name="m", merge="min-plus", dtype="f8")
        page.write(np.array([3.0]))
        state.checkpoint()
        page.write(np.array([4.0, 4.0]))
        digests = [state.at(seq).digest() for seq in range(state.seq + 1)]
        stepper = state.stepper(0)
        for seq in range(1, state.seq + 1):
            stepper.step()
            assert stepper.digest() == digests[seq]
        for seq in reversed(range(state.seq)):
            stepper.step(-1)
            assert stepper.digest() == digests[seq]
        assert not state.verify().findings
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digests[-1] and state.page("m").merge == ("min-plus", "float64")
        state.compact(before=state.seq)
        fork = state.fork(path=tmp_path / "f")
        fork.page("m").write(np.array([1.0, 9.0]))
        assert lanes(fork.page("m")) == [1.0, 4.0]
        fork.close()
        raw = state.create_page(data=state.page("m").read(), metadata={"k": "v"})
        assert state.page("m").merge is not None and raw.merge is None


def test_a_page_whose_metadata_lost_the_rule_is_read_and_not_written(state, page):
    state._metadata[page.id] = b"\0"
    assert page.read()
    with pytest.raises(mmsb.MergePageError, match="do not say how"):
        page.write(np.ones(1))
    with pytest.raises(mmsb.MergePageError), state.batch() as batch:
        batch.write(page, np.ones(1))


def test_pages_of_many_semirings(state):
    pages = [
        state.create_page(8, merge=name, dtype=dtype) for name, dtype in mmsb.Semirings().names() for _ in range(3)
    ]
    for page in pages:
        page.write(np.ones(1, "u8").tobytes())
    assert len({page.merge for page in pages}) == len(pages) // 3


def test_a_kind_of_page_that_there_is_not(state):
    with pytest.raises(mmsb.PageSizeError):
        state._load_page(99, 8, 0, 2)


def test_a_merge_page_larger_than_max_bytes_is_refused_before_its_bytes_are_made():
    with mmsb.open(max_bytes=1 << 20) as state:
        page = state.create_page(64, merge="max-plus", dtype="i8")
        for call in (
            lambda: page.resize(1 << 30),
            lambda: state.create_page(1 << 30, merge="max-plus", dtype="i8"),
        ):
            begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(mmsb.ArenaFullError) as caught:
                call()
            assert caught.value.facts["max_bytes"] == 1 << 20
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin < 1 << 16
        assert (state.seq, page.size) == (1, 64)
