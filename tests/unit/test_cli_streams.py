"""The command line with standard streams that take less than text: closed, full, of another encoding."""

import json
import os
import subprocess
import sys

import pytest

import mmsb


@pytest.fixture
def store(tmp_path):
    with mmsb.open(tmp_path / "world.mmsb") as state:
        state.create_page(24, name="screen").write(bytes(range(24)))
    return tmp_path / "world.mmsb"


def test_names_that_the_terminal_cannot_write(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(1, name="\u65e5")
    words, environment = ["-m", "mmsb", "pages", tmp_path / "s"], os.environ | {"PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "\\u65e5" in result.stdout and result.stdout.isascii()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk(store, unbuffered):
    words, environment = [sys.executable, "-m", "mmsb", "info", store], os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        result = subprocess.run(words, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


def test_output_of_a_closed_pipe(store):
    result = subprocess.run(
        f"{sys.executable} -m mmsb log {store} --json | head -n 1", shell=True, capture_output=True, text=True
    )
    assert json.loads(result.stdout)["seq"] == 1 and "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["info", "pages", "verify", "log --json"])
def test_without_any_output(store, command):
    result = subprocess.run(f"{sys.executable} -m mmsb {command} {store} >&-", shell=True, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    result = subprocess.run(f"{sys.executable} -m mmsb {command} {store}-no >&- 2>&-", shell=True)
    assert result.returncode == 2
