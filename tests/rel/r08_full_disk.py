"""R8: disks that are full, really: small file systems, file size limits, no inodes. Whatever finds no room says so with
one kind of error and leaves everything as it was, and the same State goes on once there is room again.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mmsb
from tests.rel import blocks
from tests.rel.children import in_child
from tests.rel.programme import Measure, Part, Run
from tests.rel.steps import Pages, commit, pages_of, step

# The second is of a limit of file sizes: memory is a file as well.
REFUSALS = (mmsb.StoreFullError, MemoryError)
STEP_BYTES = 4096
POINTS = 512
ROOMY = 64 << 20
Squeeze = Callable[[int | None], None]  # leaves so many bytes free; None: room enough


class Story:
    """A store, the State that writes to it, and what it must hold. All in the directory `root` of a small disk."""

    def __init__(self, root: Path, dice: random.Random, mapped: bool) -> None:
        self.root, self.dice = root, dice
        self.state = mmsb.open(root / "store", segment_bytes=16384, checkpoint_bytes=None, mapped=mapped)
        self.pages: Pages = {}
        self.forks = 0
        self.full = 0  # how often there was no room

    def commit(self) -> None:
        """One step; its pages are noted only when it was taken."""
        changes, after = step(self.dice, self.pages)
        commit(self.state, changes, self.dice.choice((None, "power")))
        self.pages = after

    def bulk(self) -> None:
        """A commit that needs a segment of its own."""
        data = self.dice.randbytes(40_000)
        with self.state.batch() as batch:
            batch.create_page(name=f"bulk {self.state.seq}", data=data)
        self.pages = {**self.pages, f"bulk {self.state.seq - 1}": data}

    def checkpoint(self) -> None:
        """Also of what changed since the last one only."""
        self.state.checkpoint()

    def sync(self) -> None:
        """The horizon moves, and an anchor is appended."""
        self.state.sync()

    def compact(self) -> None:
        """Keeps the newest commits only."""
        self.state.compact(before=max(self.state.first_seq, self.state.seq - 5))

    def fork(self) -> None:
        """Goes away again; what a fork that found no room left must be in nobody's way."""
        self.forks += 1
        path = self.root / f"fork {self.forks}"
        try:
            with self.state.fork(path=path) as other:
                assert pages_of(other) == self.pages
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def recover(self) -> None:
        """Opens the store with a torn tail: what is cut off must be saved first."""
        path = self.root / "torn"
        with mmsb.open(path) as other:
            assert other.seq == 1 and not other.verify().findings
            assert not other.recovered.torn_bytes or other.recovered.saved

    def read(self) -> None:
        """Somebody else opens the store."""
        with mmsb.open(self.root / "store", read_only=True) as reader:
            assert pages_of(reader) == self.pages

    def serve(self) -> None:
        """Another process would find the State, and read it."""
        if self.state._server is None:
            self.state.serve()
        with mmsb.attach(self.root / "store") as view:
            assert view.seq <= self.state.seq

    def try_to(self, name: str) -> None:
        """Does something, or finds no room: then nothing has changed."""
        before = self.state.seq, self.pages
        try:
            getattr(self, name)()
        except REFUSALS:
            self.full += 1
            assert (self.state.seq, pages_of(self.state)) == before, f"{name} changed something"


ACTS = ("commit",) * 12 + ("bulk",) * 3 + ("checkpoint",) * 2 + ("sync",) * 2
ACTS += ("compact", "fork", "recover", "read", "serve")


def make_torn(path: Path) -> None:
    """A store as a power loss in the middle of a commit leaves it."""
    with mmsb.open(path.with_name("whole"), segment_bytes=16384) as state:
        state.create_page(100, name="a")
        state.sync()
        tail = state._active_tail
        shutil.copytree(state.path, path)
    segment = path / "log" / "00000001.seg"
    data = bytearray(segment.read_bytes())
    data[tail : tail + 9000] = random.Random(1).randbytes(9000)
    segment.write_bytes(data)


def live(root: Path, squeeze: Squeeze, free: int, dice: random.Random, mapped: bool) -> None:
    """In a child: fills the disk with every kind of act, frees it, and goes on with the same State."""
    os.environ["XDG_RUNTIME_DIR"] = str(root / "run")
    (root / "run").mkdir(mode=0o700)
    make_torn(root / "torn")
    story = Story(root, dice, mapped)
    for _ in range(10):
        story.commit()
    squeeze(free)
    for _ in range(60):
        story.try_to(dice.choice(ACTS))
    story.try_to("read")
    squeeze(None)
    for name in (*ACTS, *dict.fromkeys(ACTS)):
        getattr(story, name)()
    assert not story.state.verify().findings
    assert pages_of(story.state) == story.pages
    (root / "seen").write_text(f"{story.state.seq} {story.full}")
    if dice.random() < 0.5:
        story.state.close()
    with open(root / "pages", "wb") as file:
        for name, data in sorted(story.pages.items()):
            file.write(name.encode() + b"\0" + data + b"\n")


def judge(root: Path) -> str:
    """What is wrong with the store that a child left, or nothing."""
    with mmsb.open(root / "store") as state:
        seq = int((root / "seen").read_text().split()[0])
        listed = b"".join(n.encode() + b"\0" + data + b"\n" for n, data in sorted(pages_of(state).items()))
        if state.seq != seq or listed != (root / "pages").read_bytes():
            return f"commit {seq} is not what is found at {state.seq}"
        findings = state.verify().findings
        return f"verify: {findings[0].sentence}" if findings else ""


def sweep(run: Run, disk: Callable[[Run], Iterator[tuple[Path, Squeeze]]]) -> None:
    """Every amount of free space in turn, each on a fresh disk and in a child: a signal is a result."""
    every = run.amount(16, 1)
    points = range(run.seed % every, POINTS, every)
    full = 0
    for number, point in enumerate(points):
        if not run.wants(case := str(point)):
            continue
        with contextmanager(disk)(run) as (root, squeeze):
            status = in_child(live, root, squeeze, point * STEP_BYTES, run.dice(point), point // 16 % 4 != 3)
            if status:
                kind = "signals" if os.WIFSIGNALED(status) else "wrong"
                run.fail(kind, case, f"with {point * STEP_BYTES} bytes free the writer ended with status {status}")
            elif found := judge(root):
                run.fail("lost", case, found)
            else:
                full += int((root / "seen").read_text().split()[1])
        run.tally.injected += 1
        run.progress(number + 1, len(points))
    run.tally.figures["refused for want of room"] = full


def ready(run: Run, *kinds: str) -> bool:
    """Whether this machine can; where it can, nobody else sees what is mounted from now on."""
    run.tally.skipped = blocks.missing(*kinds)
    if not run.tally.skipped:
        blocks.keep_private()
    return not run.tally.skipped


def used_bytes(root: Path) -> int:
    """What a file system holds."""
    facts = os.statvfs(root)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def memory_disk(run: Run) -> Iterator[tuple[Path, Squeeze]]:
    """A tmpfs, whose size is changed while it is in use."""
    with blocks.mounted("none", run.work / "mnt", "tmpfs", f"size={ROOMY}") as root:

        def squeeze(free: int | None) -> None:
            size = ROOMY if free is None else max(used_bytes(root) + free, STEP_BYTES)
            blocks.remount(root, "tmpfs", f"size={size}")

        yield root, squeeze


def few_inodes(run: Run) -> Iterator[tuple[Path, Squeeze]]:
    """A tmpfs that can hold only so many files more."""
    with blocks.mounted("none", run.work / "mnt", "tmpfs", f"size={ROOMY},nr_inodes=10000") as root:

        def squeeze(free: int | None) -> None:
            facts = os.statvfs(root)
            limit = 10000 if free is None else facts.f_files - facts.f_ffree + free // STEP_BYTES // 16
            blocks.remount(root, "tmpfs", f"size={ROOMY},nr_inodes={limit}")

        yield root, squeeze


def block_disk(run: Run) -> Iterator[tuple[Path, Squeeze]]:
    """An ext4 that another file fills."""
    image = run.work / "image"
    blocks.make_file_system("ext4", image, ROOMY)
    with blocks.loop_device(image) as device, blocks.mounted(device, run.work / "mnt", "ext4") as root:

        def squeeze(free: int | None) -> None:
            ballast = root / "ballast"
            if free is None:
                ballast.unlink()
                return
            facts = os.statvfs(root)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(facts.f_bavail * facts.f_frsize - free, 1))

        yield root, squeeze


def size_limit(run: Run) -> Iterator[tuple[Path, Squeeze]]:
    """No disk at all, but a limit of how long a file may get. It holds for memory that is a file, too."""
    root = run.work / "limited"
    root.mkdir()

    def squeeze(free: int | None) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if free is None else free // 16, hard))

    try:
        yield root, squeeze
    finally:
        shutil.rmtree(root)


def tmpfs(run: Run) -> None:
    """Preallocated segments, and files that grow."""
    if ready(run):
        sweep(run, memory_disk)


def ext4(run: Run) -> None:
    """A file system with a journal, on a loop device."""
    if ready(run, "ext4"):
        sweep(run, block_disk)


def inodes(run: Run) -> None:
    """No room for another file."""
    if ready(run):
        sweep(run, few_inodes)


def file_size(run: Run) -> None:
    """RLIMIT_FSIZE."""
    sweep(run, size_limit)


MEASURE = Measure(
    "R8",
    "full disks",
    tuple(
        Part(name, function, at_least=(32, POINTS))
        for name, function in (("tmpfs", tmpfs), ("ext4", ext4), ("inodes", inodes), ("file-size", file_size))
    ),
    files=("tests/rel/blocks.*", "tests/rel/children.py", "tests/rel/steps.py"),
)
