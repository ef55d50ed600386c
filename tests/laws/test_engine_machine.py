"""The engine against the literal model: random programs, in memory and durable, on every kernel level.

Stored States are closed, killed and reopened, compacted, forked, checkpointed in the middle of a batch, and looked at
by readers of the files.
"""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import mmsb
from mmsb.testing.model import Model, ModelPage, picture, picture_of

SIZES = st.sampled_from([1, 2, 7, 63, 64, 65, 255, 256, 1000, 4096, 5000])


class Engine(RuleBasedStateMachine):
    """One State and one Model that do the same things."""

    durable = False
    disable = ""

    @initialize()
    def begin(self):
        """Opens the State."""
        self.folder = tempfile.mkdtemp() if self.durable else None
        self.path = os.path.join(self.folder, "store") if self.durable else None
        self.state = self.open()
        self.model = Model()
        self.names = self.copies = self.kept = 0

    def open(self):
        """The State, anew or again."""
        options = {"segment_bytes": 16384} if self.durable else {}
        return mmsb.open(self.path, disable_cpu=self.disable, **options)

    def some_page(self, data):
        """Id of one of the pages."""
        return data.draw(st.sampled_from(sorted(self.model.pages)), label="page")

    @rule(size=SIZES, content=st.binary(max_size=40), named=st.booleans())
    def create(self, size, content, named):
        """create_page with content, name and metadata."""
        content = content[:size]
        name = None
        if named:
            self.names += 1
            name = f"page {self.names}"
        notes = {"n": self.names} if named else None
        page = self.state.create_page(size, name=name, data=content, metadata=notes)
        assert page.page_id == self.model.create(size, content, name, notes)
        self.model.commit()

    @rule(count=st.integers(1, 5), size=SIZES)
    def create_many(self, count, size):
        """create_pages."""
        ids = self.state.create_pages(count, size)
        assert list(ids) == [self.model.create(size) for _ in range(count)]
        self.model.commit()

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data())
    def write(self, data):
        """page.write anywhere in a page."""
        page_id = self.some_page(data)
        size = len(self.model.pages[page_id].data)
        at = data.draw(st.integers(0, size - 1))
        content = data.draw(st.binary(max_size=min(80, size - at)))
        delta = self.state.page(page_id).write(content, at=at)
        changed = self.model.write(page_id, at, content)
        assert (delta is not None) == changed
        if changed:
            assert delta.seq == self.model.commit()
            assert delta.epoch == self.model.pages[page_id].epoch

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), step=st.integers(1, 50))
    def scatter(self, data, step):
        """update_page with changes strewn over the page."""
        page_id = self.some_page(data)
        content = bytearray(self.model.pages[page_id].data)
        for index in range(data.draw(st.integers(0, 20)), len(content), step):
            content[index] ^= data.draw(st.sampled_from([0, 1, 255]))
        self.state.update_page(page_id, content)
        if self.model.write(page_id, 0, bytes(content)):
            self.model.commit()

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), label=st.sampled_from([None, "red", "green"]))
    def batch(self, data, label):
        """Several writes, a creation, a resize in one commit; reads inside see what is staged."""
        with self.state.batch(label=label, source="machine") as b:
            for _ in range(data.draw(st.integers(0, 4))):
                page_id = self.some_page(data)
                size = len(self.model.pages[page_id].data)
                at = data.draw(st.integers(0, size - 1))
                content = data.draw(st.binary(max_size=min(30, size - at)))
                b.write(page_id, content, at=at)
                self.model.write(page_id, at, content)
                assert b.read(page_id) == bytes(self.model.pages[page_id].data)
            if data.draw(st.booleans()):
                page = b.create_page(100)
                b.write(page, b"new", at=5)
                page_id = self.model.create(100)
                self.model.write(page_id, 5, b"new")
                assert page.page_id == page_id and b.read(page) == bytes(self.model.pages[page_id].data)
            if data.draw(st.booleans()):
                page_id, size = self.some_page(data), data.draw(SIZES)
                b.resize(page_id, size)
                self.model.resize(page_id, size)
                assert b.read(page_id) == bytes(self.model.pages[page_id].data)
        assert b.seq == self.model.commit(label)

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data())
    def broken_batch(self, data):
        """A batch that fails leaves nothing behind."""
        page_id = self.some_page(data)
        with pytest.raises(ZeroDivisionError), self.state.batch() as b:
            b.write(page_id, b"x")
            b.create_page(10, name="never")
            raise ZeroDivisionError

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), commits=st.booleans(), checkpoint=st.booleans())
    def long_batch(self, data, commits, checkpoint):
        """While a batch that has made a page is open, others make pages too and checkpoints are taken."""
        page_id = self.some_page(data)
        batch = self.state.batch()
        made = batch.create_page(10, data=b"long")
        other = self.state.create_page(3)
        self.model.next_page_id = made.page_id
        if checkpoint and self.durable:
            self.state.checkpoint()
        del self.model.pages[self.model.create(1)]  # what the batch took
        assert self.model.create(3) == other.page_id
        self.model.commit()
        if not commits:
            batch.discard()
            return
        batch.write(page_id, b"!", at=0)
        assert batch.commit() == self.state.seq
        self.model.pages[made.page_id] = ModelPage([*b"long", *bytes(6)], None, {})
        self.model.write(page_id, 0, b"!")
        self.model.commit()

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data())
    def delete(self, data):
        """delete_page."""
        page_id = self.some_page(data)
        self.state.delete_page(page_id)
        self.model.delete(page_id)
        self.model.commit()

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data())
    def rename(self, data):
        """Renaming to a fresh name, or to none."""
        page_id = self.some_page(data)
        self.names += 1
        name = data.draw(st.sampled_from([None, f"page {self.names}"]))
        self.state.page(page_id).rename(name)
        self.model.pages[page_id].name = name
        self.model.commit()

    @precondition(lambda self: self.model.seq > 0)
    @rule(data=st.data())
    def travel(self, data):
        """Any past seq is what the model remembers."""
        seq = data.draw(st.integers(0, self.model.seq), label="seq")
        if seq < self.kept:
            with pytest.raises(mmsb.RetentionError):
                self.state.at(seq)
        else:
            assert picture_of(self.state.at(seq)) == picture(self.model.at(seq))

    @precondition(lambda self: self.model.labels)
    @rule(data=st.data())
    def travel_to_label(self, data):
        """A label names the newest commit that carries it."""
        label = data.draw(st.sampled_from(sorted(self.model.labels)))
        if self.model.labels[label] >= self.kept:
            assert self.state.at(label).seq == self.model.labels[label]

    @precondition(lambda self: self.model.seq > 0)
    @rule(data=st.data())
    def fork(self, data):
        """A fork begins with the past that it was made of, and goes its own way."""
        seq = data.draw(st.integers(self.kept, self.model.seq), label="seq")
        before = self.state.digest()
        with self.state.fork(at=seq) as other:
            assert picture_of(other) == picture(self.model.at(seq)) and other.seq == seq
            other.create_page(5)
        assert self.state.digest() == before

    @precondition(lambda self: self.durable)
    @rule(clean=st.booleans())
    def reopen(self, clean):
        """Closing and opening again keeps everything; so does a checkpoint before it."""
        digest = self.state.digest()
        if clean:
            self.state.checkpoint()
        self.state.close()
        self.state = self.open()
        assert self.state.digest() == digest

    @precondition(lambda self: self.durable)
    @rule()
    def crash(self):
        """What a process leaves that is killed now is all there: every commit was in the files."""
        digest = self.state.digest()
        self.copies += 1
        copy = os.path.join(self.folder, f"copy {self.copies}")
        shutil.copytree(self.path, copy)
        self.state.close()
        shutil.rmtree(self.path)
        self.path = copy
        self.state = self.open()
        assert self.state.digest() == digest and self.state.recovered.torn_bytes == 0

    @precondition(lambda self: self.durable)
    @rule(full=st.booleans())
    def checkpoint(self, full):
        """A checkpoint, full or incremental, changes nothing that can be seen."""
        self.state._checkpoints.write(self.state, full=full)

    @precondition(lambda self: self.durable and self.model.seq > 0)
    @rule(data=st.data())
    def compact(self, data):
        """What is before goes; what is asked for, and what follows, stays."""
        seq = data.draw(st.integers(self.kept, self.model.seq), label="seq")
        self.state.compact(before=seq)
        self.kept = max(self.kept, seq)

    @precondition(lambda self: self.durable)
    @rule()
    def look(self):
        """A reader of the files sees what the writer has committed."""
        with mmsb.open(self.path, read_only=True) as reader:
            assert reader.seq == self.model.seq and reader.digest() == self.state.digest()

    @invariant()
    def same(self):
        """State and model agree on everything that is there now."""
        if hasattr(self, "state"):
            assert self.state.seq == self.model.seq
            assert picture_of(self.state) == picture(self.model.pages)
            assert self.state._check() is None

    def teardown(self):
        """Verifies the whole history once more."""
        if hasattr(self, "state"):
            assert not self.state.verify().findings
            self.state.close()
            if self.folder:
                shutil.rmtree(self.folder)


def machine(durable, disable):
    """A test case of the machine for one kind of State and one kernel level."""
    kind = type(f"Engine_{durable}_{disable or 'all'}", (Engine,), {"durable": durable, "disable": disable})
    case = kind.TestCase
    # 8 machines, each at least 50 * 50 steps: 20,000 in all.
    case.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
    return case


TestMemory = machine(False, "")
TestMemoryAvx2 = pytest.mark.slow(machine(False, "avx512"))
TestMemorySse = pytest.mark.slow(machine(False, "avx2"))
TestMemoryScalar = pytest.mark.slow(machine(False, "sse42"))
TestDurable = machine(True, "")
TestDurableAvx2 = pytest.mark.slow(machine(True, "avx512"))
TestDurableSse = pytest.mark.slow(machine(True, "avx2"))
TestDurableScalar = pytest.mark.slow(machine(True, "sse42"))
