"""Other builds of mmsb beside the normal one: with sanitizers, without optimisation, for other Pythons.

Each is a copy of the tree under build/rel, which is built again when what it was made of has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rel.programme import ROOT

HOME = ROOT / "build/rel/builds"
FOLDERS = ("mmsb", "tests", "docs", "examples")
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "csrc/*.[ch]", *(f"{name}/**/*" for name in FOLDERS))
LEFT = (".so", ".pyc")  # what other builds made


class MissingError(Exception):
    """This machine lacks something; says what, and how to get it."""


@dataclass(frozen=True)
class Build:
    """One build. `preload`: libraries of the compiler that its processes load first."""

    name: str
    cflags: str = ""
    ldflags: str = ""
    preload: Sequence[str] = ()
    python: Path = Path(sys.executable)

    @property
    def tree(self) -> Path:
        """Where it lies."""
        return HOME / self.name

    def environment(self) -> dict[str, str]:
        """For processes that import this build."""
        libraries = [library(name) for name in self.preload]
        given = {"PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        return os.environ | given | ({"LD_PRELOAD": ":".join(libraries)} if libraries else {})

    def run(self, arguments: Sequence[object], **options: str) -> subprocess.CompletedProcess[str]:
        """Runs its Python in its tree; `options` are added to the environment."""
        return subprocess.run(
            [str(argument) for argument in (self.python, "-W", "ignore", *arguments)],
            cwd=self.tree,
            env=self.environment() | options,
            capture_output=True,
            text=True,
            errors="replace",
        )

    def make(self) -> Build:
        """Brings the copy up to date. MissingError where this machine cannot."""
        self.tree.mkdir(parents=True, exist_ok=True)
        with (HOME / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = [copy(source, self.tree) for source in sources()]
            stamp = self.tree / "made"
            made_of = hashlib.sha256(repr((self.cflags, self.ldflags, str(self.python))).encode()).hexdigest()
            if any(changed) or not stamp.exists() or stamp.read_text() != made_of:
                stamp.unlink(missing_ok=True)
                flags = {"CFLAGS": self.cflags, "LDFLAGS": self.ldflags}
                command = [str(self.python), "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
                done = subprocess.run(command, cwd=self.tree, env=os.environ | flags, capture_output=True, text=True)
                if done.returncode != 0:
                    raise MissingError(f"{shlex.join(command)} failed in {self.tree}: {done.stderr[-400:]}")
                stamp.write_text(made_of)
        return self


def sources() -> list[Path]:
    """What a copy of the tree consists of."""
    paths = {path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file()}
    generated = {path for path in paths if path.suffix == ".c" and path.parent == ROOT / "mmsb/_core"}
    return sorted(path for path in paths - generated if not path.name.endswith(LEFT))


def copy(source: Path, tree: Path) -> bool:
    """Copies a file where the copy differs. Whether a build depends on it, and it did."""
    to = tree / source.relative_to(ROOT)
    if to.exists() and to.read_bytes() == source.read_bytes():
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)
    return source.suffix in (".c", ".h", ".pyx", ".pxd") or source.name == "setup.py"


def library(name: str) -> str:
    """A library of the compiler. MissingError when it has none."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if "/" not in found:
        raise MissingError(f"gcc has no {name}; install the sanitizers of gcc")
    return found


def python(version: str) -> Path:
    """A virtual environment of that Python with what mmsb needs. MissingError where there is no such Python."""
    home = HOME / f"python{version}"
    ready = home / "ready"
    if not ready.exists():
        places = [
            shutil.which(f"python{version}"),
            *Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"),
        ]
        for place in filter(None, places):
            # What stands on the path may be a stub that finds no Python behind it.
            if subprocess.run([place, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
                break
        else:
            raise MissingError(f"there is no Python {version}; install it, or put python{version} on the path")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([place, "-m", "venv", home], check=True, capture_output=True)
        import zstandard

        needed = [
            "setuptools",
            "cython",
            "blake3",
            "click",
            "numpy",
            "pluggy",
            "rich",
            f"zstandard=={zstandard.__version__}",
        ]
        done = subprocess.run([home / "bin/pip", "-q", "install", *needed], capture_output=True, text=True)
        if done.returncode != 0:
            raise MissingError(f"Python {version} cannot install what mmsb needs: {done.stderr[-300:]}")
        ready.touch()
    return home / "bin/python"
