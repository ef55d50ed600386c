"""Owners and clients in processes of their own, in a directory of sockets of their own."""

import json
import subprocess
import sys
import textwrap

import pytest

import mmsb


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """Where the sockets of this test are."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "mmsb"


@pytest.fixture
def served(request):
    """A State that this process serves: SERVED of the module has its name, and the sizes of its pages by name."""
    name, sizes = request.module.SERVED
    with mmsb.open(name=name) as state:
        for page, size in sizes.items():
            state.create_page(size, name=page)
        state.serve()
        yield state


@pytest.fixture
def view(served):
    """A View of it, in the same process."""
    with mmsb.attach(served.name) as view:
        yield view


class Process:
    """A Python process that runs `code`; it tells lines of JSON with tell(...), and hears lines on stdin."""

    PRELUDE = "import json, os, sys, time, mmsb\ndef tell(*x): print(json.dumps(x), flush=True)\n"

    def __init__(self, code, *arguments):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", self.PRELUDE + textwrap.dedent(code), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.popen.pid

    def hear(self):
        """What it tells next; AssertionError when it ended."""
        line = self.popen.stdout.readline()
        assert line, f"the process ended with {self.popen.wait()}"
        told = json.loads(line)
        return told[0] if len(told) == 1 else told

    def say(self, text=""):
        self.popen.stdin.write(text + "\n")
        self.popen.stdin.flush()

    def kill(self):
        self.popen.kill()
        self.end()

    def end(self):
        """Waits for its end; its exit status."""
        self.popen.stdin.close()
        rest = self.popen.stdout.read()
        self.popen.stdout.close()
        self.rest = [json.loads(line) for line in rest.splitlines()]
        return self.popen.wait()


@pytest.fixture
def process():
    """Starts a Process; all of them are ended with the test."""
    started = []

    def start(code, *arguments):
        started.append(Process(code, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.popen.poll() is None:
            one.popen.kill()
        if not one.popen.stdout.closed:
            one.end()
