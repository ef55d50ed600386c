"""Which branches of csrc the tests take: gcov's counts, and what no test can take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.rel.variants import Tree, VariantError

# Branches that nothing can take from outside, by file and a part of their line, and why not. Each must still be there.
OTHER_CPU = "another processor would answer otherwise"
JUMPS = "a jump out of the handler, or the death of the process, leaves gcov without a count"
EXCLUDED: dict[tuple[str, str], str] = {
    ("cpu.c", "if (!__get_cpuid"): OTHER_CPU,
    ("cpu.c", "has(c, 20)"): OTHER_CPU,
    ("cpu.c", "saves_state ? enabled_state()"): OTHER_CPU,
    ("cpu.c", "has(b7, "): OTHER_CPU,
    ("cpu.c", "(found & MMSB_CPU_"): OTHER_CPU,
    ("clock.c", "__get_cpuid(0x80000007"): OTHER_CPU,
    ("clock.c", "steady ? MMSB_COUNTER_STEADY"): OTHER_CPU,
    ("io_guard.c", "if (guard != NULL && at >= guard->start"): JUMPS,
    ("io_guard.c", "if (before.sa_flags & SA_SIGINFO)"): JUMPS,
    ("io_guard.c", "else if (before.sa_handler"): JUMPS,
    ("io_guard.c", "if (info->si_code <= 0)"): JUMPS,
}


# Children of the tests end by os._exit(), where nobody writes the counters.
CUSTOMIZE = """
import ctypes, os

def end(status, really=os._exit):
    try:
        ctypes.CDLL({library!r}, mode=os.RTLD_NOLOAD | os.RTLD_NOW).mmsb_write_counters()
    except OSError:
        pass  # it never used mmsb
    really(status)

os._exit = end
"""


def instrumented(folder: Path) -> Tree:
    """A copy of the tree whose csrc counts the branches that are taken; the counts are zero."""
    tree = Tree(folder, ("-O0", "--coverage", "-fprofile-update=atomic"), ("tests/rel/counters.c",))
    tree.prepare()
    (folder / "sitecustomize.py").write_text(CUSTOMIZE.format(library=str(tree.library)))
    for data in tree.objects.glob("*.gcda"):
        data.unlink()
    return tree


@dataclass
class Branches:
    """Of one file. `missed`: line numbers, one for each branch that was never taken."""

    every: int = 0
    taken: int = 0
    missed: list[int] = field(default_factory=list)


def gather(objects: Path, root: Path) -> dict[str, Branches]:
    """The branches of each file of csrc, from the counters that lie in `objects`.

    One that is compiled into several objects, as those of headers are, was taken when it was in any of them.
    """
    counts: dict[str, dict[tuple[int, int, int], int]] = defaultdict(lambda: defaultdict(int))
    for data in sorted(objects.glob("*.gcda")):
        done = subprocess.run(["gcov", "--json-format", "-b", "-t", data.name], cwd=objects, capture_output=True)
        for document in done.stdout.splitlines():
            for file in json.loads(document)["files"]:
                if Path(file["file"]).parent.name != "csrc":
                    continue
                for line in file["lines"]:
                    branches = line["branches"]
                    for place, branch in enumerate(branches):
                        key = (line["line_number"], place, len(branches))
                        counts[Path(file["file"]).name][key] += branch["count"]
    found = {}
    for name, branches in sorted(counts.items()):
        lines = (root / "csrc" / name).read_text().splitlines()
        excluded = [part for file, part in EXCLUDED if file == name]
        known = {
            key: count for key, count in branches.items() if not any(part in lines[key[0] - 1] for part in excluded)
        }
        missed = [number for (number, _, _), count in sorted(known.items()) if count == 0]
        found[name] = Branches(len(known), len(known) - len(missed), missed)
    return found


def python_branches(tree: Tree, files: tuple[str, ...], tests: list[str]) -> dict[str, Branches]:
    """The branches of Python files that `tests` take, in one process, as coverage.py counts them. A line that nothing
    runs counts as a branch that nothing takes. VariantError: a test fails.
    """
    data, report = str(tree.objects / "coverage"), tree.objects / "coverage.json"
    coverage = [sys.executable, "-m", "coverage"]
    command = [*coverage, "run", f"--data-file={data}", "--branch", "--include=" + ",".join(files)]
    ended = tree.run([*command, *tests], 3600, MMSB_HYPOTHESIS_PROFILE="quick")
    if ended.status != 0:
        raise VariantError(f"{' '.join(tests)} ended with {ended.status}: {ended.output[-1000:]}")
    tree.must([*coverage, "json", f"--data-file={data}", "-o", str(report)])
    found = {}
    for name, file in json.loads(report.read_text())["files"].items():
        missed = sorted({*file["missing_lines"], *(abs(at) for at, _ in file["missing_branches"])})
        every = file["summary"]["num_branches"] + file["summary"]["num_statements"]
        found[name] = Branches(every, every - len(missed), missed)
    return found


def stale_exclusions(root: Path) -> list[str]:
    """Exclusions whose line is no longer there."""
    return [f"{file}: {part}" for file, part in EXCLUDED if part not in (root / "csrc" / file).read_text()]
