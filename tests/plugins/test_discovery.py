"""Plugins that work, and every way in which one can be broken: a record, and the others go on."""

import sys
import textwrap

import pytest

import mmsb
from mmsb.plugin import records
from mmsb.plugin.manager import PluginManager, load_commands

GOOD = """
from mmsb.plugin import CommandSpec, hookimpl
MMSB_API = 1
@hookimpl
def mmsb_commands():
    return [CommandSpec("hello", "Says hello.", "{name}_cli:hello")]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a fake distribution with one entry point; returns the manager that sees all of them."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def do(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text).replace("{name}", name))
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[mmsb]\n{name} = {name}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return do


def record_of(name):
    """What became of a plugin."""
    (record,) = [record for record in PluginManager().load().records if record.name == name]
    return record


def test_a_good_plugin(install):
    install("zz_good", GOOD)
    record = record_of("zz_good")
    assert (record.status, record.distribution, record.version) == (records.ACTIVE, "zz_good", "1.2")
    assert record.commands == ("hello",) and "hello" in {command.name for command in load_commands()}


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("raise RuntimeError('broken')", records.FAILED_IMPORT, "RuntimeError: broken"),
        ("import sys; sys.exit(3)", records.FAILED_IMPORT, "SystemExit"),
        ("import no_such_module", records.FAILED_IMPORT, "no_such_module"),
        ("x = 1", records.FAILED_VALIDATION, "MMSB_API"),
        (GOOD.replace("MMSB_API = 1", "MMSB_API = 99"), records.TOO_NEW, "99"),
        (GOOD.replace("MMSB_API = 1", "MMSB_API = 0"), records.TOO_OLD, "0"),
        (GOOD.replace("def mmsb_commands", "def mmsb_comands"), records.FAILED_VALIDATION, "mmsb_comands"),
        (GOOD.replace("return [", "return ['x'] or ["), records.FAILED_VALIDATION, "str"),
        (GOOD.replace('"hello",', '"Not A Name",'), records.FAILED_VALIDATION, "Not A Name"),
        (GOOD.replace("return [", "raise KeyError('late') or ["), records.FAILED_VALIDATION, "late"),
    ],
)
def test_a_broken_plugin_is_a_recorded_fact(install, monkeypatch, text, status, reason):
    install("zz_broken", text)
    install("zz_good", GOOD)
    record = record_of("zz_broken")
    assert record.status == status and reason in record.reason
    assert record_of("zz_good").status == records.ACTIVE
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", "1")
    with pytest.raises(mmsb.PluginError, match="zz_broken"):
        PluginManager().load()


def test_two_plugins_of_one_command(install):
    install("zz_a", GOOD)
    install("zz_b", GOOD)
    assert record_of("zz_a").status == records.ACTIVE
    assert record_of("zz_b").status == records.CONFLICT and "zz_a" in record_of("zz_b").reason


def test_allow_list(install, monkeypatch):
    install("zz_good", GOOD)
    monkeypatch.setenv("MMSB_PLUGINS", "other")
    assert record_of("zz_good").status == records.BLOCKED
    monkeypatch.setenv("MMSB_PLUGINS", "")
    assert load_commands() == []
    monkeypatch.setenv("MMSB_PLUGINS", "other, zz_good")
    assert record_of("zz_good").status == records.ACTIVE
