/* The functions of one semiring over one type, for one level. The including file defines, once per type:
 *
 *   T, U, TYPE         lane type, the unsigned type of its size, and its suffix: double, uint64_t, f64
 *
 * and, where the level has vectors (csrc/semiring_lanes_avx2.h),
 *
 *   V                  how many lanes one holds; v_OP_TYPE is the twin of the lane operation OP
 *   V_SET(p)           a vector with the lane at p in each place
 *   ROW_BYTES          where rows are gathered: 8 or 4, the size of T
 *
 * and once per semiring, undefined again at the end of this file:
 *
 *   NAME               min_plus: functions are called add_min_plus_f64 and so on
 *   PLUS, TIMES        names of lane operations (csrc/semiring_lanes.h)
 *   DONE               what a result goes through before it is stored; `done` unless told
 *   PLUS_IN_ORDER, TIMES_IN_ORDER   1: folds go from left to right; 0 unless told
 *   CALLED             instead of all these, and without vectors: lanes are computed by the functions of `self`, in
 *                      order, and T, U and TYPE are undefined at the end too
 *
 * The combinations in csrc/semiring_set.h are tested, no others. */
#ifndef MMSB_SEMIRING_TMPL_NAMES
#define MMSB_SEMIRING_TMPL_NAMES
#include "semiring_lanes.h"

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define OP_(op, type) op##_##type
#define OP(op, type) OP_(op, type)

/* Sets the functions of a row to those of one semiring over one type. */
#define USE(row, name, type)                              \
    do {                                                  \
        (row)->add = JOIN(add, name, type);               \
        (row)->scale = JOIN(scale, name, type);           \
        (row)->accumulate = JOIN(accumulate, name, type); \
        (row)->fold_add = JOIN(fold_add, name, type);     \
        (row)->fold_mul = JOIN(fold_mul, name, type);     \
        (row)->combine = JOIN(combine, name, type);       \
        (row)->rows = JOIN(rows, name, type);             \
    } while (0)
#endif

#ifdef CALLED
#define NAME called
#define DONE keep
#define PLUS_IN_ORDER 1
#define TIMES_IN_ORDER 1
#endif

#ifdef NAME
#ifndef DONE
#define DONE done
#endif
#ifndef PLUS_IN_ORDER
#define PLUS_IN_ORDER 0
#endif
#ifndef TIMES_IN_ORDER
#define TIMES_IN_ORDER 0
#endif

#define FN(verb) JOIN(verb, NAME, TYPE)
#ifdef CALLED
#define ADD(a, b) ((T (*)(T, T))((const mmsb_semiring_called *)self)->plus)(a, b)
#define MUL(a, b) ((T (*)(T, T))((const mmsb_semiring_called *)self)->times)(a, b)
#else
#define ADD(a, b) OP(PLUS, TYPE)(a, b)
#define MUL(a, b) OP(TIMES, TYPE)(a, b)
#define V_ADD(a, b) JOIN(v, PLUS, TYPE)(a, b)
#define V_MUL(a, b) JOIN(v, TIMES, TYPE)(a, b)
#define V_DONE(a) JOIN(v, DONE, TYPE)(a)
#define V_NEEDS_DONE(a, b) JOIN(v_needs, DONE, TYPE)(a, b)
#endif
#define FINAL(a) OP(DONE, TYPE)(a)
#define BITS(a) OP(mmsb_lane_bits, TYPE)(a)
#define LANES(p) ((OP(lanes, TYPE) *)(p))
#define LANES_OF(p) ((const OP(lanes, TYPE) *)(p))

static bool FN(add)(const mmsb_semiring *self, uint8_t *restrict dst, const uint8_t *restrict x, uint64_t lanes) {
    (void)self;
    uint64_t i = 0;
    U changed = 0;
#ifdef V
    /* Two vectors at a time, so that one comparison and a branch that is hardly ever taken serve for both. */
    vec differ = _mm256_setzero_si256();
    for (; i + 2 * V <= lanes; i += 2 * V) {
        uint8_t *to = dst + i * sizeof(T);
        const uint8_t *from = x + i * sizeof(T);
        v_fetch_ahead(to, from);
        vec old_0 = v_load(to), fresh_0 = V_ADD(old_0, v_load(from));
        vec old_1 = v_load(to + 32), fresh_1 = V_ADD(old_1, v_load(from + 32));
        if (MMSB_UNLIKELY(V_NEEDS_DONE(fresh_0, fresh_1))) {
            fresh_0 = V_DONE(fresh_0);
            fresh_1 = V_DONE(fresh_1);
        }
        vec change = _mm256_or_si256(_mm256_xor_si256(old_0, fresh_0), _mm256_xor_si256(old_1, fresh_1));
        if (_mm256_testz_si256(change, change)) continue; /* a sweep that has converged writes no memory back */
        v_store(to, fresh_0);
        v_store(to + 32, fresh_1);
        differ = _mm256_or_si256(differ, change);
    }
    changed = !_mm256_testz_si256(differ, differ);
#endif
    for (; i < lanes; i++) {
        T old = LANES(dst)[i], fresh = FINAL(ADD(old, LANES_OF(x)[i]));
        LANES(dst)[i] = fresh;
        changed |= BITS(old) ^ BITS(fresh);
    }
    return changed != 0;
}

static inline void FN(scale_by)(const mmsb_semiring *self, uint8_t *restrict dst, const uint8_t *restrict w,
                                const uint8_t *restrict x, uint64_t lanes, const bool per_lane) {
    (void)self;
    uint64_t i = 0;
#ifdef V
    vec one_w = V_SET(w);
    for (; i + V <= lanes; i += V) {
        vec weight = per_lane ? v_load(w + i * sizeof(T)) : one_w;
        v_store(dst + i * sizeof(T), V_DONE(V_MUL(weight, v_load(x + i * sizeof(T)))));
    }
#endif
    for (; i < lanes; i++) LANES(dst)[i] = FINAL(MUL(LANES_OF(w)[per_lane ? i : 0], LANES_OF(x)[i]));
}

static void FN(scale)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                      bool per_lane) {
    if (lanes == 0) return;
    if (per_lane)
        FN(scale_by)(self, dst, w, x, lanes, true);
    else
        FN(scale_by)(self, dst, w, x, lanes, false);
}

static inline bool FN(accumulate_by)(const mmsb_semiring *self, uint8_t *restrict dst, const uint8_t *restrict w,
                                     const uint8_t *restrict x, uint64_t lanes, const bool per_lane) {
    (void)self;
    uint64_t i = 0;
    U changed = 0;
#ifdef V
    vec differ = _mm256_setzero_si256(), one_w = V_SET(w);
    for (; i + V <= lanes; i += V) {
        v_fetch_ahead(dst + i * sizeof(T), x + i * sizeof(T));
        vec weight = per_lane ? v_load(w + i * sizeof(T)) : one_w, old = v_load(dst + i * sizeof(T));
        vec fresh = V_DONE(V_ADD(old, V_MUL(weight, v_load(x + i * sizeof(T)))));
        v_store(dst + i * sizeof(T), fresh);
        differ = _mm256_or_si256(differ, _mm256_xor_si256(old, fresh));
    }
    changed = !_mm256_testz_si256(differ, differ);
#endif
    for (; i < lanes; i++) {
        T old = LANES(dst)[i], fresh = FINAL(ADD(old, MUL(LANES_OF(w)[per_lane ? i : 0], LANES_OF(x)[i])));
        LANES(dst)[i] = fresh;
        changed |= BITS(old) ^ BITS(fresh);
    }
    return changed != 0;
}

static bool FN(accumulate)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                           bool per_lane) {
    if (lanes == 0) return false;
    return per_lane ? FN(accumulate_by)(self, dst, w, x, lanes, true)
                    : FN(accumulate_by)(self, dst, w, x, lanes, false);
}

#define FOLD_LANES (64 / sizeof(T))

static void FN(fold_add)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) {
    T zero = self->zero.TYPE;
#define FOLD ADD
#define V_FOLD V_ADD
#define NEUTRAL zero
#define IN_ORDER PLUS_IN_ORDER
#include "semiring_fold_tmpl.h"
}

static void FN(fold_mul)(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) {
    T one = self->one.TYPE;
#define FOLD MUL
#define V_FOLD V_MUL
#define NEUTRAL one
#define IN_ORDER TIMES_IN_ORDER
#include "semiring_fold_tmpl.h"
}

/* Puts `lanes` computed lanes in place; whether they are other than those there. */
static inline bool FN(put)(uint8_t *dst, const T *fresh, uint64_t lanes) {
    if (memcmp(dst, fresh, lanes * sizeof(T)) == 0) return false;
    memcpy(dst, fresh, lanes * sizeof(T));
    return true;
}

/* Up to this many lanes operands are walked lane by lane, with the result in a register: a page of one lane costs
 * little more than the load of its operands. Above, a block of the result stays in the first cache while operands
 * stream by. */
#define COMBINE_FEW 4
#define COMBINE_BLOCK (4096 / sizeof(T))

static bool FN(combine)(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w,
                        uint64_t count, uint64_t lanes) {
    T fresh[COMBINE_BLOCK];
    if (lanes <= COMBINE_FEW) {
        for (uint64_t i = 0; i < lanes; i++) {
            T sum = self->zero.TYPE;
            if (w != NULL)
                for (uint64_t k = 0; k < count; k++) sum = ADD(sum, MUL(LANES_OF(w)[k], LANES_OF(x[k])[i]));
            else
                for (uint64_t k = 0; k < count; k++) sum = ADD(sum, LANES_OF(x[k])[i]);
            fresh[i] = FINAL(sum);
        }
        return FN(put)(dst, fresh, lanes);
    }
    bool changed = false;
    for (uint64_t from = 0; from < lanes; from += COMBINE_BLOCK) {
        uint64_t at = from * sizeof(T), n = mmsb_min_u64(COMBINE_BLOCK, lanes - from);
        for (uint64_t i = 0; i < n; i++) fresh[i] = self->zero.TYPE;
        for (uint64_t k = 0; k < count; k++) {
            if (w != NULL)
                FN(accumulate_by)(self, (uint8_t *)fresh, w + k * sizeof(T), x[k] + at, n, false);
            else
                FN(add)(self, (uint8_t *)fresh, x[k] + at, n);
        }
        changed |= FN(put)(dst + at, fresh, n);
    }
    return changed;
}

#define ROW_LANES 4

/* One row by its definition. */
static inline T FN(row)(const mmsb_semiring *self, const mmsb_csr *a, const uint8_t *x, uint64_t k, uint64_t end) {
    T zero = self->zero.TYPE, lane[ROW_LANES] = {zero, zero, zero, zero};
    for (uint64_t j = 0; k < end; k++, j = PLUS_IN_ORDER ? 0 : (j + 1) % ROW_LANES)
        lane[j] = ADD(lane[j], MUL(LANES_OF(a->value)[k], LANES_OF(x)[mmsb_load_u32(a->column + k * 4)]));
    if (PLUS_IN_ORDER) return FINAL(lane[0]);
    T even = ADD(lane[0], lane[2]), odd = ADD(lane[1], lane[3]);
    return FINAL(ADD(even, odd));
}

#if defined(ROW_BYTES) && !PLUS_IN_ORDER
#define V_ROW(what) OP(v_##what, ROW_BYTES)

/* The same with the four lanes in one vector. No branch on whether the last entries are fewer than four: rows of random
 * length would mispredict it. A branch on NaN is free, and shorter than a blend. */
static inline T FN(row_gathered)(const mmsb_semiring *self, const mmsb_csr *a, const uint8_t *x, uint64_t k,
                                 uint64_t end) {
    vec sum = V_SET(self->zero.bytes);
    for (; k + ROW_LANES <= end; k += ROW_LANES)
        sum = V_ADD(sum, V_MUL(V_ROW(four)(a->value + k * sizeof(T)), V_ROW(gather)(x, a->column + k * 4)));
    uint64_t n = end - k;
    vec w = V_ROW(some)(a->value + k * sizeof(T), n), last = V_ROW(gather_some)(x, a->column + k * 4, n);
    sum = V_ROW(put_some)(sum, V_ADD(sum, V_MUL(w, last)), n);
    sum = V_ADD(sum, V_ROW(half)(sum));
    sum = V_ADD(sum, V_ROW(quarter)(sum));
    T lane;
    memcpy(&lane, &sum, sizeof lane);
    return FINAL(lane);
}
#undef V_ROW
#else
#define row_gathered row
#endif

static inline bool FN(rows_by)(const mmsb_semiring *self, uint8_t *restrict y, const mmsb_csr a, const uint8_t *x,
                               const uint8_t *list, uint64_t first, uint64_t count, const bool gathered) {
    U changed = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t r = list != NULL ? mmsb_load_u32(list + i * 4) : first + i;
        uint64_t k = mmsb_load_u64(a.row_start + r * 8), end = mmsb_load_u64(a.row_start + r * 8 + 8);
        T fresh = gathered ? FN(row_gathered)(self, &a, x, k, end) : FN(row)(self, &a, x, k, end);
        T old = LANES(y)[r];
        LANES(y)[r] = fresh;
        changed |= BITS(old) ^ BITS(fresh);
    }
    return changed != 0;
}

static bool FN(rows)(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x, const uint8_t *list,
                     uint64_t first, uint64_t count) {
    /* The gather instruction takes signed indices. */
    if (a->columns <= INT32_MAX) return FN(rows_by)(self, y, *a, x, list, first, count, true);
    return FN(rows_by)(self, y, *a, x, list, first, count, false);
}

#undef row_gathered
#undef ROW_LANES
#undef COMBINE_FEW
#undef COMBINE_BLOCK
#undef FOLD_LANES
#undef FN
#undef ADD
#undef MUL
#undef V_ADD
#undef V_MUL
#undef V_DONE
#undef V_NEEDS_DONE
#undef FINAL
#undef BITS
#undef LANES
#undef LANES_OF
#undef NAME
#undef PLUS
#undef TIMES
#undef DONE
#undef PLUS_IN_ORDER
#undef TIMES_IN_ORDER
#ifdef CALLED
#undef CALLED
#undef T
#undef U
#undef TYPE
#endif
#endif
