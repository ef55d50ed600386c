#define _GNU_SOURCE
#include "io_fault.h"

#include <signal.h>

/* Counts one operation. 0, or the negative errno with which it is to fail; *tear: half of it is to be done first. */
static int64_t strike(mmsb_io_fault *fault, mmsb_io_kind kind, bool *tear) {
    fault->counts[kind]++;
    fault->counts[MMSB_IO_ANY]++;
    *tear = false;
    if (fault->at == 0 || (fault->kind != MMSB_IO_ANY && fault->kind != kind)) return 0;
    uint64_t count = fault->counts[fault->kind];
    if (fault->forever ? count < fault->at : count != fault->at) return 0;
    if (fault->effect == MMSB_FAULT_KILL) raise(SIGKILL);
    *tear = fault->effect == MMSB_FAULT_TEAR;
    return -(int64_t)fault->error;
}

/* The body of an operation that is either passed on or fails as a whole. */
#define PASS_ON(KIND, call)                                \
    mmsb_io_fault *fault = context;                        \
    const mmsb_io *below = fault->below;                   \
    bool tear;                                             \
    int64_t failed = strike(fault, MMSB_IO_##KIND, &tear); \
    return failed < 0 ? failed : below->call

static int64_t fault_open(void *context, const char *path, int flags, unsigned mode) {
    PASS_ON(OPEN, open(below->context, path, flags, mode));
}

/* A close that fails has closed the descriptor all the same, as that of Linux has. */
static int64_t fault_close(void *context, int fd) {
    mmsb_io_fault *fault = context;
    const mmsb_io *below = fault->below;
    bool tear;
    int64_t failed = strike(fault, MMSB_IO_CLOSE, &tear);
    int64_t result = below->close(below->context, fd);
    return failed < 0 ? failed : result;
}

static int64_t fault_pread(void *context, int fd, void *to, uint64_t bytes, uint64_t offset) {
    PASS_ON(PREAD, pread(below->context, fd, to, bytes, offset));
}

static int64_t fault_pwrite(void *context, int fd, const void *from, uint64_t bytes, uint64_t offset) {
    mmsb_io_fault *fault = context;
    const mmsb_io *below = fault->below;
    bool tear;
    int64_t failed = strike(fault, MMSB_IO_PWRITE, &tear);
    if (tear) (void)below->pwrite(below->context, fd, from, bytes / 2, offset);
    return failed < 0 ? failed : below->pwrite(below->context, fd, from, bytes, offset);
}

static int64_t fault_fdatasync(void *context, int fd) { PASS_ON(FDATASYNC, fdatasync(below->context, fd)); }

static int64_t fault_fsync(void *context, int fd) { PASS_ON(FSYNC, fsync(below->context, fd)); }

static int64_t fault_fallocate(void *context, int fd, uint64_t offset, uint64_t bytes) {
    PASS_ON(FALLOCATE, fallocate(below->context, fd, offset, bytes));
}

static int64_t fault_truncate(void *context, int fd, uint64_t bytes) {
    PASS_ON(TRUNCATE, truncate(below->context, fd, bytes));
}

static int64_t fault_rename(void *context, const char *from, const char *to) {
    PASS_ON(RENAME, rename(below->context, from, to));
}

static int64_t fault_unlink(void *context, const char *path) { PASS_ON(UNLINK, unlink(below->context, path)); }

static int64_t fault_mkdir(void *context, const char *path, unsigned mode) {
    PASS_ON(MKDIR, mkdir(below->context, path, mode));
}

static int64_t fault_stat_size(void *context, int fd) { PASS_ON(STAT_SIZE, stat_size(below->context, fd)); }

static int64_t fault_map(void *context, int fd, uint64_t offset, uint64_t bytes, bool writable, uint8_t **address) {
    PASS_ON(MAP, map(below->context, fd, offset, bytes, writable, address));
}

static int64_t fault_unmap(void *context, uint8_t *address, uint64_t bytes) {
    PASS_ON(UNMAP, unmap(below->context, address, bytes));
}

static int64_t fault_prefault(void *context, uint8_t *address, uint64_t bytes) {
    PASS_ON(PREFAULT, prefault(below->context, address, bytes));
}

static int64_t fault_filesystem(void *context, int fd) { PASS_ON(FILESYSTEM, filesystem(below->context, fd)); }

static int64_t fault_lock(void *context, int fd) { PASS_ON(LOCK, lock(below->context, fd)); }

static int64_t fault_append(void *context, int fd, uint8_t *map, uint64_t capacity, uint64_t offset,
                            const uint8_t *frame, uint64_t bytes, bool sync) {
    mmsb_io_fault *fault = context;
    const mmsb_io *below = fault->below;
    bool tear;
    int64_t failed = strike(fault, MMSB_IO_APPEND, &tear);
    /* As a write whose pages reached the disk out of order: the word and half of the body. */
    if (tear && map != NULL)
        memcpy(map + offset, frame, bytes / 2);
    else if (tear)
        (void)below->pwrite(below->context, fd, frame, bytes / 2, offset);
    /* Made of this table's own operations, so that those can fail too. */
    return failed < 0 ? failed : mmsb_io_append(&fault->io, fd, map, capacity, offset, frame, bytes, sync);
}

static void fault_killpoint(void *context, const char *where) {
    mmsb_io_fault *fault = context;
    bool tear;
    (void)strike(fault, MMSB_IO_KILLPOINT, &tear);
    if (fault->below->killpoint != NULL) fault->below->killpoint(fault->below->context, where);
}

static int64_t fault_give(void *context, const char *path, unsigned group, unsigned mode) {
    PASS_ON(GIVE, give(below->context, path, group, mode));
}

void mmsb_io_fault_init(mmsb_io_fault *fault, const mmsb_io *below) {
    memset(fault, 0, sizeof *fault);
    fault->below = below;
    fault->io.size_bytes = sizeof(mmsb_io);
    fault->io.context = fault;
#define SET_MEMBER(name, member) fault->io.member = fault_##member;
    MMSB_IO_KIND_LIST(SET_MEMBER)
#undef SET_MEMBER
}

void mmsb_io_fault_arm(mmsb_io_fault *fault, mmsb_io_kind kind, uint64_t nth, mmsb_fault_effect effect, int error,
                       bool forever) {
    fault->kind = kind;
    fault->effect = effect;
    fault->error = error;
    fault->forever = forever;
    fault->at = nth == 0 ? 0 : fault->counts[kind] + nth;
}

uint64_t mmsb_io_fault_count(const mmsb_io_fault *fault, mmsb_io_kind kind) { return fault->counts[kind]; }

int mmsb_io_kind_of(const char *name) {
    if (strcmp(name, "any") == 0) return MMSB_IO_ANY;
#define MATCH_NAME(kind, member) \
    if (strcmp(name, #member) == 0) return MMSB_IO_##kind;
    MMSB_IO_KIND_LIST(MATCH_NAME)
#undef MATCH_NAME
    return -1;
}
