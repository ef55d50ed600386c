/* The core of one State: pages, and the one way they change. A commit is encoded into a frame, the frame is published
 * in the log, and only then are the pages changed, by the same function that replays a log (core_apply.c).
 *
 * Nothing here locks: the caller lets one thread in at a time. */
#ifndef MMSB_CORE_H
#define MMSB_CORE_H

#include "alloc.h"
#include "arena.h"
#include "batch.h"
#include "clock.h"
#include "io.h"
#include "merge.h"
#include "segment.h"
#include "shared.h"
#include "sharing.h"

/* The segment that is being appended to. Its tail is poked: see mmsb_core. */
typedef struct mmsb_active {
    uint8_t *map; /* NULL: append with pwrite */
    int fd;       /* -1: a segment in memory, which has only the mapping */
    uint32_t number;
    uint64_t capacity, tail;
    uint64_t ready; /* up to here the mapping's pages are known to be in memory */
    uint64_t base_seq, base_time_ns;
} mmsb_active;

/* The frame under construction, until it is published. */
typedef struct mmsb_building {
    uint64_t seq, time_ns;
    uint64_t changes_at, changes_end; /* offsets in core.frame */
    uint32_t source, source_id;       /* the source that it defines; 0: none */
} mmsb_building;

/* The caller's other threads may look at what it has done, its counts and its position, while a commit changes them:
 * what a commit changes of those is poked, and whoever does not hold the caller's lock peeks (base.h). */
typedef struct mmsb_core {
    mmsb_kernels kernels;
    const mmsb_alloc *alloc;
    const mmsb_io *io;
    mmsb_arena arena;
    mmsb_shared *shared;
    mmsb_sharing *sharing; /* NULL while nobody is attached */
    mmsb_active active;
    mmsb_clock clock;
    uint64_t seq, time_ns, branch;
    uint64_t next_page_id, page_count;
    uint32_t seed, last_crc;
    int io_errno;        /* of MMSB_DISK_FULL, or of the failure that poisoned the core */
    bool poisoned;       /* a write or sync failed: no further commit */
    mmsb_buffer frame;   /* the frame under construction */
    mmsb_buffer scratch; /* what a delta from outside or a merge would leave, while it is compared with the page */
    mmsb_building building;
    uint64_t frame_needs; /* after MMSB_NO_SPACE and MMSB_DISK_FULL: bytes of the frame */
    mmsb_buffer handles;  /* slots taken for the commit under construction, in the order of use */
    uint64_t handles_used;
    mmsb_buffer touched;       /* mmsb_touched: changes to pages with children since the last wave */
    mmsb_buffer touched_bytes; /* their payloads */
    uint64_t touched_seq;      /* the commit of the newest of them */
    bool touched_whole;        /* not all of them were kept: the pages in `touched` may have changed anywhere */
    mmsb_buffer source_ids;    /* u32 per source of the State: its id in the active segment, 0 when not yet defined */
    uint32_t source_next;      /* next id of the active segment */
    uint64_t commits, deltas, delta_bytes;            /* statistics since open */
    const mmsb_semiring *merges[MMSB_MERGES_MAX + 1]; /* of merge pages, by header.merge; [0] is NULL */

    /* Asked when a page lets go of a slot (it was deleted or resized). True: the asked one keeps the slot and gives it
     * back to the arena later. NULL: nobody does. */
    int (*keep_slot)(void *context, uint64_t page_id, uint64_t handle, uint64_t size);
    void *keep_context;
} mmsb_core;

/* A change to a page that has children: an encoded delta, or anything (code 0). */
typedef struct mmsb_touched {
    uint64_t page_id, payload_at, payload_bytes;
    uint8_t code;
} mmsb_touched;

/* What a commit says beside its changes. */
typedef struct mmsb_commit_info {
    uint64_t time_ns;    /* 0: read the clock */
    uint64_t if_epoch;   /* of a single write; MMSB_ANY_EPOCH: any */
    uint32_t source;     /* index in the State's table of sources; 0: none */
    bool sync;           /* durable before it returns */
    bool skip_unchanged; /* make no commit when the batch turns out to change nothing */
    bool assigns;        /* a single write overwrites, also in a merge page */
    bool moving;         /* others may change the bytes of a single write while they are read */
    const uint8_t *source_name, *label, *intent;
    uint64_t source_bytes, label_bytes, intent_bytes;
} mmsb_commit_info;

/* The delta that a single write produced. `payload` stays valid until the next commit. */
typedef struct mmsb_written {
    uint64_t seq, epoch, time_ns;
    const uint8_t *payload;
    uint64_t payload_bytes;
    uint8_t code;
} mmsb_written;

/* Changes nothing when it fails. `io`, `alloc`, `shared` outlive the core. */
int mmsb_core_init(mmsb_core *core, uint32_t features, const mmsb_alloc *alloc, const mmsb_io *io, mmsb_shared *shared,
                   uint64_t max_bytes);
void mmsb_core_release(mmsb_core *core);

/* Appending goes on at `active->tail` of this segment. `last_crc` is that of the frame before. */
void mmsb_core_use_segment(mmsb_core *core, const mmsb_active *active, const uint8_t salt[16], uint32_t last_crc);

/* Writes data[0,length) at `offset` of a page, as one commit. Returns 1 when bytes changed, 0 when none did (no
 * commit then), or PAGE_NOT_FOUND, OUT_OF_BOUNDS, EPOCH_MISMATCH, NO_MEMORY, FRAME_TOO_LARGE, NO_SPACE (give the core
 * a segment with room for `frame_needs` bytes and call again), NO_SEMIRING (put that of the page into `merges`, its
 * place into the header, and call again), BAD_LANES, MERGE_FAILED, POISONED, or IO: then the commit is in doubt and the
 * core poisoned. On every other failure nothing changed. `data` may lie inside a page. */
int mmsb_core_write(mmsb_core *core, uint64_t page_id, uint64_t offset, const uint8_t *data, uint64_t length,
                    const mmsb_commit_info *info, mmsb_written *written);

/* Commits a batch, also an empty one. 1; 0 when nothing changed and info->skip_unchanged; or the failures of
 * mmsb_core_write plus BAD_SIZE, BAD_DELTA, PAGE_EXISTS and
 * ARENA_FULL; *failed_op is then the index of the operation that could not be done. */
int mmsb_core_commit(mmsb_core *core, const mmsb_batch *batch, const mmsb_commit_info *info, uint64_t *failed_op);

/* The changes of the frame committed last, for mmsb_change_next. Valid until the next commit. */
void mmsb_core_last_changes(const mmsb_core *core, const uint8_t **changes, const uint8_t **end);

/* Appends an anchor frame. MMSB_OK, or as mmsb_core_write. */
int mmsb_core_anchor(mmsb_core *core, const uint8_t anchor[MMSB_ANCHOR_BYTES], bool sync);

/* Applies the changes of one verified frame to the pages. MMSB_OK, or BAD_FRAME, BAD_DELTA, PAGE_NOT_FOUND,
 * PAGE_EXISTS, BAD_SIZE, ARENA_FULL, NO_MEMORY: then the pages may be half changed and must be thrown away.
 * Sets *described when the frame holds names, metadata or a label, which this floor does not keep. */
int mmsb_core_apply(mmsb_core *core, const uint8_t *changes, const uint8_t *end, bool *described);

/* Makes a page without any commit: how a checkpoint is loaded. `content` (at most `size` bytes, the rest is zero)
 * may be
 * NULL. MMSB_OK, or BAD_SIZE, PAGE_EXISTS, ARENA_FULL, NO_MEMORY. */
int mmsb_core_load_page(mmsb_core *core, uint64_t page_id, uint64_t size, uint64_t epoch, uint8_t kind, uint16_t flags,
                        const uint8_t *content, uint64_t content_bytes);

/* Says that the active segment defines the State's source `source` as `id` already. MMSB_OK or NO_MEMORY. */
int mmsb_core_define_source(mmsb_core *core, uint32_t source, uint32_t id);

/* Replays frames from a cursor until its segment ends or `seq_until` was applied. Returns MMSB_OK after a frame that
 * describes something (it is in *frame; call again to go on), MMSB_END when done, or a failure. */
int mmsb_core_replay(mmsb_core *core, mmsb_log_cursor *cursor, uint64_t seq_until, mmsb_log_frame *frame);

/* Room for so many more notes, of `bytes` in all, so that taking them cannot fail when the frame is out. */
bool mmsb_core_reserve_touched(mmsb_core *core, uint64_t count, uint64_t bytes);
/* After a change to a page (code 0: of its size) that failed or that others depend on: notes it for the next wave.
 * MMSB_OK or NO_MEMORY. */
int mmsb_core_changed(mmsb_core *core, mmsb_page_header *header, uint64_t page_id, uint8_t code, const uint8_t *payload,
                      uint64_t payload_bytes);
/* Forgets those notes: a wave has covered them. */
void mmsb_core_forget_touched(mmsb_core *core);

/* Used by core.c, core_commit.c and propagate.c: the steps of a commit. begin_frame returns where its changes go, NULL
 * without memory. */
uint8_t *mmsb_core_begin_frame(mmsb_core *core, const mmsb_commit_info *info, uint8_t kind, uint64_t body_max);
int mmsb_core_publish(mmsb_core *core, uint8_t *end, bool sync);
/* Writes the head of the frame under construction anew, for the segment that is in place now. *used: its bytes so far.
 * MMSB_OK or NO_MEMORY. */
int mmsb_core_renew_frame(mmsb_core *core, const mmsb_commit_info *info, uint64_t *used);
void mmsb_core_mark_applied(mmsb_core *core);
void mmsb_core_drop_slot(mmsb_core *core, uint64_t page_id, uint64_t handle, uint64_t size);

/* Gives back a slot that a page has let go of, as soon as no attached process can be reading it. */
void mmsb_core_give_slot(mmsb_core *core, uint64_t handle, uint64_t size);

#endif
