"""`mmsb plugins new`: what it writes passes its own tests, is found by mmsb, and bad names are refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mmsb
from mmsb.cli.app import commands
from mmsb.cli.scaffold import KINDS
from mmsb.plugin import records
from mmsb.plugin.manager import PluginManager
from mmsb.plugin.registry import kinds

ROOT = Path(mmsb.__file__).parents[1]


def new(name, kind, into, code=0):
    words = ["plugins", "new", "--kind", kind, "--into", str(into), "--", name]
    result = CliRunner().invoke(commands, words)
    assert result.exit_code == code, result.output
    return result.output


def test_there_are_templates_of_the_kinds_that_users_write():
    assert KINDS == ["command", "device", "policy", "semiring"]
    assert set(KINDS) < {spec.NOUN for spec in kinds().values()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass_as_generated(tmp_path, kind):
    assert "Next: cd" in new("zz-fresh", kind, tmp_path)
    folder = tmp_path / "zz-fresh"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_found_once_it_is_installed(tmp_path, kind, install, monkeypatch):
    new("zz-fresh", kind, tmp_path)
    folder = tmp_path / "zz-fresh"
    monkeypatch.syspath_prepend(str(folder / "src"))
    assert '[project.entry-points.mmsb]\nzz-fresh = "zz_fresh.plugin"\n' in (folder / "pyproject.toml").read_text()
    install("zz_dist", "", points="[mmsb]\nzz-fresh = zz_fresh.plugin\n")
    (record,) = [record for record in PluginManager().load().records if record.name == "zz-fresh"]
    assert record.status == records.ACTIVE, record.traceback
    assert [name for _, name in record.offers] == ["zz-fresh"]
    written = [path for path in folder.rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
    assert "$" not in "".join(path.read_text() for path in written)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Upper",
        "../up",
        "/tmp/x",
        "a/b",
        "a b",
        "a;rm",
        "$HOME",
        "-a",
        "_a",
        "a-",
        "3d",
        "a.b",
        "ä",
        "a\n",
        "x" * 65,
        "x" * 10_000,
    ],
)
def test_hostile_names_are_refused(tmp_path, name):
    before = sorted(tmp_path.parent.rglob("*"))
    assert "cannot be the name of a plugin" in new(name, "policy", tmp_path, code=2)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["class", "import", "json", "mmsb", "tests", "conftest", "numpy", "pytest", "sys"])
def test_names_that_would_hide_a_module_are_refused(tmp_path, name):
    assert "Choose another name" in new(name, "policy", tmp_path, code=2)
    assert not list(tmp_path.iterdir())


def test_names_that_are_taken_are_refused(tmp_path):
    assert "There is a policy 'lazy' already" in new("lazy", "policy", tmp_path, code=2)
    assert "There is a command 'verify' already" in new("verify", "command", tmp_path, code=2)
    assert "There is a plugin 'builtin-policies' already" in new("builtin-policies", "device", tmp_path, code=2)
    new("lazy", "device", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_also_classes(tmp_path, kind):
    for name in sorted({"none", "true", kind, "loopback", "policy", "match", "a--b", "src"}):
        new(name, kind, tmp_path, code=2 if (name, kind) == ("loopback", "device") else 0)
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
        assert not re.search(r"^class (\w+)\(\1\)", path.read_text(), re.M)


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    def mkdir(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        assert "Permission denied" in new("mine", "policy", tmp_path, code=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("into", ["nowhere", "file"])
def test_places_that_are_no_folders(tmp_path, into):
    (tmp_path / "file").touch()
    assert "Error: Invalid value for '--into'" in new("mine", "policy", tmp_path / into, code=2)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_never_touched(tmp_path, make):
    make(tmp_path / "mine")
    assert "exists" in new("mine", "policy", tmp_path, code=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def write_text(path, *arguments):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", write_text)
    assert "No space left on device" in new("mine", "policy", tmp_path, code=1)
    assert len(written) == 3 and not list(tmp_path.iterdir())
