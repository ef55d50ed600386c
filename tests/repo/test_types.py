"""What type checkers see of mmsb is what is there."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mmsb
import mmsb.testing

PROGRAM = """
import mmsb
from mmsb.testing import SemiringContract

def first(state: mmsb.State, page: mmsb.Page | None = None) -> int:
    page = page or state.create_page(8)
    delta: mmsb.Delta | None = page.write(b"x")
    try:
        return page.size + (delta.nbytes if delta is not None else 0)
    except mmsb.PageNotFoundError:
        raise mmsb.MMSBError("no page") from None

class MySemiring(SemiringContract): ...

reveal_type(mmsb.open())
reveal_type(first(mmsb.open()))
mmsb.open().at(1).write()
"""


@pytest.mark.parametrize("module", [mmsb, mmsb.testing])
def test_the_stub_names_what_the_module_gives(module):
    stub = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text())
    named = {}
    for line in stub.body:
        assert isinstance(line, ast.ImportFrom)
        for alias in line.names:
            assert alias.asname == alias.name  # else checkers take it for private
            named[alias.name] = line.module
    assert named.keys() == set(module.__all__)
    for name, home in named.items():
        assert getattr(import_module(home), name) is getattr(module, name)


def test_a_program_that_uses_mmsb_is_checked(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ["--strict", "--cache-dir", str(tmp_path / "cache"), "program.py"]
    result = subprocess.run([sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True)
    *lines, _ = result.stdout.splitlines()
    told = [line.partition(": ")[2] for line in lines]
    assert told == [
        'note: Revealed type is "mmsb.state.State"',
        'note: Revealed type is "int"',
        'error: "PastState" has no attribute "write"  [attr-defined]',
    ], result.stdout + result.stderr
