/* One frame: its head and its changes. What is believed can be written again, and gives the bytes that were read. */
#include "frames.h"

static void check_frame(const uint8_t *frame, uint64_t size, uint32_t seed) {
    mmsb_frame_head head;
    const uint8_t *changes, *end;
    uint32_t crc;
    int64_t bytes = mmsb_frame_open(fuzz_kernels(), seed, frame, size, &head, &changes, &end, &crc);
    if (bytes < 0) {
        CHECK(bytes >= MMSB_BEHIND, "no status: %ld", (long)bytes);
        return;
    }
    CHECK((uint64_t)bytes <= size && bytes % 8 == 0 && end == frame + bytes, "a frame of %ld bytes", (long)bytes);
    CHECK(changes > frame && changes <= end, "the changes stand outside");
    uint8_t *again = malloc(size + 8);
    uint8_t *p = mmsb_frame_put_head(again, &head);
    CHECK(p - again == changes - frame, "the head has another length");
    memcpy(p, changes, (uint64_t)(end - changes));
    uint32_t crc_again;
    CHECK(mmsb_frame_close(fuzz_kernels(), seed, again, p + (end - changes), &crc_again) == bytes, "another length");
    CHECK(crc_again == crc && memcmp(again, frame, (uint64_t)bytes) == 0, "the frame is not what was read");
    free(again);
    if (head.kind == MMSB_FRAME_ANCHOR)
        CHECK(end - changes >= MMSB_ANCHOR_BYTES, "an anchor that is cut short");
    else
        check_changes(changes, end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    bool mends = next_byte(&s) & 1;
    uint64_t count, body = left_of(&s) & ~(uint64_t)7;
    if (!mends) {
        uint8_t *frame = next_block(&s, left_of(&s), &count);
        check_frame(frame, count, 0);
        free(frame);
        return 0;
    }
    /* The whole input is the body: it gets the word that belongs to it. */
    if (body == 0) return 0;
    uint8_t *frame = malloc(MMSB_FRAME_WORD_BYTES + body);
    memcpy(frame + MMSB_FRAME_WORD_BYTES, s.at, body);
    uint32_t crc;
    mmsb_frame_close(fuzz_kernels(), 0, frame, frame + MMSB_FRAME_WORD_BYTES + body, &crc);
    check_frame(frame, MMSB_FRAME_WORD_BYTES + body, 0);
    free(frame);
    return 0;
}
