"""Rows whose functions call Python: so a semiring of any make may stand wherever a compiled one does."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from mmsb._core.c_semiring cimport *
from mmsb._core.semiring cimport Semiring, dtype_of, is_name, lane_value, put_lane, wrap

from mmsb import errors
from mmsb._core.semiring import LAWS

# The row comes first, so that the `self` of its functions leads here.
ctypedef struct called_row:
    mmsb_semiring row
    void *owner
    uint8_t failed


cdef class PythonRow:
    """Memory of a row, and the Python object that computes its lanes. `error`: what that raised last."""

    cdef called_row called
    cdef bytes name
    cdef readonly object semiring
    cdef readonly object error

    cdef bytes lanes(self, const uint8_t *at, uint64_t count):
        """Lanes as bytes of their own: the object may keep what it was shown."""
        return PyBytes_FromStringAndSize(<const char *>at, count * self.called.row.lane_bytes)

    cdef object weight(self, const uint8_t *w, uint64_t lanes, bint per_lane):
        cdef mmsb_lane lane
        if per_lane:
            return self.lanes(w, lanes)
        memcpy(lane.bytes, w, self.called.row.lane_bytes)
        return lane_value(self.called.row.dtype, &lane)

    cdef int put(self, uint8_t *dst, object fresh, uint64_t lanes) except -1:
        """Stores computed lanes; whether a byte came out different."""
        cdef uint64_t count = lanes * self.called.row.lane_bytes
        cdef const char *at
        if type(fresh) is not bytearray or <uint64_t>len(fresh) != count:
            raise ValueError(f"it left {len(fresh)} bytes where {count} belong")
        at = PyByteArray_AS_STRING(fresh)
        if memcmp(dst, at, count) == 0:
            return False
        memcpy(dst, at, count)
        return True

    cdef bint failing(self, error):
        """Takes note of what a function raised; nobody is there to catch it."""
        self.error = error
        self.called.failed = 1
        return False


cdef PythonRow of(const mmsb_semiring *row):
    return <PythonRow>(<const called_row *>row).owner


cdef bint add(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes) noexcept with gil:
    cdef PythonRow row = of(self)
    try:
        fresh = bytearray(row.lanes(dst, lanes))
        row.semiring.add(fresh, row.lanes(x, lanes))
        return row.put(dst, fresh, lanes)
    except BaseException as error:
        return row.failing(error)


cdef void scale(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                bint per_lane) noexcept with gil:
    cdef PythonRow row = of(self)
    try:
        fresh = bytearray(lanes * self.lane_bytes)
        row.semiring.scale(fresh, row.weight(w, lanes, per_lane), row.lanes(x, lanes))
        row.put(dst, fresh, lanes)
    except BaseException as error:
        row.failing(error)


cdef bint accumulate(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                     bint per_lane) noexcept with gil:
    cdef PythonRow row = of(self)
    try:
        fresh = bytearray(row.lanes(dst, lanes))
        row.semiring.accumulate(fresh, row.weight(w, lanes, per_lane), row.lanes(x, lanes))
        return row.put(dst, fresh, lanes)
    except BaseException as error:
        return row.failing(error)


cdef void fold_add(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept with gil:
    cdef PythonRow row = of(self)
    out[0] = self.zero
    try:
        put_lane(self.dtype, row.semiring.fold_add(row.lanes(x, lanes)), "fold_add's result", out)
    except BaseException as error:
        row.failing(error)


cdef void fold_mul(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept with gil:
    cdef PythonRow row = of(self)
    out[0] = self.one
    try:
        put_lane(self.dtype, row.semiring.fold_mul(row.lanes(x, lanes)), "fold_mul's result", out)
    except BaseException as error:
        row.failing(error)


cdef bint combine(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w, uint64_t count,
                  uint64_t lanes) noexcept with gil:
    cdef PythonRow row = of(self)
    cdef uint64_t k
    try:
        fresh = bytearray(row.lanes(self.zero.bytes, 1) * lanes)
        for k in range(count):
            if w == NULL:
                row.semiring.add(fresh, row.lanes(x[k], lanes))
            else:
                weight = row.weight(w + k * self.lane_bytes, 1, False)
                row.semiring.accumulate(fresh, weight, row.lanes(x[k], lanes))
        return row.put(dst, fresh, lanes)
    except BaseException as error:
        return row.failing(error)


def matrix_rows(semiring, starts, columns, values, x, rows):
    """The lanes (bytes) of matrix ⊗ x in these `rows`, each folded from left to right, by the methods of any semiring.

    The matrix as CsrMatrix takes it, checked: `starts` (uint64), `columns` and `rows` (uint32); `values` and `x` are
    buffers of lanes.
    """
    import numpy

    lanes, entries = numpy.frombuffer(x, semiring.dtype), numpy.frombuffer(values, semiring.dtype)
    places = rows.astype(numpy.int64)
    begins, ends = starts[places].astype(numpy.int64), starts[places + 1].astype(numpy.int64)
    sums = numpy.full(len(rows), semiring.zero, semiring.dtype)
    for step in range(int((ends - begins).max(initial=0))):
        longer = numpy.flatnonzero(begins + step < ends)
        at, part = begins[longer] + step, sums[longer]
        semiring.accumulate(part, entries[at], lanes[columns[at]])
        sums[longer] = part
    return sums.tobytes()


cdef bint rows(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x, const uint8_t *listed,
               uint64_t first, uint64_t count) noexcept with gil:
    cdef PythonRow row = of(self)
    cdef uint64_t i, entries, n = self.lane_bytes
    cdef bint changed = False
    cdef const uint32_t[::1] places
    cdef const uint8_t[::1] fresh
    try:
        import numpy

        starts = numpy.frombuffer(PyBytes_FromStringAndSize(<const char *>a.row_start, (a.rows + 1) * 8), "<u8")
        entries = starts[-1]
        columns = numpy.frombuffer(PyBytes_FromStringAndSize(<const char *>a.column, entries * 4), "<u4")
        if listed == NULL:
            wanted = numpy.arange(first, first + count, dtype=numpy.uint32)
        else:
            wanted = numpy.frombuffer(PyBytes_FromStringAndSize(<const char *>listed, count * 4), "<u4")
        sums = matrix_rows(row.semiring, starts, columns, row.lanes(a.value, entries), row.lanes(x, a.columns), wanted)
        places, fresh = wanted, sums
        for i in range(count):
            changed |= memcmp(y + places[i] * n, &fresh[i * n], n) != 0
            memcpy(y + places[i] * n, &fresh[i * n], n)
        return changed
    except BaseException as error:
        return row.failing(error)


def compiled(semiring):
    """The Semiring that does what `semiring` does: itself, or one that calls an object of the protocol
    mmsb.plugin.Semiring. What that raises ends the wave or the write in which it was called.

    SemiringError when its facts are none.
    """
    cdef PythonRow made
    cdef mmsb_semiring *row
    if isinstance(semiring, Semiring):
        return semiring
    made = PythonRow.__new__(PythonRow)
    row = &made.called.row
    unknown = [law for law in semiring.laws if law not in LAWS]
    if not is_name(semiring.name) or unknown:
        raise errors.SemiringError(
            f"Semiring {semiring.name!r} needs a name and laws out of {', '.join(LAWS)}.",
            semiring=semiring.name, unknown=unknown)
    made.semiring = semiring
    made.name = semiring.name.encode()
    made.called.owner = <void *>made
    row.size_bytes = sizeof(mmsb_semiring)
    row.name = PyBytes_AS_STRING(made.name)
    row.dtype = dtype_of(semiring.dtype)
    row.lane_bytes = mmsb_dtype_bytes(row.dtype)
    row.laws = sum(1 << LAWS.index(law) for law in set(semiring.laws))
    put_lane(row.dtype, semiring.zero, "zero", &row.zero)
    put_lane(row.dtype, semiring.one, "one", &row.one)
    low, high = semiring.domain
    put_lane(row.dtype, low, "domain", &row.low)
    put_lane(row.dtype, high, "domain", &row.high)
    row.add = add
    row.scale = scale
    row.accumulate = accumulate
    row.fold_add = fold_add
    row.fold_mul = fold_mul
    row.combine = combine
    row.rows = rows
    row.failed = &made.called.failed
    return wrap(row, made)


def take_error(Semiring semiring not None):
    """What the Python object behind a Semiring raised since this was asked last. None when nothing, or when it is
    compiled."""
    cdef PythonRow row
    if type(semiring.owner) is not PythonRow:
        return None
    row = semiring.owner
    error, row.error = row.error, None
    return error


def calls_python(Semiring semiring not None):
    """Whether Python computes the lanes of a Semiring."""
    return type(semiring.owner) is PythonRow
