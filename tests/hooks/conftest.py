"""Hooks are tested with the example of their page: what the docs say is what runs."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mmsb.plugin.manager import PluginManager

PAGES = Path(__file__).parents[2] / "docs" / "hooks"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """example(kind): the registry with the plugin that docs/hooks/<kind>.md shows, and the names it offers."""

    def do(kind):
        (block,) = re.findall(r"```python\n(.*?)```", (PAGES / f"{kind}.md").read_text(), re.S)
        (tmp_path / "zz_example.py").write_text(block)
        monkeypatch.syspath_prepend(str(tmp_path))
        registry = PluginManager([EntryPoint("zz_example", "zz_example", "mmsb")]).load()
        record = registry.records[-1]
        assert record.status == "active", record
        assert record.hooks == (f"mmsb_{kind}",)
        return registry, [name for _, name in record.offers]

    yield do
    sys.modules.pop("zz_example", None)
