/* What `checklink --bench` times: one call, and one link or entry, as a wave makes them. */
#ifndef MMSB_TEST_BENCHLINK_H
#define MMSB_TEST_BENCHLINK_H

#include "../../csrc/kernels.h"
#include "../../csrc/link.h"
#include "guard.h"
#include "harness.h"

enum { REPEATS = 21 };

static uint64_t bench_bytes; /* that came out: sizes of results are used, so that no call is left out */

static inline void bench_call(mmsb_link *link, const mmsb_link_page *pages, const uint8_t *old, uint64_t size,
                              mmsb_link_result *result) {
    const char *why = NULL;
    CHECK(mmsb_link_compute(link, pages, old, size, &mmsb_alloc_libc, result, &why) == MMSB_OK, "%s", why);
    bench_bytes += result->bytes.size;
}

/* ns of one of `calls` calls, the median of repeats. Children stand `size` apart at `old`, `parents` pages each. */
static double bench_calls(mmsb_link *link, const mmsb_link_page *pages, const uint8_t *old, uint64_t size,
                          uint64_t calls, mmsb_link_result *result) {
    double ns[REPEATS];
    for (int repeat = -2; repeat < REPEATS; repeat++) {
        double begin = now_ns();
        for (uint64_t i = 0; i < calls; i++)
            bench_call(link, pages + i * link->parent_count, old + i * size, size, result);
        if (repeat >= 0) ns[repeat] = (now_ns() - begin) / (double)calls;
    }
    qsort(ns, REPEATS, sizeof *ns, by_value);
    return ns[REPEATS / 2];
}

static void bench_tiny(const mmsb_semiring *s, bool accumulates, bool weighted) {
    enum { CHILDREN = 1000, FAN = 10 };
    static uint8_t memory[CHILDREN][64], old[CHILDREN][8];
    static mmsb_link_page pages[CHILDREN * FAN];
    double weights[FAN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    mmsb_link_result result = {0};
    mmsb_link link = {.type = MMSB_LINK_SEMIRING, .accumulates = accumulates, .parent_count = FAN, .semiring = s};
    if (weighted) link.weights = (const uint8_t *)weights;
    for (int i = 0; i < CHILDREN * FAN; i++)
        pages[i] = (mmsb_link_page){memory[random_u64() % CHILDREN], 8, 1, true, 0, NULL};
    double ns = bench_calls(&link, pages, old[0], 8, CHILDREN, &result);
    printf("%s%s%s, 8 bytes, %d parents\t%.1f ns, per link %.2f ns\n", s->name, weighted ? " weighted" : "",
           accumulates ? " accumulating" : "", FAN, ns, ns / FAN);
    mmsb_link_result_release(&result, &mmsb_alloc_libc);
}

static void bench_passthrough(uint64_t size, bool whole) {
    enum { CHILDREN = 500 };
    static uint8_t memory[CHILDREN * 1024], old[CHILDREN * 1024];
    static mmsb_link_page pages[CHILDREN];
    const mmsb_link_copy copy = {0, 0, 0, size};
    const mmsb_link_change change = {MMSB_DELTA_DENSE, (const uint8_t *)"\144\12\1\1\1\1\1\1\1\1\1\1", 12};
    mmsb_link link = {.type = MMSB_LINK_COPY, .parent_count = 1, .copy_count = 1, .copies = &copy};
    mmsb_link_result result = {0};
    memset(memory, 1, sizeof memory);
    for (int i = 0; i < CHILDREN; i++)
        pages[i] = (mmsb_link_page){memory + (uint64_t)i * size, size, 1, whole, !whole, &change};
    printf("passthrough of %lu bytes, %s\t%.1f ns\n", (unsigned long)size, whole ? "whole" : "10 bytes changed",
           bench_calls(&link, pages, old, size, CHILDREN, &result));
    mmsb_link_result_release(&result, &mmsb_alloc_libc);
}

/* A change of `count` random lanes of `n`, by the diff kernel; the payload is `out`. */
static mmsb_link_change bench_change(const mmsb_kernels *kernels, double *x, uint64_t n, int count, uint8_t *out) {
    double *before = malloc(n * 8);
    mmsb_link_change change = {.payload = out};
    memcpy(before, x, n * 8);
    for (int i = 0; i < count; i++) x[random_u64() % n] = -(double)(random_u64() >> 11) * 0x1p-53;
    change.payload_bytes = (uint64_t)kernels->delta_diff((uint8_t *)before, (uint8_t *)x, n * 8, 0, out, &change.code);
    free(before);
    return change;
}

static void bench_matrix(const mmsb_kernels *kernels, const mmsb_semiring *s) {
    const uint64_t n = 100000, entries = 1000000;
    uint64_t *row_start = calloc(n + 1, 8);
    uint32_t *column = malloc(entries * 4);
    double *value = malloc(entries * 8), *x = malloc(n * 8), *y = malloc(n * 8);
    uint8_t *payload = malloc(MMSB_DELTA_BOUND(n * 8));
    for (uint64_t k = 0; k < entries; k++) row_start[1 + random_u64() % n]++;
    for (uint64_t r = 0; r < n; r++) row_start[r + 1] += row_start[r];
    for (uint64_t k = 0; k < entries; k++) {
        column[k] = (uint32_t)(random_u64() % n);
        value[k] = (double)(random_u64() >> 11) * 0x1p-53;
    }
    for (uint64_t i = 0; i < n; i++) x[i] = y[i] = (double)i;
    mmsb_link link = {.type = MMSB_LINK_MATRIX, .parent_count = 4, .semiring = s, .rows = n, .columns = n};
    mmsb_link_page pages[] = {{(uint8_t *)x, n * 8, 1, true, 0, NULL},
                              {(uint8_t *)row_start, (n + 1) * 8, 1, false, 0, NULL},
                              {(uint8_t *)column, entries * 4, 1, false, 0, NULL},
                              {(uint8_t *)value, entries * 8, 1, false, 0, NULL}};
    mmsb_link_result result = {0};
    double begin = now_ns();
    bench_call(&link, pages, (uint8_t *)y, n * 8, &result);
    double first = now_ns() - begin, full = bench_calls(&link, pages, (uint8_t *)y, n * 8, 1, &result);
    bench_call(&link, pages, (uint8_t *)y, n * 8, &result);
    memcpy(y, result.bytes.data, n * 8);
    mmsb_link_change change = bench_change(kernels, x, n, 100, payload);
    pages[0] = (mmsb_link_page){(uint8_t *)x, n * 8, 2, false, 1, &change};
    begin = now_ns();
    bench_call(&link, pages, (uint8_t *)y, n * 8, &result);
    double second = now_ns() - begin, few = bench_calls(&link, pages, (uint8_t *)y, n * 8, 1, &result);
    printf("matrix %s, 1,000,000 entries\tfirst %.2f ms, full %.3f ms; 100 lanes: first %.2f ms, then %.1f us, "
           "%.0fx, %lu runs\n",
           s->name, first / 1e6, full / 1e6, second / 1e6, few / 1e3, full / few,
           (unsigned long)(result.runs.size / sizeof(mmsb_run)));
    mmsb_link_release(&link, &mmsb_alloc_libc);
    mmsb_link_result_release(&result, &mmsb_alloc_libc);
    free(row_start);
    free(column);
    free(value);
    free(x);
    free(y);
    free(payload);
}

static void bench_wide(const mmsb_kernels *kernels, const mmsb_semiring *s) {
    const uint64_t n = 131072;
    double *pages_bytes = malloc(n * 16), *y = malloc(n * 8);
    uint8_t *payload = malloc(MMSB_DELTA_BOUND(n * 8));
    for (uint64_t i = 0; i < n * 2; i++) pages_bytes[i] = (double)(random_u64() >> 11) * 0x1p-53;
    memset(y, 0, n * 8);
    mmsb_link link = {.type = MMSB_LINK_SEMIRING, .parent_count = 2, .semiring = s};
    mmsb_link_page pages[] = {{(uint8_t *)pages_bytes, n * 8, 1, true, 0, NULL},
                              {(uint8_t *)(pages_bytes + n), n * 8, 1, false, 0, NULL}};
    mmsb_link_result result = {0};
    double full = bench_calls(&link, pages, (uint8_t *)y, n * 8, 1, &result);
    memcpy(y, result.bytes.data, n * 8);
    mmsb_link_change change = bench_change(kernels, pages_bytes, n, 100, payload);
    pages[0] = (mmsb_link_page){(uint8_t *)pages_bytes, n * 8, 2, false, 1, &change};
    double few = bench_calls(&link, pages, (uint8_t *)y, n * 8, 1, &result);
    printf("%s, 1 MiB, 2 parents\tfull %.1f us; 100 lanes %.2f us, %.0fx\n", s->name, full / 1e3, few / 1e3,
           full / few);
    mmsb_link_result_release(&result, &mmsb_alloc_libc);
    free(pages_bytes);
    free(y);
    free(payload);
}

static inline void bench_links(const mmsb_kernels *kernels, const mmsb_semirings *table) {
    const mmsb_semiring *min = mmsb_semirings_find(table, "min-plus", MMSB_DTYPE_F64);
    const mmsb_semiring *plus = mmsb_semirings_find(table, "plus-times", MMSB_DTYPE_F64);
    bench_tiny(min, false, false);
    bench_tiny(min, false, true);
    bench_tiny(plus, false, true);
    bench_tiny(min, true, true);
    bench_passthrough(64, true);
    bench_passthrough(1024, true);
    bench_passthrough(1024, false);
    bench_matrix(kernels, plus);
    bench_matrix(kernels, min);
    bench_wide(kernels, min);
    printf("%lu bytes\n", (unsigned long)bench_bytes);
}

#endif
