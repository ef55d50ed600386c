"""What one side says is not so: the other refuses it, and is none the worse."""

import contextlib
import gc
import os
import random
import socket
import struct
import time

import pytest

import mmsb
from mmsb import messages, rendezvous, serving
from mmsb._core.files import Memory
from mmsb.connection import words
from tests.share.common import fds, until

HELLO = messages.HELLO_BODY.pack(4096, 0, 0)


def hello(body=HELLO, given=None, kind=messages.HELLO, layout=1, magic=messages.MAGIC):
    """What an owner answers to a hello: (header, body)."""
    connection = rendezvous.connect(rendezvous.key_of_name("served"), "served")
    try:
        connection.settimeout(10)
        memory = words()
        data = messages.HEADER.pack(magic, kind, 0, 0, layout) + body
        socket.send_fds(connection, [data], [memory.fd] if given is None else given)
        data, received, _, _ = socket.recv_fds(connection, 65536, 253)
        for fd in received:
            os.close(fd)
        return messages.split(data) if data else None
    except ConnectionError:
        return None
    finally:
        connection.close()


def test_owner_hears_nonsense():
    with mmsb.open(name="served") as state:
        state.create_page(8, name="a")
        state.serve()
        unsealed = os.memfd_create("x")
        os.ftruncate(unsealed, 4096)
        small = os.memfd_create("x", os.MFD_ALLOW_SEALING)
        zeros = Memory(4096)
        pipe = os.pipe()
        plain = words().fd  # closed with its memory
        gc.collect()  # what others left
        before = fds()
        wrong = [
            {"body": b""},
            {"body": bytes(1000)},
            {"body": messages.HELLO_BODY.pack(1 << 60, 0, 0)},
            {"body": messages.HELLO_BODY.pack(0, 0, 0)},
            {"body": messages.HELLO_BODY.pack(4096, 1, 0)},
            {"body": messages.HELLO_BODY.pack(4096, 0, 4096)},
            {"given": []},
            {"given": [unsealed]},
            {"given": [small]},
            {"given": [pipe[0]]},
            {"given": [zeros.fd]},
            {"given": [zeros.fd] * 100},
            {"kind": 77},
            {"kind": messages.WELCOME},
            {"magic": b"GET / HT"},
            {"layout": 0},
        ]
        for facts in wrong:
            answer = hello(**facts)
            assert answer is not None and answer[0][:2] == (messages.REFUSED, messages.MALFORMED), facts
        answer = hello(layout=2)
        assert answer[0][:2] == (messages.REFUSED, messages.LAYOUT_UNKNOWN)
        dice = random.Random(5)
        for _ in range(200):
            connection = rendezvous.connect(rendezvous.key_of_name("served"), "served")
            try:
                for _ in range(dice.randrange(3)):
                    connection.send(dice.randbytes(dice.randrange(1, 200)))
            except OSError:
                pass
            connection.close()
        with mmsb.attach("served") as view:
            # What a client says later means nothing.
            view._connection.socket.send(b"x" * 1000)
            assert view.page("a").read() == bytes(8)
        del view
        until(lambda: gc.collect() is not None and fds() <= before)
        until(lambda: state.stats()["sharing"]["clients"] == 0)
        assert plain is not None
        for fd in (unsealed, small, *pipe):
            os.close(fd)


def test_those_who_say_nothing_are_forgotten(monkeypatch):
    patience = serving.HELLO_SECONDS
    monkeypatch.setattr(serving, "HELLO_SECONDS", 0.1)
    with mmsb.open(name="served") as state:
        state.serve()
        silent = [rendezvous.connect(rendezvous.key_of_name("served"), "served") for _ in range(20)]
        until(lambda: len(state._server.peers) == 0)
        for one in silent:
            one.settimeout(20)
            assert one.recv(100) == b""
            one.close()
        monkeypatch.setattr(serving, "HELLO_SECONDS", patience)
        mmsb.attach("served").close()


def lingering(seconds):
    """A connection whose last holder waits for so long when it closes it, and the two others that it needs."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(1)
    made = socket.create_connection(door.getsockname())
    other, _ = door.accept()
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            made.send(bytes(65536))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    return made, (other, door)


@pytest.mark.parametrize("read", [True, False])
def test_a_descriptor_that_is_slow_to_close_does_not_stop_the_owner(read):
    with mmsb.open(name="served") as state:
        state.serve(thread=False)
        connection = rendezvous.connect(rendezvous.key_of_name("served"), "served")
        made, others = lingering(15)
        if not read:
            connection.send(b"no message")  # for which the connection is ended, with what comes next in it
        messages.send(connection, messages.header(messages.HELLO), [made.fileno()])
        made.close()
        begin = time.monotonic()
        while not state._server.refused:
            state.poll()
        assert time.monotonic() - begin < 5
        for one in (connection, *others):
            one.close()


def test_a_round_takes_in_a_bounded_number_of_those_who_knock():
    with mmsb.open(name="served") as state:
        state.serve(thread=False)
        knocking = [rendezvous.connect(rendezvous.key_of_name("served"), "served") for _ in range(40)]
        state._server.work()
        assert 0 < len(state._server.peers) < 40
        until(lambda: state.poll() >= 0 and len(state._server.peers) == 40)
        for one in knocking:
            one.close()


class Liar:
    """An owner that says what it is told to."""

    def __init__(self, *answers):
        self.listener = rendezvous.Listener([rendezvous.key_of_name("liar")], "liar")
        self.answers = answers

    def attach(self):
        import threading

        def answer():
            made = self.listener.sockets[0]
            made.setblocking(True)
            made.settimeout(10)
            connection, _ = made.accept()
            connection.recv(4096)
            for data, given in self.answers:
                socket.send_fds(connection, [data], given)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            return mmsb.attach("liar", timeout=20)
        finally:
            thread.join()
            self.listener.close()


def shared_page(layout=1, size=4096, magic=b"MMSBSHR1"):
    memory = Memory(size)
    memoryview(memory)[:16] = struct.pack("<8sII", magic, layout, 1)
    return memory


def welcome(entries=0, shared_bytes=4096, place=0, extra=b""):
    facts = messages.Welcome(1, place, entries, shared_bytes, bytes(16), bytes(16), 0, 0, 0, None, "liar")
    return messages.header(messages.WELCOME) + facts.encode() + extra


def test_client_hears_nonsense():
    page, newer, no_page = shared_page(), shared_page(layout=2), shared_page(magic=b"????????")
    small = Memory(4096)
    plain = os.memfd_create("plain")
    os.ftruncate(plain, 1 << 21)
    entry = messages.ENTRY
    regions = messages.header(messages.REGIONS, 1)
    hello_to = (welcome(entries=1), [page.fd])
    names = messages.header(messages.NAMES) + messages.NAMES_BODY.pack(0, 4096, 1)
    lying_names = Memory(4096)
    memoryview(lying_names)[:16] = messages.NAME.pack(1, 1 << 31, 5)
    wrong = {
        "no message": [(b"hello", [])],
        "other magic": [(b"x" * 64, [])],
        "regions first": [(regions + bytes(24), [])],
        "welcome without its page": [(welcome(), [])],
        "welcome cut short": [(welcome()[:60], [page.fd])],
        "texts that lie": [(welcome()[:-8] + b"\xf0\xff\xff\x00", [page.fd])],
        "a page that is too long": [(welcome(shared_bytes=1 << 30), [page.fd])],
        "a page that is too short": [(welcome(shared_bytes=8), [page.fd])],
        "a page that may shrink": [(welcome(), [plain])],
        "another page": [(welcome(), [no_page.fd])],
        "a place that there is not": [(welcome(place=64), [page.fd])],
        "two welcomes": [(welcome(entries=1), [page.fd]), (welcome(entries=1), [page.fd])],
        "fewer entries than it says": [hello_to, (messages.header(messages.REGIONS, 9) + bytes(24), [small.fd])],
        "no descriptor": [hello_to, (regions + entry.pack(2, 1, 4096, 0), [])],
        "memory shorter than it says": [hello_to, (regions + entry.pack(2, 1, 1 << 20, 0), [small.fd])],
        "memory that may shrink": [hello_to, (regions + entry.pack(2, 1, 4096, 0), [plain])],
        "memory of no kind": [hello_to, (regions + entry.pack(9, 1, 4096, 0), [small.fd])],
        "headers of another length": [hello_to, (regions + entry.pack(1, 0, 4096, 0), [small.fd])],
        "segment 0": [hello_to, (regions + entry.pack(2, 0, 4096, 0), [small.fd])],
        "segment 70000": [hello_to, (regions + entry.pack(2, 70000, 4096, 0), [small.fd])],
        "a log without a header": [hello_to, (regions + entry.pack(3, 1, 4096, 0), [small.fd])],
        "names that lie": [hello_to, (names, [lying_names.fd])],
        "refused for no reason": [(messages.header(messages.REFUSED, 99) + b"\xff", [])],
    }
    before = fds()
    for what, answers in wrong.items():
        with pytest.raises(mmsb.AttachError):
            Liar(*answers).attach()
            pytest.fail(what)
    until(lambda: gc.collect() is not None and fds() <= before)
    with pytest.raises(mmsb.FormatVersionError):
        Liar((welcome(), [newer.fd])).attach()
    with pytest.raises(mmsb.FormatVersionError):
        Liar((messages.HEADER.pack(messages.MAGIC, messages.WELCOME, 0, 0, 2), [])).attach()
    with pytest.raises(mmsb.FormatVersionError):
        Liar((messages.header(messages.REFUSED, messages.LAYOUT_UNKNOWN), [])).attach()
    for answers in ([], [(welcome(), [page.fd])]):
        with pytest.raises(mmsb.OwnerGoneError):
            Liar(*answers).attach()
    os.close(plain)


class Imagined:
    """Memory as an owner would share it: one page of 64 bytes, made by the one commit of the log."""

    def __init__(self):
        from mmsb._core.reader import HEADERS, LOG, PAGES, Reader
        from mmsb._core.sharing import Region

        self.shared, self.headers, self.pages = Memory(4096), Memory(2 << 20), Memory(1 << 20)
        with mmsb.open(name="real", segment_bytes=4096) as state:
            state.create_page(64, name="p", data=b"page" * 16)
            state.page("p").write(b"x")
            state.page("p").resize(128)
            segment = state._log.segments[0]
            self.salt, tail = segment.head.salt, state._active_tail
            self.log = Memory(4096)
            memoryview(self.log)[:] = memoryview(segment.memory)
        self.frames = (128, tail)
        page = memoryview(self.shared)
        page[:16] = struct.pack("<8sII", b"MMSBSHR1", 1, 1)
        self.number(64, 1 << 40 | tail)  # tail
        self.number(128, 1 << 40 | 128)  # applied: all of the log is to be redone
        self.number(384, 1)  # admitted
        self.reader = Reader(Region(self.shared.fd, 4096), words(), 0, 1, self.salt, lambda: None)
        self.reader.set(HEADERS, 0, Region(self.headers.fd, 2 << 20))
        self.reader.set(PAGES, 1, Region(self.pages.fd, 1 << 20))
        self.reader.set(LOG, 1, Region(self.log.fd, 4096))

    def number(self, at, value):
        memoryview(self.shared)[at : at + 8] = value.to_bytes(8, "little")

    def header(self, handle=1 << 40, size=64, flags=1):
        memoryview(self.headers)[32:64] = struct.pack("<QQQIHBB", handle, size, 0, 0, flags, 0, 0)


def test_headers_that_lie():
    """A header is never followed out of what is mapped."""
    imagined = Imagined()
    assert imagined.reader.bytes(1, 0, None)[0] == b"xage" + b"page" * 15 + bytes(64)
    imagined.number(128, 1 << 40 | imagined.frames[1])  # nothing to redo: the header decides
    dice = random.Random(7)

    def lie():
        return dice.choice([dice.getrandbits(64), 1 << dice.randrange(64), dice.randrange(1 << 21)])

    for _ in range(5000):
        imagined.header(*dice.choice([(lie(), 64), (1 << 40, lie()), (lie(), lie())]))
        try:
            data, *_ = imagined.reader.bytes(1, dice.randrange(100), dice.choice([16, 1000]))
            assert len(data) <= 1000
            imagined.reader.facts(1)
            imagined.reader.slot(1)
        except (mmsb.MMSBError, MemoryError):
            pass


def test_a_log_that_lies():
    """Frames are checked before they are redone, and positions before they are followed."""
    dice = random.Random(8)
    refused = 0
    for _ in range(20):
        imagined = Imagined()
        imagined.header()
        whole = bytes(memoryview(imagined.log))
        for _ in range(100):
            log = bytearray(whole)
            for _ in range(dice.randrange(3)):
                log[dice.randrange(*imagined.frames)] = dice.randrange(256)
            memoryview(imagined.log)[:] = log
            imagined.number(64, 1 << 40 | imagined.frames[1])
            imagined.number(128, 1 << 40 | 128)
            if dice.random() < 0.3:
                lie = dice.choice([dice.getrandbits(64), 1 << 40 | dice.randrange(1 << 13)])
                imagined.number(dice.choice([64, 128]), lie)
            refused += refusals(imagined.reader)
    assert refused > 500


def refusals(reader):
    """How many ways to read say that something is wrong."""
    count = 0
    for look in (lambda: reader.bytes(1, 0, None), lambda: reader.snapshot([1, 2]), reader.live, reader.moment):
        try:
            look()
        except mmsb.MMSBError:
            count += 1
    return count
