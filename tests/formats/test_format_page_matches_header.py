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


def test_command_kinds_and_sizes():
    header = (ROOT / "csrc/command.h").read_text()
    page = (ROOT / "docs/formats/commands.md").read_text()
    for name, number in re.findall(r"MMSB_COMMAND_(\w+) = (\d+),\n", header.split("mmsb_command_kind;")[0]):
        assert f"| {number} | {name} |" in page
    assert "sizeof(mmsb_command_head) == 48" in header and "| 48 | | source" in page
    assert "sizeof(mmsb_completion) == 40" in header and "| 40 | | facts" in page
    longest = int(re.search(r"MMSB_COMPLETION_BYTES_MAX (\d+)", header)[1])
    assert f"at most {longest - 40:,} bytes" in page
