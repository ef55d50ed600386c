/* What ⊕ and ⊗ of the built-in semirings do to one lane: the definition that vectors are held to.
 *
 * Where ⊕ compares, ⊗ clamps, because wrapping would break the order; where ⊕ adds, integers wrap. The order of floats
 * is that of their numbers with −0 below +0. A NaN operand makes a NaN; `done` turns any NaN into the one whose bits
 * are 0x7ff8... (f32: 0x7fc0...), because the sign and payload that come out of an addition depend on the compiler's
 * choice of operand order. It is enough to call it where a result is stored: no ⊕ or ⊗ loses a NaN. */
#ifndef MMSB_SEMIRING_LANES_H
#define MMSB_SEMIRING_LANES_H

#include "semiring_isa.h"

#define MMSB_LANE_OP(op, type, T, expression) \
    static inline T op##_##type(T a, T b) { return (T)(expression); }

/* Of every type; lanes_f64 is a lane in memory, where it may stand at any address. */
#define MMSB_LANE_COMMON(type, T)                                  \
    typedef T lanes_##type __attribute__((aligned(1), may_alias)); \
    static inline T second_##type(T a, T b) { return (void)a, b; } \
    static inline T keep_##type(T a) { return a; }

MMSB_LANE_COMMON(u8, uint8_t)
MMSB_LANE_COMMON(i32, int32_t)
MMSB_LANE_COMMON(i64, int64_t)
MMSB_LANE_COMMON(f32, float)
MMSB_LANE_COMMON(f64, double)

/* Of integers; U is the unsigned type, in which arithmetic wraps. */
#define MMSB_LANE_INTEGER(type, T, U)                        \
    MMSB_LANE_OP(plus, type, T, (U)a + (U)b)                 \
    MMSB_LANE_OP(times, type, T, (U)((U)a * (uint64_t)(U)b)) \
    MMSB_LANE_OP(min, type, T, a < b ? a : b)                \
    MMSB_LANE_OP(max, type, T, a > b ? a : b)                \
    MMSB_LANE_OP(bit_or, type, T, a | b)                     \
    MMSB_LANE_OP(bit_and, type, T, a &b)                     \
    MMSB_LANE_OP(bit_xor, type, T, a ^ b)                    \
    MMSB_LANE_OP(bool_or, type, T, (a | b) != 0)             \
    MMSB_LANE_OP(bool_and, type, T, (a != 0) & (b != 0))     \
    static inline T done_##type(T a) { return a; }

MMSB_LANE_INTEGER(u8, uint8_t, uint8_t)
MMSB_LANE_INTEGER(i32, int32_t, uint32_t)
MMSB_LANE_INTEGER(i64, int64_t, uint64_t)

/* Clamped to the ends of the type. 255 of u8 is its own infinity: nothing that is added leads away from it. */
MMSB_LANE_OP(clamp_plus, u8, uint8_t, a + b < 255 ? a + b : 255)
MMSB_LANE_OP(clamp_times, u8, uint8_t, a *b < 255 ? a * b : 255)
MMSB_LANE_OP(below_plus, u8, uint8_t, clamp_plus_u8(a, b))

/* below_plus: the ⊗ of min-plus, whose zero, the greatest number, is infinity and stays so whatever is added to it;
 * above_plus: that of max-plus, with the least number. */
#define MMSB_LANE_CLAMPED(type, T, LEAST, GREATEST)                                                        \
    static inline T clamp_plus_##type(T a, T b) {                                                          \
        T sum;                                                                                             \
        return __builtin_add_overflow(a, b, &sum) ? (a < 0 ? LEAST : GREATEST) : sum;                      \
    }                                                                                                      \
    static inline T clamp_times_##type(T a, T b) {                                                         \
        T product;                                                                                         \
        return __builtin_mul_overflow(a, b, &product) ? ((a < 0) != (b < 0) ? LEAST : GREATEST) : product; \
    }                                                                                                      \
    MMSB_LANE_OP(below_plus, type, T, a == GREATEST || b == GREATEST ? GREATEST : clamp_plus_##type(a, b)) \
    MMSB_LANE_OP(above_plus, type, T, a == LEAST || b == LEAST ? LEAST : clamp_plus_##type(a, b))

MMSB_LANE_CLAMPED(i32, int32_t, INT32_MIN, INT32_MAX)
MMSB_LANE_CLAMPED(i64, int64_t, INT64_MIN, INT64_MAX)

/* Of floats; U holds the bits. Equal numbers have equal bits, but for the zeros: the bitwise or of both is then the
 * smaller one, the bitwise and the greater one. A NaN makes both comparisons false: the or of its bits with others is
 * a NaN still, the and would not be. */
#define MMSB_LANE_FLOAT(type, T, U, NAN_BITS)                                                       \
    MMSB_LANE_OP(plus, type, T, a + b)                                                              \
    MMSB_LANE_OP(times, type, T, a *b)                                                              \
    static inline T min_##type(T a, T b) {                                                          \
        T one = a < b ? a : b, other = b < a ? b : a;                                               \
        return mmsb_lane_of_bits_##type(mmsb_lane_bits_##type(one) | mmsb_lane_bits_##type(other)); \
    }                                                                                               \
    static inline T max_##type(T a, T b) {                                                          \
        T one = a > b ? a : b, other = b > a ? b : a;                                               \
        U both = mmsb_lane_bits_##type(one) & mmsb_lane_bits_##type(other);                         \
        return mmsb_lane_of_bits_##type(a != a || b != b ? (U)NAN_BITS : both);                     \
    }                                                                                               \
    static inline T done_##type(T a) { return a != a ? mmsb_lane_of_bits_##type((U)NAN_BITS) : a; } \
    MMSB_LANE_OP(done_times, type, T, done_##type(a *b))

MMSB_LANE_FLOAT(f32, float, uint32_t, 0x7fc00000)
MMSB_LANE_FLOAT(f64, double, uint64_t, 0x7ff8000000000000)

#endif
