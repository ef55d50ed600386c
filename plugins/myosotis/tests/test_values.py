"""Values and mutations: what is refused, and the bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.errors import InvalidValueError, MalformedFileStructureError, MissingReferenceError
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, SetField, decode_all, encode_all
from myosotis.values import Ref, check, check_references, decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
IDS = st.integers(0, 2**64 - 1)
SCALARS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | TEXT
    | st.builds(Ref, IDS)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
MUTATIONS = (
    st.builds(CreateNode, IDS, TEXT)
    | st.builds(SetField, IDS, TEXT, VALUES)
    | st.builds(DeleteField, IDS, TEXT)
    | st.builds(DeleteNode, IDS)
)


def string(text):
    return struct.pack(">Q", len(text.encode())) + text.encode()


def literal(value):
    """The encoding, written down as the format has it."""
    if isinstance(value, bool):
        return bytes([3, value])
    if isinstance(value, int):
        return b"\x01" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, float):
        return b"\x02" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\x04" + string(value)
    if isinstance(value, Ref):
        return b"\x05" + value.id.to_bytes(8, "big")
    if isinstance(value, list):
        return b"\x06" + len(value).to_bytes(8, "big") + b"".join(literal(item) for item in value)
    pairs = sorted((key.encode(), item) for key, item in value.items())
    return (
        b"\x07"
        + len(pairs).to_bytes(8, "big")
        + b"".join(len(key).to_bytes(8, "big") + key + literal(item) for key, item in pairs)
    )


def same(a, b):
    """Equality that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    return literal(a) == literal(b)


@given(VALUES, st.binary(max_size=3))
def test_encoding(value, after):
    check(value, "x")
    data = encode(value)
    assert data == literal(value)
    decoded, end = decode(b"??" + data + after, 2)
    assert same(decoded, value) and end == 2 + len(data)


@pytest.mark.parametrize(
    "value, text",
    [
        (-7, "01fffffffffffffff9"),
        (-0.0, "028000000000000000"),
        (1e300, "027e37e43c8800759c"),
        (True, "0301"),
        ("é", "040000000000000002c3a9"),
        ({"z": 1, "a": Ref(1)}, "07" + f"{2:016x}{1:016x}6105{1:016x}{1:016x}7a01{1:016x}"),
        ({"\U00010000": True, "\uffff": True}, "07" + f"{2:016x}{3:016x}efbfbf0301{4:016x}f09080800301"),
    ],
)
def test_known_encodings(value, text):
    assert encode(value).hex() == text


def nested(levels, value=0):
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize(
    "value, path",
    [
        (2**63, "x"),
        ([1, -(2**63) - 1], "x[1]"),
        ({"a": [0, float("nan")]}, "x['a'][1]"),
        (float("-inf"), "x"),
        ("\ud800", "x"),
        ({"ok": 1, "\udfff": 1}, "x['\\udfff']"),
        ({"a": {1: 1}}, "x['a'][1]"),
        ([None], "x[0]"),
        ((1, 2), "x"),
        (b"bytes", "x"),
        (Ref(-1), "x"),
        ([Ref(2**64)], "x[0]"),
        (Ref(True), "x"),
    ],
)
def test_refused(value, path):
    with pytest.raises(InvalidValueError) as caught:
        check(value, "x")
    assert caught.value.path == path
    assert str(caught.value).startswith(path)


def test_nesting_ends_at_sixty():
    check(nested(60), "x")
    assert same(decode(encode(nested(60)))[0], nested(60))
    with pytest.raises(InvalidValueError, match="60 levels"):
        check(nested(61), "x")
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidValueError, match="60 levels"):
        check(endless, "x")


def test_references_lead_somewhere():
    value = {"a": [Ref(1), {"b": Ref(7)}], "c": 7}
    check_references(value, {1, 7}, "f")
    with pytest.raises(MissingReferenceError, match="reference to missing node 7") as caught:
        check_references(value, {1}, "f")
    assert (caught.value.node_id, caught.value.path) == (7, "f['a'][1]['b']")


@given(st.lists(MUTATIONS, max_size=6))
def test_mutations(mutations):
    data = encode_all(tuple(mutations))
    assert [mutation.encode() for mutation in decode_all(data)] == [mutation.encode() for mutation in mutations]
    assert [type(mutation) for mutation in decode_all(data)] == [type(mutation) for mutation in mutations]


@given(st.lists(MUTATIONS, min_size=1, max_size=4), st.data())
def test_hostile_mutations(mutations, data):
    """Whatever the bytes are: an error of ours, or mutations whose bytes they are."""
    encoded = bytearray(encode_all(tuple(mutations)))
    for _ in range(data.draw(st.integers(0, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    try:
        decoded = decode_all(damaged)
    except MalformedFileStructureError:
        return
    assert encode_all(decoded) == damaged


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "08" + "00" * 8,
        "0302",
        "01" + "00" * 7,
        "027ff0000000000000",
        "04" + "ff" * 8,
        "04" + f"{1:016x}" + "ff",
        "06" + "ff" * 8,
        "06" + f"{1:016x}",
        "07" + f"{2:016x}{1:016x}620301{1:016x}610301",
        "07" + f"{2:016x}{1:016x}610301{1:016x}610301",
        ("06" + f"{1:016x}") * 70 + "0301",
        ("06" + f"{1:016x}") * 100_000,
    ],
)
def test_hostile_values(text):
    with pytest.raises(MalformedFileStructureError):
        decode(bytes.fromhex(text))
