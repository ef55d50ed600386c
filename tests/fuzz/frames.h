/* Segments of the log out of arbitrary bytes. Checksums and lengths would stop nearly every mutation at the door, so a
 * byte of the input says which of them are made right first; with none, the bytes are taken as they are. */
#ifndef MMSB_FUZZ_FRAMES_H
#define MMSB_FUZZ_FRAMES_H

#include "../../csrc/segment.h"
#include "fuzz.h"

enum {
    AS_IT_IS = 1,     /* the input is a whole segment, header included; else it is frames, behind a header of ours */
    MEND_HEADER = 2,  /* the header's checksum */
    MEND_LENGTHS = 4, /* frames that would end outside the segment */
    MEND_CHAIN = 8,   /* each frame follows the one before */
    MEND_CRCS = 16,   /* the checksum of each frame */
};

typedef struct segment {
    uint8_t *bytes; /* exactly `size` */
    uint64_t size;
    mmsb_segment_head head;
    int status; /* of reading the header */
} segment;

static inline void mend_frames(uint8_t *bytes, uint64_t size, const mmsb_segment_head *head, unsigned mends) {
    const mmsb_kernels *kernels = fuzz_kernels();
    uint32_t seed = mmsb_frame_seed(kernels, head->salt), crc = head->prev_crc;
    for (uint64_t at = MMSB_SEGMENT_HEADER_BYTES; size - at >= 16;) {
        uint64_t room = (size - at - MMSB_FRAME_WORD_BYTES) / MMSB_FRAME_UNIT_BYTES;
        uint32_t units = mmsb_load_u32(bytes + at);
        if (units == 0) return;
        if (units > room) {
            if (!(mends & MEND_LENGTHS)) return;
            units = 1 + (uint32_t)(units % room);
        }
        if (mends & MEND_CHAIN) mmsb_store_u32(bytes + at + MMSB_FRAME_WORD_BYTES, crc);
        uint64_t body = units * MMSB_FRAME_UNIT_BYTES;
        crc = kernels->crc32c(kernels->crc32c(seed, (const uint8_t *)&units, 4), bytes + at + MMSB_FRAME_WORD_BYTES,
                              body);
        if (mends & MEND_CRCS) mmsb_store_u64(bytes + at, units | (uint64_t)crc << 32);
        at += MMSB_FRAME_WORD_BYTES + body;
    }
}

/* Takes the rest of the script for a segment. */
static inline segment load_segment(script *s) {
    unsigned mends = next_byte(s);
    segment loaded = {.status = MMSB_OK};
    uint32_t version;
    if (mends & AS_IT_IS) {
        loaded.bytes = next_block(s, left_of(s), &loaded.size);
        if (mends & MEND_HEADER && loaded.size >= MMSB_SEGMENT_HEADER_BYTES)
            mmsb_store_u32(loaded.bytes + MMSB_SEGMENT_AT_CRC,
                           fuzz_kernels()->crc32c(0, loaded.bytes, MMSB_SEGMENT_AT_CRC));
    } else {
        loaded.size = MMSB_SEGMENT_HEADER_BYTES + left_of(s);
        loaded.bytes = malloc(loaded.size);
        CHECK(loaded.bytes != NULL, "no memory");
        loaded.head = (mmsb_segment_head){.number = 1, .base_time_ns = 1000, .capacity = loaded.size};
        mmsb_segment_head_put(fuzz_kernels(), &loaded.head, loaded.bytes);
        memcpy(loaded.bytes + MMSB_SEGMENT_HEADER_BYTES, s->at, left_of(s));
    }
    loaded.status = mmsb_segment_head_get(fuzz_kernels(), loaded.bytes, loaded.size, &loaded.head, &version);
    if (loaded.status == MMSB_OK) mend_frames(loaded.bytes, loaded.size, &loaded.head, mends);
    return loaded;
}

/* ---- writing what was read: the formats, once more, from their pages in docs/formats */

static inline uint8_t *put_bytes(uint8_t *p, const uint8_t *bytes, uint64_t count) {
    p = mmsb_varint_put(p, count);
    if (count != 0) memcpy(p, bytes, count);
    return p + count;
}

/* Writes a change. `out` has room for what was read and 64 bytes. */
static inline uint8_t *put_change(uint8_t *p, const mmsb_change *change) {
    *p++ = change->kind;
    if (change->kind == MMSB_CHANGE_LABEL || change->kind == MMSB_CHANGE_INTENT)
        return put_bytes(p, change->text, change->text_bytes);
    p = mmsb_varint_put(p, change->page_id);
    switch (change->kind) {
        case MMSB_CHANGE_DELETE:
            return p;
        case MMSB_CHANGE_RESIZE:
            return mmsb_varint_put(p, change->size);
        case MMSB_CHANGE_CREATE:
            p = mmsb_varint_put(mmsb_varint_put(p, change->count), change->size);
            *p++ = change->page_kind;
            *p++ = change->create_flags;
            if (change->create_flags & MMSB_CREATE_NAME) p = put_bytes(p, change->text, change->text_bytes);
            if (change->create_flags & MMSB_CREATE_METADATA) p = put_bytes(p, change->blob, change->blob_bytes);
            if (change->create_flags & MMSB_CREATE_CONTENT) *p++ = change->content_code;
            break;
        default:
            if (change->kind > MMSB_DELTA_BITMAP) return put_bytes(p, change->text, change->text_bytes);
    }
    if (change->payload_bytes != 0) memcpy(p, change->payload, change->payload_bytes);
    return p + change->payload_bytes;
}

/* Reads the changes of a frame, and checks that each of them, written anew, has the bytes that were read. Returns
 * whether they are whole. */
static inline bool check_changes(const uint8_t *p, const uint8_t *end) {
    uint8_t *out = malloc((uint64_t)(end - p) + 64);
    mmsb_change change;
    do {
        const uint8_t *begin = p;
        p = mmsb_change_next(p, end, &change);
        if (p == NULL) break;
        CHECK(p > begin || (begin == end && p == end), "a change that takes no room");
        CHECK(p <= end, "a change ends behind its frame");
        if (change.kind == MMSB_CHANGE_END) {
            CHECK(p == end, "the end is not the end");
            break;
        }
        if (change.kind == MMSB_CHANGE_CREATE) {
            CHECK(change.count == 1 || change.create_flags == 0, "many pages of one name");
            CHECK(change.count != 0 && change.page_id + change.count > change.page_id, "ids that do not ascend");
        }
        uint64_t bytes = (uint64_t)(put_change(out, &change) - out);
        CHECK(bytes == (uint64_t)(p - begin) && memcmp(out, begin, bytes) == 0, "change %d is not what was read",
              change.kind);
    } while (true);
    free(out);
    return p != NULL;
}

#endif
