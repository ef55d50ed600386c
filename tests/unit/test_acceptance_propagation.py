"""The black-box acceptance list, points 20 to 30: the graph and propagation, through the public face."""

import random
import shutil
import threading

import numpy
import pytest

import mmsb
from mmsb import links
from mmsb.testing.model import picture_of


@pytest.fixture(params=["memory", "stored"])
def state(request, tmp_path):
    """A State of each kind; when the test is over it is verified, and everything in it computed once more."""
    with mmsb.open(tmp_path / "store" if request.param == "stored" else None) as state:
        yield state
        assert not state.verify(recompute=True).findings


def unchanged(state):
    """What a rejected change must leave as it was, down to the bytes of the log."""
    graph = state.graph
    return state.seq, state.digest(), state.stats()["log"]["bytes"], graph.edges(), graph.order(), graph.levels()


def doubled(out, parent):
    out[:] = bytes(value * 2 % 256 for value in parent)


def wave_pages(state, seq):
    """Pages that the wave at `seq` changed, in its order."""
    commit = next(state.log(since=seq, until=seq))
    assert commit.cause == seq - 1
    return [delta.page_id for delta in commit.deltas]


def test_acceptance_20_graph(state):
    a, b, c, d = (state.create_page(8, name=name) for name in "abcd")
    state.depend(b, on=a, link=links.passthrough())
    state.depend(b, on=a, kind="control")
    state.depend(c, on=[a, b], link=links.semiring("max-times", "uint8"))
    state.depend(d, on=[c], kind="device")
    graph = state.graph
    assert graph.parents(c) == [1, 2] and graph.children("a", "data") == [2, 3] and graph.children(a, "control") == [2]
    assert graph.order() == [1, 2, 3, 4] and graph.levels() == [[1], [2], [3], [4]]
    before = unchanged(state)
    for child, parent in ((a, a), (a, d), (b, c)):
        with pytest.raises(mmsb.GraphCycleError) as caught:
            state.depend(child, on=parent, kind="compiler")
        assert child.page_id in caught.value.cycle
    with pytest.raises(mmsb.EdgeExistsError):
        state.depend(b, on=a, kind="control")
    with pytest.raises(mmsb.PageHasEdgesError):
        state.delete_page(c)
    assert unchanged(state) == before
    state.undepend(b, kind="control")
    with pytest.raises(mmsb.EdgeNotFoundError):
        state.undepend(b, kind="control")
    assert [edge[:3] for edge in state.graph.edges()] == [
        (1, 2, "data"),
        (1, 3, "data"),
        (2, 3, "data"),
        (3, 4, "device"),
    ]
    assert [commit.seq for commit in state.log(kind="unlink")] == [state.seq]
    assert [edge[:3] for edge in state.at(before[0]).graph.edges()] == [edge[:3] for edge in before[3]]
    state.delete_page(c, detach=True)
    assert [edge[:3] for edge in state.graph.edges()] == [(1, 2, "data")] and state.graph.order() == [1, 2]


def test_acceptance_21_single_hop(state):
    a, b = state.create_page(1024, name="a"), state.create_page(1024, name="b")
    state.depend("b", on="a", link=links.passthrough())
    a.write(b"hop", at=1000)
    assert b[1000:1003] == b"hop" and b.epoch == 1 and wave_pages(state, state.seq) == [b.page_id]


def test_acceptance_21_chain_of_ten(state):
    pages = [state.create_page(16) for _ in range(10)]
    for parent, child in zip(pages, pages[1:], strict=False):
        state.depend(child, on=parent, fn=doubled)
    pages[0].write(b"\1", at=3)
    assert [page[3] for page in pages] == [2**n % 256 for n in range(10)]
    assert wave_pages(state, state.seq) == [page.page_id for page in pages[1:8]]  # 2**8 is 0 in a byte


def test_acceptance_21_chain_of_a_hundred_thousand():
    count = 100_000
    with mmsb.open() as state:
        ids = state.create_pages(count, 8)
        state.depend_many(list(ids)[:-1], list(ids)[1:], semiring="max-times", dtype="int64")
        seq = state.seq
        state.page(ids[0]).write((7).to_bytes(8, "little"))
        assert state.seq == seq + 2
        assert {state.page(page_id).read() for page_id in ids} == {(7).to_bytes(8, "little")}
        assert wave_pages(state, state.seq) == list(ids)[1:]


def test_acceptance_21_fan_out_of_ten_thousand(state):
    source, *ids = state.create_pages(10_001, 64)
    state.depend_many([source] * len(ids), ids, semiring="max-times", dtype="uint8")
    state.page(source).write(b"fan")
    assert {state.page(page_id)[0:3] for page_id in ids} == {b"fan"}
    assert wave_pages(state, state.seq) == ids


def test_acceptance_21_diamond_is_computed_exactly_once(state):
    calls = []

    def sum_of(out, *parents):
        calls.append(len(parents))
        out[:] = bytes(sum(values) % 256 for values in zip(*parents, strict=True))

    top, left, right, bottom = (state.create_page(4) for _ in range(4))
    state.depend(left, on=top, fn=doubled)
    state.depend(right, on=top, fn=doubled)
    state.depend(bottom, on=[left, right], fn=sum_of)
    calls.clear()
    top.write(b"\5")
    assert calls == [2] and bottom[0] == 20 and wave_pages(state, state.seq) == [2, 3, 4]


def test_acceptance_22_deferred_and_batch(state):
    calls = []

    def counted(out, parent):
        calls.append(bytes(parent))
        out[:] = parent

    a, b = state.create_page(4), state.create_page(4)
    state.depend(b, on=a, fn=counted)
    calls.clear()
    with state.deferred():
        for value in b"123":
            a.write(bytes([value]))
        with pytest.raises(mmsb.StalePageError):
            b.read()
        state.stale_reads = True
        assert b.read() == bytes(4)
        state.stale_reads = False
    assert calls == [b"3\0\0\0"] and b.read() == b"3\0\0\0"
    with state.batch() as batch:
        batch.write(a, b"x")
        batch.write(a, b"y", at=1)
    assert calls[1:] == [b"xy\0\0"] and b.read() == b"xy\0\0"
    seq = state.seq
    with state.deferred(), state.deferred():
        a.write(b"z")
    assert state.seq == seq + 2 and b[0] == ord("z")


def test_acceptance_23_stale_marks(state):
    a, b, watched = (state.create_page(4, name=name) for name in ("a", "b", "watched"))
    state.depend(b, on=a, link=links.passthrough())
    state.depend(watched, on=b, kind="control")
    a.write(b"new")
    assert b[0:3] == b"new"
    with pytest.raises(mmsb.StalePageError) as caught:
        watched.read()
    assert caught.value.page_id == watched.page_id
    watched.write(b"done")  # who writes it says that it is up to date
    assert watched.read() == b"done"
    with state.deferred():
        a.write(b"old")
        with pytest.raises(mmsb.StalePageError):
            b.read()
    assert b[0:3] == b"old"


def test_acceptance_23_flags_and_events_of_the_other_edges(state):
    told = []
    a, gpu, ir = (state.create_page(4, name=name) for name in ("a", "gpu", "ir"))
    state.depend(gpu, on=a, kind="device")
    state.depend(ir, on=a, kind="compiler")
    state.subscribe(("device_sync_needed", "page_invalidated", "page_stale"), told.append)
    a.write(b"new")
    assert {(event.kind, event.page_id, event.parent) for event in told} == {
        ("device_sync_needed", gpu.page_id, a.page_id),
        ("page_invalidated", ir.page_id, a.page_id),
    }
    assert not gpu.stale and gpu.read() == ir.read() == bytes(4)  # listeners are told, and nothing else


def test_acceptance_24_a_function_runs_again_on_each_change(state):
    seen = []

    def record(out, *parents):
        seen.append([bytes(parent) for parent in parents])
        out[0:1] = bytes([len(seen)])

    a, b, child = (state.create_page(1) for _ in range(3))
    state.depend(child, on=[a, b], fn=record)
    for page, value in ((a, b"1"), (b, b"2"), (a, b"3"), (a, b"3")):
        page.write(value)
    assert seen == [[b"\0", b"\0"], [b"1", b"\0"], [b"1", b"2"], [b"3", b"2"]] and child.read() == b"\4"
    state.undepend(child)
    state.depend(child, on=[a, b], fn=lambda out, *parents: parents[0])  # for verify: a pure one


def test_acceptance_25_unchanged_parents_are_skipped(state):
    calls = []

    def parity(out, parent):
        calls.append("parity")
        out[:] = bytes([parent[0] % 2])

    def child_of_parity(out, parent):
        calls.append("child")
        out[:] = parent

    a, b, c = (state.create_page(1) for _ in range(3))
    state.depend(b, on=a, fn=parity)
    state.depend(c, on=b, fn=child_of_parity)
    calls.clear()
    a.write(b"\2")
    assert calls == ["parity"]  # it came out as it was: the wave ends there
    with state.deferred():
        a.write(b"\3")
        a.write(b"\2")
    assert calls == ["parity"] * 2
    state.propagate()
    assert calls == ["parity"] * 2
    state.depend(b, on=a, fn=parity)  # registered again: it runs
    assert calls == ["parity"] * 3
    before = unchanged(state)
    with pytest.raises(mmsb.LinkError):
        state.depend(b, on=c, fn=parity)
    with pytest.raises(mmsb.LinkError):
        state.depend(b, on=[a, a], fn=parity)
    assert unchanged(state) == before


def test_acceptance_26_subscriptions(state):
    kept, ended = [], []
    a, b = state.create_page(4, name="a"), state.create_page(4, name="b")

    def raising(event):
        raise RuntimeError("a bad handler")

    def once(event):
        ended.append(event.seq)
        subscription.close()

    bad = state.subscribe("page_changed", raising)
    subscription = state.subscribe("page_changed", once)
    state.subscribe("page_changed", kept.append, pages=["a"], source="me")
    a.write(b"1", source="me")
    a.write(b"2", source="you")
    b.write(b"3", source="me")
    a.write(b"4", source="me")
    assert [(event.page_id, event.source) for event in kept] == [(a.page_id, "me")] * 2
    assert ended == [kept[0].seq] and subscription.closed
    assert bad.failures == 4 and str(bad.last_error) == "a bad handler" and not bad.closed
    assert state.stats()["events"]["failures"] == 4


def test_acceptance_26_nothing_is_shared_between_states():
    with mmsb.open() as one, mmsb.open() as other:
        for state in (one, other):
            state.create_pages(2, 4)
        one.depend(2, on=1, link=links.passthrough())
        for state in (one, other):
            state.page(1).write(b"only")
        assert one.page(2).read() == b"only" and other.page(2).read() == bytes(4) and not len(other.graph)


def test_acceptance_27_statistics_are_exact(state):
    a, b, c = (state.create_page(1) for _ in range(3))
    state.depend(b, on=a, link=links.passthrough())
    state.depend(c, on=b, link=links.passthrough())
    engine = state._engine
    waves, computed, deltas = engine.waves, engine.computed, state.stats()["commits"]["deltas"]
    for value in b"123":
        a.write(bytes([value]))
    assert (engine.waves - waves, engine.computed - computed) == (3, 6)
    assert state.stats()["commits"]["deltas"] - deltas == 9
    assert sum(1 for _ in state.log(kind="wave")) == engine.waves


def test_acceptance_28_kinds_of_errors(state):
    a, b = state.create_page(4), state.create_page(4)
    before = unchanged(state)
    wrong = [
        (mmsb.PageNotFoundError, lambda: state.depend(b, on=99, link=links.passthrough())),
        (mmsb.PageNotFoundError, lambda: state.depend("nobody", on=a, link=links.passthrough())),
        (mmsb.GraphCycleError, lambda: state.depend(a, on=a, link=links.passthrough())),
        (mmsb.PluginError, lambda: state.depend(b, on=a, link=links.semiring("plus-plus", "uint8"))),
        (mmsb.SemiringError, lambda: state.depend(b, on=a, link=links.semiring("plus-times", "uint16"))),
        (mmsb.LinkError, lambda: state.depend(b, on=a, link=links.semiring("plus-times", "float64"))),
        (mmsb.LinkError, lambda: state.depend(b, on=[], link=links.passthrough())),
        (mmsb.LinkError, lambda: state.depend(b, on=a)),
        (ValueError, lambda: state.depend(b, on=a, fn=doubled, kind="friend")),
        (TypeError, lambda: state.depend(b, on=a, fn="doubled")),
        (mmsb.EdgeNotFoundError, lambda: state.undepend(b)),
    ]
    for kind, call in wrong:
        with pytest.raises(kind):
            call()
        assert unchanged(state) == before
    state.depend(b, on=a, link=links.passthrough())
    with pytest.raises(mmsb.DerivedPageError):
        b.write(b"mine")


def test_acceptance_29_threads(state):
    sources = [state.create_page(8) for _ in range(4)]
    total, copy = state.create_page(8), state.create_page(8)
    state.depend(total, on=sources, link=links.semiring("plus-times", "int64"))
    state.depend(copy, on=total, fn=lambda out, parent: parent)
    created = []

    def work(page):
        for value in range(1, 101):
            page.write(value.to_bytes(8, "little"))
            created.append(state.create_page(1).page_id)

    threads = [threading.Thread(target=work, args=(page,)) for page in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(created)) == 400
    assert int.from_bytes(total.read(), "little") == 400 == int.from_bytes(copy.read(), "little")
    assert all(page.epoch == 100 for page in sources)


def test_acceptance_30_semirings_along_edges(state, rng):
    """Every order of writes leaves the same bytes behind where ⊕ is associative and commutative."""
    ids = list(state.create_pages(5, 64))
    for n, (name, dtype) in enumerate((("min-plus", "int64"), ("bit-union", "uint8"), ("plus-times", "int32"))):
        child = state.create_page(64)
        weights = [1] * 4 if name == "plus-times" else None
        state.depend(child, on=ids[:4], link=links.semiring(name, dtype, weights))
        ids.append(child.page_id)
        assert n == len(ids) - 6
    contents = [rng.randbytes(64) for _ in range(4)]
    results = set()
    for _ in range(6):
        order = list(range(4))
        rng.shuffle(order)
        for place in order:
            state.page(ids[place]).write(rng.randbytes(64))
        for place in order:
            state.page(ids[place]).write(contents[place])
        results.add(tuple(state.page(page_id).read() for page_id in ids[5:]))
    assert len(results) == 1
    arrays = [numpy.frombuffer(content, "int64") for content in contents]
    assert results.pop()[0] == numpy.minimum.reduce(arrays).tobytes()


def test_a_crash_between_a_commit_and_its_wave_is_known(tmp_path):
    state = mmsb.open(tmp_path / "store")
    a, b = state.create_page(4, name="a"), state.create_page(4, name="b")
    state.depend(b, on=a, link=links.passthrough())
    with state.deferred():
        a.write(b"new")
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    state.close()
    with mmsb.open(tmp_path / "crashed", read_only=True) as reader, pytest.raises(mmsb.StalePageError):
        reader.page("b").read()
    with mmsb.open(tmp_path / "crashed") as state:
        with pytest.raises(mmsb.StalePageError):
            state.page("b").read()
        assert state.propagate() == 1 and state.page("b").read() == b"new\0"
    with mmsb.open(tmp_path / "crashed") as state:
        assert state.page("b").read() == b"new\0" and not state.verify(recompute=True).findings


def test_any_history_replays_without_user_code(state, rng):
    pages = [state.create_page(8) for _ in range(12)]
    for child in pages[4:]:
        state.depend(
            child, on=random.Random(child.page_id).sample(pages[: child.page_id - 1], 2), fn=lambda out, a, b: a
        )
    seen = {}
    for _ in range(40):
        rng.choice(pages[:4]).write(rng.randbytes(3), at=rng.randrange(5))
        seen[state.seq] = picture_of(state), state.digest()
    for seq, (picture, digest) in seen.items():
        assert (picture_of(state.at(seq)), state.at(seq).digest()) == (picture, digest)
