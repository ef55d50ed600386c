"""Every kernel, on every subset of CPU features, against the literal definitions; and the C harness."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb._core.kernels import FEATURES, Kernels, cpu_report
from mmsb.testing import reference

ROOT = Path(__file__).parents[2]
SUBSETS = [",".join(names) for count in range(len(FEATURES) + 1) for names in itertools.combinations(FEATURES, count)]
TABLES = {disable: Kernels(disable) for disable in SUBSETS}


@st.composite
def pairs_of_buffers(draw):
    """Two equally long buffers that differ here and there, in runs and in single bytes."""
    old = bytearray(draw(st.binary(max_size=600)))
    new = bytearray(old)
    for _ in range(draw(st.integers(0, 12))):
        if not new:
            break
        at = draw(st.integers(0, len(new) - 1))
        for index in range(at, min(len(new), at + draw(st.sampled_from([1, 1, 2, 16, 64, 70])))):
            new[index] ^= draw(st.sampled_from([1, 0xFF]))
    return bytes(old), bytes(new)


@given(pairs_of_buffers(), st.sampled_from([0, 1, 63, 4096, 1 << 30]))
def test_diff_is_the_literal_one(buffers, base):
    old, new = buffers
    expected = reference.encode(reference.diff(list(old), list(new), base))
    for disable, table in TABLES.items():
        assert table.diff(old, new, base) == expected, disable


@given(pairs_of_buffers(), st.data())
def test_apply_merge_inverse(buffers, data):
    old, new = buffers
    third = bytearray(new)
    for _ in range(data.draw(st.integers(0, 6))):
        if third:
            at = data.draw(st.integers(0, len(third) - 1))
            third[at : at + 3] = bytes(len(third[at : at + 3]))
    first, second = TABLES[""].diff(old, new), TABLES[""].diff(new, bytes(third))
    if first is None:
        return
    for table in TABLES.values():
        page = bytearray(old)
        table.apply(page, *first)
        assert page == new
        undo = table.inverse(old, *first)
        table.apply(page, first[0], undo)
        assert page == old
        if second is not None:
            merged = table.merge(first, second, len(old))
            literal = reference.merge(reference.diff(list(old), list(new)), reference.diff(list(new), list(third)))
            assert merged == reference.encode(literal)


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_crc32c(data, crc):
    for table in TABLES.values():
        assert table.crc32c(data, crc) == reference.crc32c(data, crc)
    assert TABLES[""].crc32c(b"123456789") == 0xE3069283


@given(st.integers(0, 7), st.binary(max_size=60), st.integers(1, 300))
def test_malformed_payloads_are_refused_alike(code, payload, size):
    """What parse accepts, every level applies to the same bytes; what it refuses is never written past the page."""
    pages = []
    for table in TABLES.values():
        page = bytearray(size)
        try:
            runs, values = table.parse(code, payload, size)
        except ValueError:
            runs = None
        if runs is not None:
            table.apply(page, code, payload)
            pages.append(bytes(page))
            assert sum(length for _, length in runs) == len(values)
    assert len(set(pages)) <= 1


def test_features_fall_with_what_they_are_built_on():
    assert Kernels("sse42,pclmul").features == ()
    assert "avx512" not in Kernels("avx2").features
    with pytest.raises(ValueError, match="avx3"):
        Kernels("avx2,avx3")
    assert set(cpu_report()) == {"detected", "disabled", "used", "kernels"}
