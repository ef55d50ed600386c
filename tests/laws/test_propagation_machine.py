"""Propagation against the literal model: random graphs, links of every type, failures, waves of every kind, crashes."""

import copy
import os
import shutil
import tempfile

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import mmsb
from mmsb import links
from mmsb.testing.model import picture, picture_of
from mmsb.testing.waves import Failure, Rule, WaveModel

SIZE = 8
BOMB = 0xEE  # a function whose first parent begins with this raises


def passthrough(old, parents):
    return list(parents[0])


def slices(ranges):
    def compute(old, parents):
        new = list(old)
        for parent, start, to, count in ranges:
            new[to : to + count] = parents[parent][start : start + count]
        return new

    return compute


def merged(add, zero, accumulate=False):
    def compute(old, parents):
        new = list(old) if accumulate else [zero] * SIZE
        for parent in parents:
            new = [add(a, b) for a, b in zip(new, parent, strict=True)]
        return new

    return compute


def weighed(weights):
    """Plus-times, with a number for each parent or a row of them."""

    def compute(old, parents):
        new = [0] * SIZE
        for given, parent in zip(weights, parents, strict=True):
            row = given if isinstance(given, list) else [given] * SIZE
            new = [(a + w * b) % 256 for a, w, b in zip(new, row, parent, strict=True)]
        return new

    return compute


def added_up(old, parents):
    return [sum(sum(parent) for parent in parents) % 256]


def matrix(old, parents):
    x, row_start, column, value = parents
    starts = [int.from_bytes(bytes(row_start[at : at + 8]), "little") for at in range(0, 24, 8)]
    columns = [int.from_bytes(bytes(column[at : at + 4]), "little") for at in range(0, len(column), 4)]
    if (
        starts[0] != 0
        or sorted(starts) != starts
        or starts[-1] > len(value)
        or max(columns[: starts[-1]], default=0) > 7
    ):
        raise Failure
    return [sum(value[at] * x[columns[at]] for at in range(starts[row], starts[row + 1])) % 256 for row in range(2)]


def scramble(old, parents):
    if parents[0][0] == BOMB:
        raise Failure
    return [(sum(parent[i % len(parent)] for parent in parents) * 3 + i) % 256 for i in range(len(old))]


def function_of(calls, child):
    """The same for the State."""

    def fn(out, *parents):
        calls.append(child)
        out[:] = bytes(scramble(list(out), [list(parent) for parent in parents]))

    return fn


class Propagation(RuleBasedStateMachine):
    """One State and one WaveModel that do the same things."""

    durable = False

    @initialize()
    def begin(self):
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, "store") if self.durable else None
        self.state = self.open()
        self.model = WaveModel()
        self.calls = []
        self.deferred = None
        self.digests = {}
        for _ in range(4):
            self.create(SIZE)

    def open(self):
        return mmsb.open(self.path, **({"segment_bytes": 4096} if self.durable else {}))

    def create(self, size):
        page = self.state.create_page(size)
        assert page.page_id == self.model.create(size)
        self.model.commit()
        return page.page_id

    def some_page(self, data, wanted=lambda page_id: True):
        pages = [page_id for page_id in sorted(self.model.pages) if wanted(page_id)]
        return data.draw(st.sampled_from(pages), label="page") if pages else None

    def after_commit(self):
        """What the policy does."""
        if self.deferred is not None:
            self.model.mark()
        elif self.model.dirty:
            self.model.wave(set())

    # ---- the graph

    @rule(data=st.data(), count=st.integers(1, 3), what=st.integers(0, 8))
    def depend(self, data, count, what):
        """Any link between any pages; what the contract refuses changes nothing."""
        child = self.some_page(data, lambda page: page not in self.model.data)
        if child is None:
            return
        size = len(self.model.pages[child].data)
        full = [page for page in sorted(self.model.pages) if len(self.model.pages[page].data) == SIZE]
        if not full:
            return
        parents = tuple(data.draw(st.lists(st.sampled_from(full), min_size=1, max_size=count, unique=True)))
        if size == 1:
            kind, link, compute = "reduce", links.reduce("plus-times", "uint8"), added_up
        elif size != SIZE:
            kind, link, compute = "function", None, scramble
        elif what == 0:
            kind, link, compute, parents = "copy", links.passthrough(), passthrough, parents[:1]
        elif what == 1:
            ranges = [(len(parents) - 1, 0, 0, SIZE)] if data.draw(st.booleans()) else [(0, 1, 4, 3), (0, 2, 6, 2)]
            kind, link, compute = "copy", links.copy(ranges), slices(ranges)
        elif what == 2:
            kind, link, compute = "semiring", links.semiring("max-times", "uint8"), merged(max, 0)
        elif what == 3:
            link = links.semiring("bit-union", "uint8", accumulate=True)
            kind, compute = "semiring", merged(lambda a, b: a | b, 0, True)
        elif what == 4:
            kind, link = "semiring", links.semiring("plus-times", "uint8")
            compute = merged(lambda a, b: (a + b) % 256, 0)
        elif what == 5:
            number = st.integers(0, 255)
            each = data.draw(st.sampled_from([number, st.lists(number, min_size=SIZE, max_size=SIZE)]))
            weights = data.draw(st.lists(each, min_size=len(parents), max_size=len(parents)), label="weights")
            kind, link, compute = "semiring", links.semiring("plus-times", "uint8", weights), weighed(weights)
        else:
            kind, link, compute = "function", None, scramble
        self.add_link(child, parents, kind, link, compute)

    @rule(
        data=st.data(),
        columns=st.lists(st.integers(0, 7), min_size=4, max_size=4),
        starts=st.tuples(st.integers(0, 2), st.integers(2, 4)),
    )
    def depend_on_matrix(self, data, columns, starts):
        """child = A x, A in three pages of its own."""
        x = self.some_page(data, lambda page: len(self.model.pages[page].data) == SIZE)
        if x is None:
            return
        row_start, column, value, child = (self.create(size) for size in (24, 16, 4, 2))
        for page, content in (
            (row_start, b"".join(number.to_bytes(8, "little") for number in (0, *starts))),
            (column, b"".join(number.to_bytes(4, "little") for number in columns)),
            (value, bytes(columns[::-1])),
        ):
            self.write_page(page, 0, content)
        self.add_link(child, (x, row_start, column, value), "matrix", links.matrix("plus-times", "uint8", 2, 8), matrix)

    def add_link(self, child, parents, kind, link, compute):
        before = self.state.digest(), self.state.graph.edges(), self.state.graph.order(), self.state.seq
        fn = function_of(self.calls, child) if kind == "function" else None
        written = self.state.seq % 2 and next((page for page in parents if page not in self.model.data), None)
        try:
            if self.state.seq % 2 == 0:
                self.state.depend(child, list(parents), fn=fn, link=link)
            else:
                with self.state.batch() as batch:
                    batch.depend(child, list(parents), fn=fn, link=link)
                    if written:
                        batch.write(written, b"\7")
        except mmsb.GraphCycleError:
            assert child in parents or any(child == page or child in self.all_above(page) for page in parents)
            assert (self.state.digest(), self.state.graph.edges(), self.state.graph.order(), self.state.seq) == before
            return
        if written and self.model.write(written, 0, b"\7"):
            self.model.touch(written)
        self.model.link(child, Rule(parents, compute, kind == "function"))
        self.model.commit()
        self.after_link(child)

    def after_link(self, child):
        if self.deferred is None:
            self.model.wave({child})
        else:
            self.model.mark()

    def all_above(self, page):
        found, todo = set(), [page]
        while todo:
            below = todo.pop()
            for parent, child, _ in self.model.edges():
                if child == below and parent not in found:
                    found.add(parent)
                    todo.append(parent)
        return found

    @rule(data=st.data())
    def control(self, data):
        """A control edge."""
        parent, child = self.some_page(data), self.some_page(data)
        try:
            self.state.depend(child, parent, kind="control")
        except (mmsb.GraphCycleError, mmsb.EdgeExistsError):
            assert child == parent or child in self.all_above(parent) or parent in self.model.control.get(child, ())
            return
        self.model.add_control(child, parent)
        self.model.commit()

    @rule(data=st.data())
    def undepend(self, data):
        """The end of a link; the page may be written with it."""
        child = self.some_page(data, lambda page: page in self.model.data)
        if child is None:
            return
        written = False
        if self.state.seq % 2 == 0:
            self.state.undepend(child)
        else:
            with self.state.batch() as batch:
                batch.undepend(child)
                batch.write(child, b"\5")
            written = self.model.write(child, 0, b"\5")
        if written:
            self.model.touch(child)
        self.model.unlink(child)
        self.model.commit()
        if written:
            self.after_commit()

    @precondition(lambda self: len(self.model.pages) > 4)
    @rule(data=st.data(), detach=st.booleans())
    def delete(self, data, detach):
        """A page with edges stays, unless they may go too."""
        page = self.some_page(data)
        if not detach and any(page in edge[:2] for edge in self.model.edges()):
            with pytest.raises(mmsb.PageHasEdgesError):
                self.state.delete_page(page)
            return
        self.state.delete_page(page, detach=detach)
        for child in [child for child, how in self.model.data.items() if page in (child, *how.parents)]:
            self.model.unlink(child)
        for child, parents in list(self.model.control.items()):
            if page in (child, *parents):
                self.model.remove_control(child, set(parents) if page == child else {page})
        self.model.delete(page)
        self.model.commit()
        self.after_commit_if(self.model.dirty & self.model.pages.keys())

    def after_commit_if(self, dirty):
        if dirty:
            self.after_commit()

    @rule(size=st.sampled_from([1, SIZE]))
    def create_page(self, size):
        """One more page."""
        self.create(size)

    # ---- writes

    def write_page(self, page, at, content):
        self.state.page(page).write(content, at=at)
        if self.model.write(page, at, content):
            self.model.touch(page)
            self.model.commit()
            self.after_commit()

    @rule(data=st.data(), content=st.sampled_from([b"\1", b"\2\3", bytes([BOMB]), b"\7" * SIZE, b"\0"]))
    def write(self, data, content):
        """A write; a computed page refuses it."""
        page = self.some_page(data)
        content = content[: len(self.model.pages[page].data)]
        if page in self.model.data:
            with pytest.raises(mmsb.DerivedPageError):
                self.state.page(page).write(content)
            return
        at = data.draw(st.integers(0, len(self.model.pages[page].data) - len(content)))
        self.write_page(page, at, content)

    @rule(data=st.data(), count=st.integers(0, 4), label=st.sampled_from([None, "red"]))
    def batch(self, data, count, label):
        """Several writes in one commit, one wave."""
        with self.state.batch(label=label) as batch:
            for _ in range(count):
                page = self.some_page(data, lambda page: page not in self.model.data)
                content = data.draw(st.binary(min_size=1, max_size=1))
                batch.write(page, content)
                if self.model.write(page, 0, content):
                    self.model.touch(page)
        self.model.commit(label)
        self.after_commit()

    @rule(data=st.data())
    def resize(self, data):
        """A page in no link changes its size as it likes, one in a native link does not."""
        page = self.some_page(data)
        used = page in self.model.data or any(
            page in how.parents and not how.is_function for how in self.model.data.values()
        )
        if used:
            with pytest.raises((mmsb.LinkError, mmsb.DerivedPageError)):
                self.state.page(page).resize(3)
        elif not self.model.children(page) and page not in self.model.control:
            size = len(self.model.pages[page].data)
            self.state.page(page).resize(size + 1)
            self.model.resize(page, size + 1)
            self.model.commit()
            self.state.page(page).resize(size)
            self.model.resize(page, size)
            self.model.commit()

    # ---- waves

    @rule()
    def propagate(self):
        """Everything, also what failed."""
        self.state.propagate()
        self.model.propagate()

    @precondition(lambda self: self.deferred is None)
    @rule()
    def defer(self):
        """No wave until the end."""
        self.deferred = self.state.deferred()
        self.deferred.__enter__()

    @precondition(lambda self: self.deferred is not None)
    @rule()
    def end_deferring(self):
        """One wave for all."""
        self.deferred.__exit__(None, None, None)
        self.deferred = None
        if self.model.pending:
            self.model.catch_up()

    @precondition(lambda self: self.deferred is not None and self.model.stale & self.model.data.keys())
    @rule(data=st.data())
    def compute_one(self, data):
        """A lazy policy computes what is read."""
        page = data.draw(st.sampled_from(sorted(self.model.stale & self.model.data.keys())))
        self.state._engine.compute(page)
        self.model.compute_one(page)

    # ---- time, files

    @rule(data=st.data())
    def travel(self, data):
        """Pages, graph and digest of any past seq."""
        seq = data.draw(st.integers(0, self.model.seq))
        past = self.state.at(seq)
        assert picture_of(past) == picture(self.model.at(seq))
        assert [edge[:3] for edge in past.graph.edges()] == self.model.edges_at[seq]
        assert seq not in self.digests or past.digest() == self.digests[seq]

    @rule(data=st.data())
    def step(self, data):
        """A stepper, back and forth."""
        with self.state.stepper() as stepper:
            for seq in data.draw(st.lists(st.integers(max(0, self.model.seq - 12), self.model.seq), max_size=4)):
                stepper.goto(seq)
                assert picture_of(stepper) == picture(self.model.at(seq))
                assert seq not in self.digests or stepper.digest() == self.digests[seq]

    @rule(data=st.data())
    def fork(self, data):
        """A fork has the pages, the graph, and what is stale."""
        seq = data.draw(st.sampled_from([self.model.seq, data.draw(st.integers(0, self.model.seq))]))
        with self.state.fork(at=seq) as other:
            other.stale_reads = True
            assert picture_of(other) == picture(self.model.at(seq))
            assert [edge[:3] for edge in other.graph.edges()] == self.model.edges_at[seq]
            if seq == self.model.seq:
                twin = copy.deepcopy(self.model)
                twin.reopen()
                assert stale_of(other) == twin.stale, (stale_of(other), twin.stale, twin.todo)
                assert other.digest() == self.state.digest()
                other.propagate()
                twin.propagate()
                assert picture_of(other) == picture(twin.pages)

    @precondition(lambda self: self.durable)
    @rule()
    def checkpoint(self):
        """A checkpoint on the way."""
        self.state.checkpoint()

    @precondition(lambda self: self.durable)
    @rule(how=st.sampled_from(["clean", "checkpoint", "crash"]))
    def reopen(self, how):
        """Closed, or killed; functions are gone, everything else is there."""
        digest = self.state.digest()
        if self.deferred is not None and how != "crash":
            self.end_deferring()
            digest = self.state.digest()
        if how == "crash":
            survivor = os.path.join(self.folder, f"store {self.model.seq} {len(os.listdir(self.folder))}")
            with self.state._log.sync_lock, self.state._exclusive():  # a crash is one moment to the flusher, too
                shutil.copytree(self.path, survivor)
            self.state.close()
            self.path = survivor
        else:
            if how == "checkpoint":
                self.state.checkpoint()
            self.state.close()
        self.deferred = None
        self.state = self.open()
        self.model.reopen()
        assert self.state.digest() == digest

    @rule(data=st.data())
    def register(self, data):
        """A function is registered again, and runs."""
        child = self.some_page(data, lambda page: page in self.model.data and self.model.data[page].is_function)
        if child is None:
            return
        how = self.model.data[child]
        self.state.depend(child, list(how.parents), fn=function_of(self.calls, child))
        self.model.register(child, scramble)
        self.after_link(child)

    # ---- always

    @invariant()
    def same(self):
        """Bytes, epochs, staleness, graph, what was called, and the log."""
        if not hasattr(self, "state"):
            return
        assert self.state.seq == self.model.seq
        assert stale_of(self.state) == self.model.stale, (stale_of(self.state), self.model.todo, self.model.marked)
        self.state.stale_reads = True
        assert picture_of(self.state) == picture(self.model.pages)
        self.state.stale_reads = False
        graph = self.state.graph
        assert [edge[:3] for edge in graph.edges()] == self.model.edges()
        assert graph.order() == self.model.order() and graph.core.check() is None
        assert self.calls == self.model.calls
        self.calls.clear()
        self.model.calls.clear()
        commit = next(self.state.log(since=self.state.seq), None)
        if commit is not None:
            moved = self.model.waves.get(commit.seq)
            assert commit.cause == self.model.causes.get(commit.seq)
            if moved is not None:
                assert [delta.page_id for delta in commit.deltas] == moved
        self.digests[self.model.seq] = self.state.digest()

    def teardown(self):
        """Verifies the whole history, and that computing everything again changes nothing."""
        if hasattr(self, "state"):
            report = self.state.verify(recompute=True)
            assert not report.findings, report.findings
            self.state.close()
            shutil.rmtree(self.folder)


def stale_of(state):
    return {page.page_id for page in state.pages() if state._is_stale(page.page_id)}


class Durable(Propagation):
    durable = True


TestMemory = Propagation.TestCase
TestDurable = Durable.TestCase
