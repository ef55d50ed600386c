"""Varints: what is put is read again, and everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb._core.varint import Reader, put_text, put_varint
from mmsb.errors import MetadataError

NUMBERS = st.integers(0, 2**64 - 1)


def literal(number):
    """LEB128 as the formats define it."""
    groups = []
    while number >= 0x80:
        groups.append(number % 0x80 + 0x80)
        number //= 0x80
    return bytes([*groups, number])


@given(st.lists(NUMBERS))
def test_numbers_are_read_as_they_were_put(numbers):
    out = bytearray()
    for number in numbers:
        put_varint(out, number)
    assert out == b"".join(map(literal, numbers))
    reader = Reader(bytes(out))
    assert reader.numbers(len(numbers)) == tuple(numbers)
    assert (reader.at, reader.left) == (len(out), 0)


@given(st.lists(st.binary()))
def test_texts_are_read_as_they_were_put(texts):
    out = bytearray(b"..")
    for text in texts:
        put_text(out, text)
    reader = Reader(bytes(out), 2)
    assert [reader.text() for _ in texts] == texts
    assert reader.left == 0


@pytest.mark.parametrize("number", [-1, 2**64])
def test_what_is_no_number_of_64_bits_is_not_put(number):
    out = bytearray()
    with pytest.raises(OverflowError):
        put_varint(out, number)
    assert not out


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\0", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01"])
def test_a_cut_overlong_or_too_large_number_is_refused(data):
    reader = Reader(b"\x05" + data, 1)
    with pytest.raises(MetadataError) as raised:
        reader.number()
    assert raised.value.offset == reader.at == 1


@pytest.mark.parametrize("read", [lambda r: r.take(4), lambda r: r.skip(4), lambda r: r.numbers(4), lambda r: r.text()])
def test_more_than_there_is_is_refused(read):
    reader = Reader(b"\x03\x02\x01")
    with pytest.raises(MetadataError):
        read(reader)


@pytest.mark.parametrize("at", [-1, 4])
def test_an_offset_outside_is_refused(at):
    with pytest.raises(MetadataError):
        Reader(b"abc", at)
