/* The table of file operations: whatever touches a file goes through it, so that a test can count the operations and
 * make any of them fail (io_fault.h). */
#ifndef MMSB_IO_H
#define MMSB_IO_H

#include "base.h"

/* Every operation returns 0 or more, or -errno. Calls interrupted by a signal are taken up again, except close and the
 * two syncs: what a failed sync leaves behind is unknown, and it must never be repeated. */
typedef struct mmsb_io {
    uint64_t size_bytes; /* of this struct; larger in a later version, which only appends members */
    void *context;       /* first argument of every operation */

    /* A descriptor. `flags` as in open(2); O_CLOEXEC and O_NOFOLLOW are always added. With O_CREAT the file has `mode`
     * whatever the umask, except where it was there and is somebody else's. */
    int64_t (*open)(void *context, const char *path, int flags, unsigned mode);
    int64_t (*close)(void *context, int fd);
    /* The number of bytes read: less than asked for only at the end of the file. */
    int64_t (*pread)(void *context, int fd, void *to, uint64_t bytes, uint64_t offset);
    /* Writes all bytes and returns their number, or fails: then some of them may be written. */
    int64_t (*pwrite)(void *context, int fd, const void *from, uint64_t bytes, uint64_t offset);
    int64_t (*fdatasync)(void *context, int fd);
    int64_t (*fsync)(void *context, int fd); /* also of a directory */
    /* Reserves disk blocks and grows the file to offset + bytes. -EOPNOTSUPP where the file system cannot. */
    int64_t (*fallocate)(void *context, int fd, uint64_t offset, uint64_t bytes);
    int64_t (*truncate)(void *context, int fd, uint64_t bytes); /* only of files that nobody maps */
    int64_t (*rename)(void *context, const char *from, const char *to);
    int64_t (*unlink)(void *context, const char *path);
    int64_t (*mkdir)(void *context, const char *path, unsigned mode); /* `mode` whatever the umask */
    int64_t (*stat_size)(void *context, int fd);                      /* bytes of the file */
    /* Maps a range of the file, shared; `offset` is a multiple of 4096. */
    int64_t (*map)(void *context, int fd, uint64_t offset, uint64_t bytes, bool writable, uint8_t **address);
    int64_t (*unmap)(void *context, uint8_t *address, uint64_t bytes);
    /* Takes the page faults of a writable mapping now. A kernel that does not know how is no failure. */
    int64_t (*prefault)(void *context, uint8_t *address, uint64_t bytes);
    int64_t (*filesystem)(void *context, int fd); /* f_type of statfs(2) */
    /* Locks the whole file for writing until `fd` and its duplicates are closed. -EAGAIN or -EACCES: held elsewhere. */
    int64_t (*lock)(void *context, int fd);

    /* Publishes one frame of `bytes` at `offset` of a log segment of `capacity` bytes. `frame` is complete, its 8-byte
     * word first; `map` is the segment's mapping or NULL.
     *
     * With a mapping and without `sync` no system call is made. The word is stored last, after a zero word behind the
     * frame, so that a process killed at any instant leaves no frame or a whole one, with the log's end after it.
     * Where the kernel cannot take a store (SIGBUS) the answer is -EIO.
     * Otherwise the same three steps are writes, and `sync` ends them with fdatasync. Returns 0. */
    int64_t (*append)(void *context, int fd, uint8_t *map, uint64_t capacity, uint64_t offset, const uint8_t *frame,
                      uint64_t bytes, bool sync);

    /* NULL, or called where a test may kill the process: "append:body" after a frame's body and before its word,
     * "append:word" after the word, and by the core "apply" before it changes pages and "apply:change" before each
     * change of a batch. */
    void (*killpoint)(void *context, const char *where);

    /* Gives a file or directory to a group of users, with a mode. Whatever else is there stays as it is. */
    int64_t (*give)(void *context, const char *path, unsigned group, unsigned mode);
} mmsb_io;

/* The operating system. No kill points. */
extern const mmsb_io mmsb_io_posix;

/* `append` in terms of the pwrite, fdatasync and killpoint of `io`: for tables that stand before another one. */
int64_t mmsb_io_append(const mmsb_io *io, int fd, uint8_t *map, uint64_t capacity, uint64_t offset,
                       const uint8_t *frame, uint64_t bytes, bool sync);

#endif
