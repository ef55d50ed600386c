/* A batch: the operations of a commit gathered by hand, in order, before anything happens to a page. */
#ifndef MMSB_BATCH_H
#define MMSB_BATCH_H

#include "alloc.h"
#include "merge.h"
#include "status.h"

typedef enum mmsb_op_kind {
    MMSB_OP_WRITE = 1,
    MMSB_OP_DELTA,  /* an encoded delta: `code`, data is the payload */
    MMSB_OP_CREATE, /* `count` pages of `size` bytes from page_id on; name, metadata, content for count == 1 */
    MMSB_OP_DELETE,
    MMSB_OP_RESIZE,
    MMSB_OP_RENAME,   /* data is the new name; empty: none */
    MMSB_OP_METADATA, /* data is the whole new metadata */
    MMSB_OP_LINK,     /* data is the encoded link; page_id is the child */
    MMSB_OP_UNLINK,   /* the same of what goes */
} mmsb_op_kind;

/* 56 bytes, because a batch may hold millions. */
typedef struct mmsb_op {
    uint64_t page_id;
    union {
        uint64_t offset; /* WRITE */
        uint64_t size;   /* CREATE, RESIZE */
    };
    union {
        uint64_t count;    /* CREATE */
        uint64_t if_epoch; /* WRITE, DELTA: MMSB_ANY_EPOCH for any */
    };
    uint64_t data_at;                    /* in batch.data, of name, metadata and data behind one another */
    uint64_t data_bytes;                 /* what is written, the payload, the content, the name, the metadata */
    uint32_t name_bytes, metadata_bytes; /* CREATE */
    uint8_t kind;
    uint8_t code;      /* DELTA; CREATE of merge pages: place of their semiring in core.merges */
    uint8_t page_kind; /* CREATE */
    bool assigns;      /* WRITE: overwrites, also in a merge page */
} mmsb_op;

#define MMSB_ANY_EPOCH UINT64_MAX

typedef struct mmsb_batch {
    const mmsb_alloc *alloc;
    mmsb_buffer ops, data; /* ops.size and data.size are in bytes */
} mmsb_batch;

static inline uint64_t mmsb_batch_count(const mmsb_batch *batch) { return batch->ops.size / sizeof(mmsb_op); }
static inline mmsb_op *mmsb_batch_op(const mmsb_batch *batch, uint64_t index) {
    return (mmsb_op *)(void *)batch->ops.data + index;
}
static inline const uint8_t *mmsb_batch_data(const mmsb_batch *batch, const mmsb_op *op) {
    return batch->data.data + op->data_at;
}

void mmsb_batch_init(mmsb_batch *batch, const mmsb_alloc *alloc);
void mmsb_batch_release(mmsb_batch *batch);

/* Adds an operation; `op` is copied, and `parts` (name, metadata, content; any may be NULL) are copied in that order
 * behind one another. MMSB_OK or MMSB_NO_MEMORY, and then the batch is as before. */
int mmsb_batch_add(mmsb_batch *batch, const mmsb_op *op, const uint8_t *name, const uint8_t *metadata,
                   const uint8_t *data);

/* Adds `count` writes: the i-th puts the next lengths[i] bytes of `payload` at offsets[i] of page ids[i]. The sum of
 * lengths must be payload_bytes (BAD_SIZE). Nothing is added on failure. */
int mmsb_batch_add_writes(mmsb_batch *batch, const uint64_t *ids, const uint64_t *offsets, const uint64_t *lengths,
                          uint64_t count, const uint8_t *payload, uint64_t payload_bytes);

/* Overlays the staged writes to one page onto bytes[0,length) that came from `offset` of it: what a read inside the
 * batch sees. Writes only, which is all there can be between a page's creation or resize and the batch's end.
 * MMSB_OK or BAD_DELTA. */
int mmsb_batch_overlay(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, uint64_t offset, uint8_t *bytes,
                       uint64_t length);

/* The same for a merge page, whole: its bytes become what the staged writes leave of them. `spare` is as long.
 * MMSB_OK, or BAD_DELTA, BAD_LANES, MERGE_FAILED. */
int mmsb_batch_merge(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, const mmsb_semiring *semiring,
                     uint8_t *page, uint64_t page_bytes, uint8_t *spare);

#endif
