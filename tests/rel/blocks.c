/* A disk that remembers. `blocks MOUNTPOINT IMAGE LOG` serves a directory (FUSE, in the foreground) with three files:
 *
 *   disk   the bytes of IMAGE. A loop device over it makes a file system's every block write and flush pass here, and
 *          they are appended to LOG in the order in which they came.
 *   mark   what is written here goes into LOG only: so a writer says, in the order of the blocks, what it acknowledged.
 *   fail   "SKIP COUNT" written here lets SKIP more block writes pass and answers the COUNT after them with EIO; "0 0"
 *          heals the disk.
 *
 * LOG is a sequence of entries; the bytes of a write or a mark follow its entry. */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, FLUSH, MARK, FAILED };

typedef struct entry {
    uint32_t kind, bytes;
    uint64_t offset;
} entry;

static int image, record;
static off_t image_bytes;
static uint64_t skip, failing; /* block writes to let pass, and then to fail */

static int note(uint32_t kind, const char *data, size_t bytes, off_t offset) {
    entry head = {.kind = kind, .bytes = (uint32_t)bytes, .offset = (uint64_t)offset};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)data, bytes}};
    return writev(record, parts, 2) == (ssize_t)(sizeof head + bytes) ? 0 : -EIO;
}

static int blocks_getattr(const char *path, struct stat *status, struct fuse_file_info *file) {
    (void)file;
    memset(status, 0, sizeof *status);
    if (strcmp(path, "/") == 0) {
        status->st_mode = S_IFDIR | 0700;
        status->st_nlink = 2;
        return 0;
    }
    if (strcmp(path, "/disk") != 0 && strcmp(path, "/mark") != 0 && strcmp(path, "/fail") != 0) return -ENOENT;
    status->st_mode = S_IFREG | 0600;
    status->st_nlink = 1;
    status->st_size = strcmp(path, "/disk") == 0 ? image_bytes : 0;
    return 0;
}

static int blocks_open(const char *path, struct fuse_file_info *file) {
    (void)path;
    file->direct_io = 1;
    return 0;
}

static int blocks_read(const char *path, char *to, size_t bytes, off_t offset, struct fuse_file_info *file) {
    (void)file;
    if (strcmp(path, "/disk") != 0) return 0;
    ssize_t got = pread(image, to, bytes, offset);
    return got < 0 ? -errno : (int)got;
}

static int blocks_write(const char *path, const char *from, size_t bytes, off_t offset, struct fuse_file_info *file) {
    (void)file;
    int result = 0;
    if (strcmp(path, "/mark") == 0) {
        result = note(MARK, from, bytes, 0);
    } else if (strcmp(path, "/fail") == 0) {
        char text[64] = {0};
        memcpy(text, from, bytes < sizeof text ? bytes : sizeof text - 1);
        char *end;
        skip = strtoull(text, &end, 10);
        failing = strtoull(end, NULL, 10);
    } else if (failing != 0 && skip == 0) {
        failing--;
        result = note(FAILED, NULL, 0, offset);
        if (result == 0) result = -EIO;
    } else {
        if (failing != 0) skip--;
        if (offset + (off_t)bytes > image_bytes) return -ENOSPC;
        if (pwrite(image, from, bytes, offset) != (ssize_t)bytes) return -EIO;
        result = note(WRITE, from, bytes, offset);
    }
    return result < 0 ? result : (int)bytes;
}

static int blocks_fsync(const char *path, int data_only, struct fuse_file_info *file) {
    (void)data_only;
    (void)file;
    return strcmp(path, "/disk") == 0 ? note(FLUSH, NULL, 0, 0) : 0;
}

/* Mounted, the server leaves the mount namespace of who started it. Were it the last one in there when all are killed,
 * it would unmount what lies on its own disk when it can no longer serve it, and with it every sync() of the machine
 * would hang. Where it may not leave, all is as it was. */
static void *blocks_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    (void)config;
    int first = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (first >= 0) {
        int ignored = setns(first, CLONE_NEWNS);
        (void)ignored;
        close(first);
    }
    return NULL;
}

static const struct fuse_operations operations = {
    .init = blocks_init,
    .getattr = blocks_getattr,
    .open = blocks_open,
    .read = blocks_read,
    .write = blocks_write,
    .fsync = blocks_fsync,
};

int main(int count, char **arguments) {
    if (count != 4) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever started it is gone, and nobody would end it */
    image = open(arguments[2], O_RDWR | O_CLOEXEC);
    record = open(arguments[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    struct stat status;
    if (image < 0 || record < 0 || fstat(image, &status) != 0) return 1;
    image_bytes = status.st_size;
    char *fuse[] = {arguments[0], "-f", "-s", arguments[1], NULL};
    return fuse_main(4, fuse, &operations, NULL);
}
