"""What other users of the machine can see and reach of a State, and what they may have put in its way; for R19."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import mmsb
from mmsb import messages, rendezvous
from mmsb._core.files import Files
from tests.rel.forks import Forked
from tests.rel.programme import Run

STRANGER = 54321
UMASKS = (0o000, 0o022, 0o077, 0o277, 0o777)


def tried(run: Run, case: str, what: str, attempt: Callable[[], object]) -> None:
    """One attempt; whatever it raises says that a promise does not hold."""
    if not run.wants(case):
        return
    run.tally.injected += 1
    try:
        attempt()
    except Exception as error:
        run.fail("wrong", case, f"{what}: {type(error).__name__}: {error}")


def in_a_child(function: Callable[[], object]) -> None:
    """Calls it in a process of its own, which says on its standard error how it failed."""
    child = Forked(function)
    child.ends()
    assert child.status == 0, f"it ended with {child.status}, see above"


def fails(error: type[BaseException] | tuple[type[BaseException], ...], call: Callable[[], object]) -> None:
    """AssertionError unless it raises this."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"nobody was kept from it, where {error} was expected")


# ---- modes


def every_kind_of_file(path: Path) -> None:
    """A store with segments, compressed ones, a checkpoint and a torn tail."""

    def write(state: mmsb.State, count: int) -> None:
        for n in range(count):
            state.page("a").write(n.to_bytes(50, "big"))

    def die_between_body_and_word() -> None:
        files = Files(faulty=True)
        state = mmsb.open(path, segment_bytes=4096, files=files)
        write(state, 10)
        files.arm("killpoint", 1, "kill")
        write(state, 1)

    with mmsb.open(path, segment_bytes=4096, compress=True) as state:
        state.create_page(100, name="a")
        write(state, 200)
        state.checkpoint()
    child = Forked(die_between_body_and_word)
    child.ends()
    assert child.status == -signal.SIGKILL, f"it ended with {child.status}"
    with mmsb.open(path, segment_bytes=4096) as state:
        assert state.recovered.saved, "no tail was torn"
        write(state, 10)
        state.fork(at=state.seq, path=path.with_name("fork")).close()
        state.serve()
        check_modes(path, 0o700, 0o600)
        check_modes(path.with_name("fork"), 0o700, 0o600)
        check_modes(Path(os.environ["XDG_RUNTIME_DIR"]) / "mmsb", 0o700, 0o600)
        shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.split()[1] == "rw-s"]
        assert any("/memfd:mmsb (deleted)" in line for line in shared), "nothing is shared"
        assert all("/memfd:" in line or str(path) in line for line in shared), "shared memory has a name"
        state.stop(checkpoint_path=path.with_name("one.ckpt"))
    check_modes(path.with_name("one.ckpt"), 0o700, 0o600)
    names = {one.suffix or one.name for one in path.rglob("*")}
    wanted = {"store", "lock", "horizon", "log", "checkpoints", "torn", ".seg", ".zst", ".ckpt", ".bin"}
    assert wanted <= names, f"{wanted - names} was never made"


def check_modes(top: Path, folder: int, file: int) -> None:
    """Of everything from `top` down."""
    for path in (top, *top.rglob("*")):
        facts = path.lstat()
        mode, wanted = stat.S_IMODE(facts.st_mode), folder if stat.S_ISDIR(facts.st_mode) else file
        assert mode == wanted, f"{path} has mode {mode:04o}"


def modes(run: Run) -> None:
    """Whatever the umask, every file of a store is 0600 and every directory 0700; nothing else is made anywhere."""
    for umask in UMASKS:
        folder = run.work / f"{umask:03o}"
        (folder / "runtime").mkdir(parents=True)
        (folder / "tmp").mkdir()

        def attempt(folder: Path = folder, umask: int = umask) -> None:
            os.environ |= {"XDG_RUNTIME_DIR": str(folder / "runtime"), "TMPDIR": str(folder / "tmp")}
            os.umask(umask)
            every_kind_of_file(folder / "s")
            assert not os.listdir(folder / "tmp"), "a temporary file is left"

        tried(run, f"{umask:03o}", f"umask {umask:03o}", lambda attempt=attempt: in_a_child(attempt))


# ---- what lies in the way


def ways_to_the_sockets(folder: Path) -> dict[str, Callable[[], object]]:
    """What somebody may put where the directory of sockets is to be, each under the name of the directory."""
    place, other = folder / "mmsb", folder / "other"
    ways: dict[str, Callable[[], object]] = {
        "open for all": lambda: (place.mkdir(), place.chmod(0o777)),
        "sticky": lambda: (place.mkdir(), place.chmod(0o1777)),
        "to be entered": lambda: (place.mkdir(), place.chmod(0o711)),
        "a link to a good one": lambda: (other.mkdir(mode=0o700), place.symlink_to(other)),
        "a link to nothing": lambda: place.symlink_to(other),
        "a file": lambda: place.write_bytes(b""),
        "a pipe": lambda: os.mkfifo(place),
    }
    if os.getuid() == 0:
        ways["somebody else's"] = lambda: (place.mkdir(mode=0o700), os.chown(place, STRANGER, -1))
    return ways


def sockets_refused(folder: Path, put: Callable[[], object]) -> None:
    """Nobody serves there, and nobody is found there: not even one who listens under the right name."""
    folder.mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    put()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor:
        if (folder / "mmsb").is_dir():
            here = os.getcwd()
            os.chdir(folder / "mmsb")  # the path may be too long for a socket
            impostor.bind(rendezvous.key_of_name("way") + rendezvous.SUFFIX)
            os.chdir(here)
            impostor.listen()
            impostor.setblocking(False)
        before = sorted(folder.rglob("*"))
        with mmsb.open(name="way") as state:
            fails((mmsb.AttachError, OSError), state.serve)
        fails((mmsb.AttachError, OSError), lambda: mmsb.attach("way", timeout=1))
        assert sorted(folder.rglob("*")) == before, "something was put there"
        if (folder / "mmsb").is_dir():
            fails(BlockingIOError, impostor.accept)


def asides(path: Path) -> list[Path]:
    """Names under which files of a store are written before they get their own."""
    last = max((path / "log").iterdir())
    return [
        path / "horizon.new",
        path / "checkpoints" / f"{200:020d}.ckpt.new",
        last.with_name(f"{int(last.name[:8]) + 1:08d}.seg.new"),
        last.with_name(f"{int(last.name[:8]):08d}.seg.zst.new"),
        path / "torn",
    ]


def grow(path: Path) -> None:
    """Writes files of all kinds until there is a commit 300."""
    with mmsb.open(path, segment_bytes=4096, compress=True) as state:
        if "a" not in state:
            state.create_page(100, name="a")
        while state.seq < 300:
            state.page("a").write(state.seq.to_bytes(50, "big"))
            if state.seq == 200:
                state.checkpoint()


def aside_is_taken(path: Path, aside: Path, victim: Path) -> None:
    """What a name that can be foreseen leads to is left as it is, whether or not the store can go on."""
    victim.write_bytes(b"precious")
    os.chmod(victim, 0o644)
    aside.symlink_to(victim)
    try:
        grow(path)
    except (mmsb.MMSBError, OSError):
        pass
    assert victim.read_bytes() == b"precious" and stat.S_IMODE(victim.stat().st_mode) == 0o644, "it was followed"


def file_is_a_link(path: Path, file: Path, victim: Path, read_only: bool) -> None:
    """A file of a store that is a link to its own bytes is no file of the store."""
    shutil.move(file, victim)
    file.symlink_to(victim)
    before = victim.read_bytes()
    try:
        with mmsb.open(path, read_only=read_only) as state:
            # A reader takes no lock, and a checkpoint costs time only.
            assert file.name == "lock" or state.verify().findings, "a link was followed"
    except mmsb.MMSBError:
        pass
    assert victim.read_bytes() == before, "it was written to"


def in_the_way(run: Run) -> None:
    """Names that others took before: in the directory of sockets, and where files are written."""
    for what in ways_to_the_sockets(run.work):
        folder = run.work / what
        put = ways_to_the_sockets(folder)[what]
        tried(run, what, f"a directory of sockets that is {what}", lambda f=folder, p=put: sockets_refused(f, p))
    base = run.work / "base"
    with mmsb.open(base, segment_bytes=4096) as state:
        state.create_page(100, name="a")
        for n in range(150):
            state.page("a").write(n.to_bytes(50, "big"))
        state.checkpoint()
        state.page("a").write(b"more")
    for n, name in enumerate(asides(base)):
        path, victim = run.work / f"aside {n}", run.work / f"victim {n}"
        shutil.copytree(base, path)
        aside = path / name.relative_to(base)
        tried(run, str(name.name), f"{name.name} is a link", lambda p=path, a=aside, v=victim: aside_is_taken(p, a, v))
    files = sorted(one.relative_to(base) for one in base.rglob("*") if one.is_file())
    for n, name in enumerate(files):
        for read_only in (False, True):
            path, victim = run.work / f"link {n} {read_only}", run.work / f"victim of link {n} {read_only}"
            shutil.copytree(base, path)
            tried(
                run,
                f"{name} {'read' if read_only else 'write'}",
                f"{name} is a link",
                lambda p=path, f=path / name, v=victim, r=read_only: file_is_a_link(p, f, v, r),
            )


# ---- other users


def become_a_stranger() -> None:
    """Nobody that the owner knows."""
    os.setgroups([])
    os.setgid(STRANGER)
    os.setuid(STRANGER)


def memory_is_read_only() -> None:
    """A client can neither write to what the owner shares nor change its size, by whatever descriptor."""
    given: list[int] = []
    receive = messages.receive

    def listen(connection: socket.socket) -> tuple[bytes, list[int], int]:
        data, fds, flags = receive(connection)
        given.extend(map(os.dup, fds))
        return data, fds, flags

    messages.receive = listen
    try:
        with mmsb.attach("seen") as view:
            view.page("a").read()
            memories = [fd for fd in given if "memfd:" in os.readlink(f"/proc/self/fd/{fd}")]
            assert len(memories) >= 4, f"{len(memories)} memories came"
            for fd in memories:
                again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
                size = os.fstat(fd).st_size
                for one in (fd, again):
                    fails(PermissionError, lambda one=one: os.pwrite(one, b"x", 0))
                    fails(PermissionError, lambda one=one, size=size: mmap.mmap(one, size))
                    for other in (0, size - 4096, size + 4096):
                        fails((PermissionError, OSError), lambda one=one, other=other: os.ftruncate(one, other))
                fails(PermissionError, lambda fd=fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE))
    finally:
        messages.receive = receive


def other_users(run: Run) -> None:
    """A State that is served, stored and shared with nobody: what others can reach of it is nothing."""
    os.environ["XDG_RUNTIME_DIR"] = str(run.work / "runtime")
    os.chmod(run.work, 0o755)
    (run.work / "runtime").mkdir(mode=0o755)  # of all directories only mmsb's own keep others out
    os.umask(0)
    theirs = run.work / "theirs"
    theirs.mkdir()
    path = run.work / "store"
    with mmsb.open(path, name="seen") as state:
        state.create_page(4096, name="a")
        state.serve()
        tried(run, "memory", "a client that writes", lambda: in_a_child(memory_is_read_only))
        if os.getuid() != 0:
            run.tally.skipped = "Only root can become another user; run this part as root for the rest of it."
            return
        os.chown(theirs, STRANGER, STRANGER)
        owner = os.getpid()
        keys = [rendezvous.key_of_name("seen"), rendezvous.key_of_store(state.uuid)]
        sockets = [run.work / "runtime" / "mmsb" / f"{key}{rendezvous.SUFFIX}" for key in keys]
        ways: dict[str, Callable[[], object]] = {
            "list": lambda: os.listdir(path),
            "read": lambda: (path / "store").read_bytes(),
            "open": lambda: mmsb.open(path, read_only=True),
            "attach": lambda: mmsb.attach(path),
            "by name": lambda: mmsb.attach("seen"),
            "descriptors": lambda: os.listdir(f"/proc/{owner}/fd"),
            "memory of the process": lambda: open(f"/proc/{owner}/mem", "rb"),
            "sockets": lambda: os.listdir(sockets[0].parent),
            **{f"connect {n}": lambda one=one: connect(one) for n, one in enumerate(sockets)},
        }
        for what, way in ways.items():

            def attempt(way: Callable[[], object] = way) -> None:
                become_a_stranger()
                fails((OSError, mmsb.MMSBError), way)

            tried(run, what, f"another user: {what}", lambda attempt=attempt: in_a_child(attempt))

    def write_into_theirs() -> None:
        os.setuid(STRANGER + 1)
        fails(mmsb.ReadOnlyError, lambda: mmsb.open(theirs))
        assert not os.listdir(theirs)

    os.chmod(theirs, 0o777)
    tried(run, "theirs", "a store in somebody's directory", lambda: in_a_child(write_into_theirs))


def connect(path: Path) -> None:
    """Whether one may knock."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.connect(str(path))
