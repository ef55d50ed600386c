"""Native links against the literal model of the C harness."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["-O1"], id="plain"),
        pytest.param(["-O1", "-g", "-fsanitize=address,undefined"], id="sanitized", marks=pytest.mark.slow),
    ],
)
def test_c_harness(tmp_path, flags):
    """tests/c/checklink.c: whole and in part against the model, hostile matrices, short memory, guard pages."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    used = ("link", "semiring", "kernels", "delta", "crc32c", "cpu", "status", "alloc")
    sources = [path for path in sorted((ROOT / "csrc").glob("*.c")) if path.stem.split("_")[0] in used]
    program = tmp_path / "checklink"
    command = [compiler, "-std=c11", "-ffp-contract=off", *flags, ROOT / "tests/c/checklink.c", *sources]
    built = subprocess.run([*command, "-o", program], capture_output=True, text=True)
    if built.returncode != 0 and "-fsanitize" in str(flags) and "asan" in built.stderr:
        pytest.skip("the compiler has no sanitizer runtime")
    assert built.returncode == 0, built.stderr
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
