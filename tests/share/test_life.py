"""Owners and clients that die, fork, restart, and say what is not so."""

import gc
import os
import random
import signal
import socket
import threading
import time
from itertools import islice

import pytest

import mmsb
from mmsb import messages, rendezvous
from mmsb.connection import words
from tests.share.common import fds, until

OWNER = """
path, kind = sys.argv[1:3]
state = mmsb.open(path if kind != "memory" else None, name="life", segment_bytes=65536)
if "a" not in state:
    state.create_page(20000, name="a")
    state.create_page(8, name="b")
state.serve()
tell("ready")
n = int.from_bytes(state.page("b").read(), "little")
while True:
    n += 1
    with state.batch() as b:
        b.write("a", n.to_bytes(8, "little") * 2500)
        b.write("b", n.to_bytes(8, "little"))
        if n % 20 == 0:
            b.create_page(100, name=f"n{n}")
        if n % 20 == 10 and f"n{n - 10}" in state:
            b.delete_page(f"n{n - 10}")
    if n % 50 == 0:
        state.page("a").resize(24000)
        state.page("a").resize(20000)
"""


def check(view):
    """What the owner writes in one commit is seen in one commit."""
    snapshot = view.snapshot(["a", "b"])
    a, b = snapshot.values()
    assert a == a[:8] * (len(a) // 8) or a[20000:] == bytes(len(a) - 20000)
    assert a[:20000] == b * 2500, "a snapshot mixes commits"
    return int.from_bytes(b, "little")


@pytest.mark.parametrize("kind", ["memory", "stored"])
def test_owner_is_killed(process, tmp_path, kind):
    """Readers go on at its last commit, and find its successor."""
    dice = random.Random(3)
    last = 0
    for _ in range(6):
        owner = process(OWNER, tmp_path / "s", kind)
        assert owner.hear() == "ready"
        view = mmsb.attach("life")
        begun = time.monotonic()
        delay = dice.random() * 0.2
        while time.monotonic() - begun < delay:
            check(view)
        owner.kill()
        began = time.monotonic()
        until(lambda view=view: not view.owner_alive)
        n = check(view)
        assert time.monotonic() - began < 20
        assert check(view) == n and not view.owner_alive and "life" in repr(view)
        seq = view.seq
        assert [commit.seq for commit in islice(view.follow(since=seq), 1)] == [seq]
        with pytest.raises(mmsb.OwnerGoneError):
            next(view.follow())
        with pytest.raises(mmsb.OwnerGoneError):
            view.wait(seq + 1)
        with pytest.raises(mmsb.OwnerGoneError):
            view.reattach()
        past = view.at(seq)
        assert past.page("b").read() == view.page("b").read() and view.page("a").epoch == past.page("a").epoch
        assert check(view) == n
        if kind == "stored":
            with mmsb.open(tmp_path / "s") as state:
                assert state.seq == seq and int.from_bytes(state.page("b").read(), "little") == n >= last
                assert state.digest() == past.digest()
        last = n
        view.close()


@pytest.mark.parametrize("point", range(1, 11))
def test_owner_is_killed_inside_a_commit(process, point):
    """Of a commit whose word is stored everything is seen, of one whose word is not, nothing."""
    code = """
        from mmsb._core.files import Files
        files = Files(faulty=True)
        state = mmsb.open(name="inside", files=files)
        for name in "abc":
            state.create_page(4096, name=name)
        state.serve()
        tell("ready")
        sys.stdin.readline()
        files.arm("killpoint", int(sys.argv[1]), "kill")
        with state.batch() as b:
            b.write("a", b"1" * 4096)
            b.resize("b", 8192)
            b.write("b", b"2" * 8192)
            b.delete_page("c")
            b.create_page(100, name="d", data=b"3" * 100)
    """
    owner = process(code, point)
    owner.hear()
    with mmsb.attach("inside") as view:
        before = view.seq
        owner.say()
        died = owner.end() == -signal.SIGKILL
        assert died == (point < 10), "one point before the word, one before the tail, one for each change"
        until(lambda: not view.owner_alive)
        snapshot = view.snapshot()
        published = point > 1
        assert view.seq == snapshot.seq == before + published
        if published:
            assert list(snapshot.values()) == [b"1" * 4096, b"2" * 8192, b"3" * 100]
            assert view.page("d").read() == b"3" * 100 and "c" not in view
            assert [view.page(name).epoch for name in "abd"] == [1, 2, 0]
        else:
            assert list(snapshot.values()) == [bytes(4096)] * 3 and "d" not in view
            assert [view.page(name).epoch for name in "abc"] == [0, 0, 0]
        assert view.at(view.seq).digest() == view.at(snapshot.seq).digest()


def test_view_finds_the_next_owner(process, tmp_path):
    first = process(OWNER, tmp_path / "s", "stored")
    first.hear()
    view = mmsb.attach(tmp_path / "s")
    page = view.page("a")
    first.kill()
    until(lambda: not view.owner_alive)
    uuid, pid, n = view.uuid, view.owner_pid, check(view)
    second = process(OWNER, tmp_path / "s", "stored")
    second.hear()
    view.reattach()
    assert view.uuid == uuid and view.owner_pid == second.pid != pid and view.owner_alive
    until(lambda: check(view) > n)
    assert len(page.read()) in (20000, 24000)
    view.close()


CLIENT = """
view = mmsb.attach("served")
tell("ready")
while True:
    view.snapshot()
"""


def test_clients_are_killed(process):
    gc.collect()
    before = fds()
    with mmsb.open(name="served", max_bytes=64 << 20) as state:
        page = state.create_page(1 << 20, name="a")
        state.create_page(8, name="b")
        state.serve()
        for _ in range(8):
            clients = [process(CLIENT) for _ in range(2)]
            for client in clients:
                client.hear()
            for n in range(50):
                page.resize((1 << 20) + 8 * (n % 7))
            for client in clients:
                client.kill()
        until(lambda: state.stats()["sharing"]["clients"] == 0)
        assert state.stats()["sharing"]["kept_bytes"] == 0
        assert state.stats()["arena"]["bytes_held"] < 2 << 20
        until(lambda: fds() < before + 60)  # there were sixteen clients, each with several"


def test_a_client_that_never_goes_on_is_dropped(process):
    """It keeps slots for a read that does not end; the owner's memory is bounded all the same."""
    client = process("""
        view = mmsb.attach("served")
        words = memoryview(view._connection.words)
        tell("ready")
        sys.stdin.readline()
        words[64:72] = bytes(8)  # a read that began at the beginning of time
        tell("stuck")
        sys.stdin.readline()
        try:
            view.page("a").read()
        except mmsb.ClientDroppedError as error:
            tell(str(error))
        tell(view.owner_alive)
        view.reattach()
        tell(len(view.page("a").read()))
    """)
    with mmsb.open(name="served") as state:
        page = state.create_page(100_000, name="a")
        client.popen.stdin.flush()
        state.serve()
        state._server.sharing.keep_bytes = 1 << 20
        client = client if client.popen.poll() is None else None
        other = mmsb.attach("served")
        assert client.hear() == "ready"
        client.say()
        assert client.hear() == "stuck"
        for n in range(400):
            page.resize(100_000 + n % 2)
        sharing = state.stats()["sharing"]
        assert sharing["drops"] == 1 and sharing["kept_bytes"] < 4 << 20
        assert state.stats()["arena"]["bytes_held"] < 8 << 20
        client.say()
        assert "reattach" in client.hear()
        client.hear()
        assert client.hear() == 100_001
        assert other.page("a").size == 100_001
        other.close()


def test_a_client_that_takes_no_messages_is_dropped():
    with mmsb.open(name="served", segment_bytes=4096) as state:
        page = state.create_page(1000, name="a")
        state.serve()
        with mmsb.attach("served") as view:
            deaf = rendezvous.connect(rendezvous.key_of_name("served"), "served")
            memory = words()
            socket.send_fds(deaf, [messages.header(messages.HELLO) + messages.HELLO_BODY.pack(4096, 0, 0)], [memory.fd])
            until(lambda: state.stats()["sharing"]["clients"] == 2)
            n = 0
            while state.stats()["sharing"]["drops"] == 0:
                n += 1
                assert n < 100_000
                page.write(n.to_bytes(8, "little") * 125)
            assert view.page("a").read() == page.read()
            until(lambda: state.stats()["sharing"]["clients"] == 1)
            deaf.close()


# ---- fork


def test_fork_of_a_client(process):
    with mmsb.open(name="served") as state:
        state.create_page(8, name="a", data=b"x")
        state.serve()
        client = process("""
            view = mmsb.attach("served")
            page = view.page("a")
            pid = os.fork()
            if pid == 0:
                for look in (page.read, view.pages, lambda: view.seq, view.snapshot, lambda: view.at(1), view.stats):
                    try:
                        look()
                    except mmsb.ForkedStateError:
                        continue
                    os._exit(1)
                view.close()
                own = mmsb.attach("served")
                ok = own.page("a")[0] == ord("x") and own.owner_alive
                view.reattach()
                os._exit(0 if ok and page[0] == ord("x") else 2)
            tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            tell(page[0], view.owner_alive)
            sys.stdin.readline()
        """)
        assert client.hear() == 0
        assert client.hear() == [ord("x"), True]
        until(lambda: state.stats()["sharing"]["clients"] == 1)
        client.say()
        client.end()
        until(lambda: state.stats()["sharing"]["clients"] == 0)


def test_fork_of_the_owner(process):
    """The child is not taken for the owner: clients learn that the owner died although the child lives on."""
    owner = process("""
        state = mmsb.open(name="served")
        state.create_page(8, name="a", data=b"x")
        state.serve()
        tell("ready")
        sys.stdin.readline()
        pid = os.fork()
        if pid == 0:
            try:
                state.poll()
            except mmsb.ForkedStateError:
                time.sleep(60)
            os._exit(1)
        state.page("a").write(b"y")
        tell(pid)
        time.sleep(60)
    """)
    owner.hear()
    with mmsb.attach("served") as view:
        owner.say()
        child = owner.hear()
        try:
            until(lambda: view.page("a")[0] == ord("y"))
            os.kill(owner.pid, signal.SIGKILL)
            until(lambda: not view.owner_alive)
            os.kill(child, 0)
            assert view.page("a")[0] == ord("y")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_view_that_another_thread_closes_says_that_it_is_closed():
    with mmsb.open(name="closes") as state:
        pages = [state.page(page_id) for page_id in state.create_pages(50, 4096)]
        state.serve()
        stop, told = threading.Event(), []

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                pages[number % 50].write(bytes([number & 255]) * 4096)

        def read(view):
            try:
                while True:
                    view.snapshot()
            except mmsb.MMSBError as error:
                told.append(type(error))

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(6):
            view = mmsb.attach("closes")
            readers = [threading.Thread(target=read, args=(view,)) for _ in range(3)]
            for reader in readers:
                reader.start()
            time.sleep(0.005)
            view.close()
            for reader in readers:
                reader.join()
        stop.set()
        writer.join()
        assert set(told) == {mmsb.StateClosedError}


def test_who_learns_that_its_owner_is_gone_can_serve_at_once(monkeypatch):
    """However long the owner takes for the rest of its close()."""
    slow = messages.end

    def dawdling(connection, **how):
        slow(connection, **how)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.3)

    monkeypatch.setattr(messages, "end", dawdling)
    state = mmsb.open(name="next")
    state.create_page(8, name="a")
    state.serve()
    with mmsb.attach("next") as view:
        closing = threading.Thread(target=state.close)
        closing.start()
        with pytest.raises(mmsb.OwnerGoneError):
            while True:
                view.page("a").write(os.urandom(8))
        with mmsb.open(name="next") as other:
            other.serve()
            closing.join()
            mmsb.attach("next").close()
