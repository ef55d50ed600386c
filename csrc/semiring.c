/* The facts of the built-in semirings, and the checks of what comes from elsewhere. */
#include "semiring.h"

#include "cpu.h"
#include "semiring_isa.h"

#include <float.h>

static const char *const names[MMSB_SEMIRING_COUNT] = {
    [MMSB_SEMIRING_PLUS_TIMES] = "plus-times", [MMSB_SEMIRING_MIN_PLUS] = "min-plus",
    [MMSB_SEMIRING_MAX_PLUS] = "max-plus",     [MMSB_SEMIRING_MAX_TIMES] = "max-times",
    [MMSB_SEMIRING_MIN_MAX] = "min-max",       [MMSB_SEMIRING_OR_AND] = "or-and",
    [MMSB_SEMIRING_XOR_AND] = "xor-and",       [MMSB_SEMIRING_LAST_WRITE] = "last-write",
    [MMSB_SEMIRING_BIT_UNION] = "bit-union",   [MMSB_SEMIRING_SATURATING_PLUS] = "saturating-plus",
};

/* What rows have in common. A ring of integers modulo 2^n lacks only x ⊕ x = x; so do bits under xor and naturals that
 * stop at the greatest number. Rounding takes more: sums and products no longer associate, products no longer
 * distribute over sums. They do over min and max, because rounding never turns an order around. Clamped at both ends,
 * sums stop associating: (greatest ⊗ 1) ⊗ −1. */
enum {
    LATTICE = MMSB_LAW_ALL,
    RING = MMSB_LAW_ALL & ~MMSB_LAW_ADD_IDEMPOTENT,
    ROUNDED_RING = RING & ~(MMSB_LAW_ADD_ASSOCIATIVE | MMSB_LAW_MUL_ASSOCIATIVE | MMSB_LAW_LEFT_DISTRIBUTIVE |
                            MMSB_LAW_RIGHT_DISTRIBUTIVE),
    INEXACT_PRODUCT = LATTICE & ~MMSB_LAW_MUL_ASSOCIATIVE,
    LAST = LATTICE & ~(MMSB_LAW_ADD_COMMUTATIVE | MMSB_LAW_ADD_IDENTITY),
    ROUNDED_LAST = LAST & ~MMSB_LAW_MUL_ASSOCIATIVE,
};

#define ROW(id, dtype_, field, laws_, zero_, one_, low_, high_)                                                     \
    {                                                                                                               \
        MMSB_SEMIRING_##id, MMSB_DTYPE_##dtype_, laws_, {.field = (zero_)}, {.field = (one_)}, {.field = (low_)}, { \
            .field = (high_)                                                                                        \
        }                                                                                                           \
    }
#define U8(id, laws, ...) ROW(id, U8, u8, laws, __VA_ARGS__)
#define I32(id, laws, ...) ROW(id, I32, i32, laws, __VA_ARGS__)
#define I64(id, laws, ...) ROW(id, I64, i64, laws, __VA_ARGS__)
#define F32(id, laws, ...) ROW(id, F32, f32, laws, __VA_ARGS__)
#define F64(id, laws, ...) ROW(id, F64, f64, laws, __VA_ARGS__)
#define INF __builtin_inf()

static const struct {
    mmsb_semiring_id id;
    mmsb_dtype dtype;
    uint64_t laws;
    mmsb_lane zero, one, low, high;
} facts[] = {
    U8(PLUS_TIMES, RING, 0, 1, 0, 255),
    I32(PLUS_TIMES, RING, 0, 1, INT32_MIN, INT32_MAX),
    I64(PLUS_TIMES, RING, 0, 1, INT64_MIN, INT64_MAX),
    F32(PLUS_TIMES, ROUNDED_RING, 0, 1, -FLT_MAX, FLT_MAX),
    F64(PLUS_TIMES, ROUNDED_RING, 0, 1, -DBL_MAX, DBL_MAX),

    U8(MIN_PLUS, LATTICE, 255, 0, 0, 255),
    I32(MIN_PLUS, INEXACT_PRODUCT, INT32_MAX, 0, INT32_MIN, INT32_MAX),
    I64(MIN_PLUS, INEXACT_PRODUCT, INT64_MAX, 0, INT64_MIN, INT64_MAX),
    F32(MIN_PLUS, INEXACT_PRODUCT, (float)INF, 0, -FLT_MAX, (float)INF),
    F64(MIN_PLUS, INEXACT_PRODUCT, INF, 0, -DBL_MAX, INF),

    I32(MAX_PLUS, INEXACT_PRODUCT, INT32_MIN, 0, INT32_MIN, INT32_MAX),
    I64(MAX_PLUS, INEXACT_PRODUCT, INT64_MIN, 0, INT64_MIN, INT64_MAX),
    F32(MAX_PLUS, INEXACT_PRODUCT, -(float)INF, 0, -(float)INF, FLT_MAX),
    F64(MAX_PLUS, INEXACT_PRODUCT, -INF, 0, -INF, DBL_MAX),

    U8(MAX_TIMES, LATTICE, 0, 1, 0, 255),
    I32(MAX_TIMES, LATTICE, 0, 1, 0, INT32_MAX),
    I64(MAX_TIMES, LATTICE, 0, 1, 0, INT64_MAX),
    F32(MAX_TIMES, INEXACT_PRODUCT, 0, 1, 0, FLT_MAX),
    F64(MAX_TIMES, INEXACT_PRODUCT, 0, 1, 0, DBL_MAX),

    U8(MIN_MAX, LATTICE, 255, 0, 0, 255),
    I32(MIN_MAX, LATTICE, INT32_MAX, INT32_MIN, INT32_MIN, INT32_MAX),
    I64(MIN_MAX, LATTICE, INT64_MAX, INT64_MIN, INT64_MIN, INT64_MAX),
    F32(MIN_MAX, LATTICE, (float)INF, -(float)INF, -(float)INF, (float)INF),
    F64(MIN_MAX, LATTICE, INF, -INF, -INF, INF),

    U8(OR_AND, LATTICE, 0, 1, 0, 1),
    I32(OR_AND, LATTICE, 0, 1, 0, 1),
    I64(OR_AND, LATTICE, 0, 1, 0, 1),

    U8(XOR_AND, RING, 0, 255, 0, 255),
    I32(XOR_AND, RING, 0, -1, INT32_MIN, INT32_MAX),
    I64(XOR_AND, RING, 0, -1, INT64_MIN, INT64_MAX),

    U8(LAST_WRITE, LAST, 0, 1, 0, 255),
    I32(LAST_WRITE, LAST, 0, 1, INT32_MIN, INT32_MAX),
    I64(LAST_WRITE, LAST, 0, 1, INT64_MIN, INT64_MAX),
    F32(LAST_WRITE, ROUNDED_LAST, 0, 1, -FLT_MAX, FLT_MAX),
    F64(LAST_WRITE, ROUNDED_LAST, 0, 1, -DBL_MAX, DBL_MAX),

    U8(BIT_UNION, LATTICE, 0, 255, 0, 255),
    I32(BIT_UNION, LATTICE, 0, -1, INT32_MIN, INT32_MAX),
    I64(BIT_UNION, LATTICE, 0, -1, INT64_MIN, INT64_MAX),

    U8(SATURATING_PLUS, RING, 0, 1, 0, 255),
    I32(SATURATING_PLUS, RING, 0, 1, 0, INT32_MAX),
    I64(SATURATING_PLUS, RING, 0, 1, 0, INT64_MAX),
};

void mmsb_semirings_init(mmsb_semirings *table, uint32_t features) {
    memset(table, 0, sizeof *table);
    table->features = features;
    mmsb_semirings_fill_scalar(table);
    if (features & MMSB_CPU_AVX2) mmsb_semirings_fill_avx2(table);
    if (features & MMSB_CPU_AVX512) mmsb_semirings_fill_avx512(table);
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        mmsb_semiring *row = &table->rows[facts[i].id][facts[i].dtype];
        row->size_bytes = sizeof *row;
        row->name = names[facts[i].id];
        row->dtype = facts[i].dtype;
        row->lane_bytes = mmsb_dtype_bytes(facts[i].dtype);
        row->laws = facts[i].laws;
        row->zero = facts[i].zero;
        row->one = facts[i].one;
        row->low = facts[i].low;
        row->high = facts[i].high;
    }
}

const mmsb_semiring *mmsb_semirings_find(const mmsb_semirings *table, const char *name, uint32_t dtype) {
    if (dtype >= MMSB_DTYPE_COUNT) return NULL;
    for (int id = 0; id < MMSB_SEMIRING_COUNT; id++)
        if (strcmp(names[id], name) == 0 && table->rows[id][dtype].size_bytes != 0) return &table->rows[id][dtype];
    return NULL;
}

uint32_t mmsb_dtype_bytes(uint32_t dtype) {
    static const uint8_t bytes[MMSB_DTYPE_COUNT] = {1, 4, 8, 4, 8};
    return dtype < MMSB_DTYPE_COUNT ? bytes[dtype] : 0;
}

bool mmsb_semiring_check(const mmsb_semiring *row, const char **why) {
    *why = row->size_bytes < sizeof *row                     ? "its size is smaller than this release's mmsb_semiring"
           : row->name == NULL || row->name[0] == '\0'       ? "it has no name"
           : mmsb_dtype_bytes(row->dtype) == 0               ? "its dtype is not one of enum mmsb_dtype"
           : row->lane_bytes != mmsb_dtype_bytes(row->dtype) ? "lane_bytes is not the size of its dtype"
           : row->laws & ~(uint64_t)MMSB_LAW_ALL             ? "it declares laws that this release does not know"
           : row->add == NULL || row->scale == NULL || row->accumulate == NULL || row->fold_add == NULL ||
                   row->fold_mul == NULL || row->combine == NULL || row->rows == NULL
               ? "one of its functions is NULL"
               : NULL;
    return *why == NULL;
}

bool mmsb_csr_check(const mmsb_csr *a, uint64_t entries, const char **why, uint64_t *at) {
    uint64_t before = 0;
    for (*at = 0; *at <= a->rows; ++*at) {
        uint64_t start = mmsb_load_u64(a->row_start + *at * 8);
        *why = *at == 0 && start != 0               ? "row_start does not begin at 0"
               : start < before                     ? "row_start falls"
               : start > entries                    ? "row_start goes beyond the entries"
               : *at == a->rows && start != entries ? "row_start does not end at the number of entries"
                                                    : NULL;
        if (*why != NULL) return false;
        before = start;
    }
    *why = "the column is not below the number of columns";
    for (*at = 0; *at < entries; ++*at)
        if (mmsb_load_u32(a->column + *at * 4) >= a->columns) return false;
    return true;
}

bool mmsb_csr_rows_check(const mmsb_csr *a, const uint8_t *list, uint64_t count, uint64_t *at) {
    for (*at = 0; *at < count; ++*at)
        if (mmsb_load_u32(list + *at * 4) >= a->rows) return false;
    return true;
}
