"""mmsb ps and mmsb gc."""

import json

import pytest
from click.testing import CliRunner

import mmsb
from mmsb.cli.app import commands
from mmsb.owners import leftovers, owners

OWNER = """
state = mmsb.open(sys.argv[1] if sys.argv[1] != "-" else None, name="owned")
state.create_page(8, name="a")
state.serve()
tell("ready")
sys.stdin.readline()
"""


def run(*words):
    result = CliRunner().invoke(commands, words, prog_name="mmsb")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("path", ["-", "store"])
def test_ps_and_gc(process, tmp_path, path):
    assert owners() == [] and leftovers() == [] and run("gc") == "nothing\n"
    assert json.loads(run("ps", "--json")) == []
    owner = process(OWNER, path if path == "-" else tmp_path / path)
    owner.hear()
    with mmsb.attach("owned") as view:
        view.page("a").read()
        [facts] = json.loads(run("ps", "--json"))
        assert facts["pid"] == owner.pid and facts["name"] == "owned" and facts["seq"] == 1 and facts["pages"] == 1
        [client] = facts["clients"]
        assert client["seen_seq"] == 1 and client["lag"] == 0 and client["ring"] is None
        view.page("a").write(b"x")
        with pytest.raises(mmsb.PageRangeError):
            view.page("a").write(b"x", 8)
        [client] = json.loads(run("ps", "--json"))[0]["clients"]
        assert client["ring"] == {"commands": 2, "failed": 1, "pending": 0, "broken": None}
        shown = run("ps")
        assert str(owner.pid) in shown and "1/64" in shown and "reads since" in shown
        assert leftovers() == []
    owner.kill()
    assert owners() == []
    left = leftovers()
    assert len(left) == (1 if path == "-" else 2)
    assert json.loads(run("gc", "--json")) == {"leftovers": left}
    assert run("gc", "--remove") == "".join(f"removed {key}\n" for key in left)
    assert json.loads(run("gc", "--remove", "--json")) == {"removed": []}


def test_a_dead_owner_is_succeeded(process):
    """What it left is in nobody's way."""
    for _ in range(2):
        owner = process(OWNER, "-")
        owner.hear()
        mmsb.attach("owned").close()
        owner.kill()
        with pytest.raises(mmsb.OwnerGoneError):
            mmsb.attach("owned")


def test_an_owner_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("mmsb.owners.ANSWER_SECONDS", 0.05)
    with mmsb.open(name="mute") as state:
        state.serve(thread=False)
        [facts] = owners()
        assert facts["busy"] and "does not answer" in run("ps")
        assert leftovers() == []
