"""Everyone on the stage of stage.py: an owner, writers and checked readers, each a process that dies at any instant.

Run as a script this is the nursery: it has imported mmsb, owns nothing of it, and forks one of them for each line that
it is sent. What a process has to say lies in files, so that it is there after a SIGKILL as well: numbers in a ledger,
which is mapped, and pairs of numbers in notes, each put there by one write().
"""

import ctypes
import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from hashlib import shake_128
from pathlib import Path

import mmsb

# All that they import later, so that a fork is all it takes.
import mmsb.attaching
import mmsb.checkpoint
import mmsb.compression
import mmsb.digest
import mmsb.opening
import mmsb.past
import mmsb.serving
from mmsb._core.files import Files

SEGMENT_BYTES = 1 << 16
OWN = ("w0", "w1", "o")
OWN_BYTES = 1024
SETS = {"s0": 64, "s1": 512, "s2": 1024, "s3": 2048}
PAIR = struct.Struct("<QQ")
LEDGER_BYTES = 4096
# Places in the ledger.
STOP, DONE, OPENED, ACKNOWLEDGED, READS, HELD_NS, WALL_NS, SINCE_NS, LEARNT, FROZEN, FOUND, FOLLOWED = range(12)
DIGEST = range(12, 16)
BURST = 8
LONG_NS = 20_000_000
# Of some ten commits of the owner, each with one before its word, one before it is applied, one for each change.
KILL_POINTS = 100


def number_of(incarnation, n):
    """What the n-th change of one life of a process writes. It grows from life to life of the same place."""
    return incarnation << 24 | n


def own(number):
    """The page of one who writes: the number, and bytes that follow from it."""
    head = number.to_bytes(8, "little")
    return head + shake_128(head).digest(OWN_BYTES - 8)


def whole(number, size):
    """A page of the set: the number throughout."""
    return number.to_bytes(8, "little") * (size // 8)


def number_in(content):
    return int.from_bytes(content[:8], "little")


def extra_bytes(number):
    """The size of the page that comes and goes."""
    return 8 * (1 + number * 7919 % 400)


class Ledger:
    """Numbers that a process leaves behind, shared with whoever looks."""

    def __init__(self, path, *, make=False):
        fd = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if make else 0), 0o600)
        if make:
            os.ftruncate(fd, LEDGER_BYTES)
        self.numbers = memoryview(mmap.mmap(fd, LEDGER_BYTES)).cast("Q")
        os.close(fd)

    def __getitem__(self, place):
        return self.numbers[place]

    def __setitem__(self, place, number):
        self.numbers[place] = number


class Stopwatch:
    """How long a read keeps its reader: the time that passes, less that in which the process could run and had no
    processor. Its threads count together, as one may hold what the other waits for.

    So a machine that is busy is discounted, by what the kernel counts as waiting for a processor and as stolen from a
    virtual machine, and nothing else is: sleeping, spinning, a lock, a retry, a wait for the owner show in full.
    """

    def __init__(self, ledger):
        self.ledger = ledger
        self.files = []
        self.stat = os.open("/proc/stat", os.O_RDONLY)
        self.looked = self.stolen = 0
        self.renew()

    def renew(self):
        """Another thread takes the messages of a new owner."""
        for file in self.files:
            os.close(file)
        self.files = []
        for task in os.listdir("/proc/self/task"):
            with suppress(FileNotFoundError):  # one that has just ended
                self.files.append(os.open(f"/proc/self/task/{task}/schedstat", os.O_RDONLY))

    def without_processor(self):
        waited = 0
        for file in self.files:
            with suppress(ProcessLookupError):  # a thread that has ended
                waited += int(os.pread(file, 96, 0).split()[1])
        return waited

    def stolen_ns(self):
        """What somebody else had of all processors. It costs more than a read: only a long one is asked about."""
        return int(os.pread(self.stat, 256, 0).split()[8]) * 10**9 // os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        if time.monotonic_ns() - self.looked > LONG_NS:
            self.looked, self.stolen = time.monotonic_ns(), self.stolen_ns()
        self.waited = self.without_processor()
        self.began = self.ledger[SINCE_NS] = time.monotonic_ns()

    def __exit__(self, *_):
        passed = time.monotonic_ns() - self.began
        held = passed - max(0, self.without_processor() - self.waited)
        if held > LONG_NS:
            held -= self.stolen_ns() - self.stolen
        held = max(0, held)
        ledger = self.ledger
        ledger[SINCE_NS] = 0
        ledger[READS] += 1
        ledger[WALL_NS] = max(ledger[WALL_NS], passed)
        ledger[HELD_NS] = max(ledger[HELD_NS], held)


class Player:
    """What every process has."""

    def __init__(self, role, place, incarnation, folder, seed, durability, kill_points):
        self.durability, self.kill_points = durability, kill_points
        self.role, self.place, self.incarnation = role, place, incarnation
        self.store = str(Path(folder) / "store")
        self.dice = random.Random(seed)
        self.ledger = Ledger(Path(folder) / f"{incarnation}.ledger")
        self.notes = os.open(Path(folder) / f"{incarnation}.notes", os.O_WRONLY | os.O_APPEND)
        self.n = 0

    @property
    def stopping(self):
        return self.ledger[STOP]

    def number(self, ahead=1):
        return number_of(self.incarnation, self.n + ahead)

    def note(self, first, second):
        os.write(self.notes, PAIR.pack(first, second))

    def acknowledged(self, seq, count=1):
        """The next changes are acknowledged, the last of them as commit `seq`."""
        assert seq is not None, "a change that changes something has a commit"
        self.n += count
        self.note(number_of(self.incarnation, self.n), seq)
        self.ledger[ACKNOWLEDGED] += count

    def pause(self):
        if self.dice.random() < 0.5:
            time.sleep(self.dice.random() * 0.004)

    def attach(self):
        """A view, as soon as somebody serves the store. None when it is time to stop."""
        while not self.stopping:
            try:
                return mmsb.attach(self.store)
            except (mmsb.OwnerGoneError, mmsb.NotAStoreError):
                time.sleep(0.001)
        return None

    def reattach(self, view, meanwhile=lambda: None):
        """Finds the next owner. Whether there was one before it was time to stop."""
        while not self.stopping:
            try:
                view.reattach()
            except mmsb.OwnerGoneError:
                meanwhile()
                time.sleep(0.001)
            else:
                assert view.owner_pid != os.getpid()
                self.ledger[FOUND] += 1
                return True
        return False


# ---- the owner


def owner(me):
    """Opens the store, serves it, and writes as well. With kill points it may die by itself, inside a commit."""
    files = Files(faulty=me.kill_points)
    state = mmsb.open(me.store, durability=me.durability, segment_bytes=SEGMENT_BYTES, files=files)
    me.note(0, state.seq)  # what it found
    if OWN[0] not in state:
        with state.batch() as batch:
            for name in OWN:
                batch.create_page(name=name, data=own(0))
            for name, size in SETS.items():
                batch.create_page(size, name=name)
    state.serve()
    me.ledger[OPENED] = 1
    if me.kill_points and me.dice.random() < 0.8:
        files.arm("killpoint", me.dice.randrange(1, KILL_POINTS), "kill")
    while not me.stopping:
        number = me.number()
        with state.batch(source="owner") as batch:
            batch.write("o", own(number))
            for name, size in SETS.items():
                batch.write(name, whole(number, size))
        me.acknowledged(batch.seq)
        if me.dice.random() < 0.02:
            state.checkpoint()
        if not me.kill_points:
            me.pause()
    assert not state._server.failures, state._server.failures
    for place, number in zip(DIGEST, struct.unpack("<4Q", state.digest()), strict=True):
        me.ledger[place] = number
    state.close()


# ---- writers


def writer(me):
    """Changes its own page with every command, and now and then everybody's."""
    view = me.attach()
    while view is not None and not me.stopping:
        sent = 1
        try:
            kind = me.dice.random()
            if kind < 0.4:
                me.acknowledged(view.page(OWN[me.place]).write(own(me.number()), source=f"w{me.place}").seq)
            elif kind < 0.8:
                me.acknowledged(write_set(me, view, kind < 0.5))
            else:
                sent = BURST
                burst(me, view)
            me.pause()
        except mmsb.OwnerGoneError:
            check_gone(view)
            if not me.reattach(view):
                return
            reached = number_in(view.page(OWN[me.place]).read())
            mine = reached - number_of(me.incarnation, 0)
            # Of what was not acknowledged, any beginning may have been done, and nothing else.
            assert me.n <= max(mine, 0) <= me.n + sent, f"sent {me.n + sent}, acknowledged {me.n}, and there is {mine}"
            me.n = max(mine, 0)


def write_set(me, view, also_extra):
    number, extra = me.number(), f"x{me.place}"
    with view.batch(source=f"w{me.place}", label=f"{number}") as batch:
        batch.write(OWN[me.place], own(number))
        for name, size in SETS.items():
            batch.write(name, whole(number, size))
        if also_extra:
            if extra in view:
                batch.delete_page(extra)
            size = extra_bytes(number)
            batch.create_page(size, name=extra, data=whole(number, size))
    return batch.seq


def burst(me, view):
    submit = view.client.submit
    numbers = [submit.write(OWN[me.place], own(me.number(ahead))) for ahead in range(1, BURST + 1)]
    for number in numbers:
        me.acknowledged(view.client.finish(number).seq)


def check_gone(view):
    """An owner that is gone is known to be, and takes no commands."""
    end = time.monotonic() + 10
    while view.owner_alive:  # the ring may have been told first
        assert time.monotonic() < end, "the owner is gone and seems alive"
        time.sleep(0.001)
    try:
        view.page("o").write(b"never")
    except mmsb.OwnerGoneError:
        return
    raise AssertionError("a dead owner took a command")


# ---- readers


class Looked:
    """What a reader has seen. Nothing goes back, whoever owns the State."""

    def __init__(self):
        self.seq = 0
        self.numbers = dict.fromkeys(OWN, 0)

    def at(self, seq):
        assert seq >= self.seq, f"seq went back from {self.seq} to {seq}"
        self.seq = seq

    def own(self, name, content):
        number = number_in(content)
        assert content == own(number), f"{name} is torn"
        assert number >= self.numbers[name], f"{name} went back from {self.numbers[name]} to {number}"
        self.numbers[name] = number


def reader(me):
    """Reads all the time, and says what no reader may ever see."""
    view, looked, watch = me.attach(), Looked(), Stopwatch(me.ledger)
    if view is None:
        return
    while not all(name in view for name in OWN):  # the store is being made
        if me.stopping or not view.owner_alive and not me.reattach(view):
            return
    ids = {name: view.page_id_of(name) for name in (*OWN, *SETS)}
    follower = view.follow(since=view.seq + 1, timeout=0)
    buffer = bytearray(OWN_BYTES)
    while not me.stopping:
        name = me.dice.choice(OWN)
        with watch:
            content = view.page(ids[name]).read()
        looked.own(name, content)
        name = me.dice.choice(OWN)
        page = view.page(ids[name])
        with watch:
            page.read_into(buffer)
        looked.own(name, bytes(buffer))
        look_at_all(view, ids, looked, watch, everything=me.dice.random() < 0.1)
        if me.place == 0:
            follow(me, follower, view)
        if not view.owner_alive:
            mourn(me, view, ids, looked, watch)
            # What it followed goes on where it was, in the log of the next owner.
            follower = view.follow(since=follower.seq + 1, timeout=0)


def look_at_all(view, ids, looked, watch, *, everything=False):
    """A snapshot, which is as after one commit."""
    with watch:
        snapshot = view.snapshot() if everything else view.snapshot(ids.values())
    looked.at(snapshot.seq)
    for name in OWN:
        looked.own(name, snapshot[ids[name]])
    number = number_in(snapshot[ids["s0"]])
    for name, size in SETS.items():
        assert snapshot[ids[name]] == whole(number, size), "a snapshot mixes commits"
    assert number <= max(number_in(snapshot[ids[name]]) for name in OWN), "half of a commit"
    for page_id in snapshot.keys() - set(ids.values()):
        content = snapshot[page_id]
        assert content == whole(number_in(content), extra_bytes(number_in(content))), "an extra page is torn"
    return snapshot


def follow(me, follower, view):
    """Every commit comes, in its turn."""
    before = follower.seq
    try:
        for commit in follower:
            assert commit.seq == before + 1, "a follower missed a commit"
            before = commit.seq
            me.ledger[FOLLOWED] += 1
            if me.dice.random() < 0.05:
                return
    except mmsb.OwnerGoneError:
        assert follower.seq == view.seq


def mourn(me, view, ids, looked, watch):
    """The owner is gone: everything stays as after its last commit, until there is another owner."""
    last = look_at_all(view, ids, looked, watch)
    me.note(view.owner_pid, last.seq)
    me.ledger[LEARNT] += 1
    check_gone(view)
    past = view.at(last.seq)
    assert all(past.page(page_id).read() == last[page_id] for page_id in ids.values()), "the past is another one"

    def again():
        with watch:
            found = view.snapshot(ids.values())
        assert found.seq == view.seq == last.seq and dict(found) == dict(last), "a dead owner's State changed"
        me.ledger[FROZEN] += 1

    again()
    if me.reattach(view, again):
        watch.renew()
        past = view.at(last.seq)
        assert all(past.page(page_id).read() == last[page_id] for page_id in ids.values()), "a commit was lost"


ROLES = {"owner": owner, "writer": writer, "reader": reader}


# ---- the nursery

LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


def live(role, place, incarnation, folder, seed, **how):
    """One life. It ends with exit(0) when it was told to stop, and with its failure in a file otherwise."""
    status = 1
    try:
        me = Player(role, place, incarnation, folder, seed, **how)
        ROLES[role](me)
        me.ledger[DONE] = 1
        status = 0
    except BaseException:
        (Path(folder) / f"{incarnation}.failure").write_text(f"{role} {place}\n{traceback.format_exc()}")
    finally:
        os._exit(status)


def nursery(parent):
    """Forks one process for each message, and hands its pidfd over."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    assert threading.active_count() == 1
    while message := parent.recv(65536):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody outlives a test that was stopped
            parent.close()
            live(**json.loads(message))
        # A child that died already is reaped, and then its number says nothing.
        try:
            fds = [os.pidfd_open(child)]
        except ProcessLookupError:
            fds = []
        socket.send_fds(parent, [str(child).encode()], fds)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])))
