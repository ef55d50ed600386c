/* Private: what the levels of the semirings hand to csrc/semiring.c. */
#ifndef MMSB_SEMIRING_ISA_H
#define MMSB_SEMIRING_ISA_H

#include "semiring.h"

/* Each sets the functions of every row it has, and no other field. */
void mmsb_semirings_fill_scalar(mmsb_semirings *table);
void mmsb_semirings_fill_avx2(mmsb_semirings *table);
void mmsb_semirings_fill_avx512(mmsb_semirings *table);

/* The bytes of a lane as an integer of its size, and back. */
#define MMSB_LANE_BITS(T, U, suffix)                     \
    static inline U mmsb_lane_bits_##suffix(T value) {   \
        U bits;                                          \
        memcpy(&bits, &value, sizeof bits);              \
        return bits;                                     \
    }                                                    \
    static inline T mmsb_lane_of_bits_##suffix(U bits) { \
        T value;                                         \
        memcpy(&value, &bits, sizeof value);             \
        return value;                                    \
    }
MMSB_LANE_BITS(uint8_t, uint8_t, u8)
MMSB_LANE_BITS(int32_t, uint32_t, i32)
MMSB_LANE_BITS(int64_t, uint64_t, i64)
MMSB_LANE_BITS(float, uint32_t, f32)
MMSB_LANE_BITS(double, uint64_t, f64)

#endif
