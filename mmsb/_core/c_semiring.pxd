# Semirings (csrc/semiring.h). All noexcept nogil.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "semiring.h" nogil:
    enum:
        MMSB_DTYPE_U8
        MMSB_DTYPE_I32
        MMSB_DTYPE_I64
        MMSB_DTYPE_F32
        MMSB_DTYPE_F64
        MMSB_DTYPE_COUNT
        MMSB_SEMIRING_COUNT
    ctypedef union mmsb_lane:
        uint8_t u8
        int32_t i32
        int64_t i64
        float f32
        double f64
        uint8_t bytes[8]
    ctypedef struct mmsb_csr:
        uint64_t rows
        uint64_t columns
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
                     const uint8_t *list, uint64_t first, uint64_t count) noexcept nogil
        uint8_t *failed
    ctypedef struct mmsb_semirings:
        uint32_t features
        mmsb_semiring rows[10][5]
    ctypedef struct mmsb_semiring_called:
        mmsb_semiring row
    void mmsb_semirings_init(mmsb_semirings *table, uint32_t features)
    const mmsb_semiring *mmsb_semirings_find(const mmsb_semirings *table, const char *name, uint32_t dtype)
    uint32_t mmsb_dtype_bytes(uint32_t dtype)
    bint mmsb_semiring_take_failure(const mmsb_semiring *row)
    bint mmsb_semiring_check(const mmsb_semiring *row, const char **why)
    bint mmsb_csr_check(const mmsb_csr *a, uint64_t entries, const char **why, uint64_t *at)
    bint mmsb_csr_rows_check(const mmsb_csr *a, const uint8_t *list, uint64_t count, uint64_t *at)
    bint mmsb_semiring_called_init(mmsb_semiring_called *called, uint32_t dtype, void (*plus)() noexcept nogil,
                                   void (*times)() noexcept nogil)
