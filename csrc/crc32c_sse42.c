/* CRC32C with the processor's instruction: 8 bytes per 3 cycles of latency in one lane. */
#include "kernels_isa.h"

#include <immintrin.h>

MMSB_TARGET_BEGIN("sse4.2")
uint32_t mmsb_crc32c_sse42(uint32_t crc, const uint8_t *bytes, uint64_t length) {
    uint64_t sum = ~crc;
    for (; length >= 8; bytes += 8, length -= 8) sum = _mm_crc32_u64(sum, mmsb_load_u64(bytes));
    if (length & 4) {
        sum = _mm_crc32_u32((uint32_t)sum, mmsb_load_u32(bytes));
        bytes += 4;
    }
    for (length &= 3; length != 0; length--) sum = _mm_crc32_u8((uint32_t)sum, *bytes++);
    return ~(uint32_t)sum;
}
MMSB_TARGET_END
