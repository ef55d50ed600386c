/* How the two sides of a ring wait for each other: the owner at an eventfd, a client at a futex. */
#define _GNU_SOURCE
#include "clock.h"
#include "ring_serve.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Both directions are the same: whoever sends stores its tail and then looks whether the other one waits; whoever waits
 * says so and then looks at the tail once more. The fences keep each pair in that order, so at least one of the two
 * sees what the other did. (Without them a processor may do the load before the store can be seen elsewhere.) */
static void fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

void mmsb_ring_call_owner(const uint32_t *sleeping, int bell) {
    fence();
    if (__atomic_load_n(sleeping, __ATOMIC_RELAXED) == 0) return;
    uint64_t one = 1;
    /* It can only fail because the bell rings already, or because the owner is gone. */
    ssize_t ignored = write(bell, &one, sizeof one);
    (void)ignored;
}

void mmsb_ring_fall_asleep(uint32_t *sleeping) {
    __atomic_store_n(sleeping, 1, __ATOMIC_RELAXED);
    fence();
}

void mmsb_ring_stay_awake(uint32_t *sleeping) { __atomic_store_n(sleeping, 0, __ATOMIC_RELAXED); }

/* The low half of the completion tail. It comes round after 4 GiB of completions, and no ring is that long. */
static uint32_t *futex_of(mmsb_ring_shared *shared) { return (uint32_t *)(void *)&shared->completion_tail; }

void mmsb_ring_wake_client(mmsb_ring_shared *shared) {
    fence();
    /* Only looked at: if it were cleared here, a client that saw this tail already would go to sleep without it. */
    if (__atomic_load_n(&shared->waiting, __ATOMIC_RELAXED) == 0) return;
    syscall(SYS_futex, futex_of(shared), FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

bool mmsb_ring_await_owner(mmsb_ring_shared *shared, uint64_t seen, mmsb_patience *patience, uint64_t timeout_ns) {
    const uint64_t *tail = &shared->completion_tail;
    if (__atomic_load_n(tail, __ATOMIC_ACQUIRE) != seen) return true;
    uint64_t spent = mmsb_patience_look(patience, tail, seen, timeout_ns);
    if (__atomic_load_n(tail, __ATOMIC_ACQUIRE) != seen) return true;
    if (spent >= timeout_ns) return false;
    __atomic_fetch_add(&shared->waiting, 1, __ATOMIC_RELAXED);
    fence();
    if (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == seen) {
        uint64_t left = timeout_ns - spent;
        struct timespec wait = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
        /* Returns at once when the tail has moved since; else when it is woken, the time is up, or a signal comes. */
        syscall(SYS_futex, futex_of(shared), FUTEX_WAIT, (uint32_t)seen, &wait, NULL, 0);
    }
    __atomic_fetch_sub(&shared->waiting, 1, __ATOMIC_RELAXED);
    return __atomic_load_n(tail, __ATOMIC_ACQUIRE) != seen;
}

bool mmsb_clients_await(mmsb_client **clients, uint64_t count, mmsb_patience *patience) {
    uint64_t spin_ns = patience != NULL ? mmsb_patience_now(patience) : 0;
    uint64_t begin = spin_ns != 0 ? mmsb_clock_monotonic() : 0;
    for (bool first = true;; first = false) {
        for (uint64_t i = 0; i < count; i++) {
            if (!mmsb_client_is_ready(clients[i])) continue;
            if (patience != NULL && !first) mmsb_patience_learn(patience, true);
            return true;
        }
        if (spin_ns == 0 || mmsb_clock_monotonic() - begin >= spin_ns) break;
        sched_yield(); /* a client may be waiting for this very processor */
    }
    if (patience != NULL) mmsb_patience_learn(patience, false);
    return false;
}
