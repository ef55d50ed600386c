/* Shareable memory: a sealed memfd and its mapping. Its size never changes. Whoever is handed the descriptor can map it
 * for reading only, unless it is made for writing by both. */
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

/* The same for this process alone: it has no descriptor (-1), and costs half as much to make and to let go. */
int mmsb_memory_create_private(mmsb_memory *memory, uint64_t bytes, bool huge);

/* The same for one process that may write as well: whoever is handed the descriptor can map it for writing. Its size
 * is sealed all the same, and every page of it is there. */
int mmsb_memory_create_writable(mmsb_memory *memory, uint64_t bytes);

/* Maps memory that was handed over; `memory` then owns `fd`. MMSB_OK; BAD_HEADER when it is no memory whose size is
 * sealed, or NO_MEMORY: then `fd` is still the caller's. */
int mmsb_memory_map(mmsb_memory *memory, int fd, bool writable);

void mmsb_memory_unmap(mmsb_memory *memory); /* leaves the descriptor open */
void mmsb_memory_release(mmsb_memory *memory);

/* Bytes of physical memory behind it; 0 where nobody can share it. */
uint64_t mmsb_memory_resident(const mmsb_memory *memory);

/* The first byte from `offset` on behind which there may be physical memory, or the end. */
uint64_t mmsb_memory_touched(const mmsb_memory *memory, uint64_t offset);

/* Makes this process's mapping read-only: in a forked child, whose writes would reach the parent. MMSB_OK or
 * MMSB_NO_MEMORY. */
int mmsb_memory_protect(const mmsb_memory *memory);

#endif
