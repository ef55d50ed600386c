"""The protocols between processes, in every interleaving: the models beside this file, checked by spin."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
# Of each model: how many mistakes can be planted in it.
MODELS = {"ring": 7, "pages": 8}


def check(folder, model, bug):
    """Every interleaving of a model, with one mistake planted (0: none). What spin's checker says."""
    if shutil.which("spin") is None:
        pytest.skip("spin is not installed, so the models are not checked (Debian: apt install spin)")
    subprocess.run(["spin", f"-DBUG={bug}", "-a", HERE / f"{model}.pml"], cwd=folder, check=True, capture_output=True)
    subprocess.run([COMPILER, "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"], cwd=folder, check=True)
    result = subprocess.run(["./pan", "-m100000"], cwd=folder, check=True, capture_output=True, text=True)
    assert "max search depth too small" not in result.stdout
    return result.stdout


@pytest.mark.parametrize("model", MODELS)
def test_it_holds_in_every_interleaving(tmp_path, model):
    """Also when one side is killed at any step; the head of each model says what is checked."""
    assert "errors: 0" in check(tmp_path, model, 0)


@pytest.mark.parametrize(("model", "bug"), [(model, bug + 1) for model in MODELS for bug in range(MODELS[model])])
def test_a_planted_mistake_is_found(tmp_path, model, bug):
    assert "errors: 1" in check(tmp_path, model, bug)


@pytest.mark.parametrize("model", MODELS)
def test_every_mistake_of_a_model_is_planted(model):
    text = (HERE / f"{model}.pml").read_text()
    assert f"-DBUG=1..{MODELS[model]} " in text
    assert all(f"BUG == {n}" in text or f"BUG != {n}" in text for n in range(1, MODELS[model] + 1))
