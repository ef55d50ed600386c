#define _POSIX_C_SOURCE 200809L

#include "clock.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#define FOLLOW_NS 1000000u
/* Over a longer time the two clocks are not compared: the machine may have slept meanwhile. */
#define COMPARE_NS_MAX 1000000000u

static uint64_t read_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t system_time(void) { return read_ns(CLOCK_REALTIME); }

uint64_t mmsb_clock_monotonic(void) { return read_ns(CLOCK_MONOTONIC); }

/* Whether the counter goes on at one rate in every state of the processor. Asked once: in a virtual machine the answer
 * takes tens of microseconds. */
static bool counter_is_steady(mmsb_clock *clock) {
    if (clock->counter == MMSB_COUNTER_UNKNOWN) {
        uint32_t a, b, c, d = 0;
        bool steady = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1) != 0;
        clock->counter = steady ? MMSB_COUNTER_STEADY : MMSB_COUNTER_UNSTEADY;
    }
    return clock->counter == MMSB_COUNTER_STEADY;
}

/* Reads both clocks and takes the counter's rate from the time since they were read before. */
static uint64_t follow(mmsb_clock *clock, uint64_t ticks) {
    uint64_t now = system_time(), passed_ns = now - clock->time_ns, passed = ticks - clock->ticks;
    if (clock->time_ns != 0 && passed_ns < FOLLOW_NS && passed < UINT32_MAX) return now; /* too short to tell */
    bool comparable = clock->time_ns != 0 && passed_ns < COMPARE_NS_MAX && passed != 0 && passed < UINT32_MAX;
    clock->ticks = ticks;
    clock->time_ns = now;
    clock->ticks_max = 0;
    if (comparable && counter_is_steady(clock)) {
        clock->ns_per_tick_q32 = (passed_ns << 32) / passed;
        clock->ticks_max = passed * FOLLOW_NS / passed_ns;
    }
    return now;
}

uint64_t mmsb_clock_now(mmsb_clock *clock) {
    uint64_t ticks = __rdtsc(), passed = ticks - clock->ticks;
    if (MMSB_UNLIKELY(passed >= clock->ticks_max)) return follow(clock, ticks);
    return clock->time_ns + (passed * clock->ns_per_tick_q32 >> 32);
}
