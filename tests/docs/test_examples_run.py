"""Every Python block of the README and the guides runs, block after block of a page in one namespace."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/start.md",
    ROOT / "docs/guides/time-travel.md",
    ROOT / "docs/guides/processes.md",
    ROOT / "docs/guides/profile-a-plugin.md",
    ROOT / "docs/understand/graph.md",
    ROOT / "docs/understand/propagation.md",
    ROOT / "docs/understand/semirings.md",
    ROOT / "docs/understand/merge-pages.md",
    ROOT / "docs/plugins/semirings.md",
    ROOT / "docs/understand/events.md",
    ROOT / "docs/understand/policies.md",
    ROOT / "docs/plugins/write.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)


def test_every_error_is_documented():
    import mmsb

    text = (ROOT / "docs/reference/api.md").read_text()
    missing = [name for name in mmsb._ERRORS if f"`{name}`" not in text and name != "MMSBError"]
    assert not missing
