"""Varints as the formats of links, metadata and checkpoints use them: put behind one another, and read again."""

from libc.stdint cimport uint8_t, uint64_t

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from mmsb._core.c_mmsb cimport MMSB_VARINT_BYTES_MAX, mmsb_varint_get, mmsb_varint_put

from mmsb import errors


cdef int put(bytearray out, uint64_t number) except -1:
    cdef uint8_t buffer[MMSB_VARINT_BYTES_MAX]
    cdef uint8_t *end
    if number < 0x80:
        out.append(number)
    else:
        end = mmsb_varint_put(buffer, number)
        out += buffer[:end - buffer]
    return 0


def put_varint(bytearray out not None, uint64_t number):
    """Appends a LEB128 varint."""
    put(out, number)


def put_text(bytearray out not None, bytes text not None):
    """Appends bytes with their length before them."""
    put_bytes(out, text)


cdef int put_bytes(bytearray out, bytes text) except -1:
    put(out, PyBytes_GET_SIZE(text))
    out += text
    return 0


cdef class Reader:
    """Reads numbers and texts one after another, from offset `at` of `data` on. Whatever is cut or malformed is a
    MetadataError (a ValueError)."""

    def __init__(self, bytes data not None, Py_ssize_t at=0):
        if not 0 <= at <= PyBytes_GET_SIZE(data):
            raise self.malformed(at)
        self.data = data
        self.begin = <const uint8_t *>PyBytes_AS_STRING(data)
        self.here = self.begin + at
        self.end = self.begin + PyBytes_GET_SIZE(data)

    @property
    def at(self):
        """Offset of what is read next."""
        return self.here - self.begin

    @property
    def left(self):
        """Bytes that were not read yet."""
        return self.end - self.here

    cdef object malformed(self, Py_ssize_t at):
        return errors.MetadataError(f"The metadata is malformed at byte {at}. It was not written by mmsb.", offset=at)

    cdef uint64_t next(self) except? 0:
        cdef uint64_t number = 0
        cdef const uint8_t *after = mmsb_varint_get(self.here, self.end, &number)
        if after == NULL:
            raise self.malformed(self.here - self.begin)
        self.here = after
        return number

    def number(self):
        """The next number."""
        return self.next()

    def numbers(self, uint64_t count):
        """The next `count` numbers (tuple of int)."""
        return self.next_numbers(count)

    cdef tuple next_numbers(self, uint64_t count):
        cdef list found = []
        if count > <uint64_t>(self.end - self.here):  # each has a byte at least
            raise self.malformed(self.here - self.begin)
        while count:
            found.append(self.next())
            count -= 1
        return tuple(found)

    cpdef skip(self, uint64_t count):
        """Leaves out `count` bytes."""
        if count > <uint64_t>(self.end - self.here):
            raise self.malformed(self.here - self.begin)
        self.here += count

    cpdef bytes take(self, uint64_t count):
        """The next `count` bytes."""
        cdef const uint8_t *begun = self.here
        self.skip(count)
        return PyBytes_FromStringAndSize(<const char *>begun, <Py_ssize_t>count)

    def text(self):
        """The next bytes that have their length before them."""
        return self.take(self.next())
