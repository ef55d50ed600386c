#define _GNU_SOURCE
#include "patience.h"

#include "clock.h"

#include <sched.h>
#include <unistd.h>

#define SPIN_NS 20000u
/* After so many failures in a row spinning is tried once in PROBE_COUNT times only. */
enum { FAILURES_MAX = 16, PROBE_COUNT = 8 };

void mmsb_patience_init(mmsb_patience *patience) {
    *patience = (mmsb_patience){.spin_ns = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SPIN_NS : 0};
}

uint64_t mmsb_patience_now(const mmsb_patience *patience) {
    uint32_t failures = __atomic_load_n(&patience->failures, __ATOMIC_RELAXED);
    bool tries = failures < FAILURES_MAX || failures % PROBE_COUNT == 0;
    return tries ? patience->spin_ns : 0;
}

void mmsb_patience_learn(mmsb_patience *patience, bool paid) {
    uint32_t failures = __atomic_load_n(&patience->failures, __ATOMIC_RELAXED);
    __atomic_store_n(&patience->failures, paid ? 0 : failures + 1, __ATOMIC_RELAXED);
}

uint64_t mmsb_patience_look(mmsb_patience *patience, const uint64_t *word, uint64_t seen, uint64_t timeout_ns) {
    uint64_t spin_ns = mmsb_min_u64(mmsb_patience_now(patience), timeout_ns), spent = 0;
    uint64_t begin = spin_ns != 0 ? mmsb_clock_monotonic() : 0;
    while (spent < spin_ns) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) {
            mmsb_patience_learn(patience, true);
            return spent;
        }
        sched_yield();
        spent = mmsb_clock_monotonic() - begin;
    }
    mmsb_patience_learn(patience, false);
    return spent;
}
