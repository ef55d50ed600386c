"""R19: one writer at a time, whoever dies, forks or closes what; files, sockets and memory that are their user's alone;
and what somebody else put in the way beforehand (tests/rel/other_users.py).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mmsb
from mmsb._core.files import Files
from tests.rel import other_users
from tests.rel.forks import Forked, kill_all, shared_numbers
from tests.rel.other_users import tried
from tests.rel.programme import Measure, Part, Run

# ---- races

RACERS = 3
RACES = 1000, 5000


def racer(line: socket.socket) -> None:
    """Opens the store of each message, answers whether it could, and closes it when it is told to."""
    while path := line.recv(4096).decode():
        state, answer = None, b"won"
        try:
            state = mmsb.open(path, segment_bytes=4096)
        except mmsb.StoreLockedError:
            answer = b"lost"
        except Exception as error:
            answer = repr(error).encode()
        line.send(answer)
        line.recv(1)
        if state is not None:
            state.create_page(8)
            state.close()
        line.send(b".")


def races(run: Run) -> None:
    """Several processes open one store at once: exactly one gets it. Every second store is a new one."""
    count, lines, children = run.amount(*RACES), [], []
    mmsb.open(run.work / "old").close()
    for _ in range(RACERS):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        children.append(Forked(racer, theirs))
        theirs.close()
        lines.append(ours)
    try:
        for n in range(count):
            path = run.work / (f"new {n}" if n % 2 else "old")
            for line in run.dice(n).sample(lines, RACERS):
                line.send(os.fsencode(path))
            answers = [line.recv(4096) for line in lines]
            run.tally.injected += 1
            if sorted(answers) != [b"lost"] * (RACERS - 1) + [b"won"]:
                run.fail("wrong", str(n), f"of {RACERS} writers of {path.name}: {answers}")
            for line in lines:
                line.send(b".")
                line.recv(1)
            if n % 2:
                shutil.rmtree(path)
            run.progress(n, count)
    finally:
        for line in lines:
            line.close()
        kill_all(children)
    with mmsb.open(run.work / "old") as state:
        if state.seq != (count + 1) // 2 or state.verify().findings:
            run.fail("lost", "old", f"{(count + 1) // 2} winners made a commit each, and {state.seq} are there")


# ---- who holds the lock


class Holder:
    """A process that has a store open for writing, and has done something else besides."""

    def __init__(self, path: Path, besides: Callable[[], object]) -> None:
        self.told = shared_numbers(2)  # that it is ready; the process it made
        self.child = Forked(self.hold, path, besides)
        while not self.told[0]:
            assert not self.child.ends(0), "it could not open the store"
            time.sleep(0.0005)

    def hold(self, path: Path, besides: Callable[[], object]) -> None:
        """Until it is killed."""
        state = mmsb.open(path, segment_bytes=4096)
        self.told[1] = besides() or 0
        self.told[0] = 1
        time.sleep(600)
        state.close()

    def end_what_it_made(self) -> None:
        """Ends the process that it made, which had become nobody's child."""
        if self.told[1]:
            os.kill(self.told[1], 9)


def forked_child() -> int:
    """A child that goes on with all that it inherited."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, b".")
        time.sleep(600)
        os._exit(0)
    os.read(hear, 1)  # it runs
    return pid


def another_program() -> int:
    """A program that is given every descriptor that is not closed by itself."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False).pid


def closes_the_lock_file(path: Path) -> Callable[[], None]:
    """What lets a lock of the other kind, that of the process, fall off."""

    def close() -> None:
        for how in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            os.close(os.open(path / "lock", how))
        (path / "lock").read_bytes()
        refused(path, os.getpid())

    return close


def refused(path: Path, holder: int) -> None:
    """Nobody else may write there now; reading goes on."""
    try:
        mmsb.open(path).close()
    except mmsb.StoreLockedError as error:
        assert error.holder.startswith(f"pid {holder} "), f"{error.holder} and not {holder} is told to hold it"
    else:
        raise AssertionError("a second writer was let in")
    mmsb.open(path, read_only=True).close()


def holders(run: Run) -> None:
    """A lock holds whatever its holder does besides, and goes with its holder alone."""
    path = run.work / "store"
    mmsb.open(path).close()
    ways: dict[str, Callable[[], object]] = {
        "nothing else": lambda: None,
        "a forked child": forked_child,
        "another program": another_program,
        "closing the lock file": closes_the_lock_file(path),
    }

    def killed(besides: Callable[[], object]) -> None:
        holder = Holder(path, besides)
        try:
            refused(path, holder.child.pid)
            holder.child.kill()
            with mmsb.open(path, segment_bytes=4096) as state:  # at once, although what it made lives on
                refused(path, os.getpid())
                state.create_page(8)
        finally:
            holder.child.kill()
            holder.end_what_it_made()

    count = run.amount(25, 250)
    for n in range(count):
        for what, besides in ways.items():
            tried(run, f"{what} {n}", f"a writer with {what}", lambda besides=besides: killed(besides))
        run.progress(n, count)


# ---- file systems

# f_type of statfs(2): where a block that was reserved is there for good, so that mmsb maps; elsewhere it writes.
SAFE = {"ext": 0xEF53, "xfs": 0x58465342, "tmpfs": 0x01021994}
OTHERS = {
    "nfs": 0x6969,
    "overlay": 0x794C7630,
    "fuse": 0x65735546,
    "cifs": 0xFF534D42,
    "smb2": 0xFE534D42,
    "9p": 0x01021997,
    "btrfs": 0x9123683E,
    "zfs": 0x2FC12FC1,
    "vfat": 0x4D44,
    "ceph": 0x00C36400,
    "unknown": 0x12345678,
}


class Elsewhere(Files):
    """Files that are said to be on another file system."""

    kind = 0

    def filesystem(self, fd: int) -> int:
        """What statfs would say."""
        return self.kind


def on_file_system(path: Path, kind: int, is_mapped: bool) -> None:
    """Writes, dies, recovers and serves there. AssertionError."""

    def files() -> Files:
        made = Elsewhere(faulty=True)
        made.kind = kind
        return made

    def write_and_die() -> None:
        lying = files()
        state = mmsb.open(path, segment_bytes=4096, files=lying)
        page = state.create_page(64, name="a")
        for n in range(1, 200):
            if n == 199:
                lying.arm("killpoint", 2, "kill")
            page.write(n.to_bytes(8, "little") * 8)

    writer = Forked(write_and_die)
    writer.ends()
    assert writer.status == -9, f"it ended with {writer.status}"
    with mmsb.open(path, name="elsewhere", segment_bytes=4096, files=files()) as state:
        assert state.page("a").read() == (199).to_bytes(8, "little") * 8 and state.seq == 200
        mapped = state._log.active.memory if hasattr(state._log.active, "memory") else None
        assert (mapped is not None) == is_mapped, f"mapped: {mapped is not None}"
        refused(path, os.getpid())
        state.serve()
        with mmsb.attach("elsewhere") as view:
            state.page("a").write(b"there")
            assert view.page("a")[0:5] == b"there" and [commit.seq for commit in view.log()] == list(range(1, 202))
        assert not state.verify().findings


def file_systems(run: Run) -> None:
    """Where a mapping is not known to be safe nothing is mapped, and everything else is the same."""
    os.environ["XDG_RUNTIME_DIR"] = str(run.work / "runtime")
    for name, kind in {**SAFE, **OTHERS}.items():
        is_mapped = name in SAFE
        tried(run, name, name, lambda n=name, k=kind, m=is_mapped: on_file_system(run.work / n, k, m))


MEASURE = Measure(
    "R19",
    "locks and permissions",
    (
        Part("races", races, at_least=RACES),
        Part("holders", holders, at_least=(100, 1000)),
        Part("file-systems", file_systems, at_least=(14, 14)),
        Part("modes", other_users.modes, at_least=(5, 5)),
        Part("in-the-way", other_users.in_the_way, at_least=(24, 24)),
        Part("other-users", other_users.other_users, at_least=(8, 8)),
    ),
    files=("tests/rel/forks.py", "tests/rel/other_users.py"),
)
