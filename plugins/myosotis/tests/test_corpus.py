"""Files that the first engine wrote, sound and damaged, with the hashes and verdicts that it gave."""

import json
import zipfile
from pathlib import Path

import pytest
from myosotis import Memory, errors, v1
from myosotis.v1_parse import from_json, scan

with zipfile.ZipFile(Path(__file__).parent / "data" / "corpus.zip") as archive:
    FILES = {name: archive.read(name) for name in archive.namelist()}
GOLDEN = sorted(name[:-4] for name in FILES if name.startswith("golden/") and name.endswith(".myo"))
CORRUPT = sorted(name[:-4] for name in FILES if name.startswith("corrupt/") and name.endswith(".myo"))

# Where ours is stricter: the history itself contradicts what the first engine believes.
STRICTER = {
    "corrupt/k09_invalid_mutation_before_cp": errors.HiddenMutationError,
    "corrupt/k13_cp_node_removed": errors.ForgedCheckpointError,
}
# The first engine's texts, by the class that stands for them here.
VERDICTS = {
    "Malformed file structure": errors.MalformedFileStructureError,
    "Missing format version": errors.MissingFormatVersionError,
    "Unsupported format version": errors.UnsupportedFormatVersionError,
    "Invalid file magic": errors.InvalidFileMagicError,
    "Corrupt genesis hash": errors.CorruptGenesisHashError,
    "Checkpoint commit mismatch": errors.CheckpointCommitMismatchError,
    "Invariant violation": errors.InvariantError,
    "Corrupt parent hash": errors.CorruptParentHashError,
    "Corrupt commit hash": errors.CorruptCommitHashError,
    "Corrupt checkpoint hash": errors.CorruptCheckpointHashError,
    "Field not found": errors.FieldNotFoundError,
    "Delete on non-existent node": errors.DeleteNonexistentNodeError,
    "Delete on deleted node": errors.DeleteOnDeletedNodeError,
    "Node is deleted": errors.NodeDeletedError,
}


def sidecar(name):
    return json.loads(FILES[f"{name}.json"])


def plain(graph):
    """A graph as the sidecars have it."""
    return {
        str(node.id): {"id": node.id, "ty": node.type, "fields": tagged(node.fields), "deleted": node.deleted}
        for node in graph.nodes.values()
    }


def tagged(value):
    if isinstance(value, dict):
        return {key: {kind(item): tagged(item)} for key, item in value.items()}
    if isinstance(value, list):
        return [{kind(item): tagged(item)} for item in value]
    return getattr(value, "id", value)


def kind(value):
    names = {"int": "Int", "float": "Float", "bool": "Bool", "str": "Str", "Ref": "Ref", "list": "List", "dict": "Map"}
    return names[type(value).__name__]


@pytest.mark.parametrize("mode", ["strict", "unsafe"])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name, mode):
    facts = sidecar(name)
    document = v1.read(FILES[f"{name}.myo"], mode)
    assert document.head.state_hash().hex() == facts["state_hash_head"]
    assert plain(document.head) == facts["state_head"]
    assert document.next_node_id == facts["next_node_id"]
    assert [
        (commit.id, commit.label, commit.hash, commit.parent_hash, len(commit.mutations)) for commit in document.commits
    ] == [
        (known["id"], known["message"], known["hash"], known["parent_hash"], known["mutations"])
        for known in facts["commits"]
    ]
    for commit_id, known in facts["state_hash_at_commit"].items():
        assert document.graph_at(int(commit_id)).state_hash().hex() == known
    for commit_id, nodes in facts["state_at_commit"].items():
        assert plain(document.graph_at(int(commit_id))) == nodes


@pytest.mark.parametrize("mode", ["strict", "unsafe"])
@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt(name, mode):
    verdict = sidecar(name)[mode]
    data = FILES[f"{name}.myo"]
    if mode == "strict" and name in STRICTER:
        assert verdict["result"] == "ok"
        with pytest.raises(STRICTER[name], match="first engine believes"):
            v1.read(data, mode)
    elif verdict["result"] == "ok":
        document = v1.read(data, mode)
        assert document.head.state_hash().hex() == verdict["head_state_hash"]
        assert (len(document.commits), len(document.head.nodes)) == (verdict["commits"], verdict["nodes"])
        assert document.next_node_id == verdict["next_node_id"]
    else:
        with pytest.raises(errors.MyosotisError) as caught:
            v1.read(data, mode)
        text = verdict["text"]
        assert caught.value.message.startswith(text)
        assert isinstance(caught.value, VERDICTS[text.partition(":")[0]])


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_written_again(name):
    data, facts = FILES[f"{name}.myo"], sidecar(name)
    document = v1.read(data)
    again = v1.write(document)
    assert (again == data) or not facts["resave_byte_identical_to_file"]
    assert v1.read(again) == document
    assert v1.write(v1.read(again)) == again


@pytest.mark.parametrize("name", GOLDEN + CORRUPT)
def test_scanner_and_parser_agree(name):
    data = FILES[f"{name}.myo"].decode(errors="replace")
    scanned = scan(data)
    if scanned is not None:
        assert scanned == from_json(data)


def test_scanner_is_used():
    seen = [name for name in GOLDEN if scan(FILES[f"{name}.myo"].decode()) is not None]
    assert set(GOLDEN) - set(seen) == {"golden/01_empty", "golden/12_legacy_v050"}  # no commit, and no header


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_as_a_memory(name, read_only, tmp_path):
    facts, path = sidecar(name), tmp_path / "state.myo"
    path.write_bytes(FILES[f"{name}.myo"])
    with Memory.open(path, read_only=read_only) as memory:
        assert memory.state_hash() == facts["state_hash_head"]
        assert memory.next_node_id == facts["next_node_id"]
        assert [(commit.id, commit.label, commit.hash, commit.parent_hash) for commit in memory.commits()] == [
            (known["id"], known["message"], known["hash"], known["parent_hash"]) for known in facts["commits"]
        ]
        for commit_id, known in facts["state_hash_at_commit"].items():
            assert memory.state_hash(int(commit_id)) == known
        for commit_id, nodes in facts["state_at_commit"].items():
            assert {
                str(node_id): {"ty": node["type"], "fields": tagged(node["fields"]), "deleted": node["deleted"]}
                for node_id, node in memory.to_dict(int(commit_id)).items()
            } == {key: {name: node[name] for name in ("ty", "fields", "deleted")} for key, node in nodes.items()}
        assert memory.verify().ok
        memory.export_v1(tmp_path / "out.myo")
    assert path.read_bytes() == FILES[f"{name}.myo"]  # nothing was changed, so nothing is written
    again = (tmp_path / "out.myo").read_bytes()
    assert (again == path.read_bytes()) or not facts["resave_byte_identical_to_file"]
    exported, document = v1.read(again), v1.read(path.read_bytes())
    assert (exported.commits, exported.head) == (document.commits, document.head)


@pytest.mark.parametrize("mode", ["strict", "unsafe"])
@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_as_a_memory(name, mode, tmp_path):
    verdict, path = sidecar(name)[mode], tmp_path / "state.myo"
    path.write_bytes(FILES[f"{name}.myo"])
    expected = STRICTER.get(name) if mode == "strict" else None
    if verdict["result"] != "ok":
        expected = VERDICTS[verdict["text"].partition(":")[0]]
    if expected is not None:
        for read_only in (False, True):
            with pytest.raises(expected):
                Memory.open(path, mode=mode, read_only=read_only)
        assert [entry.name for entry in tmp_path.iterdir()] == ["state.myo"]
    else:
        with Memory.open(path, mode=mode) as memory:
            assert memory.state_hash() == verdict["head_state_hash"]
            assert (len(memory.commits()), memory.next_node_id) == (verdict["commits"], verdict["next_node_id"])
            if mode == "strict":  # what the first engine did next
                assert memory.create("T").id == verdict["next_node_id"]
                said = verdict["then_create_and_commit"].split()
                assert said[:2] == ["ok", "commit"] and memory.commit("more").id == int(said[2])
    assert expected is None or path.read_bytes() == FILES[f"{name}.myo"]
