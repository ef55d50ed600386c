"""Builds and runs the C fuzz targets: with libFuzzer where clang has it, else with tests/fuzz/driver.c.

A target is a file beside this one with LLVMFuzzerTestOneInput. Its corpus is corpus/<target>/, and every input that
ever broke something is kept in regressions/<target>/. To look for more by hand:

    python -m tests.fuzz.engine segment -runs=1000000
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.csrc import ROOT, SOURCES, setup_flags

HERE = Path(__file__).parent
BUILD = ROOT / "build/fuzz"
# The longest input that is tried: long enough for a few frames or steps, and no longer, because speed counts.
TARGETS = {
    "command": 192,
    "delta": 96,
    "graph": 32,
    "index": 160,
    "link": 96,
    "record": 96,
    "replay": 160,
    "ring": 64,
    "segment": 128,
    "shared": 160,
}
# Adding zero to NULL is not looked for: every compiler makes of it what it seems to be, and C2y allows it.
CHECKED = ["-O2", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CLANG_ONLY = ["-fno-sanitize=pointer-overflow", "-Wno-gnu-zero-variadic-macro-arguments"]
# Blocks are small and short-lived: what ASan keeps of them costs more than it finds.
ASAN_OPTIONS = "quarantine_size_mb=1:thread_local_quarantine_size_kb=16:malloc_context_size=1:max_malloc_fill_size=0"


def compiles(command: list[str]) -> bool:
    """Whether a compiler makes a program with these flags."""
    source = "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d == 0 && n != 0; }"
    if "fuzzer" not in " ".join(command):
        source += " int main(void) { return 0; }"
    line = [*command, "-x", "c", "-", "-o", os.devnull]
    return subprocess.run(line, input=source, text=True, capture_output=True).returncode == 0


def toolchain() -> tuple[list[str], list[str], bool]:
    """(compiler and flags, what linking takes beside, whether it is libFuzzer). LookupError: there is no compiler."""
    flags = [flag for flag in setup_flags() if flag != "-O3"]
    for clang in ("clang", *(f"clang-{version}" for version in range(22, 13, -1))):
        path = shutil.which(clang)
        if path and compiles([path, *CHECKED, "-fsanitize=fuzzer"]):
            return [path, *flags, *CHECKED, *CLANG_ONLY, "-fsanitize=fuzzer-no-link"], ["-fsanitize=fuzzer"], True
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LookupError("there is no C compiler: install gcc, or clang for libFuzzer")
    checked = CHECKED if compiles([compiler, *CHECKED]) else ["-O2"]
    return [compiler, *flags, *checked], [str(HERE / "driver.c")], False


def compile_apart(command: list[str], source: Path, shared: bytes) -> Path:
    """The object of a source, made when there is none for these very bytes."""
    if source.stem.startswith("semiring"):  # thousands of lines for tables of types; which of them runs tells nothing
        command = [flag for flag in command if "fuzzer" not in flag]
    key = hashlib.sha256(b"\0".join([shared, source.read_bytes(), " ".join(command).encode()])).hexdigest()[:20]
    name = f"{source.parent.name}-{source.stem}"
    made = BUILD / f"{name}-{key}.o"
    if not made.exists():
        for old in BUILD.glob(f"{name}-{'?' * 20}.o"):
            old.unlink()
        aside = made.with_suffix(f".{os.getpid()}")
        done = subprocess.run([*command, "-c", str(source), "-o", str(aside)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        aside.rename(made)
    return made


def build(target: str) -> Path:
    """The program of a target; only what changed since is compiled."""
    command, linking, _ = toolchain()
    BUILD.mkdir(parents=True, exist_ok=True)
    headers = sorted((ROOT / "csrc").glob("*.h"))
    shared = b"".join(path.read_bytes() for path in headers)
    near = b"".join(path.read_bytes() for path in (*sorted(HERE.glob("*.h")), *sorted((ROOT / "tests/c").glob("*.h"))))
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: compile_apart(command, source, shared), SOURCES))
        objects.append(compile_apart(command, HERE / f"{target}.c", shared + near))
        program = BUILD / f"fuzz-{target}"
        line = [*command, *linking, *map(str, objects), "-lpthread", "-o", str(program)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
    return program


def corpora(target: str) -> list[str]:
    """The folders with the inputs of a target that are kept."""
    return [str(path) for path in (HERE / "corpus" / target, HERE / "regressions" / target) if path.is_dir()]


def run(
    target: str, arguments: list[str], on_count: Callable[[int], None] = lambda count: None
) -> tuple[int, int, list[str]]:
    """Runs a target: (status, executions, its last lines)."""
    options = {**os.environ, "ASAN_OPTIONS": ASAN_OPTIONS, "UBSAN_OPTIONS": "print_stacktrace=1"}
    executed, last = 0, []
    with subprocess.Popen(
        [str(build(target)), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=options
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("#") and (count := line[1:].split()[0]).isdigit():
                on_count(int(count))
                continue
            if line.startswith("stat::number_of_executed_units:"):
                executed = int(line.split()[-1])
            last = [*last[-60:], line.rstrip()]
    return process.returncode, executed, last


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    found = BUILD / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    program = build(name)
    arguments = [str(program), f"-max_len={TARGETS[name]}", *rest, str(found), *corpora(name)]
    os.execve(program, arguments, {**os.environ, "ASAN_OPTIONS": ASAN_OPTIONS})
