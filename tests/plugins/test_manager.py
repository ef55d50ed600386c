"""Plugins that work: discovery, records, the registry, allow list, conflicts, built-ins through the same door."""

import dataclasses
import subprocess
import sys
import types
from collections.abc import Iterable
from importlib.metadata import EntryPoint

import pytest

import mmsb
from mmsb.plugin import hookspecs, records
from mmsb.plugin.builtins import BUILT_IN
from mmsb.plugin.manager import PluginManager, installed
from mmsb.plugin.markers import hookspec
from mmsb.plugin.registry import kinds
from mmsb.plugin.types import MadeSpec, Spec


def test_a_good_plugin(install, record_of, good):
    install("zz_good", good)
    record = record_of("zz_good")
    assert (record.status, record.distribution, record.version) == (records.ACTIVE, "zz_good", "1.2")
    assert (record.module, record.hooks) == ("zz_good", ("mmsb_commands",))
    assert record.offers == (("commands", "zz_good-hello"),)
    assert record.load_ns > 0 and not record.broken and not record.slow
    assert PluginManager().load().commands["zz_good-hello"].summary == "Says hello."


def test_every_builtin_is_active_and_of_mmsb_itself():
    of_mmsb = PluginManager([]).load().records
    assert [(record.name, record.status) for record in of_mmsb] == [(name, records.ACTIVE) for name in BUILT_IN]
    assert {(record.distribution, record.version) for record in of_mmsb} == {("mmsb", mmsb.__version__)}


def test_kinds_come_from_the_hook_specifications():
    assert list(kinds()) == ["commands", "devices", "exporters", "policies", "semirings"]
    assert all(issubclass(result, Spec) for result in kinds().values())
    registry = PluginManager([]).load()
    assert {kind: type(getattr(registry, kind)).__name__ for kind in kinds()} == dict.fromkeys(kinds(), "mappingproxy")
    with pytest.raises(AttributeError, match="no kind of plugin"):
        registry.reasoners  # noqa: B018


@dataclasses.dataclass(frozen=True)
class CodecSpec(MadeSpec):
    NOUN = "codec"


def test_a_new_kind_is_one_hook_and_one_result(install, monkeypatch):
    def mmsb_codecs() -> Iterable[CodecSpec]: ...

    monkeypatch.setattr(hookspecs, "mmsb_codecs", hookspec(mmsb_codecs), raising=False)
    kinds.cache_clear()
    text = "from mmsb.plugin import hookimpl\nfrom zz_specs import CodecSpec\nMMSB_API = 1\n"
    install("zz_codec", text + "@hookimpl\ndef mmsb_codecs():\n    yield CodecSpec('rle', 'Runs.', print)\n")
    monkeypatch.setitem(sys.modules, "zz_specs", types.SimpleNamespace(CodecSpec=CodecSpec))
    try:
        registry = PluginManager().load()
        assert registry.codecs["rle"].factory is print
        with pytest.raises(mmsb.PluginError, match="There is no codec 'lz'"):
            registry.find("codecs", "lz")
    finally:
        kinds.cache_clear()


def test_the_registry_is_frozen():
    registry = PluginManager([]).load()
    with pytest.raises(TypeError):
        registry.policies["mine"] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.specs = {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.policies["lazy"].lossy = True
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.records[0].status = "active"


def test_importing_mmsb_and_opening_a_state_load_no_plugin():
    code = "import sys, mmsb; mmsb.open().close(); print([m for m in sys.modules if 'pluggy' in m or 'plugin' in m])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_installed_is_read_once():
    installed.cache_clear()
    assert installed() is installed()
    assert "immediate" in installed().policies


# ---- the allow list


def test_allow_list(install, record_of, good, monkeypatch):
    install("zz_good", good)
    monkeypatch.setenv("MMSB_PLUGINS", "other")
    assert record_of("zz_good").status == records.BLOCKED
    assert "zz_good" not in sys.modules
    monkeypatch.setenv("MMSB_PLUGINS", "other, zz_good")
    assert record_of("zz_good").status == records.ACTIVE
    monkeypatch.setenv("MMSB_PLUGINS", "")
    registry = PluginManager().load()
    assert {record.name for record in registry.records if record.status == records.ACTIVE} == set(BUILT_IN)
    with pytest.raises(mmsb.PluginError, match="blocked: not named in MMSB_PLUGINS"):
        registry.find("commands", "zz_good-hello")


def test_a_name_that_nothing_answers_to(install, record_of, good, monkeypatch):
    install("zz_good", good)
    monkeypatch.setenv("MMSB_PLUGINS", "zz_god")
    record = record_of("zz_god")
    assert record.broken and record.status == records.FAILED_IMPORT
    assert record.reason == "MMSB_PLUGINS names it, and it is not installed; is it zz_good?"
    assert record_of("zz_good").status == records.BLOCKED
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", "1")
    with pytest.raises(mmsb.PluginError, match="zz_god"):
        PluginManager().load()
    monkeypatch.setenv("MMSB_PLUGINS", f"zz_good,{min(BUILT_IN)}")
    assert not any(record.broken for record in PluginManager().load().records)


def test_strict_accepts_what_is_blocked(install, good, monkeypatch):
    install("zz_broken", "raise RuntimeError")
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", "1")
    with pytest.raises(mmsb.PluginError, match="zz_broken of zz_broken 1.2 is failed-import: RuntimeError") as caught:
        PluginManager().load()
    assert caught.value.plugin == "zz_broken" and caught.value.records[0].status == records.FAILED_IMPORT
    monkeypatch.setenv("MMSB_PLUGINS", "")
    PluginManager().load()


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_how_strictness_is_said(install, monkeypatch, value, strict):
    monkeypatch.setenv("MMSB_PLUGINS_STRICT", value)
    assert PluginManager().strict is strict


# ---- conflicts


def test_a_name_that_two_plugins_offer_is_nobodys(install, record_of, good):
    for name in ("zz_a", "zz_b"):
        install(name, good.replace("{name}-hello", "hello"))
    for mine, theirs in (("zz_a", "zz_b"), ("zz_b", "zz_a")):
        record = record_of(mine)
        assert record.status == records.CONFLICT
        assert record.reason == f"the command 'hello' is also offered by {theirs} of {theirs} 1.2"
    registry = PluginManager().load()
    assert "hello" not in registry.commands
    with pytest.raises(mmsb.PluginError, match=r"zz_a of zz_a 1.2 is conflict.*zz_b of zz_b 1.2 is conflict") as caught:
        registry.find("commands", "hello")
    assert [record.name for record in caught.value.records] == ["zz_a", "zz_b"]


def test_builtins_keep_their_names(install, record_of, good):
    install("zz_thief", good.replace("{name}-hello", "verify"))
    assert record_of("zz_thief").reason == "the command 'verify' is also offered by builtin-commands of mmsb " + (
        mmsb.__version__
    )
    assert PluginManager().load().commands["verify"].load == "mmsb.cli.verify:command"


def test_plugins_of_one_name(install, good):
    for name in ("zz_a", "zz_b"):
        install(name, good, point="zz_same")
    install("zz_c", good, point="builtin-policies")
    clashing = [record for record in PluginManager().load().records if record.status == records.CONFLICT]
    assert [(record.name, record.distribution, record.reason) for record in clashing] == [
        ("builtin-policies", "zz_c", "plugins of one name: one of mmsb itself"),
        ("zz_same", "zz_a", "plugins of one name: zz_same of zz_b 1.2"),
        ("zz_same", "zz_b", "plugins of one name: zz_same of zz_a 1.2"),
    ]
    assert not {"zz_a", "zz_b", "zz_c"} & set(sys.modules)


def test_a_distribution_that_is_there_twice_counts_once(install, record_of, good):
    install("zz_twice", good, version="1.0", folder="old")
    install("zz_twice", good, version="2.0", folder="new")
    assert (record_of("zz_twice").status, record_of("zz_twice").version) == (records.ACTIVE, "2.0")


def test_one_module_under_two_names_clashes_with_itself(install, record_of, good):
    install("zz_both", good, points="[mmsb]\nzz_one = zz_both\nzz_two = zz_both\n")
    assert record_of("zz_one").status == record_of("zz_two").status == records.CONFLICT


# ---- asking for what is not there


def test_asking_for_a_name_that_failed_quotes_the_record(install):
    install("zz_broken", "raise RuntimeError('no licence')")
    with pytest.raises(mmsb.PluginError) as caught:
        PluginManager().load().find("semirings", "tropical")
    assert "There is no semiring 'tropical'" in str(caught.value)
    assert "zz_broken of zz_broken 1.2 is failed-import: RuntimeError: no licence" in caught.value.reason


def test_asking_for_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        mmsb.PluginError, match=r"no plugin offers it\). Known: deferred, immediate, lazy, parallel\."
    ) as caught:
        PluginManager([]).load().find("policies", "eager")
    assert (caught.value.plugin, caught.value.records) == ("eager", ())


# ---- discovery


@pytest.mark.parametrize("damage", [b"[mmsb]\nno equals sign\n", b"\xff\xfe[mmsb]\nx = y\n"])
def test_damaged_entry_points_of_one_do_not_hide_the_others(install, record_of, good, damage):
    info = install("zz_damaged", good)
    (info / "entry_points.txt").write_bytes(damage)
    install("zz_good", good)
    assert record_of("zz_good").status == records.ACTIVE
    record = record_of("zz_damaged")
    assert record.status == records.FAILED_IMPORT and "entry points cannot be read" in record.reason


def test_missing_metadata(install, record_of, good):
    info = install("zz_bare", good)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz_bare\n")
    record = record_of("zz_bare")
    assert (record.status, record.version) == (records.ACTIVE, "?")


def test_order_of_installation_decides_nothing(install, good):
    points = []
    for name in ("zz_b", "zz_a"):
        install(name, good)
        points.append(EntryPoint(name, name, "mmsb"))
    names = [[record.name for record in PluginManager(order).load().records] for order in (points, points[::-1])]
    assert names[0] == names[1] == [*BUILT_IN, "zz_a", "zz_b"]
