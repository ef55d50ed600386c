"""Semirings over typed lanes: the built-in ones as a table, and those made from C functions of others."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid

from mmsb._core.c_mmsb cimport MMSB_OK, mmsb_cpu_detect, mmsb_cpu_disable, mmsb_cpu_environment
from mmsb._core.c_semiring cimport *

from mmsb import errors

# The names of each lane type, the way numpy writes them; the first is the one that is shown.
DTYPES = {
    MMSB_DTYPE_U8: ("uint8", "u1", "B"),
    MMSB_DTYPE_I32: ("int32", "i4", "i"),
    MMSB_DTYPE_I64: ("int64", "i8", "q", "l"),
    MMSB_DTYPE_F32: ("float32", "f4", "f"),
    MMSB_DTYPE_F64: ("float64", "f8", "d"),
}
LAWS = (
    "add-associative",
    "add-commutative",
    "add-idempotent",
    "add-identity",
    "mul-associative",
    "mul-identity",
    "left-distributive",
    "right-distributive",
    "zero-annihilates",
)
cdef const char *CAPSULE = "mmsb.semiring"
# Buffers of these formats are bytes: their lanes are what the semiring says.
cdef tuple RAW = ("B", "b", "c")
cdef tuple ROW_NUMBERS = ("I", "L", "i", "l")
cdef tuple ENTRY_NUMBERS = ("Q", "L", "q", "l")


cdef uint32_t dtype_of(name) except? 99:
    """Code of a lane type named like "float64", "f8" or "<f8", or by whatever else numpy.dtype() understands."""
    text = name.lstrip("<=|") if isinstance(name, str) else ""
    for code, names in DTYPES.items():
        if text in names[:2]:
            return code
    import numpy

    try:
        kind = None if name is None else numpy.dtype(name)  # numpy takes None for float64
    except (TypeError, ValueError, SyntaxError):
        kind = None
    text = str(name) if kind is None else str(kind)  # with the byte order, where that is not this machine's
    for code, names in DTYPES.items():
        if text == names[0]:
            return code
    known = ", ".join(names[0] for names in DTYPES.values())
    raise errors.SemiringError(f"{text!r} is no type of lanes. Use one of {known}.", dtype=text)


def lane_type(name):
    """The name of a lane type in full, "float64" for "f8". SemiringError when it is none."""
    return DTYPES[dtype_of(name)][0]


cdef class Lanes:
    """A contiguous buffer of whole lanes, for the time of one call."""

    cdef Py_buffer buffer
    cdef uint8_t *at
    cdef uint64_t count

    def __cinit__(self, source, str what, Py_ssize_t lane_bytes, tuple formats, bint writable=False):
        try:
            PyObject_GetBuffer(source, &self.buffer, PyBUF_ND | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        except (BufferError, ValueError) as error:
            wanted = "writable and contiguous" if writable else "contiguous"
            raise errors.SemiringError(f"{what}: {error}. Give a buffer that is {wanted}.", operand=what) from None
        given = self.buffer.format.decode().lstrip("<=@") if self.buffer.format != NULL else "B"
        if given not in RAW and (given not in formats or self.buffer.itemsize != lane_bytes):
            raise errors.SemiringError(
                f"{what} holds items of format {given!r} and {self.buffer.itemsize} bytes. Give lanes of the right "
                f"type ({lane_bytes} bytes), or plain bytes.", operand=what)
        if self.buffer.len % lane_bytes != 0:
            raise errors.SemiringError(
                f"{what} has {self.buffer.len} bytes, which is no multiple of {lane_bytes}. Give whole lanes.",
                operand=what, length=self.buffer.len, lane_bytes=lane_bytes)
        self.at = <uint8_t *>self.buffer.buf
        self.count = <uint64_t>(self.buffer.len // lane_bytes)

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)

    cdef int apart_from(self, Lanes other, str what) except -1:
        """Refuses an operand that shares memory with this result."""
        if self.at < other.at + other.buffer.len and other.at < self.at + self.buffer.len:
            raise errors.SemiringError(f"{what} overlaps the result. Give it memory of its own.", operand=what)
        return 0

    cdef int as_many(self, uint64_t lanes, str what) except -1:
        """Refuses another number of lanes than `lanes`."""
        if self.count != lanes:
            raise errors.SemiringError(
                f"{what} has {self.count} lanes where {lanes} belong. Give as many lanes as the result has.",
                operand=what, lanes=self.count, expected=lanes)
        return 0


cdef Lanes operand(Semiring semiring, source, str what, bint writable=False):
    """A buffer of a semiring's lanes."""
    cdef const mmsb_semiring *row = semiring.row
    return Lanes.__new__(Lanes, source, what, row.lane_bytes, DTYPES[row.dtype][2:], writable)


cdef object lane_value(uint32_t dtype, const mmsb_lane *lane):
    """A lane as int or float."""
    if dtype == MMSB_DTYPE_U8:
        return lane.u8
    if dtype == MMSB_DTYPE_I32:
        return lane.i32
    if dtype == MMSB_DTYPE_I64:
        return lane.i64
    return lane.f32 if dtype == MMSB_DTYPE_F32 else lane.f64


cdef int put_lane(uint32_t dtype, value, str what, mmsb_lane *lane) except -1:
    """A number as a lane; SemiringError when it is none of that type."""
    lane.i64 = 0
    try:
        if dtype != MMSB_DTYPE_F32 and dtype != MMSB_DTYPE_F64:
            whole = int(value)
            if whole != value:
                raise TypeError
            value = whole
        if dtype == MMSB_DTYPE_U8:
            lane.u8 = value
        elif dtype == MMSB_DTYPE_I32:
            lane.i32 = value
        elif dtype == MMSB_DTYPE_I64:
            lane.i64 = value
        elif dtype == MMSB_DTYPE_F32:
            lane.f32 = value
        else:
            lane.f64 = value
    except (OverflowError, TypeError, ValueError):
        name = DTYPES[dtype][0]
        raise errors.SemiringError(f"{what} {value!r} is no {name}. Give a number of that type.", operand=what,
                                   dtype=name) from None
    return 0


cdef class Weight:
    """The w of w ⊗ x: one number, or a lane for each of x."""

    cdef mmsb_lane lane
    cdef Lanes lanes
    cdef const uint8_t *at
    cdef bint per_lane

    def __cinit__(self, source, Semiring semiring, Lanes dst):
        self.at = self.lane.bytes
        if not PyObject_CheckBuffer(source):
            put_lane(semiring.row.dtype, source, "weight", &self.lane)
            return
        self.lanes = operand(semiring, source, "weight")
        self.at = self.lanes.at
        self.per_lane = self.lanes.buffer.ndim != 0
        if self.per_lane:
            self.lanes.as_many(dst.count, "weight")
        dst.apart_from(self.lanes, "weight")


cdef class Semirings:
    """The built-in semirings that run when the CPU features named in `disable` (comma-separated) are not used.

    None stands for what MMSB_DISABLE_CPU names; `builtin` is made so. ValueError on an unknown name.
    """

    def __cinit__(self, str disable=None):
        cdef uint32_t features = mmsb_cpu_detect()
        cdef const char *unknown = NULL
        cdef bytes names = mmsb_cpu_environment() if disable is None else disable.encode("utf-8", "backslashreplace")
        if mmsb_cpu_disable(&features, names, &unknown) != MMSB_OK:
            raise ValueError(f"{unknown.decode()!r} is no CPU feature")
        mmsb_semirings_init(&self.table, features)

    def names(self):
        """[(name, dtype), ...] of every semiring there is, in a fixed order."""
        return [
            (self.table.rows[i][j].name.decode(), DTYPES[j][0])
            for i in range(MMSB_SEMIRING_COUNT)
            for j in range(MMSB_DTYPE_COUNT)
            if self.table.rows[i][j].size_bytes
        ]

    def get(self, str name, dtype):
        """The Semiring of that name ("min-plus") over lanes of `dtype` ("float64", "f8" or a numpy dtype).

        UnknownSemiringError when there is none, SemiringError when `dtype` is no type of lanes.
        """
        cdef uint32_t code = dtype_of(dtype)
        cdef bytes wanted = name.encode() if is_name(name) else b""
        cdef const mmsb_semiring *row = mmsb_semirings_find(&self.table, wanted, code)
        if row == NULL:
            known = ", ".join(sorted({known for known, over in self.names() if over == DTYPES[code][0]}))
            raise errors.UnknownSemiringError(
                f"There is no semiring {name!r} over {DTYPES[code][0]}. Over that type there are {known}.",
                semiring=name, dtype=DTYPES[code][0])
        return wrap(row, self)


cdef Semiring wrap(const mmsb_semiring *row, owner):
    """A Semiring on a row that lives as long as `owner`."""
    cdef Semiring semiring = Semiring.__new__(Semiring)
    semiring.row = row
    semiring.owner = owner
    return semiring


cdef bint is_name(name):
    """Whether this can name a semiring: C ends a name at the first NUL, and a lone surrogate has no UTF-8 form."""
    return (isinstance(name, str) and name != "" and "\0" not in name
            and not any("\ud800" <= one <= "\udfff" for one in name))


cdef int check_signature(function, str lane) except -1:
    """SemiringError when a function that numba.cfunc compiled takes or gives other lanes than these."""
    signature, wanted = getattr(function, "_sig", None), f"({lane}, {lane}) -> {lane}"
    if signature is not None and str(signature) != wanted:
        raise errors.SemiringError(f"A function is {signature} where {wanted} belongs. Compile it for that type.",
                                   dtype=lane)
    return 0


cdef class Called:
    """Memory of a row that calls two functions, and whatever keeps these alive."""

    cdef mmsb_semiring_called called
    cdef bytes name
    cdef tuple functions


cdef class Semiring:
    """⊕, ⊗, 0 and 1 over lanes of one type (docs/understand/semirings.md). Immutable; from `Semirings.get`.

    Operands are contiguous buffers: of the semiring's type, or of plain bytes that are whole lanes, at any alignment.
    Results are written into `dst`, which overlaps no other operand. SemiringError where operands do not fit, and then
    nothing was written.
    """

    def __init__(self):
        raise TypeError("use Semirings.get, Semiring.from_capsule or Semiring.from_cfuncs")

    @staticmethod
    def from_capsule(capsule):
        """The semiring of a compiled plugin: a PyCapsule named "mmsb.semiring" around a `mmsb_semiring` (semiring.h).

        The capsule is kept. SemiringError when its contents cannot be used.
        """
        if not PyCapsule_IsValid(capsule, CAPSULE):
            raise errors.SemiringError('That is no capsule named "mmsb.semiring". Build it as semiring.h describes.')
        cdef const mmsb_semiring *row = <const mmsb_semiring *>PyCapsule_GetPointer(capsule, CAPSULE)
        cdef const char *why = NULL
        if not mmsb_semiring_check(row, &why):
            raise errors.SemiringError(f"The capsule holds no usable semiring: {why.decode()}. "
                                       "Build it against the semiring.h of this release.")
        return wrap(row, capsule)

    @staticmethod
    def from_cfuncs(str name, dtype, add, mul, *, zero, one, laws=(), domain=None):
        """A semiring whose lanes are computed by two C functions of its type, `double f(double, double)` for float64.

        `add` and `mul` are addresses, or objects that carry one as `address`, as functions compiled by `numba.cfunc`
        do; the signature of these is checked. `laws` is what the caller vouches for (of `LAWS`), `domain` the least and
        the greatest lane for which. Folds go from left to right. SemiringError when a name, number, law or signature
        does not fit.
        """
        cdef Called made = Called.__new__(Called)
        cdef uint64_t plus = getattr(add, "address", add), times = getattr(mul, "address", mul)
        cdef uint32_t code = dtype_of(dtype)
        unknown = [law for law in laws if law not in LAWS]
        for function in (add, mul):
            check_signature(function, DTYPES[code][0])
        if not is_name(name) or plus == 0 or times == 0 or unknown:
            raise errors.SemiringError(
                f"Semiring {name!r} needs a name, two functions and laws out of {', '.join(LAWS)}.",
                semiring=name, unknown=unknown)
        mmsb_semiring_called_init(&made.called, code, <void (*)() noexcept nogil><size_t>plus,
                                  <void (*)() noexcept nogil><size_t>times)
        made.name = name.encode()
        made.functions = (add, mul)
        made.called.row.name = PyBytes_AS_STRING(made.name)
        made.called.row.laws = sum(1 << LAWS.index(law) for law in set(laws))
        put_lane(code, zero, "zero", &made.called.row.zero)
        put_lane(code, one, "one", &made.called.row.one)
        low, high = domain if domain is not None else (zero, zero)
        put_lane(code, low, "domain", &made.called.row.low)
        put_lane(code, high, "domain", &made.called.row.high)
        return wrap(&made.called.row, made)

    @property
    def name(self):
        """For example "min-plus" (str)."""
        return self.row.name.decode()

    @property
    def dtype(self):
        """Type of a lane, in numpy's words (str)."""
        return DTYPES[self.row.dtype][0]

    @property
    def lane_bytes(self):
        """Bytes of one lane (int)."""
        return self.row.lane_bytes

    @property
    def laws(self):
        """The laws that hold for lanes of the domain (tuple of str, out of `LAWS`)."""
        return tuple(law for bit, law in enumerate(LAWS) if self.row.laws >> bit & 1)

    @property
    def zero(self):
        """The neutral lane of ⊕ (int or float)."""
        return lane_value(self.row.dtype, &self.row.zero)

    @property
    def one(self):
        """The neutral lane of ⊗ (int or float)."""
        return lane_value(self.row.dtype, &self.row.one)

    @property
    def domain(self):
        """(least, greatest) lane for which the laws are said; NaN never is."""
        return lane_value(self.row.dtype, &self.row.low), lane_value(self.row.dtype, &self.row.high)

    def __repr__(self):
        return f"<Semiring {self.name} over {self.dtype}>"

    def add(self, dst, x):
        """Sets dst = dst ⊕ x, lane by lane. Whether a byte of `dst` changed."""
        cdef Lanes to = operand(self, dst, "dst", True)
        cdef Lanes source = operand(self, x, "x")
        source.as_many(to.count, "x")
        to.apart_from(source, "x")
        cdef bint changed
        with nogil:
            changed = self.row.add(self.row, to.at, source.at, to.count)
        return changed

    def scale(self, dst, weight, x):
        """Sets dst = weight ⊗ x. `weight` is a number or a buffer of as many lanes as `x`."""
        cdef Lanes to = operand(self, dst, "dst", True)
        cdef Lanes source = operand(self, x, "x")
        source.as_many(to.count, "x")
        to.apart_from(source, "x")
        cdef Weight w = Weight.__new__(Weight, weight, self, to)
        with nogil:
            self.row.scale(self.row, to.at, w.at, source.at, to.count, w.per_lane)

    def accumulate(self, dst, weight, x):
        """Sets dst = dst ⊕ (weight ⊗ x), with `weight` as in scale. Whether a byte of `dst` changed."""
        cdef Lanes to = operand(self, dst, "dst", True)
        cdef Lanes source = operand(self, x, "x")
        source.as_many(to.count, "x")
        to.apart_from(source, "x")
        cdef Weight w = Weight.__new__(Weight, weight, self, to)
        cdef bint changed
        with nogil:
            changed = self.row.accumulate(self.row, to.at, w.at, source.at, to.count, w.per_lane)
        return changed

    def fold_add(self, x):
        """The ⊕ of all lanes of `x` (int or float), zero of none."""
        cdef Lanes source = operand(self, x, "x")
        cdef mmsb_lane out
        with nogil:
            self.row.fold_add(self.row, &out, source.at, source.count)
        return lane_value(self.row.dtype, &out)

    def fold_mul(self, x):
        """The ⊗ of all lanes of `x` (int or float), one of none."""
        cdef Lanes source = operand(self, x, "x")
        cdef mmsb_lane out
        with nogil:
            self.row.fold_mul(self.row, &out, source.at, source.count)
        return lane_value(self.row.dtype, &out)

    def combine(self, dst, operands, weights=None):
        """Sets dst = the ⊕ over `operands` of weight ⊗ operand, beginning with zero. Whether a byte of `dst` changed.

        `operands` are buffers as long as `dst`, `weights` a buffer with one lane for each; without, nothing is
        multiplied.
        """
        cdef Lanes to = operand(self, dst, "dst", True)
        cdef Lanes w = None
        cdef Lanes one
        cdef list sources = [operand(self, x, "operand") for x in operands]
        cdef uint64_t count = len(sources)
        cdef const uint8_t *weight_at = NULL
        for one in sources:
            one.as_many(to.count, "operand")
            to.apart_from(one, "operand")
        if weights is not None:
            w = operand(self, weights, "weights")
            w.as_many(count, "weights")
            to.apart_from(w, "weights")
            weight_at = w.at
        cdef const uint8_t **at = <const uint8_t **>PyMem_Malloc((count + 1) * sizeof(uint8_t *))
        if at == NULL:
            raise MemoryError()
        cdef bint changed
        try:
            for i in range(count):
                one = sources[i]
                at[i] = one.at
            with nogil:
                changed = self.row.combine(self.row, to.at, at, weight_at, count, to.count)
        finally:
            PyMem_Free(at)
        return changed

    def csr(self, dst, CsrMatrix matrix not None, x, rows=None):
        """Sets dst = matrix ⊗ x: dst[r] is the ⊕ over the entries of row r of value ⊗ x[column].

        `x` has as many lanes as the matrix has columns, `dst` as many as it has rows. With `rows` (uint32) only those
        lanes of `dst` are computed, the others stay. Whether a byte of `dst` changed.
        """
        cdef Lanes to = operand(self, dst, "dst", True)
        cdef Lanes source = operand(self, x, "x")
        cdef Lanes value = operand(self, matrix.values, "values")
        cdef Lanes wanted = None
        cdef mmsb_csr csr = matrix.csr
        cdef const uint8_t *listed = NULL
        cdef bytes numbers
        cdef uint64_t count = csr.rows, wrong = 0
        to.as_many(csr.rows, "dst")
        source.as_many(csr.columns, "x")
        value.as_many(matrix.entries, "values")
        to.apart_from(source, "x")
        to.apart_from(value, "values")
        csr.value = value.at
        if rows is not None:
            wanted = Lanes.__new__(Lanes, rows, "rows", 4, ROW_NUMBERS)
            to.apart_from(wanted, "rows")
            numbers = wanted.at[:wanted.count * 4]  # what was checked holds, whoever changes `rows` meanwhile
            listed = <const uint8_t *>PyBytes_AS_STRING(numbers)
            count = wanted.count
            if not mmsb_csr_rows_check(&csr, listed, count, &wrong):
                raise errors.SemiringError(f"rows[{wrong}] is not one of the matrix's {csr.rows} rows.",
                                           operand="rows", index=wrong)
        cdef bint changed
        with nogil:
            changed = self.row.rows(self.row, to.at, &csr, source.at, listed, 0, count)
        return changed


cdef class CsrMatrix:
    """A sparse matrix in compressed rows, checked once.

    `row_start` (uint64, rows + 1 of them) says where the entries of each row begin, `columns` (uint32) and `values`
    (lanes of the semirings it is used with) hold the entries, row after row. Signed integers of the same size will do.
    The index arrays are copied, the values are not. SemiringError when the arrays do not describe a matrix. All three
    are attributes, the copies as bytes; `entries` counts the entries.
    """

    def __cinit__(self, row_start, columns, values, uint64_t column_count):
        cdef Lanes starts = Lanes.__new__(Lanes, row_start, "row_start", 8, ENTRY_NUMBERS)
        cdef Lanes numbers = Lanes.__new__(Lanes, columns, "columns", 4, ROW_NUMBERS)
        cdef const char *why = NULL
        cdef uint64_t at = 0
        if starts.count == 0:
            raise errors.SemiringError("row_start is empty. Give one number more than there are rows.")
        self.row_start = starts.at[:starts.count * 8]
        self.columns = numbers.at[:numbers.count * 4]
        self.values = values
        self.entries = numbers.count
        self.csr.rows = starts.count - 1
        self.csr.columns = column_count
        self.csr.row_start = <const uint8_t *>PyBytes_AS_STRING(self.row_start)
        self.csr.column = <const uint8_t *>PyBytes_AS_STRING(self.columns)
        self.csr.value = NULL
        if not mmsb_csr_check(&self.csr, self.entries, &why, &at):
            raise errors.SemiringError(f"Not a matrix in compressed rows: {why.decode()}, at index {at}.", index=at)

    @property
    def shape(self):
        """(rows, columns)."""
        return self.csr.rows, self.csr.columns


try:
    builtin = Semirings()
except ValueError:  # an unknown name in MMSB_DISABLE_CPU is for a State to refuse
    builtin = Semirings("")
