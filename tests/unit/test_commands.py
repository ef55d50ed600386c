"""Commands through a ring against the same local calls: equal logs, equal errors, and what only a ring can do wrong."""

import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb import links
from mmsb.commands import Client
from mmsb.executing import CommandServer


class Pair:
    """A State with a server and one client in this process, served by hand while the client waits."""

    def __init__(self, state, rights=None, **sizes):
        self.state = state
        self.server = CommandServer(state)
        self.slot = self.server.add(**sizes)
        self.slot.allow(**(rights or {}))
        slot = self.slot
        descriptors = map(os.dup, (slot.fd, slot.flag_fd, slot.bell_fd))
        self.client = Client(*descriptors, names=state._names.__getitem__)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self.client

    def __exit__(self, *_):
        self.server.stop()
        self.thread.join()
        self.client.close()
        self.server.close()


@pytest.fixture
def state():
    with mmsb.open() as state:
        state.create_page(256, name="a")
        yield state


def history(state):
    """Everything the log says, times aside."""
    return [
        (
            commit.seq,
            commit.source,
            commit.label,
            commit.intent,
            [(c.kind, c.page_id, c.text, c.blob) for c in frame.changes()],
            [(d.page_id, d.code, d.payload) for d in commit.deltas],
        )
        for commit, frame in zip(state.log(), commits_of(state), strict=True)
    ]


def commits_of(state):
    return [frame for frame in state._log.frames(since=1, until=state.seq) if frame.kind == "commit"]


def outcome(call):
    """What a call returned or raised, in words that a local call and a command share."""
    try:
        result = call()
    except (mmsb.MMSBError, TypeError, ValueError) as error:
        facts = dict(getattr(error, "facts", {}))
        return type(error).__name__, str(error), facts
    seq = getattr(result, "seq", None)
    return "done", seq


# ---- the same commands to both

PAGES = st.integers(1, 6)
OFFSETS = st.one_of(st.integers(0, 100), st.sampled_from([4096, 1 << 62, (1 << 63) - 1]))
DATA = st.binary(max_size=40)
SOURCES = st.sampled_from([None, "me", "you"])
EPOCHS = st.one_of(st.none(), st.integers(0, 4))
CALLS = st.one_of(
    st.tuples(st.just("write"), PAGES, DATA, OFFSETS, SOURCES, EPOCHS, st.booleans()),
    st.tuples(st.just("write"), PAGES, DATA, st.integers(0, 60), SOURCES, st.none(), st.just(False)),
    st.tuples(st.just("assign"), PAGES, DATA, OFFSETS, SOURCES),
    st.tuples(st.just("apply"), PAGES, st.integers(0, 90), st.binary(min_size=1, max_size=9), EPOCHS, st.booleans()),
    st.tuples(st.just("create"), st.integers(0, 100), st.sampled_from([None, "n", "a"]), DATA, st.booleans()),
    st.tuples(st.just("delete"), PAGES, st.booleans()),
    st.tuples(st.just("resize"), PAGES, st.integers(0, 120)),
    st.tuples(st.just("rename"), PAGES, st.sampled_from([None, "n", "a", "b"])),
    st.tuples(st.just("metadata"), PAGES, st.sampled_from([{}, {"k": 1}, {"mmsb.merge": "x"}])),
    st.tuples(st.just("batch"), st.lists(st.tuples(PAGES, DATA, st.integers(0, 50)), max_size=5), SOURCES),
    st.tuples(st.just("intent"), PAGES, DATA),
    st.tuples(st.just("power"), PAGES, DATA),
)


def local_call(state, call):
    kind, *given_ = call
    if kind == "write":
        page, data, at, source, epoch, rebase = given_
        return state.page(page).write(data, at, source, None, epoch, rebase)
    if kind == "assign":
        page, data, at, source = given_
        return state.page(page).assign(data, at, source)
    if kind == "apply":
        page, at, data, epoch, rebase = given_
        delta = mmsb.Delta.from_ranges(page, [(at, len(data))], data, "tool")
        return state.apply(delta, if_epoch=epoch, rebase=rebase)
    if kind == "create":
        size, name, data, sized = given_
        return state.create_page(size if sized else None, name, data=data)
    if kind == "delete":
        return state.delete_page(given_[0], detach=given_[1])
    if kind == "resize":
        return state.page(given_[0]).resize(given_[1])
    if kind == "rename":
        return state.page(given_[0]).rename(given_[1])
    if kind == "metadata":
        return state.set_metadata(*given_)
    if kind == "intent":
        return state.page(given_[0]).write(given_[1], intent={"why": 1})
    writes, source = given_ if kind == "batch" else ([(given_[0], given_[1], 0)], None)
    durability = "power" if kind == "power" else None
    batch = state.batch(source=source, label="tick" if kind == "batch" else None, durability=durability)
    batch._skip_unchanged = kind == "power"
    with batch as b:
        for page, data, at in writes:
            b.write(page, data, at)
        if kind == "batch":
            new = b.create_page(16, data=b"new")
            b.write(new, b"er", 3)
    return b


def client_call(client, call):
    kind, *given_ = call
    if kind == "write":
        page, data, at, source, epoch, rebase = given_
        return client.write(page, data, at, source, None, epoch, rebase)
    if kind == "assign":
        page, data, at, source = given_
        return client.assign(page, data, at, source=source)
    if kind == "apply":
        page, at, data, epoch, rebase = given_
        return client.apply(mmsb.Delta.from_ranges(page, [(at, len(data))], data, "tool"), epoch, rebase)
    if kind == "create":
        size, name, data, sized = given_
        return client.create_page(size if sized else None, name, data=data)
    if kind == "delete":
        return client.delete_page(given_[0], detach=given_[1])
    if kind == "resize":
        return client.resize(*given_)
    if kind == "rename":
        return client.rename(*given_)
    if kind == "metadata":
        return client.set_metadata(*given_)
    if kind == "intent":
        return client.write(given_[0], given_[1], intent={"why": 1})
    if kind == "power":
        return client.write(given_[0], given_[1], durability="power")
    with client.batch(source=given_[1], label="tick") as b:
        for page, data, at in given_[0]:
            b.write(page, data, at)
        new = b.create_page(16, data=b"new")
        b.write(new, b"er", 3)
    return b


def furnish(state):
    """Pages of every sort: plain, with a child, computed, merging."""
    a = state.create_page(64, name="a")
    b = state.create_page(64, name="b")
    state.depend(b, on=[a], link=links.passthrough())
    state.create_page(64, merge="plus-times", dtype="int64")
    state.create_page(100)


@given(st.lists(CALLS, max_size=25))
def test_a_command_does_what_the_local_call_does(calls):
    with mmsb.open() as local, mmsb.open() as served:
        furnish(local)
        furnish(served)
        with Pair(served) as client:
            for call in calls:
                here, there = (
                    outcome(lambda call=call: local_call(local, call)),
                    outcome(lambda call=call: client_call(client, call)),
                )
                assert here[0] == there[0], (call, here, there)
                if here[0] != "done":
                    assert here[1] == there[1]
                    assert here[2].keys() <= there[2].keys()
        assert history(local) == history(served)
        assert local.digest() == served.digest()


def test_events_and_waves_are_those_of_local_calls(state):
    child = state.create_page(256)
    state.depend(child, on=["a"], link=links.passthrough())
    told = []
    with state.subscribe(("page_changed", "wave_finished"), told.append), Pair(state) as client:
        first = client.write("a", b"one")
        client.write("a", b"two", propagate=False)
        assert child.stale
        client.write("a", b"six")
    assert child.read(0, 3) == b"six"
    assert [event.kind for event in told if event.seq <= first.seq + 1] == [
        "page_changed",
        "page_changed",
        "wave_finished",
    ]


def test_a_full_segment_gives_way_to_the_next(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=65536) as state:
        page = state.create_page(4096)
        with Pair(state) as client:
            for n in range(300):
                client.submit.write(page, bytes([n % 255 + 1]) * 1000, n)
            client.flush()
        assert state.seq == 301 and page[299] == 299 % 255 + 1
        assert len(state._log.segments) > 2
        assert not state.verify().findings


def test_pipelined_writes_are_each_a_commit(state):
    with Pair(state) as client:
        numbers = client.submit.writes([1] * 5000, [n % 200 for n in range(5000)], 8, os.urandom(40000))
        assert client.flush() == state.seq == 5001
        assert len(numbers) == 5000 and client.ring.acknowledged == numbers[-1]
        client.submit.writes([1, 7, 1], 0, 1, b"xyz")
        with pytest.raises(mmsb.PageNotFoundError):
            client.flush()
        assert state.page(1)[0] == ord("z")  # a refused command stops nobody


# ---- rights


def test_rights_are_checked_before_anything_is_applied(state):
    other = state.create_page(64)
    with Pair(state, {"pages": [1], "create": False, "delete": False}) as client:
        client.write(1, b"mine")
        before = state.seq
        for call in (
            lambda: client.write(other, b"x"),
            lambda: client.write(other.page_id + 1, b"x"),
            lambda: client.resize(other, 10),
            lambda: client.create_page(10),
            lambda: client.delete_page(1),
        ):
            with pytest.raises(mmsb.RightsError):
                call()
        with pytest.raises(mmsb.RightsError) as caught, client.batch() as b:
            b.write(1, b"also")
            b.write_many([1, other.page_id], 0, 1, b"xy")
        assert (caught.value.right, caught.value.page_id) == ("change", other.page_id)
        assert isinstance(caught.value, PermissionError)
        assert state.seq == before


def test_a_client_may_change_what_it_created(state):
    with Pair(state, {"pages": [], "create": True, "delete": False}) as client:
        pages = client.create_pages(3, 10)
        client.write(pages[2], b"x")
        with client.batch() as b:
            new = b.create_page(10)
            b.write(new, b"y")
        client.write(new, b"z")
        with pytest.raises(mmsb.RightsError):
            client.write(1, b"x")
        with pytest.raises(mmsb.RightsError) as caught:
            client.delete_page(new)
        assert caught.value.right == "delete"


# ---- back-pressure and the end of things


def test_a_command_longer_than_the_ring_is_not_sent(state):
    with Pair(state, command_bytes=4096, completion_bytes=4096) as client:
        with pytest.raises(mmsb.CommandSizeError) as caught, client.batch() as b:
            for _ in range(100):
                b.write(1, b"x" * 30)
        assert caught.value.limit == 2048 < caught.value.size
        assert client.ring.number == 0
        client.write(1, b"x")


def test_a_full_ring_is_busy(state):
    pair = Pair(state, command_bytes=4096, completion_bytes=4096)
    with pytest.raises(mmsb.BusyError):
        for _ in range(100):
            pair.client.submit.write(1, b"x" * 60, timeout=0)
    sent = pair.client.ring.number
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        pair.client.write(1, b"x" * 60, timeout=0.05)
    assert 0.04 < time.monotonic() - begin < 20
    with pair as client:
        client.flush()
        assert client.ring.acknowledged == sent


def test_a_client_that_takes_no_completions_stops_only_itself(state):
    pair = Pair(state, command_bytes=1 << 16, completion_bytes=4096)
    slot = pair.server.add()
    slot.allow()
    other = Client(*map(os.dup, (slot.fd, slot.flag_fd, slot.bell_fd)))
    for n in range(500):
        pair.client.submit.write(1, bytes([n & 255]))
    with pair as client:
        other.write(1, b"other", at=100)
        assert pair.slot.stats["commands"] < 500
        client.flush()
        assert client.ring.acknowledged == 500
    other.close()


def test_turns_go_round(state):
    server = CommandServer(state)
    clients = []
    for _ in range(3):
        slot = server.add()
        slot.allow()
        clients.append(Client(*map(os.dup, (slot.fd, slot.flag_fd, slot.bell_fd))))
    for n, client in enumerate(clients):
        for k in range(1000):
            client.submit.write(1, bytes([k % 255 + 1]), n, source=f"client {n}")
    assert server.poll()
    assert [slot.stats["commands"] for slot in server.slots] == [512] * 3
    while server.poll():
        pass
    sources = [commit.source for commit in state.log(since=2)]
    assert sources[:1536] == ["client 0"] * 512 + ["client 1"] * 512 + ["client 2"] * 512
    assert sources[1536:] == ["client 1"] * 488 + ["client 2"] * 488 + ["client 0"] * 488
    for client in clients:
        client.flush()
        client.close()
    server.close()


def test_the_owner_goes(state):
    pair = Pair(state)
    pair.client.ring.owner_alive = lambda: False
    with pytest.raises(mmsb.OwnerGoneError):
        pair.client.write(1, b"x")
    with pytest.raises(ConnectionError):
        pair.client.write(1, b"x")
    pair.client.close()
    pair.server.close()
    assert state.page(1)[0] == ord("x")  # it was published, and done when the client was dropped


def test_a_forked_child_sends_nothing(state):
    with Pair(state) as client:
        child = os.fork()
        if child == 0:
            try:
                client.write(1, b"x", timeout=1)
            except mmsb.OwnerGoneError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.write(1, b"y")


CHILD = """
import sys
from mmsb.commands import Client
client = Client(*map(int, sys.argv[1:]))
for n in range(1 << 40):
    client.submit.write(1, n.to_bytes(8, "little"), n % 30 * 8, source="child")
"""


@pytest.mark.parametrize("round_", range(2))
def test_a_killed_client_leaves_whole_commands(state, round_):
    server = CommandServer(state)
    slot = server.add()
    slot.allow()
    passed = slot.fd, slot.flag_fd, slot.bell_fd
    child = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, passed)], pass_fds=passed)
    thread = threading.Thread(target=server.run)
    thread.start()
    while slot.stats["commands"] < 1000 + 100 * round_:
        assert child.poll() is None, "the client ended before it was killed"
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.drop(slot)
    server.stop()
    thread.join()
    assert server.slots == []
    server.close()
    values = [delta.values for commit in state.log(since=2, source="child") for delta in commit.deltas]
    assert state.seq - 1 == len(values) >= 1000
    last = state.seq - 2
    assert state.page(1).read(last % 30 * 8, 8) == last.to_bytes(8, "little")


def test_nonsense_in_a_ring_is_refused_or_ends_the_client(state):
    pair = Pair(state)
    submit = pair.client.ring.submit
    before = state.seq
    number = submit(77)
    submit(11, count := 0, 5, 3, data=b"abc")
    submit(4, 0, 10, 0xFFFFF, data=b"abc")
    submit(1, 1, intent=b"\xff\xff", data=b"abc")
    submit(8, 1, data=b"\xff\xfe")
    submit(3, 1, code=9, data=b"\xff" * 20)
    with pair as client:
        for one in range(number, client.ring.number + 1):
            with pytest.raises(mmsb.MMSBError):
                client.finish(one)
    assert state.seq == before and count == 0
    with Pair(state) as client:
        client.write(1, b"fine")


def test_a_client_that_lies_about_its_ring_is_dropped(state):
    pair = Pair(state)
    told = []
    pair.server.on_broken = lambda slot, reason: told.append((slot, reason))
    other = pair.server.add()
    other.allow()
    good = Client(*map(os.dup, (other.fd, other.flag_fd, other.bell_fd)))
    pair.client.submit.write(1, b"whole")
    with mmap.mmap(pair.slot.fd, 4096) as head:
        struct.pack_into("<Q", head, 64, 1 << 40)
    good.submit.write(1, b"good", 10)
    before = state.seq
    while pair.server.poll():
        pass
    assert [(slot, "tail" in reason) for slot, reason in told] == [(pair.slot, True)]
    assert pair.server.slots == [other]
    good.flush()
    assert state.seq == before + 1 and state.page(1).read(0, 14) == bytes(10) + b"good"
    good.close()
    pair.client.close()
    pair.server.close()


def test_what_is_no_ring_is_no_client(tmp_path):
    with open(tmp_path / "f", "w+b") as file:
        file.write(bytes(20000))
        file.flush()
        with pytest.raises(mmsb.NotAStoreError):
            Client(file.fileno(), file.fileno(), file.fileno())
    with mmsb.open() as state, pytest.raises(ValueError, match="powers of two"):
        CommandServer(state).add(command_bytes=5000)


def test_what_a_client_leaves_behind_keeps_nobody_waiting(state):
    pair = Pair(state)  # whose thread is not started
    server, slot, submit = pair.server, pair.slot, pair.client.submit
    for _ in range(3000):
        submit.rename("a", "a")
    submit.write("a", b"last")
    server.leave(slot)
    assert server.leaving == [slot] and state.seq == 1  # nothing of it is done yet,
    assert server.poll() and server.leaving == [slot]  # then one turn of it,
    while server.poll():
        pass
    assert server.slots == server.leaving == server.left == []
    assert state.page("a")[0:4] == b"last"  # and at last everything
    pair.client.close()
    server.close()
