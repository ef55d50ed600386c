/* The diff kernel with AVX2: blocks are compared 64 bytes at a time, tokens and values go run by run. Applying is bound
 * by its branches and copies, so AVX2 uses the scalar kernel there. */
#include "delta_emit.h"
#include "kernels_isa.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("avx2,bmi,bmi2,lzcnt,popcnt")

static inline __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }

static inline uint64_t mask_of(const uint8_t *a, const uint8_t *b) {
    uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(load(a), load(b)));
    uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(load(a + 32), load(b + 32)));
    return ~((uint64_t)high << 32 | low);
}

static inline bool differ(const uint8_t *a, const uint8_t *b) {
    __m256i any = _mm256_xor_si256(load(a), load(b));
    for (unsigned i = 32; i < 256; i += 32) any = _mm256_or_si256(any, _mm256_xor_si256(load(a + i), load(b + i)));
    return !_mm256_testz_si256(any, any);
}

static inline __m128i load_half(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }
static inline __m128i load_word(const uint8_t *p) { return _mm_loadl_epi64((const void *)p); }

static inline uint64_t mask_of_half(__m128i a, __m128i b) {
    return (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) ^ 0xffff;
}

/* Less than 32 bytes: two loads that overlap see all of them. */
static inline uint64_t mask_of_rest(const uint8_t *a, const uint8_t *b, uint64_t n) {
    if (n >= 16)
        return mask_of_half(load_half(a), load_half(b)) | mask_of_half(load_half(a + n - 16), load_half(b + n - 16))
                                                              << (n - 16);
    if (n >= 8)
        return mask_of_half(load_word(a), load_word(b)) | mask_of_half(load_word(a + n - 8), load_word(b + n - 8))
                                                              << (n - 8);
    uint64_t mask = 0;
    for (uint64_t i = 0; i < n; i++) mask |= (uint64_t)(a[i] != b[i]) << i;
    return mask;
}

static inline uint64_t mask_of_tail(const uint8_t *a, const uint8_t *b, uint64_t n) {
    if (n < 32) return mask_of_rest(a, b, n);
    uint64_t low = (uint32_t)~_mm256_movemask_epi8(_mm256_cmpeq_epi8(load(a), load(b)));
    return low | mask_of_rest(a + 32, b + 32, n - 32) << 32;
}

/* Byte by byte where few change, run by run where many do. */
static inline void put_values(uint8_t *to, const uint8_t *from, uint64_t mask) {
    while (mask != 0) {
        uint64_t first = _tzcnt_u64(mask);
        uint64_t length = _tzcnt_u64(~(mask >> first));
        do {
            *to++ = from[first++];
        } while (--length != 0);
        mask = first < 64 ? mask >> first << first : 0;
    }
}

static inline void put_values_tail(uint8_t *to, const uint8_t *from, uint64_t mask, uint64_t n) {
    (void)n;
    put_values(to, from, mask);
}

static inline uint8_t *put_tokens(uint8_t *p, uint64_t mask, uint64_t i, uint64_t *at) {
    uint64_t starts = mask & ~(mask << 1), ends = mask & ~(mask >> 1);
    uint64_t gap = i + _tzcnt_u64(starts) - *at, end = 0;
    p = mmsb_run_token_put(p, gap, _tzcnt_u64(ends) - _tzcnt_u64(starts) + 1);
    for (;;) {
        end = _tzcnt_u64(ends) + 1;
        starts = _blsr_u64(starts);
        if (starts == 0) break;
        ends = _blsr_u64(ends);
        uint64_t start = _tzcnt_u64(starts), length = _tzcnt_u64(ends) + 1 - start;
        /* Gaps and lengths inside a block are below 64: one byte each, and no branch on which kind it is. */
        p[0] = (uint8_t)((start - end) << 1 | (length > 1));
        p[1] = (uint8_t)(length - 2);
        p += 1 + (length > 1);
    }
    *at = i + end;
    return p;
}

#define TMPL_DIFF mmsb_delta_diff_avx2
#define TMPL_MASK mask_of
#define TMPL_DIFFER differ
#define TMPL_MASK_TAIL mask_of_tail
#define TMPL_VALUES put_values
#define TMPL_VALUES_TAIL put_values_tail
#define TMPL_TOKENS put_tokens
#include "delta_diff_tmpl.h"

MMSB_TARGET_END
