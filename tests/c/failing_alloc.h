/* An allocator that fails at a chosen allocation and counts the blocks that are out. */
#ifndef MMSB_TEST_FAILING_ALLOC_H
#define MMSB_TEST_FAILING_ALLOC_H

#include <stdlib.h>

#include "../../csrc/alloc.h"

typedef struct failing_alloc {
    mmsb_alloc alloc; /* hand this one out; its context is the failing_alloc */
    uint64_t left;    /* allocations that still succeed; UINT64_MAX: all */
    uint64_t blocks;  /* that are out now */
} failing_alloc;

static inline void *failing_resize(void *context, void *block, size_t bytes) {
    failing_alloc *failing = context;
    if (failing->left == 0) return NULL;
    if (failing->left != UINT64_MAX) failing->left--;
    failing->blocks += block == NULL;
    return realloc(block, bytes);
}

static inline void *failing_allocate(void *context, size_t bytes) { return failing_resize(context, NULL, bytes); }

static inline void failing_release(void *context, void *block) {
    failing_alloc *failing = context;
    failing->blocks -= block != NULL;
    free(block);
}

/* Succeeds until `left` is set. Must not move afterwards. */
static inline void failing_init(failing_alloc *failing) {
    *failing = (failing_alloc){.alloc = {failing, failing_allocate, failing_resize, failing_release}};
    failing->left = UINT64_MAX;
}

#endif
