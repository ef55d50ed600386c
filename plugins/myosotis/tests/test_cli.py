"""The command line: the seed's walk-through letter by letter, every command, exit codes, JSON."""

import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import Memory, v1
from myosotis.cli import COMMANDS
from myosotis.cli.common import value_of
from myosotis.errors import InvalidValueError
from myosotis.exports import shown
from myosotis.values import Ref, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["@", "42", "null"])
SCALARS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | TEXT
    | st.builds(Ref, st.integers(0, 2**64 - 1))
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))

# As the seed has it; <...> is what the reader fills in.
SEED = """
myo init state.myo
myo create Agent
myo set <node_id> goal "Explore"
myo commit "initial goal"
myo history
myo show <node_id> --at <commit>
myo diff <commit_a> <commit_b>
"""


def document(output):
    return json.loads(output)


def test_walk_through_of_the_seed(tmp_path):
    """Each line is a process of its own; only the places in angle brackets are filled in, from what was printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MYO_")}
    environment["NO_COLOR"] = "1"
    program = tmp_path / "bin" / "myo"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom myosotis.cli import main\nmain()\n")
    program.chmod(0o755)
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)

    known = {}
    printed = {}
    for line in SEED.split("\n")[1:-1]:
        if "<commit_b>" in line:  # a second commit, to compare with the first
            for more in ("myo set 1 goal Rest", "myo commit second"):
                subprocess.run(more, shell=True, check=True, cwd=tmp_path, env=environment, capture_output=True)
            known |= {"commit_a": "1", "commit_b": "2"}
        filled = line
        for name, text in known.items():
            filled = filled.replace(f"<{name}>", text)
        result = subprocess.run(
            filled, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, (filled, result.stderr)
        printed[line.split()[1]] = result.stdout
        if found := re.match("Created node ([0-9]+)", result.stdout):
            known["node_id"] = found.group(1)
        if found := re.match("Committed ([0-9]+)", result.stdout):
            known["commit"] = found.group(1)

    assert printed["init"] == "Initialized new memory at state.myo\n"
    assert printed["create"] == "Created node 1 of type 'Agent' in state.myo\n"
    assert printed["set"] == "Set node 1 field 'goal' = \"Explore\"\n"
    assert printed["commit"] == 'Committed 1 with message "initial goal"\n'
    assert "initial goal" in printed["history"]
    assert printed["show"] == 'Node 1 @ commit 1:\n  type: Agent\n  fields:\n    goal: "Explore"\n'
    assert printed["diff"] == '~ Agent 1 (changed)\n  - goal = "Explore"\n  + goal = "Rest"\n'
    # What the first engine would load: two commits, the first of which has the mutations of the walk-through.
    kept = v1.read((tmp_path / "state.myo").read_bytes())
    assert [commit.label for commit in kept.commits] == ["initial goal", "second"]
    assert kept.head.nodes[1].fields == {"goal": "Rest"}


def test_help_lists_every_command(myo):
    text = myo("--help")
    for name in COMMANDS:
        assert f"\n  {name} " in text
        assert myo(name, "--help").startswith(f"Usage: commands {name}")
    assert myo("--version").endswith("0.1.0\n")


def test_init_of_what_is_there(agent):
    assert agent("init", "state.myo") == "File already exists: state.myo\n"
    assert len(document(agent("history", "--json"))) == 2
    assert document(agent("init", "other.mmsb", "--json")) == {"file": "other.mmsb", "created": True}


@pytest.mark.parametrize(
    "text, value",
    [
        ("42", 42),
        ("-7", -7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("@3", Ref(3)),
        ("Explore", "Explore"),
        ("two words", "two words"),
        ("007", "007"),
        ("@", "@"),
        ("@x", "@x"),
        ("[1,", "[1,"),
        ("", ""),
        ('"42"', "42"),
        ('[1, "a", [true]]', [1, "a", [True]]),
        ('{"a": {"@": 3}}', {"a": Ref(3)}),
        ('{"@": 3}', Ref(3)),
    ],
)
def test_values_as_people_write_them(text, value):
    read = value_of(text, "k")
    assert (type(read), read) == (type(value), value)


@given(VALUES)
def test_values_are_shown_as_they_are_written(value):
    assert encode(value_of(shown(value), "k")) == encode(value)


@pytest.mark.parametrize("text", ["null", "NaN", "-Infinity", "9223372036854775808", "[null]", "1e999", "@" + "9" * 30])
def test_values_that_are_none(text):
    with pytest.raises(InvalidValueError, match="^k"):
        value_of(text, "k")


def test_typed_values_are_kept(myo):
    myo("init", "state.myo")
    assert myo("create", "Agent", "name=Iris", "age=7").startswith("Created node 1 ")
    for key, text in {"i": "-42", "f": "1.5", "b": "false", "r": "@1", "l": "[1,2]", "m": '{"k":1}'}.items():
        myo("set", "@1", key, text)
    myo("set", 1, "s", "42", "--text")
    myo("commit")
    with Memory.open("state.myo", read_only=True) as memory:
        assert memory.to_dict()[1]["fields"] == {
            "age": 7,
            "b": False,
            "f": 1.5,
            "i": -42,
            "l": [1, 2],
            "m": {"k": 1},
            "name": "Iris",
            "r": Ref(1),
            "s": "42",
        }
    assert myo("history").splitlines()[-1].split()[-2] == "10"


def test_status_and_discard(agent):
    assert agent("status") == "state.myo: commit 2\nNothing is staged.\n"
    agent("create", "Place")
    agent("set", 2, "owner", "@1")
    agent("delete", 1, "goal")
    agent("delete", 1)
    rows = [line.split() for line in agent("status").splitlines()[4:]]
    assert rows == [
        ["create", "2", "Place"],
        ["set", "2", "owner", "@1"],
        ["delete", "field", "1", "goal"],
        ["delete", "1"],
    ]
    assert document(agent("status", "--json"))["staged"][1] == {
        "change": "SetField",
        "id": 2,
        "key": "owner",
        "value": {"@": 1},
    }
    assert "deleted: true" in agent("show", 1)
    assert agent("discard") == "Discarded 4 staged changes.\n"
    assert agent("status").endswith("Nothing is staged.\n")
    assert document(agent("create", "Place", "--json")) == {"id": 3, "type": "Place"}  # ids are never used again


def test_deletion(agent):
    assert agent("delete", 1, "goal") == "Staged delete-field 'goal' on node 1\n"
    assert agent("delete", 1) == "Staged delete-node for node 1\n"
    agent("commit", "gone")
    shows = agent("show", 1)
    assert "deleted: true" in shows and "goal" not in shows
    assert "Node is deleted: 1" in agent("set", 1, "goal", "x", code=1)
    assert document(agent("show", 1, "--at", "second goal", "--json")) == {
        "id": 1,
        "type": "Agent",
        "fields": {"goal": "Rest"},
        "deleted": False,
        "at": "commit 2",
    }


def test_history_and_log(agent):
    agent("create", "Other")
    agent("commit", "third", "--timestamp", "2026-01-04T00:00:00")
    table = agent("history").splitlines()
    assert table[0].split() == ["commit", "time", "label", "author", "changes", "hash"]
    assert table[3].split()[:7] == ["2", "2026-01-03", "02:04:05", "second", "goal", "Ida", "1"]
    listed = document(agent("history", "--json"))
    assert [entry["id"] for entry in listed] == [1, 2, 3]
    assert listed[1]["meta"] == {"author": "Ida", "why": "tired", "timestamp": "2026-01-03T02:04:05+00:00"}
    assert listed[1]["parent_hash"] == listed[0]["hash"]
    assert [entry["id"] for entry in document(agent("history", "--node", 1, "--json"))] == [1, 2]
    assert [entry["id"] for entry in document(agent("history", "--node", 1, "--field", "goal", "-n", 1, "--json"))] == [
        2
    ]
    agent("history", "--field", "goal", code=2)
    lines = agent("log", "--graph").splitlines()
    assert lines[0].startswith("* commit 3  ") and lines[0].endswith("  third")
    assert '|     set 1.goal = "Rest"' in lines
    assert agent("log", "--node", 1, "-n", 1).startswith("commit 2  ")
    assert [document(line)["id"] for line in agent("log", "--json").splitlines()] == [3, 2, 1]


def test_commits_by_label_and_time(agent):
    first = agent("show", 1, "--at", 1)
    assert agent("show", 1, "--at", "initial goal") == first
    assert agent("show", 1, "--at", "2026-01-02T12:00:00Z") == first
    assert "Commit not found" in agent("show", 1, "--at", "other", code=1)
    assert "Commit not found" in agent("show", 1, "--at", 9, code=1)


def test_diff_and_blame(agent):
    assert document(agent("diff", 1, 2, "--json")) == [
        {"id": 1, "type": "Agent", "kind": "changed", "fields": {"goal": {"old": "Explore", "new": "Rest"}}}
    ]
    assert agent("diff", 1, 1) == "\n"
    told = agent("blame", 1, "goal")
    assert told.startswith('Commit 2 "second goal" set node 1 field \'goal\' to "Rest"\n') and "author: Ida" in told
    assert document(agent("blame", 1, "goal", "--json"))["id"] == 2
    assert "Field not found" in agent("blame", 1, "other", code=1)
    agent("compact")
    assert "before the history that is kept" in agent("blame", 1, "goal")


def test_every_command_speaks_json(agent):
    assert document(agent("set", 1, "k", "@1", "--json")) == {"id": 1, "key": "k", "value": {"@": 1}}
    assert document(agent("delete", 1, "k", "--json")) == {"id": 1, "key": "k"}
    made = document(agent("commit", "third", "--json"))
    assert (made["id"], made["label"], made["mutations"]) == (3, "third", 2)
    agent("delete", 1)
    assert document(agent("discard", "--json")) == {"discarded": 1}
    assert document(agent("fork", "past.myo", "--at", 2, "--json")) == {"file": "past.myo", "commit": 2}
    text = agent("export")
    assert document(agent("import", "-", "copy.myo", "--json", text=text)) == {"file": "copy.myo", "nodes": 1}
    agent("commit", "--meta", "noequals", code=2)


def test_exit_codes_and_errors(agent):
    assert agent("commit", "empty", code=1).startswith("Error: Nothing was changed")
    assert "Node not found: 9" in agent("show", 9, code=1)
    assert "Node not found: 9" in agent("set", 9, "k", 1, code=1)
    assert "reference to missing node 9" in agent("set", 1, "k", "@9", code=1)
    agent("set", 1, code=2)
    agent("set", "x", "k", "1", code=2)
    agent("other", code=2)
    agent("create", "Agent", "noequals", code=2)
    assert agent("status").endswith("Nothing is staged.\n")
    error = document(agent("set", 1, "k", "[1, null]", "--json", code=1))["error"]
    assert (error["type"], error["facts"]) == ("InvalidValueError", {"path": "k[1]"})


def test_names_that_a_terminal_should_not_see(myo):
    myo("init", "state.myo")
    assert "\x1b" not in myo("create", "\x1b[31mred")
    myo("set", 1, "\x07", "\x1b]0;title\x07")
    assert "\x1b" not in myo("status") + myo("show", 1)
    myo("commit", "\x1b[2J")
    assert "\x1b" not in myo("history") + myo("log") + myo("diff", 1, 1)
