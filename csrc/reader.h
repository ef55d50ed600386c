/* Reading another process's pages, consistently and without asking it: copy, then redo.
 *
 * A read notes `applied`, copies, and notes `tail`. What it copied are the bytes after the frame before `applied`, plus
 * any part of what the frames from there to `tail` do. These frames are in the log, and say absolute values; so doing
 * them once more, in order, gives the bytes after the last of them. Whatever the writer does meanwhile, and even if it
 * dies in the middle of it, one pass is enough. docs/understand/sharing.md has the argument in full.
 *
 * Nothing here locks: one thread at a time in one reader, save for those that wait. */
#ifndef MMSB_READER_H
#define MMSB_READER_H

#include "alloc.h"
#include "arena.h"
#include "patience.h"
#include "segment.h"
#include "shared.h"

typedef struct mmsb_reader_region {
    const uint8_t *base; /* NULL: none */
    uint64_t bytes;
} mmsb_reader_region;

typedef struct mmsb_reader_log {
    mmsb_reader_region region;
    uint32_t number;
    uint64_t base_seq, base_time_ns;
} mmsb_reader_log;

typedef struct mmsb_reader {
    const mmsb_shared *shared;
    mmsb_words *words;
    uint64_t number; /* of this client, as in shared->admitted */
    uint32_t place;  /* there */
    uint32_t seed;   /* of the store's checksums */
    uint64_t grown;  /* messages taken, as in shared->grown */
    bool gone;       /* the owner is: nothing will come */
    uint64_t last;   /* then: where history ends */
    bool over;       /* nobody is to wait any more */
    mmsb_patience patience;
    bool never_redo; /* for a test that shows what it would be like */
    mmsb_kernels kernels;
    const mmsb_alloc *alloc;
    mmsb_reader_region chunks[MMSB_ARENA_CHUNKS];
    mmsb_buffer segments; /* mmsb_reader_region, by number */
    mmsb_buffer logs;     /* mmsb_reader_log, ascending by number */
} mmsb_reader;

/* The commit that a read shows. */
typedef struct mmsb_moment {
    uint64_t seq, position;
} mmsb_moment;

#define MMSB_READ_TO_END UINT64_MAX

/* One page of a read. */
typedef struct mmsb_read {
    uint64_t page_id;
    uint64_t first, length; /* bytes wanted; cut where the page ends */
    uint8_t *to;            /* where they go */
    uint64_t room;
    bool owned; /* `to` is of the reader's allocator (or NULL), and is made larger as needed */

    int status;     /* OK, PAGE_NOT_FOUND, or BAD_SIZE: `room` is too small for `count` bytes */
    uint64_t size;  /* of the page */
    uint64_t count; /* of the bytes wanted that there are */
    uint64_t epoch; /* when epoch_known */
    uint16_t flags; /* MMSB_PAGE_*; those about staleness are as of now */
    bool epoch_known;

    uint64_t copied; /* the rest is the reader's own */
    uint64_t gained;
    bool exists, created, touched, reachable;
} mmsb_read;

void mmsb_reader_init(mmsb_reader *reader, uint32_t features, const mmsb_alloc *alloc, const uint8_t salt[16]);
void mmsb_reader_release(mmsb_reader *reader); /* unmaps nothing */

/* Memory came, or went (base NULL). MMSB_OK, NO_MEMORY, or BAD_SIZE: there can be no such number. */
int mmsb_reader_set(mmsb_reader *reader, uint32_t kind, uint32_t number, const uint8_t *base, uint64_t bytes);
/* The same of a log segment, whose header is checked: BAD_HEADER or NEWER_VERSION as well. */
int mmsb_reader_set_log(mmsb_reader *reader, uint32_t number, const uint8_t *base, uint64_t bytes);

/* Reads pages, all at one commit. `reads` ascend by page_id, each once. MMSB_OK (each read has its status); GROWN: take
 * the messages that wait and call again; BEHIND: the log in between is not mapped, call again; DROPPED; NO_MEMORY;
 * or BAD_FRAME, BAD_LENGTH, BAD_CRC, BAD_HEADER: what is shared is damaged. */
int mmsb_reader_read(mmsb_reader *reader, mmsb_read *reads, uint64_t count, mmsb_moment *moment);

/* Reads `length` bytes of one page, for whoever expects the page to be there and to be that long (`whole`: exactly).
 * Whether it could: if not, or if anything is out of the ordinary, mmsb_reader_read says what. Pages that are not up to
 * date are not read. */
bool mmsb_reader_copy(mmsb_reader *reader, uint64_t page_id, uint64_t first, uint8_t *to, uint64_t length, bool whole);

/* Which pages there are: live[id] for the ids below *end. As mmsb_reader_read; BAD_SIZE: make room for *end. */
int mmsb_reader_live(mmsb_reader *reader, uint8_t *live, uint64_t room, uint64_t *end, mmsb_moment *moment);

/* The size that a page's header tells now, 0 when there is none: a first guess. */
uint64_t mmsb_reader_guess(const mmsb_reader *reader, uint64_t page_id);

/* Waits for a commit after `position`, for at most `timeout_ns`. Whether there is one. It looks for a moment before it
 * sleeps, see patience.h. Any number of threads may wait. */
bool mmsb_reader_wait(mmsb_reader *reader, uint64_t position, uint64_t timeout_ns);

/* Ends the waits that are under way, and lets none begin. */
void mmsb_reader_end_waits(mmsb_reader *reader);

/* Up to where commits may be followed: `applied`, or the end of history when the owner is gone. */
uint64_t mmsb_reader_end(const mmsb_reader *reader);

/* Up to where frames are published. A `seq` that was read before lies in front of it; of `applied` that is not so,
 * which the owner stores after it. */
uint64_t mmsb_reader_published(const mmsb_reader *reader);

/* The owner is gone. History ends where its log does: after a frame, too, that it had no time left to publish, because
 * its successor will find that as well. */
void mmsb_reader_owner_went(mmsb_reader *reader);

#endif
