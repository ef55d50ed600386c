"""Format v1 beyond the corpus: spellings of JSON, the header's checks, numbers, strings, nesting, checkpoints."""

import json
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import errors, v1
from myosotis.chain import NO_PARENT, Commit, commit_hash
from myosotis.graph import Graph
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, SetField, encode_all
from myosotis.v1_parse import Checkpoint, from_json, scan
from myosotis.v1_repair import examine
from myosotis.v1_text import first_engine_reads
from myosotis.values import Ref

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
REFS = st.integers(1, 3).map(Ref)
SCALARS = st.integers(-(2**63), 2**63 - 1) | FLOATS | st.booleans() | TEXT | REFS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def memory(*commits, checkpoints=()):
    """A document of (label, mutations) pairs, with checkpoints after these numbers of commits."""
    graph, made, points, parent = Graph(), [], [], None
    for number, (label, mutations) in enumerate(commits, 1):
        graph.replay(mutations)
        own = commit_hash(parent or NO_PARENT, label, encode_all(mutations))
        made.append(Commit(number, label, own.hex(), parent and parent.hex(), tuple(mutations)))
        parent = own
        if number in checkpoints:
            points.append(Checkpoint(number, own, graph.state_hash(), graph.copy()))
    return v1.Document(None, made, points, max(graph.nodes, default=0) + 1, graph)


CREATES = [CreateNode(1, "A"), CreateNode(2, "B"), CreateNode(3, "")]
CHANGES = st.lists(
    st.builds(SetField, st.just(1), TEXT, VALUES) | st.builds(SetField, st.just(2), st.just("k"), VALUES), max_size=5
)
HISTORIES = st.lists(st.tuples(st.none() | TEXT, CHANGES), max_size=4).map(
    lambda later: memory(("first", CREATES), *later, checkpoints=(2, 4))
)


def exact(document):
    """What tells 0.0 from -0.0, and 1 from 1.0 and True, too."""
    return [encode_all(commit.mutations) for commit in document.commits], document.head.state_hash()


def tree():
    """A sound memory as JSON."""
    return json.loads(v1.write(memory(("a", CREATES), ("b", [SetField(1, "k", 1), DeleteNode(2)]), checkpoints=(2,))))


def read(document, mode="strict"):
    return v1.read(json.dumps(document).encode(), mode)


@given(HISTORIES)
@pytest.mark.filterwarnings("ignore::myosotis.errors.FirstEngineWarning")
def test_what_is_written_is_read(document):
    data = v1.write(document)
    assert exact(v1.read(data)) == exact(document)
    assert v1.write(v1.read(data)) == data
    text = data.decode()
    assert scan(text) in (None, from_json(text))


@given(HISTORIES, st.integers(0, 3), st.booleans(), st.booleans())
@pytest.mark.filterwarnings("ignore::myosotis.errors.FirstEngineWarning")
def test_any_spelling_of_json(document, indent, escaped, sort):
    item = json.loads(v1.write(document))
    data = json.dumps(item, indent=indent, ensure_ascii=escaped, sort_keys=sort).encode()
    assert exact(v1.read(data)) == exact(document)
    del item["magic"], item["format_version"]
    assert exact(v1.read(json.dumps(item).encode())) == exact(document)


@given(HISTORIES, st.data())
@pytest.mark.filterwarnings("ignore::myosotis.errors.FirstEngineWarning")
def test_scanner_and_parser_agree_on_damage(document, data):
    text = v1.write(document).decode()
    at = data.draw(st.integers(0, len(text) - 1))
    cut = data.draw(st.integers(0, 3))
    damaged = text[:at] + data.draw(st.sampled_from(["", "0", "1", " ", '"', ",", "-0", "]", "\n"])) + text[at + cut :]
    scanned = scan(damaged)
    if scanned is not None:
        assert scanned == from_json(damaged)


def test_empty_file_is_the_first_engines():
    data = v1.write(v1.Document.empty())
    assert (len(data), data[:25]) == (162, b'{\n  "magic": "MYOSOTIS",\n')
    assert v1.read(data) == v1.Document.empty()
    assert v1.read(b'{"commits":[],"checkpoints":[],"next_node_id":1}') == v1.Document.empty()


@pytest.mark.parametrize(
    "change, error",
    [
        ({"format_version": None}, errors.MissingFormatVersionError),
        ({"format_version": "1"}, errors.MissingFormatVersionError),
        ({"format_version": 1.0}, errors.MissingFormatVersionError),
        ({"format_version": True}, errors.MissingFormatVersionError),
        ({"format_version": -1}, errors.MissingFormatVersionError),
        ({"format_version": 0}, errors.MissingFormatVersionError),
        ({"format_version": 2**32}, errors.MissingFormatVersionError),
        ({"format_version": 2**64 + 1}, errors.MissingFormatVersionError),
        ({"format_version": 2, "magic": "WRONG"}, errors.UnsupportedFormatVersionError),
        ({"format_version": 2**32 + 1}, errors.MalformedFileStructureError),
        ({"magic": None}, errors.InvalidFileMagicError),
        ({"magic": "myosotis"}, errors.InvalidFileMagicError),
        ({"unknown": 1}, errors.MalformedFileStructureError),
        ({"next_node_id": 0}, errors.MalformedFileStructureError),
        ({"next_node_id": 2**64}, errors.MalformedFileStructureError),
        ({"next_node_id": 3}, errors.NextNodeIdError),
        ({"genesis_state": {}}, errors.CorruptGenesisHashError),
        ({"genesis_state_hash": [0] * 32}, errors.CorruptGenesisHashError),
        ({"genesis_state_hash": [0] * 31}, errors.MalformedFileStructureError),
        ({"genesis_state_hash": [True] * 32}, errors.MalformedFileStructureError),
        ({"commits": None}, errors.MalformedFileStructureError),
        ({"checkpoints": {}}, errors.MalformedFileStructureError),
    ],
)
@pytest.mark.parametrize("mode", ["strict", "unsafe"])
def test_top(change, error, mode):
    with pytest.raises(error):
        read(tree() | change, mode)


@pytest.mark.parametrize(
    "place, value",
    [
        (("commits", 0, "mutations", 0), {"MakeNode": {"id": 1}}),
        (("commits", 0, "mutations", 0), {"CreateNode": [1, "A"]}),
        (("commits", 0, "mutations"), {}),
        (("commits", 0, "message"), 1),
        (("commits", 0, "parent"), "1"),
        (("commits", 0), 1),
        (("checkpoints", 0, "state"), []),
        (("checkpoints", 0, "state", "1"), {"id": 1, "ty": "A", "fields": {}}),
        (("checkpoints", 0, "state", "1", "fields"), []),
        (("checkpoints", 0, "state", "1", "deleted"), 0),
        (("checkpoints", 0, "state", "1", "id"), -1),
    ],
)
def test_shape(place, value):
    item = tree()
    *way, last = place
    inner = item
    for step in way:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(errors.MalformedFileStructureError) as caught:
        read(item, "unsafe")
    assert caught.value.where


def test_header_half_there():
    item = tree()
    del item["format_version"]
    with pytest.raises(errors.MissingFormatVersionError):
        read(item)
    item = tree()
    del item["magic"]
    with pytest.raises(errors.InvalidFileMagicError):
        read(item)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xef\xbb\xbf{}", b"{} x", b'{"a":', b"NaN", b"[" * 100_000])
def test_no_json(data):
    with pytest.raises(errors.MalformedFileStructureError):
        v1.read(data)


def test_no_text(tmp_path):
    with pytest.raises(errors.UnreadableFileError, match="Failed to read file"):
        v1.read(b"\xff")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(errors.UnreadableFileError) as caught:
            v1.read_file(path)
        assert caught.value.path == str(path)


def with_value(value):
    """A memory whose first field is this JSON text."""
    marked = tree()
    marked["commits"][1]["mutations"][0]["SetField"]["value"] = "HERE"
    return json.dumps(marked).replace('"HERE"', value).encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"Int":1.0}',
        '{"Int":"1"}',
        '{"Int":-0}',
        '{"Int":true}',
        '{"Int":9223372036854775808}',
        '{"Int":1,"Str":"x"}',
        '{"Float":null}',
        '{"Float":1e400}',
        '{"Float":NaN}',
        '{"Float":true}',
        '{"Bool":1}',
        '{"Str":1}',
        '{"Str":"\\ud800"}',
        f'{{"Float":1{"0" * 400}}}',
        '{"Ref":-1}',
        '{"Ref":18446744073709551616}',
        '{"List":{}}',
        '{"Map":[]}',
        '{"Map":{"\\udfff":{"Int":1}}}',
        '{"Other":1}',
        "{}",
        "1",
        '"Int"',
    ],
)
def test_malformed_values(text):
    with pytest.raises(errors.MalformedFileStructureError):
        v1.read(with_value(text), "unsafe")


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"Float":1}', 1.0),
        ('{"Float":-0}', -0.0),
        ('{"Float":10e-1}', 1.0),
        ('{"Float":1e-400}', 0.0),
        ('{"Float":18446744073709551616}', 2.0**64),
        ('{"Int":1,"Int":2}', 2),
        ('{"Str":"\\u00e9\\/"}', "é/"),
    ],
)
def test_values_in_other_words(text, value):
    mutation = v1.read(with_value(text), "unsafe").commits[1].mutations[0]
    assert mutation.encode() == SetField(1, "k", value).encode()


@pytest.mark.parametrize(
    "spelling",
    [
        '"Int": -0',
        '"Int": 1.0',
        '"Int": 01',
        '"Int": 9223372036854775808',
        '"Str": "\t"',
        '"Str": "\\x"',
        '"Float": 1',
        '"Float": 1e0',
        '"Float": 1.00',
    ],
)
def test_numbers_in_a_file_that_is_otherwise_canonical(spelling):
    document = memory(("a", CREATES), ("b", [SetField(1, "k", 1.0)]))
    text = v1.write(document).decode().replace('"Float": 1.0', spelling)
    if spelling.startswith('"Float"'):
        assert exact(v1.read(text.encode())) == exact(document)
    else:
        with pytest.raises(errors.MalformedFileStructureError):
            v1.read(text.encode(), "unsafe")


@pytest.mark.parametrize(
    "change", [(",\n        ", ",\n        7,\n        "), (",\n        ", ",\n        256,\n        ")]
)
def test_hashes_of_another_length_in_a_canonical_file(change):
    text = v1.write(memory(("a", CREATES))).decode()
    start, end = text.index('"hash": ['), text.index('"message"')
    whole = text[start:end]
    first, rest = whole.split(",\n        ", 1)
    for other in (whole.replace(*change, 1), f"{first.rpartition(' ')[0]} {rest}"):
        with pytest.raises(errors.MalformedFileStructureError):
            v1.read((text[:start] + other + text[end:]).encode(), "unsafe")


def test_empty_hash_in_a_canonical_file():
    text = (
        v1.write(memory(("a", CREATES))).decode().replace('"parent_hash": null', '"parent_hash": [\n        \n      ]')
    )
    with pytest.raises(errors.MalformedFileStructureError):
        v1.read(text.encode())


def test_nesting_ends_where_the_first_engine_stops():
    deep = '{"Int":1}'
    for _ in range(60):
        deep = f'{{"List":[{deep}]}}'
    assert v1.read(with_value(deep), "unsafe").commits[1].mutations[0].key == "k"
    with pytest.raises(errors.MalformedFileStructureError):
        v1.read(with_value(f'{{"Map":{{"x":{deep}}}}}'), "unsafe")


def test_unknown_fields_are_ignored_but_must_be_sound():
    item = tree()
    item["commits"][0]["more"] = {"list": [1.5, None, {"x": "y"}]}
    assert exact(read(item)) == exact(read(tree()))
    deep = []
    for _ in range(124):
        deep = [deep]
    for name in ("\ud800", "more"):
        item["commits"][0] = tree()["commits"][0] | {name: 1}
        data = json.dumps(item).encode()
        if name == "more":
            assert exact(v1.read(data)) == exact(read(tree()))
        else:
            with pytest.raises(errors.MalformedFileStructureError):
                v1.read(data)
    for more in ("\ud800", {"\udfff": 1}, float("1e999"), deep):
        item["commits"][0]["more"] = more
        data = json.dumps(item).replace("Infinity", "1e999").encode()
        with pytest.raises(errors.MalformedFileStructureError):
            v1.read(data)


def test_repeated_keys():
    data = json.dumps(tree())
    assert v1.read(data.replace('"next_node_id": 4', '"next_node_id": 9, "next_node_id": 4').encode())
    item = tree()
    del item["magic"], item["format_version"]
    legacy = json.dumps(item)
    assert v1.read(legacy.encode())
    for known in ('"next_node_id": 4', '"message": "a"', '"ty": "A"'):
        with pytest.raises(errors.MalformedFileStructureError, match="twice"):
            v1.read(legacy.replace(known, f"{known}, {known}").encode())


@pytest.mark.parametrize("key, same", [("+3", True), ("003", True), ("-3", False), ("3 ", False), ("٣", False)])
def test_node_ids_as_keys(key, same):
    item = tree()
    state = item["checkpoints"][0]["state"]
    state[key] = state.pop("3")
    if same:
        assert exact(read(item)) == exact(read(tree()))
    else:
        with pytest.raises(errors.MalformedFileStructureError):
            read(item)


def test_order_of_checks_commit_by_commit():
    item = tree()
    item["commits"][1] |= {"id": 3, "parent": 9, "parent_hash": None}
    item["checkpoints"] = []
    with pytest.raises(errors.CommitSequenceError, match="commit id 3 is not sequential after 1"):
        read(item)
    item["commits"][1]["id"] = 2
    with pytest.raises(errors.CommitParentError, match="commit 2 has invalid parent Some\\(9\\), expected 1"):
        read(item)
    item["commits"][1]["parent"] = 1
    with pytest.raises(errors.CorruptParentHashError) as caught:
        read(item)
    assert caught.value.commit_id == 2


def forged():
    """A memory whose checkpoint says, soundly in itself, what no commit made."""
    document = memory(("a", CREATES), ("b", [SetField(1, "k", 1)]), checkpoints=(2,))
    point = document.checkpoints[0]
    point.state.nodes[1].fields["k"] = 2
    point.state_hash = point.state.state_hash()
    return v1.write(document)


def test_forged_checkpoint():
    with pytest.raises(errors.ForgedCheckpointError) as caught:
        v1.read(forged())
    assert caught.value.commit_id == 2
    assert v1.read(forged(), "unsafe").head.nodes[1].fields == {"k": 2}  # as the first engine sees it


def test_of_several_forged_checkpoints_unsafe_reading_believes_the_highest():
    document = memory(("a", CREATES), ("b", [SetField(1, "k", 1)]), ("c", [SetField(1, "l", 1)]), checkpoints=(2, 3))
    for point, forged_value in zip(document.checkpoints, (20, 30), strict=True):
        point.state.nodes[1].fields["k"] = forged_value
        point.state_hash = point.state.state_hash()
    found = v1.read(v1.write(document), "unsafe")
    assert found.head.nodes[1].fields == {"k": 30, "l": 1}
    assert [found.graph_at(n).nodes[1].fields.get("k") for n in (1, 2, 3)] == [None, 20, 30]


def test_mutation_hidden_by_a_checkpoint():
    document = memory(("a", CREATES), ("b", [SetField(1, "k", 1)]), ("c", [SetField(1, "k", 2)]), checkpoints=(3,))
    second, third = document.commits[1:]
    bad = (SetField(9, "k", 1),)
    first_hash = bytes.fromhex(document.commits[0].hash)
    own = commit_hash(first_hash, "b", encode_all(bad))
    last = commit_hash(own, "c", encode_all(third.mutations))
    document.commits[1:] = [
        Commit(2, "b", own.hex(), second.parent_hash, bad),
        Commit(3, "c", last.hex(), own.hex(), third.mutations),
    ]
    document.checkpoints[0].commit_hash = last
    with pytest.raises(errors.HiddenMutationError, match="set before create 9") as caught:
        v1.read(v1.write(document))
    assert caught.value.commit_id == 2
    document.checkpoints.clear()
    with pytest.raises(errors.SetBeforeCreateError):
        v1.read(v1.write(document))


def test_numbers_that_the_first_engine_misreads():
    assert struct.pack(">d", 90.28571428571429)[-2:].hex() == "4925"
    assert struct.pack(">d", first_engine_reads(90.28571428571429))[-2:].hex() == "4924"
    assert not [k for k in range(10_000) if first_engine_reads(k / 100) != k / 100]
    wrong = sum(first_engine_reads(k / 7) != k / 7 for k in range(10_000))
    assert 0.20 < wrong / 10_000 < 0.25
    document = memory(("a", [*CREATES, SetField(1, "k", [{"x": 90.28571428571429}])]))
    with pytest.warns(errors.FirstEngineWarning, match="90.28571428571429 in field 'k' of node 1"):
        data = v1.write(document)
    assert exact(v1.read(data)) == exact(document)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        v1.write(memory(("a", [*CREATES, SetField(1, "k", [0.25, -0.0, 1e300])])))


def test_what_is_written_depends_on_the_content_alone():
    first, second = (
        memory((None, [*CREATES, *(SetField(1, key, {key: 1, "m": 2}) for key in keys)]), checkpoints=(1,))
        for keys in ("zab", "bza")
    )
    texts = [
        v1.write(document).decode().partition('"checkpoints"')[2].partition('"state": {')[2]
        for document in (first, second)
    ]
    assert texts[0] == texts[1]
    assert [texts[0].index(f'\n            "{key}": ') for key in "abz"] == sorted(
        texts[0].index(f'\n            "{key}": ') for key in "abz"
    )


def test_past_states():
    document = memory(("a", CREATES), ("b", [SetField(1, "k", 1)]), ("c", [DeleteField(1, "k")]), checkpoints=(2,))
    assert [document.graph_at(n).nodes[1].fields for n in (1, 2, 3)] == [{}, {"k": 1}, {}]
    for missing in (0, 4):
        with pytest.raises(errors.CommitNotFoundError):
            document.graph_at(missing)


@given(HISTORIES, st.data())
@pytest.mark.filterwarnings("ignore::myosotis.errors.FirstEngineWarning")
def test_whatever_a_file_holds(document, data):
    """Any bytes: an error of ours that can be shown, or a memory that is written and read again."""
    damaged = bytearray(v1.write(document))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 40))] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from([b"null", b'{"a":1}', b"[[", b'"\\ud800"', b"1e999", b"-0", b"9" * 5000])
        )
    for mode in ("strict", "unsafe"):
        try:
            found = v1.read(bytes(damaged), mode)
        except errors.MyosotisError as error:
            assert str(error)
            continue
        assert exact(v1.read(v1.write(found), mode)) == exact(found)
    assert examine(bytes(damaged)).sentence()
