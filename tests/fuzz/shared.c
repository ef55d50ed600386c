/* An attached process reads memory that another one hands over: the shared page, page headers, page memory, log
 * segments, all of them arbitrary. A read of a part is a part of the read of the whole, and the list of pages says the
 * same as reading them. */
#include "../../csrc/reader.h"
#include "frames.h"

enum { IDS = 6 };

/* The first chunk of page headers has a fixed size, so it is kept, and cleaned where the script wrote. */
static mmsb_page_header headers[1 << MMSB_ARENA_CHUNK_BITS];

typedef struct scene {
    mmsb_reader reader;
    mmsb_shared shared;
    mmsb_words words;
    segment log;
    uint8_t *pages;
    uint64_t page_bytes;
} scene;

static uint64_t next_position(script *s, const scene *t) {
    uint64_t offset = next_number(s);
    if (offset < 0x40) return mmsb_log_position(1, t->log.size); /* mostly where the log ends */
    if (offset < 0xb0) return mmsb_log_position(1, MMSB_SEGMENT_HEADER_BYTES + (offset - 0x40) * 8);
    return mmsb_log_position(next_byte(s) & 3, offset);
}

static void open_scene(scene *t, script *s) {
    uint8_t lies = next_byte(s);
    for (uint64_t id = 1; id < IDS; id++) {
        uint8_t what = next_byte(s);
        if (what < 0x40) continue;
        uint64_t number = lies & 1 ? next_byte(s) & 3 : 1, offset = (what & 7) * MMSB_ARENA_UNIT_BYTES;
        headers[id] = (mmsb_page_header){.handle = mmsb_handle_make((uint32_t)number, offset),
                                         .size = lies & 2 ? next_number(s) : (uint64_t)(what & 0x3f) + 1,
                                         .epoch = what & 0x3f,
                                         .flags = what & 0x80 ? MMSB_PAGE_LIVE : what};
        if (lies & 4) headers[id].handle += next_number(s) << 40;
    }
    t->pages = next_block(s, next_byte(s) * 2, &t->page_bytes);
    uint8_t applied_at[12];
    uint64_t position_bytes = mmsb_min_u64(sizeof applied_at, left_of(s));
    memset(applied_at, 0, sizeof applied_at);
    if (position_bytes != 0) memcpy(applied_at, s->at, position_bytes);
    s->at += position_bytes;
    t->log = load_segment(s);
    script positions = {applied_at, applied_at + sizeof applied_at};
    t->shared.tail = next_position(&positions, t);
    t->shared.applied = next_position(&positions, t);
    t->shared.seq = next_byte(&positions);
    t->shared.next_page_id = lies & 8 ? next_number(&positions) : IDS;
    t->shared.grown = lies & 16;
    t->shared.admitted[0] = lies & 32 ? 0 : 1;
    /* Made once: asking the processor and the system what they have takes longer than the rest of an execution. */
    static mmsb_reader fresh;
    if (fresh.alloc == NULL) mmsb_reader_init(&fresh, fuzz_kernels()->features, &limited_alloc, t->log.head.salt);
    t->reader = fresh;
    t->reader.seed = mmsb_frame_seed(&fresh.kernels, t->log.head.salt);
    t->reader.shared = &t->shared;
    t->reader.words = &t->words;
    t->reader.number = 1;
    CHECK(mmsb_reader_set(&t->reader, MMSB_REGION_HEADERS, 0, (const uint8_t *)headers, sizeof headers) == MMSB_OK,
          "headers");
    if (t->page_bytes != 0) /* a region of no bytes cannot be mapped */
        CHECK(mmsb_reader_set(&t->reader, MMSB_REGION_PAGES, 1, t->pages, t->page_bytes) == MMSB_OK, "pages");
    if (t->log.size != 0) mmsb_reader_set_log(&t->reader, 1, t->log.bytes, t->log.size);
    if (lies & 64) mmsb_reader_owner_went(&t->reader);
}

static void close_scene(scene *t) {
    memset(headers, 0, IDS * sizeof *headers);
    mmsb_reader_release(&t->reader);
    free(t->pages);
    free(t->log.bytes);
}

static int read_ids(scene *t, mmsb_read *reads, uint64_t first, uint64_t length, mmsb_moment *moment) {
    for (uint64_t i = 0; i + 1 < IDS; i++)
        reads[i] = (mmsb_read){.page_id = i + 1, .first = first, .length = length, .owned = true};
    return mmsb_reader_read(&t->reader, reads, IDS - 1, moment);
}

static void release_reads(mmsb_read *reads) {
    for (uint64_t i = 0; i + 1 < IDS; i++) free(reads[i].to);
}

/* Reads a part of each page again, in three ways. */
static void check_parts(scene *t, const mmsb_read *whole, const mmsb_moment *moment, uint64_t first, uint64_t length) {
    mmsb_read parts[IDS - 1];
    mmsb_moment again = {0};
    CHECK(read_ids(t, parts, first, length, &again) == MMSB_OK, "a part cannot be read");
    CHECK(again.seq == moment->seq && again.position == moment->position, "another moment");
    for (uint64_t i = 0; i + 1 < IDS; i++) {
        const mmsb_read *all = &whole[i], *part = &parts[i];
        CHECK(part->status == all->status && part->size == all->size && part->epoch_known == all->epoch_known &&
                  (!all->epoch_known || part->epoch == all->epoch),
              "page %lu is another one in part", (unsigned long)i + 1);
        if (all->status != MMSB_OK) continue;
        uint64_t count = first >= all->size ? 0 : mmsb_min_u64(length, all->size - first);
        CHECK(part->count == count && all->count == all->size, "%lu bytes of a part", (unsigned long)part->count);
        CHECK(count == 0 || memcmp(part->to, all->to + first, count) == 0, "other bytes in a part of page %lu",
              (unsigned long)i + 1);
        uint8_t *to = malloc(length);
        if (mmsb_reader_copy(&t->reader, i + 1, first, to, length, false))
            CHECK(count == length && (length == 0 || memcmp(to, all->to + first, length) == 0),
                  "other bytes in a copy");
        free(to);
    }
    release_reads(parts);
}

static void check_list(scene *t, const mmsb_read *whole, uint64_t room) {
    uint8_t *live = malloc(room);
    mmsb_moment moment;
    uint64_t end = 0;
    if (mmsb_reader_live(&t->reader, live, room, &end, &moment) == MMSB_OK) {
        CHECK(end <= room, "more pages than there is room for");
        /* A page at or above the next id is one only if the log says so, whatever its header claims. */
        for (uint64_t id = 1; id < mmsb_min_u64(end, IDS); id++) {
            bool found = whole[id - 1].status != MMSB_PAGE_NOT_FOUND;
            CHECK(id < t->shared.next_page_id ? found == live[id] : found || !live[id], "page %lu is listed wrong",
                  (unsigned long)id);
        }
    }
    free(live);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    uint64_t first = next_byte(&s), length = next_byte(&s);
    static scene t;
    memset(&t, 0, sizeof t);
    open_scene(&t, &s);
    mmsb_read whole[IDS - 1];
    mmsb_moment moment = {0};
    int status = read_ids(&t, whole, 0, MMSB_READ_TO_END, &moment);
    if (status == MMSB_OK) {
        CHECK(t.words.reading == MMSB_NOT_READING && t.words.seen_seq == moment.seq, "the read is not over");
        check_parts(&t, whole, &moment, first, length);
        check_list(&t, whole, IDS + first);
    } else {
        CHECK(status == MMSB_GROWN || status == MMSB_BEHIND || status == MMSB_DROPPED || status == MMSB_NO_MEMORY ||
                  (status <= MMSB_BAD_FRAME && status >= MMSB_BAD_LENGTH) || status == MMSB_BAD_HEADER ||
                  status == MMSB_BAD_DELTA,
              "status %d", status);
    }
    release_reads(whole);
    close_scene(&t);
    return 0;
}
