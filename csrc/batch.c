#include "batch.h"

#include "delta.h"

void mmsb_batch_init(mmsb_batch *batch, const mmsb_alloc *alloc) {
    memset(batch, 0, sizeof *batch);
    batch->alloc = alloc;
}

void mmsb_batch_release(mmsb_batch *batch) {
    mmsb_buffer_release(&batch->ops, batch->alloc);
    mmsb_buffer_release(&batch->data, batch->alloc);
}

static void append(mmsb_buffer *buffer, const void *bytes, uint64_t count) {
    if (count != 0) memcpy(buffer->data + buffer->size, bytes, count);
    buffer->size += count;
}

int mmsb_batch_add(mmsb_batch *batch, const mmsb_op *op, const uint8_t *name, const uint8_t *metadata,
                   const uint8_t *data) {
    uint64_t bytes = (uint64_t)op->name_bytes + op->metadata_bytes + op->data_bytes;
    if (!mmsb_buffer_reserve(&batch->ops, batch->alloc, batch->ops.size + sizeof *op)) return MMSB_NO_MEMORY;
    if (!mmsb_buffer_reserve(&batch->data, batch->alloc, batch->data.size + bytes)) return MMSB_NO_MEMORY;
    mmsb_op staged = *op;
    staged.data_at = batch->data.size;
    append(&batch->data, name, op->name_bytes);
    append(&batch->data, metadata, op->metadata_bytes);
    append(&batch->data, data, op->data_bytes);
    append(&batch->ops, &staged, sizeof staged);
    return MMSB_OK;
}

int mmsb_batch_add_writes(mmsb_batch *batch, const uint64_t *ids, const uint64_t *offsets, const uint64_t *lengths,
                          uint64_t count, const uint8_t *payload, uint64_t payload_bytes) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++)
        if (lengths[i] > payload_bytes || __builtin_add_overflow(total, lengths[i], &total)) return MMSB_BAD_SIZE;
    if (total != payload_bytes) return MMSB_BAD_SIZE;
    if (count > (SIZE_MAX - batch->ops.size) / sizeof(mmsb_op)) return MMSB_NO_MEMORY;
    if (!mmsb_buffer_reserve(&batch->ops, batch->alloc, batch->ops.size + count * sizeof(mmsb_op)) ||
        !mmsb_buffer_reserve(&batch->data, batch->alloc, batch->data.size + payload_bytes))
        return MMSB_NO_MEMORY;
    uint64_t at = batch->data.size, end = at + payload_bytes;
    mmsb_op *op = mmsb_batch_op(batch, mmsb_batch_count(batch));
    for (uint64_t i = 0; i < count; i++, op++) {
        uint64_t length = __atomic_load_n(&lengths[i], __ATOMIC_RELAXED); /* others may change it meanwhile */
        if (length > end - at) return MMSB_BAD_SIZE;
        *op = (mmsb_op){.kind = MMSB_OP_WRITE,
                        .page_id = ids[i],
                        .offset = offsets[i],
                        .data_at = at,
                        .data_bytes = length,
                        .if_epoch = MMSB_ANY_EPOCH};
        at += length;
    }
    append(&batch->data, payload, payload_bytes);
    batch->ops.size += count * sizeof(mmsb_op);
    return MMSB_OK;
}

/* Copies the part of source[0,count), which stands at `at` of the page, that falls into bytes[0,length) at `offset`. */
static void overlay(uint8_t *bytes, uint64_t offset, uint64_t length, const uint8_t *source, uint64_t at,
                    uint64_t count) {
    uint64_t from = mmsb_max_u64(offset, at);
    uint64_t to = mmsb_min_u64(offset + length, at + count);
    if (from < to) memcpy(bytes + (from - offset), source + (from - at), to - from);
}

int mmsb_batch_overlay(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, uint64_t offset, uint8_t *bytes,
                       uint64_t length) {
    for (uint64_t i = first_op; i < mmsb_batch_count(batch); i++) {
        const mmsb_op *op = mmsb_batch_op(batch, i);
        if (op->page_id != page_id) continue;
        const uint8_t *data = mmsb_batch_data(batch, op);
        if (op->kind == MMSB_OP_WRITE) {
            overlay(bytes, offset, length, data, op->offset, op->data_bytes);
        } else if (op->kind == MMSB_OP_DELTA) {
            mmsb_delta_view view;
            mmsb_run_cursor cursor = {0};
            if (mmsb_delta_parse(op->code, data, op->data_bytes, UINT64_MAX, &view) != MMSB_OK) return MMSB_BAD_DELTA;
            while (mmsb_delta_next_run(&view, &cursor))
                overlay(bytes, offset, length, cursor.values, cursor.offset, cursor.length);
        }
    }
    return MMSB_OK;
}

int mmsb_batch_merge(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, const mmsb_semiring *semiring,
                     uint8_t *page, uint64_t page_bytes, uint8_t *spare) {
    int status = MMSB_OK;
    for (uint64_t i = first_op; i < mmsb_batch_count(batch) && status == MMSB_OK; i++) {
        const mmsb_op *op = mmsb_batch_op(batch, i);
        if (op->page_id != page_id) continue;
        const uint8_t *data = mmsb_batch_data(batch, op);
        if (op->kind == MMSB_OP_WRITE && op->assigns) {
            overlay(page, 0, page_bytes, data, op->offset, op->data_bytes);
        } else if (op->kind == MMSB_OP_WRITE) {
            /* The page may have become shorter since this was staged. */
            if (op->offset > page_bytes || op->data_bytes > page_bytes - op->offset) return MMSB_OUT_OF_BOUNDS;
            status = mmsb_merge_write(semiring, page + op->offset, op->offset, data, op->data_bytes);
        } else if (op->kind == MMSB_OP_DELTA) {
            mmsb_delta_view view;
            status = mmsb_delta_parse(op->code, data, op->data_bytes, page_bytes, &view);
            if (status == MMSB_OK) status = mmsb_merge_delta(semiring, page + view.first, &view, spare);
        }
    }
    return status;
}
