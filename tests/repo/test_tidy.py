"""The checker of mechanical style, which ci/lint runs on the tree, can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIDY = "[long_files]\n[system_calls]\nalloc = 'heap'\n[globals]\n[pure]\nsymbols = ['memcpy']\n"


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "ci/check_tidy.py", root], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("mmsb/long.py", "x = 1\n" * 601, "601 lines"),
        ("mmsb/wide.py", "#" * 121 + "\n", "121 columns"),
        ("mmsb/left.py", "# TO" + "DO later\n", "leftover marker"),
        ("mmsb/path.py", "HERE = '/ho" + "me/someone/x'\n", "path of one machine"),
        ("mmsb/bare.pyx", "x = 1\n", "no .pyi stub"),
        ("docs/two.md", "# One\n\n# Two\n", "2 titles"),
        ("csrc/global.c", "int mmsb_counter;\n", "mutable global"),
        ("csrc/name.c", "int add(int a) { return a; }\n", "does not start with mmsb_"),
        ("csrc/call.c", "int rand(void);\nint mmsb_r(void) { return rand(); }\n", "calls rand"),
        ("csrc/open.h", "uint32_t mmsb_x(void);\n", "does not compile"),
    ],
)
def test_the_checker_finds(tmp_path: Path, name: str, text: str, complaint: str):
    for folder in ("ci", "csrc", "docs", "mmsb"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ci/tidy.toml").write_text(TIDY)
    assert run(tmp_path).returncode == 0
    (tmp_path / name).write_text(text)
    result = run(tmp_path)
    assert result.returncode == 1
    assert complaint in result.stdout


def test_code_fences_hold_no_titles(tmp_path: Path):
    for folder in ("ci", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ci/tidy.toml").write_text(TIDY)
    (tmp_path / "docs/page.md").write_text("# One\n\n```sh\n# a comment\n```\n")
    assert run(tmp_path).returncode == 0
