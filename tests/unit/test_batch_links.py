"""Batches that link pages: with everything else in them, or not at all."""

import errno
import threading

import pytest

import mmsb
from mmsb import links
from mmsb._core.files import Files
from mmsb.testing import EventLog


@pytest.fixture
def state(tmp_path):
    with mmsb.open(tmp_path / "store") as state:
        for name in "abcd":
            state.create_page(8, name=name)
        yield state
        assert not state.verify(recompute=True).findings


def picture(state):
    graph = state.graph
    edges = [edge[:3] for edge in graph.edges()]
    return state.seq, state.digest(), edges, graph.order(), dict(state._links.table), state._engine.pending


def test_pages_are_made_written_and_linked_in_one_commit(state, tmp_path):
    before = state.seq
    with state.batch(label="all", source="here") as batch:
        parent, child, below = (batch.create_page(8) for _ in range(3))
        batch.depend(child, on=[parent, "a"], link=links.semiring("plus-times", "uint8"))
        batch.depend(below, on=child, fn=lambda out, above: bytes(above)[::-1])
        batch.depend("b", on=below, kind="control")
        batch.depend("b", on=parent, kind="control")
        batch.write(parent, b"\1\2")
        batch.write("a", b"\1")
        assert not state.graph.edges()
    assert (batch.seq, state.seq) == (before + 1, before + 2)  # one commit and its wave
    commit, wave = state.log(since=batch.seq)
    assert (commit.label, commit.source, wave.cause) == ("all", "here", batch.seq)
    assert child.read(0, 2) == b"\2\2" and below.read(6) == b"\2\2"
    with pytest.raises(mmsb.StalePageError):
        state.page("b").read()
    parent.write(b"\7")
    assert child.read(0, 1) == b"\10" == below.read(7)
    with mmsb.open(tmp_path / "store", read_only=True) as reader:
        assert len(reader.graph.edges()) == 5 and reader.digest() == state.digest()
    with pytest.raises(mmsb.DerivedPageError):
        child.write(b"no")


def test_links_alone_are_computed_too(state):
    state.page("a").write(b"12345678")
    with state.batch() as batch:
        batch.depend("b", on="a", link=links.passthrough())
        batch.depend("c", on="b", link=links.passthrough())
    assert state.page("c").read() == b"12345678"
    with state.batch() as batch:
        batch.undepend("c")
        batch.depend("d", on="c", link=links.passthrough())
    assert state.page("d").read() == b"12345678"
    state.page("a").write(b"new")
    assert state.page("b").read(0, 3) == b"new" and state.page("d").read(0, 3) == b"123"
    state.page("c").write(b"abc")
    assert state.page("d").read(0, 3) == b"abc"


def test_without_a_wave_the_children_are_stale(state):
    with state.batch(propagate=False) as batch:
        batch.write("a", b"1")
        batch.depend("b", on="a", link=links.passthrough())
    assert state.page("b").stale
    state.propagate()
    assert state.page("b").read(0, 1) == b"1"
    for policy in ("lazy", "deferred"):
        state.undepend("b")
        state.policy = policy
        with state.batch() as batch:
            batch.depend("b", on="a", link=links.passthrough())
        assert state.page("b").stale
        state.propagate()
        assert not state.page("b").stale
    state.policy = None


def test_a_page_is_written_before_it_is_linked_and_after_its_link_has_gone(state):
    with state.batch() as batch:
        batch.write("b", b"before")
        batch.depend("b", on="a", link=links.copy([(0, 0, 0, 2)]))
    assert state.page("b").read() == b"\0\0fore\0\0"
    with state.batch() as batch:
        batch.undepend("b")
        batch.write("b", b"after")
        batch.resize("b", 9)
    assert state.page("b").read() == b"aftere\0\0\0" and not state.graph.edges()


def test_pages_are_deleted_with_the_links_between_them(state):
    for parent in "ab":
        state.depend("c", on=parent, kind="control")
    state.depend("d", on="a", link=links.passthrough())
    with state.batch() as batch:
        for name in "adb":
            batch.delete_page(name, detach=True)
    assert [page.name for page in state.pages()] == ["c"] and not state.graph.edges() and not state.page("c").stale


def test_a_commit_that_is_tried_again_links_once(state):
    epoch = state.page("c").epoch
    state.page("c").write(b"x", at=7)
    with state.batch() as batch:
        batch.depend("b", on="c", link=links.passthrough())
        batch.write("c", b"rebased", if_epoch=epoch, rebase=True)
    assert state.page("b").read() == b"rebasedx" and len(state.graph) == 1


def test_a_full_disk_takes_the_links_back(tmp_path):
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        state.create_page(8, name="a")
        state.create_page(8, name="b")
        before = picture(state)
        batch = state.batch()
        batch.depend("b", on="a", link=links.passthrough())
        batch.create_page(data=bytes(range(1, 251)) * 20)
        files.arm("fallocate", 1, "fail", errno.ENOSPC)
        with pytest.raises(mmsb.StoreFullError):
            batch.commit()
        files.arm("fallocate", 0)
        assert picture(state) == before
        with state.batch() as batch:  # the same, in another segment
            batch.depend("b", on="a", link=links.passthrough())
            batch.create_page(data=bytes(range(1, 251)) * 20)
        assert state.graph.has_edge("a", "b") and not state.verify(recompute=True).findings


def cycle(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.depend("c", on="b", link=links.passthrough())
    batch.depend("a", on="c", kind="control")


def turned(batch):
    batch.undepend("d", kind="control")
    batch.depend("a", on="d", kind="control")


def resized(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.resize("a", 16)


def deleted(batch):
    batch.depend("b", on="c", link=links.passthrough())
    batch.delete_page("c")


def conflict(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.write("c", b"x", if_epoch=77)


def interrupted(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.undepend("d", kind="control")
    raise KeyError


def twice(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.depend("b", on="c", link=links.passthrough())


def back_and_forth(batch):
    batch.undepend("d", kind="control")
    batch.depend("d", on="a", kind="control")


def merged(batch):
    page = batch.create_page(8, merge="max-plus", dtype="int64")
    batch.depend(page, on="a", link=links.passthrough())


def written_after(batch):
    batch.depend("b", on="a", link=links.passthrough())
    batch.write("b", b"no")


def same_edge(batch):
    batch.depend("d", on="a", kind="control")


WRONG = {
    cycle: mmsb.GraphCycleError,
    turned: mmsb.GraphCycleError,
    resized: mmsb.LinkError,
    deleted: mmsb.PageNotFoundError,
    conflict: mmsb.ConflictError,
    interrupted: KeyError,
    twice: mmsb.LinkError,
    back_and_forth: mmsb.LinkError,
    merged: mmsb.LinkError,
    written_after: mmsb.DerivedPageError,
    same_edge: mmsb.EdgeExistsError,
    lambda batch: batch.depend("b", on="a"): mmsb.LinkError,
    lambda batch: batch.depend("b", on=[], link=links.passthrough()): mmsb.LinkError,
    lambda batch: batch.depend("b", on="a", fn=print, dtype="uint8", shape=(9,)): mmsb.LinkError,
    lambda batch: batch.depend("b", on=99, link=links.passthrough()): mmsb.PageNotFoundError,
    lambda batch: batch.undepend("b"): mmsb.EdgeNotFoundError,
    lambda batch: batch.undepend("d", on="b", kind="control"): mmsb.EdgeNotFoundError,
}


@pytest.mark.parametrize("stage", WRONG)
def test_what_does_not_hold_changes_nothing(state, stage):
    state.depend("d", on="a", kind="control")
    before = picture(state)
    with pytest.raises(WRONG[stage]), state.batch() as batch:
        batch.write("c", b"other")
        stage(batch)
    assert picture(state) == before and batch.seq is None
    state.depend("b", on="a", link=links.passthrough())  # nothing is left behind that hinders


def test_a_link_that_came_from_elsewhere_meanwhile(state):
    batch = state.batch()
    batch.depend("b", on="a", link=links.passthrough())
    thread = threading.Thread(target=state.depend, args=("b", "c"), kwargs={"link": links.passthrough()})
    thread.start()
    thread.join()
    before = picture(state)
    with pytest.raises(mmsb.LinkError):
        batch.commit()
    assert picture(state) == before
    with pytest.raises(mmsb.LinkError), state.batch() as batch:
        batch.depend("b", on="c", link=links.passthrough())


def test_a_link_that_went_meanwhile(state):
    state.depend("b", on="a", link=links.passthrough())
    batch = state.batch()
    batch.undepend("b")
    state.undepend("b")
    before = picture(state)
    with pytest.raises(mmsb.EdgeNotFoundError):
        batch.commit()
    assert picture(state) == before


def test_a_merge_page_is_refused_when_it_is_staged(state):
    state.create_page(8, name="m", merge="max-plus", dtype="int64")
    batch = state.batch()
    with pytest.raises(mmsb.LinkError, match="merge page"):
        batch.depend("m", on="a", link=links.passthrough())
    batch.discard()


def test_a_batch_tells_its_listeners_of_edges(state):
    log = EventLog(state, "edge_added", "edge_removed")
    with state.batch() as batch:
        batch.depend("b", on="a", link=links.passthrough())
    with state.batch() as batch:
        batch.undepend("b")
    assert [entry[1:] for entry in log.take()] == [("edge_added", 2), ("edge_removed", 2)]
