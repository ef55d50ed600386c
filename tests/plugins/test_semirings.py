"""Semirings of plugins, where semirings are used: links of every kind, merge pages, reopening with and without them."""

import math

import numpy as np
import pytest

import mmsb
from mmsb import links
from mmsb._core.semiring import Semirings
from mmsb._core.semiring_python import compiled
from mmsb.plugin import manager
from mmsb.plugin.manager import PluginManager
from mmsb.testing import SemiringContract

REGISTRY = PluginManager([]).load()
PAIRS = [(name, dtype) for name, spec in REGISTRY.semirings.items() for dtype in spec.dtypes]
RINGS = """
import math
import numpy as np
from mmsb import UfuncSemiring
from mmsb.plugin import SemiringSpec, hookimpl
MMSB_API = 1
LAWS = ("add-associative", "add-commutative", "add-idempotent", "add-identity")
trouble = []  # what plus and times do first
def troubled(function):
    def do(a, b):
        for first in trouble:
            first()
        return function(a, b)
    return do
plus, times = troubled(np.maximum), troubled(np.add)
def make(dtype):
    return UfuncSemiring("zz-max-plus", dtype, plus, times, zero=-math.inf, one=0, laws=LAWS)
def misnamed(dtype):
    return UfuncSemiring("zz-other", dtype, plus, times, zero=0, one=0)
@hookimpl
def mmsb_semirings():
    return [
        SemiringSpec("zz-max-plus", "Max and plus, in numpy.", make, ("float32", "float64")),
        SemiringSpec("zz-misnamed", "Calls itself otherwise.", misnamed, ("float64",)),
        SemiringSpec("zz-broken", "Cannot be made.", lambda dtype: 1 / 0, ("float64",)),
    ]
"""


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
class TestBuiltIn(SemiringContract):
    @pytest.fixture(autouse=True)
    def choose(self, pair):
        self.pair = pair

    def make(self):
        return REGISTRY.semirings[self.pair[0]].make(self.pair[1])

    def others(self):
        return [Semirings("avx512").get(*self.pair), Semirings("avx2").get(*self.pair)]


@pytest.mark.parametrize("dtype", ["int32", "float64"])
class TestCalledFromC(SemiringContract):
    """A row whose functions call Python keeps the contract as what it calls does."""

    @pytest.fixture(autouse=True)
    def choose(self, dtype):
        self.dtype = dtype

    def inner(self):
        laws = ("add-associative", "add-commutative", "add-idempotent")
        kind = np.iinfo(self.dtype) if self.dtype == "int32" else np.finfo(self.dtype)
        return mmsb.UfuncSemiring(
            "bits",
            self.dtype,
            lambda a, b: np.where(a > b, a, b) if self.dtype == "int32" else np.fmax(a, b) + 0.0,
            np.minimum,
            zero=int(kind.min) if self.dtype == "int32" else -math.inf,
            one=int(kind.max) if self.dtype == "int32" else math.inf,
            laws=laws,
            domain=(0, 1000),
        )

    def make(self):
        return compiled(self.inner())

    def others(self):
        return [self.inner()]


@pytest.fixture
def rings(install):
    """The module of an installed plugin that offers `zz-max-plus`; rings.forget() takes the plugin away."""
    install("zz_rings", RINGS)
    manager.installed.cache_clear()
    manager.installed()
    import zz_rings

    yield zz_rings
    manager.installed.cache_clear()


@pytest.fixture
def no_rings(monkeypatch):
    """Call it, and no plugin but the built-in ones is found."""

    def do():
        monkeypatch.setenv("MMSB_PLUGINS", "")
        manager.installed.cache_clear()

    return do


def graph(state, name):
    """Children of every native kind, all by one semiring: their bytes by name."""
    rng = np.random.default_rng(5)
    a, b = (state.create_page(data=rng.integers(0, 99, 100).astype("f8"), name=key) for key in "ab")
    out = {key: state.create_page(size, name=key) for key, size in (("sum", 800), ("acc", 800), ("one", 8), ("y", 400))}
    starts = np.sort(rng.integers(0, 300, 51)).astype("u8")
    starts[0], starts[-1] = 0, 300
    matrix = [starts, rng.integers(0, 100, 300).astype("u4"), rng.integers(0, 50, 300).astype("f8")]
    parts = [state.create_page(data=part) for part in matrix]
    state.depend(out["sum"], on=[a, b], link=links.semiring(name, "f8", [3.0, 4.0]))
    state.depend(out["acc"], on=[a, b], link=links.semiring(name, "float64", accumulate=True))
    state.depend(out["one"], on=[a, b], link=links.reduce(name, "float64"))
    state.depend(out["y"], on=[a, *parts], link=links.matrix(name, "float64", 50, 100))
    return out


def drive(state, out):
    """Changes parents: all of one, a few lanes of the other. What the children hold after each step."""
    seen = [[page.read() for page in out.values()]]
    state.page("a").write(np.full(100, 7.0))
    seen.append([page.read() for page in out.values()])
    state.page("b").write(np.array([500.0]), at=80)
    state.page("a").write(np.array([900.0]), at=160)
    seen.append([page.read() for page in out.values()])
    return seen


def test_links_by_a_plugin_compute_what_built_in_ones_do(rings):
    with mmsb.open() as ours, mmsb.open() as theirs:
        assert drive(ours, graph(ours, "max-plus")) == drive(theirs, graph(theirs, "zz-max-plus"))


def test_built_in_names_load_no_plugin(monkeypatch):
    monkeypatch.setattr(manager, "installed", lambda: pytest.fail("plugins were loaded"))
    with mmsb.open() as state:
        graph(state, "max-plus")
        state.create_page(8, merge="plus-times", dtype="f8").write(np.ones(1))
        with pytest.raises(mmsb.UnknownSemiringError):
            state.create_page(8, merge="max-plus", dtype="u1")


def test_links_by_a_plugin_live_on_after_reopening(rings, tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        out = graph(state, "zz-max-plus")
        before = [page.read() for page in out.values()]
    with mmsb.open(tmp_path / "s") as state, mmsb.open() as other:
        out = {key: state.page(key) for key in out}
        assert [page.read() for page in out.values()] == before
        assert drive(state, out)[1:] == drive(other, graph(other, "max-plus"))[1:]
        assert not state.verify().findings


def test_without_the_plugin_children_are_stale_and_say_why(rings, no_rings, tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        before = graph(state, "zz-max-plus")["sum"].read()
    no_rings()
    with mmsb.open(tmp_path / "s") as state:
        assert state.page("sum").stale
        for _ in range(2):
            with pytest.raises(mmsb.StalePageError, match="no semiring 'zz-max-plus'"):
                state.page("sum").read()
            state.page("a").write(np.full(100, 1.0))
            state.propagate()
        state.stale_reads = True
        assert state.page("sum").read() == before
        state.undepend("sum")
        state.page("sum").write(bytes(800))
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.page("sum").read() == bytes(800)
        with pytest.raises(mmsb.StalePageError):
            state.page("y").read()


def test_the_plugin_comes_back(rings, no_rings, tmp_path, monkeypatch):
    with mmsb.open(tmp_path / "s") as state, mmsb.open() as other:
        graph(state, "zz-max-plus")
        drive(other, graph(other, "max-plus"))
        wanted = other.page("sum").read()
    no_rings()
    with mmsb.open(tmp_path / "s") as state:
        state.page("a").write(np.full(100, 7.0))
        state.page("b").write(np.array([500.0]), at=80)
    monkeypatch.delenv("MMSB_PLUGINS")
    manager.installed.cache_clear()
    with mmsb.open(tmp_path / "s") as state:
        state.page("a").write(np.array([900.0]), at=160)
        state.propagate()
        assert state.page("sum").read() == wanted


def test_a_semiring_that_raises_leaves_its_child_stale_until_it_works(rings):
    with mmsb.open() as state:
        out = graph(state, "zz-max-plus")
        rings.trouble.append(lambda: 1 / 0)
        state.page("a").write(np.full(100, 7.0))
        with pytest.raises(mmsb.StalePageError, match="ZeroDivisionError") as caught:
            out["sum"].read()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        rings.trouble.clear()
        assert state.propagate() >= 1
        assert np.array_equal(out["sum"].view("f8"), np.maximum(10.0, state.page("b").view("f8") + 4))


def test_a_semiring_changes_nothing(rings):
    with mmsb.open() as state:
        out = graph(state, "zz-max-plus")
        rings.trouble.append(lambda: state.page("b").write(b"x"))
        seq = state.seq
        state.page("a").write(np.full(100, 7.0))
        with pytest.raises(mmsb.StalePageError, match="PropagationError"):
            out["y"].read()
        assert state.seq == seq + 2  # the write and its wave


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("zz-none", "no semiring 'zz-none'"),
        ("zz-misnamed", "made 'zz-other'"),
        ("zz-broken", "ZeroDivisionError"),
    ],
)
def test_names_that_lead_nowhere(rings, name, complaint):
    with mmsb.open() as state:
        a, b = state.create_page(8, name="a"), state.create_page(8, name="b")
        seq = state.seq
        for call in (
            lambda: state.depend(b, on=a, link=links.semiring(name, "float64")),
            lambda: state.depend_many([a.id], [b.id], semiring=name, dtype="float64"),
            lambda: state.create_page(8, merge=name, dtype="float64"),
        ):
            with pytest.raises(mmsb.PluginError, match=complaint):
                call()
        assert state.seq == seq and state.page_count == 2


def test_a_type_that_the_plugin_does_not_offer(rings):
    with mmsb.open() as state, pytest.raises(mmsb.PluginError, match="only for one of float32, float64"):
        state.create_page(8, merge="zz-max-plus", dtype="i8")


def test_accumulating_needs_the_law(rings):
    with mmsb.open() as state:
        a, b = state.create_page(8), state.create_page(8)
        with pytest.raises(mmsb.LinkError, match="idempotent"):
            state.depend(b, on=a, link=links.semiring("plus-times", "f8", accumulate=True))
        state.depend(b, on=a, link=links.semiring("zz-max-plus", "f8", accumulate=True))


class TestMergePages:
    def test_they_merge_by_a_plugin_also_after_reopening(self, rings, tmp_path):
        with mmsb.open(tmp_path / "s") as state:
            page = state.create_page(32, name="m", merge="zz-max-plus", dtype="f8")
            assert page.view("f8").tolist() == [-math.inf] * 4
            page.write(np.array([1.0, 5.0, 3.0, 4.0]))
        with mmsb.open(tmp_path / "s") as state:
            page = state.page("m")
            assert page.merge == ("zz-max-plus", "float64")
            page.write(np.array([2.0, 2.0]))
            assert page.view("f8").tolist() == [2.0, 5.0, 3.0, 4.0]

    def test_without_the_plugin_they_are_read_and_not_written(self, rings, no_rings, tmp_path):
        with mmsb.open(tmp_path / "s") as state:
            state.create_page(data=np.ones(2), name="m", merge="zz-max-plus", dtype="f8")
        no_rings()
        with mmsb.open(tmp_path / "s") as state:
            page = state.page("m")
            digest, seq = state.digest(), state.seq
            assert page.view("f8").tolist() == [1.0, 1.0]
            for write in (
                lambda: page.write(np.zeros(2)),
                lambda: state.update_page(page, np.zeros(2)),
                lambda: page.resize(24),
            ):
                with pytest.raises(mmsb.PluginError, match="no semiring 'zz-max-plus'"):
                    write()
            assert (state.digest(), state.seq) == (digest, seq)
            page.assign(np.zeros(1))
            page.delete()

    @pytest.mark.parametrize("how", ["write", "batch", "read", "apply", "update"])
    def test_a_semiring_that_fails_rejects_the_write(self, rings, how):
        with mmsb.open() as state:
            page = state.create_page(data=np.ones(2), merge="zz-max-plus", dtype="f8")
            nine = np.full(2, 9.0)
            delta = state.create_delta(page, [1] * 16, nine.tobytes())
            seq = state.seq
            rings.trouble.append(lambda: 1 / 0)
            with pytest.raises(mmsb.MergePageError, match="ZeroDivisionError") as caught:
                if how == "write":
                    page.write(nine)
                elif how == "apply":
                    state.apply(delta)
                elif how == "update":
                    state.update_page(page, nine)
                else:
                    with state.batch() as batch:
                        batch.write(page, nine)
                        if how == "read":
                            batch.read(page)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            rings.trouble.clear()
            assert state.seq == seq and page.view("f8").tolist() == [1.0, 1.0]
            page.write(nine)
            assert page.view("f8").tolist() == [9.0, 9.0]

    def test_a_semiring_that_writes_is_refused(self, rings):
        with mmsb.open() as state:
            page = state.create_page(data=np.ones(2), merge="zz-max-plus", dtype="f8")
            rings.trouble.append(lambda: state.create_page(8))
            with pytest.raises(mmsb.MergePageError, match="PropagationError"):
                page.write(np.full(2, 9.0))
            assert state.page_count == 1
