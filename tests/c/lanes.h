/* Lanes that break things, for the C test programs. */
#ifndef MMSB_TEST_LANES_H
#define MMSB_TEST_LANES_H

#include "../../csrc/semiring.h"
#include "harness.h"

/* One lane out of those that break things: infinities, ends of the type and their neighbours, zeros of both signs,
 * denormals, NaN of both signs and several payloads, quiet and signalling; or any bits. */
static inline mmsb_lane hostile(uint32_t dtype) {
    static const uint64_t f64[] = {0,
                                   0x8000000000000000,
                                   1,
                                   0x8000000000000001,
                                   0x3ff0000000000000,
                                   0xbff0000000000000,
                                   0x4008000000000000,
                                   0x7fefffffffffffff,
                                   0xffefffffffffffff,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0xfff8000000000000,
                                   0x7ff8000000000123,
                                   0x7ff0000000000456,
                                   0xfff0000000000789};
    static const uint32_t f32[] = {0,          0x80000000, 1,          0x80000001, 0x3f800000, 0xbf800000,
                                   0x40400000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
                                   0xffc00000, 0x7fc00123, 0x7f800456, 0xff800789};
    static const int64_t i64[] = {
        0, 1, -1, 2, INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1, INT32_MIN, INT32_MAX, 1ll << 32, -(1ll << 32)};
    static const int32_t i32[] = {0, 1, -1, 2, INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1, 1 << 16, -(1 << 16)};
    uint64_t pick = random_u64() >> 8;
    mmsb_lane lane = {.i64 = (int64_t)random_u64()};
    if (pick % 4 == 0) return lane;
    pick /= 4;
    switch (dtype) {
        case MMSB_DTYPE_U8:
            lane.u8 = (uint8_t[]){0, 1, 2, 127, 128, 254, 255}[pick % 7];
            break;
        case MMSB_DTYPE_I32:
            lane.i32 = i32[pick % 10];
            break;
        case MMSB_DTYPE_I64:
            lane.i64 = i64[pick % 12];
            break;
        case MMSB_DTYPE_F32:
            memcpy(&lane, &f32[pick % 16], 4);
            break;
        default:
            memcpy(&lane, &f64[pick % 16], 8);
    }
    return lane;
}

static inline void fill(uint8_t *p, const mmsb_semiring *row, uint64_t lanes) {
    for (uint64_t i = 0; i < lanes; i++) {
        mmsb_lane lane = hostile(row->dtype);
        memcpy(p + i * row->lane_bytes, &lane, row->lane_bytes);
    }
}

#endif
