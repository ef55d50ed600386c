#include "io_record.h"

#include <errno.h>
#include <sched.h>

static void lock(mmsb_io_record *record) {
    while (__atomic_test_and_set(&record->busy, __ATOMIC_ACQUIRE)) sched_yield();
}

static void unlock(mmsb_io_record *record) { __atomic_clear(&record->busy, __ATOMIC_RELEASE); }

static void note(mmsb_io_record *record, mmsb_io_operation operation, const void *first, const void *second) {
    lock(record);
    uint64_t one = first == NULL ? 0 : operation.bytes[0], two = second == NULL ? 0 : operation.bytes[1];
    mmsb_buffer *written = &record->written;
    uint64_t needed = written->size + sizeof operation + one + two;
    if (needed > written->capacity && !mmsb_buffer_reserve(written, &mmsb_alloc_libc, needed * 2)) {
        record->lost = true;
    } else {
        memcpy(written->data + written->size, &operation, sizeof operation);
        if (one != 0) memcpy(written->data + written->size + sizeof operation, first, one);
        if (two != 0) memcpy(written->data + written->size + sizeof operation + one, second, two);
        written->size = needed;
        record->count++;
    }
    unlock(record);
}

static uint64_t count_now(mmsb_io_record *record) {
    lock(record);
    uint64_t count = record->count;
    unlock(record);
    return count;
}

/* Passes an operation on, and notes it when it succeeded. */
#define PASS_AND_NOTE(call, first, second, ...)                                     \
    mmsb_io_record *record = context;                                               \
    const mmsb_io *below = record->below;                                           \
    int64_t result = below->call;                                                   \
    if (result >= 0) note(record, (mmsb_io_operation){__VA_ARGS__}, first, second); \
    return result
/* Passes one on that changes nothing on a disk. */
#define PASS(call)                        \
    mmsb_io_record *record = context;     \
    const mmsb_io *below = record->below; \
    return below->call

static int64_t record_open(void *context, const char *path, int flags, unsigned mode) {
    PASS_AND_NOTE(open(below->context, path, flags, mode), path, NULL, .kind = MMSB_IO_OPEN, .fd = (int32_t)result,
                  .at = (uint64_t)flags, .bytes = {strlen(path)});
}

static int64_t record_close(void *context, int fd) {
    /* Before it is done: afterwards another thread may get the same descriptor. */
    note(context, (mmsb_io_operation){.kind = MMSB_IO_CLOSE, .fd = fd}, NULL, NULL);
    PASS(close(below->context, fd));
}

static int64_t record_pread(void *context, int fd, void *to, uint64_t bytes, uint64_t offset) {
    PASS(pread(below->context, fd, to, bytes, offset));
}

static int64_t record_pwrite(void *context, int fd, const void *from, uint64_t bytes, uint64_t offset) {
    PASS_AND_NOTE(pwrite(below->context, fd, from, bytes, offset), from, NULL, .kind = MMSB_IO_PWRITE, .fd = fd,
                  .at = offset, .bytes = {bytes});
}

static int64_t record_fdatasync(void *context, int fd) {
    uint64_t begun = count_now(context);
    PASS_AND_NOTE(fdatasync(below->context, fd), NULL, NULL, .kind = MMSB_IO_FDATASYNC, .fd = fd, .begun = begun);
}

static int64_t record_fsync(void *context, int fd) {
    uint64_t begun = count_now(context);
    PASS_AND_NOTE(fsync(below->context, fd), NULL, NULL, .kind = MMSB_IO_FSYNC, .fd = fd, .begun = begun);
}

static int64_t record_fallocate(void *context, int fd, uint64_t offset, uint64_t bytes) {
    PASS_AND_NOTE(fallocate(below->context, fd, offset, bytes), NULL, NULL, .kind = MMSB_IO_FALLOCATE, .fd = fd,
                  .at = offset, .bytes = {bytes});
}

static int64_t record_truncate(void *context, int fd, uint64_t bytes) {
    PASS_AND_NOTE(truncate(below->context, fd, bytes), NULL, NULL, .kind = MMSB_IO_TRUNCATE, .fd = fd, .at = bytes);
}

static int64_t record_rename(void *context, const char *from, const char *to) {
    PASS_AND_NOTE(rename(below->context, from, to), from, to, .kind = MMSB_IO_RENAME, .fd = -1,
                  .bytes = {strlen(from), strlen(to)});
}

static int64_t record_unlink(void *context, const char *path) {
    PASS_AND_NOTE(unlink(below->context, path), path, NULL, .kind = MMSB_IO_UNLINK, .fd = -1, .bytes = {strlen(path)});
}

static int64_t record_mkdir(void *context, const char *path, unsigned mode) {
    PASS_AND_NOTE(mkdir(below->context, path, mode), path, NULL, .kind = MMSB_IO_MKDIR, .fd = -1,
                  .bytes = {strlen(path)});
}

static int64_t record_stat_size(void *context, int fd) { PASS(stat_size(below->context, fd)); }

static int64_t record_map(void *context, int fd, uint64_t offset, uint64_t bytes, bool writable, uint8_t **address) {
    PASS(map(below->context, fd, offset, bytes, writable, address));
}

static int64_t record_unmap(void *context, uint8_t *address, uint64_t bytes) {
    PASS(unmap(below->context, address, bytes));
}

static int64_t record_prefault(void *context, uint8_t *address, uint64_t bytes) {
    PASS(prefault(below->context, address, bytes));
}

static int64_t record_filesystem(void *context, int fd) { PASS(filesystem(below->context, fd)); }

static int64_t record_lock(void *context, int fd) { PASS(lock(below->context, fd)); }

static int64_t record_give(void *context, const char *path, unsigned group, unsigned mode) {
    PASS(give(below->context, path, group, mode));
}

/* An append through a mapping, and what its range held when it was looked at last. */
typedef struct watch {
    mmsb_io_record *record;
    int fd;
    uint64_t offset, bytes;
    const uint8_t *now;
    uint8_t *before;
} watch;

/* Notes every run of 8-byte words that changed since the last look: kill points stand between the stores. */
static void look(void *context, const char *where) {
    (void)where;
    watch *w = context;
    for (uint64_t from = 0, to; from < w->bytes; from = to + 8) {
        to = from;
        while (to < w->bytes && memcmp(w->now + to, w->before + to, 8) != 0) to += 8;
        if (to == from) continue;
        memcpy(w->before + from, w->now + from, to - from);
        mmsb_io_operation operation = {
            .kind = MMSB_IO_APPEND, .fd = w->fd, .at = w->offset + from, .bytes = {to - from}};
        note(w->record, operation, w->before + from, NULL);
    }
}

static int64_t record_append(void *context, int fd, uint8_t *map, uint64_t capacity, uint64_t offset,
                             const uint8_t *frame, uint64_t bytes, bool sync) {
    mmsb_io_record *record = context;
    if (map == NULL || sync) /* made of this table's own writes */
        return mmsb_io_append(&record->io, fd, map, capacity, offset, frame, bytes, sync);
    uint64_t watched = mmsb_min_u64(bytes + 8, capacity - offset);
    watch w = {record, fd, offset, watched, map + offset, NULL};
    w.before = mmsb_alloc_libc.allocate(mmsb_alloc_libc.context, watched);
    if (w.before == NULL) return -ENOMEM;
    memcpy(w.before, w.now, watched);
    mmsb_io stores = {.context = &w, .killpoint = look};
    int64_t result = mmsb_io_append(&stores, fd, map, capacity, offset, frame, bytes, false);
    look(&w, "");
    mmsb_alloc_libc.release(mmsb_alloc_libc.context, w.before);
    return result;
}

void mmsb_io_record_init(mmsb_io_record *record, const mmsb_io *below) {
    memset(record, 0, sizeof *record);
    record->below = below;
    record->io.size_bytes = sizeof(mmsb_io);
    record->io.context = record;
#define SET_MEMBER(name, member) record->io.member = record_##member;
#define record_killpoint NULL
    MMSB_IO_KIND_LIST(SET_MEMBER)
#undef record_killpoint
#undef SET_MEMBER
}

void mmsb_io_record_release(mmsb_io_record *record) { mmsb_buffer_release(&record->written, &mmsb_alloc_libc); }
