"""C programs of tests/c, linked with all of csrc: with the library that the build has left, or with the sanitizers."""

import ast
import fcntl
import os
import shlex
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "csrc").glob("*.c"))
LIBRARY = ROOT / f"build/objects/{sysconfig.get_config_var('SOABI')}/libmmsb.a"
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def setup_flags() -> list[str]:
    """C_FLAGS of setup.py, which cannot be imported without building."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "C_FLAGS":
            return list(ast.literal_eval(node.value))
    raise LookupError("setup.py has no C_FLAGS")


def compiler_line(sanitized: bool) -> list[str]:
    """The compiler and its flags."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    environment = shlex.split(os.environ.get("CFLAGS", ""))  # comes last, as in setup.py
    return [compiler, *setup_flags(), "-Werror", *(SANITIZED if sanitized else []), *environment]


def library(shared: Path, sanitized: bool) -> Path:
    """All of csrc, compiled once for all the processes that run tests: in `shared`, where the build's is not used."""
    headers = (ROOT / "csrc").glob("*.h")
    newest_ns = max(path.stat().st_mtime_ns for path in (*SOURCES, *headers))
    if not sanitized and LIBRARY.exists() and LIBRARY.stat().st_mtime_ns > newest_ns:
        return LIBRARY
    folder = shared / ("sanitized" if sanitized else "plain")
    folder.mkdir(exist_ok=True)
    archive, line = folder / "libmmsb.a", compiler_line(sanitized)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return archive
        if sanitized:
            (folder / "probe.c").write_text("int main(void) { return 0; }\n")
            if subprocess.run([*line, "probe.c", "-o", "probe"], cwd=folder, capture_output=True).returncode != 0:
                pytest.skip("the compiler has no sanitizer runtime")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda source: run([*line, "-c", source], folder), SOURCES))
        run(["ar", "rcs", archive, *sorted(folder.glob("*.o"))], folder)
    return archive


def run(command: list[object], folder: Path) -> None:
    """Runs a command that must succeed."""
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(str(part) for part in command)}\n{done.stdout}{done.stderr}"


def run_program(name: str, folder: Path, shared: Path, sanitized: bool) -> None:
    """Compiles tests/c/<name>.c into `folder` and runs it with an empty folder as its argument; it must succeed."""
    archive = library(shared, sanitized)
    run([*compiler_line(sanitized), ROOT / "tests/c" / f"{name}.c", archive, "-lpthread", "-o", folder / name], folder)
    (folder / "work").mkdir()
    run([folder / name, folder / "work"], folder)
