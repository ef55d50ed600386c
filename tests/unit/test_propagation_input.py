"""Links and functions that make no sense or mean harm: a typed error or a stale page, and nothing else changed."""

import sys

import numpy
import pytest

import mmsb
from mmsb import links


@pytest.fixture
def state(tmp_path):
    with mmsb.open(tmp_path / "store") as state:
        for name, size in (("a", 8), ("b", 8), ("c", 8), ("odd", 7), ("lane", 4)):
            state.create_page(size, name=name)
        yield state
        assert not state.verify().findings


def picture(state):
    """What a refused call must leave as it was."""
    graph = state.graph
    rows = [graph.edges(), graph.order(), graph.to_json()]
    return state.seq, state.digest(), state.stats()["log"]["bytes"], rows, dict(state._links.table)


NONSENSE = {
    "no whole lanes": (mmsb.LinkError, "odd", "a", {"link": links.semiring("plus-times", "float32")}),
    "parent of another size": (mmsb.LinkError, "a", ["b", "lane"], {"link": links.semiring("plus-times", "int32")}),
    "child of another size": (mmsb.LinkError, "lane", "a", {"link": links.passthrough()}),
    "two to pass through": (mmsb.LinkError, "c", ["a", "b"], {"link": links.passthrough()}),
    "no lane to reduce to": (mmsb.LinkError, "a", "b", {"link": links.reduce("plus-times", "int32")}),
    **{
        f"weights {what}": (mmsb.LinkError, "c", ["a", "b"], {"link": links.semiring("plus-times", "int32", weights)})
        for what, weights in {
            "missing": [1],
            "for a third": [1, 2, 3],
            "of lanes in one row": [1, 2, 3, 4],
            "for too few lanes": [[1], [2], [3], [4]],
            "for too many lanes": [[1, 2, 3], [4, 5, 6]],
            "for one parent's lanes": [[1, 2]],
        }.items()
    },
    "adding up again and again": (
        mmsb.LinkError,
        "b",
        "a",
        {"link": links.semiring("plus-times", "int32", accumulate=True)},
    ),
    "beyond the parent": (mmsb.LinkError, "b", "a", {"link": links.copy([(0, 4, 0, 8)])}),
    "beyond the child": (mmsb.LinkError, "b", "a", {"link": links.copy([(0, 0, 7, 2)])}),
    "beyond all bounds": (mmsb.LinkError, "b", "a", {"link": links.copy([(0, (1 << 63) - 1, 0, (1 << 63) - 1)])}),
    "no such parent": (mmsb.LinkError, "b", "a", {"link": links.copy([(7, 0, 0, 1)])}),
    "nothing to copy": (mmsb.LinkError, "b", "a", {"link": links.copy([(0, 0, 0, 0)])}),
    "no matrix": (mmsb.LinkError, "b", ["a", "c"], {"link": links.matrix("plus-times", "int32", 2, 2)}),
    "matrix too large": (
        mmsb.LinkError,
        "b",
        ["a", "c", "odd", "lane"],
        {"link": links.matrix("plus-times", "int32", 1 << 62, 1 << 62)},
    ),
    "unknown semiring": (mmsb.PluginError, "b", "a", {"link": links.semiring("plus-plus", "int32")}),
    "unknown lanes": (mmsb.SemiringError, "b", "a", {"link": links.semiring("plus-times", "complex64")}),
    "itself": (mmsb.GraphCycleError, "a", "a", {"link": links.passthrough()}),
    "page that is missing": (mmsb.PageNotFoundError, "b", 77, {"link": links.passthrough()}),
    "page that never was": (mmsb.PageNotFoundError, 0, "a", {"link": links.passthrough()}),
    "bytes for pages": (TypeError, "c", b"\1\2", {"link": links.semiring("plus-times", "int32")}),
    "nothing at all": (mmsb.LinkError, "b", "a", {}),
    "two answers": (mmsb.LinkError, "b", "a", {"fn": print, "link": links.passthrough()}),
    "control computes nothing": (mmsb.LinkError, "b", "a", {"kind": "control", "fn": print}),
    "a parent twice": (mmsb.LinkError, "b", ["a", "a"], {"kind": "control"}),
    "unknown kind": (ValueError, "b", "a", {"kind": "gossip", "fn": print}),
    "no function": (TypeError, "b", "a", {"fn": 7}),
    "no link": (TypeError, "b", "a", {"link": "passthrough"}),
    "no type": (TypeError, "b", "a", {"fn": print, "dtype": "gibberish"}),
    "objects": (mmsb.LinkError, "b", "a", {"fn": print, "dtype": "object"}),
    "halves": (mmsb.LinkError, "b", "odd", {"fn": print, "dtype": "uint32"}),
    "a shape that does not fit": (mmsb.LinkError, "b", "a", {"fn": print, "dtype": "uint8", "shape": (3, 3)}),
    "a shape of nothing": (mmsb.LinkError, "b", "a", {"fn": print, "shape": (8,)}),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_and_changes_nothing(state, what):
    kind, child, parents, how = NONSENSE[what]
    state.depend("c", on="b", kind="control")
    before = picture(state)
    with pytest.raises(kind):
        state.depend(child, on=parents, **how)
    assert picture(state) == before


@pytest.mark.parametrize(
    ("kind", "dtype", "weights"),
    [
        (ValueError, "int64", [1.5]),
        (ValueError, "int64", [float("nan")]),
        (ValueError, "int64", [float(1 << 63)]),
        (ValueError, "int64", numpy.array([1 << 63], "uint64")),
        (ValueError, "uint8", numpy.array([300])),
        (ValueError, "uint8", [[0, -1]]),
        (ValueError, "float64", [(1 << 53) + 1]),
        (ValueError, "float32", [1e300]),
        (ValueError, "float64", []),
        (ValueError, "float64", [[], []]),
        (ValueError, "float64", 2.0),
        (ValueError, "float64", [[[1.0]]]),
        (TypeError, "float64", ["1"]),
        (TypeError, "float64", [1j]),
        (TypeError, "int64", [1 << 70]),
    ],
)
def test_weights_stay_the_numbers_that_they_are(state, kind, dtype, weights):
    with pytest.raises(kind, match="weights"):
        links.semiring("plus-times", dtype, weights)
    before = picture(state)
    with pytest.raises(kind, match="weights"):
        state.depend_many([1], [2], weights, semiring="plus-times", dtype=dtype)
    assert picture(state) == before


def test_weights_of_another_type_that_are_the_same_numbers():
    for dtype, weights in (("int64", [1.0, -0.0]), ("uint8", [True, 255]), ("float32", [0.1, float("inf")])):
        assert links.semiring("plus-times", dtype, weights).weights == numpy.array(weights).astype(dtype).tobytes()
    columns = numpy.array([[1, 2, 3], [4, 5, 6]], ">i4", order="F")
    assert links.semiring("plus-times", "int32", columns).weights == numpy.arange(1, 7, dtype="int32").tobytes()


@pytest.mark.parametrize("make", [lambda: links.copy([(0, -1, 0, 1)]), lambda: links.matrix("plus-times", "u1", -1, 1)])
def test_negative_numbers_make_no_link(make):
    with pytest.raises(ValueError, match="is no number"):
        make()


def test_a_copy_of_nothing_is_no_link():
    with pytest.raises(ValueError, match="no range"):
        links.copy([])


def test_references_to_objects_are_no_bytes(state):
    before, wrong = picture(state), numpy.array([7], object)
    for write in (
        lambda: state.page("a").write(wrong),
        lambda: state.page("a").write(memoryview(wrong)),
        lambda: state.page("a").write(wrong, propagate=False),
        lambda: state.update_page("a", wrong),
        lambda: state.create_page(data=wrong),
    ):
        with pytest.raises(TypeError, match="references to Python objects"):
            write()
    assert picture(state) == before


def test_cycles_name_their_pages_and_change_nothing(state):
    state.depend("b", on="a", link=links.passthrough())
    state.depend("c", on="b", link=links.passthrough())
    before = picture(state)
    with pytest.raises(mmsb.GraphCycleError) as caught:
        state.depend("a", on="c", link=links.passthrough())
    assert sorted(caught.value.cycle) == [1, 2, 3] and picture(state) == before
    other = state.create_page(8)
    before = picture(state)
    with pytest.raises(mmsb.GraphCycleError):
        state.depend_many([1, 3], [other.page_id, 1], semiring="plus-times", dtype="int32")
    assert picture(state) == before


def test_depend_many_is_all_or_nothing(state):
    before = picture(state)
    wrong = [
        (mmsb.PageNotFoundError, [1, 99], [2, 3]),
        (mmsb.LinkError, [1, 1], [2, 4]),
        (mmsb.GraphCycleError, [1, 2], [2, 1]),
        (ValueError, [1, 2], [3]),
        (ValueError, [[1]], [[2]]),
        (ValueError, [-1], [2]),
        (TypeError, [1.0], [2.0]),
        (TypeError, [1], numpy.array([True])),
        (TypeError, ["1"], ["2"]),
    ]
    for kind, parents, children in wrong:
        with pytest.raises(kind):
            state.depend_many(parents, children, semiring="plus-times", dtype="int32")
        assert picture(state) == before
    state.depend_many([1, 2], [3, 3], [1, 2], semiring="plus-times", dtype="int32")
    with pytest.raises(mmsb.LinkError):
        state.depend_many([1], [3], semiring="plus-times", dtype="int32")


def test_edges_hold_pages(state):
    state.depend("b", on="a", link=links.passthrough())
    state.depend("c", on="a", kind="control")
    before = picture(state)
    for refused in ("a", "b", "c"):
        with pytest.raises(mmsb.PageHasEdgesError):
            state.delete_page(refused)
        with pytest.raises(mmsb.PageHasEdgesError), state.batch() as batch:
            batch.write("odd", b"x")
            batch.delete_page(refused)
    for resized in ("a", "b"):
        with pytest.raises((mmsb.LinkError, mmsb.DerivedPageError)):
            state.page(resized).resize(16)
    for write in (lambda: state.page("b").write(b"x"), lambda: state.update_page("b", b"x" * 8)):
        with pytest.raises(mmsb.DerivedPageError):
            write()
    assert picture(state) == before
    with state.batch() as batch:  # in any order, each link goes once
        batch.delete_page("c", detach=True)
        batch.delete_page("b", detach=True)
        batch.delete_page("a", detach=True)
    assert not len(state.graph) and not state._links
    assert [change.kind for change in next(state.log(since=state.seq)).changes].count("unlink") == 2


def test_what_was_staged_before_a_link_came_is_refused_after_it(state):
    batches = [state.batch() for _ in range(3)]
    batches[0].delete_page("a")
    batches[1].resize("a", 16)
    batches[2].write("b", b"x")
    state.depend("b", on="a", link=links.passthrough())
    before = picture(state)
    for batch, kind in zip(batches, (mmsb.PageHasEdgesError, mmsb.LinkError, mmsb.DerivedPageError), strict=True):
        with pytest.raises(kind):
            batch.commit()
    assert picture(state) == before


# ---- functions


def raises(state, out, parent):
    raise ZeroDivisionError("by a")


def writes_elsewhere(state, out, parent):
    state.page("c").write(b"mine")


def writes_its_parent(state, out, parent):
    parent[0] = 1


def opens_a_batch(state, out, parent):
    with state.batch() as batch:
        batch.create_page(8)


def links_pages(state, out, parent):
    state.depend("c", on="a", link=links.passthrough())


def unlinks_itself(state, out, parent):
    state.undepend("b")


def starts_a_wave(state, out, parent):
    state.propagate()


def defers(state, out, parent):
    with state.deferred():
        pass


def changes_the_policy(state, out, parent):
    state.policy = None


def closes(state, out, parent):
    state.close()


def syncs(state, out, parent):
    state.sync()


def takes_a_checkpoint(state, out, parent):
    state.checkpoint()


def compacts(state, out, parent):
    state.compact(state.seq)


def verifies(state, out, parent):
    state.verify()


def leaves(state, out, parent):
    sys.exit(3)


def recurses(state, out, parent):
    recurses(state, out, parent)


def returns_too_little(state, out, parent):
    return b"1234567"


def returns_too_much(state, out, parent):
    return numpy.zeros(2, "int64")


def returns_a_number(state, out, parent):
    return 8


def returns_strides(state, out, parent):
    return {"no": "bytes"}


def returns_objects(state, out, parent):
    return numpy.array([7], object)


HARM = [
    raises, writes_elsewhere, writes_its_parent, opens_a_batch, links_pages, unlinks_itself, starts_a_wave, defers,
    changes_the_policy, closes, syncs, takes_a_checkpoint, compacts, verifies, leaves, recurses, returns_too_little,
    returns_too_much, returns_a_number, returns_strides, returns_objects,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_function_that_means_harm_fails_alone(state, harm):
    """The commit stands, the child and what depends on it are stale with the error, everything else goes on."""
    angry = []

    def fn(out, parent):
        if parent[0] and angry:
            return harm(state, out, parent)
        out[:] = parent
        return None

    state.depend("b", on="a", fn=fn)
    state.depend("c", on="b", link=links.passthrough())
    state.depend("odd", on="a", fn=lambda out, parent: bytes(parent[:7]))
    angry.append(True)
    edges = state.graph.edges()
    delta = state.page("a").write(b"go")
    assert delta is not None and state.seq == delta.seq + 1 and not state.closed
    assert state.graph.edges() == edges and state.page("odd")[0:2] == b"go"
    with pytest.raises(mmsb.StalePageError) as caught:
        state.page("b").read()
    assert isinstance(caught.value.__cause__, BaseException) and caught.value.reason
    with pytest.raises(mmsb.StalePageError):
        state.page("c").read()
    state.stale_reads = True
    assert state.page("b").read() == bytes(8) == state.page("c").read()
    state.stale_reads = False
    wave = next(state.log(since=state.seq))
    assert wave.cause == delta.seq and [one.page_id for one in wave.deltas] == [state.page("odd").page_id]
    angry.clear()
    assert state.propagate() == 2
    assert state.page("c")[0:2] == b"go" and not state.verify(recompute=True).findings


def test_keyboard_interrupt_ends_the_wave_and_leaves_its_pages_stale(state):
    state.depend("b", on="a", fn=lambda out, parent: parent)

    def interrupted(out, parent):
        if parent[0]:
            raise KeyboardInterrupt
        return parent

    state.depend("c", on="b", fn=interrupted)
    with pytest.raises(KeyboardInterrupt):
        state.page("a").write(b"1")
    assert state.page("a")[0] == ord("1")
    for page in "bc":
        with pytest.raises(mmsb.StalePageError):
            state.page(page).read()
    state.undepend("c")  # a commit like any other: what is pending is covered behind it
    assert state.page("b")[0] == ord("1") and not state._links.marked


def test_a_function_may_keep_what_it_was_shown(state):
    kept = []

    def keep(out, parent):
        kept.append((out, parent))
        out[:] = parent

    state.depend("b", on="a", fn=keep)
    state.depend("c", on="b", fn=keep)
    state.page("a").write(b"one")
    state.page("a").write(b"two")
    shown = kept[-1]
    assert shown[0].tobytes() == b"two" + bytes(5)
    shown[0][:] = bytes(8)
    with pytest.raises(TypeError):
        shown[1][0] = 1
    assert state.page("c")[0:3] == b"two"


def test_arrays(state):
    def cumulate(out, *parents):
        assert out.shape == (2, 2) and all(not parent.flags.writeable for parent in parents)
        out[:] = sum(parents).reshape(2, 2)

    state.depend("c", on=["a", "b"], fn=cumulate, dtype="uint16", shape=(2, 2))
    state.page("a").write(numpy.array([1, 2, 3, 4], "uint16"))
    state.page("b").write(numpy.array([10, 20, 30, 40], "uint16"))
    assert state.page("c").view("uint16").tolist() == [11, 22, 33, 44]


def test_a_matrix_that_is_none_makes_its_child_stale(state):
    rows, columns, values = state.create_page(24), state.create_page(8), state.create_page(8)
    state.depend("a", on=["b", rows, columns, values], link=links.matrix("plus-times", "int32", 2, 2))
    for page, wrong in ((rows, b"\xff" * 24), (columns, b"\xff" * 8)):
        rows.write(numpy.array([0, 1, 2], "uint64"))
        page.write(wrong)
        with pytest.raises(mmsb.StalePageError):
            state.page("a").read()
        page.write(bytes(page.size))
        assert state.page("a").size == len(state.page("a").read())
