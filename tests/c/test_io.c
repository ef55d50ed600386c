/* The file operations and the ones that lie: what passes through, fails, tears and kills, and how a frame is published.
 * The one argument is an empty folder to work in. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../csrc/io_fault.h"
#include "check.h"

#define CAPACITY 4096
#define FRAME_BYTES 64

static const char *const kinds[] = {"any",
#define KIND_NAME(kind, member) #member,
                                    MMSB_IO_KIND_LIST(KIND_NAME)
#undef KIND_NAME
};

/* A file of CAPACITY bytes that are all `fill`, opened anew. */
static int make_file(const mmsb_io *io, const char *path, uint8_t fill) {
    uint8_t bytes[CAPACITY];
    memset(bytes, fill, sizeof bytes);
    int fd = (int)io->open(io->context, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && io->pwrite(io->context, fd, bytes, sizeof bytes, 0) == CAPACITY, "%d", fd);
    return fd;
}

static void read_all(int fd, uint8_t *bytes) {
    CHECK(mmsb_io_posix.pread(NULL, fd, bytes, CAPACITY, 0) == CAPACITY, "the file was cut");
}

static void make_frame(uint8_t *frame) {
    for (unsigned i = 0; i < FRAME_BYTES; i++) frame[i] = (uint8_t)(i + 1);
}

static void test_names_of_kinds(void) {
    CHECK(sizeof kinds / sizeof *kinds == MMSB_IO_KINDS, "a kind has no name");
    for (int kind = 0; kind < MMSB_IO_KINDS; kind++) CHECK(mmsb_io_kind_of(kinds[kind]) == kind, "%s", kinds[kind]);
    CHECK(mmsb_io_kind_of("pwrit") == -1 && mmsb_io_kind_of("") == -1, "a kind of no name");
}

static void test_files(void) {
    const mmsb_io *io = &mmsb_io_posix;
    int fd = make_file(io, "file", 7);
    uint8_t bytes[CAPACITY + 10];
    CHECK(io->pread(NULL, fd, bytes, sizeof bytes, 4000) == 96 && bytes[95] == 7, "a read ends with the file");
    CHECK(io->pread(NULL, fd, bytes, 10, 1 << 20) == 0, "a read past the end");
    CHECK(io->fallocate(NULL, fd, 0, 3 * CAPACITY) == 0 && io->stat_size(NULL, fd) == 3 * CAPACITY, "fallocate");
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "a child process inherits the descriptor");
    CHECK(symlink("file", "link") == 0 && io->open(NULL, "link", O_RDONLY, 0) == -ELOOP, "a link was followed");
    CHECK(io->open(NULL, "nothing", O_RDONLY, 0) == -ENOENT, "a file that is not there");
    CHECK(io->close(NULL, fd) == 0 && io->close(NULL, fd) == -EBADF, "closed twice");
}

/* The lock is that of the open file: closing another descriptor of it leaves it, closing its own lets it go. */
static void test_lock(void) {
    const mmsb_io *io = &mmsb_io_posix;
    int first = make_file(io, "lock", 0);
    int second = (int)io->open(NULL, "lock", O_RDWR, 0), third = (int)io->open(NULL, "lock", O_RDWR, 0);
    CHECK(io->lock(NULL, first) == 0 && io->lock(NULL, first) == 0, "lock");
    int64_t refused = io->lock(NULL, second);
    CHECK(refused == -EAGAIN || refused == -EACCES, "%ld", (long)refused);
    io->close(NULL, third);
    CHECK(io->lock(NULL, second) == refused, "the lock fell off");
    io->close(NULL, first);
    CHECK(io->lock(NULL, second) == 0, "the lock stayed");
    io->close(NULL, second);
}

/* A frame lands in a mapping as it does with writes: body, then word, and a zero word after it. */
static void test_append_lands_the_same(void) {
    const mmsb_io *io = &mmsb_io_posix;
    uint8_t frame[FRAME_BYTES], mapped[CAPACITY], written[CAPACITY], synced[CAPACITY];
    make_frame(frame);
    int fd = make_file(io, "mapped", 0xaa);
    uint8_t *map = NULL;
    CHECK(io->map(NULL, fd, 0, CAPACITY, true, &map) == 0, "no mapping");
    CHECK(io->append(NULL, fd, map, CAPACITY, 128, frame, FRAME_BYTES, false) == 0, "append");
    read_all(fd, mapped);
    CHECK(io->unmap(NULL, map, CAPACITY) == 0 && io->close(NULL, fd) == 0, "unmap");
    fd = make_file(io, "written", 0xaa);
    CHECK(io->append(NULL, fd, NULL, CAPACITY, 128, frame, FRAME_BYTES, false) == 0, "append");
    read_all(fd, written);
    io->close(NULL, fd);
    fd = make_file(io, "synced", 0xaa);
    CHECK(io->append(NULL, fd, NULL, CAPACITY, 128, frame, FRAME_BYTES, true) == 0, "append");
    read_all(fd, synced);
    io->close(NULL, fd);
    CHECK(memcmp(mapped, written, CAPACITY) == 0 && memcmp(mapped, synced, CAPACITY) == 0, "they differ");
    CHECK(memcmp(mapped + 128, frame, FRAME_BYTES) == 0 && mmsb_load_u64(mapped + 192) == 0, "the frame");
    CHECK(mapped[127] == 0xaa && mapped[200] == 0xaa, "more was written than the frame and the word behind it");
}

static void test_append_stays_inside(void) {
    const mmsb_io *io = &mmsb_io_posix;
    uint8_t frame[FRAME_BYTES], bytes[CAPACITY];
    make_frame(frame);
    int fd = make_file(io, "file", 0xaa);
    static const uint64_t wrong[][2] = {
        {CAPACITY - 56, FRAME_BYTES}, {CAPACITY + 8, FRAME_BYTES}, {UINT64_MAX - 7, FRAME_BYTES}, {0, 7}, {0, 0},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(io->append(NULL, fd, NULL, CAPACITY, wrong[i][0], frame, wrong[i][1], false) == -EINVAL, "case %u", i);
    read_all(fd, bytes);
    for (unsigned i = 0; i < CAPACITY; i++) CHECK(bytes[i] == 0xaa, "byte %u was written", i);
    CHECK(io->append(NULL, fd, NULL, CAPACITY, CAPACITY - FRAME_BYTES, frame, FRAME_BYTES, false) == 0, "the last one");
    CHECK(io->stat_size(NULL, fd) == CAPACITY, "the word after the last frame made the file longer");
    io->close(NULL, fd);
}

/* What a mapping cannot take is an error, and the next one that it can take is none. */
static void test_append_to_a_file_that_was_cut(void) {
    const mmsb_io *io = &mmsb_io_posix;
    uint8_t frame[FRAME_BYTES], *map = NULL;
    make_frame(frame);
    int fd = make_file(io, "cut", 0);
    CHECK(io->map(NULL, fd, 0, CAPACITY, true, &map) == 0, "no mapping");
    CHECK(io->truncate(NULL, fd, 0) == 0, "truncate");
    for (int i = 0; i < 2; i++)
        CHECK(io->append(NULL, fd, map, CAPACITY, 128, frame, FRAME_BYTES, false) == -EIO, "no error");
    CHECK(io->truncate(NULL, fd, CAPACITY) == 0, "truncate");
    CHECK(io->append(NULL, fd, map, CAPACITY, 128, frame, FRAME_BYTES, false) == 0, "append");
    CHECK(memcmp(map + 128, frame, FRAME_BYTES) == 0, "the frame");
    io->unmap(NULL, map, CAPACITY);
    io->close(NULL, fd);
}

/* One operation of every kind, as a store makes them. Returns the first failure, or 0. */
static int64_t workload(mmsb_io_fault *fault) {
    mmsb_io *io = &fault->io;
    void *context = io->context;
    uint8_t frame[FRAME_BYTES], bytes[8], *map = NULL;
    make_frame(frame);
    int64_t fd = io->open(context, "work", O_RDWR | O_CREAT, 0600), failed = fd < 0 ? fd : 0;
#define STEP(call)                              \
    do {                                        \
        int64_t r_ = (call);                    \
        if (failed == 0 && r_ < 0) failed = r_; \
    } while (0)
    STEP(io->lock(context, (int)fd));
    STEP(io->filesystem(context, (int)fd));
    STEP(io->fallocate(context, (int)fd, 0, 2 * CAPACITY));
    STEP(io->truncate(context, (int)fd, CAPACITY));
    STEP(io->stat_size(context, (int)fd));
    STEP(io->append(context, (int)fd, NULL, CAPACITY, 0, frame, FRAME_BYTES, true));
    STEP(io->pread(context, (int)fd, bytes, 8, 0));
    int64_t mapped = io->map(context, (int)fd, 0, CAPACITY, true, &map);
    STEP(mapped);
    if (mapped == 0) {
        STEP(io->prefault(context, map, CAPACITY));
        STEP(io->unmap(context, map, CAPACITY));
    }
    STEP(io->fsync(context, (int)fd));
    STEP(io->mkdir(context, "folder", 0700));
    STEP(io->give(context, "folder", getgid(), 0700));
    STEP(io->rename(context, "work", "folder/work"));
    STEP(io->unlink(context, "folder/work"));
    STEP(io->close(context, (int)fd));
#undef STEP
    (void)unlink("work");
    (void)unlink("folder/work");
    (void)rmdir("folder");
    return failed;
}

static void test_every_kind_fails_when_armed(void) {
    mmsb_io_fault fault;
    mmsb_io_fault_init(&fault, &mmsb_io_posix);
    CHECK(fault.io.size_bytes == sizeof(mmsb_io), "the table does not know its size");
    CHECK(workload(&fault) == 0, "unarmed it passes everything on");
    uint64_t total = 0;
    for (int kind = MMSB_IO_ANY + 1; kind < MMSB_IO_KINDS; kind++) {
        uint64_t count = mmsb_io_fault_count(&fault, (mmsb_io_kind)kind);
        CHECK(count > 0, "the workload makes no %s", kinds[kind]);
        total += count;
    }
    CHECK(total == mmsb_io_fault_count(&fault, MMSB_IO_ANY), "the counts do not add up");
    for (int kind = MMSB_IO_ANY; kind < MMSB_IO_KINDS; kind++) {
        mmsb_io_fault_arm(&fault, (mmsb_io_kind)kind, 1, MMSB_FAULT_FAIL, ENOSPC, false);
        int64_t expected = kind == MMSB_IO_KILLPOINT ? 0 : -ENOSPC; /* one cannot fail */
        if (kind == MMSB_IO_FDATASYNC) expected = -EIO;             /* that of append, too late for no room */
        int64_t failed = workload(&fault);
        CHECK(failed == expected, "%s: %ld", kinds[kind], (long)failed);
        if (kind != MMSB_IO_CLOSE) CHECK(workload(&fault) == 0, "%s fails again", kinds[kind]);
    }
    mmsb_io_fault_arm(&fault, MMSB_IO_FSYNC, 2, MMSB_FAULT_FAIL, EIO, true);
    CHECK(workload(&fault) == 0 && workload(&fault) == -EIO && workload(&fault) == -EIO,
          "the second and all later ones");
    mmsb_io_fault_arm(&fault, MMSB_IO_FSYNC, 0, MMSB_FAULT_FAIL, EIO, true);
    CHECK(workload(&fault) == 0, "disarmed");
}

static void test_torn_writes(void) {
    mmsb_io_fault fault;
    mmsb_io_fault_init(&fault, &mmsb_io_posix);
    uint8_t frame[FRAME_BYTES], bytes[CAPACITY];
    make_frame(frame);
    int fd = make_file(&fault.io, "torn", 0);
    mmsb_io_fault_arm(&fault, MMSB_IO_PWRITE, 1, MMSB_FAULT_TEAR, EIO, false);
    CHECK(fault.io.pwrite(&fault, fd, frame, FRAME_BYTES, 100) == -EIO, "pwrite");
    read_all(fd, bytes);
    CHECK(memcmp(bytes + 100, frame, FRAME_BYTES / 2) == 0 && bytes[100 + FRAME_BYTES / 2] == 0, "half of it");
    uint8_t *map = NULL;
    CHECK(fault.io.map(&fault, fd, 0, CAPACITY, true, &map) == 0, "no mapping");
    for (unsigned mapped = 0; mapped < 2; mapped++) {
        uint64_t at = 1024 * (mapped + 1);
        mmsb_io_fault_arm(&fault, MMSB_IO_APPEND, 1, MMSB_FAULT_TEAR, EIO, false);
        CHECK(fault.io.append(&fault, fd, mapped ? map : NULL, CAPACITY, at, frame, FRAME_BYTES, false) == -EIO,
              "append");
        read_all(fd, bytes);
        CHECK(memcmp(bytes + at, frame, FRAME_BYTES / 2) == 0 && bytes[at + FRAME_BYTES / 2] == 0, "word, half a body");
    }
    CHECK(fault.io.unmap(&fault, map, CAPACITY) == 0 && fault.io.close(&fault, fd) == 0, "unmap");
}

/* Killed in a child at the nth kill point of an append; what the file then holds at the frame's place. */
static void kill_append(uint64_t nth, bool mapped, uint8_t *bytes) {
    int fd = make_file(&mmsb_io_posix, "killed", 0xaa);
    pid_t child = fork();
    CHECK(child >= 0, "no child");
    if (child == 0) {
        mmsb_io_fault fault;
        uint8_t frame[FRAME_BYTES], *map = NULL;
        mmsb_io_fault_init(&fault, &mmsb_io_posix);
        make_frame(frame);
        memset(frame + 8, 0x55, FRAME_BYTES - 8);
        if (mapped && fault.io.map(&fault, fd, 0, CAPACITY, true, &map) != 0) _exit(1);
        mmsb_io_fault_arm(&fault, MMSB_IO_KILLPOINT, nth, MMSB_FAULT_KILL, 0, false);
        (void)fault.io.append(&fault, fd, map, CAPACITY, 128, frame, FRAME_BYTES, false);
        _exit(2);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%d", status);
    read_all(fd, bytes);
    mmsb_io_posix.close(NULL, fd);
}

/* Killed before the word there is a body and no frame, after it a whole one; the end of the log stands behind both. */
static void test_killed_between_body_and_word(void) {
    uint8_t bytes[CAPACITY];
    for (unsigned mapped = 0; mapped < 2; mapped++) {
        kill_append(1, mapped, bytes);
        CHECK(bytes[128] == 0xaa && bytes[136] == 0x55 && bytes[191] == 0x55, "before the word");
        CHECK(mmsb_load_u64(bytes + 192) == 0, "no end behind the body");
        kill_append(2, mapped, bytes);
        CHECK(bytes[128] == 1 && bytes[135] == 8 && bytes[191] == 0x55, "after the word");
        CHECK(mmsb_load_u64(bytes + 192) == 0, "no end behind the frame");
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && chdir(argv[1]) == 0, "usage: test_io FOLDER");
    test_names_of_kinds();
    test_files();
    test_lock();
    test_append_lands_the_same();
    test_append_stays_inside();
    test_append_to_a_file_that_was_cut();
    test_every_kind_fails_when_armed();
    test_torn_writes();
    test_killed_between_body_and_word();
    return 0;
}
