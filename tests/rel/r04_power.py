"""R4: power loss on real file systems. A disk's every write and flush is recorded while a writer acknowledges commits;
then states that the disk may have been in are made, mounted and opened: nothing acknowledged may be gone.

Each recording begins with a crash state of the one before it, so that recovery is cut short, too. The order of blocks
is the kernel's and not the seed's: of a state that failed, the image is kept beside the results.
"""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import mmsb
from tests.rel import blocks
from tests.rel.children import in_child
from tests.rel.programme import ROOT, Measure, Part, Run
from tests.rel.steps import Pages, commit, pages_of, step

MARK = struct.Struct("<QQ")
COMMITS = 130  # of each writer
WRITERS = 2
UNSYNCED = 40
SESSIONS_OF_A_DISK = 6  # then an empty one: they fill up


def dice_of(seed: int, session: int, seq: int) -> random.Random:
    """For the step that makes commit `seq`."""
    return random.Random(f"{seed}:{session}:{seq}")


def open_store(path: Path, session: int, **how: Any) -> mmsb.State:
    """As writers and checkers open it: with segments so small that they roll all the time."""
    return mmsb.open(path / "store", segment_bytes=(8192, 32768)[session % 2], checkpoint_bytes=None, **how)


def write(path: Path, mark: Path, seed: int, session: int, number: int) -> None:
    """The writer. After each commit it marks (seq, durable_seq): the second is what it acknowledges."""
    fd = os.open(mark, os.O_WRONLY)
    durability = ("process", "power", "group")[(session + number) % 3]
    state = open_store(path, session, durability=durability, compress=session % 4 == 3)
    pages = pages_of(state)
    os.write(fd, MARK.pack(state.seq, state.durable_seq))
    for left in range(COMMITS, 0, -1):
        dice = dice_of(seed, session, state.seq + 1)
        changes, pages = step(dice, pages)
        # Nothing is synced before the first writer ends, so that it leaves its successor something to sync.
        choice = 1.0 if number == 0 and left < UNSYNCED else dice.random()
        commit(state, changes, "power" if 0.9 < choice < 1.0 else None)
        if choice < 0.05:
            state.sync()
        elif choice < 0.08:
            state.checkpoint()
        elif choice < 0.10:
            state.compact(before=max(state.first_seq, state.seq - 60))
        os.write(fd, MARK.pack(state.seq, state.durable_seq))
    if number and session % 2:
        state.close()
        os.write(fd, MARK.pack(state.seq, state.seq))


def record(run: Run, kind: str, base: Path, session: int) -> list[blocks.Entry]:
    """Runs the writers of a session, one after the other, on a disk that begins as `base`, which is left as it is.

    The first ends without closing: what it did not sync must become durable with what its successor syncs.
    """
    image = run.work / "image"
    blocks.copy_sparse(base, image)
    with blocks.Recorder(run.work, image) as recorder:
        with blocks.loop_device(recorder.disk) as device, blocks.mounted(device, run.work / "mnt", kind) as path:
            for number in range(WRITERS):
                status = in_child(write, path, recorder.root / "mark", run.seed, session, number)
                if status:
                    what = "signals" if os.WIFSIGNALED(status) else "wrong"
                    run.fail(what, f"{session}", f"writer {number} ended with status {status}")
    return blocks.read_log(recorder.log)


class Past:
    """What the marks of a recording promise: after entry n at least `floors[n]` and at most `mosts[n]` is recovered."""

    def __init__(self, entries: list[blocks.Entry], before: Past | None, seed: int, session: int) -> None:
        marks = [MARK.unpack(entry.data) for entry in entries if entry.kind == blocks.MARK]
        self.states: list[Pages] = before.states[: marks[0][0] + 1] if before is not None and marks else [{}]
        while marks and len(self.states) <= marks[-1][0] + 1:
            _, pages = step(dice_of(seed, session, len(self.states)), self.states[-1])
            self.states.append(pages)
        floor, most = (before.kept, len(before.states) - 1) if before is not None else (0, 0)
        self.floors, self.mosts = [], []
        for entry in entries:
            if entry.kind == blocks.MARK:
                seq, durable = MARK.unpack(entry.data)
                floor, most = max(floor, durable), seq + 1  # a State that was just opened knows less
            self.floors.append(floor)
            self.mosts.append(most)
        self.kept = 0  # what must be found of the state that the next recording begins with


def judge(path: Path, past: Past, point: int, session: int, dice: random.Random) -> tuple[str, str] | None:
    """Opens what the power loss left, reads, verifies, goes on. The kind of promise that is broken, and how."""
    try:
        state = open_store(path, session, durability="power")
    except (mmsb.MMSBError, OSError) as error:
        return "refused", f"{type(error).__name__}: {error}"
    with state:
        seq, floor, most = state.seq, past.floors[point], past.mosts[point]
        if seq < floor:
            return "lost", f"commit {floor} was durable, the newest is {seq}"
        if seq > most or pages_of(state) != past.states[seq]:
            return "phantom", f"the pages at {seq} (of {floor} to {most}) are those of no commit"
        then = dice.randint(state.first_seq, seq)
        if pages_of(state.at(then)) != past.states[then]:
            return "wrong", f"the pages at {then} are not those of the past"
        if findings := state.verify().findings:
            return "wrong", f"verify: {findings[0].sentence}"
        changes, after = step(dice, past.states[seq])
        commit(state, changes)
    with open_store(path, session, read_only=True) as state:
        if (state.seq, pages_of(state)) != (seq + 1, after):
            return "lost", f"commit {seq + 1}, made after the recovery, is gone"
    return None


def power_loss(run: Run, kind: str, states: int, of_a_session: int) -> None:
    """Records sessions and tries `states` distinct states in all."""
    run.tally.skipped = blocks.missing(kind, fuse=True)
    if run.tally.skipped:
        return
    blocks.keep_private()
    empty, base, crashed, next_base = (run.work / name for name in ("empty", "base", "crashed", "next"))
    blocks.make_file_system(kind, empty)
    past: Past | None = None
    tried = session = 0
    while tried < states:
        if session % SESSIONS_OF_A_DISK == 0:
            past = None
            blocks.copy_sparse(empty, base)
        else:
            next_base.rename(base)
        entries = record(run, kind, base, session)
        past = Past(entries, past, run.seed, session)
        loss, dice, seen = blocks.PowerLoss(entries, base), run.dice(kind, session), set()
        points = sorted(dice.choices(loss.points(), k=of_a_session))
        follows = dice.randrange(of_a_session // 2, of_a_session)
        for number, point in enumerate(points):
            choice = loss.choose(point, dice)
            if number == follows:
                past.kept = past.floors[point]
                loss.make(choice, next_base)
            if tried == states or (choice, past.floors[point]) in seen:
                continue
            seen.add((choice, past.floors[point]))
            tried += 1
            if run.wants(f"{session}:{number}"):
                loss.make(choice, crashed)
                try_one(run, kind, crashed, past, point, session, number)
                run.progress(tried, states)
        session += 1


def try_one(run: Run, kind: str, crashed: Path, past: Past, point: int, session: int, number: int) -> None:
    """Mounts the image of a power loss and judges what is there. The image of a failure is kept."""
    kept = run.work / "kept"
    blocks.copy_sparse(crashed, kept)
    try:
        with blocks.loop_device(crashed) as device, blocks.mounted(device, run.work / "mnt", kind) as path:
            broken = judge(path, past, point, session, run.dice(kind, session, number))
    except OSError as error:
        broken = "wrong", f"{kind} cannot be used: {error}"
    run.tally.injected += 1
    if broken is not None:
        image = ROOT / f"build/rel/R4-{kind}-{session}-{number}.img"
        blocks.copy_sparse(kept, image)
        run.fail(broken[0], f"{session}:{number}", f"{broken[1]}; the image is {image.relative_to(ROOT)}")


def ext4(run: Run) -> None:
    """Also what is mapped: segments are appended to through a mapping here."""
    power_loss(run, "ext4", run.amount(200, 5000), run.amount(90, 270))


def xfs(run: Run) -> None:
    """As ext4, with another order of blocks."""
    power_loss(run, "xfs", run.amount(60, 1000), run.amount(35, 110))


def btrfs(run: Run) -> None:
    """Nothing is mapped here, and nothing written in place."""
    power_loss(run, "btrfs", run.amount(60, 1000), run.amount(35, 110))


MEASURE = Measure(
    "R4",
    "power loss on real file systems",
    (
        Part("ext4", ext4, at_least=(200, 5000)),
        Part("xfs", xfs, at_least=(60, 1000)),
        Part("btrfs", btrfs, at_least=(60, 1000)),
    ),
    files=("tests/rel/blocks.*", "tests/rel/children.py", "tests/rel/steps.py"),
)
