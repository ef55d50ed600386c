"""Twelve small, deterministic programs that between them write every kind of file in every way mmsb does.

    told = Told()
    histories = SCENARIOS["rotate"](folder, files, told)

runs one in an empty folder. `files` is a mmsb._core.files.Files, faulty or recorded as the measure likes. Whatever the
scenario was promised it passes on at once: `told(store, seq, durable_seq)` says that commit `seq` of the store
`folder/store` returned, and that mmsb called everything up to `durable_seq` durable. What it returns says what a reader
may find: {store: {seq: picture}}, a model in plain dicts that shares nothing with the engine. A measure runs a scenario
once undisturbed to get the histories, then again and again with its faults, which may end it with a signal or with an
error; its State is closed then.

    broken = judge(folder, histories, least)

opens the stores of a folder after a crash, and gives None or (kind, what): the kind as programme.BROKEN has it. `least`
maps a store to the seq that must be there: told.acknowledged for a killed process, told.durable for a power loss.

Nothing here runs in the background but what a scenario waits for, so every run makes the same operations, up to salt,
times and what the threads of `attach` do.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import mmsb
from mmsb import links
from mmsb._core.files import Files
from mmsb._core.log import SegmentHead

SEGMENT = 4096
Picture = dict[str, tuple[bytes | None, int]]  # by name: bytes (None: stale) and epoch
Histories = dict[str, dict[int, Picture]]
Tell = Callable[[str, int, int], None]


class Told:
    """What a scenario was promised so far: the newest acknowledged and the newest durable seq of each store."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.durable: dict[str, int] = {}

    def __call__(self, store: str, seq: int, durable: int) -> None:
        self.acknowledged[store] = max(seq, self.acknowledged.get(store, 0))
        self.durable[store] = max(durable, self.durable.get(store, 0))


class ByHand:
    """Stands in for the flusher: a scenario syncs when it says so."""

    def wake(self) -> None:
        """Nothing happens behind the scenario's back."""

    def stop(self) -> None:
        """There is no thread."""


def clock() -> Callable[[], int]:
    """A clock that is always as late, so that every run writes frames of the same length."""
    return count(10**18, 10**6).__next__


def payload(seq: int, size: int) -> bytes:
    """The bytes that commit `seq` writes."""
    return random.Random(seq).randbytes(size)


class Story:
    """One store and its model in step: whatever is committed goes into both."""

    def __init__(self, folder: Path, store: str, files: Files, tell: Tell) -> None:
        self.path, self.store, self.files, self.tell = folder / store, store, files, tell
        self.seq = 0
        self.pages: Picture = {}
        self.history: dict[int, Picture] = {0: {}}
        self.state: mmsb.State

    def open(self, **how: object) -> mmsb.State:
        """Opens the store, quietly: with segments of one size and no flusher."""
        self.use(mmsb.open(self.path, **{"files": self.files, "segment_bytes": SEGMENT, "clock": clock(), **how}))
        return self.state

    def use(self, state: mmsb.State) -> None:
        """Goes on with a State that something else than open() made."""
        state._log.flusher = ByHand()
        self.state = state
        self.acknowledge()

    def acknowledge(self) -> None:
        """Everything so far has returned."""
        self.tell(self.store, self.seq, self.state.durable_seq)

    def committed(self) -> None:
        """A commit is in the model. Its wave may follow."""
        self.seq += 1
        self.history[self.seq] = dict(self.pages)

    def create(self, name: str, size: int, **how: object) -> None:
        """A page of `size` zero bytes."""
        self.state.create_page(size, name=name, **how)
        self.pages[name] = (bytes(size), 0)
        self.committed()
        self.acknowledge()

    def write(self, name: str, size: int, at: int = 0, **how: object) -> None:
        """A labelled commit that writes `size` bytes, and that is all it does."""
        data = payload(self.seq + 1, size)
        with self.state.batch(label=f"step {self.seq + 1}", source=f"source {self.seq % 3}", **how) as batch:
            batch.write(name, data, at=at)
        self.wrote(name, data, at)
        self.committed()
        self.acknowledge()

    def wrote(self, name: str, data: bytes, at: int) -> None:
        """`data` is in the model's page."""
        content, epoch = self.pages[name]
        assert content is not None
        self.pages[name] = (content[:at] + data + content[at + len(data) :], epoch + 1)

    def many(self, name: str, number: int, sizes: tuple[int, ...] = (9, 300, 40, 700, 90)) -> None:
        """`number` writes of these sizes in turn, over the whole page. Bodies straddle sectors."""
        room = len(self.pages[name][0] or b"")
        for n in range(number):
            size = min(sizes[n % len(sizes)], room)
            self.write(name, size, at=self.seq * 97 % (room - size + 1))

    def sync(self) -> None:
        """Makes all durable, with an anchor, as state.sync() does."""
        self.state.sync()
        self.acknowledge()

    def flush(self) -> None:
        """What the flusher does for a group: syncs the log and nothing else."""
        self.state._log.sync(self.state, anchor=False)
        self.acknowledge()

    def die(self) -> None:
        """Closes without syncing anything, as a process that dies."""
        self.state._poison(5)
        self.state.close()

    def close(self) -> None:
        """A clean close: everything is durable then."""
        self.state.close()
        self.tell(self.store, self.seq, self.seq)


# ---- the scenarios


def append(folder: Path, files: Files, tell: Tell) -> Histories:
    """Commits that survive the process, two syncs among them."""
    story = Story(folder, "s", files, tell)
    with story.open(segment_bytes=4 * SEGMENT):
        story.create("a", 900)
        story.many("a", 22)
        story.sync()
        story.create("b", 50, metadata={"unit": "m"})
        story.many("b", 5, sizes=(1, 7, 50))
        story.sync()
        story.many("a", 9)
        story.close()
    return {"s": story.history}


def group(folder: Path, files: Files, tell: Tell, size: int = 16) -> Histories:
    """Commits that become durable `size` at a time, and a horizon now and then."""
    story = Story(folder, "s", files, tell)
    with story.open(durability="group", segment_bytes=4 * SEGMENT if size < 64 else 8 * SEGMENT):
        story.create("a", 600)
        for number in range(max(2, 40 // size)):
            story.many("a", size, sizes=(30, 200, 9, 100))
            story.sync() if number == 1 else story.flush()
        story.many("a", size // 2, sizes=(30, 200, 9, 100))
        story.close()
    return {"s": story.history}


def power(folder: Path, files: Files, tell: Tell) -> Histories:
    """Commits that are synced one by one, also where only some are, and where the log is not mapped."""
    story = Story(folder, "s", files, tell)
    with story.open(durability="power"):
        story.create("a", 900)
        story.many("a", 12)
        story.close()
    with story.open():
        for _ in range(3):
            story.many("a", 2, sizes=(90, 200))
            story.write("a", 120, durability="power")
        story.close()
    with story.open(durability="power", mapped=False):
        story.many("a", 3, sizes=(600, 9))
        story.close()
    with story.open(mapped=False):
        story.many("a", 4, sizes=(60, 600))
        story.sync()
        story.many("a", 3, sizes=(60, 600))
        story.close()
    return {"s": story.history}


def checkpoint(folder: Path, files: Files, tell: Tell) -> Histories:
    """A chain of incremental checkpoints, opened from, and a full one."""
    story = Story(folder, "s", files, tell)
    with story.open(segment_bytes=2 * SEGMENT) as state:
        story.create("a", 700)
        story.create("b", 2000)
        for number in (4, 3, 2):
            story.many("a", number, sizes=(60, 300))
            state.checkpoint()
            story.acknowledge()
        story.many("b", 2)
    story.tell("s", story.seq, story.seq)
    with story.open(segment_bytes=2 * SEGMENT) as state:
        story.many("b", 2)
        state._checkpoints.write(state, full=True)
        story.acknowledge()
        story.many("a", 2)
        story.close()
    return {"s": story.history}


def rotate(folder: Path, files: Files, tell: Tell, **how: object) -> Histories:
    """A log of many small segments, one of them made for a large frame; some are sealed before they are synced, and
    by a process that died before it synced them.
    """
    story = Story(folder, "s", files, tell)
    with story.open(**how):
        story.create("a", 9000)
        story.many("a", 14, sizes=(900, 90, 1500))
        story.sync()
        story.many("a", 7, sizes=(900, 90, 1500))
        story.write("a", 8000)
        story.many("a", 3, sizes=(900, 90, 1500))
        story.die()
    with story.open(**how):
        story.many("a", 6, sizes=(1500, 900))
        story.sync()
        story.many("a", 2)
        story.close()
    return {"s": story.history}


def compress(folder: Path, files: Files, tell: Tell) -> Histories:
    """Sealed segments are compressed, while the scenario waits for it."""
    story = Story(folder, "s", files, tell)

    def compressed() -> None:
        compressor = story.state._store.compressor
        compressor.stop()
        compressor.thread = None  # the next segment starts another one

    for _ in range(2):
        with story.open(compress=True):
            if not story.seq:
                story.create("a", 1200)
            compressed()
            story.many("a", 9, sizes=(900, 90))
            story.sync()
            compressed()
            story.many("a", 5, sizes=(900, 90))
            story.close()
    return {"s": story.history}


def compact(folder: Path, files: Files, tell: Tell) -> Histories:
    """History is forgotten twice, with checkpoints before, at and behind the place."""
    story = Story(folder, "s", files, tell)
    with story.open() as state:
        story.create("a", 1200)
        story.many("a", 5, sizes=(900, 90))
        state.checkpoint()
        story.many("a", 5, sizes=(900, 90))
        state.checkpoint()
        story.many("a", 3, sizes=(900, 90))
        state.compact(before=8)
        story.acknowledge()
        story.many("a", 4, sizes=(900, 90))
        state.compact(before="step 12")
        story.acknowledge()
        story.many("a", 2)
        story.close()
    return {"s": story.history}


def begun_later(state: mmsb.State) -> dict[str, bytes]:
    """{path: bytes} of two segments behind the last one, whose headers follow commits that are in none."""
    found = {}
    for n in (1, 2):
        head = SegmentHead(
            uuid=state._log.uuid,
            salt=state._log.salt,
            base_seq=state.seq + 3 * n,
            base_time_ns=state.time_ns,
            capacity=SEGMENT,
            durable_seq=state.durable_seq,
            prev_crc=n,
            number=state._log.active.number + n,
        )
        found[state._store.segment_path(head.number)] = head.encode().ljust(SEGMENT, b"\0")
    return found


def torn(folder: Path, files: Files, tell: Tell) -> Histories:
    """A store is opened behind whose last commit half a frame lies, as a crash leaves it, and another behind that, with
    two segments that were begun behind commits which never came to the disk.
    """
    story = Story(folder, "s", files, tell)
    for garbage in (300, 900):
        with story.open() as state:
            if not story.seq:
                story.create("a", 600)
            story.many("a", 3)
            story.sync()
            story.many("a", 2, sizes=(90, 40))
            tail, path = state._active_tail, state._log.active.path
            later = begun_later(state) if garbage == 900 else {}
            story.die()
        fd = files.open(path, os.O_RDWR)
        try:
            files.pwrite(fd, payload(garbage, garbage), tail + 8)
        finally:
            files.close(fd)
        for path, data in later.items():
            files.write_file(path, data)
    with story.open():
        story.many("a", 4)
        story.close()
    return {"s": story.history}


def attach(folder: Path, files: Files, tell: Tell) -> Histories:
    """An owner serves, and a client's commands change its pages."""
    story = Story(folder, "s", files, tell)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    with story.open(durability="group") as state:
        story.create("a", 700)
        state.serve()
        with mmsb.attach(story.path) as view:
            for n in range(8):
                data = payload(story.seq + 1, 50 + n * 40)
                view.page("a").write(data, at=n)
                story.wrote("a", data, n)
                story.committed()
                story.acknowledge()
                if n == 4:
                    story.flush()
        story.close()
    return {"s": story.history}


def plugin(folder: Path, files: Files, tell: Tell) -> Histories:
    """Pages that are computed from others by native links, and a merge page: each commit is followed by its wave."""
    story = Story(folder, "s", files, tell)

    def wave(source: str, *follow: str) -> None:
        """After a commit of `source` that made these pages stale: first it alone is there, then they are, too."""
        epochs = {name: story.pages[name][1] for name in follow}
        story.pages.update({name: (None, epoch) for name, epoch in epochs.items()})
        story.committed()
        story.pages.update({name: (story.pages[source][0], epoch + 1) for name, epoch in epochs.items()})
        story.committed()
        story.acknowledge()

    with story.open() as state:
        story.create("a", 300)
        for name in ("b", "c"):
            story.create(name, 300)
        state.create_page(16, name="least", merge="min-plus", dtype="int64")
        most = (2**63 - 1).to_bytes(8, "little") * 2
        story.pages["least"] = (most, 0)
        story.committed()
        for child, parent in (("b", "a"), ("c", "b")):
            state.depend(child, on=parent, link=links.passthrough())
            story.pages[child] = (None, 0)
            story.committed()
            story.pages[child] = (bytes(300), 0)
            story.committed()
            story.acknowledge()
        for n in range(9):
            data = payload(n, 200)
            state.page("a").write(data, at=n * 10)
            story.wrote("a", data, n * 10)
            wave("a", "b", "c")
            if n == 2:
                story.sync()
            lanes = b"".join(number.to_bytes(8, "little") for number in (9 - n, 8))
            state.page("least").write(lanes)
            story.wrote("least", lanes, 0)
            story.committed()
            story.acknowledge()
        story.close()
    return {"s": story.history}


def fork(folder: Path, files: Files, tell: Tell) -> Histories:
    """A store goes on from another one's past, and a third one from a file that holds one state."""
    parent, child, third = (Story(folder, name, files, tell) for name in "sft")
    with parent.open() as state:
        parent.create("a", 400)
        parent.many("a", 6, sizes=(90, 300))
        for story, seq in ((child, 4), (third, 7)):
            story.seq, story.pages = seq, dict(parent.history[seq])
            story.history = {seq: story.pages.copy()}
        state._opener = partial(mmsb.open, segment_bytes=SEGMENT, clock=clock())
        child.use(state.fork(at=4, path=child.path))
        with child.state:
            child.many("a", 3)
            child.sync()
            child.many("a", 2)
            child.close()
        state.stop(checkpoint_path=folder / "one")
    parent.tell("s", parent.seq, parent.seq)
    with third.open(start=folder / "one"):
        third.many("a", 3)
        third.close()
    return {"s": parent.history, "f": child.history, "t": third.history}


def close(folder: Path, files: Files, tell: Tell) -> Histories:
    """Sessions that follow each other, each closed in order, and every other kind of change to a page."""
    story = Story(folder, "s", files, tell)
    with story.open() as state:
        story.create("a", 100)
        story.many("a", 2)
        story.close()
    with story.open() as state:
        state.page("a").rename("b")
        story.pages["b"] = story.pages.pop("a")
        story.committed()
        state.page("b").resize(700)
        content, epoch = story.pages["b"]
        story.pages["b"] = (content + bytes(600), epoch + 1)
        story.committed()
        story.acknowledge()
        story.create("c", 30)
        state.delete_page("c")
        del story.pages["c"]
        story.committed()
        story.close()
    with mmsb.open(story.path, read_only=True, files=files):
        pass
    for _ in range(2):
        with story.open() as state:
            state.set_metadata("b", {"unit": "m", "n": story.seq})
            story.committed()
            story.many("b", 2)
            story.close()
    return {"s": story.history}


SCENARIOS: dict[str, Callable[[Path, Files, Tell], Histories]] = {
    scenario.__name__: scenario
    for scenario in (
        append, group, power, checkpoint, rotate, compress, compact, torn, attach, plugin, fork, close
    )
}  # fmt: skip
# The other sizes of groups, and a rotation whose every commit is synced; power-loss states differ there, kill points
# do not.
VARIANTS = {
    "group-4": partial(group, size=4),
    "group-64": partial(group, size=64),
    "rotate-power": partial(rotate, durability="power"),
}


# ---- what came of it


def seen(state: mmsb.State) -> Picture:
    """What a reader sees, as the histories have it."""
    picture: Picture = {}
    for page in state.pages():
        content = None
        with suppress(mmsb.StalePageError):
            content = page.read()
        picture[page.name or str(page.page_id)] = (content, page.epoch)
    return picture


def judge(
    folder: Path,
    histories: Histories,
    least: dict[str, int],
    *,
    go_on: bool = True,
    files: Files | None = None,
    found: dict[str, int] | None = None,
) -> tuple[str, str] | None:
    """Opens the stores after a crash. None when each shows a prefix of its history that reaches its `least` seq (a
    store that is not in `least` may be missing), and, with `go_on`, when each takes a commit, verifies and opens again.
    Without it they are left as if their process had died. `found` gets the seq of each store that is there.
    """
    for store, history in histories.items():
        path = folder / store
        promised = least.get(store, -1)
        if not os.path.exists(path / "store"):
            if promised >= 0:
                return "lost", f"store {store} is gone"
            if store != "s":
                continue  # a fork that was cut short is made again elsewhere
        try:
            broken, seq = judge_one(path, history, promised, go_on, files or Files())
        except (mmsb.MMSBError, OSError) as error:
            return "refused", f"store {store}: {type(error).__name__}: {error}"
        if broken is not None:
            return broken[0], f"store {store}: {broken[1]}"
        if found is not None:
            found[store] = seq
    return None


def judge_one(
    path: Path, history: dict[int, Picture], promised: int, go_on: bool, files: Files
) -> tuple[tuple[str, str] | None, int]:
    """As judge() of one store, which is there or may be made; its seq, too. MMSBError, OSError: it does not open."""
    with mmsb.open(path, files=files, segment_bytes=SEGMENT) as state:
        state._log.flusher = ByHand()
        seq, found = state.seq, seen(state)
        if seq < promised:
            return ("lost", f"commit {promised} was promised, and the log ends at {seq}"), seq
        if found != history.get(seq):
            return ("phantom", f"what is there at seq {seq} was never there"), seq
        if not go_on:
            state._poison(5)
            return None, seq
        after = payload(seq, 700)
        state.create_page(700, name="after", data=after)
    with mmsb.open(path, files=files, segment_bytes=SEGMENT) as state:
        state._log.flusher = ByHand()
        if state.seq < seq + 1:
            return ("lost", f"a commit after recovery, at seq {seq + 1}"), seq
        if state.seq > seq + 1 or seen(state) != found | {"after": (after, 0)}:
            return ("phantom", f"recovered at seq {seq}, committed, closed, opened at {state.seq}: not the same"), seq
        if findings := state.verify().findings:
            return ("wrong", f"verify finds: {findings[0]}"), seq
    return None, seq
