/* Rows whose lanes are computed by two plain functions, for whoever brings no vectors. The functions are somebody
 * else's, so nothing is assumed of them: folds go from left to right, and results are stored as they come. */
#include "semiring_tmpl.h"

#define TYPE u8
#define T uint8_t
#define U uint8_t
#define CALLED
#include "semiring_tmpl.h"

#define TYPE i32
#define T int32_t
#define U uint32_t
#define CALLED
#include "semiring_tmpl.h"

#define TYPE i64
#define T int64_t
#define U uint64_t
#define CALLED
#include "semiring_tmpl.h"

#define TYPE f32
#define T float
#define U uint32_t
#define CALLED
#include "semiring_tmpl.h"

#define TYPE f64
#define T double
#define U uint64_t
#define CALLED
#include "semiring_tmpl.h"

bool mmsb_semiring_called_init(mmsb_semiring_called *called, uint32_t dtype, void (*plus)(void), void (*times)(void)) {
    *called = (mmsb_semiring_called){
        .row = {.size_bytes = sizeof called->row, .dtype = dtype, .lane_bytes = mmsb_dtype_bytes(dtype)},
        .plus = plus,
        .times = times,
    };
    switch (dtype) {
        case MMSB_DTYPE_U8:
            USE(&called->row, called, u8);
            return true;
        case MMSB_DTYPE_I32:
            USE(&called->row, called, i32);
            return true;
        case MMSB_DTYPE_I64:
            USE(&called->row, called, i64);
            return true;
        case MMSB_DTYPE_F32:
            USE(&called->row, called, f32);
            return true;
        case MMSB_DTYPE_F64:
            USE(&called->row, called, f64);
            return true;
        default:
            return false;
    }
}
