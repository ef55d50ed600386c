"""`mmsb plugins` and `mmsb plugins doctor`: tables, JSON, exit status."""

import json

import pytest
from click.testing import CliRunner

from mmsb.cli.app import commands
from mmsb.plugin.builtins import BUILT_IN


def run(*words, code=0):
    result = CliRunner().invoke(commands, words, prog_name="mmsb")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def several(install, good):
    """A plugin that works and two that do not."""
    install("zz_good", good)
    install("zz_broken", "raise RuntimeError('no licence \\x1b[2J')")
    install("zz_later", "MMSB_API = 99")


def test_the_list(several):
    lines = {line.split()[0]: line for line in run("plugins").stdout.splitlines()[2:]}
    assert [name for name in lines if name in BUILT_IN] == list(BUILT_IN)
    assert "active" in lines["zz_good"] and "command zz_good-hello" in lines["zz_good"]
    assert "failed-import" in lines["zz_broken"] and "RuntimeError: no licence" in lines["zz_broken"]
    assert "\x1b" not in lines["zz_broken"]
    assert "too-new" in lines["zz_later"] and "update mmsb" in lines["zz_later"]


def test_the_list_as_json(several):
    records = {record["name"]: record for record in json.loads(run("plugins", "--json").stdout)}
    assert records["zz_good"]["offers"] == [["commands", "zz_good-hello"]]
    assert records["zz_good"]["status"] == "active" and not records["zz_good"]["broken"]
    assert records["zz_broken"]["broken"] and "Traceback" in records["zz_broken"]["traceback"]
    assert (records["zz_broken"]["distribution"], records["zz_broken"]["version"]) == ("zz_broken", "1.2")


def test_doctor_of_one_that_works(several, tmp_path):
    (tmp_path / "site" / "zz_good_cli.py").write_text("import click\nhello = click.Command('hello')")
    output = run("plugins", "doctor", "zz_good").stdout
    for fact in ("active", "zz_good 1.2", str(tmp_path / "site" / "zz_good.py"), "mmsb_commands", "zz_good-hello"):
        assert fact in output
    (document,) = json.loads(run("plugins", "doctor", "zz_good", "--json").stdout)
    assert document["findings"] == [] and document["hooks"] == ["mmsb_commands"] and document["load_ns"] > 0


def test_doctor_of_one_whose_command_is_missing(several):
    output = run("plugins", "doctor", "zz_good", code=1).stdout
    assert "The command 'zz_good-hello' cannot be used: zz_good_cli:hello cannot be imported" in output


def test_doctor_of_one_that_is_broken(several):
    output = run("plugins", "doctor", "zz_broken", code=1).stdout
    assert "failed-import" in output and "Traceback (most recent call last):" in output and "\x1b" not in output


def test_doctor_of_one_that_is_not_there(several):
    assert "There is no plugin 'zz_none'" in run("plugins", "doctor", "zz_none", code=2).output


def test_doctor_of_one_that_is_blocked(several, monkeypatch):
    monkeypatch.setenv("MMSB_PLUGINS", "")
    assert "not named in MMSB_PLUGINS" in run("plugins", "doctor", "zz_broken").stdout


def test_doctor_finds_by_distribution_too(install, good):
    install("zz_dist", good, point="zz_point")
    assert "zz_point" in run("plugins", "doctor", "zz_dist", code=1).stdout


def test_doctor_opens_devices_and_passes_on_their_reasons(install):
    head = "from mmsb.builtin.loopback import Loopback\nfrom mmsb.plugin import DeviceBackendSpec, hookimpl\n"
    install(
        "zz_device",
        head
        + """
MMSB_API = 1
class Off(Loopback):
    def can_run(self, op): return "no driver"
class Missing(Loopback):
    def __init__(self): raise OSError("no such bus")
@hookimpl
def mmsb_devices():
    yield DeviceBackendSpec("zz-off", "Text.", Off)
    yield DeviceBackendSpec("zz-missing", "Text.", Missing)
""",
    )
    output = run("plugins", "doctor", "zz_device", code=1).stdout
    assert "the device zz-off cannot apply deltas: no driver" in output
    assert "the device zz-missing does not work: OSError: no such bus" in output
    assert run("plugins", "doctor", "builtin-loopback").stdout


def test_a_command_that_a_broken_plugin_may_have_offered(several):
    output = run("tropical", code=2).output
    assert "There is no command 'tropical'" in output and "zz_broken of zz_broken 1.2 is failed-import" in output


def test_strict_is_one_sentence_also_for_help(several, monkeypatch):
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", "1")
    for words in (["--help"], ["tropical"]):
        assert "Error: Plugin zz_broken of zz_broken 1.2 is failed-import" in run(*words, code=2).output
    run("cpu")
    assert (
        "zz_broken" in run("plugins").stdout and "failed-import" in run("plugins", "doctor", "zz_broken", code=1).stdout
    )
