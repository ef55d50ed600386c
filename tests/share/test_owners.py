"""mmsb ps and mmsb gc."""

import json

import pytest
from click.testing import CliRunner

import mmsb
from mmsb.cli.app import commands
from mmsb.owners import leftovers, owners, rated

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
        assert {"lag", "log", "rate", "pending"} <= set(shown.splitlines()[0].split()) and " 0/s" in shown
        assert " 0/s" not in run("ps", "--interval", "0")
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


BUSY = """
state = mmsb.open(name="busy")
page = state.create_page(8, name="a")
state.serve()
tell("ready")
n = 0
while True:
    n += 1
    page.write(n.to_bytes(8, "little"))
    time.sleep(0.001)
"""


def test_rates_and_lag(process):
    process(BUSY).hear()
    with mmsb.attach("busy") as idle, mmsb.attach("busy") as asks:
        idle.page("a").read()
        asks.create_page(8, name="mine")
        idle_seq = json.loads(run("ps", "--json", "--interval", "0"))[0]["clients"][0]["seen_seq"]
        for _ in range(5):
            asks.page("mine").write(b"x")
        [facts] = json.loads(run("ps", "--json", "--interval", "0.3"))
        assert 1 < facts["commits_per_s"] < 1100 and 0 < facts["log_bytes_per_s"]
        assert facts["log"]["segments"] == 1 and facts["log"]["bytes"] > 64
        first, second = facts["clients"]
        assert first["seen_seq"] == idle_seq and first["lag"] == facts["seq"] - idle_seq > 0
        assert first["commands_per_s"] is None and second["commands_per_s"] == 0 and second["ring"]["commands"] == 6
        [facts] = json.loads(run("ps", "--json", "--interval", "0"))
        assert facts["commits_per_s"] is None and facts["clients"][1]["commands_per_s"] is None


def test_a_follower_says_how_far_it_is():
    """It reads no page, so it tells by itself."""
    with mmsb.open(name="followed") as state:
        page = state.create_page(8)
        state.serve()
        with mmsb.attach("followed") as view:

            def seen():
                return owners()[0]["clients"][0]["seen_seq"]

            follower = view.follow(since=1)
            page.write(b"x")
            assert seen() == 0
            assert [next(follower).seq, next(follower).seq] == [1, 2]
            follower.timeout = 0
            assert list(follower) == []
            assert seen() == 2, "told when it comes back for more"


def facts_of(seconds, seq, log_bytes, *clients, pid=1):
    return {
        "pid": pid,
        "uuid": "u",
        "seconds": seconds,
        "seq": seq,
        "log": {"bytes": log_bytes},
        "clients": [
            {"number": number, "ring": None if commands is None else {"commands": commands}}
            for number, commands in clients
        ],
    }


def test_rates_are_differences_by_the_owners_clock():
    before = [facts_of(1.0, 10, 1000, (1, 5), (2, None), (3, None))]
    after = [facts_of(3.0, 30, 500, (1, 25), (2, 4), (3, None), (4, 9)), facts_of(9.0, 1, 1, (1, 1), pid=2)]
    first, second = rated(before, [*after, {"pid": 3, "busy": True}])[:2]
    assert first["commits_per_s"] == 10 and first["log_bytes_per_s"] == 0, "history was dropped"
    assert [client["commands_per_s"] for client in first["clients"]] == [10, 2, None, None]
    assert second["commits_per_s"] is None and second["clients"][0]["commands_per_s"] is None
    assert rated(before, before)[0]["commits_per_s"] is None, "no time has passed"
