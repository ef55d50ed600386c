"""mmsb tail: the commits of another process, as they come."""

import json
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

import mmsb
from mmsb.cli.app import commands
from mmsb.history import filter_of
from mmsb.owners import owners
from tests.share.common import until

OWNER = """
path = sys.argv[1] if sys.argv[1] != "-" else None
state = mmsb.open(path, name="told")
if not state.seq:
    state.create_page(8, name="a")
    state.create_page(8, name="b")
state.serve()
tell(state.seq)
n = 0
for line in sys.stdin:
    word = line.strip()
    if word == "close":
        break
    for _ in range(int(word)):
        n += 1
        with state.batch(source="even" if n % 2 == 0 else "odd", label=f"tick {n}") as batch:
            batch.write("a" if n % 3 else "b", n.to_bytes(8, "little"))
    tell(state.seq)
state.close()
tell("closed")
"""


def run(*words, code=0):
    result = CliRunner().invoke(commands, ["tail", *map(str, words)], prog_name="mmsb")
    assert result.exit_code == code, (result.output, result.exception)
    return result


def documents(*words, code=0):
    return [json.loads(line) for line in run(*words, "--json", code=code).stdout.splitlines()]


# Ctrl-C is ignored by what is started in the background, as tests may be.
PROGRAM = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("mmsb", run_name="__main__")
"""


class Running:
    """`mmsb tail` as a program of its own. A context manager."""

    def __init__(self, *words):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "tail", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def line(self):
        return self.popen.stdout.readline()

    def end(self, signum=None):
        """(exit status, the rest of stdout, stderr)"""
        if signum is not None:
            self.popen.send_signal(signum)
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()
        self.popen.stderr.close()


@pytest.fixture(params=["memory", "stored"])
def target(request, tmp_path):
    """What to serve, and what to tail."""
    return ("-", "told") if request.param == "memory" else (tmp_path / "told.mmsb", tmp_path / "told.mmsb")


# ---- what is printed


def test_commits_are_printed_as_they_come(process, target):
    owner = process(OWNER, target[0])
    assert owner.hear() == 2
    with Running(target[1], "--json") as tail, Running(target[1], "--since", 1, "-n", 3) as table:
        until(lambda: sum(client["waiting"] for client in owners()[0]["clients"]) == 2)
        owner.say("3")
        assert owner.hear() == 5
        assert [json.loads(tail.line())["seq"] for _ in range(3)] == [3, 4, 5]
        status, out, err = table.end()
        header, *rows = out.splitlines()
        assert (status, err, len(rows)) == (0, "", 3)
        assert header.split() == ["seq", "time", "(UTC)", "source", "label", "bytes", "changes"]
        assert rows[0].endswith("create 1 (8 B)") and rows[1].endswith("create 2 (8 B)")
        seq, *_, label, tick, _, page_id, count, unit = rows[2].split()
        assert (seq, label, tick, page_id, count, unit) == ("3", "tick", "1", "1:", "1", "B")
        assert rows[2].index("odd") == header.index("source") and rows[2].index("tick") == header.index("label")
        assert tail.end(signal.SIGINT) == (130, "", "")


def test_documents_and_filters_are_those_of_log(process, tmp_path):
    store = tmp_path / "told.mmsb"
    owner = process(OWNER, store)
    owner.hear()
    owner.say("12")
    owner.hear()
    for words in (
        (),
        ("--page", "b"),
        ("--page", "2"),
        ("--source", "even"),
        ("--label", "tick 7"),
        ("--kind", "create"),
        ("--page", "a", "--source", "odd", "--kind", "delta"),
        ("--since", "label:tick 5"),
        ("--since", "2000-01-01"),
        ("--source", "nobody"),
    ):
        log = CliRunner().invoke(commands, ["log", str(store), "--json", *words])
        since = () if "--since" in words else ("--since", 1)
        assert documents(store, "--timeout", 0, *words, *since) == list(map(json.loads, log.stdout.splitlines()))
    assert [commit["seq"] for commit in documents(store, "--since", 1, "-n", 2)] == [1, 2]
    assert documents(store, "--since", "2999-01-01", "--timeout", 0) == []


def test_filters_of_every_kind_of_change():
    with mmsb.open() as state:
        a, b, *_ = state.create_pages(4, 8)
        state.create_page(8, name="c", metadata={"k": 1})
        state.depend(b, on=a, link=mmsb.links.passthrough())
        with state.batch(source="s", label="one", intent={"why": 1}) as batch:
            batch.write(a, b"x")
            batch.rename(3, "three")
        state.page(3).resize(16)
        state.page(3).metadata = {"k": 2}
        state.undepend(b)
        state.delete_page(3)
        every = list(state.log())
        for kind in {change.kind for commit in every for change in commit.changes} - {"source"}:
            seqs = [commit.seq for commit in state.log(kind=kind)]
            assert seqs and seqs == [one.seq for one in every if filter_of(None, None, None, kind).fits(one)]
        for page_id in range(1, 6):
            seqs = [commit.seq for commit in state.log(page=page_id)]
            assert seqs and seqs == [one.seq for one in every if filter_of(page_id, None, None, None).fits(one)]
        assert [one.seq for one in every if filter_of(None, "s", "one", None).fits(one)] == [
            one.seq for one in state.log(source="s", label="one")
        ]


# ---- how it ends


def test_the_owner_goes_away(process, target):
    owner = process(OWNER, target[0])
    owner.hear()
    with Running(target[1], "--since", 1, "--json") as tail, Running(target[1], "--since", 1, "-n", 9) as more:
        assert [json.loads(tail.line())["seq"] for _ in range(2)] == [1, 2]
        assert [more.line() for _ in range(3)][-1].split()[0] == "2"
        owner.kill()
        said = f"The owner of {target[1]} (process {owner.pid}) is gone after commit 2.\n"
        assert tail.end() == (0, "", said)
        assert more.end() == (2, "", said + "Error: 2 of 9 commits came. Wait longer, or ask for fewer.\n")
    assert "Nobody serves" in run(target[1], code=2).stderr


def test_it_waits_for_an_owner_and_for_the_next(process, target):
    with Running("told", "--since", 1, "--wait", "--json", "-n", 7, "--timeout", 60) as tail:
        first = process(OWNER, target[0])
        first.hear()
        first.say("2")
        assert [json.loads(tail.line())["seq"] for _ in range(4)] == [1, 2, 3, 4]
        first.say("close")
        assert [first.hear(), first.hear()] == [4, "closed"]
        second = process(OWNER, target[0])
        second.hear()
        in_memory = target[0] == "-"  # then it is another State of that name
        second.say("1" if in_memory else "3")
        status, out, err = tail.end()
        seqs = [json.loads(line)["seq"] for line in out.splitlines()]
        assert (status, seqs) == (0, [1, 2, 3] if in_memory else [5, 6, 7])
        assert err.splitlines()[1] == f"Process {second.pid} serves told now."


def test_a_name_may_be_another_page_of_the_next_owner(process):
    with Running("told", "--page", "b", "--since", 1, "--wait", "--json", "-n", 3, "--timeout", 60) as tail:
        first = process(OWNER, "-")
        first.hear()
        assert json.loads(tail.line())["changes"][0]["page_id"] == 2
        first.kill()
        with mmsb.open(name="told") as state:
            state.create_pages(5, 8)
            state.create_page(8, name="b").write(b"x")
            state.serve()
            status, out, _ = tail.end()
        assert status == 0 and [json.loads(line)["seq"] for line in out.splitlines()] == [2, 3]


def test_time_is_over(process):
    assert "Nobody served told in time" in run("told", "--wait", "--timeout", 0, code=2).stderr
    owner = process(OWNER, "-")
    owner.hear()
    assert len(documents("told", "--since", 1, "--timeout", 0)) == 2
    result = run("told", "--since", 2, "-n", 2, "--timeout", 0.05, "--json", code=2)
    assert json.loads(result.stderr)["error"]["type"] == "BusyError" and "1 of 2" in result.stderr


def test_what_is_no_longer_kept_is_told():
    with mmsb.open(name="told", history=4096, segment_bytes=4096) as state:
        page = state.create_page(8)
        state.serve()
        for n in range(500):
            page.write(n.to_bytes(8, "little"))
        result = run("told", "--since", 1, "--timeout", 0, "--json")
        newest = state.seq
    seqs = [json.loads(line)["seq"] for line in result.stdout.splitlines()]
    assert seqs == list(range(seqs[0], newest + 1)) and seqs[0] > 2
    assert result.stderr == f"Commits 1 to {seqs[0] - 1} are no longer kept; the rest follows.\n"


def test_nobody_is_there(tmp_path):
    assert "Call state.serve() in its owner" in run("nobody", code=2).stderr
    assert "no store" in run(tmp_path / "nothing", code=2).stderr
    with mmsb.open(tmp_path / "store"):
        assert "Nobody serves" in run(tmp_path / "store", code=2).stderr
    with mmsb.open(name="told") as state:
        state.serve()
        assert "No page is named" in run("told", "--page", "x", code=2).stderr


def test_output_of_a_closed_pipe(process):
    owner = process(OWNER, "-")
    owner.hear()
    owner.say("2000")
    owner.hear()
    command = [sys.executable, "-m", "mmsb", "tail", "told", "--since", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as told:
        assert json.loads(told.stdout.readline())["seq"] == 1
        told.stdout.close()
        assert told.stderr.read() == ""
        assert told.wait(30) != 0
