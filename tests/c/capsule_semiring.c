/* A semiring as a compiled plugin makes one, from semiring.h alone: max-plus over f64 in plain loops. */
#include "../../csrc/semiring.h"

static double at(const uint8_t *p, uint64_t i) {
    double value;
    memcpy(&value, p + i * 8, 8);
    return value;
}
static double max(double a, double b) { return a > b ? a : b; }
static bool put(uint8_t *dst, uint64_t i, double value) {
    bool changed = memcmp(dst + i * 8, &value, 8) != 0;
    memcpy(dst + i * 8, &value, 8);
    return changed;
}

static bool add(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes) {
    (void)self;
    bool changed = false;
    for (uint64_t i = 0; i < lanes; i++) changed |= put(dst, i, max(at(dst, i), at(x, i)));
    return changed;
}
static void scale(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                  bool per_lane) {
    (void)self;
    for (uint64_t i = 0; i < lanes; i++) put(dst, i, at(w, per_lane ? i : 0) + at(x, i));
}
static bool accumulate(const mmsb_semiring *self, uint8_t *dst, const uint8_t *w, const uint8_t *x, uint64_t lanes,
                       bool per_lane) {
    (void)self;
    bool changed = false;
    for (uint64_t i = 0; i < lanes; i++) changed |= put(dst, i, max(at(dst, i), at(w, per_lane ? i : 0) + at(x, i)));
    return changed;
}
static void fold_add(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) {
    *out = self->zero;
    for (uint64_t i = 0; i < lanes; i++) out->f64 = max(out->f64, at(x, i));
}
static void fold_mul(const mmsb_semiring *self, mmsb_lane *out, const uint8_t *x, uint64_t lanes) {
    *out = self->one;
    for (uint64_t i = 0; i < lanes; i++) out->f64 += at(x, i);
}
static bool combine(const mmsb_semiring *self, uint8_t *dst, const uint8_t *const *x, const uint8_t *w, uint64_t count,
                    uint64_t lanes) {
    bool changed = false;
    for (uint64_t i = 0; i < lanes; i++) {
        double sum = self->zero.f64;
        for (uint64_t k = 0; k < count; k++) sum = max(sum, (w != NULL ? at(w, k) : 0) + at(x[k], i));
        changed |= put(dst, i, sum);
    }
    return changed;
}
static bool rows(const mmsb_semiring *self, uint8_t *y, const mmsb_csr *a, const uint8_t *x, const uint8_t *list,
                 uint64_t first, uint64_t count) {
    bool changed = false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t r = list != NULL ? mmsb_load_u32(list + i * 4) : first + i;
        double sum = self->zero.f64;
        for (uint64_t k = mmsb_load_u64(a->row_start + r * 8); k < mmsb_load_u64(a->row_start + r * 8 + 8); k++)
            sum = max(sum, at(a->value, k) + at(x, mmsb_load_u32(a->column + k * 4)));
        changed |= put(y, r, sum);
    }
    return changed;
}

const mmsb_semiring mmsb_test_semiring = {
    .size_bytes = sizeof(mmsb_semiring),
    .name = "plain-max-plus",
    .dtype = MMSB_DTYPE_F64,
    .lane_bytes = 8,
    .laws = MMSB_LAW_ALL & ~MMSB_LAW_MUL_ASSOCIATIVE,
    .zero = {.f64 = -__builtin_inf()},
    .one = {.f64 = 0},
    .low = {.f64 = -__builtin_inf()},
    .high = {.f64 = 1e308},
    .add = add,
    .scale = scale,
    .accumulate = accumulate,
    .fold_add = fold_add,
    .fold_mul = fold_mul,
    .combine = combine,
    .rows = rows,
};
