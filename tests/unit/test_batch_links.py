"""Batches that link pages: with everything else in them, or not at all."""

import threading

import pytest

import mmsb
from mmsb import links
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
    return state.seq, state.digest(), [edge[:3] for edge in graph.edges()], graph.order(), dict(state._links.table)


def test_pages_are_made_written_and_linked_in_one_commit(state, tmp_path):
    before = state.seq
    with state.batch(label="all") as batch:
        parent, child, below = (batch.create_page(8) for _ in range(3))
        batch.depend(child, on=[parent, "a"], link=links.semiring("plus-times", "uint8"))
        batch.depend(below, on=child, fn=lambda out, above: bytes(above)[::-1])
        batch.depend("b", on=below, kind="control")
        batch.depend("b", on=parent, kind="control")
        batch.write(parent, b"\1\2")
        batch.write("a", b"\1")
        assert not state.graph.edges()
    assert (batch.seq, state.seq) == (before + 1, before + 2)  # one commit and its wave
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


def test_a_batch_tells_its_listeners_of_edges(state):
    log = EventLog(state, "edge_added", "edge_removed")
    with state.batch() as batch:
        batch.depend("b", on="a", link=links.passthrough())
    with state.batch() as batch:
        batch.undepend("b")
    assert [entry[1:] for entry in log.take()] == [("edge_added", 2), ("edge_removed", 2)]
