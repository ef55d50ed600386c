/* Buffers that end right before an unmapped page and begin right after one, so that a byte too far is a crash. */
#ifndef MMSB_TEST_GUARD_H
#define MMSB_TEST_GUARD_H

#include <stdint.h>
#include <sys/mman.h>

#include "check.h"

typedef struct guard {
    uint8_t *base;
    size_t bytes;
} guard;

static inline guard guard_make(size_t bytes) {
    bytes = (bytes + 4095) & ~(size_t)4095;
    uint8_t *p = mmap(NULL, bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && mprotect(p + 4096, bytes, PROT_READ | PROT_WRITE) == 0, "no memory");
    return (guard){p + 4096, bytes};
}

/* `n` bytes whose last one stands right before the guard page. */
static inline uint8_t *guard_end(guard g, size_t n) { return g.base + g.bytes - n; }

#endif
