"""Arguments of the wrong type or beyond any bound: refused with a sentence, never taken for something else."""

import ctypes
import inspect
import os
import pickle
import subprocess
import sys
import tracemalloc
import types
from datetime import UTC, datetime

import numpy
import pytest

import mmsb
from mmsb._core.semiring import builtin


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 1 << 63},
        {"max_bytes": 0},
        {"history": -1},
        {"segment_bytes": 4095},
        {"segment_bytes": 5000},
        {"segment_bytes": 1 << 36},
        {"read_only": True},
        {"compress": True},
        {"anchor_key": bytes(32)},
        {"anchor_key": bytes(31)},
        {"path": ""},
        {"path": "a\0b"},
        {"path": "s", "checkpoint_bytes": -1},
        {"path": "s", "history": 5},
    ],
)
def test_options_that_cannot_be_meant(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\w\."):
        mmsb.open(**options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": True},
        {"max_bytes": "1"},
        {"segment_bytes": 4096.0},
        {"history": 1.5},
        {"path": "s", "checkpoint_bytes": "all"},
        {"disable_cpu": 5},
        {"path": 5},
        {"start": 5},
    ],
)
def test_options_of_other_types(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        mmsb.open(**options)
    assert not list(tmp_path.iterdir())


def test_paths(tmp_path):
    for wrong in (tmp_path / "no" / "parent", tmp_path / ("x" * 300)):
        with pytest.raises(mmsb.NotAStoreError):
            mmsb.open(wrong)
    for wrong in (tmp_path / "nothing", tmp_path):
        with pytest.raises(mmsb.NotAStoreError, match="one-file checkpoint"):
            mmsb.open(tmp_path / "s", start=wrong)
    assert not list(tmp_path.iterdir())
    (tmp_path / "odd" / "store").mkdir(parents=True)
    with pytest.raises(mmsb.NotAStoreError, match="no file 'store'"):
        mmsb.open(tmp_path / "odd")
    assert os.listdir(tmp_path / "odd") == ["store"]
    for path in (os.fsencode(tmp_path / "bytes"), str(tmp_path / "\udcff odd"), tmp_path / "line\nbreak"):
        with mmsb.open(path) as state:
            state.create_page(8, name="a")
        with mmsb.open(path, read_only=True) as state:
            assert "a" in state
    with mmsb.open() as state, pytest.raises(mmsb.NotAStoreError, match="exists"):
        state.fork(path=tmp_path)


def test_expected_epochs(state):
    page = state.create_page(8)
    page.write(b"x")
    for never in (-1, 2, (1 << 64) - 1, 1 << 64, 1 << 200):
        for rebase in (False, True):
            with pytest.raises(mmsb.ConflictError) as caught:
                page.write(b"y", if_epoch=never, rebase=rebase)
            assert caught.value.epoch == 1
    for wrong in (1.0, "1", True):
        with pytest.raises(TypeError, match="if_epoch"):
            page.write(b"y", if_epoch=wrong)
    assert page.read() == b"x" + bytes(7) and page.write(b"z", if_epoch=1).epoch == 2


def test_buffers_to_read_into(state):
    page = state.create_page(8, data=b"12345678")
    delta = mmsb.Delta.from_ranges(page.page_id, [(0, 1)], b"x")
    for use in (page.read_into, delta.apply_to):
        for wrong in (b"12345678", memoryview(bytearray(16))[::2], numpy.zeros((2, 4), "u1", order="F")):
            with pytest.raises(BufferError, match="Pass a bytearray"):
                use(wrong)
        for wrong in ("text", None):
            with pytest.raises(TypeError):
                use(wrong)
    fitting = numpy.zeros((2, 4), "u1")
    assert page.read_into(fitting) == 8 and fitting.tobytes() == b"12345678"


def test_buffers_of_python_objects_are_never_filled(state):
    page = state.create_page(8)
    delta = mmsb.Delta.from_ranges(page.page_id, [(0, 1)], bytes(1))
    for use in (page.read_into, delta.apply_to, state.at(state.seq).page(1).read_into):
        kept = numpy.array([state], object)
        with pytest.raises(TypeError, match="references to Python objects"):
            use(kept)
        assert kept[0] is state


class Mixed(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int64), ("thing", ctypes.py_object))


class Other(ctypes.Structure):
    _fields_ = (("One", ctypes.c_int64),)  # a capital O in a name is no reference


@pytest.mark.parametrize("kept", [(ctypes.py_object * 1)(None), (Mixed * 1)()], ids=["array", "structures"])
def test_references_of_ctypes_are_never_filled(state, kept):
    page = state.create_page(ctypes.sizeof(kept), data=b"\1" * ctypes.sizeof(kept))
    delta = mmsb.Delta.from_ranges(page.page_id, [(0, 1)], b"\1")
    before = bytes(kept)
    with mmsb.open(name=f"references-{os.getpid()}") as served:
        served.create_page(page.size, data=page.read())
        served.serve()
        with mmsb.attach(served.name) as view:
            for given in (kept, memoryview(kept)):
                for use in (page.read_into, delta.apply_to, state.at(1).page(1).read_into, view.page(1).read_into):
                    with pytest.raises(TypeError, match="references to Python objects"):
                        use(given)
                with pytest.raises(TypeError, match="references to Python objects"):
                    page.write(given)
    assert bytes(kept) == before
    numbers = Other()
    assert page.read_into((ctypes.c_uint8 * 2)()) == 2 and page.read_into(numbers) == 8 and numbers.One & 1


def test_text_without_a_utf8_form_is_the_name_of_nothing(state, tmp_path):
    state.create_page(8)
    for ask, error in (
        (state.at, mmsb.UnknownMomentError),
        (state.stepper().goto, mmsb.UnknownMomentError),
        (state.at(1).page, mmsb.PageNotFoundError),
    ):
        with pytest.raises(error, match="ud800"):
            ask("\ud800")
    with pytest.raises(ValueError, match="no UTF-8 form"):
        mmsb.open(name="\ud800")
    with pytest.raises(ValueError, match="There is no group"):
        mmsb.open(tmp_path / "s", group="\ud800")
    with pytest.raises(ValueError, match="no CPU feature"):
        mmsb.open(disable_cpu="\ud800")
    with pytest.raises(mmsb.UnknownSemiringError, match="ud800"):
        builtin.get("\ud800", "f8")
    with pytest.raises(mmsb.PluginError, match="ud800"):
        state.create_page(8, merge="\ud800", dtype="f8")
    with pytest.raises(mmsb.SemiringError, match="needs a name"):
        mmsb.open(semirings=[mmsb.UfuncSemiring("\ud800", "f8", numpy.add, numpy.multiply, zero=0, one=1)])


def test_numbers_that_are_none(state):
    page = state.create_page(8)
    past = state.at(state.seq).page(page.page_id)
    for ask in (
        lambda: past.read(None),
        lambda: past.read(0, 1.0),
        lambda: past.read_into(bytearray(1), None),
        lambda: past[None],
        lambda: past[1.0],
        lambda: mmsb.links.copy([(0.0, 0, 0, 1)]),
        lambda: mmsb.attach("nobody", ring_bytes=None),
    ):
        with pytest.raises(TypeError):
            ask()


def test_numbers_that_are_none_to_a_view():
    name = f"careless-{os.getpid()}"
    with mmsb.open(name=name) as state:
        state.create_page(8)
        state.serve()
        with mmsb.attach(name) as view:
            page = view.page(1)
            for ask in (
                lambda: page.read(None),
                lambda: page.read(0, 1.0),
                lambda: page.read_into(bytearray(1), 1.0),
                lambda: page[None],
                lambda: page.read_into(bytearray(1), 1.0),
                lambda: page[None],
                lambda: page.read(0, "x"),
            ):
                with pytest.raises(TypeError):
                    ask()


def test_methods_called_on_something_else(state):
    page = state.create_page(8)
    tried = []
    for kind in (mmsb.Page, mmsb.Delta, mmsb.Batch, mmsb.Semiring, mmsb.CsrMatrix):
        for name, method in vars(kind).items():
            if name.startswith("_") or not callable(method) or not callable(getattr(method, "__get__", None)):
                continue
            if isinstance(method, (staticmethod, classmethod, types.ClassMethodDescriptorType)):
                continue
            tried.append(name)
            for other in (None, 7, state):
                with pytest.raises(TypeError, match="apply to"):
                    getattr(kind, name)(other, 1)
    assert {"write", "ranges", "commit", "fold_add"} <= set(tried)
    assert list(inspect.signature(page.write).parameters)[:2] == ["data", "at"]


def test_things_of_another_kind(state):
    sums = mmsb.UfuncSemiring("sums", "f8", numpy.add, numpy.multiply, zero=0, one=1)
    for ask, said in (
        (lambda: state.verify(head=True), "head is an anchor"),
        (lambda: state.verify(head="x"), "head is an anchor"),
        (lambda: state.unsubscribe(None), "what subscribe"),
        (lambda: sums.csr(numpy.zeros(1), None, numpy.zeros(1)), "CsrMatrix"),
        (lambda: mmsb.open(semirings=numpy.zeros(2)), "takes semirings"),
    ):
        with pytest.raises(TypeError, match=said):
            ask()


def test_sources_and_moments(state):
    page = state.create_page(8)
    for source in ("", "x" * 5000, "\udc00"):
        with pytest.raises(ValueError, match="source"):
            page.write(b"x", source=source)
    for filters in ({"source": 5}, {"label": b"x"}, {"since": 1.5}, {"until": True}):
        with pytest.raises(TypeError):
            state.log(**filters)
    with pytest.raises(mmsb.PageRangeError):
        state.last_write(page, at=1 << 70)
    assert state.at(datetime.max.replace(tzinfo=UTC)).seq == state.seq == 1
    assert state.at(datetime.min.replace(tzinfo=UTC)).seq == 0
    assert len(list(state.log(until=datetime.max.replace(tzinfo=UTC)))) == 1


def test_sources_that_no_commit_took_are_not_kept(state):
    page = state.create_page(8)

    def refused(source):
        with pytest.raises(mmsb.PageRangeError):
            page.write(b"x", 8, source)
        with pytest.raises(mmsb.ConflictError), state.batch(source=source) as batch:
            batch.write(page, b"x", if_epoch=5)
        assert page.write(b"", source=source) is None and page.assign(bytes(8), source=source) is None
        assert state.update_page(page, bytes(8), source) is None

    refused("first")
    tracemalloc.start()
    try:
        for number in range(200):
            refused(f"{number:04000}")
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", [None, "store"])
def test_every_commit_keeps_its_source_among_those_that_none_took(tmp_path, path):
    path = path and tmp_path / path
    with mmsb.open(path, **({"segment_bytes": 4096} if path else {})) as state:
        page, said = state.create_page(8), [None]
        for number in range(300):
            content, source = bytes([number // 2 % 256]), f"{number % 70}"
            if number % 7 == 0:
                with state.batch(source=source) as batch:
                    batch.write(page, b"%03d" % number, 5)
                said.append(source)
            if page.write(content, source=source) is not None:
                said.append(source)
        assert [commit.source for commit in state.log()] == said and not state.verify().findings
    if path:
        with mmsb.open(path) as state:
            page = state.page(1)
            for number in range(140):
                source = f"{number % 90}"
                if page.write(bytes([number // 2]), source=source) is not None:
                    said.append(source)
            assert [commit.source for commit in state.log()] == said and not state.verify().findings


def test_nothing_is_pickled(state):
    page = state.create_page(8)
    for thing in (state, page, page.write(b"x"), state.batch(), next(state.log()), state.at(1)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


MOVING = """
import mmap, os, signal, sys, time
import numpy
import mmsb

shared = numpy.frombuffer(mmap.mmap(-1, 4096), "u1")
contents = [numpy.zeros(4096, "u1") for _ in range(12)]
rng = numpy.random.default_rng(1)
for number, content in enumerate(contents):
    if number % 3 == 1:
        content[:] = rng.integers(0, 2, 4096)
    elif number % 3 == 2:
        content[rng.integers(0, 4096, 30)] = 9
writer = os.fork()
while writer == 0:  # until it is killed
    for content in contents:
        numpy.copyto(shared, content)
try:
    with mmsb.open(disable_cpu=sys.argv[1] or None) as state:
        page, end = state.create_page(4096), time.monotonic() + 1.5
        while time.monotonic() < end:
            page.write(shared)
            state.update_page(page, shared)
            mmsb.Delta.between(1, bytes(4096), shared)
            page.write(bytes(4096))
        assert state.seq > 2
        findings = state.verify().findings
finally:
    os.kill(writer, signal.SIGKILL)
assert not findings, findings
"""


@pytest.mark.parametrize("disable", ["", "avx512", "avx2"])
def test_bytes_that_another_process_changes_while_they_are_written(disable):
    ran = subprocess.run([sys.executable, "-c", MOVING, disable], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


class Asked:
    """A number that does something when it is asked for."""

    def __init__(self, number, does):
        self.number, self.does = number, does

    def __index__(self):
        self.does()
        return self.number


def test_a_bound_that_changes_the_page_when_it_is_asked(state):
    """What it says is clipped to the page as it is then: behind it lies memory of others."""
    page = state.create_page(data=bytes(range(256)))
    assert page[0 : Asked(256, lambda: page.resize(2))] == b"\0\1"
    assert page[Asked(-1, lambda: page.resize(1))] == 0
    assert page[:: Asked(-1, lambda: page.resize(3))] == bytes(3)
    with pytest.raises(mmsb.PageNotFoundError):
        page[: Asked(256, page.delete)]


def test_contents_of_arrays_are_counted_in_bytes(state):
    page = state.create_page(16)
    assert page.update(numpy.array([1.0, 2.0])) is not None
    assert page.update(lambda old: numpy.frombuffer(old, "u1").reshape(4, 4) + 1) is not None
    with pytest.raises(mmsb.InvalidDeltaError):
        page.update(numpy.zeros(16))
    with pytest.raises(TypeError, match="bytes-like"):
        page.update([0] * 16)


def test_a_batch_reads_a_merge_page_that_became_shorter(state):
    page = state.create_page(1 << 16, merge="max-plus", dtype="f8")
    batch = state.batch()
    batch.write(page, numpy.ones(1 << 13))
    page.resize(8)
    with pytest.raises(mmsb.PageRangeError):
        batch.read(page)
    with pytest.raises(mmsb.PageRangeError):
        batch.commit()


def test_a_semiring_leaves_the_batch_alone_that_it_is_called_for():
    def add(x, y):
        for change in changes:
            with pytest.raises(ValueError, match="batch"):
                change()
            refused.append(change)
        return numpy.maximum(x, y)

    refused = []
    changes = []
    largest = mmsb.UfuncSemiring("largest", "int64", add, numpy.multiply, zero=0, one=1)
    with mmsb.open(semirings=[largest]) as state:
        page = state.create_page(8, merge="largest", dtype="int64")
        with state.batch() as batch:
            batch.write(page, numpy.array([5]))
            changes += [batch.discard, batch.commit, lambda: batch.write(page, bytes(8))]
            assert batch.read(page) == numpy.array([5]).tobytes() and len(refused) >= 3
            changes[2:] = []
        assert page.read() == numpy.array([5]).tobytes()


ROWS = """
import threading
import time
import numpy
import mmsb
from mmsb._core.semiring import CsrMatrix, builtin
count = 100_000
matrix = CsrMatrix(numpy.arange(count + 1, dtype="u8"), numpy.zeros(count, "u4"), numpy.ones(count), 1)
rows, to, one = numpy.zeros(count, "u4"), numpy.zeros(count), numpy.ones(1)
done = threading.Event()

def change():
    while not done.is_set():
        rows[-1] = 0xFFFFFFF0
        rows[-1] = 0

thread = threading.Thread(target=change)
thread.start()
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        builtin.get("plus-times", "f8").csr(to, matrix, one, rows)
    except mmsb.SemiringError:
        pass
done.set()
thread.join()
"""


def test_rows_that_another_thread_changes_while_they_are_computed():
    ran = subprocess.run([sys.executable, "-c", ROWS], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
