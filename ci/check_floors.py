"""Holds every #include, import and cimport to the directions written in ci/floors.toml.

Usage: python ci/check_floors.py [root]     exit status 1 when a line points the wrong way
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

WHERE = "ci/floors.toml"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(?P<base>[.\w]+)\s+)?c?import\s+(?P<names>[\w., ()*]+)")
CYTHON_EXTERN = re.compile(r'^\s*cdef\s+extern\s+from\s+"')


class Import(NamedTuple):
    """One import in a file: the absolute module it names, and whether it only serves type checkers."""

    line: int
    target: str
    typing_only: bool = False


class Floors:
    """Names of one language and their height: (floor, place on the floor)."""

    def __init__(self, floors: list[dict[str, Any]], key: str) -> None:
        self.names = [floor["name"] for floor in floors]
        self.rows = [(name, height, i) for height, floor in enumerate(floors) for i, name in enumerate(floor[key])]
        seen = [name for name, _, _ in self.rows]
        twice = {name for name in seen if seen.count(name) > 1}
        if twice:
            raise SystemExit(f"{WHERE}: named twice: {', '.join(sorted(twice))}")

    def find(self, name: str) -> tuple[int, int] | None:
        """Height of a name: an exact row first, then the longest pattern that matches."""
        rows = [row for row in self.rows if row[0] == name] or [row for row in self.rows if fnmatchcase(name, row[0])]
        return max(rows, key=lambda row: len(row[0]))[1:] if rows else None


def check_c(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """#include directions in csrc, and circles among its headers."""
    floors = Floors(rules["floor"], "files")
    files = sorted((root / "csrc").glob("*.[ch]"))
    graph: dict[str, set[str]] = {}
    for path in files:
        here = floors.find(path.stem)
        if here is None:
            yield f"csrc/{path.name}: unknown file; add {path.stem!r} to a [[c.floor]] of {WHERE}"
            continue
        for number, text in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(text)
            if not match:
                continue
            header = Path(match[1]).stem
            there = floors.find(header)
            place = f"csrc/{path.name}:{number}"
            if there is None:
                yield f"{place}: includes unknown {match[1]}; add {header!r} to a [[c.floor]] of {WHERE}"
            elif there[0] > here[0]:
                yield f"{place}: {floors.names[here[0]]} includes {match[1]} of {floors.names[there[0]]}"
            if header in rules["rules"]["never_included"] and header != path.stem:
                yield f"{place}: nothing includes {match[1]} but its own .c file"
            if path.suffix == ".h":
                graph.setdefault(path.stem, set()).add(header)
    yield from (f"csrc: headers include each other in a circle: {' -> '.join(loop)}" for loop in circles(graph))


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Circles of a directed graph, each once."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> Iterator[list[str]]:
        if node in trail:
            yield [*trail[trail.index(node) :], node]
        elif node not in done:
            for following in sorted(graph.get(node, ())):
                yield from walk(following, [*trail, node])
            done.add(node)

    for start in sorted(graph):
        yield from walk(start, [])


def module_name(root: Path, path: Path) -> str:
    """Dotted name of a source file below root."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute(module: str, is_package: bool, level: int, name: str) -> str:
    """The absolute form of a relative import made by `module`."""
    if level == 0:
        return name
    parts = module.split(".")
    base = parts[: len(parts) - level + is_package]
    return ".".join([*base, *([name] if name else [])])


def spread(root: Path, base: str, names: list[str]) -> Iterator[str]:
    """`from base import names`: a submodule where one exists, else base itself."""
    folder = root / Path(*base.split("."))
    for name in names:
        is_module = any((folder / f"{name}{end}").exists() for end in (".py", ".pyx", ".pxd", ".pyi", "/__init__.py"))
        yield f"{base}.{name}" if is_module else base


def is_typing_guard(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def python_imports(root: Path, path: Path, tree: ast.Module) -> Iterator[Import]:
    """Every import statement of a Python file, also those inside functions."""
    module, is_package = module_name(root, path), path.stem == "__init__"
    guarded = {id(inner) for node in ast.walk(tree) if is_typing_guard(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, id(node) in guarded)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, is_package, node.level, node.module or "")
            for target in spread(root, base, [alias.name for alias in node.names]):
                yield Import(node.lineno, target, id(node) in guarded)


def cython_imports(root: Path, path: Path) -> Iterator[Import]:
    """Import and cimport lines of a .pyx or .pxd file."""
    module = module_name(root, path)
    for number, text in enumerate(path.read_text().splitlines(), 1):
        match = CYTHON_IMPORT.match(text)
        if not match:
            continue
        names = [name.split()[0] for name in match["names"].strip("() ").split(",") if name.split()]
        if match["base"] is None:
            yield from (Import(number, name) for name in names)
        else:
            level = len(match["base"]) - len(match["base"].lstrip("."))
            base = absolute(module, False, level, match["base"].lstrip("."))
            yield from (Import(number, target) for target in spread(root, base, names))


def attribute_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Dotted attribute accesses of a Python file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def matches(name: str, patterns: list[str]) -> bool:
    """Whether a dotted name, or the package it lies in, is among the patterns."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def inside(target: str) -> str | None:
    """Name of a module below mmsb ("" for mmsb itself), or None when it is not ours."""
    return target[5:] if target.startswith("mmsb.") else "" if target == "mmsb" else None


def check_only(place: str, own: str, target: str, rules: dict[str, Any]) -> Iterator[str]:
    """The [[python.only]] rules for one import; `own` is the importing module below mmsb."""
    for rule in rules["only"]:
        if matches(target, rule["imports"]) and not matches(own, rule["in"]):
            yield f"{place}: imports {target}: {rule['why']}"


class Core:
    """The rules for files below mmsb/."""

    def __init__(self, root: Path, rules: dict[str, Any]) -> None:
        self.root, self.rules = root, rules
        self.floors = Floors(rules["floor"], "modules")

    def height(self, name: str) -> tuple[int, int] | None:
        """Height of mmsb.<name>: its own, else that of its first part."""
        return self.floors.find(name) or self.floors.find(name.split(".")[0])

    def check(self, path: Path) -> Iterator[str]:
        """Every rule for one file."""
        own = inside(module_name(self.root, path)) or ""
        shown = str(path.relative_to(self.root))
        here = self.height(own)
        if here is None:
            yield f"{shown}: unknown module; add {own.split('.')[0]!r} to a [[python.floor]] of {WHERE}"
            return
        if path.suffix in (".pyx", ".pxd"):
            imports = cython_imports(self.root, path)
            yield from self.check_extern(path, shown)
        else:
            tree = ast.parse(path.read_text(), shown)
            imports = python_imports(self.root, path, tree)
            for line, name in attribute_reads(tree):
                for rule in self.rules["attribute"]:
                    if name in rule["names"] and not matches(own, rule["in"]):
                        yield f"{shown}:{line}: reads {name}: {rule['why']}"
        for line, target, typing_only in imports:
            yield from check_only(f"{shown}:{line}", own, target, self.rules)
            if not (typing_only and self.rules["rules"]["typing_may_point_up"]):
                yield from self.check_direction(f"{shown}:{line}", own, here, target)

    def check_direction(self, place: str, own: str, here: tuple[int, int], target: str) -> Iterator[str]:
        """One import of ours must go down, or back along its own floor."""
        name = inside(target)
        if name is None or name.split(".")[0] == own.split(".")[0]:
            return
        there = self.height(name)
        if there is None:
            yield f"{place}: imports unknown {target}; add it to a [[python.floor]] of {WHERE}"
        elif there > here:
            floors = f"{self.floors.names[here[0]]} -> {self.floors.names[there[0]]}"
            yield f"{place}: mmsb.{own} imports {target} against the order of {WHERE} ({floors})"

    def check_extern(self, path: Path, shown: str) -> Iterator[str]:
        """C declarations live in the extern files only."""
        if any(fnmatchcase(shown, pattern) for pattern in self.rules["rules"]["extern_files"]):
            return
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if CYTHON_EXTERN.match(text) and (self.root / "csrc" / text.split('"')[1]).exists():
                yield f"{shown}:{number}: extern declarations belong in {self.rules['rules']['extern_files'][0]}"


def check_plugin(root: Path, source: Path, path: Path, rules: dict[str, Any]) -> Iterator[str]:
    """A plugin package uses public names only, and no other plugin."""
    package = path.relative_to(source).parts[0]
    shown = path.relative_to(root)
    for line, target, _ in python_imports(source, path, ast.parse(path.read_text(), str(shown))):
        name = inside(target)
        allowed = rules["rules"]["plugins_may_import"]
        if name is not None and not any(name == one or (one and name.startswith(f"{one}.")) for one in allowed):
            yield f"{shown}:{line}: a plugin imports {target}; allowed: {allowed}"
        if target.split(".")[0] != package:
            yield from check_only(f"{shown}:{line}", f"plugin {package}", target, rules)


def check_python(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """mmsb, plugins and ci."""
    core = Core(root, rules)
    for path in sorted((root / "mmsb").rglob("*.py*")):
        if path.suffix in (".py", ".pyx", ".pyi"):
            yield from core.check(path)
    for path in sorted((root / "mmsb").rglob("*.pxd")):
        yield from core.check(path)
    for source in sorted(root.glob("plugins/*/src")):
        for path in sorted(source.rglob("*.py")):
            yield from check_plugin(root, source, path, rules)
    for path in sorted((root / "ci").glob("*.py")):
        for line, target, _ in python_imports(root, path, ast.parse(path.read_text())):
            yield from check_only(f"ci/{path.name}:{line}", f"ci {path.stem}", target, rules)


def main() -> int:
    """Prints every violation; 1 when there is one."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    rules = tomllib.loads((root / WHERE).read_text())
    problems = [*check_c(root, rules["c"]), *check_python(root, rules["python"])]
    print("\n".join([*problems, f"check_floors: {len(problems)} problem(s)"]))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
