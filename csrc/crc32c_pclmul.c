/* CRC32C in three lanes at once: the crc32 instruction has a latency of 3 cycles and could start in each of them. The
 * lanes are joined as V. Gopal et al. describe in "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction"
 * (Intel, 2011): a lane's sum moves over the n bytes behind it by a carry-less product with x^(8n-33) mod P, and the
 * crc32 instruction takes the remainder of that product. */
#include "kernels_isa.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("sse4.2,pclmul")

/* x^(8n-33) mod P, bits reflected, for the n bytes of one lane and of two: start from 1, shift 8n-33 times to the left
 * and subtract 0x11edc6f41 whenever bit 32 is set. A wrong one would fail against the scalar kernel at once. */
#define SHORT_LANE 64
#define SHORT_BY_ONE 0x9e4addf8u
#define SHORT_BY_TWO 0x0d3b6092u
#define LONG_LANE 512
#define LONG_BY_ONE 0xdd7e3b0cu
#define LONG_BY_TWO 0x170076fau

static inline __m128i product(uint64_t sum, uint32_t factor) {
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)sum), _mm_cvtsi64_si128(factor), 0);
}

/* The sum after three lanes; the last word of the third waits until the other two lanes can be added to it. */
static inline uint64_t three_lanes(uint64_t sum, const uint8_t *bytes, uint64_t lane, uint32_t by_one,
                                   uint32_t by_two) {
    const uint8_t *second = bytes + lane, *third = second + lane;
    uint64_t sum_2 = 0, sum_3 = 0, i = 0;
    for (; i < lane - 8; i += 8) {
        sum = _mm_crc32_u64(sum, mmsb_load_u64(bytes + i));
        sum_2 = _mm_crc32_u64(sum_2, mmsb_load_u64(second + i));
        sum_3 = _mm_crc32_u64(sum_3, mmsb_load_u64(third + i));
    }
    sum = _mm_crc32_u64(sum, mmsb_load_u64(bytes + i));
    sum_2 = _mm_crc32_u64(sum_2, mmsb_load_u64(second + i));
    __m128i moved = _mm_xor_si128(product(sum, by_two), product(sum_2, by_one));
    return _mm_crc32_u64(sum_3, mmsb_load_u64(third + i) ^ (uint64_t)_mm_cvtsi128_si64(moved));
}

uint32_t mmsb_crc32c_pclmul(uint32_t crc, const uint8_t *bytes, uint64_t length) {
    uint64_t sum = ~crc;
    for (; length >= 3 * LONG_LANE; bytes += 3 * LONG_LANE, length -= 3 * LONG_LANE)
        sum = three_lanes(sum, bytes, LONG_LANE, LONG_BY_ONE, LONG_BY_TWO);
    for (; length >= 3 * SHORT_LANE; bytes += 3 * SHORT_LANE, length -= 3 * SHORT_LANE)
        sum = three_lanes(sum, bytes, SHORT_LANE, SHORT_BY_ONE, SHORT_BY_TWO);
    return mmsb_crc32c_sse42(~(uint32_t)sum, bytes, length);
}

MMSB_TARGET_END
