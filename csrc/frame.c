#include "frame.h"

int64_t mmsb_frame_open(const mmsb_kernels *kernels, uint32_t seed, const uint8_t *frame, uint64_t available,
                        mmsb_frame_head *head, const uint8_t **changes, const uint8_t **end, uint32_t *crc) {
    if (available < MMSB_FRAME_WORD_BYTES) return MMSB_END;
    uint64_t word = mmsb_load_u64(frame);
    if (word == 0) return MMSB_END;
    uint64_t body_bytes = (word & MMSB_FRAME_UNITS_MAX) * MMSB_FRAME_UNIT_BYTES;
    if (body_bytes == 0 || body_bytes > available - MMSB_FRAME_WORD_BYTES) return MMSB_BAD_LENGTH;

    const uint8_t *body = frame + MMSB_FRAME_WORD_BYTES;
    uint32_t units = (uint32_t)word;
    uint32_t sum = kernels->crc32c(kernels->crc32c(seed, (const uint8_t *)&units, 4), body, body_bytes);
    if (sum != (uint32_t)(word >> 32)) return MMSB_BAD_CRC;
    *crc = sum;
    *end = body + body_bytes;

    head->prev_crc = mmsb_load_u32(body);
    head->kind = body[4];
    const uint8_t *p = body + 5;
    if ((p = mmsb_varint_get(p, *end, &head->seq_rel)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, *end, &head->durable_lag)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, *end, &head->time_rel_ns)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, *end, &head->branch)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, *end, &head->source)) == NULL) return MMSB_BAD_FRAME;
    if (head->kind != MMSB_FRAME_COMMIT && head->kind != MMSB_FRAME_ANCHOR) return MMSB_BAD_FRAME;
    if (head->kind == MMSB_FRAME_ANCHOR && *end - p < MMSB_ANCHOR_BYTES) return MMSB_BAD_FRAME;
    *changes = p;
    return (int64_t)(MMSB_FRAME_WORD_BYTES + body_bytes);
}

static const uint8_t *get_bytes(const uint8_t *p, const uint8_t *end, const uint8_t **bytes, uint64_t *count) {
    p = mmsb_varint_get(p, end, count);
    if (p == NULL || *count > (uint64_t)(end - p)) return NULL;
    *bytes = p;
    return p + *count;
}

static const uint8_t *get_payload(const uint8_t *p, const uint8_t *end, uint8_t code, mmsb_change *change) {
    int64_t payload_bytes = mmsb_delta_payload_bytes(code, p, end);
    if (payload_bytes < 0) return NULL;
    change->payload = p;
    change->payload_bytes = (uint64_t)payload_bytes;
    return p + payload_bytes;
}

static const uint8_t *get_create(const uint8_t *p, const uint8_t *end, mmsb_change *change) {
    if ((p = mmsb_varint_get(p, end, &change->page_id)) == NULL) return NULL;
    if ((p = mmsb_varint_get(p, end, &change->count)) == NULL) return NULL;
    if ((p = mmsb_varint_get(p, end, &change->size)) == NULL) return NULL;
    if (end - p < 2) return NULL;
    change->page_kind = p[0];
    change->create_flags = p[1];
    p += 2;
    if (change->create_flags & ~(MMSB_CREATE_NAME | MMSB_CREATE_METADATA | MMSB_CREATE_CONTENT)) return NULL;
    if (change->page_id == 0 || change->count == 0 || change->page_id + change->count < change->page_id) return NULL;
    if (change->create_flags != 0 && change->count != 1) return NULL;
    if (change->create_flags & MMSB_CREATE_NAME) p = get_bytes(p, end, &change->text, &change->text_bytes);
    if (p != NULL && change->create_flags & MMSB_CREATE_METADATA)
        p = get_bytes(p, end, &change->blob, &change->blob_bytes);
    if (p != NULL && change->create_flags & MMSB_CREATE_CONTENT) {
        if (p == end) return NULL;
        change->content_code = *p;
        p = get_payload(p + 1, end, change->content_code, change);
    }
    return p;
}

const uint8_t *mmsb_change_next(const uint8_t *p, const uint8_t *end, mmsb_change *change) {
    if (p == end || *p == MMSB_CHANGE_END) {
        change->kind = MMSB_CHANGE_END;
        while (p < end)
            if (*p++ != 0) return NULL;
        return end;
    }
    change->kind = *p++;
    change->text_bytes = change->blob_bytes = change->payload_bytes = 0;
    switch (change->kind) {
        case MMSB_DELTA_DENSE:
        case MMSB_DELTA_RUNS:
        case MMSB_DELTA_BITMAP:
            if ((p = mmsb_varint_get(p, end, &change->page_id)) == NULL) return NULL;
            return get_payload(p, end, change->kind, change);
        case MMSB_CHANGE_CREATE:
            return get_create(p, end, change);
        case MMSB_CHANGE_DELETE:
            return mmsb_varint_get(p, end, &change->page_id);
        case MMSB_CHANGE_RESIZE:
            if ((p = mmsb_varint_get(p, end, &change->page_id)) == NULL) return NULL;
            return mmsb_varint_get(p, end, &change->size);
        case MMSB_CHANGE_RENAME:
        case MMSB_CHANGE_METADATA:
        case MMSB_CHANGE_SOURCE:
        case MMSB_CHANGE_LINK:
        case MMSB_CHANGE_UNLINK:
        case MMSB_CHANGE_WAVE:
            if ((p = mmsb_varint_get(p, end, &change->page_id)) == NULL) return NULL;
            return get_bytes(p, end, &change->text, &change->text_bytes);
        case MMSB_CHANGE_LABEL:
        case MMSB_CHANGE_INTENT:
            return get_bytes(p, end, &change->text, &change->text_bytes);
        default:
            return NULL;
    }
}
