/* A store into the mapping of a file can fail, and there is no call that could say so: where a file system was shut
 * down, a disk is gone or a file was cut, the kernel sends SIGBUS. In a guard that is an error like any other. */
#ifndef MMSB_IO_GUARD_H
#define MMSB_IO_GUARD_H

#include <setjmp.h>

#include "base.h"

/* Lives in the function that stores: `setjmp(guard.back)` there returns 0, and once more when a store failed. */
typedef struct mmsb_guard {
    jmp_buf back;
    const uint8_t *start, *end;
} mmsb_guard;

/* Handles SIGBUS in this process from now on; what lies in no guard goes to whoever handled it before. */
void mmsb_guard_install(void);

/* Between these a SIGBUS of this thread at one of the `bytes` bytes from `start` on goes `back`. They do not nest. */
void mmsb_guard_enter(mmsb_guard *guard, const uint8_t *start, uint64_t bytes);
void mmsb_guard_leave(void);

#endif
