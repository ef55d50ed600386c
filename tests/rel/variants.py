"""A copy of the tree in which one line at a time is changed: what planted faults and mutants are run in.

Extensions of the copy are linked with csrc as a shared library, so a changed C file costs one compilation and one link,
and a changed Python file nothing. What compiles csrc by itself, or links the archive that a build leaves, finds the
change there too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.csrc import setup_flags
from tests.rel.programme import ROOT

OBJECTS = f"build/objects/{sysconfig.get_config_var('SOABI')}"
COPIED = ("csrc", "mmsb", "tests", "plugins", "examples", "ci", "docs", "setup.py", "pyproject.toml", OBJECTS)
KEPT_SECONDS = 7 * 86400  # an object that nobody has used for so long goes
BUILT_HERE = {"csrc", "libmmsb.a", "members", "lock"}


class VariantError(Exception):
    """The tree cannot be made, or a change does not fit it."""


@dataclass(frozen=True)
class Ended:
    """How a command in the tree ended. `status` None: it ran past its time."""

    status: int | None
    output: str


class Tree:
    """The copy, csrc compiled with `flags`. Not for two users at a time: each has a folder of its own."""

    def __init__(self, folder: Path, flags: tuple[str, ...] = ("-O1",), extra: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.extra = extra  # C files of the tree that the library has beside csrc
        self.objects = folder / "build/variant"
        # All copies share what they compile; but counters lie beside their object.
        self.kept = self.objects if "--coverage" in flags else ROOT / "build/rel/objects"
        self.library = folder / "mmsb/_core/libmmsb.so"  # where what belongs to mmsb is looked for
        self.archive = folder / OBJECTS / "libmmsb.a"
        visible = [flag for flag in setup_flags() if not flag.startswith("-fvisibility")]
        self.flags = flags
        self.compiler = [shutil.which("cc") or "gcc", *visible, *flags]
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}

    def prepare(self) -> None:
        """Brings the copy up to date, whatever an earlier use left in it. VariantError."""
        if not (ROOT / OBJECTS / "libmmsb.a").exists():
            raise VariantError("Nothing is built here: run python setup.py build_ext --inplace first.")
        wanted = {path: source for name in COPIED for path, source in files_below(ROOT / name, Path(name))}
        for path, source in wanted.items():
            target, status = self.folder / path, source.stat()
            if not target.exists() or stamp(target.stat()) != stamp(status):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copy2(source, target)
        for name in ("csrc", "mmsb", "tests"):
            for path, found in files_below(self.folder / name, Path(name)):
                if path not in wanted:
                    found.unlink()
        self.compile_all()
        self.link_extensions()

    # ---- the C library

    def compile_all(self) -> None:
        """Compiles what has changed since, and links both libraries anew."""
        self.objects.mkdir(parents=True, exist_ok=True)
        self.kept.mkdir(parents=True, exist_ok=True)
        headers = b"".join(path.read_bytes() for path in sorted((self.folder / "csrc").glob("*.h")))
        common = hashlib.sha256(headers + " ".join(self.compiler).encode()).hexdigest()

        def compile_one(source: Path) -> Path:
            name = hashlib.sha256(common.encode() + source.read_bytes()).hexdigest()[:16]
            done = self.kept / f"{source.stem}-{name}.o"
            if not done.exists():
                self.compile(source, self.objects / f"{source.stem}.new")
                (self.objects / f"{source.stem}.new").rename(done)
            os.utime(done)
            return done

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sources = [*sorted((self.folder / "csrc").glob("*.c")), *(self.folder / name for name in self.extra)]
            self.members = dict(zip((path.name for path in sources), pool.map(compile_one, sources), strict=True))
        for path in self.kept.glob("*.o"):
            if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink(missing_ok=True)
        self.link(self.members)

    def compile(self, source: Path, target: Path) -> None:
        """One C file of the tree. VariantError: it does not compile."""
        self.must([*self.compiler, "-fPIC", "-w", "-c", str(source.relative_to(self.folder)), "-o", str(target)])

    def link(self, members: dict[str, Path]) -> None:
        """The shared library, and the archive that others link."""
        self.library.unlink(missing_ok=True)  # never written in place: somebody may have it mapped
        names = [str(path) for path in members.values()]
        self.must([self.compiler[0], "-shared", *self.flags, *names, "-lpthread", "-o", str(self.library)])
        self.archive.unlink(missing_ok=True)
        self.must(["ar", "rcs", str(self.archive), *names])

    def link_extensions(self) -> None:
        """The Cython extensions, with the shared library instead of the archive."""
        linker = sysconfig.get_config_var("LDSHARED").split()
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for source in sorted((self.folder / "mmsb/_core").glob("*.pyx")):
            built = self.folder / OBJECTS / f"build/cython/mmsb/_core/{source.stem}.o"
            target = source.with_name(source.stem + suffix)
            if not built.exists():
                raise VariantError(f"{source.stem} is not built: run python setup.py build_ext --inplace first.")
            if not target.exists() or target.stat().st_mtime_ns < built.stat().st_mtime_ns or not linked(target):
                self.must(
                    [*linker, str(built), str(self.library), f"-Wl,-rpath,{self.library.parent}", "-o", str(target)]
                )

    def program(self, *sources: str) -> Path:
        """A C program of the tree, linked with the shared library. Named after its first source."""
        program = self.objects / Path(sources[0]).stem
        rpath = f"-Wl,-rpath,{self.library.parent}"
        self.must([*self.compiler, "-w", *sources, str(self.library), rpath, "-lpthread", "-o", str(program)])
        return program

    def must(self, command: list[str]) -> None:
        """Runs a command that must succeed. VariantError."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise VariantError(f"{' '.join(command[:3])} ...: {done.stderr[-2000:]}")

    # ---- changes

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """The tree with another text in one file of csrc or mmsb. VariantError: it does not compile."""
        path = self.folder / file
        before, times = path.read_bytes(), path.stat()
        path.write_text(text)
        try:
            if path.suffix == ".c":
                fresh = self.objects / "changed.obj"
                self.compile(path, fresh)
                self.link({**self.members, path.name: fresh})
            elif path.suffix != ".py":
                raise VariantError(f"{file}: only C and Python files can be changed here.")
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if path.suffix == ".c":
                self.link(self.members)

    def run(self, command: list[str], seconds: float, **environment: str) -> Ended:
        """Runs a command in the tree."""
        environment = {**self.environment, **environment}
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
                return Ended(process.returncode, output)
            except subprocess.TimeoutExpired:
                return Ended(None, "")
            finally:
                end_group(process.pid)

    def run_part(self, name: str, seconds: float, *, case: str | None = None, seed: int = 1) -> tuple[Ended, dict]:
        """Runs a part of the programme in quick size until its first failure; its tally, {} when it left none."""
        result = self.objects / "result.json"
        result.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.rel", "quick", name, "--first", "--seed", str(seed)]
        command += ["--result", str(result), *(["--case", case] if case is not None else [])]
        ended = self.run(command, seconds)
        return ended, json.loads(result.read_text())["tally"] if result.exists() else {}


def linked(extension: Path) -> bool:
    """Whether an extension asks for the shared library. One that was copied does not."""
    return b"libmmsb.so" in extension.read_bytes()


def stamp(status: os.stat_result) -> tuple[int, int]:
    """Changes when a file does."""
    return status.st_mtime_ns, status.st_size


def files_below(place: Path, name: Path) -> Iterator[tuple[Path, Path]]:
    """(name, path) of the files at or below a place that the copy needs."""
    if place.is_file():
        yield name, place
        return
    for folder, folders, files in os.walk(place):
        below = name / Path(folder).relative_to(place)
        left_out = {"__pycache__", *(BUILT_HERE if below.is_relative_to("build") else ())}
        folders[:] = [each for each in folders if each not in left_out]
        for each in files:
            if each not in left_out and not each.endswith(".so"):
                yield below / each, Path(folder, each)


def end_group(leader: int) -> None:
    """Ends what a command left running."""
    try:
        os.killpg(leader, 9)
    except ProcessLookupError:
        pass
