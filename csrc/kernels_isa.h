/* Private prototypes: one line per kernel and level. The contracts stand in kernels.h. */
#ifndef MMSB_KERNELS_ISA_H
#define MMSB_KERNELS_ISA_H

#include "kernels.h"

#define MMSB_DELTA_DIFF(isa)                                                                                    \
    int64_t mmsb_delta_diff_##isa(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base, \
                                  uint8_t *out, uint8_t *code);
#define MMSB_DELTA_APPLY(isa)                                                                            \
    int mmsb_delta_apply_##isa(uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload, \
                               uint64_t payload_bytes);

MMSB_DELTA_DIFF(scalar)
MMSB_DELTA_DIFF(avx2)
MMSB_DELTA_DIFF(avx512)
MMSB_DELTA_APPLY(scalar)
MMSB_DELTA_APPLY(avx512)

int64_t mmsb_delta_merge_scalar(uint8_t code_a, const uint8_t *payload_a, uint64_t bytes_a, uint8_t code_b,
                                const uint8_t *payload_b, uint64_t bytes_b, uint64_t page_bytes, uint8_t *out,
                                uint8_t *code);
int64_t mmsb_delta_inverse_scalar(const uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                                  uint64_t payload_bytes, uint8_t *out);
uint32_t mmsb_crc32c_scalar(uint32_t crc, const uint8_t *bytes, uint64_t length);
uint32_t mmsb_crc32c_sse42(uint32_t crc, const uint8_t *bytes, uint64_t length);
uint32_t mmsb_crc32c_pclmul(uint32_t crc, const uint8_t *bytes, uint64_t length);

#endif
