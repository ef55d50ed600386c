/* Semirings over typed lanes of a page: ⊕ merges, ⊗ carries a value along an edge.
 *
 * A semiring is a row: a value with its facts and its functions, the size first. The built-in rows stand in a table
 * that is a value too: scalar functions fill it, faster levels overlay them. A row may also come from elsewhere (a
 * compiled plugin hands one over in a capsule named "mmsb.semiring"; two scalar functions make one here), and the graph
 * knows no difference: it holds a `const mmsb_semiring *`.
 *
 * What each semiring computes, NaN, signed zeros, overflow and the order of folds: docs/understand/semirings.md. */
#ifndef MMSB_SEMIRING_H
#define MMSB_SEMIRING_H

#include "base.h"

typedef enum mmsb_dtype {
    MMSB_DTYPE_U8,
    MMSB_DTYPE_I32,
    MMSB_DTYPE_I64,
    MMSB_DTYPE_F32,
    MMSB_DTYPE_F64,
    MMSB_DTYPE_COUNT,
} mmsb_dtype;

/* Laws, said of lanes in [low, high] of the row and read as numbers: −0 equals +0. ADD_ASSOCIATIVE and ADD_COMMUTATIVE
 * hold of bytes and of every lane, NaN and all, unless the page on semirings says otherwise. */
enum {
    MMSB_LAW_ADD_ASSOCIATIVE = 1u << 0,
    MMSB_LAW_ADD_COMMUTATIVE = 1u << 1,
    MMSB_LAW_ADD_IDEMPOTENT = 1u << 2,
    MMSB_LAW_ADD_IDENTITY = 1u << 3, /* 0 ⊕ x = x = x ⊕ 0 */
    MMSB_LAW_MUL_ASSOCIATIVE = 1u << 4,
    MMSB_LAW_MUL_IDENTITY = 1u << 5,       /* 1 ⊗ x = x = x ⊗ 1 */
    MMSB_LAW_LEFT_DISTRIBUTIVE = 1u << 6,  /* w ⊗ (x ⊕ y) = (w ⊗ x) ⊕ (w ⊗ y) */
    MMSB_LAW_RIGHT_DISTRIBUTIVE = 1u << 7, /* (x ⊕ y) ⊗ w = (x ⊗ w) ⊕ (y ⊗ w) */
    MMSB_LAW_ZERO_ANNIHILATES = 1u << 8,   /* 0 ⊗ x = 0 = x ⊗ 0 */
    MMSB_LAW_ALL = (1u << 9) - 1,
};

/* One lane of any type. */
typedef union mmsb_lane {
    uint8_t u8;
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t bytes[8];
} mmsb_lane;

/* A sparse matrix in compressed rows: row r has the entries row_start[r] <= k < row_start[r + 1]. The arrays may have
 * any alignment (they lie in pages); mmsb_csr_check vouches for them before a kernel follows them. */
typedef struct mmsb_csr {
    uint64_t rows, columns;
    const uint8_t *row_start; /* u64[rows + 1] */
    const uint8_t *column;    /* u32 per entry, below `columns` */
    const uint8_t *value;     /* a lane per entry */
} mmsb_csr;

typedef struct mmsb_semiring mmsb_semiring;

/* In every function: lengths count lanes, pointers may have any alignment, nothing outside the lanes is touched, and
 * what is written overlaps nothing else that is read. `changed` tells whether a byte of dst came out different. `self`
 * is the row that the function was called through. */
struct mmsb_semiring {
    uint64_t size_bytes; /* sizeof(mmsb_semiring) of whoever made the row: fields may be added at the end */
    const char *name;    /* "min-plus": as long as the row lives */
    uint32_t dtype;      /* mmsb_dtype */
    uint32_t lane_bytes;
    uint64_t laws; /* MMSB_LAW_* */
    mmsb_lane zero, one;
    mmsb_lane low, high; /* the lanes for which the laws are said, both ends included; floats: NaN never is */

    /* dst = dst ⊕ x. Returns changed. */
    bool (*add)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes);

    /* dst = w ⊗ x; w is one lane, or with `per_lane` as many as x has. */
    void (*scale)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                  bool per_lane);

    /* dst = dst ⊕ (w ⊗ x), w as in scale. Returns changed. */
    bool (*accumulate)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                       bool per_lane);

    /* *out = the ⊕, or ⊗, of all lanes of x, in N = 64 / lane_bytes interleaved lanes: lane j starts at the neutral
     * element (zero; one) and takes x[j], x[j + N], ...; then lane j takes lane j + N/2, for j < N/2, and so on by
     * halves, down to lane 0. last-write folds its ⊕, and a row of mmsb_semiring_called both, from left to right. */
    void (*fold_add)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes);
    void (*fold_mul)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes);

    /* dst = (((0 ⊕ w[0] ⊗ x[0]) ⊕ w[1] ⊗ x[1]) ...) over `count` operands of `lanes` lanes each; w holds `count` lanes,
     * or is NULL: then nothing is multiplied. The old dst is not an operand. Returns changed. */
    bool (*combine)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w, uint64_t count,
                    uint64_t lanes);

    /* y[r] = the ⊕ over the entries k of row r of value[k] ⊗ x[column[k]], for the rows first <= r < first + count, or
     * for the `count` rows of `list` (u32 each) when that is not NULL. Folded like fold_add, but with N = 4 for all
     * types, because rows are short. `a` was checked, every row is below a->rows; x has a->columns lanes and y a->rows.
     * Returns changed. */
    bool (*rows)(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x, const uint8_t *list,
                 uint64_t first, uint64_t count);

    /* NULL, or set to 1 by a function that could not do its work, as code of another language may: what came out is
     * not used then, and whoever called clears it (mmsb_semiring_take_failure). */
    uint8_t *failed;
};

typedef enum mmsb_semiring_id {
    MMSB_SEMIRING_PLUS_TIMES,
    MMSB_SEMIRING_MIN_PLUS,
    MMSB_SEMIRING_MAX_PLUS,
    MMSB_SEMIRING_MAX_TIMES,
    MMSB_SEMIRING_MIN_MAX,
    MMSB_SEMIRING_OR_AND,
    MMSB_SEMIRING_XOR_AND,
    MMSB_SEMIRING_LAST_WRITE,
    MMSB_SEMIRING_BIT_UNION,
    MMSB_SEMIRING_SATURATING_PLUS,
    MMSB_SEMIRING_COUNT,
} mmsb_semiring_id;

typedef struct mmsb_semirings {
    uint32_t features;                                         /* MMSB_CPU_* in use */
    mmsb_semiring rows[MMSB_SEMIRING_COUNT][MMSB_DTYPE_COUNT]; /* size_bytes 0: there is no such row */
} mmsb_semirings;

/* Fills a table with the best allowed level of each row. `features` as from mmsb_cpu_detect/_disable. */
void mmsb_semirings_init(mmsb_semirings *table, uint32_t features);

/* The row of that name ("min-plus") and type, or NULL. */
const mmsb_semiring *mmsb_semirings_find(const mmsb_semirings *table, const char *name, uint32_t dtype);

/* Bytes of one lane, 0 for a type that does not exist. */
uint32_t mmsb_dtype_bytes(uint32_t dtype);

/* Whether a function of the row has failed since this was asked last. */
static inline bool mmsb_semiring_take_failure(const mmsb_semiring *row) {
    if (MMSB_LIKELY(row->failed == NULL || *row->failed == 0)) return false;
    *row->failed = 0;
    return true;
}

/* Whether a row from elsewhere may be used; *why (not NULL) says what is wrong with it. */
bool mmsb_semiring_check(const mmsb_semiring *row, const char **why);

/* Whether the arrays of a matrix that holds `entries` entries may be followed: row_start begins at 0, never falls and
 * ends at `entries`, and every column is below `columns`. *why says what is wrong, *at in which place of the array. */
bool mmsb_csr_check(const mmsb_csr *a, uint64_t entries, const char **why, uint64_t *at);

/* Whether `count` row numbers (u32 each) lie below a->rows; *at is the first that does not. */
bool mmsb_csr_rows_check(const mmsb_csr *a, const uint8_t *list, uint64_t count, uint64_t *at);

/* A row whose lanes are computed by two plain functions of its type, `double f(double, double)` for f64: slow, and the
 * same bytes at every level. `row` comes first, so that `self` leads here. */
typedef struct mmsb_semiring_called {
    mmsb_semiring row;
    void (*plus)(void), (*times)(void);
} mmsb_semiring_called;

/* Sets the functions and lane_bytes of called->row for its dtype; the caller fills in name, laws and lanes.
 * false: no such dtype. */
bool mmsb_semiring_called_init(mmsb_semiring_called *called, uint32_t dtype, void (*plus)(void), void (*times)(void));

#endif
