/* What the fuzz targets share. A target reads its input as a script, so that every byte string is a valid test; what it
 * hands to csrc stands in heap blocks of exactly its size, so that a sanitizer sees the first byte too far. */
#ifndef MMSB_FUZZ_H
#define MMSB_FUZZ_H

#include "../../csrc/alloc.h"
#include "../../csrc/kernels.h"
#include "../c/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input. Numbers past its end are 0. */
typedef struct script {
    const uint8_t *at, *end;
} script;

static inline uint64_t left_of(const script *s) { return (uint64_t)(s->end - s->at); }

static inline uint8_t next_byte(script *s) { return s->at < s->end ? *s->at++ : 0; }

/* A number whose interesting values are near: small ones, those near powers of two, and any other. */
static inline uint64_t next_number(script *s) {
    uint8_t first = next_byte(s);
    if (first < 0xc0) return first;
    if (first < 0xf0) return ((uint64_t)1 << (first & 0x3f)) + next_byte(s) - 128;
    uint64_t number = 0;
    for (int i = 0; i <= (first & 7); i++) number = number << 8 | next_byte(s);
    return number;
}

/* A block of exactly `count` bytes; release with free(). Reading past its end is an error even where it has none. */
static inline uint8_t *exact_copy(const uint8_t *bytes, uint64_t count) {
    uint8_t *copy = malloc(count);
    CHECK(copy != NULL || count == 0, "no memory");
    if (count != 0) memcpy(copy, bytes, count);
    return copy;
}

static inline uint8_t *next_block(script *s, uint64_t count, uint64_t *taken) {
    *taken = mmsb_min_u64(count, left_of(s));
    uint8_t *copy = exact_copy(s->at, *taken);
    s->at += *taken;
    return copy;
}

/* An allocator that has nothing for who asks for more than a hostile number is worth. */
static inline void *limited_resize(void *context, void *block, size_t bytes) {
    (void)context;
    return bytes > (1 << 20) ? NULL : realloc(block, bytes);
}
static inline void *limited_allocate(void *context, size_t bytes) { return limited_resize(context, NULL, bytes); }
static inline void limited_release(void *context, void *block) {
    (void)context;
    free(block);
}
static const mmsb_alloc limited_alloc = {NULL, limited_allocate, limited_resize, limited_release};

/* The best kernels of this processor. */
static inline const mmsb_kernels *fuzz_kernels(void) {
    static mmsb_kernels kernels;
    if (kernels.size_bytes == 0) mmsb_kernels_init(&kernels, mmsb_cpu_detect());
    return &kernels;
}

#endif
