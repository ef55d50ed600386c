"""Command rings under fire (tests/c/checkring.c) and their protocol in every interleaving (tests/models/ring.pml)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.csrc import compiler_line, library, run

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/models/ring.pml"
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.slow
def test_two_thousand_clients_killed_in_the_middle(tmp_path):
    """400 rounds of checkring, of which tests/unit/test_c_programs.py runs a few: five kills each, beside the rest."""
    run(
        [*compiler_line(False), ROOT / "tests/c/checkring.c", library(tmp_path, False), "-lpthread", "-o", "ring"],
        tmp_path,
    )
    run(["./ring", 400], tmp_path)


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
