"""When waves run: names, deferred(), readers, changes of policy, closing, crashes."""

import os
import signal
import subprocess
import sys
import threading

import numpy
import pytest

import mmsb
from mmsb import links
from mmsb.builtin.policies import Deferred, Immediate, Lazy, Parallel
from mmsb.plugin import Policy
from mmsb.testing import EventLog, Trial

pytest_plugins = ["mmsb.testing.pytest_plugin"]


def chain(state, length=3):
    """A source and pages passed on from it, each from the one before."""
    pages = [state.create_page(8) for _ in range(length)]
    for parent, child in zip(pages, pages[1:], strict=False):
        state.depend(child, on=[parent], link=links.passthrough())
    return pages


class Noting(Policy):
    """Does nothing, and notes what it is asked."""

    def __init__(self):
        self.calls = []

    def after_commit(self, engine):
        self.calls.append(("commit", engine.pending, tuple(engine.changed), tuple(engine.linked)))

    def before_read(self, engine, page_id):
        self.calls.append(("read", page_id))

    def close(self, engine):
        self.calls.append(("close", engine.pending))


# ---- names


def test_policies_by_name(state):
    assert state.policy is None
    state.policy = "lazy"
    assert isinstance(state.policy, Lazy)
    state.policy = "immediate"
    assert state.policy is None
    with mmsb.open(policy="deferred") as other:
        assert isinstance(other.policy, Deferred)


def test_unknown_policies_are_refused_and_change_nothing(state, tmp_path):
    state.policy = "lazy"
    before = state.policy
    with pytest.raises(mmsb.PluginError, match="no policy 'lazzy'"):
        state.policy = "lazzy"
    with pytest.raises(TypeError, match="after_commit"):
        state.policy = object()
    assert state.policy is before
    with pytest.raises(mmsb.PluginError):
        mmsb.open(tmp_path / "s", policy="lazzy")
    assert not (tmp_path / "s").exists()


def test_no_plugin_is_loaded_for_the_default():
    code = "import sys, mmsb; s = mmsb.open(); s.policy = 'immediate'; assert 'mmsb.plugin.manager' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_policy_is_told(state):
    state.policy = policy = Noting()
    a, b, c = chain(state)
    a.write(b"1")
    state.create_page(8).write(b"nobody")
    for _ in range(2):
        with pytest.raises(mmsb.StalePageError):
            c.read()
    state.close()
    assert policy.calls == [
        ("commit", 1, (), (2,)),
        ("commit", 2, (), (2, 3)),
        ("commit", 3, (1,), (2, 3)),
        ("commit", 3, (1,), (2, 3)),  # of creating a page that nobody depends on
        ("commit", 3, (1,), (2, 3)),  # and of writing it
        ("read", 3),
        ("read", 3),
        ("close", 3),
    ]
    assert b.page_id == 2


# ---- event logs: what each policy runs


def test_lazy_computes_what_is_read_and_what_that_needs(state):
    state.policy = "lazy"
    a, b, c = chain(state)
    d = state.create_page(8)
    state.depend(d, on=[a], link=links.passthrough())
    state.propagate()
    log = EventLog(state, "page_stale", "wave_finished")
    a.write(b"1")
    assert [entry[2] for entry in log.take()] == [b.page_id, d.page_id, c.page_id]
    assert c[0:1] == b"1" and b[0:1] == b"1"
    (wave,) = log.events()
    assert wave.changed == (b.page_id, c.page_id) and wave.partial
    a.write(b"2")
    assert b[0:1] == b"2"
    assert [type(event).__name__ for event in log.events()] == ["PageStale"] * 2 + ["WaveFinished"]
    with pytest.raises(mmsb.StalePageError), state.deferred():
        c.read()
    state.propagate()
    (wave,) = log.events()
    assert set(wave.changed) == {c.page_id, d.page_id} and not wave.partial
    state.propagate()
    assert log.events() == []


def test_lazy_does_not_try_again_until_something_changed(state):
    calls = []

    def compute(out, parent):
        calls.append(parent[0])
        out[0] = 100 // parent[0]

    state.policy = "lazy"
    a, b = state.create_page(1, data=b"\0"), state.create_page(1)
    state.depend(b, on=[a], fn=compute)
    for _ in range(3):
        with pytest.raises(mmsb.StalePageError, match="ZeroDivisionError") as caught:
            b.read()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert calls == [0]
    state.propagate()
    assert calls == [0, 0]
    a.write(b"\5")
    assert b.read() == bytes([20]) and calls == [0, 0, 5]


def test_a_page_in_many_ways_stale_is_computed_once(state):
    calls = []

    def compute(out, *parents):
        calls.append(len(parents))
        out[0] = sum(parent[0] for parent in parents) % 256

    state.policy = "lazy"
    a = state.create_page(1)
    layers = [a]
    for _ in range(5):
        page = state.create_page(1)
        state.depend(page, on=layers, fn=compute)
        layers.append(page)
    a.write(b"\1")
    assert layers[-1].read() == b"\x10" and calls == [1, 2, 3, 4, 5]


def test_many_writes_without_a_wave_are_all_remembered(state):
    state.policy = "deferred"
    pages = [state.create_page(8) for _ in range(50)]
    children = []
    for page in pages:
        child = state.create_page(8)
        state.depend(child, on=[page], link=links.passthrough())
        children.append(child)
    state.propagate()
    for i in range(6000):  # more than the notes that are kept one by one
        pages[i % 40].write(i.to_bytes(4, "little"))
    state.policy = "lazy"  # computes what is pending
    for i in range(40):
        pages[i].write(b"\xff", at=7)
        assert children[i].read() == pages[i].read()
    pages[45].write(b"x")
    assert children[45].read() == pages[45].read()


# ---- deferred


def test_deferred_runs_one_wave_at_the_end(state):
    a, b, c = chain(state)
    log = EventLog(state, "wave_finished")
    with state.deferred():
        a.write(b"1")
        with state.deferred():
            a.write(b"2")
            with pytest.raises(mmsb.StalePageError, match="changed since"):
                c.read()
        a.write(b"3")
        assert log.take() == []
    assert c[0:1] == b"3" and [event.changed for event in log.events()] == [(b.page_id, c.page_id)]


@pytest.mark.parametrize("policy", [None, Immediate, lambda: Parallel(2, 0)])
def test_the_end_of_deferred_tries_nothing_again_that_failed(policy):
    calls = []

    def once_wrong(out, parent):
        calls.append(bytes(parent))
        if len(calls) == 1:
            raise RuntimeError("not yet")

    with mmsb.open(policy=policy and policy()) as state:
        a, b = chain(state, 2)
        parent, child = state.create_page(8), state.create_page(8)
        state.depend(child, on=parent, fn=once_wrong)
        with state.deferred():
            a.write(b"1")
        assert b.read(0, 1) == b"1" and len(calls) == 1, "nothing that the page depends on has changed"
        with pytest.raises(mmsb.StalePageError, match="not yet"):
            child.read()
        assert state.propagate() and len(calls) == 2


@pytest.mark.parametrize("policy", [None, Immediate, lambda: Parallel(2, 0)])
def test_a_page_linked_while_deferred_gets_its_wave_although_it_was_tried_in_vain(policy):
    calls = []

    def wrong(out, parent):
        calls.append(bytes(parent))
        raise RuntimeError("not yet")

    with mmsb.open(policy=policy and policy()) as state:
        parent, child = state.create_page(8), state.create_page(8)
        with state.deferred():
            state.depend(child, on=parent, fn=wrong)
            linked = state.seq
            state._engine.compute(child.page_id)
            assert len(calls) == 1 and state.seq == linked + 1
        assert len(calls) == 2
        assert next(state.log(since=state.seq)).cause == linked + 1, "what was linked is no answer to a change"


def test_deferred_without_changes_runs_none(state):
    chain(state)
    log = EventLog(state, "wave_finished")
    with state.deferred():
        pass
    assert log.take() == []


def test_links_made_while_deferred_wait_too(state):
    with state.deferred():
        a, b, c = chain(state)
        a.write(b"1")
        with pytest.raises(mmsb.StalePageError):
            b.read()
    assert c[0:1] == b"1"


def test_an_exception_inside_deferred_leaves_nothing_behind(state):
    a, _, c = chain(state)
    with pytest.raises(KeyError), state.deferred():
        a.write(b"1")
        raise KeyError
    assert c[0:1] == b"1"
    a.write(b"2")
    assert c[0:1] == b"2"


def test_a_wave_can_be_asked_for_while_deferred(state):
    a, _, c = chain(state)
    with state.deferred():
        a.write(b"1")
        assert state.propagate() == 2 and c[0:1] == b"1"
        a.write(b"2")
    assert c[0:1] == b"2"


def test_closing_while_deferred(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        a, _, c = chain(state)
        with state.deferred():
            a.write(b"1")
            state.close()
    with mmsb.open(tmp_path / "s") as state:
        with pytest.raises(mmsb.StalePageError):
            state.page(c.page_id).read()
        state.propagate()
        assert state.page(c.page_id)[0:1] == b"1"


def test_a_policy_sees_what_was_deferred_as_one_commit(state):
    state.policy = policy = Noting()
    a, _, _ = chain(state)
    policy.calls.clear()
    with state.deferred():
        a.write(b"1")
        a.write(b"2")
    assert [call[0] for call in policy.calls] == ["commit"]


# ---- changes, closing, reopening


@pytest.mark.parametrize("following", ["immediate", "deferred", "lazy", "parallel"])
def test_a_change_of_policy_computes_what_is_pending(state, following):
    state.policy = policy = Noting()
    a, _, c = chain(state)
    a.write(b"1")
    state.policy = following
    assert c[0:1] == b"1" and policy.calls[-1][0] == "close"
    a.write(b"2")
    state.propagate()
    assert c[0:1] == b"2" and policy.calls[-1][0] == "close"


def test_a_change_of_policy_while_deferred(state):
    a, _, c = chain(state)
    with state.deferred():
        a.write(b"1")
        state.policy = "lazy"
        a.write(b"2")
        with pytest.raises(mmsb.StalePageError):
            c.read()
    assert c[0:1] == b"2"


@pytest.mark.parametrize("policy", ["deferred", "lazy"])
def test_closing_with_pending_work_leaves_it_stale_and_known_to_be_so(tmp_path, policy):
    with mmsb.open(tmp_path / "s", policy=policy) as state:
        a, b, c = (page.page_id for page in chain(state))
        state.propagate()
        state.page(a).write(b"1")
    with mmsb.open(tmp_path / "s", read_only=True, policy="lazy") as reader:
        with pytest.raises(mmsb.StalePageError, match="changed since"):
            reader.page(c).read()
        with pytest.raises(mmsb.ReadOnlyError):
            reader.propagate()
        reader.stale_reads = True
        assert reader.page(c).read() == bytes(8)
    with mmsb.open(tmp_path / "s", policy="lazy") as state:
        assert state.page(c)[0:1] == b"1" and state.page(b)[0:1] == b"1"


def test_a_policy_that_computes_at_the_end(tmp_path):
    class AtTheEnd(Noting):
        def close(self, engine):
            engine.propagate()

    with mmsb.open(tmp_path / "s", policy=AtTheEnd()) as state:
        a, _, c = chain(state)
        a.write(b"1")
        log = EventLog(state, "wave_finished")
    assert len(log.take()) == 1
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.page(c.page_id)[0:1] == b"1"


def test_a_policy_that_raises_at_the_end_does_not_keep_the_state_open(tmp_path):
    class Broken(Noting):
        def close(self, engine):
            raise RuntimeError("broken")

    state = mmsb.open(tmp_path / "s", policy=Broken())
    chain(state)
    with pytest.raises(RuntimeError, match="broken"):
        state.close()
    assert state.closed
    mmsb.open(tmp_path / "s").close()


def test_a_policy_that_raises_leaves_pages_stale(state):
    class Broken(Noting):
        def after_commit(self, engine):
            if engine.changed:
                raise RuntimeError("broken")

    state.policy = Broken()
    a, b, _ = chain(state)
    state.propagate()
    with pytest.raises(RuntimeError, match="broken"):
        a.write(b"1")
    assert a[0:1] == b"1"
    with pytest.raises(mmsb.StalePageError):
        b.read()
    state.policy = "immediate"
    assert b[0:1] == b"1"


CRASH = """
import os, signal, sys
import mmsb
from mmsb import links
from mmsb.plugin import Policy

class Dying(Policy):
    def after_commit(self, engine):
        if engine.changed:
            os.kill(os.getpid(), signal.SIGKILL)
        engine.propagate()

state = mmsb.open(sys.argv[1], policy=Dying())
a, b = state.create_page(8), state.create_page(8)
state.depend(b, on=[a], link=links.passthrough())
a.write(b"1")
"""


def test_a_crash_between_a_commit_and_its_wave(tmp_path):
    result = subprocess.run([sys.executable, "-c", CRASH, os.fspath(tmp_path / "s")])
    assert result.returncode == -signal.SIGKILL
    with mmsb.open(tmp_path / "s", read_only=True) as reader, pytest.raises(mmsb.StalePageError, match="changed since"):
        reader.page(2).read()
    with mmsb.open(tmp_path / "s") as state:
        assert state.page(1)[0:1] == b"1"
        with pytest.raises(mmsb.StalePageError, match="changed since"):
            state.page(2).read()
        assert state.propagate() == 1 and state.page(2)[0:1] == b"1"
        assert not state.verify().findings


# ---- the engine's own refusals


def test_no_wave_after_close(state):
    state.policy = policy = Noting()
    chain(state)
    engine = state._engine
    state.close()
    for call in (engine.propagate, engine.wave_now):
        with pytest.raises(mmsb.StateClosedError):
            call()
    with pytest.raises(mmsb.StateClosedError):
        state.policy = "lazy"
    assert policy.calls[-1][0] == "close"


def test_a_function_may_not_read_what_is_stale(state):
    state.policy = "lazy"
    a, b, _ = chain(state)
    other = state.create_page(8)
    state.depend(other, on=[a], fn=lambda out, parent: state.page(b).read())
    with pytest.raises(mmsb.StalePageError, match="StalePageError: Page 2"):
        other.read()


def test_forced_pages_that_are_gone_are_no_matter(state):
    state.policy = "deferred"
    _, _, c = chain(state)
    state.delete_page(c, detach=True)
    assert state.propagate() == 1 and state._engine.pending == 0


# ---- threads


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_threads_give_the_bytes_of_one(dtype):
    rng = numpy.random.default_rng(5)
    lanes, width = 512, 40
    digests = set()
    for policy in ("immediate", Parallel(threads=3, least_bytes=0), Parallel(threads=2)):
        rng = numpy.random.default_rng(5)
        with mmsb.open(policy=policy) as state:
            sources = list(state.create_pages(4, lanes * numpy.dtype(dtype).itemsize))
            row = sources
            for _ in range(4):
                row_pages = list(state.create_pages(width, lanes * numpy.dtype(dtype).itemsize))
                for child in row_pages:
                    parents = sorted({int(one) for one in rng.choice(row, 3)})
                    state.depend(child, on=parents, link=links.semiring("plus-times", dtype, rng.random(len(parents))))
                row = row_pages
            for source in sources * 3:
                state.update_page(source, rng.random(lanes).astype(dtype).tobytes())
                state.page(source).write(rng.random(2).astype(dtype).tobytes(), at=64)
            state.propagate()
            digests.add(b"".join(state.page(page).read() for page in row))
    assert len(digests) == 1


def test_a_broken_matrix_fails_alike_in_threads():
    reasons = set()
    for policy in ("immediate", Parallel(threads=2, least_bytes=0)):
        with mmsb.open(policy=policy) as state:
            x, starts, columns, values, *children = (state.create_page(size) for size in (32, 32, 32, 64, 24, 24, 24))
            for child in children:
                state.depend(child, on=[x, starts, columns, values], link=links.matrix("plus-times", "int64", 3, 4))
            starts.write(b"\xff" * 8, at=8)
            for child in children:
                with pytest.raises(mmsb.StalePageError) as caught:
                    child.read()
                reasons.add(caught.value.reason)
    assert len(reasons) == 1


def test_functions_and_links_of_one_level_together():
    for policy in ("immediate", Parallel(threads=2, least_bytes=0)):
        with mmsb.open(policy=policy) as state:
            a = state.create_page(8)
            children = [state.create_page(8) for _ in range(6)]
            for i, child in enumerate(children):
                if i % 2:
                    state.depend(child, on=[a], link=links.passthrough())
                else:
                    state.depend(child, on=[a], fn=lambda out, parent: bytes(parent)[::-1])
            a.write(b"12345678")
            assert [child.read() for child in children] == [b"87654321", b"12345678"] * 3
            threads = [thread for thread in threading.enumerate() if thread.name.startswith("mmsb wave")]
            assert bool(threads) == (policy != "immediate")
        assert not any(thread.is_alive() for thread in threads)


def test_a_trial_is_a_state():
    with Trial("lazy").state as state:
        assert len(state.pages()) == 14


def test_a_commit_may_ask_for_no_wave(state):
    a, b = state.create_page(8, name="a"), state.create_page(8, name="b")
    state.depend(b, on=a, link=links.passthrough())
    log = EventLog(state, "page_stale", "wave_finished")
    delta = a.write(b"\1", propagate=False)
    with pytest.raises(mmsb.StalePageError):
        b.read()
    assert [event.kind for event in log.events()] == ["page_stale"]
    state.propagate()
    assert b[0:1] == b"\1"
    with state.batch(propagate=False) as batch:
        batch.write(a, b"\2")
    with pytest.raises(mmsb.StalePageError):
        b.read()
    a.write(b"\3")  # asks for one, which covers both
    assert b[0:1] == b"\3"
    assert state.apply(delta, propagate=False).epoch == a.epoch
    with pytest.raises(mmsb.StalePageError):
        b.read()
    state.route_delta(mmsb.Delta.from_ranges(a.page_id, [(7, 1)], b"x"))
    assert b.read() == a.read() == b"\1" + bytes(6) + b"x"


def test_a_policy_that_raises_at_its_end_is_gone(state):
    class Bad(Policy):
        def close(self, engine):
            raise ValueError("no")

    a, b = state.create_page(8), state.create_page(8)
    state.depend(b, on=a, link=links.passthrough())
    state.policy = Bad()
    with pytest.raises(ValueError, match="no"):
        state.policy = "lazy"
    state.policy = "immediate"
    a.write(b"1")
    assert b[0:1] == b"1"


@pytest.mark.parametrize("threads", ["4", 2**40, 0, -1, 1.5, True])
def test_nonsense_about_threads_changes_no_policy(state, threads):
    state.policy = "lazy"
    before = state.policy
    with pytest.raises(TypeError):
        state.policy = Parallel(threads=threads)
    assert state.policy is before


def test_a_function_cannot_take_its_page_away(state):
    def take(out, parent):
        content = out.obj
        out.release()
        content.clear()

    state.create_page(1 << 16, name="a")
    state.create_page(1 << 16, name="b")
    state.depend("b", on="a", fn=take)
    with pytest.raises(mmsb.StalePageError, match="BufferError"):
        state.page("b").read()
