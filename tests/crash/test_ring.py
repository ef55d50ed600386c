"""Command rings under fire (tests/c/checkring.c) and their protocol in every interleaving (tests/models/ring.pml)."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/models/ring.pml"
COMPILER = shutil.which("cc") or shutil.which("gcc")
# What of csrc a ring and a core need.
USED = (
    "ring command core arena memory alloc batch merge frame segment clock cpu kernels delta crc32c io status wave graph"
)
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.parametrize(
    ("flags", "rounds"),
    [
        pytest.param([], 5, id="plain"),
        pytest.param([], 400, id="two-thousand-kills", marks=pytest.mark.slow),
        pytest.param(SANITIZED, 20, id="sanitized", marks=pytest.mark.slow),
    ],
)
def test_c_harness(tmp_path, flags, rounds):
    """Two threads, two processes, clients killed mid-command, hostile clients, malformed records."""
    program = tmp_path / "checkring"
    sources = [path for path in sorted((ROOT / "csrc").glob("*.c")) if path.stem.split("_")[0] in USED.split()]
    command = [COMPILER, "-std=c11", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-pthread", *flags]
    built = subprocess.run(
        [*command, ROOT / "tests/c/checkring.c", *sources, "-o", program], capture_output=True, text=True
    )
    if built.returncode != 0 and flags and "asan" in built.stderr:
        pytest.skip("the compiler has no sanitizer runtime")
    assert built.returncode == 0, built.stderr
    result = subprocess.run([program, str(rounds)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr


def run_model(folder, bug):
    """Every interleaving of the model, with one mistake planted (0: none). What spin's checker says."""
    if shutil.which("spin") is None:
        pytest.skip("spin is not installed, so the model of the ring is not checked (Debian: apt install spin)")
    subprocess.run(["spin", f"-DBUG={bug}", "-a", MODEL], cwd=folder, check=True, capture_output=True)
    subprocess.run([COMPILER, "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"], cwd=folder, check=True)
    result = subprocess.run(["./pan", "-m100000"], cwd=folder, check=True, capture_output=True, text=True)
    assert "max search depth too small" not in result.stdout
    return result.stdout


def test_the_protocol_holds_in_every_interleaving(tmp_path):
    """No lost wake-up, no half-written record, first in first out, each command acknowledged once; also when killed."""
    assert "errors: 0" in run_model(tmp_path, 0)


@pytest.mark.parametrize("bug", range(1, 8))
def test_the_model_finds_a_planted_mistake(tmp_path, bug):
    assert "errors: 1" in run_model(tmp_path, bug)
