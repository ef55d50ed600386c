"""The command line and files: which one, what of it is sound, folding, copies, other formats, a second writer."""

import json
import os

from click.testing import CliRunner
from myosotis import Memory
from myosotis.cli.app import commands


def document(output):
    return json.loads(output)


def test_compact(agent):
    before = document(agent("stats", "--json"))["state_hash"]
    assert agent("compact", "--at", 1) == "Compacted log in state.myo\n"
    assert [entry["id"] for entry in document(agent("history", "--json"))] == [2]
    assert document(agent("compact", "--json")) == {"file": "state.myo", "commits": 0}
    assert document(agent("stats", "--json"))["state_hash"] == before
    assert "cannot be folded" in agent("compact", code=1)


def test_verify_and_recover(agent):
    assert "All is well: 2 commits" in agent("verify")
    with open("state.myo") as file:
        text = file.read()
    with open("state.myo", "w") as file:
        file.write(text.replace('"Rest"', '"Work"'))
    assert document(fault(agent, "--json"))["first_bad"] == 2
    assert "The first bad record is commit 2. 1 commit before it survives." in fault(agent)
    assert agent("history", code=1).startswith("Error: Corrupt commit hash: commit 2")
    assert agent("recover").splitlines()[-1] == "Recovered 2 commits from its journal to state.recovered.myo"
    os.rename("state.myo.journal", "aside")
    assert "Recovered 1 commit from the file to one.myo" in agent("recover", "-o", "one.myo")
    assert [entry["id"] for entry in document(agent("history", "-f", "state.recovered.myo", "--json"))] == [1, 2]
    assert [entry["id"] for entry in document(agent("history", "-f", "one.myo", "--json"))] == [1]
    assert "Choose another path" in agent("recover", "-o", "one.myo", code=2)
    assert document(agent("--unsafe", "history", "--json"))[1]["mutations"][0]["value"] == "Work"


def test_numbers_that_the_first_engine_misreads(myo):
    myo("init", "state.myo")
    myo("create", "A", "x=90.28571428571429")
    result = CliRunner().invoke(commands, ["commit"])
    assert result.exit_code == 0 and "Warning: The first engine reads 90.28571428571429" in result.stderr
    assert myo("verify").splitlines()[1] == "The first engine would refuse this file: it reads 1 number as another."
    assert document(myo("verify", "--json"))["misread"] == 1


def test_a_file_that_is_away_and_stores(agent):
    os.rename("state.myo", "aside")
    assert "All is well: 2 commits" in agent("verify")
    assert len(document(agent("history", "--json"))) == 2
    assert "Failed to read file" in agent("recover", code=1)
    os.rename("aside", "state.myo")
    agent("convert", "state.myo", "store.mmsb", "--json")
    assert "All is well: 2 commits" in agent("verify", "-f", "store.mmsb")
    assert "mmsb salvage store.mmsb" in agent("recover", "-f", "store.mmsb", code=2)
    with open("state.myo", "a") as file:
        file.write("x")
    os.rename("state.myo.journal", "aside")
    facts = document(agent("recover", "--json"))
    assert (facts["commits"], facts["source"], facts["first_bad"]) == (2, "the file", None)


def fault(myo, *arguments):
    """What `myo verify` prints of a memory that is not sound."""
    result = CliRunner().invoke(commands, ["verify", *arguments])
    assert result.exit_code == 1
    return result.stdout


def test_fork_and_convert(agent):
    assert agent("fork", "past.myo", "--at", "initial goal") == "Forked state.myo at commit 1 to past.myo\n"
    agent("-f", "past.myo", "set", 1, "goal", "Swim")
    agent("-f", "past.myo", "commit")
    assert [len(document(agent("-f", name, "history", "--json"))) for name in ("past.myo", "state.myo")] == [2, 2]
    agent("convert", "state.myo", "store.mmsb")
    agent("convert", "store.mmsb", "back.myo")
    hashes = [
        [entry["hash"] for entry in document(agent("history", "--json", "--file", name))]
        for name in ("state.myo", "store.mmsb", "back.myo")
    ]
    assert hashes[0] == hashes[1] == hashes[2]
    with open("state.myo", "rb") as before, open("back.myo", "rb") as after:
        assert before.read() == after.read()
    for arguments in (["fork", "back.myo"], ["convert", "state.myo", "back.myo"]):
        assert "Choose another path" in agent(*arguments, code=2)


def test_export_and_import(agent):
    agent("create", "Place", "owner=@1", 'map={"@": [1, 2.5]}')
    agent("delete", 1)
    agent("commit", "third")
    text = agent("export")
    assert document(text)["2"]["fields"]["owner"] == {"@": 1}
    agent("import", "-", "copy.myo", text=text)
    assert agent("export", "--file", "copy.myo") == text
    assert agent("export", "json", "--at", 1) != text
    assert agent("export", "dot").startswith("digraph")
    agent("export", "graphml", "-o", "graph.xml")
    with open("graph.xml", encoding="utf-8") as file:
        assert "<graphml" in file.read()
    agent("export", "v1", "-o", "out.myo")
    with open("state.myo", "rb") as before, open("out.myo", "rb") as after:
        assert before.read() == after.read()
    agent("export", "v1", code=2)
    assert "no graph" in agent("import", "-", "bad.myo", text='{"1": {}}', code=1)
    assert not os.path.exists("bad.myo")


def test_which_file(myo, monkeypatch):
    assert "This folder has no memory" in myo("history", code=2)
    with Memory.open("a.myo"):
        pass
    assert document(myo("status", "--json"))["file"] == "a.myo"  # the only one
    with Memory.open("b.mmsb"):
        pass
    assert "several memories: a.myo, b.mmsb" in myo("status", code=2)
    myo("init", "a.myo")
    assert document(myo("status", "--json"))["file"] == "a.myo"  # the one that was initialised here
    monkeypatch.setenv("MYO_FILE", "b.mmsb")
    assert document(myo("status", "--json"))["file"] == "b.mmsb"
    assert document(myo("--file", "a.myo", "status", "--json"))["file"] == "a.myo"
    assert document(myo("--file", "a.myo", "status", "--file", "b.mmsb", "--json"))["file"] == "b.mmsb"
    assert "There is no memory at c.myo" in myo("-f", "c.myo", "status", code=2)
    assert not os.path.exists("c.myo")
    os.mkdir("folder")
    myo("init", "folder/d.myo")
    monkeypatch.delenv("MYO_FILE")
    assert document(myo("status", "--json"))["file"] == os.path.join("folder", "d.myo")


def test_a_second_writer_is_refused(agent):
    with Memory.open("state.myo") as memory:
        memory.create("Mine")
        assert "Another process writes" in agent("create", "Agent", code=1)
        assert len(document(agent("history", "--json"))) == 2


def test_stats(agent):
    facts = document(agent("stats", "--json"))
    assert (facts["nodes"], facts["commits"], facts["fields"], facts["types"]) == (1, 2, 1, {"Agent": 1})
    assert facts["bytes"] > os.path.getsize("state.myo")
    assert "Agent: 1 node" in agent("stats")


def test_a_damaged_store(myo):
    with Memory.open("store.mmsb") as memory:
        node = memory.create("A", n=0)
        for number in range(100):
            node.n = number
            memory.commit()
    place = "store.mmsb/log/00000001.seg"
    with open(place, "rb") as file:
        log = bytearray(file.read())
    log[len(log.rstrip(b"\0")) // 2] ^= 0xFF
    with open(place, "wb") as file:
        file.write(log)
    facts = document(fault(myo, "--json"))
    kept = facts["first_bad"] - 1
    assert 20 < kept < 80
    assert facts["sentence"].endswith(f"The first bad record is commit {kept + 1}. {kept} commits before it survive.")
    # What is intact is shown, and nobody takes it for the whole.
    result = CliRunner().invoke(commands, ["history", "--json"])
    assert result.exit_code == 1 and "damaged" in result.stderr
    assert [entry["id"] for entry in document(result.stdout)] == list(range(1, kept + 1))
    assert "damaged" in myo("set", 1, "n", 5, code=1)
