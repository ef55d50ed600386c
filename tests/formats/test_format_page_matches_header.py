"""docs/formats/log.md and csrc/log_format.h say the same."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_segment_header_offsets():
    header = dict(re.findall(r"#define (MMSB_SEGMENT_AT_\w+) (\d+)", (ROOT / "csrc/log_format.h").read_text()))
    page = re.findall(r"\| (\d+) \| `(MMSB_SEGMENT_AT_\w+)` \| (\d+) \|", (ROOT / "docs/formats/log.md").read_text())
    assert {name: offset for offset, name, _ in page} == header
    for (offset, _, size), (following, _, _) in zip(page, page[1:], strict=False):
        assert int(offset) + int(size) == int(following)


def test_change_kinds():
    header = re.findall(r"MMSB_CHANGE_(\w+) = (\d+)", (ROOT / "csrc/log_format.h").read_text())
    page = (ROOT / "docs/formats/log.md").read_text()
    for name, number in header:
        assert f"| {number} | {name} |" in page
