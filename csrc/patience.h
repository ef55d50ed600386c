/* How long a thread looks for what another one does before it lets the system put it to sleep: spin_ns, as long as that
 * pays; after some failures it is tried but now and then. Between looks it offers its processor, because the kernel
 * likes to put both threads on the same one: there a round trip of a command takes 4 microseconds with that, and took
 * 13 with looking alone. */
#ifndef MMSB_PATIENCE_H
#define MMSB_PATIENCE_H

#include "base.h"

typedef struct mmsb_patience {
    uint64_t spin_ns;
    uint32_t failures; /* since it last paid */
} mmsb_patience;

/* Longer than most answers take, and shorter than what another program on the same processor would mind; nothing where
 * there is only one processor. */
void mmsb_patience_init(mmsb_patience *patience);

/* How long to look this time; 0: not at all. */
uint64_t mmsb_patience_now(const mmsb_patience *patience);

/* Whether looking paid this time. Threads that learn at the same time may forget a failure. */
void mmsb_patience_learn(mmsb_patience *patience, bool paid);

/* Looks until *word is no longer `seen`, for at most `timeout_ns`, and learns. The nanoseconds that were spent. */
uint64_t mmsb_patience_look(mmsb_patience *patience, const uint64_t *word, uint64_t seen, uint64_t timeout_ns);

#endif
