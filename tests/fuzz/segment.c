/* A segment of the log, as recovery reads it: its header, the walk over its frames, the canonical content that anchors
 * are hashes of, and the search for what a lost frame leaves stranded. */
#include "frames.h"

static void check_header(const segment *loaded) {
    uint8_t again[MMSB_SEGMENT_HEADER_BYTES];
    mmsb_segment_head_put(fuzz_kernels(), &loaded->head, again);
    mmsb_segment_head read;
    uint32_t version;
    CHECK(mmsb_segment_head_get(fuzz_kernels(), again, sizeof again, &read, &version) == MMSB_OK, "unreadable");
    CHECK(memcmp(again, loaded->bytes, MMSB_SEGMENT_AT_RESERVED) == 0, "the header is not what was read");
}

/* Writes the canonical content of one commit as docs/formats/log.md tells it. */
static uint8_t *put_canonical(uint8_t *p, const mmsb_log_frame *frame) {
    const uint8_t *changes = frame->changes, *end = frame->end;
    mmsb_change change;
    if (changes < end && *changes == MMSB_CHANGE_SOURCE) changes = mmsb_change_next(changes, end, &change);
    while (changes != NULL && end > changes && end[-1] == 0) end--;
    uint64_t bytes = changes == NULL ? 0 : (uint64_t)(end - changes);
    const uint64_t words[] = {frame->seq, frame->time_ns, frame->head.branch, 0, bytes};
    memcpy(p, words, sizeof words);
    if (bytes != 0) memcpy(p + sizeof words, changes, bytes);
    return p + sizeof words + bytes;
}

static void check_canonical(const segment *loaded, const uint8_t *wanted, uint64_t bytes, uint64_t room) {
    mmsb_log_cursor cursor;
    mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded->head, loaded->bytes, loaded->size);
    uint8_t *out = malloc(room);
    uint64_t done = 0, source = 0;
    for (uint64_t before = UINT64_MAX; cursor.offset != before;) {
        before = cursor.offset;
        uint64_t known = source;
        int64_t count = mmsb_log_canonical(&cursor, fuzz_kernels(), &source, (const uint8_t *)"", 0, out, room);
        CHECK(count >= 0 && (uint64_t)count <= room, "%ld bytes of %lu", (long)count, (unsigned long)room);
        CHECK(done + (uint64_t)count <= bytes && memcmp(out, wanted + done, (uint64_t)count) == 0, "other content");
        done += (uint64_t)count;
        if (source != known) before = UINT64_MAX;
    }
    CHECK(done == bytes || room < bytes, "content is missing");
    free(out);
}

static void check_walk(const segment *loaded) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded->head, loaded->bytes, loaded->size);
    uint8_t *canonical = malloc(loaded->size * 5), *p = canonical;
    uint64_t offset = cursor.offset, seq = cursor.seq, time_ns = cursor.time_ns, durable = cursor.durable_seq;
    uint64_t frames = 0, seq_max = 0;
    int status;
    for (; (status = mmsb_log_cursor_next(&cursor, fuzz_kernels(), &frame)) == MMSB_OK; frames++) {
        bool commits = frame.head.kind == MMSB_FRAME_COMMIT;
        CHECK(frame.offset == offset && cursor.offset == offset + frame.bytes, "a gap between two frames");
        CHECK(cursor.offset <= loaded->size && offset % 8 == 0, "a frame ends outside the segment");
        CHECK(frame.seq == seq + commits && cursor.seq == frame.seq, "seq went from %lu to %lu", (unsigned long)seq,
              (unsigned long)frame.seq);
        CHECK(frame.time_ns >= time_ns, "time went back");
        CHECK(cursor.durable_seq >= durable && frame.head.durable_lag <= frame.seq, "what is durable went back");
        offset = cursor.offset;
        seq = frame.seq;
        time_ns = frame.time_ns;
        durable = cursor.durable_seq;
        if (!commits) continue;
        check_changes(frame.changes, frame.end);
        p = put_canonical(p, &frame);
    }
    CHECK(cursor.offset == offset, "the cursor passed a bad frame");
    check_canonical(loaded, canonical, (uint64_t)(p - canonical), loaded->size * 5);
    check_canonical(loaded, canonical, (uint64_t)(p - canonical), 64);
    free(canonical);
    uint64_t claimed = mmsb_log_stranded(&cursor, fuzz_kernels(), cursor.available, &frames, &seq_max);
    CHECK(claimed <= seq_max && frames <= loaded->size / 16 && (frames != 0 || claimed == 0), "stranded");
    CHECK(cursor.offset == offset, "looking moved the cursor");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    segment loaded = load_segment(&s);
    if (loaded.status == MMSB_OK) {
        check_header(&loaded);
        check_walk(&loaded);
    } else {
        CHECK(loaded.status == MMSB_BAD_HEADER || loaded.status == MMSB_NEWER_VERSION, "status %d", loaded.status);
    }
    free(loaded.bytes);
    return 0;
}
