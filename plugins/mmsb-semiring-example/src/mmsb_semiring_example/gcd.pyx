"""gcd-times: ⊕ is the greatest common divisor, ⊗ the product modulo 2^64, over int64.

The laws hold from 0 to 2^20, where products of three do not overflow. Below 0 a lane counts by its magnitude.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

# What is used of semiring.h, whose comments are the contract of each function.
cdef extern from "semiring.h" nogil:
    enum:
        MMSB_DTYPE_I64
        MMSB_LAW_ALL
    ctypedef union mmsb_lane:
        int64_t i64
    ctypedef struct mmsb_csr:
        const uint8_t *row_start
        const uint8_t *column
        const uint8_t *value
    ctypedef struct mmsb_semiring:
        uint64_t size_bytes
        const char *name
        uint32_t dtype
        uint32_t lane_bytes
        uint64_t laws
        mmsb_lane zero
        mmsb_lane one
        mmsb_lane low
        mmsb_lane high
        bint (*add)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes) noexcept nogil
        void (*scale)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                      bint per_lane) noexcept nogil
        bint (*accumulate)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x,
                           uint64_t lanes, bint per_lane) noexcept nogil
        void (*fold_add)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept nogil
        void (*fold_mul)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept nogil
        bint (*combine)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w,
                        uint64_t count, uint64_t lanes) noexcept nogil
        bint (*rows)(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x,
                     const uint8_t *wanted, uint64_t first, uint64_t count) noexcept nogil


# ---- lanes: at any alignment, so they are copied

cdef inline uint64_t lane(const uint8_t *at, uint64_t i) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at + i * 8, 8)
    return value


cdef inline bint put(uint8_t *at, uint64_t i, uint64_t value) noexcept nogil:
    """Stores a lane; whether a byte came out different."""
    cdef bint changed = memcmp(at + i * 8, &value, 8) != 0
    memcpy(at + i * 8, &value, 8)
    return changed


cdef inline uint64_t magnitude(uint64_t a) noexcept nogil:
    return 0 - a if a >> 63 else a


cdef inline uint64_t plus(uint64_t a, uint64_t b) noexcept nogil:
    """Euclid's algorithm: Elements, book VII, proposition 2."""
    a, b = magnitude(a), magnitude(b)
    while b:
        a, b = b, a % b
    return a


# ---- the functions of the row

cdef bint add(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes) noexcept nogil:
    cdef bint changed = False
    cdef uint64_t i
    for i in range(lanes):
        changed |= put(dst, i, plus(lane(dst, i), lane(x, i)))
    return changed


cdef void scale(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                bint per_lane) noexcept nogil:
    cdef uint64_t i
    for i in range(lanes):
        put(dst, i, lane(w, i if per_lane else 0) * lane(x, i))


cdef bint accumulate(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                     bint per_lane) noexcept nogil:
    cdef bint changed = False
    cdef uint64_t i
    for i in range(lanes):
        changed |= put(dst, i, plus(lane(dst, i), lane(w, i if per_lane else 0) * lane(x, i)))
    return changed


cdef void fold_add(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept nogil:
    cdef uint64_t i, total = self.zero.i64
    for i in range(lanes):
        total = plus(total, lane(x, i))
    out.i64 = total


cdef void fold_mul(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) noexcept nogil:
    cdef uint64_t i, total = self.one.i64
    for i in range(lanes):
        total *= lane(x, i)
    out.i64 = total


cdef bint combine(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w, uint64_t count,
                  uint64_t lanes) noexcept nogil:
    cdef bint changed = False
    cdef uint64_t i, k, total
    for i in range(lanes):
        total = self.zero.i64
        for k in range(count):
            total = plus(total, lane(x[k], i) if w == NULL else lane(w, k) * lane(x[k], i))
        changed |= put(dst, i, total)
    return changed


cdef bint rows(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x, const uint8_t *wanted,
               uint64_t first, uint64_t count) noexcept nogil:
    cdef bint changed = False
    cdef uint64_t i, k, total, r
    cdef uint32_t number
    for i in range(count):
        r = first + i
        if wanted != NULL:
            memcpy(&number, wanted + i * 4, 4)
            r = number
        total = self.zero.i64
        for k in range(lane(a.row_start, r), lane(a.row_start, r + 1)):
            memcpy(&number, a.column + k * 4, 4)
            total = plus(total, lane(a.value, k) * lane(x, number))
        changed |= put(y, r, total)
    return changed


cdef mmsb_semiring row
row.size_bytes = sizeof(mmsb_semiring)
row.name = "gcd-times"
row.dtype = MMSB_DTYPE_I64
row.lane_bytes = 8
row.laws = MMSB_LAW_ALL
row.zero.i64 = 0
row.one.i64 = 1
row.low.i64 = 0
row.high.i64 = 1 << 20
row.add = add
row.scale = scale
row.accumulate = accumulate
row.fold_add = fold_add
row.fold_mul = fold_mul
row.combine = combine
row.rows = rows


def capsule():
    """A PyCapsule named "mmsb.semiring" around the row, which lives as long as this module."""
    return PyCapsule_New(&row, "mmsb.semiring", NULL)
