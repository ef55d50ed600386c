/* The time of a commit: the system's real-time clock, read through the processor's counter in between. A call of
 * clock_gettime is a seventh of a small write, the counter a third of that. */
#ifndef MMSB_CLOCK_H
#define MMSB_CLOCK_H

#include "base.h"

typedef struct mmsb_clock {
    uint64_t ticks, time_ns;  /* the last reading of both clocks */
    uint64_t ticks_max;       /* so many ticks later they are read again; 0: the counter is of no use (yet) */
    uint64_t ns_per_tick_q32; /* nanoseconds of a tick, 32 bits behind the point */
    enum { MMSB_COUNTER_UNKNOWN, MMSB_COUNTER_STEADY, MMSB_COUNTER_UNSTEADY } counter;
} mmsb_clock;

/* Nanoseconds since 1970 (UTC). Follows the system's clock at least every millisecond, whatever it does. A zeroed
 * clock is a valid one. */
uint64_t mmsb_clock_now(mmsb_clock *clock);

/* Nanoseconds of CLOCK_MONOTONIC, for deadlines. */
uint64_t mmsb_clock_monotonic(void);

#endif
