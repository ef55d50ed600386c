#include "segment.h"

void mmsb_segment_head_put(const mmsb_kernels *kernels, const mmsb_segment_head *head, uint8_t *out) {
    memset(out, 0, MMSB_SEGMENT_HEADER_BYTES);
    memcpy(out + MMSB_SEGMENT_AT_MAGIC, MMSB_SEGMENT_MAGIC, 8);
    mmsb_store_u32(out + MMSB_SEGMENT_AT_VERSION, MMSB_LOG_VERSION);
    mmsb_store_u32(out + MMSB_SEGMENT_AT_HEADER_BYTES, MMSB_SEGMENT_HEADER_BYTES);
    memcpy(out + MMSB_SEGMENT_AT_UUID, head->uuid, 16);
    memcpy(out + MMSB_SEGMENT_AT_SALT, head->salt, 16);
    mmsb_store_u64(out + MMSB_SEGMENT_AT_BASE_SEQ, head->base_seq);
    mmsb_store_u64(out + MMSB_SEGMENT_AT_BASE_TIME, head->base_time_ns);
    mmsb_store_u32(out + MMSB_SEGMENT_AT_PREV_CRC, head->prev_crc);
    mmsb_store_u32(out + MMSB_SEGMENT_AT_NUMBER, head->number);
    mmsb_store_u64(out + MMSB_SEGMENT_AT_CAPACITY, head->capacity);
    memcpy(out + MMSB_SEGMENT_AT_ANCHOR, head->anchor, MMSB_ANCHOR_BYTES);
    mmsb_store_u64(out + MMSB_SEGMENT_AT_DURABLE_SEQ, head->durable_seq);
    mmsb_store_u32(out + MMSB_SEGMENT_AT_CRC, kernels->crc32c(0, out, MMSB_SEGMENT_AT_CRC));
}

int mmsb_segment_head_get(const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available,
                          mmsb_segment_head *head, uint32_t *version) {
    if (available < MMSB_SEGMENT_HEADER_BYTES) return MMSB_BAD_HEADER;
    if (memcmp(bytes, MMSB_SEGMENT_MAGIC, 8) != 0) return MMSB_BAD_HEADER;
    *version = mmsb_load_u32(bytes + MMSB_SEGMENT_AT_VERSION);
    bool intact = kernels->crc32c(0, bytes, MMSB_SEGMENT_AT_CRC) == mmsb_load_u32(bytes + MMSB_SEGMENT_AT_CRC);
    /* A newer version may lay its header out differently, so only the version is read. An intact checksum over our
     * layout with another number, or a broken one with our number, is damage. */
    if (*version > MMSB_LOG_VERSION) return intact ? MMSB_NEWER_VERSION : MMSB_BAD_HEADER;
    if (!intact || *version != MMSB_LOG_VERSION) return MMSB_BAD_HEADER;
    if (mmsb_load_u32(bytes + MMSB_SEGMENT_AT_HEADER_BYTES) != MMSB_SEGMENT_HEADER_BYTES) return MMSB_BAD_HEADER;
    memcpy(head->uuid, bytes + MMSB_SEGMENT_AT_UUID, 16);
    memcpy(head->salt, bytes + MMSB_SEGMENT_AT_SALT, 16);
    head->base_seq = mmsb_load_u64(bytes + MMSB_SEGMENT_AT_BASE_SEQ);
    head->base_time_ns = mmsb_load_u64(bytes + MMSB_SEGMENT_AT_BASE_TIME);
    head->prev_crc = mmsb_load_u32(bytes + MMSB_SEGMENT_AT_PREV_CRC);
    head->number = mmsb_load_u32(bytes + MMSB_SEGMENT_AT_NUMBER);
    head->capacity = mmsb_load_u64(bytes + MMSB_SEGMENT_AT_CAPACITY);
    memcpy(head->anchor, bytes + MMSB_SEGMENT_AT_ANCHOR, MMSB_ANCHOR_BYTES);
    head->durable_seq = mmsb_load_u64(bytes + MMSB_SEGMENT_AT_DURABLE_SEQ);
    if (head->capacity < MMSB_SEGMENT_HEADER_BYTES || head->capacity > MMSB_SEGMENT_BYTES_MAX) return MMSB_BAD_HEADER;
    return MMSB_OK;
}

void mmsb_log_cursor_start(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, const mmsb_segment_head *head,
                           const uint8_t *bytes, uint64_t available) {
    *cursor = (mmsb_log_cursor){
        .bytes = bytes,
        .available = available,
        .offset = MMSB_SEGMENT_HEADER_BYTES,
        .base_seq = head->base_seq,
        .base_time_ns = head->base_time_ns,
        .seq = head->base_seq,
        .time_ns = head->base_time_ns,
        .durable_seq = head->durable_seq,
        .seed = mmsb_frame_seed(kernels, head->salt),
        .last_crc = head->prev_crc,
    };
}

int mmsb_log_cursor_next(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, mmsb_log_frame *frame) {
    if (cursor->offset > cursor->available) return MMSB_BAD_LENGTH;
    uint32_t crc;
    int64_t bytes =
        mmsb_frame_open(kernels, cursor->seed, cursor->bytes + cursor->offset, cursor->available - cursor->offset,
                        &frame->head, &frame->changes, &frame->end, &crc);
    if (bytes < 0) return (int)bytes;
    const mmsb_frame_head *head = &frame->head;
    frame->seq = cursor->base_seq + head->seq_rel;
    frame->time_ns = cursor->base_time_ns + head->time_rel_ns;
    uint64_t expected = head->kind == MMSB_FRAME_COMMIT ? cursor->seq + 1 : cursor->seq;
    if (head->prev_crc != cursor->last_crc || frame->seq != expected || frame->time_ns < cursor->time_ns)
        return MMSB_GAP;
    if (head->durable_lag > frame->seq) return MMSB_BAD_FRAME;
    frame->offset = cursor->offset;
    frame->bytes = (uint64_t)bytes;
    cursor->offset += (uint64_t)bytes;
    cursor->seq = frame->seq;
    cursor->time_ns = frame->time_ns;
    cursor->last_crc = crc;
    cursor->durable_seq = mmsb_max_u64(cursor->durable_seq, frame->seq - head->durable_lag);
    return MMSB_OK;
}

int64_t mmsb_log_canonical(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t *source, const uint8_t *name,
                           uint64_t name_bytes, uint8_t *out, uint64_t room) {
    uint8_t *p = out;
    for (;;) {
        mmsb_log_cursor before = *cursor;
        mmsb_log_frame frame;
        if (mmsb_log_cursor_next(cursor, kernels, &frame) != MMSB_OK) break;
        if (frame.head.kind == MMSB_FRAME_ANCHOR) continue;
        const uint8_t *changes = frame.changes, *end = frame.end;
        bool other = frame.head.source != *source;
        mmsb_change change;
        /* The definition of a source belongs to the segment and not to the commit. It comes first. */
        if (changes < end && *changes == MMSB_CHANGE_SOURCE) changes = mmsb_change_next(changes, end, &change);
        /* Padding depends on the segment too; a payload's own last zeros are implied by its lengths. */
        while (changes != NULL && end > changes && end[-1] == 0) end--;
        uint64_t bytes = changes == NULL ? 0 : (uint64_t)(end - changes);
        if (other || 40 + name_bytes + bytes > room - (uint64_t)(p - out)) {
            *source = frame.head.source;
            *cursor = before;
            break;
        }
        mmsb_store_u64(p, frame.seq);
        mmsb_store_u64(p + 8, frame.time_ns);
        mmsb_store_u64(p + 16, frame.head.branch);
        mmsb_store_u64(p + 24, name_bytes);
        memcpy(p + 32, name, name_bytes);
        p += 32 + name_bytes;
        mmsb_store_u64(p, bytes);
        if (bytes != 0) memcpy(p + 8, changes, bytes);
        p += 8 + bytes;
    }
    return p - out;
}

/* What a search may spend on checksums of what only looks like frames: bytes that were made to look like long ones
 * would take time with the square of their number. */
static uint64_t patience(uint64_t begin, uint64_t end) {
    return ((uint64_t)1 << 30) + (end > begin ? 8 * (end - begin) : 0);
}

/* Whether what stands at a place may be a frame that follows the cursor, by all that its checksum does not tell. */
static bool may_be_intact(const mmsb_log_cursor *cursor, const uint8_t *at, uint64_t available) {
    uint64_t body_bytes = (uint64_t)mmsb_load_u32(at) * MMSB_FRAME_UNIT_BYTES, seq_rel, lag;
    if (body_bytes == 0 || body_bytes > available - MMSB_FRAME_WORD_BYTES) return false;
    const uint8_t *body = at + MMSB_FRAME_WORD_BYTES, *end = body + body_bytes, *p;
    if (body[4] != MMSB_FRAME_COMMIT && body[4] != MMSB_FRAME_ANCHOR) return false;
    if ((p = mmsb_varint_get(body + 5, end, &seq_rel)) == NULL || mmsb_varint_get(p, end, &lag) == NULL) return false;
    uint64_t seq = cursor->base_seq + seq_rel;
    return seq != 0 && seq >= cursor->seq && lag <= seq;
}

/* Searches [offset, end) on every 8-byte boundary for an intact frame of this store that is not older than the cursor.
 * Returns its bytes (0: there is none) and sets *at and *head. Sets *patience_bytes to 0 when more looks like frames
 * than it may read. */
static uint64_t find_intact(const mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t offset, uint64_t end,
                            uint64_t *patience_bytes, uint64_t *at, mmsb_frame_head *head) {
    for (; offset + MMSB_FRAME_WORD_BYTES + MMSB_FRAME_UNIT_BYTES <= end; offset += MMSB_FRAME_UNIT_BYTES) {
        const uint8_t *frame = cursor->bytes + offset, *changes, *changes_end;
        uint64_t available = cursor->available - offset;
        if (mmsb_load_u64(frame) == 0 || !may_be_intact(cursor, frame, available)) continue;
        uint64_t cost_bytes = (uint64_t)mmsb_load_u32(frame) * MMSB_FRAME_UNIT_BYTES;
        if (cost_bytes >= *patience_bytes) {
            *patience_bytes = 0;
            return 0;
        }
        *patience_bytes -= cost_bytes;
        uint32_t crc;
        int64_t bytes = mmsb_frame_open(kernels, cursor->seed, frame, available, head, &changes, &changes_end, &crc);
        if (bytes > 0) {
            *at = offset;
            return (uint64_t)bytes;
        }
    }
    return 0;
}

uint64_t mmsb_log_stranded(const mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t end, uint64_t *frames,
                           uint64_t *seq_max) {
    end = mmsb_min_u64(end, cursor->available);
    uint64_t durable = 0, offset = cursor->offset, bytes, left = patience(offset, end);
    mmsb_frame_head head = {0};
    *frames = *seq_max = 0;
    for (; (bytes = find_intact(cursor, kernels, offset, end, &left, &offset, &head)) != 0; offset += bytes) {
        uint64_t seq = cursor->base_seq + head.seq_rel;
        *frames += 1;
        *seq_max = mmsb_max_u64(*seq_max, seq);
        durable = mmsb_max_u64(durable, seq - head.durable_lag);
    }
    return left == 0 ? cursor->seq + 1 : durable;
}

bool mmsb_log_resume(mmsb_log_cursor *cursor, const mmsb_kernels *kernels) {
    mmsb_frame_head head = {0};
    uint64_t left = patience(cursor->offset, cursor->available);
    if (find_intact(cursor, kernels, cursor->offset, cursor->available, &left, &cursor->offset, &head) == 0)
        return false;
    uint64_t seq = cursor->base_seq + head.seq_rel;
    cursor->seq = head.kind == MMSB_FRAME_COMMIT ? seq - 1 : seq;
    cursor->time_ns = cursor->base_time_ns + head.time_rel_ns;
    cursor->last_crc = head.prev_crc;
    return true;
}
