"""The C programs of tests/c: with the library as it is built, and once more with the sanitizers.

checkkern: every level of every kernel against scalar, every length and alignment, with guard pages. checksemiring: the
levels of the semirings likewise. checklink: links in whole and in part against the model, hostile matrices, short
memory. checkring: command rings between threads and processes, killed and hostile clients. test_*: one part of csrc
each.
"""

from pathlib import Path

import pytest

from tests.csrc import run_program

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "tests/c").glob("*.c") if "int main(" in path.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("sanitized", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "sanitized"])
def test_program(tmp_path, tmp_path_factory, name, sanitized):
    base = tmp_path_factory.getbasetemp()
    run_program(name, tmp_path, base.parent if base.name.startswith("popen-gw") else base, sanitized)
