/* The built-in semirings with AVX2. */
#include "semiring_lanes_avx2.h"

MMSB_TARGET_BEGIN("avx2,bmi,bmi2,lzcnt,popcnt")

#define TYPE u8
#define T uint8_t
#define U uint8_t
#define TYPE_IS_BYTE
#define V 32
#define V_SET(p) _mm256_set1_epi8((char)*(p))
#include "semiring_set.h"

#define TYPE i32
#define T int32_t
#define U uint32_t
#define V 8
#define V_SET(p) _mm256_set1_epi32((int32_t)mmsb_load_u32(p))
#define ROW_BYTES 4
#include "semiring_set.h"

#define TYPE i64
#define T int64_t
#define U uint64_t
#define V 4
#define V_SET(p) _mm256_set1_epi64x((int64_t)mmsb_load_u64(p))
#define ROW_BYTES 8
#include "semiring_set.h"

#define TYPE f32
#define T float
#define U uint32_t
#define TYPE_IS_FLOAT
#define V 8
#define V_SET(p) _mm256_set1_epi32((int32_t)mmsb_load_u32(p))
#define ROW_BYTES 4
#include "semiring_set.h"

#define TYPE f64
#define T double
#define U uint64_t
#define TYPE_IS_FLOAT
#define V 4
#define V_SET(p) _mm256_set1_epi64x((int64_t)mmsb_load_u64(p))
#define ROW_BYTES 8
#include "semiring_set.h"

void mmsb_semirings_fill_avx2(mmsb_semirings *table) {
    fill_u8(table, MMSB_DTYPE_U8);
    fill_i32(table, MMSB_DTYPE_I32);
    fill_i64(table, MMSB_DTYPE_I64);
    fill_f32(table, MMSB_DTYPE_F32);
    fill_f64(table, MMSB_DTYPE_F64);
}

MMSB_TARGET_END
