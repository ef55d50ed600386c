/* One frame of the log: writing its fields into a buffer and reading them back. No files here. */
#ifndef MMSB_FRAME_H
#define MMSB_FRAME_H

#include "kernels.h"
#include "log_format.h"

/* CRC state shared by all frames of a store: the checksum covers the salt first. */
static inline uint32_t mmsb_frame_seed(const mmsb_kernels *kernels, const uint8_t salt[16]) {
    return kernels->crc32c(0, salt, 16);
}

typedef struct mmsb_frame_head {
    uint64_t seq_rel;     /* commit: seq - base_seq of the segment; anchor: the same of the last commit covered */
    uint64_t durable_lag; /* seq - highest seq known durable when the frame was written */
    uint64_t time_rel_ns; /* timestamp - base_time of the segment */
    uint64_t branch;
    uint64_t source; /* id defined by a SOURCE change of this segment; 0: none */
    uint32_t prev_crc;
    uint8_t kind; /* MMSB_FRAME_* */
} mmsb_frame_head;

#define MMSB_FRAME_HEAD_BYTES_MAX (MMSB_FRAME_WORD_BYTES + 4 + 1 + 5 * MMSB_VARINT_BYTES_MAX)

/* Writes the head of a frame at `frame`, leaving the 8 bytes of the word free. Returns where the changes begin. */
static inline uint8_t *mmsb_frame_put_head(uint8_t *frame, const mmsb_frame_head *head) {
    uint8_t *p = frame + MMSB_FRAME_WORD_BYTES;
    mmsb_store_u32(p, head->prev_crc);
    p[4] = head->kind;
    p = mmsb_varint_put(p + 5, head->seq_rel);
    p = mmsb_varint_put(p, head->durable_lag);
    p = mmsb_varint_put(p, head->time_rel_ns);
    p = mmsb_varint_put(p, head->branch);
    return mmsb_varint_put(p, head->source);
}

/* Pads the frame that ends at `end` to whole units (up to 7 bytes past it are written), computes its word and stores
 * it in the first 8 bytes. Returns the frame's bytes, word included; MMSB_FRAME_TOO_LARGE past 32 GiB. */
static inline int64_t mmsb_frame_close(const mmsb_kernels *kernels, uint32_t seed, uint8_t *frame, uint8_t *end,
                                       uint32_t *crc) {
    uint64_t used = (uint64_t)(end - frame) - MMSB_FRAME_WORD_BYTES;
    uint64_t units = (used + MMSB_FRAME_UNIT_BYTES - 1) / MMSB_FRAME_UNIT_BYTES;
    if (units > MMSB_FRAME_UNITS_MAX) return MMSB_FRAME_TOO_LARGE;
    /* Of the last unit only what belongs to the frame is kept: a call that clears a few bytes would cost more. */
    uint8_t *last = frame + units * MMSB_FRAME_UNIT_BYTES;
    mmsb_store_u64(last, mmsb_load_u64(last) & UINT64_MAX >> (units * MMSB_FRAME_UNIT_BYTES - used) * 8);
    /* The CRC covers the length too. It stands right before the body while it is computed. */
    mmsb_store_u32(frame + 4, (uint32_t)units);
    *crc = kernels->crc32c(seed, frame + 4, 4 + units * MMSB_FRAME_UNIT_BYTES);
    mmsb_store_u64(frame, units | (uint64_t)*crc << 32);
    return (int64_t)(MMSB_FRAME_WORD_BYTES + units * MMSB_FRAME_UNIT_BYTES);
}

/* Checks the frame at `frame` of which `available` bytes may be read, and reads its head. Returns the frame's bytes and
 * sets *changes, *end and *crc; MMSB_END on a zero word (or fewer than 8 bytes), MMSB_BAD_LENGTH, MMSB_BAD_CRC,
 * MMSB_BAD_FRAME. */
int64_t mmsb_frame_open(const mmsb_kernels *kernels, uint32_t seed, const uint8_t *frame, uint64_t available,
                        mmsb_frame_head *head, const uint8_t **changes, const uint8_t **end, uint32_t *crc);

/* One change of a commit frame. Pointers lead into the frame. */
typedef struct mmsb_change {
    uint8_t kind;           /* delta code or MMSB_CHANGE_* */
    uint8_t page_kind;      /* CREATE */
    uint8_t create_flags;   /* CREATE */
    uint8_t content_code;   /* CREATE with content: delta code against a page of zeros */
    uint64_t page_id;       /* deltas, CREATE (first id), DELETE, RESIZE, RENAME, METADATA; SOURCE: its local id;
                             * LINK, UNLINK: the child; WAVE: seq - cause */
    uint64_t count, size;   /* CREATE: pages and bytes of each; RESIZE: size */
    const uint8_t *payload; /* delta: its payload; CREATE: that of the content */
    uint64_t payload_bytes;
    const uint8_t *text; /* CREATE and RENAME: name; LABEL, SOURCE: text; INTENT, METADATA, LINK, UNLINK, WAVE: blob */
    uint64_t text_bytes;
    const uint8_t *blob; /* CREATE: metadata */
    uint64_t blob_bytes;
} mmsb_change;

/* Reads the change at `p` (before `end`). Returns the byte after it, `end` once nothing but padding follows (kind is
 * then MMSB_CHANGE_END), or NULL when it is malformed. Payloads are measured, not validated against a page. */
const uint8_t *mmsb_change_next(const uint8_t *p, const uint8_t *end, mmsb_change *change);

#endif
