/* The built-in semirings in portable C: the definition that every faster level is compared with. */
#include "semiring_isa.h"

#define TYPE u8
#define T uint8_t
#define U uint8_t
#define TYPE_IS_BYTE
#include "semiring_set.h"

#define TYPE i32
#define T int32_t
#define U uint32_t
#include "semiring_set.h"

#define TYPE i64
#define T int64_t
#define U uint64_t
#include "semiring_set.h"

#define TYPE f32
#define T float
#define U uint32_t
#define TYPE_IS_FLOAT
#include "semiring_set.h"

#define TYPE f64
#define T double
#define U uint64_t
#define TYPE_IS_FLOAT
#include "semiring_set.h"

void mmsb_semirings_fill_scalar(mmsb_semirings *table) {
    fill_u8(table, MMSB_DTYPE_U8);
    fill_i32(table, MMSB_DTYPE_I32);
    fill_i64(table, MMSB_DTYPE_I64);
    fill_f32(table, MMSB_DTYPE_F32);
    fill_f64(table, MMSB_DTYPE_F64);
}
