/* Shareable memory: a sealed memfd and the one writable mapping of it. Whoever is handed the descriptor can map it for
 * reading only, and its size never changes. */
#ifndef MMSB_MEMORY_H
#define MMSB_MEMORY_H

#include "base.h"

#define MMSB_MEMORY_HUGE_BYTES ((uint64_t)2 << 20)

typedef struct mmsb_memory {
    uint8_t *base; /* NULL: none */
    uint64_t bytes;
    int fd;
} mmsb_memory;

/* Zeroed memory of `bytes` (a multiple of 4096), not resident until touched. With `huge` it is aligned to 2 MiB and
 * asks for huge pages, which the system may refuse. MMSB_OK or MMSB_NO_MEMORY, changing nothing. */
int mmsb_memory_create(mmsb_memory *memory, uint64_t bytes, bool huge);
void mmsb_memory_release(mmsb_memory *memory);

/* Bytes of physical memory behind it. */
uint64_t mmsb_memory_resident(const mmsb_memory *memory);

/* Makes this process's mapping read-only: in a forked child, whose writes would reach the parent. MMSB_OK or
 * MMSB_NO_MEMORY. */
int mmsb_memory_protect(const mmsb_memory *memory);

#endif
