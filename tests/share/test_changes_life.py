"""Clients that change a State and owners that let them: killed, closed, forked, and saying what is not so."""

import gc
import mmap
import os
import signal
import struct
import threading
import time
from pathlib import Path

import pytest

import mmsb
from mmsb import messages
from tests.share.common import fds, until

SERVED = "world", {"a": 64}


# ---- life and death

STREAM = """
view = mmsb.attach("kills")
tell("ready")
n = 0
while True:
    n += 1
    number = n.to_bytes(8, "little")
    if n % 4:
        view.client.submit.write("a", number * 100, source="s")
    else:
        with view.batch(source="s") as batch:
            batch.write("a", number * 100)
            batch.write("b", number)
"""


def test_clients_are_killed(process):
    with mmsb.open(name="kills") as state:
        state.create_page(800, name="a")
        state.create_page(8, name="b")
        state.serve()
        for round_ in range(6):
            clients = [process(STREAM) for _ in range(2)]
            for client in clients:
                client.hear()
            begun = state.seq
            until(lambda begun=begun: state.seq > begun + 50)
            time.sleep(0.01 * round_)
            for client in clients:
                client.kill()
            until(lambda: state.stats()["sharing"]["clients"] == 0)
            assert not state._server.commands.slots
            content = state.page("a").read()
            assert content == content[:8] * 100
            with mmsb.attach("kills") as view:
                assert view.page("a").write(b"\xff" * 800).seq == state.seq
        assert not state.verify().findings and not state._server.failures


OWNER = """
state = mmsb.open(sys.argv[1], name="mortal")
if "a" not in state:
    state.create_page(8, name="a")
state.serve()
tell("ready")
sys.stdin.readline()
state.close()
"""


def test_the_owner_is_killed_and_comes_back(process, tmp_path):
    owner = process(OWNER, tmp_path / "s")
    owner.hear()
    with mmsb.attach(tmp_path / "s") as view:
        page = view.page("a")
        client = view.client
        acknowledged = 0
        os.kill(owner.pid, signal.SIGSTOP)
        until(lambda: ") T" in Path(f"/proc/{owner.pid}/stat").read_text())
        with pytest.raises(mmsb.BusyError):
            page.write(b"x", timeout=0.02)
        os.kill(owner.pid, signal.SIGCONT)
        client.flush()
        killer = threading.Timer(0.1, owner.popen.kill)
        killer.start()
        begun = time.monotonic()
        with pytest.raises(mmsb.OwnerGoneError):
            for n in range(1 << 40):
                acknowledged = page.write(n.to_bytes(8, "big")).seq or acknowledged
        assert time.monotonic() - begun < 20 and acknowledged > 2
        with pytest.raises(mmsb.OwnerGoneError):
            client.write("a", b"y")
        killer.join()
        with pytest.raises(mmsb.OwnerGoneError):
            page.write(b"y")
        with pytest.raises(mmsb.OwnerGoneError):
            view.reattach()
        last = page.read()
        owner = process(OWNER, tmp_path / "s")
        owner.hear()
        view.reattach()
        assert view.seq >= acknowledged and page.read() == last
        seq = page.write(b"again").seq
        assert page[0:5] == b"again" and seq == view.seq and view.client is not client
        with pytest.raises(mmsb.OwnerGoneError):
            client.write("a", b"y")
        owner.say()
        assert owner.end() == 0
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == seq and state.page("a")[0:5] == b"again"


HAMMER = """
views = [mmsb.attach("hammered") for _ in range(2)]
tell("ready")
try:
    for n in range(1 << 40):
        for view in views:
            view.client.submit.write("a", n.to_bytes(8, "little"))
            if n % 10 == 0:
                view.page("b").write(n.to_bytes(8, "big"))
except mmsb.OwnerGoneError as error:
    tell("gone")
"""


@pytest.mark.parametrize("how", ["memory", "stored", "listening"])
def test_closing_while_clients_hammer(process, tmp_path, how):
    for round_ in range(3):
        state = mmsb.open(tmp_path / f"s{round_}" if how == "stored" else None, name="hammered")
        state.create_page(8, name="a")
        state.create_page(8, name="b")
        if how == "listening":
            state.subscribe("page_changed", lambda event: None)
        state.serve()
        clients = [process(HAMMER) for _ in range(2)]
        for client in clients:
            client.hear()
        until(lambda state=state: state.seq > 200)
        begun = time.monotonic()
        state.close()
        assert time.monotonic() - begun < 20
        assert [client.hear() for client in clients] == ["gone"] * 2
        assert [client.end() for client in clients] == [0] * 2
        if how == "stored":
            with mmsb.open(tmp_path / f"s{round_}") as again:
                assert again.seq > 200 and not again.verify().findings


def test_forked_clients_and_closed_ones(served, view):
    view.page("a").write(b"1")
    client = view.client
    child = os.fork()
    if child == 0:
        right = 0
        for call in (lambda: view.page("a").write(b"2"), lambda: client.write(1, b"2")):
            try:
                call()
            except (mmsb.ForkedStateError, mmsb.OwnerGoneError):
                right += 1
        view.close()
        os._exit(right)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert view.page("a").write(b"3").seq == 3
    with mmsb.attach("world") as other:
        held = other.client
    with pytest.raises(mmsb.OwnerGoneError, match="closed"):
        held.write(1, b"x")
    with pytest.raises(mmsb.StateClosedError):
        other.create_page(8)


FORKING = """
state = mmsb.open(name="forking")
state.create_page(8, name="a")
state.serve()
tell("ready")
sys.stdin.readline()
child = os.fork()
if child == 0:
    try:
        state.poll()
    except mmsb.ForkedStateError:
        state.close()
        os._exit(7)
    os._exit(0)
tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.stdin.readline()
state.close()
"""


def test_an_owner_forks(process):
    owner = process(FORKING)
    owner.hear()
    with mmsb.attach("forking") as view:
        view.page("a").write(b"1")
        owner.say()
        assert owner.hear() == 7
        for n in range(100):
            view.page("a").write(bytes([n, 1]))
        assert view.page("a")[0:2] == bytes([99, 1]) and view.owner_alive
        owner.say()
        assert owner.end() == 0
        until(lambda: not view.owner_alive)


def test_as_many_rings_as_clients(served):
    views = [mmsb.attach("world") for _ in range(64)]
    for n, view in enumerate(views):
        view.client.submit.write("a", bytes([n + 1]), n)
    for view in views:
        view.client.flush()
    assert views[0].page("a").read() == served.page("a").read() == bytes(range(1, 65))
    for view in views:
        view.close()


def test_a_view_is_closed_while_a_thread_waits():
    with mmsb.open(name="hand") as state:
        state.create_page(8, name="a")
        state.serve(thread=False)
        stop = threading.Event()
        poller = threading.Thread(target=lambda: [state.poll(0.05) for _ in iter(stop.is_set, True)])
        poller.start()
        view = mmsb.attach("hand")
        client = view.client
        stop.set()
        poller.join()
        raised = []

        def wait():
            try:
                client.write(1, b"x", timeout=30)
            except mmsb.OwnerGoneError as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        view.close()
        thread.join(20)
        assert len(raised) == 1 and "closed" in str(raised[0])
        until(lambda: state.poll() is not None and state.seq == 2)


def test_nothing_is_left(served):
    def cycle(times):
        for _ in range(times):
            with mmsb.attach("world", ring_bytes=4096) as view:
                view.page("a").write(os.urandom(8))
        until(lambda: served.stats()["sharing"]["clients"] == 0)
        gc.collect()

    cycle(10)
    before = fds()
    cycle(100)
    until(lambda: fds() <= before)
    assert not served._server.commands.slots
    dropped = mmsb.attach("world")
    dropped.page("a").write(b"x")
    del dropped
    until(lambda: gc.collect() is not None and fds() <= before)
    assert served.stats()["sharing"]["clients"] == 0


def test_a_dropped_state_ends_its_clients():
    state = mmsb.open(name="drop")
    state.create_page(8, name="a")
    state.serve()
    with mmsb.attach("drop") as view:
        view.page("a").write(b"x")
        del state
        until(lambda: gc.collect() is not None and not view.owner_alive)
        with pytest.raises(mmsb.OwnerGoneError):
            view.page("a").write(b"y")


# ---- nonsense


def test_clients_that_ask_for_nonsense(served, view):
    wish = messages.header(messages.RING)
    for body in (b"", bytes(9), struct.pack("<Q", 5000), struct.pack("<Q", 1 << 40), struct.pack("<Q", 0)):
        with mmsb.attach("world") as wrong:
            wrong._connection.socket.send(wish + body)
            until(lambda wrong=wrong: not wrong.owner_alive)
    with mmsb.attach("world") as greedy:
        greedy.page("a").write(b"x")
        greedy._connection.socket.send(wish + messages.RING_BODY.pack(4096))
        until(lambda: not greedy.owner_alive)
    with mmsb.attach("world") as liar:
        given = []
        liar._connection.take_ring = lambda header, body, fds: given.extend(map(os.dup, fds))
        liar._connection.socket.send(wish + messages.RING_BODY.pack(4096))
        until(lambda: len(given) == 3)
        with mmap.mmap(given[0], 4096) as head:
            struct.pack_into("<Q", head, 64, 1 << 40)
        os.eventfd_write(given[2], 1)
        until(lambda: not liar.owner_alive)
        with pytest.raises(PermissionError):
            mmap.mmap(given[1], 4096)
        for fd in given:
            os.close(fd)
    assert any("tail" in failure for failure in served._server.failures)
    assert view.page("a").write(b"fine").seq == served.seq


def test_owners_that_answer_nonsense(served):
    for code, given in ((0, []), (0, [0, 0, 0])):
        with mmsb.attach("world") as view:
            connection = view._connection
            connection.asked, connection.find_page = True, view.page_id_of
            with pytest.raises(mmsb.AttachError):
                connection.understand(messages.header(messages.RING, code), given)
    with mmsb.attach("world") as view, pytest.raises(mmsb.AttachError, match="nobody asked"):
        view._connection.understand(messages.header(messages.RING), [])
