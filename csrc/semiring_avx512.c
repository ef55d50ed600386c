/* ⊕ of floats with AVX-512, for sweeps over operands that come from memory: there, half the instructions per byte
 * are measured to pay. Everything else runs as fast with AVX2. */
#include "semiring_isa.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq")

/* The operations of csrc/semiring_lanes.h. The minimum of a NaN and a number is a NaN only by the or of both bits; a
 * maximum is repaired by its comparison. */
static inline __m512d plus_f64(__m512d a, __m512d b) { return _mm512_add_pd(a, b); }
static inline __m512d min_f64(__m512d a, __m512d b) { return _mm512_or_pd(_mm512_min_pd(a, b), _mm512_min_pd(b, a)); }
static inline __m512d max_f64(__m512d a, __m512d b) {
    __m512d both = _mm512_and_pd(_mm512_max_pd(a, b), _mm512_max_pd(b, a));
    return _mm512_mask_add_pd(both, _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q), a, b);
}
static inline __m512d done_f64(__m512d v) {
    __m512d canonical = _mm512_castsi512_pd(_mm512_set1_epi64(0x7ff8000000000000));
    return _mm512_mask_mov_pd(v, _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q), canonical);
}

static inline __m512 plus_f32(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
static inline __m512 min_f32(__m512 a, __m512 b) { return _mm512_or_ps(_mm512_min_ps(a, b), _mm512_min_ps(b, a)); }
static inline __m512 max_f32(__m512 a, __m512 b) {
    __m512 both = _mm512_and_ps(_mm512_max_ps(a, b), _mm512_max_ps(b, a));
    return _mm512_mask_add_ps(both, _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q), a, b);
}
static inline __m512 done_f32(__m512 v) {
    __m512 canonical = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), canonical);
}

/* Operands are fetched 4 KiB ahead into the second cache (csrc/semiring_lanes_avx2.h). The last lanes go through the
 * same instructions under a mask: what is not loaded counts as zeros, and ⊕ of two zeros changes nothing. Lanes that
 * stay as they are are not stored: a sweep that has converged writes no memory back. */
#define MMSB_ADD_AVX512(name, type, vector, pd, LANES, mask)                                                     \
    static inline __m512i name##_part_##type(uint8_t *dst, const uint8_t *x, mask all) {                         \
        vector old = _mm512_maskz_loadu_##pd(all, dst);                                                          \
        vector fresh = done_##type(name##_##type(old, _mm512_maskz_loadu_##pd(all, x)));                         \
        __m512i differ = _mm512_xor_si512(_mm512_cast##pd##_si512(old), _mm512_cast##pd##_si512(fresh));         \
        if (_mm512_test_epi64_mask(differ, differ) != 0) _mm512_mask_storeu_##pd(dst, all, fresh);               \
        return differ;                                                                                           \
    }                                                                                                            \
    static bool add_##name##_##type(const mmsb_semiring *self, uint8_t *dst, const uint8_t *x, uint64_t lanes) { \
        (void)self;                                                                                              \
        __m512i differ = _mm512_setzero_si512();                                                                 \
        for (; lanes >= LANES; lanes -= LANES, dst += 64, x += 64) {                                             \
            __builtin_prefetch(dst + 4096, 0, 2);                                                                \
            __builtin_prefetch(x + 4096, 0, 2);                                                                  \
            differ = _mm512_or_si512(differ, name##_part_##type(dst, x, (mask) - 1));                            \
        }                                                                                                        \
        differ = _mm512_or_si512(differ, name##_part_##type(dst, x, (mask)((1u << lanes) - 1)));                 \
        return _mm512_test_epi64_mask(differ, differ) != 0;                                                      \
    }

MMSB_ADD_AVX512(plus, f64, __m512d, pd, 8, __mmask8)
MMSB_ADD_AVX512(min, f64, __m512d, pd, 8, __mmask8)
MMSB_ADD_AVX512(max, f64, __m512d, pd, 8, __mmask8)
MMSB_ADD_AVX512(plus, f32, __m512, ps, 16, __mmask16)
MMSB_ADD_AVX512(min, f32, __m512, ps, 16, __mmask16)
MMSB_ADD_AVX512(max, f32, __m512, ps, 16, __mmask16)

void mmsb_semirings_fill_avx512(mmsb_semirings *table) {
#define USE(id, name)                                                       \
    table->rows[MMSB_SEMIRING_##id][MMSB_DTYPE_F64].add = add_##name##_f64; \
    table->rows[MMSB_SEMIRING_##id][MMSB_DTYPE_F32].add = add_##name##_f32
    USE(PLUS_TIMES, plus);
    USE(MIN_PLUS, min);
    USE(MAX_PLUS, max);
    USE(MAX_TIMES, max);
    USE(MIN_MAX, min);
}

MMSB_TARGET_END
