"""R9: a disk that fails to write what the page cache holds. The kernel reports that once, and then shows the new bytes
until they are evicted: whoever goes on after it loses what he acknowledges. On three real file systems.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import mmsb
from tests.rel import blocks
from tests.rel.children import in_child
from tests.rel.programme import Measure, Part, Run
from tests.rel.steps import Pages, commit, pages_of, step

MARK = struct.Struct("<QQQ")  # when it is said (BEFORE the disk fails, AFTER, once poisoned), seq, durable_seq
HEALTHY, FAILING, POISONED = range(3)
FOREVER = 1 << 40
# How the store is used while the disk fails: its durability, and what is called besides commits.
WAYS = {
    "power": ("power", ""),
    "group": ("group", ""),
    "sync": ("process", "sync"),
    "checkpoint": ("process", "checkpoint"),
    "compact": ("power", "compact"),
}


def use(path: Path, recorder: blocks.Recorder, run: Run, way: str, skip: int, count: int) -> None:
    """In a child: commits, lets the disk fail, commits until an error, and sees that nothing is accepted after it."""
    durability, besides = WAYS[way]
    state = mmsb.open(path / "store", durability=durability, segment_bytes=8192, checkpoint_bytes=None)
    mark, pages, when = os.open(recorder.root / "mark", os.O_WRONLY), Pages(), HEALTHY

    def go_on(commits: int) -> None:
        nonlocal pages
        for number in range(commits):
            changes, after = step(run.dice("step", state.seq + 1), pages)
            try:
                commit(state, changes)
                pages = after
                if besides and number % 7 == 6:
                    arguments = (state.seq - 3,) if besides == "compact" else ()
                    getattr(state, besides)(*arguments)
            except mmsb.CommitInDoubtError:
                raise
            except OSError as error:  # a checkpoint that failed costs nothing
                assert besides and error.errno in (errno.EIO, errno.EROFS), repr(error)
            os.write(mark, MARK.pack(when, state.seq, state.durable_seq))
            if durability == "group":
                time.sleep(0.001)

    go_on(20)
    recorder.say("fail", f"{skip} {count}".encode())
    when = FAILING
    try:
        go_on(25)
        state.sync()
        os.write(mark, MARK.pack(when, state.seq, state.durable_seq))
    except mmsb.CommitInDoubtError:
        when = POISONED
    if when == POISONED:
        seq, durable = state.seq, state.durable_seq
        for attempt in (lambda: commit(state, step(run.dice(), pages)[0]), state.sync):
            try:
                attempt()
            except mmsb.CommitInDoubtError:
                continue
            os.write(mark, MARK.pack(when, state.seq, state.durable_seq))
        now = (state.seq, state.durable_seq)
        assert now == (seq, durable), f"{now} was acknowledged after the failure at {seq, durable}"
        os.write(mark, MARK.pack(when, 0, 0))
    try:
        state.close()
    except (mmsb.MMSBError, OSError):
        pass


def try_one(run: Run, kind: str, empty: Path, case: str, way: str, skip: int, count: int) -> str:
    """One disk that fails at one place. What came of it: "poisoned", "survived" or "not reached"."""
    image = run.work / "image"
    blocks.copy_sparse(empty, image)
    with blocks.Recorder(run.work, image) as recorder:
        with blocks.loop_device(recorder.disk) as device:
            with blocks.mounted(device, run.work / "mnt", kind) as path:
                status = in_child(use, path, recorder, run, way, skip, count)
                recorder.say("fail", b"0 0")
            entries = blocks.read_log(recorder.log)
            marks = [MARK.unpack(entry.data) for entry in entries if entry.kind == blocks.MARK]
            if status:
                kinds = "signals" if os.WIFSIGNALED(status) else "wrong"
                run.fail(kinds, case, f"the writer ended with status {status}")
            floor, most = max((mark[2] for mark in marks), default=0), max((mark[1] for mark in marks), default=0) + 1
            if any(mark[0] == POISONED and mark[1] for mark in marks):
                run.fail("wrong", case, "the writer went on after a failed sync")
            with blocks.mounted(device, run.work / "mnt", kind) as path:
                judge(run, path / "store", case, floor, most)
    if not any(entry.kind == blocks.FAILED for entry in entries):
        return "not reached"
    return "poisoned" if any(mark[0] == POISONED for mark in marks) else "survived"


def judge(run: Run, path: Path, case: str, floor: int, most: int) -> None:
    """The disk is well again: everything acknowledged is there, and the store goes on."""
    try:
        state = mmsb.open(path, segment_bytes=8192)
    except (mmsb.MMSBError, OSError) as error:
        run.fail("refused", case, f"{type(error).__name__}: {error}")
        return
    with state:
        pages = Pages()
        for seq in range(1, state.seq + 1):
            _, pages = step(run.dice("step", seq), pages)
        if state.seq < floor:
            run.fail("lost", case, f"commit {floor} was durable, the newest is {state.seq}")
        elif state.seq > most or pages_of(state) != pages:
            run.fail("phantom", case, f"the pages at {state.seq} (of {floor} to {most}) are those of no commit")
        elif findings := state.verify().findings:
            run.fail("wrong", case, f"verify: {findings[0].sentence}")
        else:
            commit(state, step(run.dice("step", state.seq + 1), pages)[0])
            state.sync()


def cases(run: Run) -> Iterator[tuple[str, str, int, int]]:
    """(case, way, writes that still pass, writes that fail)."""
    for way in WAYS:
        for skip in range(0, run.amount(8, 48), run.amount(7, 1)):
            for count in (1, FOREVER):
                yield f"{way}:{skip}:{'once' if count == 1 else 'forever'}", way, skip, count


def write_back(run: Run, kind: str) -> None:
    """Fails one block write after another, once and for ever, in every way to use a store."""
    run.tally.skipped = blocks.missing(kind, fuse=True)
    if run.tally.skipped:
        return
    blocks.keep_private()
    blocks.make_file_system(kind, run.work / "empty")
    wanted = [case for case in cases(run) if run.wants(case[0])]
    counts = run.tally.figures
    for number, (case, way, skip, count) in enumerate(wanted):
        seen = try_one(run, kind, run.work / "empty", case, way, skip, count)
        counts[seen] = counts.get(seen, 0) + 1
        run.tally.injected += seen != "not reached"
        run.progress(number + 1, len(wanted))
    if not counts.get("poisoned"):
        run.fail("wrong", "", "no writer noticed that its disk fails")


MEASURE = Measure(
    "R9",
    "write-back errors",
    tuple(Part(kind, lambda run, kind=kind: write_back(run, kind), at_least=(10, 200)) for kind in blocks.MKFS),
    files=("tests/rel/blocks.*", "tests/rel/children.py", "tests/rel/steps.py"),
)
