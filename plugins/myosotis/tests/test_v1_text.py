"""Numbers and strings of format v1, letter by letter."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.v1_text import first_engine_reads, float_text, string_text

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "number, text",
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e300, "1e300"),
        (5e-324, "5e-324"),
        (1e-5, "0.00001"),
        (-1.25e-5, "-0.0000125"),
        (1e-6, "1e-6"),
        (1.5e-7, "1.5e-7"),
        (0.0001, "0.0001"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1.5e22, "1.5e22"),
        (9.223372036854776e18, "9.223372036854776e18"),
    ],
)
def test_numbers_as_the_first_engine_writes_them(number, text):
    assert float_text(number) == text


@given(FLOATS)
def test_numbers_are_read_back(number):
    text = float_text(number)
    assert struct.pack(">d", float(text)) == struct.pack(">d", number)
    assert "+" not in text and ("." in text or "e" in text)
    assert first_engine_reads(-number) == -first_engine_reads(number)


def test_strings_as_the_first_engine_writes_them():
    assert string_text('"\\\b\f\n\r\t\0\x1f/\x7f\u2028é') == '"\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f/\x7f\u2028é"'
