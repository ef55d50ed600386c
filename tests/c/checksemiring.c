/* Compares every level of every semiring with the scalar one, byte by byte, at every length 0..130 lanes and many
 * alignments, on hostile lanes, with guard pages; `checksemiring --bench` times what the figures ask for. */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <string.h>

#include "../../csrc/cpu.h"
#include "../../csrc/semiring.h"
#include "guard.h"
#include "harness.h"
#include "lanes.h"

static mmsb_semirings scalar, avx2, best;

enum { LANES_MAX = 130, BYTES_MAX = LANES_MAX * 8, OPERANDS = 5, MARGIN = 64 };

static uint8_t expected[BYTES_MAX], before[BYTES_MAX];

/* Bytes around dst that no call may write: those behind it end at the guard page. */
static void set_margins(uint8_t *dst, uint64_t bytes, uint64_t behind) {
    memset(dst - MARGIN, 0xa5, MARGIN);
    memset(dst + bytes, 0xa5, behind);
}
static bool margins_kept(const uint8_t *dst, uint64_t bytes, uint64_t behind) {
    bool kept = true;
    for (int i = 1; i <= MARGIN; i++) kept &= dst[-i] == 0xa5;
    for (uint64_t i = 0; i < behind; i++) kept &= dst[bytes + i] == 0xa5;
    return kept;
}

/* Runs one call on both levels, each from the same old dst; bytes and result must agree. */
#define COMPARE(what, call)                                                                                           \
    do {                                                                                                              \
        const mmsb_semiring *s = slow;                                                                                \
        memcpy(dst, before, bytes);                                                                                   \
        bool changed = call;                                                                                          \
        memcpy(expected, dst, bytes);                                                                                 \
        CHECK(changed == (memcmp(before, expected, bytes) != 0), "%s %u %s of %lu: changed", slow->name, slow->dtype, \
              what, (unsigned long)n);                                                                                \
        memcpy(dst, before, bytes);                                                                                   \
        s = fast;                                                                                                     \
        CHECK((call) == changed && memcmp(dst, expected, bytes) == 0, "%s %u: %s of %lu lanes", slow->name,           \
              slow->dtype, what, (unsigned long)n);                                                                   \
    } while (0)

static void check_lanes(const mmsb_semiring *slow, const mmsb_semiring *fast, guard gd, guard gx, guard gw, uint64_t n,
                        uint64_t shift) {
    uint64_t bytes = n * slow->lane_bytes;
    uint8_t *dst = guard_end(gd, bytes + shift), *x = guard_end(gx, bytes + shift * 3 % 64);
    uint8_t *w = guard_end(gw, bytes + shift * 7 % 64), one_w[8];
    fill(dst, slow, n);
    fill(x, slow, n);
    fill(w, slow, n);
    fill(one_w, slow, 1);
    set_margins(dst, bytes, shift);
    memcpy(before, dst, bytes);
    COMPARE("add", s->add(s, dst, x, n));
    COMPARE("accumulate", s->accumulate(s, dst, one_w, x, n, false));
    COMPARE("accumulate per lane", s->accumulate(s, dst, w, x, n, true));
    COMPARE("scale", (s->scale(s, dst, one_w, x, n, false), memcmp(before, dst, bytes) != 0));
    COMPARE("scale per lane", (s->scale(s, dst, w, x, n, true), memcmp(before, dst, bytes) != 0));

    mmsb_lane a, b;
    slow->fold_add(slow, &a, x, n);
    fast->fold_add(fast, &b, x, n);
    CHECK(memcmp(&a, &b, sizeof a) == 0, "%s %u: fold_add of %lu lanes", slow->name, slow->dtype, (unsigned long)n);
    slow->fold_mul(slow, &a, x, n);
    fast->fold_mul(fast, &b, x, n);
    CHECK(memcmp(&a, &b, sizeof a) == 0, "%s %u: fold_mul of %lu lanes", slow->name, slow->dtype, (unsigned long)n);

    uint8_t weights[OPERANDS * 8];
    const uint8_t *operands[OPERANDS] = {x, w, x, expected, w};
    fill(weights, slow, OPERANDS);
    fill(expected, slow, n);
    memcpy(before, dst, bytes);
    uint8_t parent[BYTES_MAX];
    memcpy(parent, expected, bytes);
    operands[3] = parent;
    COMPARE("combine", s->combine(s, dst, operands, weights, n % (OPERANDS + 1), n));
    COMPARE("combine unweighted", s->combine(s, dst, operands, NULL, n % (OPERANDS + 1), n));
    CHECK(margins_kept(dst, bytes, shift), "%s %u writes beside %lu lanes", slow->name, slow->dtype, (unsigned long)n);
}

static void check_rows(const mmsb_semiring *slow, const mmsb_semiring *fast, guard gd, guard gx, guard gw, uint64_t n) {
    uint64_t bytes = n * slow->lane_bytes, columns = 1 + random_u64() % 40;
    uint64_t row_start[LANES_MAX + 1] = {0};
    for (uint64_t r = 0; r < n; r++) row_start[r + 1] = row_start[r] + random_u64() % (r % 5 == 0 ? 23 : 7);
    uint64_t entries = row_start[n];
    static uint8_t column_guarded[1 << 14];
    uint8_t *dst = guard_end(gd, bytes), *x = guard_end(gx, columns * slow->lane_bytes);
    uint8_t *value = guard_end(gw, entries * slow->lane_bytes), *column = column_guarded + 1;
    for (uint64_t k = 0; k < entries; k++) mmsb_store_u32(column + k * 4, (uint32_t)(random_u64() % columns));
    fill(dst, slow, n);
    fill(x, slow, columns);
    fill(value, slow, entries);
    memcpy(before, dst, bytes);
    mmsb_csr a = {n, columns, (const uint8_t *)row_start, column, value};
    const char *why;
    uint64_t at;
    CHECK(mmsb_csr_check(&a, entries, &why, &at), "%s", why);
    COMPARE("rows", s->rows(s, dst, &a, x, NULL, 0, n));
    uint32_t list[LANES_MAX];
    uint64_t listed = 0;
    for (uint32_t r = 0; r < n; r++)
        if (random_u64() % 3 == 0) list[listed++] = r;
    COMPARE("listed rows", s->rows(s, dst, &a, x, (const uint8_t *)list, 0, listed));
    if (entries != 0) {
        mmsb_store_u32(column + (entries - 1) * 4, (uint32_t)columns);
        CHECK(!mmsb_csr_check(&a, entries, &why, &at) && at == entries - 1, "a column too far is accepted");
        row_start[n] = entries + 1;
        CHECK(!mmsb_csr_check(&a, entries, &why, &at) && at == n, "too many entries are accepted");
    }
}

/* ns of one call, the median of interleaved repeats. */
enum { REPEATS = 21 };
static double median(double *ns) {
    qsort(ns, REPEATS, sizeof *ns, by_value);
    return ns[REPEATS / 2];
}

/* Huge pages where the system gives them, as numpy and the arena ask for them. */
static void *sized(size_t bytes) {
    const size_t huge = 2 << 20;
    void *p = aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
    CHECK(p != NULL, "no memory");
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

/* ⊕ over 1 MiB, operands coming round again only after 1 GiB. */
static void bench_add(const char *name, uint32_t dtype) {
    const uint64_t bytes = 1 << 20, ring = 512;
    const mmsb_semiring *rows[2] = {mmsb_semirings_find(&scalar, name, dtype), mmsb_semirings_find(&best, name, dtype)};
    uint8_t *dst = sized(bytes * ring), *x = sized(bytes * ring);
    memset(dst, 1, bytes * ring);
    memset(x, 2, bytes * ring);
    for (uint64_t i = 0; i < bytes * ring; i += 8) mmsb_store_u64(x + i, random_u64() >> 2);
    double ns[2][REPEATS];
    uint64_t at = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int level = 0; level < 2; level++) {
            double begin = now_ns();
            for (int k = 0; k < 8; k++, at = (at + 1) % ring)
                rows[level]->add(rows[level], dst + at * bytes, x + at * bytes, bytes / rows[level]->lane_bytes);
            ns[level][repeat] = (now_ns() - begin) / 8;
        }
    double slow = median(ns[0]), fast = median(ns[1]);
    printf("add %s dtype %u, 1 MiB out of cache\tscalar %.0f ns\tbest %.0f ns (%.2f GB/s of lanes)\n", name, dtype,
           slow, fast, (double)bytes / fast);
    free(dst);
    free(x);
}

static void bench_rows(const char *name) {
    const uint64_t n = 100000, entries = 1000000;
    uint64_t *row_start = calloc(n + 1, 8);
    uint32_t *column = sized(entries * 4);
    double *value = sized(entries * 8), *x = sized(n * 8), *y = calloc(n, 8);
    for (uint64_t k = 0; k < entries; k++) row_start[1 + random_u64() % n]++;
    for (uint64_t r = 0; r < n; r++) row_start[r + 1] += row_start[r];
    for (uint64_t k = 0; k < entries; k++) {
        column[k] = (uint32_t)(random_u64() % n);
        value[k] = (double)(random_u64() >> 11) * 0x1p-53;
    }
    for (uint64_t i = 0; i < n; i++) x[i] = (double)i;
    mmsb_csr a = {n, n, (uint8_t *)row_start, (uint8_t *)column, (uint8_t *)value};
    const mmsb_semiring *rows[2] = {mmsb_semirings_find(&scalar, name, MMSB_DTYPE_F64),
                                    mmsb_semirings_find(&best, name, MMSB_DTYPE_F64)};
    double ns[2][REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int level = 0; level < 2; level++) {
            double begin = now_ns();
            rows[level]->rows(rows[level], (uint8_t *)y, &a, (uint8_t *)x, NULL, 0, n);
            ns[level][repeat] = now_ns() - begin;
        }
    double slow = median(ns[0]), fast = median(ns[1]);
    printf("rows %s, 1,000,000 entries of 100,000 x 100,000\tscalar %.3f ms\tbest %.3f ms\n", name, slow / 1e6,
           fast / 1e6);
    free(row_start);
    free(column);
    free(value);
    free(x);
    free(y);
}

/* 100,000 pages of one lane with ten parents each, anywhere. */
static void bench_links(const char *name) {
    const uint64_t pages = 100000, parents = 10;
    uint8_t *memory = sized(pages * 64);
    const uint8_t **x = calloc(pages * parents, sizeof *x);
    double *w = calloc(parents, sizeof *w);
    for (uint64_t i = 0; i < pages * 8; i++) ((double *)memory)[i] = (double)(i % 1000);
    for (uint64_t i = 0; i < pages * parents; i++) x[i] = memory + random_u64() % pages * 64;
    for (uint64_t i = 0; i < parents; i++) w[i] = 1.0 + (double)i;
    const mmsb_semiring *s = mmsb_semirings_find(&best, name, MMSB_DTYPE_F64);
    double combined[REPEATS], linked[REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double begin = now_ns();
        for (uint64_t i = 0; i < pages; i++) s->combine(s, memory + i * 64, x + i * parents, (uint8_t *)w, parents, 1);
        combined[repeat] = (now_ns() - begin) / (double)(pages * parents);
        begin = now_ns();
        for (uint64_t i = 0; i < pages; i++)
            for (uint64_t k = 0; k < parents; k++)
                s->accumulate(s, memory + i * 64, (uint8_t *)(w + k), x[i * parents + k], 1, false);
        linked[repeat] = (now_ns() - begin) / (double)(pages * parents);
    }
    printf("%s, one lane, per link\tcombine %.2f ns\taccumulate %.2f ns\n", name, median(combined), median(linked));
    free(memory);
    free(x);
    free(w);
}

int main(int argc, char **argv) {
    mmsb_semirings_init(&scalar, 0);
    mmsb_semirings_init(&avx2, mmsb_cpu_detect() & ~(uint32_t)MMSB_CPU_AVX512);
    mmsb_semirings_init(&best, mmsb_cpu_detect());
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_add("min-plus", MMSB_DTYPE_F64);
        bench_add("plus-times", MMSB_DTYPE_F64);
        bench_add("min-plus", MMSB_DTYPE_I32);
        bench_rows("plus-times");
        bench_rows("min-plus");
        bench_links("plus-times");
        bench_links("min-plus");
        return 0;
    }
    guard gd = guard_make(1 << 14), gx = guard_make(1 << 14), gw = guard_make(1 << 14);
    for (int id = 0; id < MMSB_SEMIRING_COUNT; id++)
        for (int dtype = 0; dtype < MMSB_DTYPE_COUNT; dtype++) {
            const mmsb_semiring *slow = &scalar.rows[id][dtype];
            const mmsb_semiring *faster[] = {&avx2.rows[id][dtype], &best.rows[id][dtype]};
            const char *why;
            if (slow->size_bytes == 0) continue;
            CHECK(mmsb_semiring_check(slow, &why), "%s", why);
            for (int level = 0; level < 2; level++) {
                for (uint64_t n = 0; n <= LANES_MAX; n++)
                    for (uint64_t shift = 0; shift < 64; shift += shift < 8 ? 1 : 7)
                        check_lanes(slow, faster[level], gd, gx, gw, n, shift);
                for (int round = 0; round < 300; round++)
                    check_rows(slow, faster[level], gd, gx, gw, random_u64() % LANES_MAX);
            }
        }
    puts("all levels agree");
    return 0;
}
