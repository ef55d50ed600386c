"""The bytes in pages and intents: golden ones, and what comes of any others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis import layout
from myosotis.errors import CorruptJournalError, InvalidValueError, MalformedFileStructureError
from myosotis.graph import Node
from myosotis.mutations import SetField
from myosotis.values import Ref, encode

from mmsb import metadata

NODE = Node(3, "Agent", {"goal": "é", "friends": [Ref(1), {"k": -1.5}]})
PAGE = (
    "05"
    "0000000000000003 00000000000000054167656e74 00 0000000000000002"
    "0000000000000007667269656e6473 060000000000000002 050000000000000001"
    "070000000000000001 00000000000000016b 02bff8000000000000"
    "0000000000000004676f616c 040000000000000002c3a9"
)
HEAD = layout.Head(7, 9, bytes(range(32)), 4, 2, 3, bytes(32), foreign=1, open_nodes=3, timed=True)
HEAD_HEX = (
    "4d594f4845414431 0800000000000000 0900000000000000"
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    f"0400000000000000 0300000000000000 0300000000000000 {'00' * 32}"
    "0100000000000000 0300000000000000 0300000000000000"
)


def test_golden_bytes() -> None:
    page = layout.node_page(NODE, touch=5)
    golden = bytes.fromhex(PAGE)
    assert page.rstrip(b"\0") == golden and len(page) == 160
    assert layout.decode_node(page) == NODE and layout.node_bytes(page) == golden[1:] == NODE.encode()
    assert HEAD.encode() == bytes.fromhex(HEAD_HEX) and layout.Head.decode(HEAD.encode(), None) == HEAD
    assert layout.intent_of(b"abc", None, {}, None).hex() == "01016d0103616263"
    assert layout.encode_staged(5, b"ab").hex() == "02000000000000000500000000000000" + "6162"


@given(st.binary(max_size=300), st.none() | st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.integers()))
def test_intents(mutations: bytes, label: str | None, meta: dict) -> None:
    label = None if label is None else label.encode("utf-8", "replace").decode()
    intent = layout.intent_of(mutations, label, meta, None)
    entries = metadata.decode(intent) if isinstance(intent, bytes) else intent
    assert layout.from_intent(entries) == (mutations, label, meta, None)
    blob = metadata.encode(entries)
    plain = label is None and not meta
    assert layout.plain_mutations(blob) == (mutations if plain else None)
    assert not plain or blob == intent, "the quick way gives what mmsb would write"


@pytest.mark.parametrize("length", [0, 127, 128, 16383, 16384, 3_000_000])
def test_intents_of_every_length(length: int) -> None:
    blob = layout.intent_of(b"x" * length, None, {}, None)
    assert isinstance(blob, bytes) and layout.plain_mutations(blob) == b"x" * length
    assert metadata.decode(blob) == {"m": b"x" * length}


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The data cut, with a byte changed, or with others instead."""
    places = st.integers(0, len(data) - 1)
    changed = st.builds(lambda at, byte: data[:at] + bytes((byte,)) + data[at + 1 :], places, st.integers(0, 255))
    return st.one_of(places.map(lambda end: data[:end]), changed, st.binary(max_size=200))


@given(damaged(layout.node_page(NODE)))
def test_pages_that_nobody_can_trust(data: bytes) -> None:
    try:
        node = layout.decode_node(data)
        assert layout.node_bytes(data) == node.encode() or node.deleted is False
    except MalformedFileStructureError as error:
        assert error.where


ENTRIES = st.fixed_dictionaries(
    {}, optional={key: st.none() | st.binary(max_size=40) | st.text(max_size=4) | st.integers() for key in "mlhn"}
)


@given(damaged(HEAD.encode()), damaged(b"\1\1m\1\3abc"), ENTRIES, damaged(b"\3" + bytes(20)))
def test_other_bytes_that_nobody_can_trust(head: bytes, intent: bytes, entries: dict, staged: bytes) -> None:
    assert layout.plain_mutations(intent) in (None, intent[5:])
    for read in (
        lambda: layout.Head.decode(head, "x"),
        lambda: layout.from_intent(entries),
        lambda: layout.decode_staged(staged),
    ):
        try:
            read()
        except (CorruptJournalError, MalformedFileStructureError) as error:
            assert error.message


def test_places_are_where_the_values_are() -> None:
    page = layout.node_page(NODE)
    for key, (at, length, prefix) in layout.field_places(NODE).items():
        value = NODE.fields[key]
        assert page[at : at + length] == encode(value)
        assert prefix + encode(value) == SetField(NODE.id, key, value).encode()


def test_notes() -> None:
    moment = datetime(2020, 5, 17, tzinfo=UTC)
    assert layout.notes_of({"a": (1, 2)}, moment) == {"a": [1, 2], "timestamp": "2020-05-17T00:00:00+00:00"}
    assert layout.notes_of(None, 5) == {"timestamp": 5}
    assert layout.notes_of({}, "2020-05-17T00:00:00Z") == {"timestamp": "2020-05-17T00:00:00Z"}
    for bad in (10**20, float("nan"), "2020", "soon", True, b"", datetime(2020, 5, 17)):
        with pytest.raises(InvalidValueError):
            layout.notes_of(None, bad)  # type: ignore[arg-type]
