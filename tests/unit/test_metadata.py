"""The encoding of metadata: canonical both ways, and everything else refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb.errors import MetadataError
from mmsb.metadata import decode, encode, frozen

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(st.binary(), TEXT, st.integers(), st.integers(-(2**80), 2**80), st.floats(), st.booleans())
ENTRIES = st.dictionaries(TEXT.filter(bool), VALUES)


def same(left, right):
    """Equal in type and in every bit; NaN equals itself."""
    if type(left) is not type(right):
        return False
    return struct.pack("<d", left) == struct.pack("<d", right) if isinstance(left, float) else left == right


@given(ENTRIES)
def test_round_trip(entries):
    back = decode(encode(entries))
    assert list(back) == sorted(entries, key=str.encode)
    assert all(same(back[key], value) for key, value in entries.items())


@given(ENTRIES)
def test_equal_metadata_has_equal_bytes(entries):
    assert encode(dict(reversed(entries.items()))) == encode(entries) == encode(decode(encode(entries)))


@given(ENTRIES, st.data())
def test_what_decodes_is_what_encode_writes(entries, data):
    blob = bytearray(encode(entries))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    try:
        back = decode(bytes(blob))
    except MetadataError:
        return
    assert encode(back) == bytes(blob)


@given(ENTRIES, st.data())
def test_a_cut_or_longer_encoding_is_refused(entries, data):
    blob = encode(entries)
    keep = data.draw(st.integers(1, len(blob)))
    if keep < len(blob):
        with pytest.raises(MetadataError):
            decode(blob[:keep])
    with pytest.raises(MetadataError):
        decode(blob + data.draw(st.binary(min_size=1, max_size=5)))


def test_values_that_look_alike_stay_apart():
    entries = {"a": True, "b": 1, "c": 1.0, "d": "1", "e": b"1", "f": False, "g": 0, "h": -0.0}
    back = decode(encode(entries))
    assert [type(value) for value in back.values()] == [bool, int, float, str, bytes, bool, int, float]
    assert struct.pack("<d", back["h"]) == struct.pack("<d", -0.0)


@pytest.mark.parametrize("bits", [0x7FF8000000000001, 0xFFF8000000000000, 0x7FFDEADBEEF00000])
def test_the_payload_of_a_nan_survives(bits):
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    assert struct.pack("<d", decode(encode({"nan": value}))["nan"]) == struct.pack("<Q", bits)


@pytest.mark.parametrize(
    ("entries", "key"),
    [
        ({"a": None}, "a"),
        ({"a": [1]}, "a"),
        ({1: "x"}, 1),
        ({"": "x"}, ""),
        ({"\ud800": 1}, "\ud800"),
        ({"a": "\udfff"}, "a"),
        ([("a", 1)], None),
        ({"a": bytes(1 << 24)}, None),
    ],
)
def test_what_has_no_encoding_is_refused_with_its_key(entries, key):
    with pytest.raises(MetadataError) as caught:
        encode(entries)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "blob",
    [
        b"\x01",  # an entry is missing
        b"\x80\x00",  # an overlong count
        b"\x80" * 9 + b"\x02",  # 2**64 entries
        b"\x01\x00\x03\x01\x05",  # an empty key
        b"\x02\x01b\x03\x01\x05\x01a\x03\x01\x05",  # keys that descend
        b"\x02\x01a\x03\x01\x05\x01a\x03\x01\x05",  # a key twice
        b"\x01\x01\xff\x03\x01\x05",  # a key that is no UTF-8
        b"\x01\x01a\x02\x01\xff",  # text that is no UTF-8
        b"\x01\x01a\x02\x03\xed\xa0\x80",  # a surrogate
        b"\x01\x01a\x03\x02\x05\x00",  # an integer longer than it needs
        b"\x01\x01a\x03\x00",  # an integer without bytes
        b"\x01\x01a\x04\x04\x00\x00\x00\x00",  # a short float
        b"\x01\x01a\x05\x01\x02",  # a third truth value
        b"\x01\x01a\x06\x01\x05",  # an unknown type
        b"\x01\x01a\x01\xff\xff\xff\xff\x0f",  # a value beyond the end
    ],
)
def test_foreign_bytes_are_refused(blob):
    with pytest.raises(MetadataError):
        decode(blob)


def test_frozen():
    view = frozen(encode({"a": 1}))
    assert view == {"a": 1} and frozen(None) == {}
    with pytest.raises(TypeError):
        view["a"] = 2
