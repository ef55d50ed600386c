/* Delta encoding of 4 KiB pages against XBZRLE, in turns, compiled with the same flags. Prints for each way of changing
 * one per cent: name, ns per page ours, theirs, bytes ours, theirs, spread of the ratio. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../csrc/kernels.h"

long xbzrle_repeat(const uint8_t *old_page, const uint8_t *new_page, int length, uint8_t *out, int times);

enum { PAGE = 4096, PAIRS = 64, ROUNDS = 41, TIMES = 16 };

static uint64_t seed = 20261121;

static uint64_t dice(void) { /* xorshift64*, Vigna 2016 */
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1du;
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static uint8_t old_pages[PAIRS][PAGE], new_pages[PAIRS][PAGE], out[4 * PAGE];

static void fill(int run) {
    for (int pair = 0; pair < PAIRS; pair++) {
        for (int at = 0; at < PAGE; at++) old_pages[pair][at] = (uint8_t)dice();
        memcpy(new_pages[pair], old_pages[pair], PAGE);
        for (int changed = 0; changed < PAGE / 100; changed += run) {
            uint64_t at = dice() % (uint64_t)(PAGE - run);
            for (int i = 0; i < run; i++) new_pages[pair][at + (uint64_t)i] ^= (uint8_t)(1 + dice() % 255);
        }
    }
}

int main(void) {
    mmsb_kernels kernels;
    mmsb_kernels_init(&kernels, mmsb_cpu_detect());
    const char *names[] = {"scattered", "runs of 16"};
    for (int way = 0; way < 2; way++) {
        fill(way == 0 ? 1 : 16);
        double mine[ROUNDS], theirs[ROUNDS], ratios[ROUNDS];
        long bytes = 0, their_bytes = 0;
        for (int round = 0; round < ROUNDS; round++) {
            double begun = now_ns();
            bytes = their_bytes = 0;
            for (int pair = 0; pair < PAIRS; pair++)
                for (int n = 0; n < TIMES; n++) {
                    uint8_t code;
                    bytes += kernels.delta_diff(old_pages[pair], new_pages[pair], PAGE, 0, out, &code);
                }
            double between = now_ns();
            for (int pair = 0; pair < PAIRS; pair++)
                their_bytes += xbzrle_repeat(old_pages[pair], new_pages[pair], PAGE, out, TIMES);
            double end = now_ns();
            mine[round] = (between - begun) / (PAIRS * TIMES);
            theirs[round] = (end - between) / (PAIRS * TIMES);
            ratios[round] = theirs[round] / mine[round];
        }
        qsort(mine, ROUNDS, sizeof *mine, ascending);
        qsort(theirs, ROUNDS, sizeof *theirs, ascending);
        qsort(ratios, ROUNDS, sizeof *ratios, ascending);
        double middle = ratios[ROUNDS / 2];
        printf("%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.3f\t%.3f\n", names[way], mine[ROUNDS / 2], theirs[ROUNDS / 2],
               (double)bytes / (PAIRS * TIMES), (double)their_bytes / (PAIRS * TIMES), middle,
               (ratios[ROUNDS * 3 / 4] - ratios[ROUNDS / 4]) / 2 / middle);
    }
    return 0;
}
