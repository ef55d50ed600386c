/* What csrc does when the system says no: every call that it makes is made to fail here, once, in the middle of what it
 * is for. Calls that a signal interrupts are repeated, short reads and writes go on, and whatever fails leaves no
 * mapping and no descriptor behind. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../../csrc/arena.h"
#include "../../csrc/io.h"
#include "../../csrc/region.h"
#include "../../csrc/ring.h"
#include "check.h"

/* ---- the calls, in place of those of the C library */

typedef enum call {
    NONE,
    OPEN,
    PREAD,
    PWRITE,
    FTRUNCATE,
    FALLOCATE,
    FSTATFS,
    FCNTL,
    MMAP,
    MPROTECT,
    MADVISE,
    MEMFD
} call;

static call armed; /* the `countdown`th of these fails with `error`; with error 0 it does half, or nothing */
static unsigned countdown;
static int error;
static bool forever; /* and all after it */

static bool strikes(call which) {
    if (which != armed || countdown == 0 || --countdown != 0) return false;
    if (forever) countdown = 1;
    errno = error;
    return true;
}

static void arm(call which, unsigned nth, int with) {
    armed = which;
    countdown = nth;
    error = with;
    forever = false;
}

/* Whether the call that was armed was made at all. */
static bool struck(void) { return countdown == 0; }

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    unsigned mode = va_arg(more, unsigned);
    va_end(more);
    return strikes(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pread(int fd, void *to, size_t bytes, off_t offset) {
    if (strikes(PREAD)) {
        if (error != 0) return -1;
        bytes = (bytes + 1) / 2;
    }
    return syscall(SYS_pread64, fd, to, bytes, offset);
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset) {
    if (strikes(PWRITE)) {
        if (error != 0 || bytes == 1) return error != 0 ? -1 : 0;
        bytes /= 2;
    }
    return syscall(SYS_pwrite64, fd, from, bytes, offset);
}

int ftruncate(int fd, off_t bytes) { return strikes(FTRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, bytes); }

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    return strikes(FALLOCATE) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

int fstatfs(int fd, struct statfs *status) { return strikes(FSTATFS) ? -1 : (int)syscall(SYS_fstatfs, fd, status); }

int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    return strikes(FCNTL) ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (strikes(MMAP)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

int mprotect(void *at, size_t bytes, int protection) {
    return strikes(MPROTECT) ? -1 : (int)syscall(SYS_mprotect, at, bytes, protection);
}

int madvise(void *at, size_t bytes, int advice) {
    return strikes(MADVISE) ? -1 : (int)syscall(SYS_madvise, at, bytes, advice);
}

int memfd_create(const char *name, unsigned flags) {
    return strikes(MEMFD) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

/* ---- files */

static unsigned descriptors(void) {
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL, "no /proc");
    while (readdir(folder) != NULL) count++;
    closedir(folder);
    return count;
}

static void test_interrupted_calls_are_repeated(void) {
    const mmsb_io *io = &mmsb_io_posix;
    uint8_t bytes[4096] = {1, 2, 3}, back[4096], *map;
    static const int interrupted[] = {EINTR, EIO};
    for (unsigned i = 0; i < 2; i++) {
        int fail = interrupted[i], expected = fail == EINTR ? 0 : -fail;
        (void)unlink("file");
#define TRY(which, value, call)                                                               \
    do {                                                                                      \
        arm(which, 1, fail);                                                                  \
        int64_t r_ = (call);                                                                  \
        CHECK(struck() && (expected == 0 ? r_ == (value) : r_ == expected), "%ld", (long)r_); \
        arm(NONE, 0, 0);                                                                      \
    } while (0)
        int fd = (int)io->open(NULL, "file", O_RDWR | O_CREAT, 0600), other;
        arm(OPEN, 1, fail);
        other = (int)io->open(NULL, "file", O_RDWR, 0);
        CHECK(expected == 0 ? other >= 0 : other == expected, "%d", other);
        if (other >= 0) CHECK(io->close(NULL, other) == 0, "close");
        TRY(PWRITE, 4096, io->pwrite(NULL, fd, bytes, 4096, 0));
        CHECK(io->pwrite(NULL, fd, bytes, 4096, 0) == 4096, "pwrite");
        TRY(PREAD, 4096, io->pread(NULL, fd, back, 4096, 0));
        TRY(FALLOCATE, 0, io->fallocate(NULL, fd, 0, 8192));
        TRY(FTRUNCATE, 0, io->truncate(NULL, fd, 4096));
        TRY(FSTATFS, io->filesystem(NULL, fd), io->filesystem(NULL, fd));
        TRY(FCNTL, 0, io->lock(NULL, fd));
        CHECK(io->map(NULL, fd, 0, 4096, true, &map) == 0, "map");
        TRY(MADVISE, 0, io->prefault(NULL, map, 4096));
        CHECK(io->unmap(NULL, map, 4096) == 0 && io->unmap(NULL, map + 1, 1) == -EINVAL, "unmap");
        arm(MMAP, 1, ENOMEM);
        CHECK(io->map(NULL, fd, 0, 4096, false, &map) == -ENOMEM, "map");
        CHECK(io->fdatasync(NULL, -1) == -EBADF && io->fsync(NULL, -1) == -EBADF, "sync");
        CHECK(io->stat_size(NULL, -1) == -EBADF, "stat");
        CHECK(io->close(NULL, fd) == 0, "close");
#undef TRY
    }
}

static void test_short_reads_and_writes_go_on(void) {
    const mmsb_io *io = &mmsb_io_posix;
    uint8_t bytes[1000], back[1000] = {0};
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 3 + 1);
    int fd = (int)io->open(NULL, "short", O_RDWR | O_CREAT, 0600);
    arm(PWRITE, 1, 0);
    forever = true;
    CHECK(io->pwrite(NULL, fd, bytes, 1000, 0) == -EIO, "a write that puts nothing would be repeated without end");
    arm(PWRITE, 1, 0);
    CHECK(io->pwrite(NULL, fd, bytes, 1000, 0) == 1000 && struck(), "in two halves");
    arm(PREAD, 1, 0);
    forever = true;
    CHECK(io->pread(NULL, fd, back, 1000, 0) == 1000 && memcmp(bytes, back, 1000) == 0, "in ever smaller pieces");
    arm(NONE, 0, 0);
    CHECK(io->close(NULL, fd) == 0, "close");
}

/* A kernel that does not know MADV_POPULATE_WRITE: pages are then faulted in one by one, as they are touched. */
static void test_prefault_is_only_a_help(void) {
    arm(MADVISE, 1, EINVAL);
    uint8_t page[1];
    CHECK(mmsb_io_posix.prefault(NULL, page, 1) == 0 && struck(), "refused");
    arm(NONE, 0, 0);
}

/* ---- memory */

typedef int (*attempt)(void);

static mmsb_memory memory;
static mmsb_arena arena;

static int create(void) { return mmsb_memory_create(&memory, 4096, false); }
static int create_huge(void) { return mmsb_memory_create(&memory, 4096, true); }
static int create_writable(void) { return mmsb_memory_create_writable(&memory, 4096); }
static int create_ring(void) { return mmsb_ring_create(&memory, MMSB_RING_BYTES_MIN, MMSB_RING_BYTES_MIN); }
static int create_arena(void) {
    int status = mmsb_arena_init(&arena, &mmsb_alloc_libc, 0);
    if (status != MMSB_OK) return status;
    uint64_t handle;
    status = mmsb_arena_ensure_ids(&arena, 100000);
    if (status == MMSB_OK) status = mmsb_arena_take(&arena, 100, &handle);
    if (status == MMSB_OK) status = mmsb_arena_protect_after_fork(&arena);
    mmsb_arena_release(&arena);
    return status;
}

static void fails_everywhere(attempt try_it) {
    for (call which = OPEN; which <= MEMFD; which++) {
        if (which == MADVISE) continue; /* advice may be refused */
        for (unsigned nth = 1;; nth++) {
            unsigned before = descriptors();
            memory = (mmsb_memory){.fd = -1};
            arm(which, nth, ENOMEM);
            int status = try_it();
            bool failed = struck();
            arm(NONE, 0, 0);
            CHECK(status == (failed ? MMSB_NO_MEMORY : MMSB_OK), "call %d, time %u: %d", which, nth, status);
            if (!failed) mmsb_memory_release(&memory);
            CHECK(descriptors() == before, "call %d, time %u: a descriptor is left", which, nth);
            if (!failed) break;
        }
    }
}

static void test_memory(void) {
    fails_everywhere(create);
    fails_everywhere(create_huge);
    fails_everywhere(create_writable);
    fails_everywhere(create_ring);
    fails_everywhere(create_arena);
    CHECK(mmsb_memory_resident(&(mmsb_memory){.fd = -1}) == 0, "none");
    CHECK(mmsb_memory_resident(&(mmsb_memory){.base = (uint8_t *)&memory, .fd = -1}) == 0, "no descriptor");
    CHECK(mmsb_memory_protect(&(mmsb_memory){.fd = -1}) == MMSB_OK, "none");
    mmsb_memory_release(&(mmsb_memory){.fd = -1});
}

/* Memory that nobody else will see. */
static void test_private_memory(void) {
    for (unsigned huge = 0; huge < 2; huge++) {
        mmsb_memory memory;
        uint64_t bytes = huge ? 2 * MMSB_MEMORY_HUGE_BYTES : 8192;
        CHECK(mmsb_memory_create_private(&memory, bytes, huge) == MMSB_OK && memory.fd < 0, "create");
        CHECK(memory.base[0] == 0 && memory.base[bytes - 1] == 0, "it is not zero");
        memory.base[bytes - 1] = 1;
        CHECK(mmsb_memory_resident(&memory) == 0 && mmsb_memory_touched(&memory, 4096) == 4096, "what is there");
        CHECK(mmsb_memory_protect(&memory) == MMSB_OK, "protect");
        mmsb_memory_release(&memory);
        CHECK(memory.base == NULL, "release");
    }
    mmsb_memory none = {0};
    CHECK(mmsb_memory_create_private(&none, (uint64_t)1 << 60, false) == MMSB_NO_MEMORY && none.base == NULL, "room");
}

/* Descriptors that another process may hand over. */
static void test_memory_of_others(void) {
    mmsb_memory other, mine;
    CHECK(mmsb_memory_create(&other, 8192, false) == MMSB_OK, "create");
    CHECK(mmsb_memory_map(&mine, other.fd, false) == MMSB_OK && mine.bytes == 8192, "map");
    mmsb_memory_unmap(&mine);
    CHECK(mmsb_memory_map(&mine, other.fd, true) == MMSB_NO_MEMORY, "it is sealed against writing");
    CHECK(mmsb_memory_map(&mine, -1, false) == MMSB_BAD_HEADER, "no descriptor");
    int file = (int)mmsb_io_posix.open(NULL, "file", O_RDWR | O_CREAT, 0600), empty, open_ended;
    CHECK(mmsb_memory_map(&mine, file, false) == MMSB_BAD_HEADER, "a file may be cut");
    open_ended = memfd_create("test", MFD_ALLOW_SEALING);
    CHECK(ftruncate(open_ended, 4096) == 0 && mmsb_memory_map(&mine, open_ended, false) == MMSB_BAD_HEADER, "unsealed");
    empty = memfd_create("test", MFD_ALLOW_SEALING);
    CHECK(fcntl(empty, F_ADD_SEALS, F_SEAL_SHRINK) == 0, "seal");
    CHECK(mmsb_memory_map(&mine, empty, false) == MMSB_BAD_HEADER, "of no bytes");

    uint8_t *base;
    int pipes[2];
    CHECK(pipe(pipes) == 0, "pipe");
    CHECK(mmsb_region_map(other.fd, 8192, MMSB_REGION_SEALED, &base) == MMSB_OK, "a region");
    mmsb_region_unmap(base, 8192);
    CHECK(mmsb_region_map(-1, 8192, 0, &base) == MMSB_BAD_SIZE, "no descriptor");
    CHECK(mmsb_region_map(pipes[0], 8192, 0, &base) == MMSB_BAD_SIZE, "no file");
    CHECK(mmsb_region_map(other.fd, 0, 0, &base) == MMSB_BAD_SIZE, "of no bytes");
    CHECK(mmsb_region_map(other.fd, (uint64_t)1 << 62, MMSB_REGION_GROWS, &base) == MMSB_BAD_SIZE, "too large");
    CHECK(mmsb_region_map(other.fd, 8193, 0, &base) == MMSB_BAD_SIZE, "more than there is");
    CHECK(mmsb_region_map(open_ended, 4096, MMSB_REGION_SEALED, &base) == MMSB_BAD_SIZE, "unsealed");
    CHECK(mmsb_region_map(file, 1, MMSB_REGION_SEALED | MMSB_REGION_GROWS, &base) == MMSB_BAD_SIZE, "a file");
    arm(MMAP, 1, ENOMEM);
    CHECK(mmsb_region_map(other.fd, 8192, 0, &base) == MMSB_NO_MEMORY, "no memory");
    arm(NONE, 0, 0);
    (void)close(pipes[0]), (void)close(pipes[1]), (void)close(file), (void)close(empty), (void)close(open_ended);
    mmsb_memory_release(&other);
}

/* A ring that somebody else made: each field of its head is wrong once. */
static void test_rings_of_others(void) {
    CHECK(mmsb_ring_create(&memory, 100, MMSB_RING_BYTES_MIN) == MMSB_BAD_SIZE, "too small");
    CHECK(mmsb_ring_create(&memory, MMSB_RING_BYTES_MIN, MMSB_RING_BYTES_MIN + 8) == MMSB_BAD_SIZE, "no power of two");
    CHECK(mmsb_ring_create(&memory, MMSB_RING_BYTES_MIN, MMSB_RING_BYTES_MAX * 2) == MMSB_BAD_SIZE, "too large");
    CHECK(create_ring() == MMSB_OK, "create");
    mmsb_ring_shared *shared = (mmsb_ring_shared *)(void *)memory.base, before = *shared;
    mmsb_memory mapped;
#define REFUSED(spoil, expected)                                    \
    spoil;                                                          \
    CHECK(mmsb_ring_map(&mapped, memory.fd) == (expected), #spoil); \
    *shared = before
    REFUSED(shared->magic[0] ^= 1, MMSB_BAD_HEADER);
    REFUSED(shared->layout++, MMSB_NEWER_VERSION);
    REFUSED(shared->command_bytes = 0, MMSB_BAD_HEADER);
    REFUSED(shared->command_bytes = MMSB_RING_BYTES_MAX * 2, MMSB_BAD_HEADER);
    REFUSED(shared->completion_bytes += 8, MMSB_BAD_HEADER);
    REFUSED(shared->completion_bytes *= 2, MMSB_BAD_HEADER);
#undef REFUSED
    CHECK(mmsb_ring_map(&mapped, memory.fd) == MMSB_OK, "as it was");
    mmsb_memory_unmap(&mapped);
    CHECK(mmsb_ring_map(&mapped, -1) == MMSB_BAD_HEADER, "no descriptor");
    mmsb_memory_release(&memory);
    CHECK(mmsb_memory_create_writable(&memory, 64) == MMSB_OK, "create");
    if (MMSB_RING_HEAD_BYTES > 64) CHECK(mmsb_ring_map(&mapped, memory.fd) == MMSB_BAD_HEADER, "less than a head");
    mmsb_memory_release(&memory);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && chdir(argv[1]) == 0, "usage: test_system_calls FOLDER");
    test_interrupted_calls_are_repeated();
    test_short_reads_and_writes_go_on();
    test_prefault_is_only_a_help();
    test_memory();
    test_private_memory();
    test_memory_of_others();
    test_rings_of_others();
    return 0;
}
