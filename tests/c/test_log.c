/* Frames, segment headers and the cursor: what is written is read back field by field, and every cut, every flipped
 * bit and every contradiction with a right checksum is refused. Each input lies in a block of its own size, so that
 * the sanitizers see a read behind it. */
#include "../../csrc/segment.h"
#include "check.h"

#define ROOM 4096
#define BASE_SEQ 10
#define BASE_TIME 1000

static mmsb_kernels kernels;
static mmsb_segment_head head = {.base_seq = BASE_SEQ,
                                 .base_time_ns = BASE_TIME,
                                 .capacity = ROOM,
                                 .durable_seq = 8,
                                 .prev_crc = 0x01020304,
                                 .number = 3};

static uint64_t load(const uint8_t *p, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)p[i] << 8 * i;
    return value;
}

/* ---- the header of a segment */

static void seal_head(uint8_t *bytes) {
    mmsb_store_u32(bytes + MMSB_SEGMENT_AT_CRC, kernels.crc32c(0, bytes, MMSB_SEGMENT_AT_CRC));
}

static void test_head_is_laid_out_as_documented(void) {
    uint8_t bytes[MMSB_SEGMENT_HEADER_BYTES];
    memset(bytes, 0xee, sizeof bytes);
    mmsb_segment_head_put(&kernels, &head, bytes);
    CHECK(memcmp(bytes, "MMSBSEG1", 8) == 0 && load(bytes + 8, 4) == 1 && load(bytes + 12, 4) == 128, "identity");
    CHECK(memcmp(bytes + 16, head.uuid, 16) == 0 && memcmp(bytes + 32, head.salt, 16) == 0, "uuid, salt");
    CHECK(load(bytes + 48, 8) == BASE_SEQ && load(bytes + 56, 8) == BASE_TIME, "base");
    CHECK(load(bytes + 64, 4) == 0x01020304 && load(bytes + 68, 4) == 3 && load(bytes + 72, 8) == ROOM, "number");
    CHECK(memcmp(bytes + 80, head.anchor, 32) == 0 && load(bytes + 112, 8) == 8, "anchor, durable seq");
    CHECK(load(bytes + 120, 4) == 0 && load(bytes + 124, 4) == kernels.crc32c(0, bytes, 124), "reserved, checksum");
    mmsb_segment_head back;
    uint32_t version = 0;
    CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes, &back, &version) == MMSB_OK && version == 1, "get");
    CHECK(memcmp(back.uuid, head.uuid, 16) == 0 && memcmp(back.salt, head.salt, 16) == 0, "uuid, salt");
    CHECK(memcmp(back.anchor, head.anchor, MMSB_ANCHOR_BYTES) == 0 && back.durable_seq == 8, "anchor");
    CHECK(back.base_seq == BASE_SEQ && back.base_time_ns == BASE_TIME && back.capacity == ROOM, "base");
    CHECK(back.prev_crc == 0x01020304 && back.number == 3, "number");
}

static void test_head_refuses(void) {
    uint8_t bytes[MMSB_SEGMENT_HEADER_BYTES];
    mmsb_segment_head back;
    uint32_t version = 0;
    mmsb_segment_head_put(&kernels, &head, bytes);
    CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes - 1, &back, &version) == MMSB_BAD_HEADER, "cut");
    for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes, &back, &version) == MMSB_BAD_HEADER, "bit %u", bit);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    static const struct {
        unsigned at;
        uint8_t value;
        int status;
    } sealed[] = {{0, 'm', MMSB_BAD_HEADER},
                  {MMSB_SEGMENT_AT_VERSION, 0, MMSB_BAD_HEADER},
                  {MMSB_SEGMENT_AT_VERSION, 2, MMSB_NEWER_VERSION},
                  {MMSB_SEGMENT_AT_HEADER_BYTES, 127, MMSB_BAD_HEADER}};
    for (unsigned i = 0; i < sizeof sealed / sizeof *sealed; i++) {
        mmsb_segment_head_put(&kernels, &head, bytes);
        bytes[sealed[i].at] = sealed[i].value;
        seal_head(bytes);
        CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes, &back, &version) == sealed[i].status, "case %u", i);
    }
    CHECK(version == 1, "the version of the last one");
    mmsb_segment_head_put(&kernels, &head, bytes);
    bytes[MMSB_SEGMENT_AT_VERSION] = 7;
    seal_head(bytes);
    CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes, &back, &version) == MMSB_NEWER_VERSION && version == 7,
          "a newer one says which");
    static const struct {
        uint64_t bytes;
        int status;
    } capacities[] = {{MMSB_SEGMENT_HEADER_BYTES - 1, MMSB_BAD_HEADER},
                      {MMSB_SEGMENT_HEADER_BYTES, MMSB_OK},
                      {MMSB_SEGMENT_BYTES_MAX, MMSB_OK},
                      {MMSB_SEGMENT_BYTES_MAX + 1, MMSB_BAD_HEADER}};
    for (unsigned i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        mmsb_segment_head_put(&kernels, &head, bytes);
        mmsb_store_u64(bytes + MMSB_SEGMENT_AT_CAPACITY, capacities[i].bytes);
        seal_head(bytes);
        CHECK(mmsb_segment_head_get(&kernels, bytes, sizeof bytes, &back, &version) == capacities[i].status,
              "capacity %u", i);
    }
}

/* ---- changes */

/* Every kind of change once, in the shortest form of docs/formats/log.md. */
static const uint8_t source[] = {23, 1, 3, 's', 'r', 'c'};
static const uint8_t create[] = {16, 5, 1, 9, 0, 7, 2, 'n', 'm', 3, 'm', 'e', 't', 1, 2, 3, 'a', 'b', 'c'};
static const uint8_t creates[] = {16, 6, 100, 9, 1, 0};
static const uint8_t dense[] = {1, 5, 0, 2, 'x', 'y'};
static const uint8_t runs[] = {2, 5, 3, 2, 5, 1, 'p', 'q', 'r', 's'}; /* byte 1, then 3 bytes from 4 */
static const uint8_t bitmap[] = {3, 5, 2, 9, 0x05, 0x01, 'u', 'v', 'w'};
static const uint8_t deleted[] = {17, 0x80, 1};
static const uint8_t resize[] = {18, 5, 0x90, 1};
static const uint8_t renamed[] = {19, 5, 2, 'n', '2'};
static const uint8_t metadata[] = {20, 5, 1, 'M'};
static const uint8_t label[] = {21, 2, 'l', 'b'};
static const uint8_t intent[] = {22, 3, 'i', 'n', 't'};
static const uint8_t linked[] = {24, 5, 1, 'L'};
static const uint8_t unlinked[] = {25, 5, 1, 'U'};
static const uint8_t wave[] = {26, 1, 2, 'w', 'v'};

#define WITH(bytes) {bytes, sizeof bytes}
static const struct {
    const uint8_t *bytes;
    uint64_t size;
} every[] = {WITH(source), WITH(create),  WITH(creates), WITH(dense),    WITH(runs),
             WITH(bitmap), WITH(deleted), WITH(resize),  WITH(renamed),  WITH(metadata),
             WITH(label),  WITH(intent),  WITH(linked),  WITH(unlinked), WITH(wave)};
#define KINDS (sizeof every / sizeof *every)

/* Reads one change that lies in a block of its own size. NULL, or how many bytes it takes as a pointer difference. */
static const uint8_t *next_alone(const uint8_t *bytes, uint64_t size, mmsb_change *change, int64_t *taken) {
    uint8_t *block = malloc(size + 1); /* one more, so that an empty one has an address */
    CHECK(block != NULL, "no memory");
    memcpy(block + 1, bytes, size);
    const uint8_t *after = mmsb_change_next(block + 1, block + 1 + size, change);
    *taken = after == NULL ? -1 : after - (block + 1);
    free(block);
    return after;
}

static void test_every_change_is_read_back(void) {
    mmsb_change c;
    CHECK(mmsb_change_next(source, source + sizeof source, &c) == source + sizeof source && c.kind == 23, "source");
    CHECK(c.page_id == 1 && c.text_bytes == 3 && memcmp(c.text, "src", 3) == 0, "source");
    CHECK(mmsb_change_next(create, create + sizeof create, &c) == create + sizeof create, "create");
    CHECK(c.page_id == 5 && c.count == 1 && c.size == 9 && c.page_kind == 0 && c.create_flags == 7, "create");
    CHECK(c.text_bytes == 2 && memcmp(c.text, "nm", 2) == 0, "its name");
    CHECK(c.blob_bytes == 3 && memcmp(c.blob, "met", 3) == 0, "its metadata");
    CHECK(c.content_code == 1 && c.payload == create + 14 && c.payload_bytes == 5, "its content");
    CHECK(mmsb_change_next(creates, creates + sizeof creates, &c) == creates + sizeof creates, "creates");
    CHECK(c.page_id == 6 && c.count == 100 && c.size == 9 && c.page_kind == 1 && c.create_flags == 0, "creates");
    CHECK(c.text_bytes == 0 && c.blob_bytes == 0 && c.payload_bytes == 0, "nothing of the change before");
    CHECK(mmsb_change_next(dense, dense + sizeof dense, &c) == dense + sizeof dense && c.kind == 1, "dense");
    CHECK(c.page_id == 5 && c.payload == dense + 2 && c.payload_bytes == 4, "dense");
    CHECK(mmsb_change_next(runs, runs + sizeof runs, &c) == runs + sizeof runs && c.payload_bytes == 8, "runs");
    CHECK(mmsb_change_next(bitmap, bitmap + sizeof bitmap, &c) == bitmap + sizeof bitmap && c.kind == 3, "bitmap");
    CHECK(mmsb_change_next(deleted, deleted + sizeof deleted, &c) != NULL && c.page_id == 128, "delete");
    CHECK(mmsb_change_next(resize, resize + sizeof resize, &c) != NULL && c.page_id == 5 && c.size == 144, "resize");
    for (unsigned i = 8; i < KINDS; i++) {
        const uint8_t *bytes = every[i].bytes, *end = bytes + every[i].size;
        bool paged = bytes[0] != 21 && bytes[0] != 22;
        CHECK(mmsb_change_next(bytes, end, &c) == end && c.kind == bytes[0], "kind %u", bytes[0]);
        CHECK(!paged || c.page_id == bytes[1], "page of kind %u", bytes[0]);
        CHECK(c.text_bytes == bytes[1 + paged] && c.text + c.text_bytes == end, "text of kind %u", bytes[0]);
    }
    CHECK(mmsb_change_next(wave, wave, &c) == wave && c.kind == MMSB_CHANGE_END, "nothing is the end");
}

static void test_changes_are_refused_when_cut(void) {
    mmsb_change change;
    int64_t taken;
    for (unsigned i = 0; i < KINDS; i++)
        for (uint64_t size = 1; size < every[i].size; size++) {
            /* The runs of a delta may be cut where a shorter delta ends: never here, their values come last. */
            CHECK(next_alone(every[i].bytes, size, &change, &taken) == NULL, "kind %u cut at %lu", every[i].bytes[0],
                  (unsigned long)size);
        }
}

static void test_changes_that_contradict_themselves(void) {
    static const uint8_t wrong[][12] = {
        {16, 1, 1, 1, 0, 8},             /* an unknown flag */
        {16, 0, 1, 1, 0, 0},             /* page 0 */
        {16, 1, 0, 1, 0, 0},             /* none */
        {16, 1, 2, 1, 0, 1, 1, 'n'},     /* two pages of one name */
        {16, 1, 1, 1, 0, 1, 200, 1},     /* a name that goes past the end */
        {16, 1, 1, 1, 0, 2, 200, 1},     /* metadata that do */
        {16, 1, 1, 1, 0, 4, 4, 0, 1, 1}, /* content of a reserved code */
        {16, 1, 1, 1, 0, 4, 0, 0, 0, 0}, /* of no code */
        {4, 1, 0, 1, 1},                 /* deltas of reserved codes */
        {5, 1, 0, 1, 1},
        {6, 1, 0, 1, 1},
        {15, 1, 0, 1, 1},
        {27, 1, 0, 1, 1},
        {255},
        {0, 0, 1}, /* padding that is not zero */
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
        {1, 5, 0, 200, 1},                                             /* values that go past the end */
        {17, 0x80, 0},                                                 /* a number longer than it need be */
        {17, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, /* of 65 bits */
        {17, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
    };
    mmsb_change change;
    int64_t taken;
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(next_alone(wrong[i], sizeof *wrong, &change, &taken) == NULL, "case %u", i);
    static const uint8_t wraps[] = {16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 1, 0, 0};
    CHECK(next_alone(wraps, sizeof wraps, &change, &taken) == NULL, "ids that wrap around");
    static const uint8_t last[] = {17, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    CHECK(next_alone(last, sizeof last, &change, &taken) != NULL && change.page_id == UINT64_MAX, "the last number");
    static const uint8_t padded[] = {0, 0, 0};
    CHECK(next_alone(padded, 3, &change, &taken) != NULL && taken == 3 && change.kind == MMSB_CHANGE_END, "padding");
}

/* ---- frames */

/* Writes a frame at `at`; its bytes. `body` follows its head. */
static uint64_t put_frame(uint8_t *at, mmsb_frame_head frame, const uint8_t *body, uint64_t size, uint32_t *crc) {
    uint8_t *p = mmsb_frame_put_head(at, &frame);
    if (size != 0) memcpy(p, body, size);
    int64_t bytes = mmsb_frame_close(&kernels, mmsb_frame_seed(&kernels, head.salt), at, p + size, crc);
    CHECK(bytes > 0 && bytes % 8 == 0, "%ld", (long)bytes);
    return (uint64_t)bytes;
}

/* A segment: commit 11 with every change, an anchor, commits 12 (of a source) and 13. Where each frame stands. */
typedef struct segment {
    uint8_t bytes[ROOM];
    uint64_t at[4], end;
    uint32_t crc[4];
} segment;

static void make_segment(segment *s) {
    memset(s, 0, sizeof *s);
    mmsb_segment_head_put(&kernels, &head, s->bytes);
    uint8_t all[512], anchor[MMSB_ANCHOR_BYTES];
    uint64_t size = 0, at = MMSB_SEGMENT_HEADER_BYTES;
    for (unsigned i = 0; i < KINDS; size += every[i++].size) memcpy(all + size, every[i].bytes, every[i].size);
    memset(anchor, 0xa5, sizeof anchor);
    const mmsb_frame_head heads[] = {
        {.kind = 1, .seq_rel = 1, .durable_lag = 2, .time_rel_ns = 500, .branch = 300, .source = 1},
        {.kind = 2, .seq_rel = 1, .durable_lag = 1, .time_rel_ns = 500},
        {.kind = 1, .seq_rel = 2, .durable_lag = 5, .time_rel_ns = 500, .source = 1},
        {.kind = 1, .seq_rel = 3, .durable_lag = 0, .time_rel_ns = 700},
    };
    const uint8_t *bodies[] = {all, anchor, dense, label};
    const uint64_t sizes[] = {size, sizeof anchor, sizeof dense, sizeof label};
    uint32_t last = head.prev_crc;
    for (unsigned i = 0; i < 4; i++) {
        mmsb_frame_head frame = heads[i];
        frame.prev_crc = last;
        s->at[i] = at;
        at += put_frame(s->bytes + at, frame, bodies[i], sizes[i], &s->crc[i]);
        last = s->crc[i];
    }
    s->end = at;
}

/* A cursor before the first frame of a copy of the segment that has `size` bytes exactly. */
static uint8_t *start(mmsb_log_cursor *cursor, const segment *s, uint64_t size) {
    uint8_t *block = malloc(size);
    CHECK(block != NULL, "no memory");
    memcpy(block, s->bytes, size);
    mmsb_log_cursor_start(cursor, &kernels, &head, block, size);
    return block;
}

static void test_cursor_reads_all(void) {
    segment s;
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    make_segment(&s);
    uint8_t *block = start(&cursor, &s, ROOM);
    CHECK(cursor.seq == BASE_SEQ && cursor.time_ns == BASE_TIME && cursor.durable_seq == 8, "start");
    static const uint64_t seqs[] = {11, 11, 12, 13}, times[] = {1500, 1500, 1500, 1700}, durable[] = {9, 10, 10, 13};
    static const uint64_t lags[] = {2, 1, 5, 0}, branches[] = {300, 0, 0, 0}, sources[] = {1, 0, 1, 0};
    for (unsigned i = 0; i < 4; i++) {
        CHECK(mmsb_log_cursor_next(&cursor, &kernels, &frame) == MMSB_OK, "frame %u", i);
        CHECK(frame.offset == s.at[i] && frame.bytes == (i < 3 ? s.at[i + 1] : s.end) - s.at[i], "place %u", i);
        CHECK(frame.seq == seqs[i] && frame.time_ns == times[i] && frame.head.durable_lag == lags[i], "frame %u", i);
        CHECK(frame.head.branch == branches[i] && frame.head.source == sources[i], "source %u", i);
        CHECK(frame.head.kind == (i == 1 ? 2 : 1) && frame.head.seq_rel == seqs[i] - BASE_SEQ, "kind %u", i);
        CHECK(cursor.seq == seqs[i] && cursor.time_ns == times[i] && cursor.last_crc == s.crc[i], "cursor %u", i);
        CHECK(cursor.durable_seq == durable[i] && cursor.offset == s.at[i] + frame.bytes, "cursor %u", i);
        CHECK(frame.head.prev_crc == (i == 0 ? head.prev_crc : s.crc[i - 1]), "chain %u", i);
        CHECK(frame.end == block + cursor.offset && frame.changes < frame.end, "changes %u", i);
    }
    CHECK(mmsb_log_cursor_next(&cursor, &kernels, &frame) == MMSB_END && cursor.offset == s.end, "end");
    cursor.offset = ROOM + 8;
    CHECK(mmsb_log_cursor_next(&cursor, &kernels, &frame) == MMSB_BAD_LENGTH, "behind the end");
    free(block);
}

/* How many frames a cursor reads, and why it stops. */
static unsigned count_frames(const segment *s, uint64_t size, int *status) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    uint8_t *block = start(&cursor, s, size);
    unsigned count = 0;
    while ((*status = mmsb_log_cursor_next(&cursor, &kernels, &frame)) == MMSB_OK) count++;
    CHECK(cursor.offset == (count < 4 ? s->at[count] : s->end), "it still stands before the bad frame");
    free(block);
    return count;
}

static void test_cursor_finds_every_flipped_bit_and_cut(void) {
    segment s;
    int status;
    make_segment(&s);
    for (uint64_t bit = s.at[0] * 8; bit < s.end * 8; bit++) {
        unsigned at = 0;
        while (at < 3 && bit / 8 >= s.at[at + 1]) at++;
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(count_frames(&s, ROOM, &status) == at && (status == MMSB_BAD_CRC || status == MMSB_BAD_LENGTH),
              "bit %lu: %d", (unsigned long)bit, status);
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (uint64_t size = s.at[0]; size < s.end; size++) {
        unsigned at = 0;
        while (at < 3 && size >= s.at[at + 1]) at++;
        CHECK(count_frames(&s, size, &status) == at, "cut at %lu", (unsigned long)size);
        CHECK(status == (size - s.at[at] < 8 ? MMSB_END : MMSB_BAD_LENGTH), "cut at %lu", (unsigned long)size);
    }
    memset(s.bytes + s.at[2], 0, 8);
    CHECK(count_frames(&s, ROOM, &status) == 2 && status == MMSB_END, "a word of zero is the end");
    mmsb_store_u64(s.bytes + s.at[2], 0x1234567800000000u);
    CHECK(count_frames(&s, ROOM, &status) == 2 && status == MMSB_BAD_LENGTH, "a body of no bytes");
}

/* Replaces the last frame by one with a right checksum that must be refused. */
static void refuse(mmsb_frame_head frame, const uint8_t *body, uint64_t size, int expected) {
    segment s;
    int status;
    uint32_t crc;
    make_segment(&s);
    if (frame.prev_crc == 0) frame.prev_crc = s.crc[2];
    memset(s.bytes + s.at[3], 0, ROOM - s.at[3]);
    s.end = s.at[3] + put_frame(s.bytes + s.at[3], frame, body, size, &crc);
    unsigned count = count_frames(&s, ROOM, &status);
    CHECK(status == expected && count == (expected == MMSB_END ? 4 : 3), "%d after %u frames", status, count);
}

static void test_frames_that_do_not_follow(void) {
    const mmsb_frame_head good = {.kind = 1, .seq_rel = 3, .time_rel_ns = 500, .durable_lag = 13};
    mmsb_frame_head frame = good;
    uint8_t anchor[MMSB_ANCHOR_BYTES] = {0};
#define WRONG(member, value, expected) \
    frame = good;                      \
    frame.member = value;              \
    refuse(frame, label, sizeof label, expected)
    refuse(good, label, sizeof label, MMSB_END);
    WRONG(prev_crc, 7, MMSB_GAP);
    WRONG(seq_rel, 2, MMSB_GAP);
    WRONG(seq_rel, 4, MMSB_GAP);
    WRONG(time_rel_ns, 499, MMSB_GAP);
    WRONG(durable_lag, 14, MMSB_BAD_FRAME);
    WRONG(kind, 0, MMSB_BAD_FRAME);
    WRONG(kind, 3, MMSB_BAD_FRAME);
#undef WRONG
    frame = good;
    frame.kind = MMSB_FRAME_ANCHOR;
    refuse(frame, anchor, sizeof anchor, MMSB_GAP); /* an anchor takes no seq */
    frame.seq_rel = 2;
    frame.durable_lag = 12;
    refuse(frame, anchor, sizeof anchor, MMSB_END);
    refuse(frame, anchor, sizeof anchor - 8, MMSB_BAD_FRAME);
    frame.time_rel_ns = (uint64_t)1 << 43; /* so long that the anchor ends where the frame does */
    refuse(frame, anchor, sizeof anchor, MMSB_END);
}

/* Heads whose numbers are cut: `whole` numbers of one byte, then one that goes on past the end of the body. */
static void test_heads_that_are_cut(void) {
    uint8_t *frame = malloc(24);
    CHECK(frame != NULL, "no memory");
    mmsb_frame_head out;
    const uint8_t *changes, *end;
    uint32_t crc, sealed, seed = mmsb_frame_seed(&kernels, head.salt);
    for (unsigned whole = 0; whole < 6; whole++) {
        unsigned body = whole < 3 ? 8 : 16;
        memset(frame, 0, 24);
        frame[12] = MMSB_FRAME_COMMIT;
        for (unsigned i = 13; i < 8 + body; i++) frame[i] = i - 13 < whole ? 1 : 0x80;
        if (whole == 5) memset(frame + 18, 0, 6);
        CHECK(mmsb_frame_close(&kernels, seed, frame, frame + 8 + body, &sealed) == 8 + (int64_t)body, "close");
        int64_t bytes = mmsb_frame_open(&kernels, seed, frame, 8 + body, &out, &changes, &end, &crc);
        CHECK(bytes == (whole < 5 ? MMSB_BAD_FRAME : 8 + (int64_t)body), "%u numbers: %ld", whole, (long)bytes);
        if (whole == 5) CHECK(crc == sealed && changes == frame + 18 && end == frame + 24, "open");
    }
    free(frame);
}

/* ---- what anchors are the hash of */

static uint64_t expect(uint8_t *p, uint64_t seq, uint64_t time, uint64_t branch, const char *name, const uint8_t *body,
                       uint64_t size) {
    uint64_t name_bytes = strlen(name);
    mmsb_store_u64(p, seq);
    mmsb_store_u64(p + 8, time);
    mmsb_store_u64(p + 16, branch);
    mmsb_store_u64(p + 24, name_bytes);
    memcpy(p + 32, name, name_bytes);
    mmsb_store_u64(p + 32 + name_bytes, size);
    memcpy(p + 40 + name_bytes, body, size);
    return 40 + name_bytes + size;
}

static void test_canonical_content(void) {
    segment s;
    make_segment(&s);
    uint8_t all[512], expected[1024], *out = malloc(1024);
    CHECK(out != NULL, "no memory");
    uint64_t size = 0, source_id = 0;
    for (unsigned i = 1; i < KINDS; size += every[i++].size) memcpy(all + size, every[i].bytes, every[i].size);
    mmsb_log_cursor cursor;
    uint8_t *block = start(&cursor, &s, ROOM);
    CHECK(mmsb_log_canonical(&cursor, &kernels, &source_id, (const uint8_t *)"", 0, out, 1024) == 0 && source_id == 1,
          "another one");
    CHECK(cursor.offset == s.at[0] && cursor.seq == BASE_SEQ, "nothing was passed");
    /* Both commits of the source, the anchor between them passed over, without the definition and the padding. */
    uint64_t bytes = expect(expected, 11, 1500, 300, "src", all, size);
    bytes += expect(expected + bytes, 12, 1500, 0, "src", dense, sizeof dense);
    const mmsb_log_cursor first = cursor;
    for (uint64_t room = bytes - 1; room <= bytes; room++) {
        cursor = first;
        source_id = 1;
        uint8_t *exact = malloc(room);
        CHECK(exact != NULL, "no memory");
        int64_t got = mmsb_log_canonical(&cursor, &kernels, &source_id, (const uint8_t *)"src", 3, exact, room);
        uint64_t wanted = room == bytes ? bytes : bytes - 43 - sizeof dense;
        CHECK(got == (int64_t)wanted && memcmp(exact, expected, wanted) == 0, "room %lu", (unsigned long)room);
        CHECK(source_id == (room == bytes ? 0 : 1) && cursor.seq == (room == bytes ? 12 : 11), "where it stopped");
        CHECK(cursor.offset == (room == bytes ? s.at[3] : s.at[2]), "it stands before the commit that is left");
        free(exact);
    }
    int64_t got = mmsb_log_canonical(&cursor, &kernels, &source_id, (const uint8_t *)"", 0, out, 1024);
    CHECK(got == (int64_t)expect(expected, 13, 1700, 0, "", label, sizeof label), "the last commit");
    CHECK(memcmp(out, expected, (uint64_t)got) == 0 && cursor.offset == s.end && source_id == 0, "the last commit");
    free(block);

    /* A commit that changes nothing, and one that says nothing but what its source is called. */
    static const uint8_t empty[] = {23, 1, 1, 's'};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t crc;
        make_segment(&s);
        mmsb_frame_head frame = {.prev_crc = head.prev_crc, .kind = 1, .seq_rel = 1, .source = i};
        memset(s.bytes + s.at[0], 0, ROOM - s.at[0]);
        (void)put_frame(s.bytes + s.at[0], frame, empty, i == 0 ? 0 : sizeof empty, &crc);
        block = start(&cursor, &s, ROOM);
        source_id = i;
        got = mmsb_log_canonical(&cursor, &kernels, &source_id, (const uint8_t *)"s", i, out, 1024);
        CHECK(got == (int64_t)expect(expected, 11, BASE_TIME, 0, i == 0 ? "" : "s", empty, 0), "%ld", (long)got);
        CHECK(memcmp(out, expected, (uint64_t)got) == 0, "nothing");
        free(block);
    }
    /* Malformed changes behind a right checksum: the definition cannot be told from the rest. */
    uint32_t crc;
    static const uint8_t broken[] = {23, 1, 200};
    make_segment(&s);
    memset(s.bytes + s.at[0], 0, ROOM - s.at[0]);
    mmsb_frame_head frame = {.prev_crc = head.prev_crc, .kind = 1, .seq_rel = 1};
    (void)put_frame(s.bytes + s.at[0], frame, broken, sizeof broken, &crc);
    block = start(&cursor, &s, ROOM);
    source_id = 0;
    got = mmsb_log_canonical(&cursor, &kernels, &source_id, (const uint8_t *)"", 0, out, 1024);
    CHECK(got == (int64_t)expect(expected, 11, BASE_TIME, 0, "", broken, 0), "%ld", (long)got);
    free(block);
    free(out);
}

/* ---- what damage leaves stranded */

static uint64_t stranded(const segment *s, uint64_t size, uint64_t at, uint64_t seq, uint64_t *frames,
                         uint64_t *seq_max) {
    mmsb_log_cursor cursor;
    uint8_t *block = start(&cursor, s, size);
    cursor.offset = at + MMSB_FRAME_UNIT_BYTES; /* inside the frame that is taken for damaged */
    cursor.seq = seq;
    uint64_t durable = mmsb_log_stranded(&cursor, &kernels, cursor.available, frames, seq_max);
    free(block);
    return durable;
}

/* Every 8 bytes look like a commit of half a MiB: whoever summed them all would read thousands of times what is there.
 * The search gives up, and says that what is missing may have been durable. */
static void test_endless_frames(void) {
    segment s;
    make_segment(&s);
    mmsb_log_cursor cursor;
    uint8_t *small = start(&cursor, &s, ROOM);
    const uint64_t room = 4u << 20;
    uint8_t *bytes = malloc(room);
    CHECK(bytes != NULL, "memory");
    memcpy(bytes, small, ROOM);
    const uint8_t unit[MMSB_FRAME_UNIT_BYTES] = {0, 0, 1, 0, MMSB_FRAME_COMMIT, 20, 0, 0};
    for (uint64_t at = s.end; at < room; at += sizeof unit) memcpy(bytes + at, unit, sizeof unit);
    cursor.bytes = bytes;
    cursor.available = room;
    cursor.offset = s.end;
    cursor.seq = 13;
    uint64_t frames, seq_max;
    mmsb_log_cursor other = cursor;
    CHECK(mmsb_log_stranded(&cursor, &kernels, room, &frames, &seq_max) == 14 && frames == 0, "patience");
    CHECK(!mmsb_log_resume(&other, &kernels) && other.offset == s.end, "nothing to go on with");
    /* As far as the file has data, and no further. */
    CHECK(mmsb_log_stranded(&cursor, &kernels, s.end + 4096, &frames, &seq_max) == 0 && frames == 0, "the data's end");
    CHECK(mmsb_log_stranded(&cursor, &kernels, s.end - 8, &frames, &seq_max) == 0 && frames == 0, "nowhere to look");
    free(bytes);
    free(small);
}

static void test_stranded_frames(void) {
    segment s;
    uint64_t frames, seq_max;
    make_segment(&s);
    CHECK(stranded(&s, ROOM, s.at[0], 10, &frames, &seq_max) == 13 && frames == 3 && seq_max == 13, "after the first");
    CHECK(stranded(&s, ROOM, s.at[1], 11, &frames, &seq_max) == 13 && frames == 2 && seq_max == 13, "after the second");
    CHECK(stranded(&s, s.at[3] + 8, s.at[0], 10, &frames, &seq_max) == 10 && frames == 2 && seq_max == 12, "cut");
    CHECK(stranded(&s, s.end, s.at[2], 12, &frames, &seq_max) == 13 && frames == 1 && seq_max == 13, "at the very end");
    CHECK(stranded(&s, s.end, s.end, 13, &frames, &seq_max) == 0 && frames == 0 && seq_max == 0, "nothing behind it");
    /* Frames of before the cursor are what a reused file holds, and prove nothing. */
    CHECK(stranded(&s, ROOM, s.at[0], 13, &frames, &seq_max) == 13 && frames == 1 && seq_max == 13, "the past");
    CHECK(stranded(&s, ROOM, s.at[0], 14, &frames, &seq_max) == 0 && frames == 0, "the past");
    /* One that claims more than there is. */
    uint32_t crc;
    mmsb_frame_head frame = {.kind = 1, .seq_rel = 3, .durable_lag = 14};
    memset(s.bytes + s.at[3], 0, ROOM - s.at[3]);
    (void)put_frame(s.bytes + s.at[3], frame, label, sizeof label, &crc);
    CHECK(stranded(&s, ROOM, s.at[2], 12, &frames, &seq_max) == 0 && frames == 0, "it claims to be durable before 0");
    /* The smallest frame, in the last place there is. */
    memset(s.bytes + s.at[3], 0, ROOM - s.at[3]);
    frame = (mmsb_frame_head){.kind = 1, .seq_rel = 3};
    uint8_t *last = s.bytes + ROOM - 24;
    CHECK(put_frame(last, frame, NULL, 0, &crc) == 24, "the smallest");
    CHECK(stranded(&s, ROOM, s.at[2], 12, &frames, &seq_max) == 13 && frames == 1, "in the last place");
    CHECK(stranded(&s, ROOM, ROOM - 24, 12, &frames, &seq_max) == 0 && frames == 0,
          "not the one that it stands before");
    /* One that is there, but not all of it may be read; one of which nothing is durable. */
    mmsb_log_cursor cursor;
    mmsb_log_cursor_start(&cursor, &kernels, &head, s.bytes, ROOM - 8);
    CHECK(mmsb_log_stranded(&cursor, &kernels, cursor.available, &frames, &seq_max) == 10 && frames == 3 &&
              seq_max == 12,
          "cut");
    frame.durable_lag = 13;
    CHECK(put_frame(last, frame, NULL, 0, &crc) == 24, "nothing is durable");
    CHECK(stranded(&s, ROOM, s.at[2], 12, &frames, &seq_max) == 0 && frames == 1 && seq_max == 13, "it counts");
    /* What a commit wrote may look like a frame: it lies inside one, and is none. */
    uint8_t inner[64] = {22, 56};
    frame = (mmsb_frame_head){.kind = 1, .seq_rel = 90};
    uint8_t *p = mmsb_frame_put_head(inner + 6, &frame);
    CHECK(mmsb_frame_close(&kernels, mmsb_frame_seed(&kernels, head.salt), inner + 6, p, &crc) == 24, "inner");
    memset(s.bytes + s.at[3], 0, ROOM - s.at[3]);
    frame = (mmsb_frame_head){.kind = 1, .seq_rel = 3};
    (void)put_frame(s.bytes + s.at[3], frame, inner, sizeof inner, &crc);
    CHECK(stranded(&s, ROOM, s.at[2], 12, &frames, &seq_max) == 13 && frames == 1 && seq_max == 13, "inside another");
    CHECK(stranded(&s, ROOM, s.at[3], 12, &frames, &seq_max) == 100 && frames == 1, "it would be one");
}

static void test_a_frame_that_is_too_large(void) {
    /* Nothing of it is touched: its length alone decides. */
    uint8_t *frame = (uint8_t *)(uintptr_t)4096;
    uint32_t crc;
    uint64_t most = (uint64_t)MMSB_FRAME_UNITS_MAX * MMSB_FRAME_UNIT_BYTES + MMSB_FRAME_WORD_BYTES;
    CHECK(mmsb_frame_close(&kernels, 0, frame, frame + most + 1, &crc) == MMSB_FRAME_TOO_LARGE, "too large");
}

int main(void) {
    mmsb_kernels_init(&kernels, 0);
    for (unsigned i = 0; i < 16; i++) head.uuid[i] = (uint8_t)(i + 1), head.salt[i] = (uint8_t)(0xf0 - i);
    for (unsigned i = 0; i < MMSB_ANCHOR_BYTES; i++) head.anchor[i] = (uint8_t)(0x40 + i);
    test_head_is_laid_out_as_documented();
    test_head_refuses();
    test_every_change_is_read_back();
    test_changes_are_refused_when_cut();
    test_changes_that_contradict_themselves();
    test_cursor_reads_all();
    test_cursor_finds_every_flipped_bit_and_cut();
    test_frames_that_do_not_follow();
    test_heads_that_are_cut();
    test_canonical_content();
    test_stranded_frames();
    test_endless_frames();
    test_a_frame_that_is_too_large();
    return 0;
}
