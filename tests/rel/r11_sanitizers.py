"""R11: no report of a sanitizer: the C programs and the Python suite with ASan and UBSan, what has threads with TSan.

Asserts are on and signed numbers may not overflow (CPython's own flags would hide both). Nothing of ours is suppressed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import csrc
from tests.rel.builds import Build, MissingError, library
from tests.rel.programme import ROOT, Measure, Part, Run

PROGRAMS = sorted(path.stem for path in (ROOT / "tests/c").glob("*.c") if "int main(" in path.read_text())
THREADED = [name for name in PROGRAMS if "pthread_create(" in (ROOT / f"tests/c/{name}.c").read_text()]
COMMON = "-O1 -g1 -fno-wrapv -UNDEBUG -fno-omit-frame-pointer"
MEMORY = f"{COMMON} -fsanitize=address,undefined -fno-sanitize-recover=undefined"
THREADS = f"{COMMON} -fsanitize=thread"
WAYS = {
    "memory": Build("address", MEMORY, "-fsanitize=address,undefined", ("libasan.so", "libubsan.so")),
    "threads": Build("thread", THREADS, "-fsanitize=thread", ("libtsan.so",)),
}
# Tests of time, memory and the tree itself; those that compile with the normal flags, or run programs of others; those
# that bring another malloc.
UNFIT = (
    "test_c_programs",
    "test_import_cost",
    "test_new",
    "test_semirings.py",
    "test_models",
    "test_own_semirings",
    "test_starved",
    "test_hostile_stores",
    "test_cycles",
)
# They start processes with an environment of their own, in which the sanitizer's library is missing; or as another
# user, who cannot have it.
DESELECTED = (
    "tests/share/test_group.py::test_others_get_nothing",
    "tests/unit/test_cli.py::test_help_needs_no_heavy_module",
    "tests/unit/test_graph.py::test_the_order_is_stable_across_runs",
)
SUITE = {
    "unit": ["tests/unit"],
    "crash": ["tests/crash", "tests/formats", "tests/hooks"],
    "laws": ["tests/kernels", "tests/laws"],
    "share": ["tests/share"],
}
WITH_THREADS = [
    "tests/unit/test_propagation_threads.py",
    "tests/unit/test_events.py",
    "tests/unit/test_appends.py",
    "tests/unit/test_readers.py",
    "tests/unit/test_checkpoint.py",
    "tests/unit/test_compact.py",
    "tests/share",
]


def reports(folder: Path) -> list[str]:
    """What the sanitizers wrote: of each report the line that says what it is, and the first lines of ours."""
    found = []
    for path in sorted(folder.glob("report*")):
        lines = path.read_text(errors="replace").splitlines()
        head = next((line for line in lines if re.search(r"ERROR:|WARNING:|runtime error", line)), path.name)
        ours = [line.strip() for line in lines if re.search(r"csrc/|_core/|tests/c/", line)][:3]
        found.append(" ".join([head.strip(), *ours]))
    return found


def options(folder: Path) -> dict[str, str]:
    """For sanitized processes: every report is a file in `folder`, whichever process makes it."""
    where = f"log_path={folder / 'report'}"
    return {
        "ASAN_OPTIONS": f"{where}:detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": f"{where}:print_stacktrace=1",
        "TSAN_OPTIONS": f"{where}:halt_on_error=0:report_thread_leaks=0:die_after_fork=0",
        "PYTHONMALLOC": "malloc",
        "MMSB_HYPOTHESIS_PROFILE": "quick",
    }


def programs(run: Run) -> None:
    """Every C program of tests/c with ASan, UBSan and LSan, and those with threads with TSan."""
    done = 0
    archive = run.work / "tsan"
    archive.mkdir()
    tsan = [csrc.compiler_line(False)[0], *csrc.setup_flags(), *THREADS.split(), "-Wno-tsan"]
    try:
        library("libtsan.so")
        library("libasan.so")
    except MissingError as error:
        run.tally.skipped = str(error)
        return
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda source: csrc.run([*tsan, "-c", source], archive), csrc.SOURCES))
    csrc.run(["ar", "rcs", archive / "libmmsb.a", *sorted(archive.glob("*.o"))], archive)
    for name in PROGRAMS:
        for way in ("memory", "threads"):
            if way == "threads" and name not in THREADED:
                continue
            if way == "memory" and run.size == "quick":
                continue  # ci/test has them beside this programme
            case = f"{name}:{way}"
            run.progress(done, len(PROGRAMS) + len(THREADED))
            done += 1
            if not run.wants(case):
                continue
            folder = run.work / case
            folder.mkdir()
            try:
                if way == "memory":
                    csrc.run_program(name, folder, run.work, True)
                else:
                    flags = [ROOT / "tests/c" / f"{name}.c", archive / "libmmsb.a", "-lpthread", "-o", folder / name]
                    csrc.run([*tsan, *flags], folder)
                    (folder / "work").mkdir()
                    csrc.run([folder / name, folder / "work"], folder)
            except AssertionError as error:
                run.fail("wrong", case, str(error)[-1500:])
            run.tally.injected += 1


def suite(run: Run, way: str, places: Sequence[str]) -> None:
    """Runs tests in a sanitized build. Each test counts; each report is a failure, and so is a test that fails."""
    try:
        build = WAYS[way].make()
    except MissingError as error:
        run.tally.skipped = str(error)
        return
    chosen = [file for place in places for file in sorted(build.tree.glob(f"{place}/**/test_*.py"))]
    chosen += [build.tree / place for place in places if place.endswith(".py")]
    for number, file in enumerate(chosen):
        run.progress(number, len(chosen))
        case = str(file.relative_to(build.tree))
        if not run.wants(case) or any(name in case for name in UNFIT):
            continue
        folder = run.work / str(number)
        folder.mkdir()
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-n", "0"]
        left_out = [f"--deselect={name}" for name in DESELECTED]
        done = build.run([*pytest[:-2], *left_out, f"--basetemp={folder / 'tmp'}", file], **options(folder))
        count = re.search(r"(\d+) passed", done.stdout)
        run.tally.injected += int(count[1]) if count else 0
        for report in reports(folder):
            run.fail("wrong", case, report)
        if done.returncode < 0:
            run.fail("signals", case, f"signal {-done.returncode}: {done.stderr[-500:]}")
        elif done.returncode not in (0, 5):
            failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.M) or [done.stdout[-500:] + done.stderr[-500:]]
            run.fail("wrong", case, f"{len(failed)} tests failed: {failed[0]}")
        subprocess.run(["rm", "-rf", folder / "tmp"], check=False)


def part(name: str, way: str, places: Sequence[str], least: int) -> Part:
    """A piece of the suite in one build; only in full, since the build alone takes minutes."""
    return Part(name, lambda run: suite(run, way, places), (1, least), only="full")


MEASURE = Measure(
    "R11",
    "sanitizers",
    (
        Part("programs", programs, at_least=(len(THREADED), len(PROGRAMS) + len(THREADED))),
        *(part(f"memory-{name}", "memory", places, 50) for name, places in SUITE.items()),
        part("threads", "threads", WITH_THREADS, 100),
    ),
    files=("tests/**/*.py", "tests/**/*.c", "tests/**/*.h"),
)
