"""What every semiring must pass.

In a plugin's tests:

    class TestTropical(SemiringContract):
        def make(self):
            return tropical("float64")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsb.plugin import Semiring
from mmsb.plugin.types import DTYPES, LAWS, NAME
from mmsb.testing import laws
from mmsb.testing.laws import Array

# Lengths around every block and tail that a kernel may have.
LENGTHS = (*range(0, 36), 63, 64, 65, 127, 128, 129)
# Subclasses run one inherited test with selves of their own, which is what hypothesis warns of here.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def hostile(dtype: str, lanes: int, seed: int) -> Array:
    """Lanes of random bits, with every kind of odd number among them: NaNs with payloads, -0, infinities, extremes."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    values = np.frombuffer(rng.bytes(lanes * kind.itemsize), kind).copy()
    if kind.kind == "f":
        odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, np.finfo(kind).tiny / 4, np.finfo(kind).max], kind)
    else:
        odd = np.array([0, 1, np.iinfo(kind).max, np.iinfo(kind).min], kind)
    chosen = rng.random(lanes) < 0.5
    values[chosen] = rng.choice(odd, int(chosen.sum()))
    return values


def unaligned(values: Array, offset: int) -> tuple[bytearray, memoryview]:
    """The lanes' bytes `offset` bytes into a buffer whose other bytes are 0xA5, and the part that holds them."""
    room = bytearray(b"\xa5" * (offset + values.nbytes + 64))
    room[offset : offset + values.nbytes] = values.tobytes()
    return room, memoryview(room)[offset : offset + values.nbytes]


class SemiringContract:
    """Laws as declared, lanes, tails, masks, determinism, refusals. `make` is the one thing to define."""

    # (⊕, ⊗) of two lanes (numpy scalars), when there is a literal definition: every lane must equal it, to the bit.
    literal: tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]] | None = None

    def make(self) -> Semiring:
        """The semiring."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def others(self) -> Iterable[Semiring]:
        """Further implementations that must give the same bytes: other CPU levels, a compiled twin."""
        return ()

    # ---- the operations as functions of arrays

    def add(self, a: Array, b: Array) -> Array:
        """A ⊕ b."""
        return laws.add(self.make(), a, b)

    def mul(self, a: Array, b: Array) -> Array:
        """A ⊗ b."""
        return laws.mul(self.make(), a, b)

    def neutral(self, value: Any, like: Array) -> Array:
        """As many lanes of one value."""
        return np.full_like(like, value)

    def triples(self, data: st.DataObject) -> tuple[Array, Array, Array]:
        """Three arrays of one length, of the lanes that laws are said of."""
        semiring = self.make()
        dtype, kind = semiring.dtype, np.dtype(semiring.dtype)
        low, high = map(kind.type, semiring.domain)
        lane: st.SearchStrategy[Any]
        if kind.kind == "f":
            ends = [float(end) if np.isfinite(end) else None for end in (low, high)]
            lane = st.floats(*ends, allow_nan=False, width=64 if dtype == "float64" else 32)
            lane = lane.filter(lambda value: low <= value <= high)
        else:
            lane = st.integers(int(low), int(high))
        special = [value for value in (low, high, semiring.zero, semiring.one) if low <= value <= high]
        rows = data.draw(st.lists(st.tuples(*[st.sampled_from(special) | lane] * 3), min_size=1, max_size=40))
        a, b, c = (np.array(column, kind) for column in zip(*rows, strict=True))
        return a, b, c

    # ---- facts

    def test_it_states_its_facts(self) -> None:
        """Name, type, laws and neutral elements are what they must be."""
        semiring = self.make()
        assert NAME.fullmatch(semiring.name)
        assert semiring.dtype in DTYPES
        assert set(semiring.laws) <= set(LAWS), f"unknown laws; there are {LAWS}"
        kind = np.dtype(semiring.dtype)
        for value in (semiring.zero, semiring.one, *semiring.domain):
            assert kind.type(value) == value
        low, high = semiring.domain
        assert low <= high

    # ---- laws

    @pytest.mark.parametrize("law", LAWS)
    @SHARED
    @given(data=st.data())
    def test_law(self, law: str, data: st.DataObject) -> None:
        """A declared law holds: order of ⊕ to the bit, the others as numbers (-0 equals +0)."""
        if law not in self.make().laws:
            pytest.skip("not declared")
        a, b, c = self.triples(data)
        with np.errstate(all="ignore"):
            left, right = laws.sides(self.make(), law, a, b, c)
            wrong = laws.differs(law, left, right)
        assert not wrong.any(), f"{left[wrong]} is not {right[wrong]}"

    @SHARED
    @given(data=st.data())
    def test_zero_masks_a_lane(self, data: st.DataObject) -> None:
        """Lanes in which the operand is `zero` keep their value; the others do not depend on them."""
        if "add-identity" not in self.make().laws:
            pytest.skip("zero is not declared to be the identity of add")
        a, b, _ = self.triples(data)
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(a), max_size=len(a))))
        out = self.add(a, np.where(mask, b, self.neutral(self.make().zero, b)))
        assert np.array_equal(out[~mask], a[~mask])
        assert out[mask].tobytes() == self.add(a[mask], b[mask]).tobytes()

    # ---- lanes, tails, alignment

    @pytest.mark.parametrize("offset", [0, 1, 3, 8])
    def test_only_its_own_bytes_at_every_length_and_alignment(self, offset: int) -> None:
        """The bytes around the operands stay, operands but dst stay, and each lane depends on its own lanes only."""
        semiring = self.make()
        whole = [hostile(semiring.dtype, LENGTHS[-1], seed) for seed in (1, 2, 3)]
        sums, products = self.add(whole[0], whole[1]), self.mul(whole[2], whole[1])
        both = self.add(whole[0], products)
        for lanes in LENGTHS:
            d, x, w = (values[:lanes] for values in whole)
            for wanted, call in (
                (sums, lambda dst, x, w: semiring.add(dst, x)),
                (products, lambda dst, x, w: semiring.scale(dst, w, x)),
                (both, lambda dst, x, w: semiring.accumulate(dst, w, x)),
            ):
                (room_d, dst), (room_x, xs), (room_w, ws) = (unaligned(values, offset) for values in (d, x, w))
                before = bytes(room_x), bytes(room_w)
                call(dst, xs, ws)
                assert (bytes(room_x), bytes(room_w)) == before
                assert bytes(room_d) == bytes(unaligned(wanted[:lanes], offset)[0])

    def test_a_single_weight_is_that_weight_in_every_lane(self) -> None:
        """Scale and accumulate take a number for as many lanes of it."""
        semiring = self.make()
        x, d = hostile(semiring.dtype, 67, 4), hostile(semiring.dtype, 67, 5)
        for weight in (semiring.zero, semiring.one, *semiring.domain):
            single, each = np.empty_like(x), np.empty_like(x)
            semiring.scale(single, weight, x)
            semiring.scale(each, self.neutral(weight, x), x)
            assert single.tobytes() == each.tobytes()
            single, each = d.copy(), d.copy()
            changed = semiring.accumulate(single, weight, x)
            assert changed == semiring.accumulate(each, self.neutral(weight, x), x)
            assert single.tobytes() == each.tobytes()

    def test_it_tells_whether_a_byte_changed(self) -> None:
        """The results of add and accumulate are exact: early cutoff hangs on them."""
        semiring = self.make()
        for seed in range(20):
            d, x, w = (hostile(semiring.dtype, 9, 100 * seed + i) for i in range(3))
            out = d.copy()
            for _ in range(2):
                before = out.tobytes()
                assert semiring.add(out, x) is (out.tobytes() != before)
                before = out.tobytes()
                assert semiring.accumulate(out, w, x) is (out.tobytes() != before)

    # ---- folds, parity, determinism

    def test_folds(self) -> None:
        """A fold of nothing is neutral; where the order of ⊕ does not matter, fold_add equals any order of adds."""
        semiring = self.make()
        kind = np.dtype(semiring.dtype)
        assert kind.type(semiring.fold_add(b"")).tobytes() == kind.type(semiring.zero).tobytes()
        assert kind.type(semiring.fold_mul(b"")).tobytes() == kind.type(semiring.one).tobytes()
        orderless = {"add-associative", "add-commutative"} <= set(semiring.laws)
        for lanes in LENGTHS:
            x = hostile(semiring.dtype, lanes, lanes)
            for offset in (1, 8):
                _, view = unaligned(x, offset)
                for fold in (semiring.fold_add, semiring.fold_mul):
                    assert kind.type(fold(view)).tobytes() == kind.type(fold(x)).tobytes()
            if orderless:
                x = np.clip(np.nan_to_num(x), *map(kind.type, semiring.domain))
                total = np.array([semiring.zero], kind)
                for lane in x:
                    semiring.add(total, np.array([lane], kind))
                assert kind.type(semiring.fold_add(x)) == total[0]

    def test_every_implementation_gives_the_same_bytes(self) -> None:
        """`make`, made again, and all `others`, on hostile lanes."""
        implementations = [self.make(), self.make(), *self.others()]
        for lanes in LENGTHS:
            first, *rest = [self.results(semiring, lanes) for semiring in implementations]
            assert all(result == first for result in rest), f"at {lanes} lanes"

    def results(self, semiring: Semiring, lanes: int) -> list[object]:
        """What every operation gives on hostile lanes, as bytes and flags."""
        x, w, d = (hostile(semiring.dtype, lanes, 10 * lanes + i) for i in range(3))
        added, scaled, carried = d.copy(), np.empty_like(d), d.copy()
        flags = semiring.add(added, x), semiring.accumulate(carried, w, x)
        semiring.scale(scaled, w, x)
        folds = np.array([semiring.fold_add(x), semiring.fold_mul(x)], semiring.dtype)
        return [flags, *(out.tobytes() for out in (added, scaled, carried, folds))]

    def test_lanes_equal_the_literal_definition(self) -> None:
        """⊕ and ⊗ lane by lane, when `literal` is given."""
        if self.literal is None:
            pytest.skip("no literal definition given")
        plus, times = self.literal
        a, b = hostile(self.make().dtype, 300, 7), hostile(self.make().dtype, 300, 8)
        with np.errstate(all="ignore"):
            sums = np.array([plus(x, y) for x, y in zip(a, b, strict=True)], a.dtype)
            products = np.array([times(x, y) for x, y in zip(a, b, strict=True)], a.dtype)
        assert self.add(a, b).tobytes() == sums.tobytes()
        assert self.mul(a, b).tobytes() == products.tobytes()

    # ---- refusals

    def test_buffers_that_do_not_fit_are_refused_and_nothing_changes(self) -> None:
        """Different lengths, parts of a lane, a read-only dst."""
        semiring = self.make()
        d = hostile(semiring.dtype, 8, 9)
        before = d.tobytes()
        wrong = [d[:7].copy(), np.append(d, d)]
        if d.itemsize > 1:
            wrong.append(np.frombuffer(before[:-1], "u1"))
        for x in wrong:
            for call in (
                lambda x: semiring.add(d, x),
                lambda x: semiring.scale(d, semiring.one, x),
                lambda x: semiring.accumulate(d, x, d.copy()),
            ):
                with pytest.raises((ValueError, TypeError)):
                    call(x)
                assert d.tobytes() == before
        with pytest.raises((ValueError, TypeError, BufferError, PermissionError)):
            semiring.add(before, d)
