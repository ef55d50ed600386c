"""What survives damage."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import errors, v1
from myosotis.chain import NO_PARENT, Commit, commit_hash
from myosotis.graph import Graph
from myosotis.mutations import CreateNode, DeleteNode, SetField, encode_all
from myosotis.v1_repair import examine

with zipfile.ZipFile(Path(__file__).parent / "data" / "corpus.zip") as archive:
    LONG = archive.read("golden/07_checkpoint_60.myo")
    FOLDED = archive.read("golden/08_compact_at_25_of_70.myo")
    TOMBSTONES = archive.read("golden/05_tombstones.myo")


def test_sound_file():
    report = examine(LONG)
    assert report.ok and report.first_bad is None and report.survivors == v1.read(LONG)
    assert report.sentence() == "All is well: 60 commits, replayed from the first to the last."


@given(st.integers(0, len(LONG) - 1))
def test_what_survives_a_cut(length):
    whole = v1.read(LONG)
    report = examine(LONG[:length])
    assert not report.ok and isinstance(report.error, errors.MalformedFileStructureError)
    kept = report.survivors.commits
    assert kept == whole.commits[: len(kept)]
    # Every commit whose text is whole survives, the fault lies beyond.
    assert len(kept) == LONG[:length].count(b"\n    }", 0, LONG.index(b'"checkpoints"'))
    assert report.survivors.next_node_id > max(report.survivors.head.nodes, default=0)
    assert v1.read(v1.write(report.survivors)).commits == kept


@given(st.integers(0, len(FOLDED) - 1), st.integers(0, 255))
def test_what_survives_a_wrong_byte(at, byte):
    damaged = FOLDED[:at] + bytes([byte]) + FOLDED[at + 1 :]
    whole = v1.read(FOLDED)
    report = examine(damaged)
    kept = report.survivors.commits
    assert [commit.hash for commit in kept] == [commit.hash for commit in whole.commits[: len(kept)]]
    assert v1.read(v1.write(report.survivors)).head == report.survivors.head
    if report.ok:
        assert len(kept) == len(whole.commits)


def test_first_bad_record_is_named():
    item = json.loads(LONG)
    item["commits"][40]["message"] = "other"
    report = examine(json.dumps(item).encode())
    assert (report.first_bad, len(report.survivors.commits)) == (41, 40)
    assert "The first bad record is commit 41. 40 commits before it survive." in report.sentence()
    assert report.survivors.next_node_id == 61  # ids that lost commits used are not given again


@pytest.mark.parametrize("field, value", [("parent_hash", [0] * 32), ("parent", 7), ("id", 9), ("hash", [0] * 32)])
def test_first_bad_record_by_what_is_wrong(field, value):
    item = json.loads(LONG)
    item["commits"][20][field] = value
    report = examine(json.dumps(item).encode())
    assert len(report.survivors.commits) == 20
    assert report.first_bad == (value if field == "id" else 21)


def test_nothing_survives_a_genesis_that_cannot_be_read():
    item = json.loads(FOLDED)
    next(iter(item["genesis_state"].values()))["deleted"] = 7
    report = examine(json.dumps(item).encode())
    assert isinstance(report.error, errors.MalformedFileStructureError)
    assert (report.survivors.commits, report.first_bad) == ([], 26)
    assert report.survivors.next_node_id == item["next_node_id"]


def test_half_of_a_bad_commit_is_undone():
    document = v1.read(TOMBSTONES)
    item = json.loads(TOMBSTONES)
    extra = [{"CreateNode": {"id": 90, "ty": "X"}}, {"DeleteNode": {"id": 91}}]
    item["commits"].append(item["commits"][-1] | {"mutations": extra})
    last = item["commits"][-1]
    last |= {"id": last["id"] + 1, "parent": last["id"], "parent_hash": last["hash"]}
    content = encode_all((CreateNode(90, "X"), DeleteNode(91)))
    last["hash"] = list(commit_hash(bytes(last["parent_hash"]), last["message"], content))
    report = examine(json.dumps(item).encode())
    assert isinstance(report.error, errors.DeleteNonexistentNodeError)
    assert report.survivors.head == document.head
    assert report.first_bad == last["id"]


def test_numbers_that_the_first_engine_misreads_are_counted():
    mutations = (CreateNode(1, "A"), SetField(1, "a", [90.28571428571429, 0.25]), SetField(1, "b", 90.28571428571429))
    own = commit_hash(NO_PARENT, None, encode_all(mutations)).hex()
    document = v1.Document(None, [Commit(1, None, own, None, mutations)], [], 2, Graph())
    with pytest.warns(errors.FirstEngineWarning, match="Numbers like it: 2"):
        data = v1.write(document)
    report = examine(data)
    assert report.ok and report.misread == 2
    assert examine(LONG).misread == 0
