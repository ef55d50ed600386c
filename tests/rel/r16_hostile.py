"""R16: hostile stores and files: each is refused with a typed error, or opened, quickly and in bounded memory."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mmsb
from mmsb import anchors, bases, compression, digest, fork, past, upstream, verify  # noqa: F401 - before the forks
from mmsb.log import SEGMENT_BYTES_MOST
from tests.rel.hostile_files import FILES, STORES, Builder, remove, whole
from tests.rel.programme import Measure, Part, Run

# What is stated: page memory by the caller, and that a segment of the log is read as a whole (64 MiB, where none is
# larger). OVER_BYTES more are allowed for everything else.
MAX_BYTES = 32 << 20
STATED_BYTES = MAX_BYTES + SEGMENT_BYTES_MOST
OVER_BYTES = 64 << 20
CPU_S = 1.0
# Stores that do hold a hundred thousand things or more take what as many honest ones take, and are not bombs.
LARGE = re.compile(r"a million|a hundred thousand|10\^5|a chain|a ring|10\^6 ranges|metadata of 10\^5")
LARGE_TIMES = 8
QUICK = 260  # of the cases in quick
STOP_BYTES = 1 << 30  # a child that has grown to this is ended
READ_MOST = 1000  # commits and pages that a look takes in


def look(state: Any) -> None:
    """Reads of everything, as far as READ_MOST goes."""
    for page in islice(state.pages(), READ_MOST):
        try:
            bytes(page[0 : min(page.size, 4096)])
        except mmsb.StalePageError:
            pass
        dict(page.metadata)
    for commit in islice(state.log(), READ_MOST):
        assert len((commit.time, commit.label, commit.source, commit.intent, commit.cause)) == 5
        if commit.nbytes < 1 << 20:
            [delta.ranges() for delta in commit.deltas]
    for seq in {0, min(1, state.seq), state.seq // 2, state.seq}:
        with_past(state, seq)
    state.digest()


def with_past(state: Any, seq: int) -> None:
    """One moment of the past. RetentionError: it was compacted away."""
    try:
        for page in islice(state.at(seq).pages(), READ_MOST):
            bytes(page[0 : min(page.size, 4096)])
    except (mmsb.RetentionError, mmsb.StalePageError):
        pass


def open_read_only(path: Path) -> Any:
    return mmsb.open(path, read_only=path.is_dir(), max_bytes=MAX_BYTES)


def open_to_write(path: Path) -> Any:
    return mmsb.open(path, max_bytes=MAX_BYTES)


def write_on(state: Any) -> None:
    """One more commit, and a checkpoint."""
    page = state.create_page(100)
    page.write(b"after")
    if state.path is not None:
        state.checkpoint()


def use(opened: Callable[[Path], Any], *uses: Callable[[Any], None]) -> Callable[[Path], Iterator[str]]:
    """A child's work: opening, then each use; yields after each, so that each is measured by itself."""

    def work(path: Path) -> Iterator[str]:
        state = opened(path)
        yield "open"
        for one in uses:
            try:
                one(state)
            except mmsb.MMSBError:
                pass  # a typed error is an answer
            yield one.__name__
        state.close()
        yield "close"

    return work


def import_it(path: Path) -> Iterator[str]:
    """`mmsb import --dry-run`, then the import itself."""
    kind, _ = upstream.sniff(path)
    try:
        (upstream.survey_log if kind == "log" else upstream.survey_checkpoint)(path)
    except mmsb.MMSBError:
        pass
    yield "survey"
    with mmsb.open(max_bytes=MAX_BYTES) as state:
        (upstream.import_log if kind == "log" else upstream.import_checkpoint)(path, state)
        yield "import"
        look(state)
    yield "look"


READER = use(open_read_only, mmsb.verify.verify, look)
WRITER = use(open_to_write, write_on, mmsb.verify.verify)


def resident_peak() -> int:
    """Most bytes that this process had resident since the mark was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise LookupError("no VmHWM")


def child(work: Callable[[Path], Iterator[str]], path: Path, answer: int) -> None:
    """Does the work and answers with what came of it. Limits stop what would take the machine down."""
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(60)
    Path("/proc/self/clear_refs").write_text("5")
    base, steps, said = resident_peak(), [], "opened"
    before = time.process_time()
    try:
        for step in work(path):
            steps.append((step, time.process_time() - before))
            before = time.process_time()
    except mmsb.MMSBError as error:
        said = type(error).__name__
        str(error)
    except FileNotFoundError:
        said = "FileNotFoundError"
    except BaseException as error:
        known = isinstance(error, MemoryError) and str(error).startswith("Out of memory. ")  # said by mmsb
        said = "MemoryError" if known else f"untyped: {type(error).__name__}: {error}"
    steps.append(("end", time.process_time() - before))
    os.write(answer, json.dumps([said[:500], steps, resident_peak() - base]).encode())


def resident(pid: int) -> int:
    """Bytes that a process has resident; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def in_a_child(work: Callable[[Path], Iterator[str]], path: Path) -> tuple[str, list[tuple[str, float]], int]:
    """What came of it, the CPU time of each step, and the memory it took. "signal N": it died."""
    to_read, to_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(work, path, to_write)
        finally:
            os._exit(0)
    os.close(to_write)
    bloated = False
    while not select.select([to_read], [], [], 0.05)[0]:
        if resident(pid) > STOP_BYTES:
            os.kill(pid, signal.SIGKILL)
            bloated = True
    with open(to_read, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    if bloated:
        return f"untyped: more than {STOP_BYTES >> 20} MiB", [], STOP_BYTES
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "hangs" if name == "SIGALRM" else f"signal {name}", [], 0
    said, steps, peak = json.loads(data)
    return said, steps, peak


def sweep(run: Run, cases: dict[str, Builder], works: dict[str, Callable[[Path], Iterator[str]]]) -> None:
    """Every case with every work, each in a process of its own."""
    outcomes: dict[str, int] = {}
    worst = {"cpu_s": (0.0, ""), "bytes_over": (0, "")}
    chosen = run.dice("cases").sample(sorted(cases), min(run.amount(QUICK, len(cases)), len(cases)))
    for number, (name, build) in enumerate(cases.items()):
        run.progress(number, len(cases))
        if run.case is None and name not in chosen:
            continue
        if not run.wants(name):
            continue
        path, times = build(run.work / "case"), LARGE_TIMES if LARGE.search(name) else 1
        run.tally.injected += 1
        for work, does in works.items():
            said, steps, peak = in_a_child(does, path)
            outcomes[said.split(":")[0]] = outcomes.get(said.split(":")[0], 0) + 1
            if said.startswith("signal"):
                run.fail("signals", name, f"{work}: {said}")
            elif said.startswith(("untyped", "hangs")):
                run.fail("wrong", name, f"{work}: {said}")
            for step, cpu_s in steps:
                if times == 1:
                    worst["cpu_s"] = max(worst["cpu_s"], (round(cpu_s, 3), f"{name}, {work}, {step}"))
                if cpu_s > CPU_S * times:
                    run.fail("wrong", name, f"{work}, {step}: {cpu_s:.2f} s of CPU")
            over = peak - STATED_BYTES
            if times == 1:
                worst["bytes_over"] = max(worst["bytes_over"], (over, f"{name}, {work}"))
            if over > OVER_BYTES * times:
                run.fail("wrong", name, f"{work}: {over >> 20} MiB over the limit")
        remove(run.work / "case")
    run.tally.figures.update(outcomes=outcomes, **{what: list(found) for what, found in worst.items()})


def stores(run: Run) -> None:
    """Stores and one-file checkpoints: opened read-only and for writing, verified, read, written to."""
    in_a_child(WRITER, whole(run.work / "warm"))  # what is imported late
    sweep(run, STORES, {"reader": READER, "writer": WRITER})


def imports(run: Run) -> None:
    """Files of the first MMSB."""
    sweep(run, FILES, {"import": import_it})


MEASURE = Measure(
    "R16",
    "hostile files",
    (Part("stores", stores, at_least=(200, 1_000)), Part("imports", imports, at_least=(50, 50))),
    files=("tests/rel/hostile_*.py", "tests/rel/forge.py", "tests/crash/test_hostile_links.py"),
)
