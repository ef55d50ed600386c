"""Links: how a page depends on others, as the log keeps it. docs/understand/propagation.md, docs/formats/log.md.

A data link says how a child is computed from its parents; links of the other kinds only say that it depends on them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsb._core import linkcodec
from mmsb._core.linkcodec import KINDS
from mmsb._core.varint import Reader, put_varint

if TYPE_CHECKING:
    import numpy

Copy = tuple[int, int, int, int]  # place of the parent, from, to, bytes


class Link(NamedTuple):
    """One link. `type`: "none" for all kinds but data; the other fields as the constructors below say.

    rows, columns: of a matrix, and of the weights that semiring() was given until it is known whether they fit.
    """

    type: str
    kind: str = "data"
    parents: tuple[int, ...] = ()
    semiring: str = ""
    dtype: str = ""
    accumulate: bool = False
    weights: bytes = b""
    copies: tuple[Copy, ...] = ()
    rows: int = 0
    columns: int = 0
    function: str = ""

    def encode(self, *, named: bool = True) -> bytes:
        """The bytes that the log keeps; with `named` False without the name of the function."""
        return linkcodec.encode(self, named)

    def same_rule(self, other: Link) -> bool:
        """Whether both compute the same from the same parents."""
        return self.encode(named=False) == other.encode(named=False)


def decode(data: bytes) -> Link:
    """The Link of its bytes. ValueError when they are malformed."""
    return tuple.__new__(Link, linkcodec.decode(data))  # what Link() does, without a call of Python for each


def passthrough() -> Link:
    """The child is its one parent's bytes; both are equally long."""
    return Link("copy")


def copy(ranges: Iterable[Copy]) -> Link:
    """Ranges of the parents go into ranges of the child, (parent's place, from, to, bytes) each, a later one over an
    earlier one; the rest of the child stays. ValueError without ranges.
    """
    copies = tuple((whole(a), whole(b), whole(c), whole(d)) for a, b, c, d in ranges)
    if not copies:  # what passthrough() keeps
        raise ValueError("there is no range to copy. Give one or more, or use passthrough().")
    return Link("copy", copies=copies)


def whole(number: int) -> int:
    """A number from 0 to 2**63 - 1. ValueError, TypeError."""
    value = operator.index(number)
    if value < 0 or value >> 63:
        raise ValueError(f"{number} is no number of bytes or lanes. Use 0 to {(1 << 63) - 1}.")
    return value


def semiring(name: str, dtype: str, weights: Any = None, *, accumulate: bool = False) -> Link:
    """Child = ⊕ over the parents of weight ⊗ parent, lane by lane, all pages equally long.

    `weights`: one number per parent; or an array of shape (parents, lanes of the child), where every lane of every
    parent has its own; None: nothing is multiplied. ValueError, TypeError: see exact(). `accumulate`: child ⊕= that,
    for idempotent ⊕ only; what a parent once gave stays.
    """
    if weights is None:
        return Link("semiring", semiring=name, dtype=dtype, accumulate=accumulate)
    lanes = exact(weights, dtype)
    rows, columns = lanes.shape if lanes.ndim == 2 else (len(lanes), 1)
    return Link(
        "semiring",
        semiring=name,
        dtype=dtype,
        accumulate=accumulate,
        weights=lanes.tobytes(),
        rows=rows,
        columns=columns,
    )


def exact(weights: Any, dtype: str) -> numpy.ndarray[Any, Any]:
    """Weights as an array of one or two dimensions of that type, none of them another number than it was: only
    fractions may be rounded, to a shorter float. ValueError, TypeError.
    """
    import numpy

    given = numpy.asarray(weights)
    if not given.size or given.ndim not in (1, 2):
        raise ValueError(
            f"weights has the shape {given.shape}. Use (parents,) or (parents, lanes); None multiplies nothing."
        )
    if given.dtype.kind not in "biuf":
        raise TypeError(f"weights are {given.dtype}. Use numbers that {dtype} can hold.")
    with numpy.errstate(all="ignore"):
        lanes = given.astype(dtype)
    if given.dtype.kind == lanes.dtype.kind == "f":
        wrong = numpy.isinf(lanes) & numpy.isfinite(given)
    elif given.dtype == lanes.dtype:
        return lanes
    else:  # numbers of Python compare by value, whatever their types are
        pairs = zip(given.ravel().tolist(), lanes.ravel().tolist(), strict=True)
        wrong = numpy.array([a != b for a, b in pairs]).reshape(given.shape)
    if wrong.any():
        raise ValueError(f"weights has {given[wrong][0]}, which {dtype} cannot hold. Use numbers that it can.")
    return lanes


def reduce(name: str, dtype: str) -> Link:
    """The child, one lane, is ⊕ over all lanes of all parents, parent by parent."""
    return Link("reduce", semiring=name, dtype=dtype)


def matrix(name: str, dtype: str, rows: int, columns: int) -> Link:
    """Child = A ⊗ x. The parents are x (`columns` lanes) and A in compressed rows, as three pages: row_start (uint64,
    rows + 1), column (uint32 per entry), value (a lane per entry).
    """
    return Link("matrix", semiring=name, dtype=dtype, rows=whole(rows), columns=whole(columns))


def type_name(dtype: Any) -> str:
    """A lane type as links keep it: text as it is, of whatever else numpy.dtype() understands the name. TypeError."""
    if isinstance(dtype, str):
        return dtype
    import numpy

    return str(numpy.dtype(dtype))


def encode_unlink(kind: str, parents: Sequence[int] = ()) -> bytes:
    """An UNLINK change's bytes. No parents: all."""
    out = bytearray((KINDS.index(kind),))
    put_varint(out, len(parents))
    for parent in parents:
        put_varint(out, parent)
    return bytes(out)


def decode_unlink(data: bytes) -> tuple[str, tuple[int, ...]]:
    """(kind, parents) of an UNLINK change. ValueError, IndexError."""
    kind = KINDS[data[0]]
    reader = Reader(data, 1)
    parents = reader.numbers(reader.number())
    if reader.left:
        raise ValueError("an unlink is longer than it says")
    return kind, parents


def decode_wave(data: bytes) -> tuple[dict[int, str], list[int], bool]:
    """(failed pages with their reasons, pages that are no longer stale, partial). ValueError."""
    if not data:
        return {}, [], False
    if data[0] > 1:
        raise ValueError("a wave is malformed")
    reader = Reader(data, 1)
    failed = {reader.number(): reader.text().decode() for _ in range(reader.number())}
    fresh = list(reader.numbers(reader.number()))
    if reader.left:
        raise ValueError("a wave is longer than it says")
    return failed, fresh, bool(data[0])
