/* A core takes in the frames of a log, as opening a store does, whatever they say; a model does the same with a list of
 * pages. The arena stays sound, and where the replay goes through, the pages are those of the model. */
#include "../../csrc/core.h"
#include "../../csrc/kernels_isa.h"
#include "frames.h"

enum { IDS = 64, PAGE_MOST = 512, MAX_BYTES = 1 << 20, CHECK_EVERY = 64 };

typedef struct model_page {
    bool live, deleted;
    uint64_t size, epoch;
    uint8_t bytes[PAGE_MOST];
} model_page;

static mmsb_core core;
static mmsb_shared shared;
static model_page pages[IDS];

/* Whether the model can follow: everything happens to its ids, and pages are small. */
static bool follows(const segment *loaded) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_change change;
    mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded->head, loaded->bytes, loaded->size);
    while (mmsb_log_cursor_next(&cursor, fuzz_kernels(), &frame) == MMSB_OK) {
        const uint8_t *p = frame.changes;
        while (frame.head.kind == MMSB_FRAME_COMMIT && (p = mmsb_change_next(p, frame.end, &change)) != NULL) {
            if (change.kind == MMSB_CHANGE_END) break;
            if (change.kind == MMSB_CHANGE_CREATE && (change.page_id >= IDS || change.count > IDS - change.page_id))
                return false;
            if ((change.kind == MMSB_CHANGE_CREATE || change.kind == MMSB_CHANGE_RESIZE) && change.size > PAGE_MOST)
                return false;
        }
    }
    return true;
}

static bool write_delta(model_page *page, uint8_t code, const mmsb_change *change) {
    return mmsb_delta_apply_scalar(page->bytes, page->size, code, change->payload, change->payload_bytes) == MMSB_OK;
}

/* Does one change to the model. False: it cannot be done, and the core must have refused it. */
static bool change_model(const mmsb_change *change) {
    model_page *page = change->page_id < IDS ? &pages[change->page_id] : NULL;
    switch (change->kind) {
        case MMSB_CHANGE_CREATE:
            if (change->size == 0 || change->page_kind >= MMSB_PAGE_KINDS) return false;
            for (uint64_t i = 0; i < change->count; i++) {
                if (page[i].live || page[i].deleted) return false;
                page[i] = (model_page){.live = true, .size = change->size};
            }
            return !(change->create_flags & MMSB_CREATE_CONTENT) || write_delta(page, change->content_code, change);
        case MMSB_CHANGE_DELETE:
            if (page == NULL || !page->live) return false;
            page->live = false;
            page->deleted = true;
            return true;
        case MMSB_CHANGE_RESIZE:
            if (page == NULL || !page->live || change->size == 0) return false;
            if (change->size < page->size) memset(page->bytes + change->size, 0, page->size - change->size);
            page->size = change->size;
            page->epoch++;
            return true;
        case MMSB_CHANGE_RENAME:
        case MMSB_CHANGE_METADATA:
            return page != NULL && page->live;
        default:
            if (change->kind > MMSB_DELTA_BITMAP) return true;
            if (page == NULL || !page->live || !write_delta(page, change->kind, change)) return false;
            page->epoch++;
            return true;
    }
}

/* Does everything to the model that the core takes. Returns the seq it came to; *sound: nothing was refused. */
static uint64_t replay_model(const segment *loaded, bool *sound) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_change change;
    *sound = true;
    mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded->head, loaded->bytes, loaded->size);
    uint64_t seq = 0;
    while (*sound && mmsb_log_cursor_next(&cursor, fuzz_kernels(), &frame) == MMSB_OK) {
        const uint8_t *p = frame.changes;
        while (*sound && frame.head.kind == MMSB_FRAME_COMMIT) {
            p = mmsb_change_next(p, frame.end, &change);
            *sound = p != NULL && (change.kind == MMSB_CHANGE_END || change_model(&change));
            if (*sound && change.kind == MMSB_CHANGE_END) break;
        }
        if (*sound && frame.head.kind == MMSB_FRAME_COMMIT) seq = frame.seq;
    }
    return seq;
}

static void compare(void) {
    uint64_t count = 0;
    for (uint64_t id = 1; id < IDS; id++) {
        const mmsb_page_header *header = mmsb_arena_header(&core.arena, id);
        CHECK((header != NULL) == pages[id].live, "page %lu is %s", (unsigned long)id, header ? "there" : "missing");
        if (header == NULL) continue;
        count++;
        CHECK(header->size == pages[id].size && header->epoch == pages[id].epoch, "page %lu: size %lu epoch %lu",
              (unsigned long)id, (unsigned long)header->size, (unsigned long)header->epoch);
        CHECK(memcmp(mmsb_arena_bytes(&core.arena, header->handle), pages[id].bytes, header->size) == 0,
              "the bytes of page %lu", (unsigned long)id);
        /* Behind its end a slot is zero: attached readers count on that. */
        uint64_t slot = mmsb_arena_slot_bytes(header->size);
        for (uint64_t i = header->size; i < slot; i++)
            CHECK(mmsb_arena_bytes(&core.arena, header->handle)[i] == 0, "behind page %lu", (unsigned long)id);
    }
    CHECK(core.page_count == count, "%lu pages are counted", (unsigned long)core.page_count);
}

/* An empty core again. The memory stays, so that an execution makes no system call. */
static void clear(void) {
    if (core.alloc == NULL) {
        CHECK(mmsb_core_init(&core, fuzz_kernels()->features, &mmsb_alloc_libc, &mmsb_io_posix, &shared, MAX_BYTES) ==
                  MMSB_OK,
              "no memory");
        return;
    }
    for (uint64_t id = 1; id < mmsb_min_u64(core.arena.id_end, IDS); id++) {
        mmsb_page_header *header = mmsb_arena_entry(&core.arena, id);
        if (header->flags & MMSB_PAGE_LIVE) mmsb_core_give_slot(&core, header->handle, header->size);
        *header = (mmsb_page_header){0};
    }
    CHECK(core.arena.bytes_held == 0, "a slot belongs to no page");
    core.arena.id_end = mmsb_min_u64(core.arena.id_end, 1);
    core.seq = core.time_ns = core.page_count = 0;
    core.next_page_id = 1;
    memset(pages, 0, sizeof pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    segment loaded = load_segment(&s);
    clear();
    if (loaded.status == MMSB_OK && loaded.head.base_seq == 0 && follows(&loaded)) {
        bool sound;
        uint64_t seq = replay_model(&loaded, &sound);
        mmsb_log_cursor cursor;
        mmsb_log_frame frame;
        mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded.head, loaded.bytes, loaded.size);
        int status = MMSB_OK;
        for (uint64_t before = 0; status == MMSB_OK && cursor.offset != before;) {
            before = cursor.offset;
            status = mmsb_core_replay(&core, &cursor, UINT64_MAX, &frame);
        }
        bool refused = status != MMSB_END && status != MMSB_BAD_LENGTH && status != MMSB_BAD_CRC &&
                       status != MMSB_GAP && cursor.offset < loaded.size;
        CHECK(core.seq == seq, "seq %lu of %lu, status %d", (unsigned long)core.seq, (unsigned long)seq, status);
        CHECK(sound || refused, "status %d after what cannot be", status);
        if (sound) compare();
        static uint64_t executions;
        const char *why; /* takes longer than all the rest, but for an input that is tried alone */
        if (executions++ % CHECK_EVERY == 0) CHECK(mmsb_arena_check(&core.arena, &why) == MMSB_OK, "%s", why);
    }
    free(loaded.bytes);
    return 0;
}
