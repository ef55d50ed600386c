/* The delta kernels with AVX-512 (BW, VBMI, VBMI2): a block's values are packed by one vpcompressb, and the tokens of
 * all its runs are computed at once from the compressed positions of run starts and run ends. */
#include "delta_emit.h"
#include "kernels_isa.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx2,bmi,bmi2,lzcnt,popcnt")

static inline uint64_t low_bits(uint64_t n) { return _bzhi_u64(UINT64_MAX, (unsigned)n); }

static inline uint64_t mask_of(const uint8_t *a, const uint8_t *b) {
    return _mm512_cmpneq_epu8_mask(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
}

static inline bool differ(const uint8_t *a, const uint8_t *b) {
    __m512i any = _mm512_xor_si512(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
    for (unsigned i = 64; i < 256; i += 64) /* 0xf6: any | (a ^ b) */
        any = _mm512_ternarylogic_epi64(any, _mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i), 0xf6);
    return _mm512_test_epi64_mask(any, any) != 0;
}

static inline uint64_t mask_of_tail(const uint8_t *a, const uint8_t *b, uint64_t n) {
    __mmask64 in = low_bits(n);
    return _mm512_mask_cmpneq_epu8_mask(in, _mm512_maskz_loadu_epi8(in, a), _mm512_maskz_loadu_epi8(in, b));
}

static inline void put_values(uint8_t *to, const uint8_t *from, uint64_t mask) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(mask, _mm512_loadu_si512(from)));
}

static inline void put_values_tail(uint8_t *to, const uint8_t *from, uint64_t mask, uint64_t n) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(mask, _mm512_maskz_loadu_epi8(low_bits(n), from)));
}

static const uint8_t iota_u8x64[64] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
};

static inline uint8_t *put_tokens(uint8_t *p, uint64_t mask, uint64_t i, uint64_t *at) {
    uint64_t starts = mask & ~(mask << 1), ends = mask & ~(mask >> 1);
    uint64_t first = _tzcnt_u64(starts), gap = i + first - *at;
    unsigned run_count = (unsigned)_mm_popcnt_u64(starts);
    uint64_t last = 63 - _lzcnt_u64(mask);
    if (run_count == 1 || gap > 63) {
        /* The one run whose token may be long. */
        uint64_t end = _tzcnt_u64(ends) + 1;
        p = mmsb_run_token_put(p, gap, end - first);
        *at = i + end;
        if (run_count == 1) return p;
        starts = _blsr_u64(starts);
        ends = _blsr_u64(ends);
        run_count--;
    }
    /* Inside a block gaps and lengths are below 64, so every token is one byte, and a length one more. */
    const __m512i iota = _mm512_loadu_si512(iota_u8x64);
    __m256i start_u8x32 = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(starts, iota));
    __m256i end_u8x32 = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(ends, iota));
    const __m256i one = _mm256_set1_epi8(1);
    __m256i before =
        _mm256_permutexvar_epi8(_mm256_sub_epi8(_mm256_loadu_si256((const void *)iota_u8x64), one), end_u8x32);
    before = _mm256_mask_mov_epi8(before, 1, _mm256_set1_epi8((char)(*at - 1 - i)));
    __m256i gap_u8x32 = _mm256_sub_epi8(_mm256_sub_epi8(start_u8x32, before), one);
    uint32_t many = _mm256_cmpgt_epu8_mask(end_u8x32, start_u8x32);
    __m256i token = _mm256_add_epi8(gap_u8x32, gap_u8x32);
    token = _mm256_mask_add_epi8(token, many, token, one);
    __m256i more = _mm256_sub_epi8(_mm256_sub_epi8(end_u8x32, start_u8x32), one);
    __m512i pairs = _mm512_or_si512(_mm512_cvtepu8_epi16(token), _mm512_slli_epi16(_mm512_cvtepu8_epi16(more), 8));
    uint64_t keep = _pdep_u64(low_bits(run_count), 0x5555555555555555u) | _pdep_u64(many, 0xaaaaaaaaaaaaaaaau);
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi8(keep, pairs));
    *at = i + last + 1;
    return p + run_count + (unsigned)_mm_popcnt_u32(many);
}

#define TMPL_DIFF diff_long
#define TMPL_MASK mask_of
#define TMPL_DIFFER differ
#define TMPL_MASK_TAIL mask_of_tail
#define TMPL_VALUES put_values
#define TMPL_VALUES_TAIL put_values_tail
#define TMPL_TOKENS put_tokens
static int64_t diff_long(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base, uint8_t *out,
                         uint8_t *code);
#include "delta_diff_tmpl.h"

int64_t mmsb_delta_diff_avx512(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base,
                               uint8_t *out, uint8_t *code) {
    if (length > 64) return diff_long(old, new_bytes, length, base, out, code);
    /* Small writes are the common case of page.write: one comparison, and mostly one run. */
    uint64_t mask = mask_of_tail(old, new_bytes, length);
    if (mask == 0) return 0;
    uint64_t first = _tzcnt_u64(mask), end = 64 - _lzcnt_u64(mask), span = end - first;
    if (_mm_popcnt_u64(mask) == (int64_t)span) {
        *code = MMSB_DELTA_DENSE;
        uint8_t *p = mmsb_varint_put(mmsb_varint_put(out, base + first), span);
        _mm512_storeu_si512(p, _mm512_maskz_loadu_epi8(low_bits(span), new_bytes + first));
        return p - out + (int64_t)span;
    }
    return diff_long(old, new_bytes, length, base, out, code);
}

static int apply_runs(uint8_t *page, uint64_t page_bytes, const uint8_t *p, const uint8_t *end,
                      const uint8_t *payload_end) {
    const uint8_t *value = end;
    uint64_t at = 0;
    if (MMSB_UNLIKELY(value == payload_end)) return p == end ? MMSB_OK : MMSB_BAD_DELTA;
    while (p < end) {
        uint64_t token, length = 1;
        if ((p = mmsb_run_token_get(p, end, &token)) == NULL) return MMSB_BAD_DELTA;
        if (token & 1) {
            if ((p = mmsb_varint_get(p, end, &length)) == NULL || length > page_bytes) return MMSB_BAD_DELTA;
            length += 2;
        }
        uint64_t gap = token >> 1;
        if (gap > page_bytes - at || length > page_bytes - at - gap) return MMSB_BAD_DELTA;
        if (length > (uint64_t)(payload_end - value)) return MMSB_BAD_DELTA;
        at += gap;
        if (length == 1) {
            page[at] = *value;
        } else if (MMSB_LIKELY(length <= 64)) {
            __mmask64 in = low_bits(length);
            _mm512_mask_storeu_epi8(page + at, in, _mm512_maskz_loadu_epi8(in, value));
        } else {
            memcpy(page + at, value, length);
        }
        value += length;
        at += length;
    }
    return value == payload_end ? MMSB_OK : MMSB_BAD_DELTA;
}

static int apply_bitmap(uint8_t *page, uint64_t page_bytes, const uint8_t *p, const uint8_t *end) {
    uint64_t first, span;
    if ((p = mmsb_varint_get(p, end, &first)) == NULL) return MMSB_BAD_DELTA;
    if ((p = mmsb_varint_get(p, end, &span)) == NULL) return MMSB_BAD_DELTA;
    if (first > page_bytes || span > page_bytes - first) return MMSB_BAD_DELTA;
    uint64_t bit_bytes = (span + 7) / 8;
    if (bit_bytes > (uint64_t)(end - p)) return MMSB_BAD_DELTA;
    const uint8_t *value = p + bit_bytes;
    page += first;
    for (uint64_t i = 0; i < span; i += 64) {
        uint64_t mask = 0, n = mmsb_min_u64(64, span - i);
        memcpy(&mask, p + i / 8, (n + 7) / 8);
        uint64_t count = (uint64_t)_mm_popcnt_u64(mask);
        if ((mask & ~low_bits(n)) != 0 || count > (uint64_t)(end - value)) return MMSB_BAD_DELTA;
        __m512i packed = _mm512_maskz_loadu_epi8(low_bits(count), value);
        _mm512_mask_storeu_epi8(page + i, mask, _mm512_maskz_expand_epi8(mask, packed));
        value += count;
    }
    return value == end ? MMSB_OK : MMSB_BAD_DELTA;
}

int mmsb_delta_apply_avx512(uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                            uint64_t payload_bytes) {
    const uint8_t *end = payload + payload_bytes;
    if (code == MMSB_DELTA_RUNS) {
        uint64_t range_bytes;
        const uint8_t *p = mmsb_varint_get(payload, end, &range_bytes);
        if (p == NULL || range_bytes > (uint64_t)(end - p)) return MMSB_BAD_DELTA;
        return apply_runs(page, page_bytes, p, p + range_bytes, end);
    }
    if (code == MMSB_DELTA_BITMAP) return apply_bitmap(page, page_bytes, payload, end);
    return mmsb_delta_apply_scalar(page, page_bytes, code, payload, payload_bytes);
}

MMSB_TARGET_END
