"""Mechanical style: file sizes, line length, leftovers, machine paths, symbols of the C library, headings of docs.

Usage: python ci/check_tidy.py [root]     exit status 1 on an error; warnings are printed and pass
Exceptions, with reasons, are in ci/tidy.toml.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOFT_LINES, HARD_LINES, LINE_COLUMNS = 400, 600, 120
SIZED = {".py", ".pyx", ".c", ".h"}
CODE = SIZED | {".pxd", ".pyi", ".sh", ".toml"}
# Written in pieces, so that this file passes its own checks.
LEFTOVERS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|\bbreak" r"point\(|\bpdb\.set_" r"trace\b")
CONFLICT = re.compile(r"^(?:<{7}|>{7}) ")
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root|home|Users)/[\w.]")
FLAGS = ["-std=c11", "-O1", "-ffp-contract=off", "-fno-pie", "-fno-strict-aliasing", "-w"]


def committed(root: Path) -> list[Path]:
    """Files that are or would be committed; every file when there is no repository."""
    if shutil.which("git") and (root / ".git").exists():
        listing = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
        return sorted(root / name for name in names if name and (root / name).is_file())
    skipped = {"build", "dist", ".venv", "__pycache__"}
    return sorted(path for path in root.rglob("*") if path.is_file() and not skipped & set(path.parts))


def text_of(path: Path) -> str | None:
    """Contents of a text file; None for a binary one."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def check_size(shown: str, lines: list[str], allowed: dict[str, str]) -> Iterator[str]:
    """The hard cap, unless a reason is on record; the soft one is a warning."""
    if len(lines) > HARD_LINES and shown not in allowed:
        yield f"{shown}: {len(lines)} lines, at most {HARD_LINES} (or a reason in ci/tidy.toml)"
    elif len(lines) > SOFT_LINES and shown not in allowed:
        yield f"warning: {shown}: {len(lines)} lines, better below {SOFT_LINES}"


def check_text(path: Path, shown: str, text: str, rules: dict[str, Any]) -> Iterator[str]:
    """Everything that can be said of one text file alone."""
    lines = text.splitlines()
    if path.suffix in SIZED:
        yield from check_size(shown, lines, rules["long_files"])
    if path.suffix in CODE and text and not text.endswith("\n"):
        yield f"{shown}: no newline at the end"
    for number, line in enumerate(lines, 1):
        place = f"{shown}:{number}"
        if MACHINE_PATH.search(line):
            yield f"{place}: path of one machine"
        if CONFLICT.match(line):
            yield f"{place}: conflict marker"
        if path.suffix not in CODE:
            continue
        if len(line) > LINE_COLUMNS:
            yield f"{place}: {len(line)} columns, at most {LINE_COLUMNS}"
        if line != line.rstrip() or "\t" in line:
            yield f"{place}: blanks at the end or a tab"
        if LEFTOVERS.search(line):
            yield f"{place}: leftover marker"


def check_docs(root: Path, files: list[Path]) -> Iterator[str]:
    """Each page of docs, and README, has exactly one title."""
    for path in files:
        if path.suffix == ".md" and (path.is_relative_to(root / "docs") or path.name == "README.md"):
            prose = re.sub(r"^ *(```|~~~).*?^ *\1", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
            titles = re.findall(r"^# ", prose, flags=re.MULTILINE)
            if len(titles) != 1:
                yield f"{path.relative_to(root)}: {len(titles)} titles, one wanted"


def check_stubs(root: Path, files: list[Path]) -> Iterator[str]:
    """Each .pyx has its .pyi beside it."""
    for path in files:
        if path.suffix == ".pyx" and not path.with_suffix(".pyi").exists():
            yield f"{path.relative_to(root)}: no .pyi stub beside it"


def compile_c(compiler: str, arguments: list[str], shown: str) -> str:
    """Runs the compiler; its complaint, or nothing."""
    result = subprocess.run([compiler, *FLAGS, *arguments], capture_output=True, text=True)
    return "" if result.returncode == 0 else f"{shown}: does not compile: {result.stderr.strip().splitlines()[:1]}"


def check_symbols(shown: str, listing: str, may_call: bool, may_keep: bool, pure: list[str]) -> Iterator[str]:
    """Exported, undefined and writable symbols of one object, from the output of nm."""
    for line in listing.splitlines():
        kind, name = line.split()[-2:]
        if kind in "dDbBC" and not may_keep:
            yield f"{shown}: {name} is a mutable global"
        if kind == "U" and not (may_call or name.startswith("mmsb_") or name in pure):
            yield f"{shown}: calls {name}; system calls live in the files named in ci/tidy.toml"
        if kind.isupper() and kind != "U" and not name.startswith("mmsb_"):
            yield f"{shown}: exports {name}, which does not start with mmsb_"


def check_library(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """Every header compiles alone; the objects of csrc keep to their symbols."""
    compiler, nm = shutil.which("cc"), shutil.which("nm")
    if compiler is None or nm is None:
        yield "warning: cc or nm is missing, csrc not checked"
        return
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        headers = sorted((root / "csrc").glob("*.h"))
        sources = sorted((root / "csrc").glob("*.c"))
        alone = [["-fsyntax-only", "-x", "c", str(header)] for header in headers]
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        steps = [["-c", str(source), "-o", str(target)] for source, target in zip(sources, objects, strict=True)]
        names = [f"csrc/{path.name}" for path in headers + sources]
        complaints = pool.map(lambda step: compile_c(compiler, *step), zip(alone + steps, names, strict=True))
        yield from filter(None, complaints)
        for target in filter(Path.exists, objects):
            listing = subprocess.run([nm, str(target)], check=True, capture_output=True, text=True).stdout
            may_call, may_keep = (target.stem in rules[rule] for rule in ("system_calls", "globals"))
            yield from check_symbols(f"csrc/{target.stem}.c", listing, may_call, may_keep, rules["pure"]["symbols"])


def main() -> int:
    """Prints every finding; 1 when one of them is an error."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    rules = tomllib.loads((root / "ci/tidy.toml").read_text())
    files = committed(root)
    findings: list[str] = []
    for path in files:
        text = text_of(path)
        if text is not None:
            findings += check_text(path, str(path.relative_to(root)), text, rules)
    findings += [*check_docs(root, files), *check_stubs(root, files), *check_library(root, rules)]
    errors = [finding for finding in findings if not finding.startswith("warning:")]
    print("\n".join([*findings, f"check_tidy: {len(errors)} error(s), {len(findings) - len(errors)} warning(s)"]))
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
