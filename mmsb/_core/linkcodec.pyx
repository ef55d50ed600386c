"""The bytes in which the log and checkpoints keep links, and what a wave says. docs/formats/log.md."""

from libc.stdint cimport uint64_t

from mmsb._core.varint cimport Reader, put, put_bytes

KINDS = ("data", "control", "device", "compiler")
TYPES = ("call", "copy", "semiring", "reduce", "matrix", "none")

TYPE_NUMBERS = {name: number for number, name in enumerate(TYPES)}


def encode(link not None, bint named):
    """The bytes of a mmsb.links.Link; without `named` the name of its function is left out."""
    cdef bytearray out = bytearray((KINDS.index(link.kind), TYPE_NUMBERS[link.type], link.accumulate))
    cdef tuple parents = link.parents
    put(out, len(parents))
    for number in parents:
        put(out, number)
    put_bytes(out, (<str?>link.semiring).encode())
    put_bytes(out, (<str?>link.dtype).encode())
    put_bytes(out, (<str?>link.function).encode() if named else b"")
    put_bytes(out, link.weights)
    put(out, len(link.copies))
    for copy in link.copies:
        for number in copy:
            put(out, number)
    put(out, link.rows)
    put(out, link.columns)
    return bytes(out)


def decode(bytes data not None):
    """The fields of a Link, in their order, of its bytes. ValueError when they are malformed."""
    if len(data) < 3 or data[0] >= len(KINDS) or data[1] >= len(TYPES) or data[2] > 1:
        raise ValueError("a link is malformed")
    kind, name = KINDS[data[0]], TYPES[data[1]]
    if (kind == "data") != (name != "none"):
        raise ValueError("a link computes, and is of a kind that does not, or the other way round")
    cdef Reader reader = Reader(data, 3)
    cdef tuple parents = reader.next_numbers(reader.next())
    semiring = reader.take(reader.next()).decode()
    dtype = reader.take(reader.next()).decode()
    function = reader.take(reader.next()).decode()
    weights = reader.take(reader.next())
    cdef uint64_t count = reader.next()
    cdef list copies = []
    while count:  # however many it says: each has four bytes at least, or reading it is an error
        copies.append(reader.next_numbers(4))
        count -= 1
    rows, columns = reader.next(), reader.next()
    if reader.here != reader.end or not parents:
        raise ValueError("a link is longer than it says, or has no parent")
    return name, kind, parents, semiring, dtype, bool(data[2]), weights, tuple(copies), rows, columns, function


def encode_wave(dict failed not None, fresh not None, bint partial):
    """A WAVE change's bytes: empty for a wave that covers everything, in which nothing failed or got well again.

    failed: pages with their reasons; fresh: pages that are no longer stale; partial: whether others are left.
    """
    cdef bytearray out
    if not failed and not fresh and not partial:
        return b""
    out = bytearray((partial,))
    put(out, len(failed))
    for page_id in sorted(failed):
        put(out, page_id)
        put_bytes(out, (<str?>failed[page_id])[:1000].encode("utf-8", "replace"))
    put(out, len(fresh))
    for page_id in sorted(fresh):
        put(out, page_id)
    return bytes(out)
