#define _GNU_SOURCE
#include "bell.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Neither call writes to the word, so a mapping that is only for reading will do. */
void mmsb_bell_ring(const uint32_t *bell) { (void)syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0); }

void mmsb_bell_ring_out(const uint32_t *bell, const uint32_t *waiting) {
    const struct timespec pause = {.tv_nsec = 50000};
    while (__atomic_load_n(waiting, __ATOMIC_SEQ_CST) != 0) {
        mmsb_bell_ring(bell);
        (void)nanosleep(&pause, NULL);
    }
}

void mmsb_bell_wait(const uint32_t *bell, uint32_t seen, uint64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    (void)syscall(SYS_futex, bell, FUTEX_WAIT, seen, &timeout, NULL, 0);
}
