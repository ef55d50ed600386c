"""Policies decide when, never what: after propagate() every page holds what the policy `immediate` gives, whatever
graph, whatever life; and a read gives that too, or an error.
"""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb import links
from mmsb.builtin.policies import Deferred, Immediate, Lazy, Parallel
from mmsb.plugin import Policy

LANES = 4
SOURCES = 3
PAGES = 12


class EveryThird(Policy):
    """A wave after every third commit, and when it is closed."""

    def __init__(self):
        self.commits = 0

    def after_commit(self, engine):
        self.commits += 1
        if self.commits % 3 == 0:
            engine.propagate()

    def close(self, engine):
        engine.propagate()


POLICIES = {
    "immediate": Immediate,
    "deferred": Deferred,
    "lazy": Lazy,
    "parallel": lambda: Parallel(threads=3, least_bytes=0),
    "every third": EveryThird,
}

kinds = st.sampled_from(["function", "semiring", "reduce", "copy"])
pages = st.integers(1, PAGES)
rules = st.lists(
    st.tuples(kinds, st.lists(pages, min_size=1, max_size=3, unique=True)), min_size=PAGES - SOURCES, max_size=PAGES
)
commands = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, SOURCES), st.integers(0, LANES - 1), st.integers(-2, 2)),
        st.tuples(st.just("batch"), st.integers(1, SOURCES), st.integers(0, LANES - 1), st.integers(-2, 2)),
        st.tuples(st.just("read"), pages),
        st.tuples(st.just("deferred"), st.integers(1, SOURCES), st.integers(0, LANES - 1), st.integers(-2, 2)),
        st.tuples(st.just("unlink"), st.integers(SOURCES + 1, PAGES)),
        st.tuples(st.just("propagate")),
    ),
    max_size=25,
)


def summed(out, *parents):
    out[:] = numpy.sum(parents, axis=0) % 1000 + 1


def connect(state, child, kind, parents):
    """Gives a page its link; parents that come after it are taken for sources, so that there is no cycle."""
    parents = list(dict.fromkeys(parent if parent < child else parent % SOURCES + 1 for parent in parents))
    if kind == "function":
        state.depend(child, on=parents, fn=summed, dtype="int64")
    elif kind == "semiring":
        state.depend(child, on=parents, link=links.semiring("min-plus", "int64", [1] * len(parents)))
    elif kind == "reduce":
        state.depend(child, on=parents, link=links.copy([(len(parents) - 1, 8, 0, 16), (0, 0, 16, 16)]))
    else:
        state.depend(child, on=parents[:1], link=links.passthrough())


def lived(policy, rules, commands):
    """The State after a life with a policy, and what its reads gave (None: refused)."""
    state = mmsb.open(policy=policy)
    state.create_pages(PAGES, 8 * LANES)
    for child, (kind, parents) in zip(range(SOURCES + 1, PAGES + 1), rules, strict=False):
        connect(state, child, kind, parents)
    reads = []
    for command, *facts in commands:
        if command == "read":
            try:
                reads.append(state.page(facts[0]).read())
            except mmsb.StalePageError:
                reads.append(None)
        elif command == "unlink":
            if state.graph.parents(facts[0]):
                state.propagate()  # a page that loses its link keeps its bytes: those of now
                state.undepend(facts[0])
        elif command == "propagate":
            state.propagate()
        else:
            page, lane, value = facts
            data = value.to_bytes(8, "little", signed=True)
            if command == "write":
                state.page(page).write(data, at=8 * lane)
            elif command == "batch":
                with state.batch() as batch:
                    batch.write(page, data, at=8 * lane)
                    batch.write(page % SOURCES + 1, data)
            else:
                with state.deferred():
                    state.page(page).write(data, at=8 * lane)
                    state.page(page).write(data, at=0)
    return state, reads


@pytest.mark.parametrize("name", POLICIES)
@given(rules=rules, commands=commands)
def test_the_bytes_are_those_of_immediate(name, rules, commands):
    right, right_reads = lived("immediate", rules, commands)
    state, reads = lived(POLICIES[name](), rules, commands)
    with right, state:
        assert all(read in (None, wanted) for read, wanted in zip(reads, right_reads, strict=True))
        if name in ("lazy", "immediate", "parallel"):
            assert reads == right_reads
        state.propagate()
        assert [page.read() for page in state.pages()] == [page.read() for page in right.pages()]
        assert not state.verify().findings


@given(rules=rules, commands=commands)
def test_threads_write_the_same_log(rules, commands):
    right, _ = lived(Immediate(), rules, commands)
    state, _ = lived(Parallel(threads=3, least_bytes=0), rules, commands)
    with right, state:
        assert state.digest() == right.digest() and state.seq == right.seq
        assert [commit.deltas for commit in state.log()] == [commit.deltas for commit in right.log()]
