/* What those who write and those who read runs share: the token of one run. */
#ifndef MMSB_DELTA_EMIT_H
#define MMSB_DELTA_EMIT_H

#include "delta.h"

static inline uint64_t mmsb_run_token_bytes(uint64_t gap, uint64_t length) {
    return mmsb_varint_size(gap << 1) + (length > 1 ? mmsb_varint_size(length - 2) : 0);
}

static inline uint8_t *mmsb_run_token_put(uint8_t *p, uint64_t gap, uint64_t length) {
    p = mmsb_varint_put(p, gap << 1 | (length > 1));
    return length > 1 ? mmsb_varint_put(p, length - 2) : p;
}

/* Reads the first part of a token: NULL when it is malformed or does not end by `end`. Whether it takes one byte or two
 * depends on where pages change, which no branch predictor knows. `end` is not the last byte of its buffer. */
static inline const uint8_t *mmsb_run_token_get(const uint8_t *p, const uint8_t *end, uint64_t *token) {
    uint64_t low = p[0], high = p[1], two = low >> 7;
    if (MMSB_LIKELY((two ^ 1) | (high - 1 < 0x7f))) {
        *token = (low & 0x7f) | (high << 7 & -two);
        p += 1 + two;
        return MMSB_LIKELY(p <= end) ? p : NULL;
    }
    return mmsb_varint_get(p, end, token);
}

#endif
