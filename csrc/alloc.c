#include "alloc.h"

#include <stdlib.h>

static void *libc_allocate(void *context, size_t bytes) {
    (void)context;
    return malloc(bytes);
}

static void *libc_resize(void *context, void *block, size_t bytes) {
    (void)context;
    return realloc(block, bytes);
}

static void libc_release(void *context, void *block) {
    (void)context;
    free(block);
}

const mmsb_alloc mmsb_alloc_libc = {NULL, libc_allocate, libc_resize, libc_release};

bool mmsb_buffer_grow(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t capacity) {
    size_t grown = buffer->capacity + buffer->capacity / 2;
    if (grown < capacity) grown = capacity;
    if (grown < 256) grown = 256;
    void *data = alloc->resize(alloc->context, buffer->data, grown);
    if (data == NULL) return false;
    buffer->data = data;
    buffer->capacity = grown;
    return true;
}

void mmsb_buffer_release(mmsb_buffer *buffer, const mmsb_alloc *alloc) {
    alloc->release(alloc->context, buffer->data);
    memset(buffer, 0, sizeof *buffer);
}
