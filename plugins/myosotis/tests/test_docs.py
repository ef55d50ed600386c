"""What the guide shows runs, and what the reference lists is there."""

import re
from pathlib import Path

import pytest
from myosotis import Handle, Memory, errors

ROOT = Path(__file__).parent.parent
# The tests also run alone, against an installed package.
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not here")


def test_the_guide_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    exec("\n".join(blocks), {"__name__": "guide"})


def test_the_reference_names_every_member() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    internal = {"stage", "stage_all", "touch", "peek", "get", "known", "ids", "handle"}
    missing = {name for name in dir(Memory) if name[0] != "_"} - internal
    missing |= {name for name in dir(Handle) if name[0] != "_"}
    missing |= {name for name in dir(errors) if name.endswith(("Error", "Warning")) and name not in ("MMSBError",)}
    assert {name for name in missing if not re.search(rf"\b{name}\b", text)} == set()
