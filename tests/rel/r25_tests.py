"""R25: the test of the tests: which branches of csrc and of recovery they take, which small mistakes they notice."""

from __future__ import annotations

import importlib.util
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.fuzz import engine
from tests.rel.branches import gather, instrumented, python_branches, stale_exclusions
from tests.rel.mutants import Mutant, mutants_of
from tests.rel.programme import ROOT, Measure, Part, Run
from tests.rel.variants import Tree, VariantError

PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]

# ---- branches

CSRC_LEAST = 0.95
# What an opening runs on bytes that it cannot trust.
RECOVERY = ("frame.c", "segment.c", "core_apply.c")
RECOVERY_PYTHON = ("mmsb/recovery.py", "mmsb/horizon.py", "mmsb/segments.py")
SUITE = [
    ["tests/unit", "tests/crash", "tests/formats", "tests/kernels"],
    ["tests/hooks", "tests/laws", "tests/share", "tests/plugins"],
]
FUZZED = 20_000  # inputs of each fuzz target, from its corpus
PARTS = ("R1", "R3", "R6", "R7", "R16", "R20", "R21")  # in quick size, where they exist


def branches(run: Run) -> None:
    """Runs the suite and some of the programme against csrc as gcov instruments it."""
    tree = instrumented(ROOT / "build/rel/coverage")
    commands = [[*PYTEST[:4], *PYTEST[5:], *places] for places in SUITE]
    commands += [[sys.executable, "-m", "tests.rel", "quick", *PARTS, "-j1", "--again"]]
    for target in engine.TARGETS:
        program = tree.program(f"tests/fuzz/{target}.c", "tests/fuzz/driver.c")
        commands.append([str(program), f"-runs={FUZZED}", *engine.corpora(target)])
    for done, command in enumerate(commands):
        run.progress(done, len(commands))
        ended = tree.run(command, 3600, MMSB_HYPOTHESIS_PROFILE="quick", CFLAGS="-O0 --coverage")
        if ended.status != 0:
            run.fail("wrong", str(done), f"{' '.join(command[1:])} ended with {ended.status}: {ended.output[-1000:]}")
    found = gather(tree.objects, tree.folder)
    every, taken = sum(file.every for file in found.values()), sum(file.taken for file in found.values())
    run.tally.injected = every
    run.tally.figures = {
        "branches": f"{taken} of {every}, {100 * taken / every:.1f} %",
        "files": {name: f"{file.taken} of {file.every}" for name, file in found.items()},
    }
    if taken < CSRC_LEAST * every:
        run.fail("wrong", "csrc", f"only {taken} of {every} branches are taken")
    for name in RECOVERY:
        if found[name].missed:
            run.fail("wrong", name, f"branches of {name} that no test takes: lines {found[name].missed}")
    for line in stale_exclusions(ROOT):
        run.fail("wrong", "exclusions", f"an exclusion of tests/rel/branches.py names a line that is gone: {line}")


def recovery(run: Run) -> None:
    """The Python side of opening a store, as coverage.py sees it."""
    if importlib.util.find_spec("coverage") is None:
        run.tally.skipped = "coverage.py is not installed; `pip install coverage` brings it"
        return
    tree = Tree(ROOT / "build/rel/recovery")
    tree.prepare()
    found = python_branches(tree, RECOVERY_PYTHON, [*PYTEST[1:], *KILLERS])
    run.tally.injected = sum(file.every for file in found.values())
    run.tally.figures = {name: f"{file.taken} of {file.every}" for name, file in found.items()}
    for name in RECOVERY_PYTHON:
        if found[name].missed:
            run.fail("wrong", name, f"lines of {name} that are not run, or not both ways: {found[name].missed}")


# ---- mutants

SCORE_LEAST = 0.85
MUTANTS_MOST = 80  # of a part; chosen by the seed where there are more
MUTANTS_LEAST = 70  # of those that compile
SURVIVORS = Path(__file__).with_name("survivors.toml")
LOG = ("csrc/frame.c", "csrc/segment.c", "csrc/core_commit.c")
CHECKPOINT = ("mmsb/checkpoint.py", "mmsb/checkpoints.py")
RECOVERING = ("mmsb/recovery.py", "mmsb/horizon.py", "mmsb/segments.py", "csrc/core_apply.c")
PROGRAMS = ("test_log", "test_apply", "test_alloc")
KILLERS = (
    "tests/formats",
    "tests/unit/test_batch.py",
    "tests/unit/test_merge.py",
    "tests/unit/test_batch_links.py",
    "tests/unit/test_limits.py",
    "tests/unit/test_segments.py",
    "tests/crash/test_recovery.py",
    "tests/unit/test_store.py",
    "tests/unit/test_checkpoint.py",
    "tests/unit/test_compact.py",
    "tests/unit/test_appends.py",
    "tests/crash/test_opening.py",
    "tests/crash/test_damage.py",
    "tests/crash/test_faults.py",
    "tests/unit/test_verify.py",
    "tests/crash/test_compact_crash.py",
    "tests/unit/test_graph.py",
    "tests/unit/test_page_graph.py",
    "tests/unit/test_propagation_reopened.py",
    "tests/unit/test_past.py",
    "tests/share/test_attach.py",
)
# The files of all of these, and what they stand on.
KILLING = ("tests/*.py", "tests/c/*", "tests/formats/*", "tests/share/co*.py", *KILLERS[1:])


class Killer:
    """A tree, and the tests that must notice a mutant in it."""

    def __init__(self, folder: Path) -> None:
        self.tree = Tree(folder)
        self.tree.prepare()
        self.seconds = 600.0
        self.programs = [str(self.tree.program(f"tests/c/{name}.c")) for name in PROGRAMS]
        begun = time.monotonic()
        if by := self.notice(""):
            raise VariantError(f"{by} fails without any mutant")
        self.seconds = 5 * (time.monotonic() - begun) + 20

    def notice(self, file: str) -> str:
        """The first test that fails, or does not end; "": none does. C programs cannot notice Python."""
        programs = [] if file.endswith(".py") else [[program] for program in self.programs]
        for command in [*programs, [*PYTEST, *KILLERS]]:
            ended = self.tree.run(command, self.seconds, MMSB_HYPOTHESIS_PROFILE="quick")
            if ended.status != 0:
                return Path(command[0]).name
        return ""

    def try_one(self, mutant: Mutant) -> str | None:
        """Who noticed a mutant ("": nobody); None when it does not compile, and is none."""
        text = (self.tree.folder / mutant.file).read_text()
        try:
            with self.tree.changed(mutant.file, mutant.apply(text)):
                return self.notice(mutant.file)
        except VariantError:
            return None


def score(run: Run, files: tuple[str, ...]) -> None:
    """Tries mutants of the files in two trees at a time. Survivors are failures only where the score is too low."""
    everyone = [mutant for file in files for mutant in mutants_of(file, (ROOT / file).read_text())]
    equivalent = {known["mutant"] for known in tomllib.loads(SURVIVORS.read_text())["equivalent"]}
    chosen = [mutant for mutant in everyone if mutant.name not in equivalent and run.wants(mutant.name)]
    if len(chosen) > MUTANTS_MOST:
        chosen = sorted(run.dice("mutants").sample(chosen, MUTANTS_MOST), key=everyone.index)
    killers: SimpleQueue[Killer] = SimpleQueue()
    workers = 2
    for number in range(workers):
        killers.put(Killer(ROOT / f"build/rel/mutants-{number}"))
    survivors: list[str] = []
    killed = 0

    def one(mutant: Mutant) -> tuple[Mutant, str | None]:
        killer = killers.get()
        try:
            return mutant, killer.try_one(mutant)
        finally:
            killers.put(killer)

    with ThreadPoolExecutor(workers) as pool:
        for done, (mutant, by) in enumerate(pool.map(one, chosen)):
            run.progress(done, len(chosen))
            killed += bool(by)
            if by == "":
                survivors.append(mutant.name)
    tried = killed + len(survivors)
    run.tally.injected = tried
    run.tally.figures = {
        "possible": len(everyone),
        "tried": tried,
        "killed": killed,
        "score": f"{100 * killed / max(tried, 1):.1f} %",
        "equivalent": len(equivalent & {mutant.name for mutant in everyone}),
        "survivors": survivors,
    }
    if killed < SCORE_LEAST * tried:
        for name in survivors:
            run.fail("wrong", name, "a mutant that no test noticed")


def mutants_log(run: Run) -> None:
    """Writing and reading frames."""
    score(run, LOG)


def mutants_checkpoint(run: Run) -> None:
    """Checkpoints."""
    score(run, CHECKPOINT)


def mutants_recovery(run: Run) -> None:
    """Opening, the horizon, and applying what was read."""
    score(run, RECOVERING)


MEASURE = Measure(
    "R25",
    "branches taken, mutants noticed",
    (
        Part(
            "branches", branches, at_least=(1, 5_000), only="full", files=("tests/**/*.py", "tests/c/*", "tests/fuzz/*")
        ),
        Part("recovery", recovery, at_least=(1, 400), only="full", files=KILLING),
        Part("mutants-log", mutants_log, at_least=(1, MUTANTS_LEAST), only="full", files=KILLING),
        Part("mutants-checkpoint", mutants_checkpoint, at_least=(1, MUTANTS_LEAST), only="full", files=KILLING),
        Part("mutants-recovery", mutants_recovery, at_least=(1, MUTANTS_LEAST), only="full", files=KILLING),
    ),
    files=("tests/rel/branches.py", "tests/rel/mutants.py", "tests/rel/variants.py", "tests/rel/survivors.toml"),
)
