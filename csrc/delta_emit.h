/* What the encoders share: the token of one run. */
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

#endif
