"""Each hook has a page with its signature and the fields of its result, a line in the index, and a test."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import mmsb.testing
from mmsb.plugin import hookspecs, records
from mmsb.plugin.registry import kinds

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "hooks"


@pytest.mark.parametrize("kind", kinds())
def test_the_page_says_what_the_specification_says(kind):
    page = (PAGES / f"{kind}.md").read_text()
    hook, result = getattr(hookspecs, f"mmsb_{kind}"), kinds()[kind]
    assert not inspect.signature(hook).parameters
    assert page.startswith(f"# mmsb_{kind}\n\n`mmsb_{kind}() -> Iterable[{result.__name__}]`\n")
    fields = re.findall(rf"field of `{result.__name__}`.*?\n\n", page, re.S)[0]
    assert re.findall(r"^\| `(\w+)` \|", fields, re.M) == [field.name for field in dataclasses.fields(result)]


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_the_page_lists_the_members_of_the_protocol(kind):
    protocol = getattr(kinds()[kind], "MAKES", None)
    page = (PAGES / f"{kind}.md").read_text()
    for name, member in vars(protocol).items() if protocol else ():
        if inspect.isfunction(member) and not name.startswith("_"):
            arguments = ", ".join(str(p).split(":")[0] for p in list(inspect.signature(member).parameters.values())[1:])
            assert re.search(rf"`{name}\({re.escape(arguments)}", page.replace("=0)", ")")), f"{name}({arguments})"


def test_there_is_a_page_for_each_hook_and_no_other():
    assert {path.stem for path in PAGES.glob("*.md")} == {"index", *kinds()}
    listed = re.findall(r"^\| \[mmsb_(\w+)\]\((\w+)\.md\)", (PAGES / "index.md").read_text(), re.M)
    assert listed == [(kind, kind) for kind in kinds()]


@pytest.mark.parametrize("kind", kinds())
def test_each_hook_has_a_test(kind):
    assert f"def test_hook_mmsb_{kind}(" in (ROOT / "tests" / "hooks" / f"test_hook_{kind}.py").read_text()


def test_every_kit_and_every_status_is_documented():
    pages = [*PAGES.glob("*.md"), ROOT / "docs/plugins/write.md"]
    text = "".join(page.read_text() for page in pages)
    assert not [name for name in mmsb.testing.__all__ if name not in text]
    statuses = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs/plugins/when-it-fails.md").read_text(), re.M)
    assert tuple(statuses) == records.STATUSES
