/* What the C test programs share beside guard pages: random numbers, time, order of doubles. */
#ifndef MMSB_TEST_HARNESS_H
#define MMSB_TEST_HARNESS_H

#include <stdint.h>
#include <time.h>

#define SEED 88172645463325252u

static uint64_t seed = SEED;
static inline uint64_t random_u64(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static inline double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
