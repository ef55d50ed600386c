"""docs/formats/shared.md, csrc/shared.h and mmsb/messages.py say the same."""

import re
from pathlib import Path

from mmsb import messages

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats/shared.md").read_text()
HEADER = (ROOT / "csrc/shared.h").read_text()


def test_offsets():
    header = dict(re.findall(r"#define (MMSB_\w+_AT_\w+) (\d+)", HEADER))
    page = re.findall(r"\| (\d+) \| `(MMSB_\w+_AT_\w+)` \| (\d+) \|", PAGE)
    assert {name: offset for offset, name, _ in page} == header
    for kind in ("MESSAGE", "ENTRY"):
        fields = [(int(offset), int(size)) for offset, name, size in page if name.startswith(f"MMSB_{kind}_")]
        assert [at for at, _ in fields[1:]] == [at + size for at, size in fields[:-1]]


def test_messages():
    assert messages.MAGIC.decode() in HEADER and f"#define MMSB_SHARED_LAYOUT {messages.LAYOUT}\n" in HEADER
    for name, number in re.findall(r"MMSB_MESSAGE_(\w+) = (\d+)", HEADER):
        assert getattr(messages, name) == int(number)
        assert f"| {number} {name} |" in PAGE
    assert messages.HEADER.size == 32 and messages.ENTRY.size == 24
