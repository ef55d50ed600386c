"""Attaching: what a client sees, how it is found, who is let in."""

import gc
import os
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import islice

import numpy
import pytest

import mmsb
from mmsb import messages, rendezvous
from mmsb._core.reader import PAGES
from mmsb.sharedlog import ReadStore
from tests.share import common
from tests.share.common import fds


@pytest.fixture
def served():
    with mmsb.open(name="world") as state:
        state.create_page(4096, name="a", metadata={"unit": "m"}, data=b"hello")
        state.create_page(8, name="b")
        state.serve()
        yield state


until = partial(common.until, seconds=5.0)


# ---- reading


def test_pages(served, view):
    a = view.page("a")
    assert a == view.page(1) == view.page(a) and hash(a) == hash(view.page(1)) and a != view.page("b")
    assert (a.name, a.size, len(a), a.epoch, a.location, a.id) == ("a", 4096, 4096, 0, "cpu", 1)
    assert dict(a.metadata) == {"unit": "m"} and not a.stale
    assert a[0:5] == b"hello" and a[1] == ord("e") and a[-1] == 0 and a[5:0] == b"" and a[4:0:-2] == b"ol"
    assert a.read() == bytes(a) == served.page("a").read() and a.read(1, 3) == b"ell" and a.read(4096) == b""
    assert view.query_page("a") == a.read()
    buffer = bytearray(5)
    assert a.read_into(buffer) == 5 and buffer == b"hello"
    assert view.pages() == [a, view.page("b")] and len(view) == 2 and "b" in view and 3 not in view
    assert view.name == "world" and view.path is None and view.uuid == served.uuid
    assert view.owner_pid == os.getpid() and view.owner_alive
    assert "world" in repr(view) and "'a'" in repr(a)


def test_changes_are_seen(served, view):
    served.page("a").write(b"J")
    assert view.page("a")[0:5] == b"Jello" and view.page("a").epoch == 1 and view.seq == served.seq == 3
    served.page("b").resize(100_000)
    assert view.page("b").size == 100_000 and view.page("b").read() == bytes(100_000)
    served.page("b").rename("c")
    assert view.page("c").page_id == 2 and "b" not in view and view.page(2).name == "c"
    served.page("c").metadata = {"x": 1}
    assert dict(view.page("c").metadata) == {"x": 1}
    handle = view.page("c")
    served.delete_page("c")
    with pytest.raises(mmsb.PageNotFoundError):
        handle.read()
    with pytest.raises(mmsb.PageNotFoundError):
        view.page("c")
    assert repr(handle) == "<ViewPage 2: PageNotFoundError>"


def test_names_in_a_segment_that_was_not_heard_of():
    with mmsb.open(name="names", segment_bytes=4096) as state:
        state.create_page(8)
        state.serve()
        with mmsb.attach("names") as view, view._connection.lock:  # so that its thread takes no message
            for n in range(300):
                state.create_page(8, name=f"n{n}")
                assert view.page(f"n{n}").page_id == n + 2


def test_memory_that_comes_later(served, view):
    big = served.create_page(70 << 20, name="big")
    big.write(b"end", at=big.size - 3)
    assert view.page("big")[-3:] == b"end"
    ids = served.create_pages(100_000, 16)
    served.page(ids[-1]).write(b"last")
    assert view.page(ids[-1])[:4] == b"last" and len(view) == 100_003
    for _ in range(5):  # each in a segment of its own, whose number goes to the next
        big.resize((70 << 20) + 4096)
        big.resize(70 << 20)
        big.write(b"more")
        assert view.page("big")[:4] == b"more"
    served.delete_page("big")
    served.page("a").write(b"x")
    view.page("a").read()
    mapped = sum(len(region) for (kind, _), region in view._reader.regions.items() if kind == PAGES)
    assert mapped == served.stats()["arena"]["bytes_mapped"]


def test_live_arrays(served, view):
    page = served.create_page(16, name="f")
    live = view.page("f").view("float32")
    with page.edit("float32") as f:
        f += 1.5
    assert (live == 1.5).all() and not live.flags.writeable
    with pytest.raises(ValueError):
        live.flags.writeable = True
    served.delete_page("f")
    assert live.nbytes == 16  # it means nothing now, but is there
    assert view.page("a").view("u1", (2, 2048)).shape == (2, 2048)
    view.close()
    assert isinstance(live.sum(), numpy.floating)


def test_ranges(view):
    a = view.page("a")
    for wrong in (lambda: a[4096], lambda: a[-4097], lambda: a.read(4097), lambda: a.read(0, 4097), lambda: a.read(-1)):
        with pytest.raises(mmsb.PageRangeError):
            wrong()
    with pytest.raises(mmsb.PageRangeError):
        a.read_into(bytearray(4097))
    with pytest.raises(BufferError):
        a.read_into(b"12345")
    with pytest.raises(TypeError):
        view.page(1.5)
    with pytest.raises(mmsb.PageNotFoundError):
        view.page("none")
    with pytest.raises(mmsb.PageNotFoundError):
        view.page(-1)


def test_snapshots_know_names(served, view):
    snapshot = view.snapshot()
    assert snapshot["a"] == snapshot[view.page("a")] == snapshot[view.page("a").page_id]
    served.page("a").rename("z")
    assert view.snapshot(["z"])["z"] == snapshot["a"]
    for unknown in ("nobody", "a"):
        with pytest.raises(KeyError):
            view.snapshot()[unknown]


def test_snapshots(served, view):
    snapshot = view.snapshot(["b", 1, "a"])
    assert snapshot.seq == view.seq and list(snapshot) == [1, 2] and snapshot[1] == served.page("a").read()
    assert snapshot[view.page("b")] == bytes(8) and len(snapshot) == 2 and "seq=2" in repr(snapshot)
    assert dict(view.snapshot()) == dict(snapshot) and len(view.snapshot([])) == 0
    with pytest.raises(mmsb.PageNotFoundError):
        view.snapshot([1, 99])


def test_stale_pages(served, view):
    served.depend("b", on="a", fn=lambda out, a: out.__setitem__(slice(0, 5), a[0:5]))
    assert view.page("b")[0:5] == b"hello"
    served.page("a").write(b"J", propagate=False)
    assert view.page("b").stale
    with pytest.raises(mmsb.StalePageError):
        view.page("b").read()
    with pytest.raises(mmsb.StalePageError):
        view.snapshot()
    view.stale_reads = True
    assert view.page("b")[0:5] == b"hello"
    served.propagate()
    assert view.page("b")[0:5] == b"Jello" and not view.page("b").stale


# ---- history


@pytest.mark.parametrize("stored", ["", "stored", "unmapped", "compressed"])
def test_history(tmp_path, stored):
    path = tmp_path / "s" if stored else None
    how = {"mapped": False} if stored == "unmapped" else {"compress": True} if stored == "compressed" else {}
    with mmsb.open(path, name="h", segment_bytes=4096, **how) as state:
        a = state.create_page(64, name="a")
        state.serve()
        for n in range(100):
            with state.batch(label=f"step {n}", source="me") as b:
                b.write(a, n.to_bytes(2, "big"))
        with mmsb.attach(path or "h") as view:
            for n in range(100, 200):
                with state.batch(label=f"step {n}", source="me") as b:
                    b.write(a, n.to_bytes(2, "big"))
            assert len(state._log.segments) > 2
            for seq in (0, 1, 50, 101, 150, state.seq):
                assert view.at(seq).digest() == state.at(seq).digest()
            assert view.at("step 70").page("a")[0:2] == bytes([0, 70])
            assert [c.label for c in view.log(since=150, until=152)] == [
                c.label for c in state.log(since=150, until=152)
            ]
            assert view.last_write("a", at=1).seq == state.last_write("a", at=1).seq
            assert [d.seq for d in view.page("a").history()] == [d.seq for d in a.history()]
            assert view.page("a").at(60).read() == a.at(60).read()
            assert len(list(view.diff(1, 150))) == 1
            with pytest.raises(mmsb.UnknownMomentError):
                view.at(10_000)
            assert [c.seq for c in view.follow(since=5, timeout=0)] == list(range(5, state.seq + 1))


def test_history_that_is_dropped():
    with mmsb.open(name="h", segment_bytes=4096, history=8192) as state:
        a = state.create_page(64, name="a")
        state.serve()
        with mmsb.attach("h") as view:
            state.create_page(8, name="early")
            for n in range(2000):
                a.write(n.to_bytes(4, "big"))
            until(lambda: view.first_seq > 1000)
            assert view.page("early").page_id == 2, "what a dropped segment says of names is learnt before"
            with pytest.raises(mmsb.RetentionError):
                next(view.follow(since=1))
            with pytest.raises(mmsb.RetentionError):
                view.at(5)
            assert next(view.follow(since=state.seq)).seq == state.seq
        with mmsb.attach("h") as late:
            with pytest.raises(mmsb.RetentionError):
                late.at(late.seq).page("a").read()


def test_compacted_history(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        page = state.create_page(64, name="a")
        state.serve()
        with mmsb.attach(tmp_path / "s") as view:
            for n in range(400):
                page.write(n.to_bytes(4, "big"))
            old = view.at(100).page("a").read()
            state.compact(before=300)
            with suppress(mmsb.RetentionError):  # unless what it has read is enough
                assert view.at(100).page("a").read() == old
            with suppress(mmsb.RetentionError):
                assert view.at(50).page("a")[0:4] == (49).to_bytes(4, "big")
            with suppress(mmsb.RetentionError):  # which says from where on one may ask
                view.at(350).digest()
            assert view.at(350).digest() == state.at(350).digest()
            assert view.page("a").read() == page.read()
        with mmsb.attach(tmp_path / "s") as late:
            assert late.first_seq == state.first_seq and late.at(350).digest() == state.at(350).digest()


def test_history_that_is_compacted_while_it_is_looked_for(tmp_path, monkeypatch):
    """What there was before belongs to one base: a hole between it and the segments would go unnoticed."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        page = state.create_page(64, name="a")
        early = state.create_page(512, data=b"early" * 100)
        for n in range(400):
            page.write(n.to_bytes(4, "big"))
        state.serve()
        with mmsb.attach(tmp_path / "s") as view:
            looks, look = [], ReadStore.segment_paths

            def racing(store):
                looks.append(1)
                if len(looks) == 2:  # the first is for the listing that is compared
                    state.compact(before=300)
                return look(store)

            with monkeypatch.context() as patch:
                patch.setattr(ReadStore, "segment_paths", racing)
                assert view.at(350).page(early.page_id).read() == early.read()
            assert view.first_seq == 300 and len(looks) > 2
        os.unlink(state._log.segments[0].path)
        with mmsb.attach(tmp_path / "s") as view, pytest.raises(mmsb.CorruptLogError, match="missing"):
            view.at(350)


def test_a_checkpoint_began_it(tmp_path):
    with mmsb.open() as first:
        first.create_page(8, name="a", data=b"x")
        first.stop(tmp_path / "image")
    with mmsb.open(tmp_path / "image", name="i") as state:
        state.serve()
        with mmsb.attach("i") as view:
            assert view.page("a")[0] == ord("x") and view.seq == 1
            state.page("a").write(b"y")
            assert view.page("a").read() == b"y" + bytes(7)
            with pytest.raises(mmsb.RetentionError):
                view.at(2).page("a").read()


def test_follow(served, view):
    got = []
    follower = view.follow()
    thread = threading.Thread(target=lambda: got.extend(commit.seq for commit in islice(follower, 3)))
    thread.start()
    for n in range(3):
        time.sleep(0.02)
        served.page("b").write(bytes([n + 1]))
    thread.join(20)
    assert got == [3, 4, 5]
    begun = time.monotonic()
    assert list(view.follow(timeout=0.05)) == [] and time.monotonic() - begun < 10
    assert view.wait(5) and not view.wait(6, timeout=0.01)
    for wrong in (0, -1, "x", True):
        with pytest.raises(ValueError):
            view.follow(since=wrong)


def test_closing_ends_followers(served):
    view = mmsb.attach("world")
    got = []
    threads = [threading.Thread(target=lambda: got.append(list(view.follow()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    view.close()
    for thread in threads:
        thread.join(20)
    assert got == [[], [], []]


def test_waiting_wakes_at_once(served, view, monkeypatch):
    """The bell rings through a mapping that is for reading only: nobody would look up in time without it."""
    monkeypatch.setattr("mmsb.view.SLICE_SECONDS", 60.0)
    first, woken = view.seq + 1, []

    def wait():
        for seq in range(first, first + 20):
            woken.append(view.wait(seq, timeout=40))

    thread = threading.Thread(target=wait)
    thread.start()
    for n in range(1, 21):
        time.sleep(0.01)  # it goes to sleep
        served.page("b").write(bytes([n]))
        until(lambda n=n: len(woken) == n)
    thread.join()
    assert all(woken)


# ---- the memory is read-only


def test_kernel_keeps_clients_from_writing(served, view):
    import mmap

    connection = rendezvous.connect(rendezvous.key_of_name("world"), "world")
    from mmsb.connection import words

    memory = words()
    hello = messages.header(messages.HELLO) + messages.HELLO_BODY.pack(4096, 0, 0)
    socket.send_fds(connection, [hello], [memory.fd])
    given = []
    while len(given) < 5:
        _, more, _, _ = socket.recv_fds(connection, 65536, 253, socket.MSG_CMSG_CLOEXEC)
        given += more
    for fd in given:
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert mmap.mmap(fd, 4096, prot=mmap.PROT_READ)[:1] is not None
        os.close(fd)
    connection.close()


# ---- being found and let in


def test_stored_state_is_found_by_path_and_name(tmp_path):
    with mmsb.open(tmp_path / "s", name="also") as state:
        state.create_page(1, name="a")
        state.serve()
        with mmsb.attach(tmp_path / "s") as one, mmsb.attach(str(tmp_path / "s")) as two, mmsb.attach("also") as three:
            assert one.uuid == two.uuid == three.uuid == state.uuid
            assert one.path == state.path and three.at(1).page("a").size == 1


def test_nobody_is_there(tmp_path):
    with pytest.raises(mmsb.OwnerGoneError, match="serve"):
        mmsb.attach("nobody")
    with mmsb.open(tmp_path / "s") as state:
        with pytest.raises(mmsb.OwnerGoneError):
            mmsb.attach(tmp_path / "s")
        with pytest.raises(ValueError, match="name"):
            mmsb.open().serve()
        state.serve()
        with pytest.raises(ValueError, match="already"):
            state.serve()
    for wrong in (tmp_path, tmp_path / "none", str(tmp_path / "x/y")):
        with pytest.raises(mmsb.NotAStoreError):
            mmsb.attach(wrong)
    with pytest.raises(ValueError):
        mmsb.attach("")
    with mmsb.open(tmp_path / "s", read_only=True) as reader, pytest.raises(mmsb.ReadOnlyError):
        reader.serve()


def test_a_name_is_served_once(served):
    with mmsb.open(name="world") as other, pytest.raises(mmsb.StoreLockedError) as caught:
        other.serve()
    assert caught.value.holder == f"pid {os.getpid()}"
    mmsb.attach("world").close()


def test_every_place_is_taken():
    with mmsb.open(name="full") as state:
        state.create_page(8, name="a")
        state.serve()
        views = [mmsb.attach("full") for _ in range(64)]
        with pytest.raises(mmsb.BusyError, match="64"):
            mmsb.attach("full")
        state.page("a").write(b"x")
        assert all(view.page("a")[0] == ord("x") for view in views)
        views.pop().close()
        until(lambda: state.stats()["sharing"]["clients"] == 63)
        views.append(mmsb.attach("full"))
        for view in views:
            view.close()
    with mmsb.open(name="two") as state:
        state.serve(clients=2)
        with mmsb.attach("two"), mmsb.attach("two"), pytest.raises(mmsb.BusyError):
            mmsb.attach("two")
        with pytest.raises(ValueError):
            mmsb.open(name="x").serve(clients=65)


def test_polling_by_hand():
    with mmsb.open(name="hand") as state:
        with pytest.raises(ValueError):
            state.poll()
        state.create_page(8, name="a")
        state.serve(thread=False)
        with pytest.raises(mmsb.BusyError, match="poll"):
            mmsb.attach("hand", timeout=0.05)
        got = []
        thread = threading.Thread(target=lambda: got.append(mmsb.attach("hand")))
        thread.start()
        until(lambda: state.poll(0.1) is not None and got)
        assert got[0].page("a").size == 8
        got[0].close()
        until(lambda: state.poll(0.1) is not None and state.stats()["sharing"]["clients"] == 0)


def test_one_that_fails_is_no_matter_of_others(served, monkeypatch):
    from mmsb.serving import Server

    with monkeypatch.context() as patched:
        patched.setattr(Server, "segments_to_tell", lambda self, state: 1 / 0)
        with pytest.raises(mmsb.OwnerGoneError):
            mmsb.attach("world")
    mmsb.attach("world").close()
    assert "ZeroDivisionError" in served._server.status()["failures"][0]


def test_the_directory_is_checked(runtime, tmp_path, monkeypatch):
    state = mmsb.open(name="d")
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with pytest.raises(mmsb.AttachError, match="0755"):
        state.serve()
    runtime.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    runtime.symlink_to(elsewhere)
    with pytest.raises(mmsb.AttachError):
        state.serve()
    runtime.unlink()
    runtime.write_text("")
    with pytest.raises(mmsb.AttachError, match="no directory"):
        mmsb.attach("d")
    runtime.unlink()
    with pytest.raises(mmsb.AttachError, match="belongs to user"):
        rendezvous.check_directory(os.stat(elsewhere), "x", os.getuid() + 1)
    old = os.umask(0)
    try:
        state.serve()
    finally:
        os.umask(old)
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in runtime.iterdir()] == [0o600]
    state.close()
    assert list(runtime.iterdir()) == []


def test_other_users_are_refused(served, monkeypatch):
    monkeypatch.setattr("mmsb.serving.credentials", lambda connection: (1, os.getuid() + 1))
    with pytest.raises((mmsb.AttachError, mmsb.OwnerGoneError)):
        mmsb.attach("world")
    monkeypatch.setattr("mmsb.rendezvous.credentials", lambda connection: (1, os.getuid() + 1))
    with pytest.raises(mmsb.AttachError, match="user"):
        mmsb.attach("world")


def test_without_a_runtime_directory(monkeypatch, tmp_path):
    import tempfile

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 40)))
    os.mkdir(tempfile.tempdir)
    with mmsb.open(name="x") as state:
        state.serve()
        mmsb.attach("x").close()
        assert os.listdir(tempfile.tempdir) == [f"mmsb-{os.getuid()}"]


# ---- attaching again and again


def test_views_that_are_dropped_leave_nothing(served):
    view = mmsb.attach("world")
    before = fds()
    extra = mmsb.attach("world")
    del extra
    until(lambda: gc.collect() is not None and fds() <= before and served.stats()["sharing"]["clients"] == 1)
    view.close()
    view.close()
    with pytest.raises(mmsb.StateClosedError):
        view.page("a")
    with pytest.raises(mmsb.StateClosedError):
        view.seq  # noqa: B018
    assert repr(view) == "<View closed>"


def test_states_that_are_dropped_leave_nothing(runtime):
    state = mmsb.open(name="drop")
    state.serve()
    view = mmsb.attach("drop")
    del state
    until(lambda: gc.collect() is not None and not view.owner_alive)
    view.close()


def test_what_is_neither_a_store_nor_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for target in ("file", "folder", "./file", tmp_path / "folder"):
        with pytest.raises(mmsb.NotAStoreError):
            mmsb.attach(target)
    with mmsb.open(name="file") as state:  # but it may be the name of a State
        state.serve()
        with mmsb.attach("file") as view:
            assert view.uuid == state.uuid


@pytest.mark.parametrize(
    ("how", "error"),
    [({"clients": "64"}, TypeError), ({"clients": True}, TypeError), ({"commands": {"pages": ["no"]}}, KeyError)],
)
def test_serving_refuses_what_cannot_be_meant(how, error):
    with mmsb.open(name="wrong") as state:
        with pytest.raises(error):
            state.serve(**how)
        state.serve()


def test_offsets_that_are_no_numbers(served, view):
    for at in ("1", 1.0, None):
        with pytest.raises(TypeError):
            view.page("a").write(b"x", at=at)


@pytest.mark.parametrize("knows", [False, True])
def test_names_that_went_with_compacted_history_are_learnt_from_its_base(tmp_path, knows):
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None) as state:
        state.create_page(8, name="before")
        state.serve()
        with mmsb.attach(str(tmp_path / "s")) as view:
            if knows:
                assert view.page("before").page_id == 1 and view.at(1).seq == 1
            a = state.create_page(2000, name="a", metadata={"k": 1})
            state.page("before").rename("after")
            for n in range(20):
                a.write(bytes([n + 1]) * 2000)
            state.compact(before=state.seq)
            for n in range(20):
                a.write(bytes([n + 50]) * 2000)
            state.page("after").rename("last")
            assert view.page("a").page_id == a.page_id and view.page("a").metadata == {"k": 1}
            assert view.page(1).name == "last" and view.page("last").page_id == 1
            assert "before" not in view and "after" not in view


def test_a_snapshot_of_all_pages_has_those_that_were_created_while_they_were_listed(monkeypatch):
    with mmsb.open(name="all") as state:
        state.create_page(8, name="a")
        state.serve()
        with mmsb.attach("all") as view:
            listed = view._reader.live

            class Reader:
                def __getattr__(self, name):
                    return getattr(reader, name)

                def live(self):
                    found = listed()
                    if len(state.pages()) < 3:
                        state.create_page(8)
                    return found

            reader = view._reader
            monkeypatch.setattr(view, "_reader", Reader())
            found = view.snapshot()
            monkeypatch.undo()
            assert (found.seq, list(found)) == (3, [1, 2, 3])
