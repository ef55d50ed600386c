/* The allocator every C object uses. It travels inside the handle, so a test can fail the Nth allocation. */
#ifndef MMSB_ALLOC_H
#define MMSB_ALLOC_H

#include "base.h"

typedef struct mmsb_alloc {
    void *context;
    void *(*allocate)(void *context, size_t bytes); /* NULL when out of memory */
    void *(*resize)(void *context, void *block, size_t bytes);
    void (*release)(void *context, void *block);
} mmsb_alloc;

/* malloc, realloc, free. */
extern const mmsb_alloc mmsb_alloc_libc;

/* A growable byte buffer. `reserve` keeps the contents and returns false when out of memory, changing nothing. */
typedef struct mmsb_buffer {
    uint8_t *data;
    size_t size, capacity;
} mmsb_buffer;

bool mmsb_buffer_grow(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t capacity);
static inline bool mmsb_buffer_reserve(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t capacity) {
    return MMSB_LIKELY(capacity <= buffer->capacity) || mmsb_buffer_grow(buffer, alloc, capacity);
}
void mmsb_buffer_release(mmsb_buffer *buffer, const mmsb_alloc *alloc);

#endif
