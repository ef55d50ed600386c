/* The built-in semirings over one type, and fill_TYPE, which puts their functions into a table. The including file
 * defines what csrc/semiring_tmpl.h asks for per type, and
 *
 *   TYPE_IS_FLOAT, TYPE_IS_BYTE   neither: a signed integer
 *
 * Facts about each (names, laws, zero and one) stand in csrc/semiring.c. */
#include "semiring_tmpl.h"

#ifdef TYPE

#define NAME plus_times
#define PLUS plus
#define TIMES times
#include "semiring_tmpl.h"

#define NAME min_plus
#define PLUS min
#ifdef TYPE_IS_FLOAT
#define TIMES plus
#else
#define TIMES below_plus
#endif
#include "semiring_tmpl.h"

#ifndef TYPE_IS_BYTE
#define NAME max_plus
#define PLUS max
#ifdef TYPE_IS_FLOAT
#define TIMES plus
#else
#define TIMES above_plus
#endif
#include "semiring_tmpl.h"
#endif

#define NAME max_times
#define PLUS max
#ifdef TYPE_IS_FLOAT
#define TIMES times
#else
#define TIMES clamp_times
#endif
#include "semiring_tmpl.h"

#define NAME min_max
#define PLUS min
#define TIMES max
#include "semiring_tmpl.h"

/* What is written is written, bit for bit: only what was multiplied is made canonical. */
#define NAME last_write
#define PLUS second
#ifdef TYPE_IS_FLOAT
#define TIMES done_times
#else
#define TIMES times
#endif
#define DONE keep
#define PLUS_IN_ORDER 1
#include "semiring_tmpl.h"

#ifndef TYPE_IS_FLOAT
#define NAME or_and
#define PLUS bool_or
#define TIMES bool_and
#include "semiring_tmpl.h"

#define NAME xor_and
#define PLUS bit_xor
#define TIMES bit_and
#include "semiring_tmpl.h"

#define NAME bit_union
#define PLUS bit_or
#define TIMES bit_and
#include "semiring_tmpl.h"

#define NAME saturating_plus
#define PLUS clamp_plus
#define TIMES clamp_times
#include "semiring_tmpl.h"
#endif

static void OP(fill, TYPE)(mmsb_semirings *table, mmsb_dtype dtype) {
    USE(&table->rows[MMSB_SEMIRING_PLUS_TIMES][dtype], plus_times, TYPE);
    USE(&table->rows[MMSB_SEMIRING_MIN_PLUS][dtype], min_plus, TYPE);
#ifndef TYPE_IS_BYTE
    USE(&table->rows[MMSB_SEMIRING_MAX_PLUS][dtype], max_plus, TYPE);
#endif
    USE(&table->rows[MMSB_SEMIRING_MAX_TIMES][dtype], max_times, TYPE);
    USE(&table->rows[MMSB_SEMIRING_MIN_MAX][dtype], min_max, TYPE);
    USE(&table->rows[MMSB_SEMIRING_LAST_WRITE][dtype], last_write, TYPE);
#ifndef TYPE_IS_FLOAT
    USE(&table->rows[MMSB_SEMIRING_OR_AND][dtype], or_and, TYPE);
    USE(&table->rows[MMSB_SEMIRING_XOR_AND][dtype], xor_and, TYPE);
    USE(&table->rows[MMSB_SEMIRING_BIT_UNION][dtype], bit_union, TYPE);
    USE(&table->rows[MMSB_SEMIRING_SATURATING_PLUS][dtype], saturating_plus, TYPE);
#endif
}

#undef T
#undef U
#undef TYPE
#undef TYPE_IS_FLOAT
#undef TYPE_IS_BYTE
#undef V
#undef V_SET
#undef ROW_BYTES
#endif
