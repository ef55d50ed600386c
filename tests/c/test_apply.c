/* Replaying a log: what frames do to pages, and frames with a right checksum whose changes cannot be. Nothing but an
 * intact log should ever come this far; what does come must be refused without a step outside the pages. */
#include "../../csrc/core.h"
#include "check.h"
#include "failing_alloc.h"

#define SEGMENT_BYTES 65536

/* A core in memory, and a segment of frames made by hand for it to replay. */
typedef struct stage {
    failing_alloc failing;
    mmsb_shared shared;
    mmsb_core core;
    mmsb_segment_head head;
    uint8_t log[SEGMENT_BYTES];
    uint64_t end, seq;
    uint32_t last_crc;
} stage;

static stage s;

static void open_stage(uint64_t max_bytes) {
    memset(&s, 0, sizeof s);
    failing_init(&s.failing);
    CHECK(mmsb_core_init(&s.core, 0, &s.failing.alloc, &mmsb_io_posix, &s.shared, max_bytes) == MMSB_OK, "init");
    s.head = (mmsb_segment_head){.capacity = SEGMENT_BYTES, .number = 1};
    mmsb_segment_head_put(&s.core.kernels, &s.head, s.log);
    s.end = MMSB_SEGMENT_HEADER_BYTES;
}

static void close_stage(void) {
    mmsb_core_release(&s.core);
    CHECK(s.failing.blocks == 0, "%lu blocks are left", (unsigned long)s.failing.blocks);
}

/* Appends a commit with these changes to the log; the core does not know of it yet. */
static void add(const uint8_t *changes, uint64_t bytes) {
    mmsb_frame_head frame = {
        .prev_crc = s.last_crc, .kind = MMSB_FRAME_COMMIT, .seq_rel = ++s.seq, .time_rel_ns = s.seq};
    uint8_t *at = s.log + s.end, *p = mmsb_frame_put_head(at, &frame);
    memcpy(p, changes, bytes);
    uint32_t seed = mmsb_frame_seed(&s.core.kernels, s.head.salt);
    int64_t size = mmsb_frame_close(&s.core.kernels, seed, at, p + bytes, &s.last_crc);
    CHECK(size > 0, "close");
    s.end += (uint64_t)size;
}
#define ADD(...) add((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Replays all of the log into the core as it is. The status that it ends with. */
static int replay(void) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_log_cursor_start(&cursor, &s.core.kernels, &s.head, s.log, s.end);
    int status;
    do {
        uint64_t before = cursor.offset;
        status = mmsb_core_replay(&s.core, &cursor, UINT64_MAX, &frame);
        CHECK(status == MMSB_OK || status == MMSB_END || cursor.offset >= before, "it stands before the bad frame");
    } while (status == MMSB_OK);
    return status;
}

static const uint8_t *bytes_of(uint64_t id) {
    return mmsb_arena_bytes(&s.core.arena, mmsb_arena_header(&s.core.arena, id)->handle);
}

static void test_replay(void) {
    open_stage(0);
    ADD(16, 1, 1, 8, 0, 5, 1, 'n', 1, 2, 3, 'a', 'b', 'c'); /* page 1: a name, "abc" from 2 */
    ADD(16, 2, 3, 16, 1, 0, 21, 1, 'l');                    /* pages 2 to 4; a label */
    ADD(1, 1, 0, 2, 'x', 'y', 18, 2, 4, 17, 3);             /* a write, a resize, a delete */
    ADD(2, 1, 2, 8, 4, 'p', 'q', 19, 4, 1, 'm', 20, 2, 0);  /* bytes 4 and 7 of page 1; a name, metadata */
    CHECK(replay() == MMSB_END && s.core.seq == 4, "seq %lu", (unsigned long)s.core.seq);
    CHECK(memcmp(bytes_of(1), "xyabp\0\0q", 8) == 0, "page 1");
    const mmsb_page_header *second = mmsb_arena_header(&s.core.arena, 2);
    CHECK(second->size == 4 && second->epoch == 1 && second->kind == 1, "page 2");
    CHECK(mmsb_arena_header(&s.core.arena, 3) == NULL && mmsb_arena_header(&s.core.arena, 4) != NULL, "pages 3, 4");
    CHECK(s.core.page_count == 3 && s.core.next_page_id == 5 && s.core.commits == 4, "counts");
    CHECK(s.shared.next_page_id == 5 && s.shared.described_seq == 3, "what readers are told");
    close_stage();
}

/* Each on top of pages 1 and 2 (deleted) of 8 bytes. */
static void test_changes_that_cannot_be(void) {
    static const struct {
        uint8_t bytes[16];
        int status;
    } wrong[] = {
        {{1, 3, 0, 1, 'x'}, MMSB_PAGE_NOT_FOUND},
        {{1, 2, 0, 1, 'x'}, MMSB_PAGE_NOT_FOUND},
        {{1, 0, 0, 1, 'x'}, MMSB_PAGE_NOT_FOUND},
        {{1, 1, 8, 1, 'x'}, MMSB_BAD_DELTA},
        {{16, 3, 1, 0, 0, 0}, MMSB_BAD_FRAME}, /* of no bytes */
        {{16, 3, 1, 8, 2, 0}, MMSB_BAD_FRAME}, /* of an unknown kind */
        {{16, 1, 1, 8, 0, 0}, MMSB_PAGE_EXISTS},
        {{16, 2, 1, 8, 0, 0}, MMSB_PAGE_EXISTS}, /* ids come once */
        {{16, 3, 1, 8, 0, 4, 1, 8, 1, 'x'}, MMSB_BAD_DELTA},
        {{16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 1, 8, 0, 0}, MMSB_BAD_FRAME}, /* ids past the last */
        {{16, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 8, 0, 0}, MMSB_BAD_FRAME},
        {{16, 3, 0xff, 0xff, 0xff, 0xff, 0x0f, 8, 0, 0}, MMSB_ARENA_FULL}, /* more pages than there is room for */
        {{17, 2}, MMSB_PAGE_NOT_FOUND},
        {{17, 9}, MMSB_PAGE_NOT_FOUND},
        {{18, 2, 4}, MMSB_PAGE_NOT_FOUND},
        {{18, 1, 0}, MMSB_BAD_FRAME},
        {{18, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, MMSB_ARENA_FULL},
        {{19, 2, 1, 'n'}, MMSB_PAGE_NOT_FOUND},
        {{20, 7, 0}, MMSB_PAGE_NOT_FOUND},
        {{28}, MMSB_BAD_FRAME},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        open_stage(1 << 20);
        ADD(16, 1, 2, 8, 0, 0, 17, 2);
        add(wrong[i].bytes, sizeof wrong[i].bytes);
        int status = replay();
        CHECK(status == wrong[i].status, "case %u: %d", i, status);
        CHECK(s.core.seq == 1, "case %u: the commit counts", i);
        close_stage();
    }
}

/* A commit that depends on the one before: replay stops at the seq that was asked for, and goes on from there. */
static void test_replay_until(void) {
    open_stage(0);
    ADD(16, 1, 1, 8, 0, 0);
    for (uint8_t n = 1; n < 6; n++) ADD(1, 1, 0, 1, n);
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_log_cursor_start(&cursor, &s.core.kernels, &s.head, s.log, s.end);
    for (uint64_t until = 1; until <= 6; until++) {
        CHECK(mmsb_core_replay(&s.core, &cursor, until, &frame) == MMSB_END && s.core.seq == until, "until");
        CHECK(bytes_of(1)[0] == until - 1 && s.core.time_ns == until, "%u", bytes_of(1)[0]);
        CHECK(s.core.last_crc == cursor.last_crc && s.core.commits == until, "place");
    }
    CHECK(s.core.deltas == 5 && mmsb_arena_header(&s.core.arena, 1)->epoch == 5, "epoch");
    close_stage();
}

static void test_load_page(void) {
    open_stage(1 << 20);
    const uint8_t *content = (const uint8_t *)"abc";
    CHECK(mmsb_core_load_page(&s.core, 0, 8, 0, 0, 0, NULL, 0) == MMSB_BAD_SIZE, "page 0");
    CHECK(mmsb_core_load_page(&s.core, 1, 2, 0, 0, 0, content, 3) == MMSB_BAD_SIZE, "more content than page");
    CHECK(mmsb_core_load_page(&s.core, 1, 8, 0, MMSB_PAGE_KINDS, 0, NULL, 0) == MMSB_BAD_SIZE, "an unknown kind");
    CHECK(mmsb_core_load_page(&s.core, 1, 0, 0, 0, 0, NULL, 0) == MMSB_BAD_SIZE, "of no bytes");
    CHECK(mmsb_core_load_page(&s.core, 1, 1 << 21, 0, 0, 0, NULL, 0) == MMSB_ARENA_FULL, "larger than all");
    CHECK(mmsb_core_load_page(&s.core, UINT64_MAX, 8, 0, 0, 0, NULL, 0) != MMSB_OK, "past the last id");
    CHECK(mmsb_core_load_page(&s.core, 7, 8, 9, 1, MMSB_PAGE_DESCRIBED, content, 3) == MMSB_OK, "load");
    CHECK(mmsb_core_load_page(&s.core, 7, 8, 9, 1, 0, NULL, 0) == MMSB_PAGE_EXISTS, "twice");
    CHECK(mmsb_core_load_page(&s.core, 3, 8, 0, 0, 0, NULL, 0) == MMSB_OK, "no content");
    const mmsb_page_header *header = mmsb_arena_header(&s.core.arena, 7);
    CHECK(header->size == 8 && header->epoch == 9 && header->kind == 1, "header");
    CHECK(header->flags == (MMSB_PAGE_LIVE | MMSB_PAGE_DESCRIBED), "flags");
    CHECK(memcmp(bytes_of(7), "abc\0\0\0\0\0", 8) == 0 && memcmp(bytes_of(3), "\0\0\0\0\0\0\0\0", 8) == 0, "content");
    CHECK(s.core.page_count == 2 && s.core.next_page_id == 8, "counts");
    close_stage();
}

/* Notes of what changed, for the next wave: of pages that others depend on only, in a bounded memory. */
static void test_notes_of_changes(void) {
    open_stage(0);
    ADD(16, 1, 2, 8, 0, 0);
    CHECK(replay() == MMSB_END, "replay");
    mmsb_page_header *plain = mmsb_arena_header(&s.core.arena, 1), *source = mmsb_arena_header(&s.core.arena, 2);
    source->flags |= MMSB_PAGE_SOURCE | MMSB_PAGE_FAILED;
    ADD(1, 1, 0, 1, 'a', 1, 2, 3, 2, 'b', 'c', 18, 2, 16);
    s.core.seq = 0;
    mmsb_core_release(&s.core);
    CHECK(mmsb_core_init(&s.core, 0, &s.failing.alloc, &mmsb_io_posix, &s.shared, 0) == MMSB_OK, "init");
    CHECK(mmsb_core_load_page(&s.core, 1, 8, 0, 0, 0, NULL, 0) == MMSB_OK, "load");
    CHECK(mmsb_core_load_page(&s.core, 2, 8, 0, 0, MMSB_PAGE_SOURCE | MMSB_PAGE_FAILED, NULL, 0) == MMSB_OK, "load");
    plain = mmsb_arena_header(&s.core.arena, 1), source = mmsb_arena_header(&s.core.arena, 2);
    const uint8_t changes[] = {1, 1, 0, 1, 'a', 1, 2, 3, 2, 'b', 'c', 18, 2, 16};
    bool described = false;
    CHECK(mmsb_core_apply(&s.core, changes, changes + sizeof changes, &described) == MMSB_OK && !described, "apply");
    const mmsb_touched *touched = (const mmsb_touched *)(const void *)s.core.touched.data;
    CHECK(s.core.touched.size == 2 * sizeof *touched, "a note for each change to page 2");
    CHECK(touched[0].page_id == 2 && touched[0].code == 1 && touched[0].payload_bytes == 4, "the write");
    CHECK(memcmp(s.core.touched_bytes.data + touched[0].payload_at, "\3\2bc", 4) == 0, "its payload");
    CHECK(touched[1].page_id == 2 && touched[1].code == 0 && touched[1].payload_bytes == 0, "the resize");
    CHECK((source->flags & MMSB_PAGE_TOUCHED) && !(source->flags & MMSB_PAGE_FAILED), "flags");
    CHECK(!(plain->flags & MMSB_PAGE_TOUCHED), "nobody depends on page 1");
    /* Too many, and too large ones: from then on, where a page changed is not kept. */
    for (unsigned i = 0; i < 5000; i++)
        CHECK(mmsb_core_changed(&s.core, source, 2, 1, changes + 7, 4) == MMSB_OK, "changed");
    CHECK(s.core.touched_whole && s.core.touched.size == 4096 * sizeof *touched, "bounded");
    mmsb_core_forget_touched(&s.core);
    CHECK(s.core.touched.size == 0 && !s.core.touched_whole && !(source->flags & MMSB_PAGE_TOUCHED), "forgotten");
    static uint8_t large[(1 << 20) + 1];
    CHECK(mmsb_core_changed(&s.core, source, 2, 1, large, sizeof large) == MMSB_OK && s.core.touched_whole, "large");
    CHECK(s.core.touched_bytes.size == 0 && s.core.touched.size == sizeof *touched, "its payload is not kept");
    mmsb_core_forget_touched(&s.core);
    CHECK(mmsb_core_changed(&s.core, source, 2, 1, large, 1 << 20) == MMSB_OK && !s.core.touched_whole, "just so");
    mmsb_core_forget_touched(&s.core);
    const uint8_t beyond[] = {1, 2, 16, 1, 'x'};
    CHECK(mmsb_core_apply(&s.core, beyond, beyond + sizeof beyond, &described) == MMSB_BAD_DELTA, "beyond its end");
    CHECK(s.core.touched.size == 0, "what was refused is no change");
    mmsb_arena_header(&s.core.arena, 2)->flags |= MMSB_PAGE_DERIVED | MMSB_PAGE_FAILED;
    CHECK(mmsb_core_changed(&s.core, source, 2, 0, NULL, 0) == MMSB_OK, "changed");
    CHECK(source->flags & MMSB_PAGE_FAILED, "a computed page stays failed until it is computed");
    /* A page that is gone when its note is forgotten. */
    const uint8_t gone[] = {17, 2};
    CHECK(mmsb_core_apply(&s.core, gone, gone + sizeof gone, &described) == MMSB_OK, "delete");
    mmsb_core_forget_touched(&s.core);
    close_stage();
}

/* Out of memory at every allocation of a replay: it fails whole, with no block left over. */
static void test_out_of_memory(void) {
    bool done = false;
    for (uint64_t n = 0; !done; n++) {
        open_stage(0);
        CHECK(mmsb_core_load_page(&s.core, 1, 8, 0, 0, MMSB_PAGE_SOURCE, NULL, 0) == MMSB_OK, "load");
        const uint8_t changes[] = {1, 1, 0, 1, 'a', 16, 2, 200, 1, 16, 0, 0, 18, 1, 64};
        bool described = false;
        s.failing.left = n;
        int status = mmsb_core_apply(&s.core, changes, changes + sizeof changes, &described);
        CHECK(status == MMSB_OK || status == MMSB_NO_MEMORY, "%d", status);
        done = status == MMSB_OK;
        s.failing.left = UINT64_MAX;
        close_stage();
    }
}

int main(void) {
    test_replay();
    test_changes_that_cannot_be();
    test_replay_until();
    test_load_page();
    test_notes_of_changes();
    test_out_of_memory();
    return 0;
}
