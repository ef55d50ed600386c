#define _GNU_SOURCE
#include "io_guard.h"

#include <pthread.h>
#include <signal.h>

static _Thread_local mmsb_guard *current;
static struct sigaction before;

static void on_bus(int number, siginfo_t *info, void *context) {
    mmsb_guard *guard = current;
    const uint8_t *at = info->si_addr;
    if (guard != NULL && at >= guard->start && at < guard->end) {
        current = NULL;
        longjmp(guard->back, 1);
    }
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else {
        /* As if this handler were not there: the access faults again, and a signal that was sent is sent again. */
        sigaction(SIGBUS, &before, NULL);
        if (info->si_code <= 0) raise(SIGBUS);
    }
}

static void install(void) {
    /* Not blocked while it is handled: a jump out of the handler would leave it so. */
    struct sigaction ours = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGBUS, &ours, &before);
}

void mmsb_guard_install(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
}

void mmsb_guard_enter(mmsb_guard *guard, const uint8_t *start, uint64_t bytes) {
    guard->start = start;
    guard->end = start + bytes;
    current = guard;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void mmsb_guard_leave(void) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    current = NULL;
}
