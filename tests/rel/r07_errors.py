"""R7: file operations that fail. A typed error, no acknowledgement after a failed sync, nothing acknowledged lost, no
descriptor left open; and where nothing was exposed, the same State goes on once the fault is gone.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
from functools import partial

import mmsb
from mmsb._core.files import Files
from tests.rel.children import Case, Verdict, try_each
from tests.rel.programme import Measure, Part, Run
from tests.rel.scenarios import SCENARIOS, ByHand, Told, judge

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
EFFECTS = [(error, "fail") for error in ERRORS] + [("EIO", "tear"), ("ENOSPC", "tear")]
OFTEN = ("once", "for ever")
SYNCS = ("fdatasync", "fsync")
KINDS = (
    *("open", "close", "pread", "pwrite", "fdatasync", "fsync", "fallocate", "rename", "unlink", "mkdir", "stat_size"),
    *("map", "filesystem", "lock", "append"),
)
CLEAN = (mmsb.MMSBError, OSError)


def descriptors() -> int:
    """How many this process has open, once what nobody holds any more is gone."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Witness(Told):
    """Notes what is promised after a sync has failed."""

    def __init__(self, files: Files, kind: str, nth: int) -> None:
        super().__init__()
        self.files, self.kind, self.nth = files, kind, nth
        self.late: tuple[str, int, int] | None = None

    def __call__(self, store: str, seq: int, durable: int) -> None:
        if self.kind in SYNCS and self.files.count(self.kind) >= self.nth and self.late is None:
            self.late = store, seq, durable
        super().__call__(store, seq, durable)


# ---- the scenarios


def scenario_case(run: Run, name: str, histories, kind: str, nth: int, error: str, effect: str, often: str) -> Verdict:
    """Runs a scenario of which one operation fails, then opens what it left."""
    folder = run.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before, files = descriptors(), Files(faulty=True)
    files.arm(kind, nth, effect, getattr(errno, error), often == "for ever")
    told = Witness(files, kind, nth)
    word = "passed over"
    try:
        SCENARIOS[name](folder, files, told)
    except CLEAN as failure:
        word = type(failure).__name__
        del failure
    files.arm("any", 0)
    if (left := descriptors()) > before:
        return "wrong", f"{left - before} descriptors are open that were not ({word})"
    # In the background a file may fail that nothing depends on: then the scenario goes on, rightly.
    if told.late is not None and name != "compress":
        return "lost", f"after a failed sync commit {told.late[1]} was acknowledged, durable to {told.late[2]}"
    broken = judge(folder, histories, told.acknowledged)
    return broken if broken is not None else word


def scenarios(name: str, run: Run) -> None:
    """Each operation of one scenario, in each way; in quick some of them."""
    folder, files = run.work / "undisturbed", Files(faulty=True)
    folder.mkdir()
    histories = SCENARIOS[name](folder, files, Told())
    counts = {kind: files.count(kind) for kind in ("any", *SYNCS)}
    cases: list[Case] = []
    for kind, count in counts.items():
        for nth in range(1, count + 1):
            for error, effect in EFFECTS if kind == "any" else EFFECTS[:1]:
                for often in OFTEN:
                    how = (kind, nth, error, effect, often)
                    cases.append((":".join(map(str, how)), partial(scenario_case, run, name, histories, *how)))
    chosen = run.dice(name).sample(cases, run.amount(min(60, len(cases)), len(cases)))
    try_each(run, cases if run.case else chosen)


# ---- going on


class Stubborn:
    """A program that tries a step again when it was rejected, and opens the store again when its writer is poisoned."""

    def __init__(self, path, files: Files) -> None:
        self.path, self.files = path, files
        self.digests = {0: b""}
        self.wrong = ""
        self.healed = False
        self.state = self.opened()

    def opened(self) -> mmsb.State:
        """The store, opened; once more when the fault hits that."""
        how = {"files": self.files, "segment_bytes": 4096, "checkpoint_bytes": None}
        try:
            state = mmsb.open(self.path, **how)
        except CLEAN:
            self.heal()
            state = mmsb.open(self.path, **how)
        state._log.flusher = ByHand()
        return state

    def heal(self) -> None:
        """The fault is gone."""
        self.healed = True
        self.files.arm("any", 0)

    def step(self, act) -> None:
        """Does one thing, whatever it takes."""
        state = self.state
        seq, digest = state.seq, state.digest()
        try:
            act(state)
        except CLEAN as error:
            if self.healed:
                self.wrong = self.wrong or f"a step fails although nothing is wrong any more: {error}"
            self.heal()
            if isinstance(error, mmsb.CommitInDoubtError) and not state.poisoned:
                self.wrong = self.wrong or f"a commit is in doubt, and its writer goes on: {error!r}"
            if state.poisoned:
                self.open_again(act, seq)
                return
            if (state.seq, state.digest()) != (seq, digest):
                self.wrong = self.wrong or f"a step was rejected and left something behind: {error!r}"
            act(state)
        self.digests[self.state.seq] = self.state.digest()

    def open_again(self, act, seq: int) -> None:
        """After poison: nothing is accepted any more; what was acknowledged is there when it is opened again."""
        for late in (act, lambda state: state.create_page(1), lambda state: state.sync()):
            try:
                late(self.state)
                self.wrong = self.wrong or "a poisoned writer acknowledged something"
            except mmsb.CommitInDoubtError:
                pass
            except CLEAN as error:
                self.wrong = self.wrong or f"a poisoned writer says {error!r}"
        self.state.close()
        self.state = self.opened()
        if not seq <= self.state.seq <= seq + 2:
            self.wrong = self.wrong or f"commit {seq} was acknowledged, and {self.state.seq} is there"
        elif seq and self.state.at(seq).digest() != self.digests.get(seq):
            self.wrong = self.wrong or f"what was acknowledged at {seq} is there in another form"
        act(self.state)
        self.digests[self.state.seq] = self.state.digest()


def write(size: int, value: int, **how):
    """A step that commits; the same again changes bytes again."""
    times = iter(range(1000))

    def act(state: mmsb.State) -> None:
        with state.batch(**how) as batch:
            batch.write("a", bytes([value + next(times) & 0xFF]) * size)

    return act


def steps():
    """Every way in which a State writes to a file."""
    yield lambda state: None if "a" in state else state.create_page(2000, name="a")
    for n in range(5):
        yield write(900, n)
    yield lambda state: state.sync()
    yield write(300, 50, durability="power")
    yield lambda state: state.checkpoint()
    for n in range(4):
        yield write(1500, 60 + n)
    yield lambda state: state.compact(before=4) if state.first_seq < 4 else None
    yield write(900, 90)
    yield lambda state: state.checkpoint()


def going_on_case(run: Run, kind: str, nth: int, error: str, effect: str, often: str) -> Verdict:
    """Runs the steps while one operation fails. Space that is missing poisons nobody."""
    path = run.work / "s"
    shutil.rmtree(path, ignore_errors=True)
    before, files = descriptors(), Files(faulty=True)
    files.arm(kind, nth, effect, getattr(errno, error), often == "for ever")
    program = Stubborn(path, files)
    poisoned = program.state
    for act in steps():
        program.step(act)
    same = program.state is poisoned
    program.heal()
    program.state.close()
    poisoned = None
    if program.wrong:
        return "wrong", program.wrong
    if not same and kind == "fallocate" and error in ("ENOSPC", "EDQUOT"):
        return "wrong", "a full disk poisoned the writer although nothing was exposed"
    last = max(program.digests)
    with mmsb.open(path) as state:
        if state.verify().findings or state.seq != last or state.digest() != program.digests[last]:
            return "lost", f"closed at {last}, opened at {state.seq}: {state.verify().findings}"
    del state
    program.state = None
    if (left := descriptors()) > before:
        return "wrong", f"{left - before} descriptors are open that were not"
    return "went on" if same else "opened again"


def going_on(run: Run) -> None:
    """Each operation of each kind, in each way, while a program tries again; in quick some of them."""
    program = Stubborn(run.work / "undisturbed", Files(faulty=True))
    for act in steps():
        program.step(act)
    program.state.close()
    cases: list[Case] = []
    for kind in KINDS:
        for nth in range(1, program.files.count(kind) + 1):
            for error, effect in EFFECTS:
                for often in OFTEN:
                    how = (kind, nth, error, effect, often)
                    cases.append((":".join(map(str, how)), partial(going_on_case, run, *how)))
    chosen = run.dice("going on").sample(cases, run.amount(200, len(cases)))
    try_each(run, cases if run.case else chosen)


MEASURE = Measure(
    "R7",
    "errors of file operations",
    (
        *(Part(name, partial(scenarios, name), at_least=(50, 300)) for name in SCENARIOS),
        Part("going-on", going_on, at_least=(200, 1_500)),
    ),
    files=("tests/rel/scenarios.py", "tests/rel/children.py"),
)
