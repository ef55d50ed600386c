/* A word in shared memory on which other processes sleep. */
#ifndef MMSB_BELL_H
#define MMSB_BELL_H

#include "base.h"

/* Wakes everybody who waits. */
void mmsb_bell_ring(const uint32_t *bell);

/* Rings until *waiting is 0, for whoever must not change the word: somebody who looks at it and is about to sleep does
 * not hear a single ring. Nobody may begin to wait any more. */
void mmsb_bell_ring_out(const uint32_t *bell, const uint32_t *waiting);

/* Sleeps while *bell is `seen`, for at most `timeout_ns`. Returns early for a signal, or for nothing. */
void mmsb_bell_wait(const uint32_t *bell, uint32_t seen, uint64_t timeout_ns);

#endif
