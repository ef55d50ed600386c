#include "cpu.h"

#include <cpuid.h>
#include <stdlib.h>

/* From lowest to highest: a level falls with the one it is built on. */
static const struct {
    const char *name;
    uint32_t bit, falls_with_it;
} features_known[] = {
    {"sse42", MMSB_CPU_SSE42, MMSB_CPU_SSE42 | MMSB_CPU_AVX2 | MMSB_CPU_AVX512 | MMSB_CPU_PCLMUL},
    {"avx2", MMSB_CPU_AVX2, MMSB_CPU_AVX2 | MMSB_CPU_AVX512},
    {"avx512", MMSB_CPU_AVX512, MMSB_CPU_AVX512},
    {"pclmul", MMSB_CPU_PCLMUL, MMSB_CPU_PCLMUL},
};
#define FEATURE_COUNT (sizeof features_known / sizeof features_known[0])

static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has(uint32_t word, unsigned bit) { return (word >> bit & 1) != 0; }

uint32_t mmsb_cpu_detect(void) {
    uint32_t a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool saves_state = has(c, 27), avx = has(c, 28), popcnt = has(c, 23);
    if (has(c, 20) && popcnt) found |= MMSB_CPU_SSE42;
    if (has(c, 1) && has(c, 20)) found |= MMSB_CPU_PCLMUL;
    uint64_t state = saves_state ? enabled_state() : 0;
    uint32_t a7, b7 = 0, c7 = 0, d7, ax, bx, cx = 0, dx;
    if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return found;
    (void)__get_cpuid(0x80000001, &ax, &bx, &cx, &dx);
    /* 6: the operating system keeps SSE and AVX registers; 0xe6: the AVX-512 ones too. */
    bool avx2 = avx && (state & 6) == 6 && has(b7, 5) && has(b7, 3) && has(b7, 8) && has(cx, 5) && popcnt;
    if (avx2 && (found & MMSB_CPU_SSE42)) found |= MMSB_CPU_AVX2;
    bool avx512 =
        (state & 0xe6) == 0xe6 && has(b7, 16) && has(b7, 30) && has(b7, 31) && has(b7, 17) && has(c7, 1) && has(c7, 6);
    if (avx512 && (found & MMSB_CPU_AVX2)) found |= MMSB_CPU_AVX512;
    return found;
}

int mmsb_cpu_disable(uint32_t *features, const char *disable, const char **unknown) {
    uint32_t left = *features;
    const char *p = disable != NULL ? disable : "";
    while (*p != '\0') {
        size_t length = strcspn(p, ",");
        size_t i = 0;
        while (i < FEATURE_COUNT &&
               !(strlen(features_known[i].name) == length && memcmp(features_known[i].name, p, length) == 0))
            i++;
        if (i == FEATURE_COUNT && length != 0) {
            if (unknown != NULL) *unknown = p;
            return MMSB_UNKNOWN_FEATURE;
        }
        if (length != 0) left &= ~features_known[i].falls_with_it;
        p += length;
        if (*p == ',') p++;
    }
    *features = left;
    return MMSB_OK;
}

const char *mmsb_cpu_environment(void) {
    const char *value = getenv("MMSB_DISABLE_CPU");
    return value != NULL ? value : "";
}

const char *mmsb_cpu_name(uint32_t bit) {
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        if (features_known[i].bit == bit) return features_known[i].name;
    return NULL;
}
