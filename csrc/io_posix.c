#define _GNU_SOURCE
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "io_guard.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Repeats a call while a signal interrupts it; its value is that of the call, or -errno. */
#define RETRY(call)                              \
    __extension__({                              \
        int64_t result_;                         \
        do result_ = (int64_t)(call);            \
        while (result_ < 0 && errno == EINTR);   \
        result_ < 0 ? -(int64_t)errno : result_; \
    })
#define ONCE(call) ((call) < 0 ? -(int64_t)errno : 0)

static int64_t posix_open(void *context, const char *path, int flags, unsigned mode) {
    (void)context;
    /* Never waiting for the other end of a FIFO that somebody put in the place of a file. */
    int64_t fd = RETRY(open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, (mode_t)mode));
    if (fd < 0 || !(flags & O_CREAT)) return fd;
    int64_t result = RETRY(fchmod((int)fd, (mode_t)mode));
    if (result >= 0 || result == -EPERM) return fd;
    close((int)fd);
    return result;
}

static int64_t posix_close(void *context, int fd) {
    (void)context;
    return ONCE(close(fd));
}

static int64_t posix_pread(void *context, int fd, void *to, uint64_t bytes, uint64_t offset) {
    (void)context;
    uint64_t done = 0;
    while (done < bytes) {
        int64_t got = RETRY(pread(fd, (uint8_t *)to + done, bytes - done, (off_t)(offset + done)));
        if (got < 0) return got;
        if (got == 0) break;
        done += (uint64_t)got;
    }
    return (int64_t)done;
}

static int64_t posix_pwrite(void *context, int fd, const void *from, uint64_t bytes, uint64_t offset) {
    (void)context;
    uint64_t done = 0;
    while (done < bytes) {
        int64_t put = RETRY(pwrite(fd, (const uint8_t *)from + done, bytes - done, (off_t)(offset + done)));
        if (put < 0) return put;
        if (put == 0) return -EIO; /* would be repeated without end */
        done += (uint64_t)put;
    }
    return (int64_t)done;
}

static int64_t posix_fdatasync(void *context, int fd) {
    (void)context;
    return ONCE(fdatasync(fd));
}

static int64_t posix_fsync(void *context, int fd) {
    (void)context;
    return ONCE(fsync(fd));
}

static int64_t posix_fallocate_blocks(void *context, int fd, uint64_t offset, uint64_t bytes) {
    (void)context;
    return RETRY(fallocate(fd, 0, (off_t)offset, (off_t)bytes));
}

static int64_t posix_truncate(void *context, int fd, uint64_t bytes) {
    (void)context;
    return RETRY(ftruncate(fd, (off_t)bytes));
}

static int64_t posix_rename(void *context, const char *from, const char *to) {
    (void)context;
    return ONCE(rename(from, to));
}

static int64_t posix_unlink(void *context, const char *path) {
    (void)context;
    return ONCE(unlink(path));
}

static int64_t posix_mkdir(void *context, const char *path, unsigned mode) {
    (void)context;
    int64_t result = ONCE(mkdir(path, (mode_t)mode));
    return result < 0 ? result : ONCE(chmod(path, (mode_t)mode));
}

static int64_t posix_stat_size(void *context, int fd) {
    (void)context;
    struct stat status;
    return fstat(fd, &status) < 0 ? -(int64_t)errno : (int64_t)status.st_size;
}

static int64_t posix_map(void *context, int fd, uint64_t offset, uint64_t bytes, bool writable, uint8_t **address) {
    (void)context;
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *mapped = mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
    if (mapped == MAP_FAILED) return -(int64_t)errno;
    if (writable) mmsb_guard_install();
    *address = mapped;
    return 0;
}

static int64_t posix_unmap(void *context, uint8_t *address, uint64_t bytes) {
    (void)context;
    return ONCE(munmap(address, bytes));
}

static int64_t posix_prefault(void *context, uint8_t *address, uint64_t bytes) {
    (void)context;
    uintptr_t first = (uintptr_t)address & ~(uintptr_t)4095;
    int64_t result = RETRY(madvise((void *)first, (uintptr_t)address + bytes - first, MADV_POPULATE_WRITE));
    return result == -EINVAL ? 0 : result;
}

static int64_t posix_filesystem(void *context, int fd) {
    (void)context;
    struct statfs status;
    int64_t result = RETRY(fstatfs(fd, &status));
    return result < 0 ? result : (int64_t)status.f_type;
}

static int64_t posix_lock(void *context, int fd) {
    (void)context;
    struct flock whole_file = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return RETRY(fcntl(fd, F_OFD_SETLK, &whole_file));
}

static int64_t posix_give(void *context, const char *path, unsigned group, unsigned mode) {
    (void)context;
    struct stat status;
    if (lstat(path, &status) < 0) return -(int64_t)errno;
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return 0;
    /* In this order: a change of the group takes the bits away that make new files take the directory's. */
    int64_t result = ONCE(lchown(path, (uid_t)-1, (gid_t)group));
    return result < 0 ? result : ONCE(chmod(path, (mode_t)mode));
}

static int64_t posix_append(void *context, int fd, uint8_t *map, uint64_t capacity, uint64_t offset,
                            const uint8_t *frame, uint64_t bytes, bool sync) {
    (void)context;
    return mmsb_io_append(&mmsb_io_posix, fd, map, capacity, offset, frame, bytes, sync);
}

const mmsb_io mmsb_io_posix = {
    .size_bytes = sizeof(mmsb_io),
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .fdatasync = posix_fdatasync,
    .fsync = posix_fsync,
    .fallocate = posix_fallocate_blocks,
    .truncate = posix_truncate,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .stat_size = posix_stat_size,
    .map = posix_map,
    .unmap = posix_unmap,
    .prefault = posix_prefault,
    .filesystem = posix_filesystem,
    .lock = posix_lock,
    .append = posix_append,
    .give = posix_give,
};

static inline void at_killpoint(const mmsb_io *io, const char *where) {
    if (MMSB_UNLIKELY(io->killpoint != NULL)) io->killpoint(io->context, where);
}

static int64_t append_written(const mmsb_io *io, int fd, uint64_t offset, const uint8_t *frame, uint64_t bytes,
                              bool zero_after, bool sync) {
    static const uint8_t zero_word[8];
    int64_t result = 0;
    if (zero_after) result = io->pwrite(io->context, fd, zero_word, 8, offset + bytes);
    if (result >= 0) result = io->pwrite(io->context, fd, frame + 8, bytes - 8, offset + 8);
    if (result < 0) return result;
    at_killpoint(io, "append:body");
    result = io->pwrite(io->context, fd, frame, 8, offset);
    if (result >= 0) {
        at_killpoint(io, "append:word");
        result = sync ? io->fdatasync(io->context, fd) : 0;
    }
    /* A part of the word may be there, or all of it: too late to say that nothing happened. */
    return mmsb_io_is_full(result) ? -EIO : result;
}

static inline void store(const mmsb_io *io, uint8_t *at, const uint8_t *frame, uint64_t bytes, bool zero_after) {
    if (zero_after) mmsb_store_u64(at + bytes, 0);
    memcpy(at + 8, frame + 8, bytes - 8);
    at_killpoint(io, "append:body");
    /* Frames stand on 8-byte boundaries. The release keeps all stores above before the word. */
    __atomic_store_n((uint64_t *)(void *)at, mmsb_load_u64(frame), __ATOMIC_RELEASE);
}

static int64_t append_stored(const mmsb_io *io, uint8_t *at, const uint8_t *frame, uint64_t bytes, bool zero_after) {
    mmsb_guard guard;
    if (setjmp(guard.back) != 0) return -EIO;
    mmsb_guard_enter(&guard, at, bytes + 8);
    store(io, at, frame, bytes, zero_after);
    mmsb_guard_leave();
    at_killpoint(io, "append:word");
    return 0;
}

int64_t mmsb_io_append(const mmsb_io *io, int fd, uint8_t *map, uint64_t capacity, uint64_t offset,
                       const uint8_t *frame, uint64_t bytes, bool sync) {
    if (MMSB_UNLIKELY(bytes < 8 || offset > capacity || bytes > capacity - offset)) return -EINVAL;
    bool zero_after = capacity - offset - bytes >= 8;
    if (map == NULL || sync) return append_written(io, fd, offset, frame, bytes, zero_after, sync);
    if (fd >= 0) return append_stored(io, map + offset, frame, bytes, zero_after);
    store(io, map + offset, frame, bytes, zero_after); /* memory, whose size is sealed: there is no disk to fail */
    at_killpoint(io, "append:word");
    return 0;
}
