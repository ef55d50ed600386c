"""Writing the package of a new plugin from the templates beside this file."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from mmsb import __version__
from mmsb.cli.common import registry

TEMPLATES = Path(__file__).parent / "templates"
NAME_MOST = 64  # characters; wheels and folders are named after it
TESTS = ("conftest", "test", "tests")  # of which pytest has its own idea
# One folder per kind; what all have in common is in a folder of its own.
COMMON = "common"
KINDS = sorted(folder.name for folder in TEMPLATES.iterdir() if folder.name != COMMON)


def write_package(into: Path, name: str, kind: str) -> Path:
    """Writes the folder `name` inside `into`. UsageError, and nothing made, for a bad name or a folder that exists."""
    from mmsb.plugin.registry import kinds

    package = package_name(name)
    plural = next(plural for plural, spec in kinds().items() if kind == spec.NOUN)
    taken = {"plugin": {record.name for record in registry().records}, kind: getattr(registry(), plural)}
    for noun, names in taken.items():
        if name in names:
            raise click.UsageError(f"There is a {noun} {name!r} already, and names must differ. Choose another.")
    # Ends in the kind: None, Policy and Loopback are other classes.
    class_name = "".join(part.capitalize() for part in (*package.split("_"), kind))
    version = ".".join(__version__.split(".")[:2])
    values = {"name": name, "package": package, "class_name": class_name, "kind": kind, "version": version}
    folder = into / name
    try:
        folder.mkdir()
    except FileExistsError:
        raise click.UsageError(f"{folder} exists. Remove it, or choose another name or --into.") from None
    try:
        for root in (TEMPLATES / COMMON, TEMPLATES / kind):
            for template in sorted(root.rglob("*.in")):
                relative = str(template.relative_to(root)).removesuffix(".in").replace("PACKAGE", package)
                target = folder / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(Template(template.read_text("utf-8")).substitute(values), "utf-8")
    except OSError:
        shutil.rmtree(folder)
        raise
    return folder


def package_name(name: str) -> str:
    """The module a plugin's name stands for. UsageError when it cannot be a name, or would hide another module."""
    from mmsb.plugin.types import NAME

    package = name.replace("-", "_")
    fits = NAME.fullmatch(name) and re.fullmatch(r"[a-z][a-z0-9_]*", package) and name[-1] not in "-_"
    if not fits or len(name) > NAME_MOST:
        advice = "Begin with a small letter, go on with small letters, digits, - and _, end with a letter or digit"
        raise click.UsageError(f"{name!r} cannot be the name of a plugin. {advice}, at most {NAME_MOST} in all.")
    if keyword.iskeyword(package) or package in {*sys.stdlib_module_names, *TESTS} or is_installed(package):
        raise click.UsageError(f"{name!r} is a word of Python, or the name of a module. Choose another name.")
    return package


def is_installed(package: str) -> bool:
    """Whether a module of this name can be imported; a mere folder is none."""
    try:
        found = find_spec(package)
    except ValueError:  # it is loaded, and does not say from where
        return True
    return found is not None and found.origin is not None
