/* What the processor can do, and what of it mmsb may use. */
#ifndef MMSB_CPU_H
#define MMSB_CPU_H

#include "base.h"
#include "status.h"

enum {
    MMSB_CPU_SSE42 = 1u << 0,  /* crc32 instruction, popcnt */
    MMSB_CPU_AVX2 = 1u << 1,   /* avx2, bmi1, bmi2, lzcnt together */
    MMSB_CPU_AVX512 = 1u << 2, /* avx512 f, bw, vl, dq, vbmi, vbmi2 together; implies avx2 */
    MMSB_CPU_PCLMUL = 1u << 3, /* carry-less multiply */
};

/* Features found by cpuid and enabled by the operating system. Reads no environment. */
uint32_t mmsb_cpu_detect(void);

/* Removes the comma-separated features named in `disable` ("avx2,avx512"; "" or NULL: none; lower levels named imply
 * the ones built on them: sse42 > avx2 > avx512). MMSB_UNKNOWN_FEATURE leaves *features as it was and points
 * *unknown into `disable`. */
int mmsb_cpu_disable(uint32_t *features, const char *disable, const char **unknown);

/* Value of MMSB_DISABLE_CPU, or "". The one environment variable read in C. */
const char *mmsb_cpu_environment(void);

/* Name of one feature bit ("avx2"), or NULL. */
const char *mmsb_cpu_name(uint32_t bit);

#endif
