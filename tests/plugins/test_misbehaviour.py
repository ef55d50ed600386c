"""Every way in which a plugin can be broken: a clear record, and the core and the other plugins go on."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from click.testing import CliRunner

import mmsb
from mmsb.cli.app import commands
from mmsb.plugin import manager, records
from mmsb.plugin.manager import PluginManager

HEAD = "from mmsb.plugin import CommandSpec, SemiringSpec, hookimpl\nMMSB_API = 1\n"
HOOK = HEAD + "@hookimpl\ndef mmsb_commands():\n    "
SPEC = 'CommandSpec("x", "Text.", "a:b")'

IMPORT, INVALID = records.FAILED_IMPORT, records.FAILED_VALIDATION
CASES = {
    "raises at import": ("raise RuntimeError('broken')", IMPORT, "RuntimeError: broken"),
    "needs what is not there": ("import no_such_module", IMPORT, "No module named 'no_such_module'"),
    "does not compile": ("def :", IMPORT, "SyntaxError"),
    "calls sys.exit": ("import sys; sys.exit(3)", IMPORT, "SystemExit: 3"),
    "raises what is no Exception": ("raise BaseException('odd')", IMPORT, "odd"),
    "raises what cannot be printed": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        IMPORT,
        "Mute",
    ),
    "states no API": ("x = 1", INVALID, "does not state MMSB_API"),
    "states an odd API": ("MMSB_API = True", INVALID, "does not state MMSB_API"),
    "is for a newer API": ("MMSB_API = 99", records.TOO_NEW, "it is for API 99, this mmsb has 1; update mmsb"),
    "is for an older API": (
        "MMSB_API = 0",
        records.TOO_OLD,
        "it is for API 0, this mmsb has 1 to 1; update the plugin",
    ),
    "misspells a hook": (
        HEAD + "@hookimpl\ndef mmsb_semiring(): return []",
        INVALID,
        "mmsb_semiring is no hook; did you mean mmsb_semirings?",
    ),
    "misspells a hook it does not mark": (HEAD + "def mmsb_comands(): pass", INVALID, "did you mean mmsb_commands?"),
    "marks a function that is no hook": (HEAD + "@hookimpl\ndef other(): pass", INVALID, "other is no hook; there are"),
    "forgets the marker": (HEAD + "def mmsb_commands(): return []", INVALID, "not marked with @hookimpl"),
    "takes arguments that no hook has": (
        HEAD + "@hookimpl\ndef mmsb_commands(state): return []",
        INVALID,
        "PluginValidationError",
    ),
    "raises in its hook": (HOOK + "raise KeyError('late')", INVALID, "KeyError: 'late'"),
    "exits in its hook": (HOOK + "raise SystemExit(1)", INVALID, "SystemExit: 1"),
    "raises half way": (HOOK + f"yield {SPEC}; raise OSError('half')", INVALID, "OSError: half"),
    "returns nothing": (HOOK + "pass", INVALID, "mmsb_commands returned None"),
    "returns one spec bare": (HOOK + f"return {SPEC}", INVALID, "'CommandSpec' object is not iterable"),
    "returns text": (HOOK + "return ['x']", INVALID, "gave a str; it must give CommandSpecs"),
    "returns another kind": (
        HOOK + 'return [SemiringSpec("s", "Text.", "a:b", ("float64",))]',
        INVALID,
        "gave a SemiringSpec; it must give CommandSpecs",
    ),
    "offers one name twice": (HOOK + f"return [{SPEC}, {SPEC}]", INVALID, "offers the command 'x' 2 times"),
    "gives a bad name": (HOOK + 'return [CommandSpec("Not A Name", "T.", "a:b")]', INVALID, "name is 'Not A Name'"),
    "recurses without end": ("def again(): again()\nagain()", IMPORT, "RecursionError"),
    "has no memory": ("raise MemoryError", IMPORT, "MemoryError"),
    "raises pages of text": ("raise RuntimeError('first\\n' + 'x' * 10**6)", IMPORT, "RuntimeError: first xxx"),
    "gives API 1 as text": ("MMSB_API = '1'", INVALID, "does not state MMSB_API"),
    "has hostile attributes": (
        HEAD + "def __dir__(): return ['boom']\ndef __getattr__(name): raise OSError(name)",
        INVALID,
        "OSError: boom",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_plugin_is_a_recorded_fact(install, record_of, good, monkeypatch, case):
    text, status, reason = CASES[case]
    install("zz_broken", text)
    install("zz_good", good)
    record = record_of("zz_broken")
    assert record.status == status and record.broken
    assert reason in record.reason and len(record.reason) < 400
    assert (record.distribution, record.version) == ("zz_broken", "1.2")
    assert record_of("zz_good").status == records.ACTIVE
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", "1")
    with pytest.raises(mmsb.PluginError, match="zz_broken"):
        PluginManager().load()


def test_the_record_has_the_traceback(install, record_of):
    install("zz_broken", "def deep():\n    raise RuntimeError('broken')\ndeep()")
    lines = record_of("zz_broken").traceback.splitlines()
    assert "in deep" in lines[-2] or "in deep" in lines[-3]
    assert lines[-1] == "RuntimeError: broken"


def test_what_a_plugin_prints_stays_out_of_our_output(install, record_of, good, capsys):
    install("zz_loud", "print('noise')\n" + good.replace("return", "print('more noise'); return"))
    assert record_of("zz_loud").status == records.ACTIVE
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "noise\nmore noise\n"


def test_what_ends_the_process_can_be_kept_out(install, good):
    """os._exit, or a crash in C, is beyond any record; the allow list is the way out."""
    site = install("zz_deadly", "import os\nos._exit(7)").parent
    install("zz_good", good)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    words = [sys.executable, "-m", "mmsb", "plugins", "--json"]
    assert subprocess.run(words, env=environment, capture_output=True).returncode == 7
    environment["MMSB_PLUGINS"] = "zz_good"
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    status = {record["name"]: record["status"] for record in json.loads(done.stdout)}
    assert (status["zz_deadly"], status["zz_good"]) == (records.BLOCKED, records.ACTIVE)


def test_ctrl_c_is_the_users_and_passes_through(install):
    install("zz_interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        PluginManager().load()


def test_a_slow_plugin_works_and_is_called_slow(install, good, monkeypatch):
    clock = types.SimpleNamespace(now_ns=0)
    monkeypatch.setitem(sys.modules, "zz_time", clock)
    install("zz_slow", "import zz_time\nzz_time.now_ns += 10 * 10**9\n" + good)
    (record,) = [
        record
        for record in PluginManager(clock=lambda: clock.now_ns).load().records
        if record.distribution == "zz_slow"
    ]
    assert (record.status, record.load_ns, record.slow) == (records.ACTIVE, 10 * 10**9, True)


@pytest.mark.parametrize("name", ["Upper", "a b", "-a", "_a", "a;b", "..", "ä"])
def test_a_hostile_name_is_refused_before_the_import(install, name):
    install("zz_named", "raise RuntimeError('imported')", point=name)
    (record,) = [record for record in PluginManager().load().records if record.distribution == "zz_named"]
    assert (record.status, record.name) == (INVALID, name)
    assert record.reason == "its name may hold small letters, digits, - and _ only"


@pytest.mark.parametrize("value", ["no.such.module", "zz_target:", "zz_target:missing", "1 + 1", "os.path:join.x.y"])
def test_entry_points_that_lead_nowhere(install, record_of, value):
    install("zz_target", "x = 1", points=f"[mmsb]\nzz_target = {value}\n")
    assert record_of("zz_target").broken


def test_things_that_cannot_be_made_say_whose_they_are(install):
    install(
        "zz_things",
        HEAD.replace("CommandSpec,", "DeviceBackendSpec, CommandSpec,")
        + """
@hookimpl
def mmsb_devices():
    yield DeviceBackendSpec("zz-missing", "Text.", "no_such_module:Device")
    yield DeviceBackendSpec("zz-number", "Text.", "math:pi")
    yield DeviceBackendSpec("zz-empty", "Text.", object)
""",
    )
    devices = PluginManager().load().devices
    for name, reason in (
        ("zz-missing", "No module named 'no_such_module'"),
        ("zz-number", "math:pi is a float, which cannot be called"),
        ("zz-empty", "its factory made a object without allocate, apply_delta, can_run, download"),
    ):
        with pytest.raises(mmsb.PluginError, match=f"The device '{name}' cannot be used") as caught:
            devices[name].make()
        assert reason in caught.value.reason and caught.value.plugin == name


# Semirings whose module is fine, and which are not: name, ⊕, laws, what is said of them.
RINGS = """
import sys
import numpy
from mmsb import UfuncSemiring
from mmsb.plugin import SemiringSpec, hookimpl
MMSB_API = 1
def ring(name, add, **options):
    def factory(dtype):
        return UfuncSemiring(name, dtype, add, numpy.multiply, zero=0, one=1, domain=(0, 100), **options)
    return SemiringSpec(name, "Text.", factory, ("int32",))
@hookimpl
def mmsb_semirings():
    yield ring("zz-good", numpy.maximum, laws=["add-idempotent", "add-identity"])
    yield ring("zz-unlawful", numpy.add, laws=["add-idempotent"])
    yield ring("zz-short", lambda a, b: (a + b)[:1], laws=["add-commutative"])
    yield ring("zz-long", lambda a, b: numpy.append(a, b), laws=["add-commutative"])
    yield ring("zz-raising", lambda a, b: 1 // 0, laws=["add-commutative"])
    yield SemiringSpec("zz-exiting", "Text.", lambda dtype: sys.exit(3), ("int32",))
    yield SemiringSpec("zz-text", "Text.", lambda dtype: "a semiring", ("int32",))
"""
SAID = {
    "zz-unlawful": "zz-unlawful over int32 breaks add-idempotent, which it declares: of the numbers 1, ",
    "zz-short": "gave lanes of shape (1,) for operands of shapes",
    "zz-long": "for operands of shapes",
    "zz-raising": "ZeroDivisionError: integer division or modulo by zero",
    "zz-exiting": "it cannot be made (SystemExit: 3)",
    "zz-text": "its factory made a str without accumulate, add, domain",
}


@pytest.fixture
def rings(install, monkeypatch):
    """The plugin of RINGS, found by States too."""
    install("zz_rings", RINGS)
    manager.installed.cache_clear()
    yield
    manager.installed.cache_clear()


def test_the_doctor_tries_semirings(rings):
    result = CliRunner().invoke(commands, ["plugins", "doctor", "zz_rings", "--json"])
    (document,) = json.loads(result.stdout)
    assert result.exit_code == 1 and document["status"] == records.ACTIVE
    assert len(document["findings"]) == len(SAID)
    for finding, (name, said) in zip(document["findings"], SAID.items(), strict=True):
        assert name in finding and said in finding


@pytest.mark.parametrize("name", [name for name in SAID if name != "zz-unlawful"])
def test_a_semiring_that_gives_nonsense_changes_nothing(rings, name):
    with mmsb.open() as state:
        good = state.create_page(8, merge="zz-good", dtype="i4")
        if name in ("zz-exiting", "zz-text"):
            with pytest.raises(mmsb.PluginError, match=name):
                state.create_page(8, merge=name, dtype="i4")
            assert state.page_count == 1
        else:
            page = state.create_page(8, merge=name, dtype="i4")
            digest, seq = state.digest(), state.seq
            with pytest.raises(mmsb.MergePageError):
                page.write(np.ones(2, "i4"))
            assert (state.digest(), state.seq, page.read()) == (digest, seq, bytes(8))
        good.write(np.ones(2, "i4"))
        assert good.view("i4").tolist() == [1, 1]


@pytest.mark.parametrize("length", [0, 7, 9, 100])
def test_a_function_that_returns_a_page_of_another_size(length):
    with mmsb.open() as state:
        a, b, c = (state.create_page(8, name=name) for name in "abc")
        state.depend(c, on=a, link=mmsb.links.passthrough())
        state.depend(b, on=a, fn=lambda out, parent: bytes(length) if parent[0] else None)
        a.write(b"x")
        assert c.read() == a.read()
        with pytest.raises(mmsb.StalePageError, match=f"returned {length} bytes for a page of 8"):
            b.read()


POLICIES = (
    HEAD.replace("SemiringSpec", "PropagationPolicySpec")
    + """
import sys
@hookimpl
def mmsb_policies():
    yield PropagationPolicySpec("zz-raising", "Text.", lambda: 1 / 0)
    yield PropagationPolicySpec("zz-exiting", "Text.", sys.exit)
    yield PropagationPolicySpec("zz-text", "Text.", str)
"""
)


@pytest.mark.parametrize(
    ("name", "said"),
    [("zz-raising", "ZeroDivisionError"), ("zz-exiting", "SystemExit"), ("zz-text", "without after_c")],
)
def test_a_policy_that_cannot_be_made_leaves_the_one_there_is(install, name, said):
    install("zz_policies", POLICIES)
    manager.installed.cache_clear()
    try:
        with mmsb.open() as state:
            a, b = state.create_page(8), state.create_page(8)
            state.depend(b, on=a, link=mmsb.links.passthrough())
            with pytest.raises(mmsb.PluginError, match=said):
                state.policy = name
            a.write(b"goes on")
            assert b.read() == a.read()
    finally:
        manager.installed.cache_clear()
