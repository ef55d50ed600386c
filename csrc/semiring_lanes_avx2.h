/* The lane operations of csrc/semiring_lanes.h on vectors of 32 bytes. A vector is a __m256i whatever it holds. */
#ifndef MMSB_SEMIRING_LANES_AVX2_H
#define MMSB_SEMIRING_LANES_AVX2_H

#include "semiring_lanes.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("avx2,bmi,bmi2,lzcnt,popcnt")

typedef __m256i vec;

static inline vec v_load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline void v_store(uint8_t *p, vec v) { _mm256_storeu_si256((void *)p, v); }

/* Operands from memory arrive late unless asked for early; from 4 KiB ahead, into the second cache, a sweep over two
 * operands runs at the speed of a bare minimum of them. Past the end of a buffer this asks for nothing that is used:
 * a prefetch reads no byte and cannot fault. */
static inline void v_fetch_ahead(const uint8_t *a, const uint8_t *b) {
    __builtin_prefetch(a + 4096, 0, 2);
    __builtin_prefetch(b + 4096, 0, 2);
}

#define MMSB_VEC_OP(op, type, expression) \
    static inline vec v_##op##_##type(vec a, vec b) { return expression; }

/* Of every type. */
#define MMSB_VEC_COMMON(type)                                              \
    static inline vec v_second_##type(vec a, vec b) { return (void)a, b; } \
    static inline vec v_keep_##type(vec a) { return a; }                   \
    static inline bool v_needs_keep_##type(vec a, vec b) { return (void)a, (void)b, false; }

MMSB_VEC_COMMON(u8)
MMSB_VEC_COMMON(i32)
MMSB_VEC_COMMON(i64)
MMSB_VEC_COMMON(f32)
MMSB_VEC_COMMON(f64)

/* Of integers, by the width the instructions call them. */
#define MMSB_VEC_INTEGER(type, epi)                                                                             \
    MMSB_VEC_OP(plus, type, _mm256_add_##epi(a, b))                                                             \
    MMSB_VEC_OP(bit_or, type, _mm256_or_si256(a, b))                                                            \
    MMSB_VEC_OP(bit_and, type, _mm256_and_si256(a, b))                                                          \
    MMSB_VEC_OP(bit_xor, type, _mm256_xor_si256(a, b))                                                          \
    static inline vec v_is_zero_##type(vec a) { return _mm256_cmpeq_##epi(a, _mm256_setzero_si256()); }         \
    MMSB_VEC_OP(bool_or, type, _mm256_andnot_si256(v_is_zero_##type(_mm256_or_si256(a, b)), v_one_##type()))    \
    MMSB_VEC_OP(bool_and, type,                                                                                 \
                _mm256_andnot_si256(_mm256_or_si256(v_is_zero_##type(a), v_is_zero_##type(b)), v_one_##type())) \
    static inline vec v_done_##type(vec a) { return a; }                                                        \
    static inline bool v_needs_done_##type(vec a, vec b) { return (void)a, (void)b, false; }

static inline vec v_one_u8(void) { return _mm256_set1_epi8(1); }
static inline vec v_one_i32(void) { return _mm256_set1_epi32(1); }
static inline vec v_one_i64(void) { return _mm256_set1_epi64x(1); }
MMSB_VEC_INTEGER(u8, epi8)
MMSB_VEC_INTEGER(i32, epi32)
MMSB_VEC_INTEGER(i64, epi64)

MMSB_VEC_OP(min, u8, _mm256_min_epu8(a, b))
MMSB_VEC_OP(max, u8, _mm256_max_epu8(a, b))
MMSB_VEC_OP(min, i32, _mm256_min_epi32(a, b))
MMSB_VEC_OP(max, i32, _mm256_max_epi32(a, b))
MMSB_VEC_OP(min, i64, _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b)))
MMSB_VEC_OP(max, i64, _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b)))

/* Products of bytes in two steps of 16-bit products: of the even bytes, and of the odd ones. */
static inline vec v_times_u8(vec a, vec b) {
    vec even = _mm256_mullo_epi16(a, b);
    vec odd = _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    return _mm256_blendv_epi8(even, _mm256_slli_epi16(odd, 8), _mm256_set1_epi16((int16_t)0xff00));
}
static inline vec v_clamp_times_u8(vec a, vec b) {
    vec low = _mm256_set1_epi16(0xff);
    vec even = _mm256_mullo_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
    vec odd = _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    return _mm256_or_si256(_mm256_min_epu16(even, low), _mm256_slli_epi16(_mm256_min_epu16(odd, low), 8));
}
MMSB_VEC_OP(clamp_plus, u8, _mm256_adds_epu8(a, b))
MMSB_VEC_OP(below_plus, u8, _mm256_adds_epu8(a, b))

MMSB_VEC_OP(times, i32, _mm256_mullo_epi32(a, b))
static inline vec v_clamp_times_i32(vec a, vec b) {
    vec least = _mm256_set1_epi64x(INT32_MIN), greatest = _mm256_set1_epi64x(INT32_MAX);
    vec even = _mm256_mul_epi32(a, b), odd = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    even = v_min_i64(v_max_i64(even, least), greatest);
    odd = v_min_i64(v_max_i64(odd, least), greatest);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

/* The low half of a product of 64 bits is low·low + (low·high + high·low)·2^32. */
static inline vec v_times_i64(vec a, vec b) {
    vec cross = _mm256_mullo_epi32(a, _mm256_shuffle_epi32(b, 0xb1));
    cross = _mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32));
    return _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64(cross, 32));
}
/* There is no wide product to clamp: one lane after the other. */
static inline vec v_clamp_times_i64(vec a, vec b) {
    int64_t x[4], y[4];
    v_store((uint8_t *)x, a);
    v_store((uint8_t *)y, b);
    for (int i = 0; i < 4; i++) x[i] = clamp_times_i64(x[i], y[i]);
    return v_load((const uint8_t *)x);
}

/* A sum overflowed when both operands differ from it in sign: then it becomes the end of the type on a's side. */
#define MMSB_VEC_CLAMPED(type, epi, set1, pd, LEAST, GREATEST)                                                    \
    static inline vec v_clamp_plus_##type(vec a, vec b) {                                                         \
        vec sum = _mm256_add_##epi(a, b), negative = _mm256_cmpgt_##epi(_mm256_setzero_si256(), a);               \
        vec overflowed = _mm256_and_si256(_mm256_xor_si256(a, sum), _mm256_xor_si256(b, sum));                    \
        vec end = _mm256_xor_si256(negative, set1(GREATEST));                                                     \
        return _mm256_cast##pd##_si256(_mm256_blendv_##pd(_mm256_castsi256_##pd(sum), _mm256_castsi256_##pd(end), \
                                                          _mm256_castsi256_##pd(overflowed)));                    \
    }                                                                                                             \
    static inline vec v_stays_at_##type(vec end, vec a, vec b) {                                                  \
        vec there = _mm256_or_si256(_mm256_cmpeq_##epi(a, end), _mm256_cmpeq_##epi(b, end));                      \
        return _mm256_blendv_epi8(v_clamp_plus_##type(a, b), end, there);                                         \
    }                                                                                                             \
    MMSB_VEC_OP(below_plus, type, v_stays_at_##type(set1(GREATEST), a, b))                                        \
    MMSB_VEC_OP(above_plus, type, v_stays_at_##type(set1(LEAST), a, b))

MMSB_VEC_CLAMPED(i32, epi32, _mm256_set1_epi32, ps, INT32_MIN, INT32_MAX)
MMSB_VEC_CLAMPED(i64, epi64, _mm256_set1_epi64x, pd, INT64_MIN, INT64_MAX)

/* Of floats. The instruction min(a, b) is a < b ? a : b, and max likewise, as in the scalar definition. A NaN gets its
 * canonical bits from `done`: until then the all-ones mask of the comparison is as good a NaN as any. */
#define MMSB_VEC_FLOAT(type, pd, canonical)                                                                       \
    static inline vec v_of_##type(vec_##type v) { return _mm256_cast##pd##_si256(v); }                            \
    static inline vec_##type v_to_##type(vec v) { return _mm256_castsi256_##pd(v); }                              \
    MMSB_VEC_OP(plus, type, v_of_##type(_mm256_add_##pd(v_to_##type(a), v_to_##type(b))))                         \
    MMSB_VEC_OP(times, type, v_of_##type(_mm256_mul_##pd(v_to_##type(a), v_to_##type(b))))                        \
    static inline vec v_unordered_##type(vec a, vec b) {                                                          \
        return v_of_##type(_mm256_cmp_##pd(v_to_##type(a), v_to_##type(b), _CMP_UNORD_Q));                        \
    }                                                                                                             \
    MMSB_VEC_OP(min, type,                                                                                        \
                _mm256_or_si256(v_of_##type(_mm256_min_##pd(v_to_##type(a), v_to_##type(b))),                     \
                                v_of_##type(_mm256_min_##pd(v_to_##type(b), v_to_##type(a)))))                    \
    MMSB_VEC_OP(max, type,                                                                                        \
                _mm256_or_si256(_mm256_and_si256(v_of_##type(_mm256_max_##pd(v_to_##type(a), v_to_##type(b))),    \
                                                 v_of_##type(_mm256_max_##pd(v_to_##type(b), v_to_##type(a)))),   \
                                v_unordered_##type(a, b)))                                                        \
    static inline vec v_done_##type(vec a) { return _mm256_blendv_epi8(a, canonical, v_unordered_##type(a, a)); } \
    static inline bool v_needs_done_##type(vec a, vec b) {                                                        \
        return _mm256_movemask_##pd(v_to_##type(v_unordered_##type(a, b))) != 0;                                  \
    }                                                                                                             \
    MMSB_VEC_OP(done_times, type, v_done_##type(v_times_##type(a, b)))

typedef __m256 vec_f32;
typedef __m256d vec_f64;
MMSB_VEC_FLOAT(f32, ps, _mm256_set1_epi32(0x7fc00000))
MMSB_VEC_FLOAT(f64, pd, _mm256_set1_epi64x(0x7ff8000000000000))

/* The first n < 4 of four places. */
static inline vec v_places_8(uint64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((int64_t)n), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline __m128i v_places_4(uint64_t n) {
    return _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
}

/* Four lanes of 8 bytes. Masked loads and gathers touch only the places in the mask. */
static inline vec v_four_8(const uint8_t *p) { return v_load(p); }
static inline vec v_some_8(const uint8_t *p, uint64_t n) {
    return _mm256_maskload_epi64((const void *)p, v_places_8(n));
}
static inline vec v_gather_8(const uint8_t *x, const uint8_t *column) {
    return _mm256_i32gather_epi64((const void *)x, _mm_loadu_si128((const void *)column), 8);
}
static inline vec v_gather_some_8(const uint8_t *x, const uint8_t *column, uint64_t n) {
    __m128i at = _mm_maskload_epi32((const void *)column, v_places_4(n));
    return _mm256_mask_i32gather_epi64(_mm256_setzero_si256(), (const void *)x, at, v_places_8(n), 8);
}
static inline vec v_put_some_8(vec old, vec fresh, uint64_t n) { return _mm256_blendv_epi8(old, fresh, v_places_8(n)); }
static inline vec v_half_8(vec v) { return _mm256_permute4x64_epi64(v, 0xee); }
static inline vec v_quarter_8(vec v) { return _mm256_shuffle_epi32(v, 0xee); }

/* Four lanes of 4 bytes, in the lower half of a vector. */
static inline vec v_four_4(const uint8_t *p) { return _mm256_zextsi128_si256(_mm_loadu_si128((const void *)p)); }
static inline vec v_some_4(const uint8_t *p, uint64_t n) {
    return _mm256_zextsi128_si256(_mm_maskload_epi32((const void *)p, v_places_4(n)));
}
static inline vec v_gather_4(const uint8_t *x, const uint8_t *column) {
    return _mm256_zextsi128_si256(_mm_i32gather_epi32((const void *)x, _mm_loadu_si128((const void *)column), 4));
}
static inline vec v_gather_some_4(const uint8_t *x, const uint8_t *column, uint64_t n) {
    __m128i places = v_places_4(n), at = _mm_maskload_epi32((const void *)column, places);
    return _mm256_zextsi128_si256(_mm_mask_i32gather_epi32(_mm_setzero_si128(), (const void *)x, at, places, 4));
}
static inline vec v_put_some_4(vec old, vec fresh, uint64_t n) {
    return _mm256_blendv_epi8(old, fresh, _mm256_zextsi128_si256(v_places_4(n)));
}
static inline vec v_half_4(vec v) { return _mm256_shuffle_epi32(v, 0xee); }
static inline vec v_quarter_4(vec v) { return _mm256_shuffle_epi32(v, 0x55); }

MMSB_TARGET_END

#endif
