"""Changing through a View: what clients ask for is done by the owner, and seen by them at once."""

import os
import threading
import tracemalloc

import numpy
import pytest

import mmsb
from tests.share.common import until

SERVED = "world", {"a": 64}


# ---- what can be asked


def test_pages_change_and_are_seen(served, view):
    a = view.page("a")
    assert view.stats()["ring"] is None
    done = a.write(b"hello", at=3, source="me", intent={"why": "so"})
    assert (done.seq, done.epoch) == (2, 1) and a[3:8] == b"hello" and view.seq == 2
    assert a.write(b"hello", at=3).seq is None, "nothing changed"
    assert a.assign(b"J", 3).seq == 3 and a[3:8] == b"Jello"
    b = view.create_page(8, name="b", metadata={"unit": "m"}, data=b"12")
    assert b == view.page("b") and b.read() == b"12" + bytes(6) and dict(b.metadata) == {"unit": "m"}
    b.resize(100_000)
    b.write(b"end", b.size - 3, durability="power")
    assert b[-3:] == b"end"
    b.rename("c")
    b.metadata = {"unit": "s"}
    assert view.page("c") == b and dict(b.metadata) == {"unit": "s"}
    view.set_metadata("c", None)
    assert dict(b.metadata) == {}
    ids = view.create_pages(1000, 16)
    assert view.page(ids[-1]).read() == bytes(16)
    with view.batch(label="both", source="me") as batch:
        batch.write("a", b"1")
        new = batch.create_page(4)
        batch.write(new, b"2")
    assert view.at("both").seq == batch.seq and view.page(new.page_id)[0] == ord("2")
    view.apply(mmsb.Delta.from_ranges(1, [(0, 1)], b"A"))
    assert a[0] == ord("A")
    view.delete_page("c")
    view.page(new.page_id).delete()
    assert "c" not in view and new.page_id not in view
    numbers = [view.client.submit.write("a", bytes([n])) for n in range(100, 110)]
    assert view.client.flush() == view.seq == served.seq and a[0] == 109 and len(numbers) == 10
    assert view.stats()["ring"]["acknowledged"] == view.client.ring.number
    assert served.log(source="me") and served.last_write("a", 3).source is None
    assert not served.verify().findings


def test_errors_are_those_of_local_calls(served, view):
    def outcome(call):
        with pytest.raises(mmsb.MMSBError) as caught:
            call()
        return type(caught.value), str(caught.value), dict(caught.value.facts)

    a, mine = view.page("a"), served.page("a")
    assert outcome(lambda: a.write(b"x", 64)) == outcome(lambda: mine.write(b"x", 64))
    assert outcome(lambda: a.resize(0)) == outcome(lambda: mine.resize(0))
    assert outcome(lambda: view.create_page(8, "a")) == outcome(lambda: served.create_page(8, "a"))
    assert outcome(lambda: a.write(b"x", if_epoch=7)) == outcome(lambda: mine.write(b"x", if_epoch=7))
    with pytest.raises(mmsb.PageNotFoundError):
        view.delete_page("none")
    with pytest.raises(mmsb.PageNotFoundError):
        view.delete_page(99)
    assert served.seq == 1


def test_sources_that_no_commit_took_are_not_kept(served, view):
    a = view.page("a")

    def refused(source):
        with pytest.raises(mmsb.PageRangeError):
            a.write(b"x", at=a.size, source=source)
        assert a.write(bytes(1), source=source).seq is None
        with pytest.raises(mmsb.ConflictError):
            a.write(b"x", source=source, if_epoch=9)

    refused("first")
    tracemalloc.start()
    try:
        for number in range(200):
            refused(f"{number:04000}")
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()
    said = []
    for number in range(40):
        done = a.write(bytes([number // 2]), source=f"{number % 5}")
        if done.seq is not None:
            said.append(f"{number % 5}")
    assert [commit.source for commit in served.log(since=2)] == said


def test_waves_and_listeners(served, view):
    served.create_page(64, name="sum")
    served.depend("sum", on="a", fn=lambda out, a: numpy.add(a, 1, out=out), dtype="uint8")
    seen = []
    served.subscribe("page_changed", lambda event: seen.append((event.page_id, event.source)))
    view.page("a").write(b"\x05", source="client")
    assert view.page("sum")[0] == 6 and (1, "client") in seen and (2, None) in seen
    with pytest.raises(mmsb.DerivedPageError):
        view.page("sum").write(b"x")
    view.page("a").write(b"\x07", propagate=False)
    assert view.page("sum").stale
    for n in range(300):
        view.client.submit.write("a", bytes([n % 250 + 1]), n % 64)
    view.client.flush()
    assert view.page("sum").read() == bytes(byte + 1 for byte in view.page("a").read())
    assert len(seen) >= 600 and not served.verify(recompute=True).findings


# ---- rights


def ask(commands, change):
    """What becomes of a change when the owner serves with these rights."""
    with mmsb.open(name="strict") as state:
        state.create_page(8, name="a")
        state.create_page(8, name="b")
        state.serve(commands=commands)
        with mmsb.attach("strict") as view:
            change(view)
        return state.seq


def test_rights():
    def refused(right):
        def change(view):
            for _ in range(2):
                with pytest.raises(mmsb.RightsError) as caught:
                    view.page("a").write(b"x")
                assert caught.value.right == right
            assert view.page("a").read() == bytes(8)

        return change

    assert ask(False, refused("commands")) == 2
    assert ask({}, refused("change")) == 2
    assert ask(lambda client: False, refused("commands")) == 2
    assert ask(lambda client: {"pages": ["b"]} if client.pid == os.getpid() else True, refused("change")) == 2
    assert ask(lambda client: 1 / 0, refused("commands")) == 2
    assert ask(lambda client: {"pages": ["none"]}, refused("commands")) == 2
    with pytest.raises(mmsb.PageNotFoundError):
        ask({"pages": ["none"]}, None)
    assert ask(lambda client: True, lambda view: view.page("a").write(b"x")) == 3

    def limited(view):
        page = view.create_page(4, name="mine")
        page.write(b"x")
        view.page("b").write(b"x")
        for right, call in (
            ("delete", page.delete),
            ("delete", view.page("b").delete),
            ("change", lambda: view.page("a").rename("z")),
        ):
            with pytest.raises(mmsb.RightsError) as caught:
                call()
            assert caught.value.right == right

    assert ask({"pages": [2], "create": True}, limited) == 5
    with mmsb.open(name="x") as state:
        for wrong in ({"page": []}, 5, "all"):
            with pytest.raises(TypeError):
                state.serve(commands=wrong)
        state.serve()


# ---- the owner serves by hand


def test_a_full_ring_is_busy():
    with mmsb.open(name="hand") as state:
        state.create_page(64, name="a")
        state.serve(thread=False)
        got = []
        thread = threading.Thread(target=lambda: got.append(mmsb.attach("hand", ring_bytes=4096)))
        thread.start()
        until(lambda: state.poll(0.1) is not None and got)
        [view] = got
        view._timeout = 0.05
        with pytest.raises(mmsb.BusyError, match="poll"):
            view.page("a").write(b"x")
        state.poll()
        client = view.client
        with pytest.raises(mmsb.BusyError) as caught:
            view.page("a").write(b"1", timeout=0.01)
        assert caught.value.number == 1
        with pytest.raises(mmsb.BusyError) as caught:
            for n in range(1000):
                client.submit.write(1, bytes([n % 256]), timeout=0)
        assert caught.value.number is None and 20 < client.ring.number < 200 and state.seq == 1
        with pytest.raises(mmsb.CommandSizeError):
            client.write(1, bytes(4096))
        assert state.poll() == 1, "up to where completions have no room"
        assert state.poll() == 0
        assert client.finish(1).seq == 2
        flushing = threading.Thread(target=client.flush)
        flushing.start()
        until(lambda: state.poll(0.1) is not None and not flushing.is_alive())
        assert state.seq == view.seq == client.ring.seq
        late = threading.Timer(0.1, view.page("a").write, (b"bell",))
        late.start()
        assert state.poll(10) and view.page("a")[0:4] == b"bell"
        late.join()
        view.close()
        until(lambda: state.poll(0.1) is not None and state.stats()["sharing"]["clients"] == 0)
    with pytest.raises(ValueError):
        mmsb.attach("hand", ring_bytes=5000)


def test_a_handler_may_poll_and_close():
    for thread in (True, False):
        state = mmsb.open(name="handler")
        state.create_page(8, name="a")
        state.serve(thread=thread)

        def handle(event, state=state, thread=thread):
            if not thread:
                assert state.poll(10) == 0, "it is polling already"
            state.close()

        state.subscribe("page_changed", handle)
        raised = []

        def client(raised=raised):
            with mmsb.attach("handler") as view:
                try:
                    for n in range(1000):
                        view.page("a").write(n.to_bytes(2, "big") + b"x")
                except mmsb.OwnerGoneError as error:
                    raised.append(error)

        asking = threading.Thread(target=client)
        asking.start()
        if not thread:
            while not state.closed:
                state.poll(0.1)
        asking.join(20)
        assert not asking.is_alive() and state.closed and len(raised) == 1


# ---- many processes

WRITER = """
view = mmsb.attach("many")
me = int(sys.argv[1])
page = view.page(f"p{me}")
tell("ready")
sys.stdin.readline()
for n in range(1, 400):
    done = page.write(n.to_bytes(8, "little") * 64, source=f"w{me}")
    assert view.seq >= done.seq
    mine = page.read()
    assert mine == n.to_bytes(8, "little") * 64, (n, mine)
    for other in range(4):
        found = view.page(f"p{other}").read()
        assert found == found[:8] * 64, "torn"
    if n % 50 == 0:
        made = view.create_page(8, name=f"{me}-{n}", data=b"made")
        assert view.page(f"{me}-{n}") == made and made[0:4] == b"made"
tell(done.seq)
"""


def test_four_clients_write_and_read(process, tmp_path):
    with mmsb.open(tmp_path / "s", name="many", segment_bytes=65536) as state:
        for n in range(4):
            state.create_page(512, name=f"p{n}")
        state.serve()
        clients = [process(WRITER, n) for n in range(4)]
        for client in clients:
            client.hear()
        for client in clients:
            client.say()
        last = [client.hear() for client in clients]
        assert max(last) == state.seq == 4 + 4 * 399 + 4 * 7
        assert all(state.page(f"p{n}").read() == (399).to_bytes(8, "little") * 64 for n in range(4))
        assert [client.end() for client in clients] == [0] * 4
        assert sum(1 for _ in state.log(source="w2")) == 399
        assert not state.verify().findings
        digest = state.digest()
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest


AGENT = """
import numpy
view = mmsb.attach("agents")
dice = numpy.random.default_rng(int(sys.argv[1]))
tell("ready")
sys.stdin.readline()
counts, distances = view.page("counts"), view.page("distances")
added, least = numpy.zeros(32, "int64"), numpy.full(32, numpy.inf)
for n in range(300):
    lane = int(dice.integers(32))
    one = numpy.array([int(dice.integers(1000))], "int64")
    far = numpy.array([dice.random()])
    added[lane] += one[0]
    least[lane] = min(least[lane], far[0])
    if n % 3:
        counts.write(one, lane * 8)
        distances.write(far, lane * 8)
    else:
        with view.batch() as batch:
            batch.write("counts", one, lane * 8)
            batch.write("distances", far, lane * 8)
tell(added.tolist(), least.tolist())
"""


def test_eight_processes_merge_into_the_same_pages(process, tmp_path):
    with mmsb.open(tmp_path / "s", name="agents") as state:
        state.create_page(256, name="counts", merge="plus-times", dtype="int64")
        state.create_page(256, name="distances", merge="min-plus", dtype="float64")
        state.serve()
        agents = [process(AGENT, n) for n in range(8)]
        for agent in agents:
            agent.hear()
        for agent in agents:
            agent.say()
        told = [agent.hear() for agent in agents]
        counts = numpy.sum([numpy.array(added, "int64") for added, _ in told], axis=0)
        distances = numpy.min([numpy.array(least) for _, least in told], axis=0)
        assert state.page("counts").read() == counts.tobytes()
        assert state.page("distances").read() == distances.tobytes()
        assert bytes(state.replay()._page_bytes(1)) == counts.tobytes()
        assert bytes(state.replay()._page_bytes(2)) == distances.tobytes()
        assert not state.verify().findings
        digests = {seq: state.at(seq).digest() for seq in (2, state.seq // 3, state.seq // 2, state.seq)}
        assert digests[state.seq] == state.digest() and len(set(digests.values())) == 4
    with mmsb.open(tmp_path / "s") as state:
        assert {seq: state.at(seq).digest() for seq in digests} == digests and state.digest() == digests[state.seq]
        for again in (state, state.at(state.seq)):
            assert again.page("counts").read() == counts.tobytes()
            assert again.page("distances").read() == distances.tobytes()
