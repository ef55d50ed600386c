/* Compares every level of every kernel with the scalar one, byte by byte, at every length 0..257 and alignment 0..63
 * with guard pages; `checkkern --bench all` times them against memcpy in the same loop. */
#define _GNU_SOURCE
#include <string.h>

#include "../../csrc/kernels.h"
#include "guard.h"
#include "harness.h"

static const struct {
    const char *name;
    uint32_t disabled;
} levels[] = {
    {"scalar", MMSB_CPU_SSE42 | MMSB_CPU_AVX2 | MMSB_CPU_AVX512 | MMSB_CPU_PCLMUL},
    {"sse42", MMSB_CPU_AVX2 | MMSB_CPU_AVX512 | MMSB_CPU_PCLMUL},
    {"avx2", MMSB_CPU_AVX512},
    {"avx512", 0},
};
#define LEVELS 4

/* Makes `to` differ from `from` in the way of one fill. */
static void change(uint8_t *to, const uint8_t *from, uint64_t n, int fill) {
    memcpy(to, from, n);
    for (uint64_t i = 0; i < n; i++) {
        bool hit = fill == 0   ? false
                   : fill == 1 ? true
                   : fill == 2 ? i % 2 == 0
                   : fill == 3 ? random_u64() % 1000 == 0
                   : fill == 4 ? random_u64() % 100 == 0
                   : fill == 5 ? random_u64() % 10 == 0
                   : fill == 6 ? random_u64() % 2 == 0
                   : fill == 7 ? i / 16 % 7 == 3
                   : fill == 8 ? (i + 5) % 64 < 10
                   : fill == 9 ? i == n / 2
                               : i % 64 == 63 || i % 64 == 0;
        if (hit) to[i] ^= (uint8_t)(1 + random_u64() % 255);
    }
}
#define FILLS 11

static void check_one(const mmsb_kernels *tables, const uint8_t *old, const uint8_t *new_bytes, uint64_t n,
                      uint64_t base, guard page_guard, guard payload_guard) {
    static uint8_t first_out[2 << 20], out[2 << 20], back[2 << 20];
    uint8_t first_code = 0, code = 0;
    int64_t first_bytes = tables[0].delta_diff(old, new_bytes, n, base, first_out, &first_code);
    CHECK(first_bytes >= 0, "diff failed");
    for (int level = 1; level < LEVELS; level++) {
        memset(out, 0xa5, MMSB_DELTA_BOUND(n) + 64);
        int64_t bytes = tables[level].delta_diff(old, new_bytes, n, base, out, &code);
        CHECK(bytes == first_bytes &&
                  (bytes == 0 || (code == first_code && memcmp(out, first_out, (size_t)bytes) == 0)),
              "%s: diff of %lu bytes, base %lu: %ld bytes code %d, scalar %ld code %d", levels[level].name,
              (unsigned long)n, (unsigned long)base, (long)bytes, code, (long)first_bytes, first_code);
        for (uint64_t i = MMSB_DELTA_BOUND(n); i < MMSB_DELTA_BOUND(n) + 64; i++)
            CHECK(out[i] == 0xa5, "%s: diff of %lu bytes writes past its bound", levels[level].name, (unsigned long)n);
    }
    if (first_bytes == 0) return;
    mmsb_delta_view view;
    CHECK(mmsb_delta_parse(first_code, first_out, (uint64_t)first_bytes, base + n, &view) == MMSB_OK, "not canonical");
    uint8_t *payload = guard_end(payload_guard, (size_t)first_bytes);
    memcpy(payload, first_out, (size_t)first_bytes);
    for (int level = 0; level < LEVELS; level++) {
        if (base + n > page_guard.bytes) break;
        uint8_t *page = guard_end(page_guard, base + n);
        memset(page, 0x3c, base);
        memcpy(page + base, old, n);
        int64_t inverse = tables[level].delta_inverse(page, base + n, first_code, payload, (uint64_t)first_bytes, back);
        CHECK(inverse == first_bytes, "inverse");
        CHECK(tables[level].delta_apply(page, base + n, first_code, payload, (uint64_t)first_bytes) == MMSB_OK,
              "%s: apply refused", levels[level].name);
        CHECK(memcmp(page + base, new_bytes, n) == 0, "%s: apply of %lu bytes is wrong", levels[level].name,
              (unsigned long)n);
        for (uint64_t i = 0; i < base; i++) CHECK(page[i] == 0x3c, "apply wrote before the delta");
        CHECK(tables[level].delta_apply(page, base + n, first_code, back, (uint64_t)inverse) == MMSB_OK &&
                  memcmp(page + base, old, n) == 0,
              "%s: the inverse does not undo", levels[level].name);
        CHECK(tables[level].delta_apply(page, view.end - 1, first_code, payload, (uint64_t)first_bytes) ==
                  MMSB_BAD_DELTA,
              "%s: apply past the page's end", levels[level].name);
    }
}

static void check_merge(const mmsb_kernels *tables) {
    static uint8_t a[600], b[600], c[600], pa[2000], pb[2000], merged[8000], page[600];
    for (int round = 0; round < 20000; round++) {
        uint64_t n = 1 + random_u64() % 520;
        for (uint64_t i = 0; i < n; i++) a[i] = (uint8_t)random_u64();
        change(b, a, n, (int)(random_u64() % FILLS));
        change(c, b, n, (int)(random_u64() % FILLS));
        uint8_t code_a, code_b, code;
        int64_t bytes_a = tables[0].delta_diff(a, b, n, 0, pa, &code_a),
                bytes_b = tables[0].delta_diff(b, c, n, 0, pb, &code_b);
        if (bytes_a == 0 || bytes_b == 0) continue;
        int64_t bytes =
            tables[0].delta_merge(code_a, pa, (uint64_t)bytes_a, code_b, pb, (uint64_t)bytes_b, n, merged, &code);
        mmsb_delta_view view;
        CHECK(bytes > 0 && mmsb_delta_parse(code, merged, (uint64_t)bytes, n, &view) == MMSB_OK,
              "merge is not canonical");
        memcpy(page, a, n);
        CHECK(tables[0].delta_apply(page, n, code, merged, (uint64_t)bytes) == MMSB_OK && memcmp(page, c, n) == 0,
              "merge is not both");
    }
}

static void check_garbage(const mmsb_kernels *tables, guard page_guard, guard payload_guard) {
    for (int round = 0; round < 200000; round++) {
        uint64_t n = random_u64() % 40, size = 1 + random_u64() % 300;
        uint8_t *payload = guard_end(payload_guard, n), *page = guard_end(page_guard, size);
        for (uint64_t i = 0; i < n; i++) payload[i] = (uint8_t)(random_u64() % (round % 2 ? 256 : 24));
        uint8_t code = (uint8_t)(random_u64() % 7);
        mmsb_delta_view view;
        int status = mmsb_delta_parse(code, payload, n, size, &view);
        for (int level = 0; level < LEVELS; level++) {
            int applied = tables[level].delta_apply(page, size, code, payload, n);
            CHECK(status != MMSB_OK || applied == MMSB_OK, "%s: a valid delta is refused", levels[level].name);
        }
    }
}

static void check_crc(const mmsb_kernels *tables, guard g) {
    CHECK(tables[0].crc32c(0, (const uint8_t *)"123456789", 9) == 0xe3069283u, "scalar CRC32C is wrong");
    for (uint64_t n = 0; n < 3000; n += n < 600 ? 1 : 97) {
        uint8_t *p = guard_end(g, n);
        for (uint64_t i = 0; i < n; i++) p[i] = (uint8_t)random_u64();
        for (int level = 1; level < LEVELS; level++)
            CHECK(tables[level].crc32c(7, p, n) == tables[0].crc32c(7, p, n), "CRC32C of %lu bytes", (unsigned long)n);
    }
}

enum { RING = 32, REPEATS = 41 };

/* ns of one operation and of memcpy of the same bytes, medians of interleaved repeats; the ratio of each pair. */
static void bench(const char *name, const char *level, const mmsb_kernels *table, uint64_t n, int fill, int density,
                  bool apply) {
    int ring = n > 1 << 20 ? 1 : RING, rounds = n > 1 << 20 ? 1 : 40;
    uint8_t *old = malloc(n * (size_t)ring), *fresh = malloc(n * (size_t)ring),
            *out = malloc(MMSB_DELTA_BOUND(n) * (size_t)ring);
    int64_t sizes[RING];
    uint8_t codes[RING];
    seed = SEED;
    for (uint64_t i = 0; i < n * (uint64_t)ring; i++) old[i] = (uint8_t)random_u64();
    for (int r = 0; r < ring; r++) {
        uint8_t *from = old + n * (uint64_t)r, *to = fresh + n * (uint64_t)r;
        memcpy(to, from, n);
        if (fill == 16) {
            for (uint64_t k = 0; k < n * (uint64_t)density / 10000 / 16 + 1; k++) {
                uint64_t at = random_u64() % (n - 16);
                for (int i = 0; i < 16; i++) to[at + (uint64_t)i] = (uint8_t)~from[at + (uint64_t)i];
            }
        } else {
            for (uint64_t i = 0; i < n; i++)
                if (random_u64() % 10000 < (uint64_t)density) to[i] = (uint8_t)~from[i];
        }
        sizes[r] = table->delta_diff(from, to, n, 0, out + MMSB_DELTA_BOUND(n) * (uint64_t)r, &codes[r]);
    }
    uint8_t *copies = malloc(n * (size_t)ring);
    memset(copies, 1, n * (size_t)ring);
    double ours[REPEATS], theirs[REPEATS], ratios[REPEATS];
    uint8_t *sink = malloc(MMSB_DELTA_BOUND(n)), code;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double t0 = now_ns();
        for (int k = 0; k < rounds; k++)
            for (int r = 0; r < ring; r++) {
                uint64_t at = n * (uint64_t)r;
                if (apply)
                    table->delta_apply(old + at, n, codes[r], out + MMSB_DELTA_BOUND(n) * (uint64_t)r,
                                       (uint64_t)sizes[r]);
                else
                    table->delta_diff(old + at, fresh + at, n, 0, sink, &code);
            }
        double t1 = now_ns();
        for (int k = 0; k < rounds; k++)
            for (int r = 0; r < ring; r++) {
                memcpy(copies + n * (uint64_t)r, fresh + n * (uint64_t)r, n);
                __asm__ volatile("" ::"r"(copies) : "memory");
            }
        double t2 = now_ns();
        ours[repeat] = (t1 - t0) / rounds / ring;
        theirs[repeat] = (t2 - t1) / rounds / ring;
        ratios[repeat] = theirs[repeat] / ours[repeat];
    }
    qsort(ours, REPEATS, sizeof *ours, by_value);
    qsort(theirs, REPEATS, sizeof *theirs, by_value);
    qsort(ratios, REPEATS, sizeof *ratios, by_value);
    printf("%s\t%s\t%.1f\t%.1f\t%.3f\t%.3f\n", name, level, ours[REPEATS / 2], theirs[REPEATS / 2], ratios[REPEATS / 2],
           (ratios[REPEATS * 3 / 4] - ratios[REPEATS / 4]) / 2 / ratios[REPEATS / 2]);
    free(old);
    free(fresh);
    free(out);
    free(sink);
    free(copies);
}

static void bench_all(const mmsb_kernels *tables) {
    for (int level = LEVELS; level >= 0; level--) {
        const char *name = level == LEVELS ? "best" : levels[level].name;
        const mmsb_kernels *table = &tables[level == LEVELS ? LEVELS - 1 : level];
        bench("diff 4KiB 0%", name, table, 4096, 1, 0, false);
        bench("diff 4KiB 0.1%", name, table, 4096, 1, 10, false);
        bench("diff 4KiB 1% runs of 16", name, table, 4096, 16, 100, false);
        bench("diff 4KiB 1% scattered", name, table, 4096, 1, 100, false);
        bench("diff 4KiB 10% scattered", name, table, 4096, 1, 1000, false);
        bench("diff 4KiB 50% scattered", name, table, 4096, 1, 5000, false);
        bench("diff 4KiB 100%", name, table, 4096, 1, 10000, false);
        bench("apply 4KiB dense", name, table, 4096, 1, 10000, true);
        bench("apply 4KiB 1% runs of 16", name, table, 4096, 16, 100, true);
        bench("apply 4KiB 10% scattered", name, table, 4096, 1, 1000, true);
        bench("diff 64MiB 0%", name, table, 64 << 20, 1, 0, false);
        bench("diff 64MiB 1% scattered", name, table, 64 << 20, 1, 100, false);
    }
}

int main(int argc, char **argv) {
    mmsb_kernels tables[LEVELS];
    for (int level = 0; level < LEVELS; level++)
        mmsb_kernels_init(&tables[level], mmsb_cpu_detect() & ~levels[level].disabled);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_all(tables);
        return 0;
    }
    guard g_old = guard_make(1 << 20), g_new = guard_make(1 << 20), g_page = guard_make(1 << 20),
          g_payload = guard_make(2 << 20);
    /* Every length at the guard, and every length at every alignment of both buffers in turn. */
    for (uint64_t n = 0; n <= 257; n++)
        for (uint64_t align = 0; align < 64; align++)
            for (int fill = 0; fill < FILLS; fill++) {
                uint8_t *old = align == 0 ? guard_end(g_old, n) : g_old.base + align;
                uint8_t *new_bytes = align == 0 ? guard_end(g_new, n) : g_new.base + (align * 29 + n) % 64;
                for (uint64_t i = 0; i < n; i++) old[i] = (uint8_t)random_u64();
                change(new_bytes, old, n, fill);
                check_one(tables, old, new_bytes, n, align % 3 == 0 ? 0 : align * 5, g_page, g_payload);
            }
    static const uint64_t long_lengths[] = {511, 512, 513, 1023, 1024, 4095, 4096, 4097, 65535, 65536, 100801};
    for (unsigned k = 0; k < sizeof long_lengths / sizeof *long_lengths; k++)
        for (int round = 0; round < 6; round++)
            for (int fill = 0; fill < FILLS; fill++) {
                uint64_t n = long_lengths[k];
                uint8_t *old = guard_end(g_old, n), *new_bytes = guard_end(g_new, n);
                for (uint64_t i = 0; i < n; i++) old[i] = (uint8_t)random_u64();
                change(new_bytes, old, n, fill);
                check_one(tables, old, new_bytes, n, round % 2 ? 0 : 1u << (round * 4), g_page, g_payload);
            }
    check_merge(tables);
    check_garbage(tables, g_page, g_payload);
    check_crc(tables, g_old);
    puts("all levels agree");
    return 0;
}
