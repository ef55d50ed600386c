"""Instructions and allocations of each operation, counted by callgrind: the same on a busy machine and on a quiet one.

Compares with ci/instructions.json and fails where an operation grew by more than 3 %, naming the functions that did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

RECORD = Path("ci/instructions.json")
TOLERANCE = 0.03
SLACK_INSTRUCTIONS = 20  # below this a change is rounding: the loop's own share, a hash that falls otherwise
TOP = 12
# Features by which the C library and numpy choose among their own kernels.
CHOOSING = ("avx2", "avx512f", "bmi2", "erms", "fsrm", "pclmulqdq", "sse4_2")
# Who hands memory out: Python's allocators and the C library's. A call that one of them makes to another counts too.
ALLOCATORS = re.compile(r"_PyObject_(Malloc|Calloc|Realloc)|malloc|calloc|realloc")
# How long the interpreter looks for an attribute depends on which of its types share a place in its cache, by address.
LOOKUPS = re.compile(r"_PyType_Lookup|_Py_dict_lookup|unicodekeys_lookup_\w+|find_name_in_mro|_Py_type_getattro")


@dataclass
class Count:
    """Of one operation, per call."""

    instructions: float  # without LOOKUPS
    allocations: float
    functions: dict[str, float]  # the costliest, by themselves


def parse(path: Path) -> tuple[str, Count]:
    """Name (empty between two operations) and counts of one dump, in the format of
    https://valgrind.org/docs/manual/cl-format.html.
    """
    names: dict[str, str] = {}
    alone: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    name, times, function, called, inclusive = "", 1, "", "", False
    for line in path.read_text().splitlines():
        if line.startswith("desc: Trigger: Client Request: "):
            number, _, name = line.removeprefix("desc: Trigger: Client Request: ").partition(":")
            times = int(number) if name else 1
        elif match := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?$", line):
            kind, identity, text = match.groups()
            if text:
                names[identity] = text
            if kind == "fn":
                function = names[identity]
            else:
                called = names[identity]
        elif line.startswith("calls="):
            calls[called] += int(line.split()[0].removeprefix("calls="))
            inclusive = True  # the next line is what the called function cost
        elif re.match(r"[+\-*\d]", line):
            if not inclusive:
                alone[function] += int(line.split()[1])
            inclusive = False
    allocations = sum(count for called, count in calls.items() if ALLOCATORS.fullmatch(called.partition("'")[0]))
    functions = {function: round(cost / times, 1) for function, cost in alone.most_common(TOP)}
    counted = sum(cost for function, cost in alone.items() if not LOOKUPS.fullmatch(function.partition("'")[0]))
    return name, Count(round(counted / times, 1), round(allocations / times, 2), functions)


def toolchain() -> dict[str, str]:
    """What instruction counts depend on besides the code."""
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    import numpy

    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
    ).split()
    libc = " ".join(platform.libc_ver())
    return {
        "cpu": " ".join(feature for feature in CHOOSING if feature in flags),
        "python": platform.python_version(),
        "compiler": compiler,
        "libc": libc,
        "numpy": numpy.__version__,
        "valgrind": valgrind,
    }


def measure(folder: Path) -> dict[str, Count]:
    """Runs operations.py under callgrind."""
    here = Path(__file__).parent
    marks = folder / "marks.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", here / "callgrind_marks.c", "-o", marks], check=True)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
    command += [sys.executable, str(here / "operations.py"), str(marks), str(folder)]
    fixed = {"MMSB_DISABLE_CPU": "avx512", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **fixed}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    return {name: count for name, count in map(parse, dumps) if name}


def compare(counted: dict[str, Count], recorded: dict[str, dict]) -> list[str]:
    """What grew beyond the tolerance, and by which functions; operations that one side lacks."""
    grown = [f"{name}: not in {RECORD}; record it" for name in counted if name not in recorded]
    grown += [f"{name}: recorded, but not counted any more" for name in recorded if name not in counted]
    for name, now in counted.items():
        before = recorded.get(name)
        if before is None:
            continue
        more = now.instructions - before["instructions"]
        if more > max(TOLERANCE * before["instructions"], SLACK_INSTRUCTIONS):
            by = {function: cost - before["functions"].get(function, 0) for function, cost in now.functions.items()}
            worst = sorted(by, key=lambda function: -by[function])[:3]
            ratio = now.instructions / before["instructions"] - 1
            which = ", ".join(f"{function} +{by[function]:,.0f}" for function in worst if by[function] > 0)
            grown.append(f"{name}: {before['instructions']:,.0f} -> {now.instructions:,.0f} (+{ratio:.1%}): {which}")
        if now.allocations > before["allocations"] * (1 + TOLERANCE) + 0.5:
            grown.append(f"{name}: {before['allocations']} -> {now.allocations} allocations")
    return grown


def show(counted: dict[str, Count], recorded: dict[str, dict]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="instructions per operation (callgrind, without AVX-512)")
    for column in ("operation", "instructions", "recorded", "change", "allocations", "costliest function"):
        table.add_column(column, justify="left" if column in ("operation", "costliest function") else "right")
    for name, now in counted.items():
        before = recorded.get(name, {}).get("instructions", 0)
        change = f"{now.instructions / before - 1:+.1%}" if before else "new"
        first = next(iter(now.functions))
        table.add_row(name, f"{now.instructions:,.0f}", f"{before:,.0f}", change, f"{now.allocations:g}", first[:50])
    Console(width=150).print(table)


def main() -> int:
    """Exit status 1: something grew, or the operations changed. 0: nothing did, or the toolchain is another one."""
    parser = argparse.ArgumentParser(prog="ci/callgrind", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counted = measure(Path(folder))
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"toolchain": {}, "operations": {}}
    tools = toolchain()
    if options.json:
        print(json.dumps({name: vars(count) for name, count in counted.items()}, indent=1))
    else:
        show(counted, record["operations"])
    if options.record:
        operations = {name: vars(count) for name, count in counted.items()}
        RECORD.write_text(json.dumps({"toolchain": tools, "operations": operations}, indent=1) + "\n")
        return 0
    if record["toolchain"] != tools:
        other = [f"{tool} {was} / {tools[tool]}" for tool, was in record["toolchain"].items() if tools[tool] != was]
        print(f"not compared: recorded with another toolchain ({', '.join(other)})", file=sys.stderr)
        return 0
    grown = compare(counted, record["operations"])
    for line in grown:
        print(line, file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
