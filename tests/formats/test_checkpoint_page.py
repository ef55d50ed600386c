"""docs/formats/checkpoint.md and mmsb/checkpoint.py say the same."""

import re
from pathlib import Path

from mmsb.checkpoint import ANCHORED, BASE, BLOCK, BLOCK_BYTES, CHAIN_MOST, HEAD, HEAD_BYTES, MAGIC, VERSION

PAGE = (Path(__file__).parents[2] / "docs/formats/checkpoint.md").read_text()


def test_header():
    rows = [(int(at), int(size)) for at, size in re.findall(r"^\| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)]
    assert rows[0][0] == 0 and sum(rows[-1]) == HEAD_BYTES
    assert all(at + size == following for (at, size), (following, _) in zip(rows, rows[1:], strict=False))
    sizes = {"I": 4, "Q": 8}
    fields = [int(field[:-1]) if len(field) > 1 else sizes[field] for field in re.findall(r"\d+s|[IQ]", HEAD.format)]
    assert fields == [size for _, size in rows[: len(fields)]] and sum(fields) == HEAD.size == rows[len(fields)][0]


def test_constants():
    assert f"magic `{MAGIC.decode()}`" in PAGE and f"version, {VERSION}" in PAGE
    assert f"flags: {BASE} *base*" in PAGE and f"; {ANCHORED} *anchored*" in PAGE
    assert f"at most {CHAIN_MOST} files" in PAGE and BLOCK_BYTES == 1 << 20 and BLOCK.format == "<QQII"
