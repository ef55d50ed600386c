"""Threads that read the past of a State while another one goes on: rolls, checkpoints, compacts, closes, opens again.

What was seen when a moment was new must be seen at any time later, until it is forgotten.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import mmsb
from mmsb.testing.model import picture_of
from tests.rel.programme import Run

READS = 9_000, 200_000
READERS = 3
COMMITS = 400  # of one session
MOST = 30  # deltas of a commit
LAZY = 4, 5, 6, 7  # what reads as it goes, or asks of a moment before: that may be forgotten on the way
WAYS: dict[str, dict[str, Any]] = {
    "mapped": {"segment_bytes": 4096, "checkpoint_bytes": 20_000},
    "unmapped": {"segment_bytes": 8192, "checkpoint_bytes": None, "mapped": False},
    "memory": {"segment_bytes": 4096, "history": 60_000},
    "attached": {"segment_bytes": 4096, "checkpoint_bytes": 20_000},  # readers have views, as if in other processes
}


class Session:
    """One State, what was seen of it when, and threads that look again."""

    def __init__(self, run: Run, case: str, state: Any, seen: dict[int, tuple[bytes, dict]]) -> None:
        self.run, self.case, self.state, self.seen = run, case, state, seen
        self.done = threading.Event()
        self.stored = state._store is not None
        self.attached = case == "attached"
        self.faults: list[str] = []

    def wrong(self, what: str) -> None:
        """Notes what must not be, and ends the session."""
        self.faults.append(what)
        self.done.set()

    def go(self, dice: random.Random, count: int) -> None:
        """So many commits with readers beside them, then a look at everything."""
        if self.attached:
            self.state.serve()
        readers = [threading.Thread(target=self.read, args=(dice.random(),)) for _ in range(READERS)]
        for thread in readers:
            thread.start()
        try:
            for _ in range(count):
                self.change(dice)
                self.seen.setdefault(self.state.seq, (self.state.digest(), picture_of(self.state)))
                if self.done.is_set():
                    break
        except Exception as error:  # whatever it is, the State cannot go on
            self.wrong(f"{type(error).__name__}: {error}")
        finally:
            self.done.set()
            for thread in readers:
                thread.join()
        self.faults += [finding.sentence for finding in self.state.verify().findings]
        for fault in self.faults:
            self.run.fail("wrong", self.case, fault)

    def change(self, dice: random.Random) -> None:
        """Anything that a program does."""
        state, chance = self.state, dice.random()
        pages = list(state.pages())
        page = dice.choice(pages)
        if chance < 0.05:
            state.create_page(dice.choice((8, 64, 100, 700)), data=dice.randbytes(8), name=f"n{state.seq}")
        elif chance < 0.10 and len(pages) > 5:
            state.delete_page(page)
        elif chance < 0.20:
            page.resize(dice.choice((8, 63, 64, 65, 130, 900)))
        elif chance < 0.25:
            page.metadata = {"at": state.seq}
        elif chance < 0.32 and self.stored:
            state.checkpoint()
        elif chance < 0.36 and self.stored and state.seq > state.first_seq + 100:
            state.compact(dice.randint(state.first_seq, state.seq))
        else:
            with state.batch() as batch:
                for _ in range(dice.choice((1, 1, 2, MOST))):
                    batch.write(page, dice.randbytes(8), at=dice.randrange(page.size - 7))

    def read(self, seed: float) -> None:
        """A thread that looks at moments of the past."""
        dice = random.Random(seed)
        moments: deque[Any] = deque(maxlen=8)  # looked at again when more was committed
        with mmsb.attach(self.state.path) if self.attached else nullcontext(self.state) as state:
            while not self.done.is_set():
                self.look(state, dice, moments)

    def look(self, state: Any, dice: random.Random, moments: deque[Any]) -> None:
        """Looks at one moment of a State, or of a view, in one of the ways of same()."""
        begin = state.first_seq
        seq, how = dice.randint(begin, state.seq), dice.randrange(8)
        if seq not in self.seen:
            return
        try:
            moments.append(state.at(seq))
            moment = dice.choice(moments) if how == 3 else moments[-1]
            seq = moment.seq
            if not self.same(how, moment):
                self.wrong(f"seq {seq} is another than it was ({how})")
        except mmsb.RetentionError:
            if seq >= state.first_seq and not (how in LAZY and begin < state.first_seq):
                self.wrong(f"seq {seq} is kept, and was said to be forgotten ({how})")
        except mmsb.PageNotFoundError as error:  # a page that was deleted, in what is forgotten
            if how < 4 or seq >= state.first_seq:
                self.wrong(f"{error} ({how})")
        except Exception as error:  # whatever it is, the past cannot be read
            self.wrong(f"{type(error).__name__} at seq {seq}: {error}")
        self.run.tally.injected += 1

    def same(self, how: int, view: Any) -> bool:
        """Looks at one moment: whether it is as it was."""
        seen = self.seen.get(view.seq)
        if seen is None:
            return True
        digest, picture = seen
        if how == 0:
            return bool(view.digest() == digest)
        if how == 1 and not self.attached:
            with closing(view.state.stepper(view.seq)) as stepper:
                return bool(stepper.digest() == digest)
        if how == 2 or not picture:
            return picture_of(view) == picture
        page = view.page(max(picture))  # of which the view knows more than of the others, by now
        if how == 4:
            content, epoch, *_ = picture[page.page_id]
            return bool(page.at(epoch).read() == content)
        if how == 5:
            return self.epochs(page)
        if how == 6:
            seqs = [commit.seq for commit in view.log()]
            return seqs == list(range(view.seq - len(seqs) + 1, view.seq + 1))
        if how == 7:
            delta = view.state.last_write(page.page_id, 0, 1 << 20, view.seq + 1)
            known = self.seen.get(delta.seq) if delta is not None else None
            return known is None or known[1][page.page_id][1] - MOST < delta.epoch <= known[1][page.page_id][1]
        return (page.read(), page.epoch, page.name, dict(page.metadata)) == picture[page.page_id]

    def epochs(self, page: Any) -> bool:
        """Whether the deltas of a page have the epochs that it had after them. A commit writes, or it resizes."""
        last = {delta.seq: delta.epoch for delta in page.history()}
        known = {seq: self.seen[seq][1] for seq in last if seq in self.seen}
        return all(known[seq][page.page_id][1] == last[seq] for seq in known)


def sessions(run: Run, case: str, path: Path, options: dict[str, Any], reads: int) -> None:
    """Sessions over one store, or one State in memory each, until so many reads are done."""
    dice, begun = run.dice("past", case), run.tally.injected
    stored = "history" not in options
    seen: dict[int, tuple[bytes, dict]] = {}
    while run.tally.injected - begun < reads and not run.tally.broken:
        run.progress(run.tally.injected, len(WAYS) * reads)
        with mmsb.open(path if stored else None, **options) as state:
            if not stored:
                seen = {}
            while len(state) < 4:
                state.create_page(64)
            seen.setdefault(state.seq, (state.digest(), picture_of(state)))
            Session(run, case, state, seen).go(dice, COMMITS)
            for seq in [seq for seq in seen if seq < state.first_seq]:
                del seen[seq]


def past(run: Run) -> None:
    """Every way to keep a log."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for case, options in WAYS.items():
            if run.wants(case):
                sessions(run, case, run.work / case, options, run.amount(*READS) // len(WAYS))
    finally:
        sys.setswitchinterval(interval)
