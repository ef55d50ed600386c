"""Fake distributions: folders with a module and its dist-info, as an installer would leave them."""

import sys
import textwrap

import pytest

from mmsb.plugin.manager import PluginManager

GOOD = """
from mmsb.plugin import CommandSpec, hookimpl
MMSB_API = 1
@hookimpl
def mmsb_commands():
    return [CommandSpec("{name}-hello", "Says hello.", "{name}_cli:hello")]
"""


def forget():
    """Lets the fakes be imported anew; their names begin with zz_."""
    for module in [module for module in sys.modules if module.startswith("zz_")]:
        del sys.modules[module]


@pytest.fixture
def good():
    """The text of a plugin with nothing wrong, which offers the command `<its name>-hello`."""
    return GOOD


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, text): a distribution of that name, version 1.2; its entry point `point` is a module of that text.

    Only built-in plugins and what was installed here are found, besides what the environment of the test has.
    """
    monkeypatch.delenv("MMSB_PLUGINS", raising=False)
    monkeypatch.delenv("MMSB_PLUGINS_STRICT", raising=False)

    def do(name, text, point=None, version="1.2", folder="site", points=None):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(str(place))
        (place / f"{name}.py").write_text(textwrap.dedent(text).replace("{name}", name))
        info = place / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points or f"[mmsb]\n{point or name} = {name}\n")
        return info

    yield do
    forget()


@pytest.fixture
def record_of(install):
    """record_of(name): what became of a plugin; loads all of them."""

    def do(name, **options):
        forget()
        (record,) = [record for record in PluginManager(**options).load().records if record.name == name]
        return record

    return do
