"""The bytes in which the log and checkpoints keep links, and what a wave says. docs/formats/log.md."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from mmsb._core.c_mmsb cimport MMSB_VARINT_BYTES_MAX, mmsb_varint_put
from mmsb._core.varint cimport Reader, put, put_bytes

KINDS = ("data", "control", "device", "compiler")
TYPES = ("call", "copy", "semiring", "reduce", "matrix", "none")

TYPE_NUMBERS = {name: number for number, name in enumerate(TYPES)}


cdef uint64_t text_room(object text) except? 0:
    """Bytes that a text takes at most."""
    cdef Py_ssize_t size = 0
    PyUnicode_AsUTF8AndSize(<str?>text, &size)
    return MMSB_VARINT_BYTES_MAX + <uint64_t>size


cdef uint8_t *put_text(uint8_t *at, object text) except NULL:
    cdef Py_ssize_t size = 0
    cdef const char *data = PyUnicode_AsUTF8AndSize(text, &size)
    at = mmsb_varint_put(at, <uint64_t>size)
    memcpy(at, data, <size_t>size)
    return at + size


def encode(link not None, bint named):
    """The bytes of a mmsb.links.Link; without `named` the name of its function is left out."""
    cdef tuple parents = <tuple?>field(link, PARENTS)
    cdef tuple copies = <tuple?>field(link, COPIES)
    cdef bytes weights = <bytes?>field(link, WEIGHTS)
    cdef object function = field(link, FUNCTION) if named else ""
    cdef uint64_t room = 3 + MMSB_VARINT_BYTES_MAX * (<uint64_t>len(parents) + 5) + <uint64_t>len(weights)
    room += text_room(field(link, SEMIRING)) + text_room(field(link, DTYPE)) + text_room(function)
    for one in copies:
        room += MMSB_VARINT_BYTES_MAX * <uint64_t>len(one)
    cdef uint8_t *begin = <uint8_t *>PyMem_Malloc(room)
    cdef uint8_t *at = begin
    if begin == NULL:
        raise MemoryError()
    try:
        at[0] = KINDS.index(field(link, KIND))
        at[1] = TYPE_NUMBERS[field(link, TYPE)]
        at[2] = field(link, ACCUMULATE)
        at = mmsb_varint_put(at + 3, <uint64_t>len(parents))
        for number in parents:
            at = mmsb_varint_put(at, number)
        at = put_text(at, field(link, SEMIRING))
        at = put_text(at, field(link, DTYPE))
        at = put_text(at, function)
        at = mmsb_varint_put(at, <uint64_t>len(weights))
        memcpy(at, PyBytes_AS_STRING(weights), len(weights))
        at = mmsb_varint_put(at + len(weights), <uint64_t>len(copies))
        for one in copies:
            for number in one:
                at = mmsb_varint_put(at, number)
        at = mmsb_varint_put(at, field(link, ROWS))
        at = mmsb_varint_put(at, field(link, COLUMNS))
        return PyBytes_FromStringAndSize(<const char *>begin, at - begin)
    finally:
        PyMem_Free(begin)


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


cdef bytes wave_of_one(uint64_t page_id, bint partial):
    """A wave in which nothing failed, and one page got well."""
    cdef uint8_t out[3 + MMSB_VARINT_BYTES_MAX]
    out[0], out[1], out[2] = partial, 0, 1
    return PyBytes_FromStringAndSize(<const char *>out, mmsb_varint_put(out + 3, page_id) - out)


def encode_wave(dict failed not None, fresh not None, bint partial):
    """A WAVE change's bytes: empty for a wave that covers everything, in which nothing failed or got well again.

    failed: pages with their reasons; fresh: pages that are no longer stale; partial: whether others are left.
    """
    cdef bytearray out
    if not failed and not fresh and not partial:
        return b""
    if not failed and len(fresh) == 1:  # of every commit that links a page
        return wave_of_one(fresh[0], partial)
    out = bytearray((partial,))
    put(out, len(failed))
    for page_id in sorted(failed):
        put(out, page_id)
        put_bytes(out, (<str?>failed[page_id])[:1000].encode("utf-8", "replace"))
    put(out, len(fresh))
    for page_id in sorted(fresh):
        put(out, page_id)
    return bytes(out)
