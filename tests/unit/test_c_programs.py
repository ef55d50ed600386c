"""The C programs of tests/c, compiled with the flags of setup.py, and once more with the sanitizers."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "tests/c").glob("test_*.c"))
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def setup_flags():
    """C_FLAGS of setup.py, which cannot be imported without building."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "C_FLAGS":
            return ast.literal_eval(node.value)
    raise LookupError("setup.py has no C_FLAGS")


@pytest.fixture(scope="module", params=["plain", pytest.param("sanitized", marks=pytest.mark.slow)])
def compiled(request, tmp_path_factory):
    """(compiler line, object files of csrc)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    folder = tmp_path_factory.mktemp(request.param)
    line = [compiler, *setup_flags(), "-Werror", *(SANITIZED if request.param == "sanitized" else [])]
    if request.param == "sanitized":
        (folder / "probe.c").write_text("int main(void) { return 0; }\n")
        probe = subprocess.run([*line, "probe.c", "-o", "probe"], cwd=folder, capture_output=True, text=True)
        if probe.returncode != 0:
            pytest.skip("the compiler has no sanitizer runtime")
    sources = sorted(str(path) for path in (ROOT / "csrc").glob("*.c"))
    built = subprocess.run([*line, "-c", *sources], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return line, sorted(str(path) for path in folder.glob("*.o"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(tmp_path, compiled, name):
    line, objects = compiled
    program = tmp_path / name
    source = str(ROOT / "tests/c" / f"{name}.c")
    built = subprocess.run([*line, source, *objects, "-o", str(program)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (tmp_path / "work").mkdir()
    result = subprocess.run([str(program), str(tmp_path / "work")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
