/* File operations that lie, for tests: they count what passes through and, at a chosen operation, fail, tear a write or
 * kill the process. */
#ifndef MMSB_IO_FAULT_H
#define MMSB_IO_FAULT_H

#include "io.h"

/* Kinds of operations. An append counts as itself and again as the writes, sync and kill points it is made of. */
/* clang-format off */
#define MMSB_IO_KIND_LIST(X)                                                                                          \
    X(OPEN, open)                                                                                                     \
    X(CLOSE, close)                                                                                                   \
    X(PREAD, pread) X(PWRITE, pwrite) X(FDATASYNC, fdatasync) X(FSYNC, fsync) X(FALLOCATE, fallocate)                 \
        X(TRUNCATE, truncate) X(RENAME, rename) X(UNLINK, unlink) X(MKDIR, mkdir) X(STAT_SIZE, stat_size) X(MAP, map) \
            X(UNMAP, unmap) X(PREFAULT, prefault) X(FILESYSTEM, filesystem) X(LOCK, lock) X(APPEND, append)           \
                X(KILLPOINT, killpoint) X(GIVE, give)
/* clang-format on */

typedef enum mmsb_io_kind {
    MMSB_IO_ANY, /* every operation */
#define MMSB_IO_KIND_ENUM(name, member) MMSB_IO_##name,
    MMSB_IO_KIND_LIST(MMSB_IO_KIND_ENUM)
#undef MMSB_IO_KIND_ENUM
        MMSB_IO_KINDS
} mmsb_io_kind;

typedef enum mmsb_fault_effect {
    MMSB_FAULT_FAIL, /* nothing is done, but a close closes; the operation returns -error. No harm to a kill point */
    MMSB_FAULT_TEAR, /* a pwrite or append puts half of its bytes, then returns -error; others as FAIL */
    MMSB_FAULT_KILL, /* SIGKILL to this process, before the operation */
} mmsb_fault_effect;

typedef struct mmsb_io_fault {
    mmsb_io io; /* hand this one out; its context is the mmsb_io_fault */
    const mmsb_io *below;
    uint64_t counts[MMSB_IO_KINDS];
    mmsb_io_kind kind;
    mmsb_fault_effect effect;
    uint64_t at;  /* the count of `kind` that is hit; 0: none */
    int error;    /* errno */
    bool forever; /* every later one of the kind too */
} mmsb_io_fault;

/* Passes everything on to `below`, which outlives it, until armed. Must not move afterwards. */
void mmsb_io_fault_init(mmsb_io_fault *fault, const mmsb_io *below);

/* Hits the `nth` operation of a kind from now on (1: the next one). Replaces what was armed before; nth 0 disarms. */
void mmsb_io_fault_arm(mmsb_io_fault *fault, mmsb_io_kind kind, uint64_t nth, mmsb_fault_effect effect, int error,
                       bool forever);

/* Operations of a kind since init, those that were hit included. */
uint64_t mmsb_io_fault_count(const mmsb_io_fault *fault, mmsb_io_kind kind);

/* The kind of that name ("any", "pwrite", ...), or -1. */
int mmsb_io_kind_of(const char *name);

#endif
