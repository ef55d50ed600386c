"""The fixtures that mmsb brings to every pytest."""

import subprocess
import sys
from pathlib import Path

import mmsb

ROOT = Path(mmsb.__file__).parents[1]
TESTS = """
import pytest
import mmsb

kept = []


def test_state(state):
    assert state.path is None and state.seq == 0
    state.create_page(8)
    kept.append(state)


def test_it_was_closed_and_the_next_is_fresh(state):
    assert kept[0].closed and state.seq == 0


def test_store(store, tmp_path):
    assert str(store.path) == str(tmp_path / "store.mmsb")
    store.create_page(8, name="a").write(b"kept")
    store.close()
    with mmsb.open(store.path) as again:
        assert again.page("a").read() == b"kept\\0\\0\\0\\0"
"""


def test_fixtures(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "mmsb.testing.pytest_plugin", "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "3 passed" in result.stdout, result.stdout + result.stderr
