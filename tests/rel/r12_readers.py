"""R12: readers in processes of their own beside a writer flat out. No read is torn, and none goes back. Threads of the
writer's process see the past as it was.

A page holds a number, and up to its end a byte that follows from it, so that a mix of two commits shows wherever it is.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product

import mmsb
from tests.rel import moving, past_threads
from tests.rel.forks import Forked, kill_all, shared_numbers
from tests.rel.programme import Measure, Part, Run

SIZES = (64, 256, 1024, 4096)
READERS = (1, 2, 4)
BLOCK = 1000
FILLS = 251
# What the processes share: words of the writer, and then those of each reader.
READY, STOP, WRITTEN = range(3)
READS, TORN, BACK, CHANGES = range(4)
PER_READER = 4
HISTORY_BYTES = 1 << 26


def writer(numbers: memoryview, sizes: tuple[int, ...]) -> None:
    """Changes all bytes of all pages with every commit."""
    tails = [[bytes([fill]) * (size - 8) for fill in range(FILLS)] for size in sizes]
    with mmsb.open(name="torn", history=HISTORY_BYTES, segment_bytes=1 << 20) as state:
        pages = [state.create_page(size, name=str(size)) for size in sizes]
        state.serve()
        numbers[READY] = 1
        n = 0
        while not numbers[STOP]:
            for _ in range(100):
                n += 1
                head, fill = n.to_bytes(8, "little"), n % FILLS
                if len(pages) == 1:
                    pages[0].write(head + tails[0][fill])
                else:
                    with state.batch() as batch:
                        for page, tail in zip(pages, tails, strict=True):
                            batch.write(page, head + tail[fill])
            numbers[WRITTEN] = n


def page_reader(view: mmsb.View, found: memoryview, sizes: tuple[int, ...], count: int) -> None:
    """Reads one page. `found`: where the counts go."""
    [size] = sizes
    into, target = view.page(str(size)).read_into, bytearray(size)
    number = memoryview(target).cast("Q")
    tails = [bytes([fill]) * (size - 8) for fill in range(FILLS)]
    last, torn, back, changes = 0, 0, 0, 0
    tail = bytes(size - 8)
    for done in range(BLOCK, count + BLOCK, BLOCK):
        for _ in range(BLOCK):
            into(target)
            n = number[0]
            if n != last:
                changes += 1
                if n < last:
                    back += 1
                last, tail = n, tails[n % FILLS]
            if not target.endswith(tail):
                torn += 1
        found[READS], found[TORN], found[BACK], found[CHANGES] = done, torn, back, changes


def snapshot_reader(view: mmsb.View, found: memoryview, sizes: tuple[int, ...], count: int) -> None:
    """Reads all pages at one commit; each page of it counts."""
    ids = [view.page_id_of(str(size)) for size in sizes]
    while view.seq < len(ids) + 1:  # until the pages have a number
        time.sleep(0.001)
    last = 0
    for done in range(BLOCK, count + BLOCK, BLOCK):
        for _ in range(BLOCK // len(ids)):
            snapshot = view.snapshot(ids)
            n = snapshot.seq - len(ids)  # as one commit made each page, and one each number
            found[CHANGES] += n != last
            found[BACK] += n < last
            last, head, tail = n, n.to_bytes(8, "little"), bytes([n % FILLS])
            for page_id, size in zip(ids, sizes, strict=True):
                found[TORN] += snapshot[page_id] != head + tail * (size - 8)
        found[READS] = done


def reader(look: Callable[..., None], numbers: memoryview, place: int, sizes: tuple[int, ...], count: int) -> None:
    """A process that reads, once there is something to read."""
    while not numbers[READY]:
        time.sleep(0.001)
    with mmsb.attach("torn") as view:
        look(view, numbers[place : place + PER_READER], sizes, count)


def beside_a_writer(
    run: Run, case: str, look: Callable[..., None], sizes: tuple[int, ...], readers: int, count: int
) -> None:
    """So many readers read `count` times together."""
    if not run.wants(case):
        return
    places = [8 + PER_READER * n for n in range(readers)]
    numbers, before = shared_numbers(512), run.tally.injected
    owner = Forked(writer, numbers, sizes)
    children = [Forked(reader, look, numbers, place, sizes, -(-count // readers)) for place in places]
    try:
        while not all(child.ends(0.05) for child in children):
            if owner.ends(0) or any(child.status for child in children):
                break
            run.progress(before + sum(numbers[place + READS] for place in places), run.amount(*AMOUNT))
        ended = owner.ends(0)
        numbers[STOP] = 1
        reads, torn, back, changes = (sum(numbers[place + what] for place in places) for what in range(PER_READER))
        run.tally.injected += reads
        figures = run.tally.figures
        for what, counted in (("commits", numbers[WRITTEN]), ("reads of another commit than the last", changes)):
            figures[what] = figures.get(what, 0) + counted
        for what, counted in (("torn", torn), ("went back", back)):
            if counted:
                run.fail("wrong", case, f"{counted:,} of {reads:,} reads {what}")
        if ended or any(child.ends(10) and child.status for child in children):
            statuses = [one.status for one in (owner, *children)]
            run.fail("signals" if min(filter(None, statuses)) < 0 else "wrong", case, f"ended with {statuses}")
    finally:
        kill_all([*children, owner])


# Checked reads of single pages, and of pages in snapshots.
AMOUNT = 10_000_000, 1_000_000_000
AMOUNT_OF_SNAPSHOTS = 300_000, 40_000_000


def pages(run: Run) -> None:
    """One page, of each size and by so many readers."""
    os.environ["XDG_RUNTIME_DIR"] = str(run.work)
    share = run.amount(*AMOUNT) // (len(SIZES) * len(READERS)) + BLOCK
    for size in SIZES:
        for readers in READERS:
            beside_a_writer(run, f"{size}x{readers}", page_reader, (size,), readers, share)


def snapshots(run: Run) -> None:
    """A page of each size, changed by the same commits."""
    os.environ["XDG_RUNTIME_DIR"] = str(run.work)
    for readers in READERS:
        share = run.amount(*AMOUNT_OF_SNAPSHOTS) // len(READERS) + BLOCK
        beside_a_writer(run, f"x{readers}", snapshot_reader, SIZES, readers, share)


# ---- verifying beside a writer

LOOKS = 30, 3_000  # of each way to write
WAYS = tuple(product((4096, 1 << 20), (False, True), (None, 20_000)))


def busy(numbers: memoryview, folder: str, way: tuple[int, bool, int | None], seed: str) -> None:
    """Opens a store, does all that changes its files, in no order, closes it and opens it again."""
    dice = random.Random(seed)
    segment_bytes, compress, checkpoint_bytes = way
    while not numbers[STOP]:
        with mmsb.open(
            folder, segment_bytes=segment_bytes, compress=compress, checkpoint_bytes=checkpoint_bytes
        ) as state:
            while len(state) < 8:
                state.create_page(256)
            numbers[READY] = 1
            for _ in range(dice.randrange(1, 60)):
                with state.batch() as batch:
                    for _ in range(dice.choice((1, 1, 1, 30))):
                        batch.write(dice.randrange(1, 9), dice.randbytes(20), at=dice.randrange(230))
                chance = dice.random()
                if chance < 0.02:
                    state.sync()
                elif chance < 0.10:
                    state.checkpoint()
                elif chance < 0.12 and state.seq > state.first_seq + 50:
                    state.compact(before=state.seq - dice.randrange(1, 40))
                if dice.random() < 0.2:
                    time.sleep(0.002)


def verified(run: Run) -> None:
    """A healthy store has no findings, whatever its writer does to its files meanwhile."""
    for number, way in enumerate(WAYS):
        if not run.wants(case := "x".join(map(str, way))):
            continue
        folder, numbers = str(run.work / str(number)), shared_numbers(8)
        dice = run.dice("verified", case)
        owner = Forked(busy, numbers, folder, way, f"{run.seed}:{case}")
        try:
            while not numbers[READY] and not owner.ends(0.001):
                pass
            for look in range(run.amount(*LOOKS)):
                run.progress(number * run.amount(*LOOKS) + look, len(WAYS) * run.amount(*LOOKS))
                run.tally.injected += 1
                with suppress(mmsb.RetentionError), mmsb.open(folder, read_only=True) as state:
                    time.sleep(dice.choice((0, 0.005)))
                    for finding in state.verify().findings:
                        run.fail("wrong", case, finding.sentence)
            numbers[STOP] = 1
            if not owner.ends(30) or owner.status:
                run.fail("wrong", case, f"the writer ended with {owner.status}")
        finally:
            kill_all([owner])


MEASURE = Measure(
    "R12",
    "reads beside a writer",
    (
        Part("pages", pages, at_least=AMOUNT),
        Part("snapshots", snapshots, at_least=AMOUNT_OF_SNAPSHOTS),
        Part("verify", verified, at_least=(len(WAYS) * LOOKS[0], len(WAYS) * LOOKS[1])),
        Part("moving", moving.moving, at_least=moving.WRITES, files=("tests/rel/moving.py",)),
        Part("past", past_threads.past, at_least=past_threads.READS, files=("tests/rel/past_threads.py",)),
    ),
    files=("tests/rel/forks.py",),
)
