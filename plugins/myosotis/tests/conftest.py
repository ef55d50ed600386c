"""The command line in a folder of its own."""

import pytest
from click.testing import CliRunner
from myosotis.cli.app import commands


@pytest.fixture
def myo(tmp_path, monkeypatch):
    """Runs a command in a folder of its own; returns what it printed. `code`: the exit status that is expected."""
    monkeypatch.chdir(tmp_path)
    for name in ("MYO_FILE", "MYO_AUTHOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, code=0, text=None):
        result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=text)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.stdout if code == 0 else result.stderr

    return run


@pytest.fixture
def agent(myo):
    """A memory with one agent and two commits."""
    myo("init", "state.myo")
    myo("create", "Agent")
    myo("set", 1, "goal", "Explore")
    myo("commit", "initial goal", "--timestamp", "2026-01-02T03:04:05")
    myo("set", 1, "goal", "Rest")
    myo("commit", "second goal", "--author", "Ida", "--meta", "why=tired", "--timestamp", "2026-01-03T03:04:05+0100")
    return myo
