"""Pages: creating, reading, writing, views, edits, resizing, deleting."""

import gc
import sys

import numpy
import pytest

import mmsb


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


def test_new_page_is_zero(state):
    page = state.create_page(1000, name="a")
    assert page.read() == bytes(1000)
    assert (page.page_id, page.id, page.name, page.size, page.epoch, page.location) == (1, 1, "a", 1000, 0, "cpu")
    assert state.seq == 1 and len(state.pages()) == 1 and state.page("a") == page == state.page(1)


def test_initial_bytes_keep_epoch_zero(state):
    page = state.create_page(8, data=b"abc")
    assert page.read() == b"abc\0\0\0\0\0" and page.epoch == 0
    assert state.create_page(data=b"xyz").size == 3


def test_write_returns_the_exact_delta(state):
    page = state.create_page(4096)
    page.write(b"hello world", at=100)
    delta = page.write(b"hallo werld", at=100, source="tester", intent={"why": "typo", "n": 3})
    assert delta.ranges() == [(101, 1), (107, 1)] and delta.values == b"ae"
    assert (delta.page_id, delta.epoch, delta.seq, delta.index, delta.source) == (1, 2, 3, 0, "tester")
    assert delta.intent == {"why": "typo", "n": 3} and delta.nbytes == 2 and delta.timestamp_ns > 0
    mask = numpy.unpackbits(numpy.frombuffer(delta.mask, "u1"), bitorder="little")
    assert list(numpy.flatnonzero(mask)) == [101, 107]


def test_equal_write_makes_no_commit(state):
    page = state.create_page(64, data=b"same")
    assert page.write(b"same") is None and page.write(b"") is None
    assert state.seq == 1 and page.epoch == 0


@pytest.mark.parametrize("make", [bytearray, memoryview, lambda b: numpy.frombuffer(b, "u1"), lambda b: b])
def test_any_bytes_like(state, make):
    page = state.create_page(16)
    assert page.write(make(b"0123456789"), at=3).nbytes == 10
    assert page[3:13] == b"0123456789"


def test_two_dimensional_contiguous_arrays(state):
    page = state.create_page(48)
    page.write(numpy.arange(12, dtype="i4").reshape(3, 4))
    assert (page.view("i4", (3, 4)) == numpy.arange(12).reshape(3, 4)).all()


def test_slices_clip_like_bytes(state):
    page = state.create_page(10, data=b"0123456789")
    content = b"0123456789"
    for key in (slice(2, 5), slice(-3, None), slice(None, None, 2), slice(8, 100), slice(5, 2), slice(None, None, -1)):
        assert page[key] == content[key]
    assert page[3] == ord("3") and page[-1] == ord("9") and len(page) == 10 and bytes(page) == content


def test_read_into(state):
    page = state.create_page(10, data=b"0123456789")
    target = bytearray(4)
    assert page.read_into(target, at=3) == 4 and target == b"3456"
    with pytest.raises(mmsb.PageRangeError):
        page.read_into(bytearray(11))
    with pytest.raises(BufferError):
        page.read_into(b"read-only")


def test_view_is_live_read_only_and_outlives_the_page(state):
    page = state.create_page(64, data=bytes(range(64)))
    view = page.view("u4")
    assert not view.flags.writeable
    page.write(b"\xff\xff\xff\xff")
    assert view[0] == 0xFFFFFFFF
    page.delete()
    others = [state.create_page(64, data=b"x" * 64) for _ in range(20)]
    assert view[0] == 0xFFFFFFFF and bytes(view)[4:] == bytes(range(4, 64))
    assert all(other.read() == b"x" * 64 for other in others)


def test_view_is_frozen_by_resize(state):
    page = state.create_page(64, data=b"a" * 64)
    view = page.view()
    page.resize(128)
    page.write(b"b" * 128)
    assert bytes(view) == b"a" * 64 and page.read() == b"b" * 128
    assert state._check() is None


def test_views_survive_close():
    state = mmsb.open()
    view = state.create_page(64, data=b"a" * 64).view()
    state.close()
    del state
    assert bytes(view) == b"a" * 64


def test_resize(state):
    page = state.create_page(10, data=b"0123456789")
    page.resize(4)
    assert page.read() == b"0123" and page.epoch == 1
    page.resize(8)
    assert page.read() == b"0123\0\0\0\0" and page.epoch == 2


def test_edit_commits_only_what_differs(state):
    page = state.create_page(4096)
    with page.edit("float32") as v:
        v[10:12] += 1
    assert page.epoch == 1 and page.view("f4")[11] == 1
    with page.edit() as raw:
        raw[0] = 7
    assert page[0] == 7
    with page.edit("float32") as v:
        v += 0
    assert page.epoch == 2
    with pytest.raises(ZeroDivisionError), page.edit() as raw:
        raw[0] = 9
        raise ZeroDivisionError
    assert page[0] == 7


def test_edit_keeps_what_others_wrote_elsewhere(state):
    page = state.create_page(100)
    with page.edit() as raw:
        raw[0:4] = b"mine"
        page.write(b"theirs", at=50)
    assert page[0:4] == b"mine" and page[50:56] == b"theirs"


def test_edit_conflict_names_ranges_and_deltas(state):
    page = state.create_page(100)
    with pytest.raises(mmsb.ConflictError) as caught, page.edit() as raw:
        raw[0:10] = b"0123456789"
        theirs = page.write(b"XY", at=4)
    error = caught.value
    assert error.overlaps == [(4, 6)] and error.deltas == [theirs] and (error.expected_epoch, error.epoch) == (0, 1)
    assert page[0:10] == b"\0\0\0\0XY\0\0\0\0" and isinstance(error, RuntimeError)


def test_if_epoch(state):
    page = state.create_page(100)
    page.write(b"a")
    assert page.write(b"b", if_epoch=1).epoch == 2
    with pytest.raises(mmsb.ConflictError):
        page.write(b"c", at=50, if_epoch=1)
    assert page.write(b"c", at=50, if_epoch=1, rebase=True).epoch == 3
    with pytest.raises(mmsb.ConflictError) as caught:
        page.write(b"d", at=50, if_epoch=1, rebase=True)
    assert caught.value.overlaps == [(50, 51)]
    seq = state.seq
    with pytest.raises(mmsb.ConflictError):
        page.write(b"d", if_epoch=99, rebase=True)
    assert state.seq == seq and page.write(b"c", at=50, if_epoch=3) is None


def test_if_epoch_after_resize_conflicts(state):
    page = state.create_page(100)
    page.resize(200)
    with pytest.raises(mmsb.ConflictError):
        page.write(b"x", if_epoch=0, rebase=True)


def test_update_with_function_and_predicate(state):
    page = state.create_page(8, data=b"\1")
    assert page.update(lambda old: bytes([old[0] + 1]) + old[1:]).values == b"\2"
    assert page.update(bytes(8), when=lambda old: old[0] == 99) is None and page[0] == 2
    assert page.update(lambda old: None) is None
    with pytest.raises(mmsb.InvalidDeltaError):
        page.update(b"short")


def test_update_page_and_query_page(state):
    page = state.create_page(1024)
    content = bytearray(1024)
    content[::100] = b"\7" * 11
    delta = state.update_page(page, bytes(content), source="api")
    assert delta.nbytes == 11 and state.query_page(1) == bytes(content)
    assert state.update_page(1, bytes(content)) is None
    with pytest.raises(mmsb.InvalidDeltaError):
        state.update_page(1, b"short")
    assert state.query_page(1) == bytes(content)


def test_names_and_metadata(state):
    a = state.create_page(8, name="a", metadata={"k": b"v", "n": 1, "f": 1.5, "t": "x", "b": True})
    assert dict(a.metadata) == {"k": b"v", "n": 1, "f": 1.5, "t": "x", "b": True}
    assert a.metadata["b"] is True and a.metadata["n"] is not True
    with pytest.raises(TypeError):
        a.metadata["k"] = b"no"
    a.metadata = {"only": "this"}
    assert dict(a.metadata) == {"only": "this"}
    a.rename("z")
    assert state.page("z") == a and a.name == "z"
    with pytest.raises(mmsb.PageNotFoundError):
        state.page("a")
    b = state.create_page(8, name="a")
    with pytest.raises(mmsb.DuplicateNameError) as caught:
        b.rename("z")
    assert caught.value.page_id == a.page_id and b.name == "a"
    a.rename(None)
    b.rename("z")
    assert a.name is None and state.page("z") == b


def test_ids_are_never_reused(state):
    a = state.create_page(8)
    a.delete()
    assert state.create_page(8).page_id == 2
    with pytest.raises(mmsb.PageNotFoundError):
        a.read()
    assert "PageNotFoundError" in repr(a)


def test_clone(state):
    a = state.create_page(8, data=b"abc", name="a", metadata={"x": 1})
    b = a.clone(name="b")
    assert b.read() == a.read() and dict(b.metadata) == {"x": 1} and b.epoch == 0 and b.page_id != a.page_id


def test_write_from_the_pages_own_view(state):
    page = state.create_page(64, data=bytes(range(64)))
    page.write(page.view()[0:32], at=16)
    assert page.read() == bytes(range(16)) + bytes(range(32)) + bytes(range(48, 64))


def test_garbage_of_a_state_and_its_views_goes_quietly(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    for _ in range(20):
        state = mmsb.open()
        held = {"state": state, "view": state.create_page(64).view()}
        held["itself"] = held
        del state, held
    gc.collect()
    assert unraisable == []
