"""A process in which one request for memory after another fails; measure R21 starts it with tests/c/failing_malloc.c
preloaded, and reads one JSON line per finding and a last one with the counts."""

from __future__ import annotations

import ctypes
import errno
import gc
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmsb
from mmsb.testing.model import picture_of

OWNER = """
import sys, mmsb
with mmsb.open(sys.argv[1]) as state:
    state.serve()
    print("serving", flush=True)
    sys.stdin.read()
"""


class Failing:
    """The preloaded library."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        library.failing_arm.argtypes = [ctypes.c_uint64, ctypes.c_bool]
        library.failing_disarm.restype = library.failing_blocks.restype = ctypes.c_uint64
        self.library = library

    def watch(self) -> int:
        """Watches the modules of mmsb that are loaded by now."""
        return int(self.library.failing_watch(b"mmsb/_core/"))

    def blocks(self) -> int:
        """Heap blocks that mmsb holds, cycles aside."""
        gc.collect()
        return int(self.library.failing_blocks())

    def run(self, act: Callable[[], Any], after: int, ever: bool) -> tuple[Any, BaseException | None, int]:
        """(result, error, requests refused) of doing something while memory runs out after so many requests."""
        self.library.failing_arm(after, ever)
        try:
            result, error = act(), None
        except BaseException as raised:
            result, error = None, raised.with_traceback(None)
        return result, error, int(self.library.failing_disarm())


def fill(state: Any) -> None:
    """A store with a bit of everything, in three commits and some."""
    state.create_page(3000, name="a", metadata={"k": "v"})
    state.create_page(3000, name="b", data=bytes(range(250)) * 12)
    state.create_page(24, name="c", merge="plus-times", dtype="i8")
    state.create_page(3000, name="d")
    state.depend("d", on=["a"], link=mmsb.links.passthrough())
    for n in range(1, 12):
        with state.batch(label=f"step {n}", source=f"source {n % 3}") as batch:
            batch.write("a", bytes([n]) * 40, at=n * 60)
            batch.write("c", n.to_bytes(8, "little"))
    state.checkpoint()
    state.page("b").write(b"after the checkpoint", at=100)


@dataclass
class Operation:
    """Something that needs memory. `act` gets what `begin` gave; what it returns must be the same each time."""

    act: Callable[[Any], Any]
    begin: Callable[[Path], Any] = lambda path: mmsb.open(path)
    waves: bool = False  # the commit may be made and its wave fail: then propagate() brings it to the end


def commit(state: Any) -> None:
    with state.batch(label="the batch", source="somebody new", intent={"n": 1}) as batch:
        batch.write("b", bytes(range(1, 200)), at=900)
        page = batch.create_page(500, name="made", metadata={"m": 1}, data=b"content")
        batch.write(page, b"more", at=50)
        batch.resize("b", 5000)
        batch.write("c", (9).to_bytes(8, "little"))


def checkpointed(state: Any) -> Any:
    return state.checkpoint(), state.at(3).digest()


def rebuilt(state: Any) -> Any:
    past = state.at(9)
    return past.digest(), past.page("a").read(), past.page("b").read()


def looked_up(state: Any) -> Any:
    last = state.last_write("a", at=100, length=700)
    return last.seq, [delta.epoch for delta in state.page("a").history()], [c.seq for c in state.log(source="source 1")]


def reopened(path: Path) -> Any:
    with mmsb.open(path) as state:
        return picture_of(state)


def attached(path: Path) -> Any:
    with mmsb.attach(path) as view:
        return view.page("a").read(), view.page("b").read(), sorted(page.page_id for page in view.pages())


def propagated(state: Any) -> Any:
    state.page("a").write(b"to be passed on", at=2000)


def stepped(state: Any) -> Any:
    stepper = state.stepper(4)
    try:
        seen = []
        for target in (5, 8, 6, 3):
            stepper.goto(target)
            seen.append((stepper.seq, stepper.page("a").read()))
        return seen
    finally:
        stepper.close()


OPERATIONS = {
    "open": Operation(reopened, begin=lambda path: path),
    "create-page": Operation(lambda state: state.create_page(700, name="new", metadata={"x": 1}).page_id),
    "create-pages": Operation(lambda state: list(state.create_pages(5000, 64))[-1]),
    "write": Operation(lambda state: state.page("b").write(b"other bytes", at=7, source="who").epoch),
    "merge-write": Operation(lambda state: state.page("c").write((5).to_bytes(8, "little"), at=8).epoch),
    "resize": Operation(lambda state: state.page("b").resize(9000)),
    "batch": Operation(commit),
    "depend": Operation(lambda state: state.depend("b", on=["a"], link=mmsb.links.passthrough()) and None, waves=True),
    "propagate": Operation(propagated, waves=True),
    "checkpoint": Operation(checkpointed),
    "compact": Operation(lambda state: state.compact(before=6) and None),
    "at": Operation(rebuilt),
    "stepper": Operation(stepped),
    "look-up": Operation(looked_up),
    "verify": Operation(lambda state: state.verify().findings),
    "attach": Operation(attached, begin=lambda path: path),
}


def seen(subject: Any) -> Any:
    """Everything that a reader can see: of a State, or of a store by its path."""
    if isinstance(subject, Path):
        return None
    subject.stale_reads = True
    return subject.seq, subject.digest(), picture_of(subject), [page.page_id for page in subject.pages() if page.stale]


class Starved:
    """Runs one operation again and again, with memory running out at each request."""

    def __init__(self, failing: Failing, name: str, work: Path) -> None:
        self.failing, self.name, self.operation, self.work = failing, name, OPERATIONS[name], work
        self.injected = 0
        with mmsb.open(work / "base") as state:
            fill(state)
        self.copies = itertools.count()

    def fresh(self) -> Path:
        """A store of its own."""
        path = self.work / f"store-{next(self.copies)}"
        shutil.copytree(self.work / "base", path)
        return path

    def tell(self, case: str, what: str) -> None:
        """Reports a finding."""
        print(json.dumps({"case": case, "what": f"{self.name}, {what}"}), flush=True)

    def expected(self) -> tuple[Any, Any]:
        """(result, what is seen afterwards) when there is memory enough."""
        path = self.fresh()
        subject = self.operation.begin(path)
        result = self.operation.act(subject)
        after = seen(subject)
        self.end(subject, path)
        return result, after

    def end(self, subject: Any, path: Path) -> None:
        """Closes a State and takes the store away."""
        if not isinstance(subject, Path):
            subject.close()
        if self.name != "attach":
            shutil.rmtree(path)

    def all_cases(self, wanted: str | None) -> None:
        """Every request of the operation, once and for ever, until nothing is refused any more."""
        result, after = self.expected()
        self.expected()
        self.failing.watch()
        for ever in (False, True):
            for n in itertools.count():
                case = f"{self.name}:{n}:{'ever' if ever else 'once'}"
                if wanted in (None, case) and not self.one(n, ever, case, result, after):
                    break
                if wanted is not None and n > 10_000:
                    break

    def one(self, n: int, ever: bool, case: str, result: Any, after: Any) -> bool:
        """Tries one. False: nothing was refused."""
        blocks = self.failing.blocks()
        path = self.fresh()
        subject = self.operation.begin(path)
        before = seen(subject)
        given, error, refused = self.failing.run(lambda: self.operation.act(subject), n, ever)
        self.injected += refused != 0
        if error is None:
            if given != result or seen(subject) != after:
                self.tell(case, "went through with another result")
        elif not isinstance(error, (MemoryError, mmsb.MMSBError)) and getattr(error, "errno", None) != errno.ENOMEM:
            self.tell(case, f"raised {type(error).__name__}: {error}")
        elif isinstance(error, mmsb.CommitInDoubtError):
            self.tell(case, "left a commit in doubt")
        elif self.operation.waves and seen(subject) != before:
            subject.propagate()
            if seen(subject) != after:
                self.tell(case, "was not brought to its end by the next wave")
            error = None
        elif seen(subject) != before:
            self.tell(case, f"failed ({error!r}) and changed something")
        if error is not None:
            again, error, _ = self.failing.run(lambda: self.operation.act(subject), (1 << 63) - 1, False)
            if error is not None:
                self.tell(case, f"fails for good: {error!r}")
            elif again != result or seen(subject) != after:
                self.tell(case, "came to another result at the second try")
        self.end(subject, path)
        subject = given = error = again = before = None
        if (held := self.failing.blocks()) != blocks:
            self.tell(case, f"{held - blocks} blocks are held after closing")
        return refused != 0


def starve(failing: Failing, name: str, work: Path, wanted: str | None) -> int:
    """Runs one operation; how many requests were refused."""
    starved = Starved(failing, name, work)
    if name != "attach":
        starved.all_cases(wanted)
        return starved.injected
    command = [sys.executable, "-c", OWNER, str(work / "base")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None and owner.stdin is not None
        owner.stdout.readline()
        starved.fresh = lambda: work / "base"  # type: ignore[method-assign]
        starved.all_cases(wanted)
        owner.stdin.close()
    return starved.injected


if __name__ == "__main__":
    library, name, work, *rest = sys.argv[1:]
    print(json.dumps({"injected": starve(Failing(library), name, Path(work), rest[0] if rest else None)}))
