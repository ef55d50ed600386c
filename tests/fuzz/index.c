/* The index of a segment, against answers found by reading the segment from its beginning. What stands in the frames is
 * arbitrary: it may tell of pages that were never made. */
#include "../../csrc/index.h"
#include "../../csrc/kernels_isa.h"
#include "frames.h"

enum { SEEN_MOST = 512, PAGE_MOST = 4096 };

typedef struct seen {
    mmsb_change change;
    uint64_t seq_rel;
} seen;

/* What a reader of the whole segment remembers. */
static seen all[SEEN_MOST];
static uint64_t all_count, times[SEEN_MOST], sources[SEEN_MOST], commits;

static bool is_delta(const mmsb_change *change) { return change->kind <= MMSB_DELTA_BITMAP; }

/* False: more than fits, or nothing to compare with. */
static bool read_all(const segment *loaded) {
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_log_cursor_start(&cursor, fuzz_kernels(), &loaded->head, loaded->bytes, loaded->size);
    all_count = commits = 0;
    while (mmsb_log_cursor_next(&cursor, fuzz_kernels(), &frame) == MMSB_OK) {
        if (frame.head.kind == MMSB_FRAME_ANCHOR) continue;
        if (commits + 1 == SEEN_MOST) return false;
        times[++commits] = frame.time_ns;
        sources[commits] = frame.head.source;
        for (const uint8_t *p = frame.changes;; all_count++) {
            if (all_count == SEEN_MOST || (p = mmsb_change_next(p, frame.end, &all[all_count].change)) == NULL)
                return false;
            if (all[all_count].change.kind == MMSB_CHANGE_END) break;
            all[all_count].seq_rel = commits;
        }
    }
    return true;
}

static bool writes_to(const mmsb_change *change, uint64_t first, uint64_t end) {
    mmsb_delta_view view;
    mmsb_run_cursor run = {0};
    if (mmsb_delta_parse(change->kind, change->payload, change->payload_bytes, UINT64_MAX, &view) != MMSB_OK)
        return false;
    while (mmsb_delta_next_run(&view, &run))
        if (run.offset < end && run.offset + run.length > first) return true;
    return false;
}

static bool all_sound(uint64_t page_id) {
    for (uint64_t i = 0; i < all_count; i++) {
        mmsb_delta_view view;
        const mmsb_change *change = &all[i].change;
        if (is_delta(change) && change->page_id == page_id &&
            mmsb_delta_parse(change->kind, change->payload, change->payload_bytes, UINT64_MAX, &view) != MMSB_OK)
            return false;
    }
    return true;
}

static bool makes(const mmsb_change *change, uint64_t page_id) {
    return change->kind == MMSB_CHANGE_CREATE && page_id - change->page_id < change->count;
}

static void check_last_write(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_to,
                             uint64_t first, uint64_t end) {
    const mmsb_change *expected = NULL;
    uint64_t until = end;
    for (uint64_t i = all_count; i-- > 0 && first < until;) {
        const mmsb_change *change = &all[i].change;
        if (all[i].seq_rel > seq_to || change->page_id != page_id) continue;
        if (change->kind == MMSB_CHANGE_CREATE && change->count == 1) break;
        if (change->kind == MMSB_CHANGE_RESIZE) until = mmsb_min_u64(until, change->size);
        if (!is_delta(change) || !writes_to(change, first, until)) continue;
        expected = change;
        break;
    }
    uint32_t number;
    int open, status = mmsb_index_last_write(index, bytes, page_id, seq_to, &first, &end, &number, &open);
    CHECK(status == MMSB_OK || (status == MMSB_BAD_DELTA && !all_sound(page_id)), "status %d", status);
    if (status != MMSB_OK) return;
    CHECK((number != 0) == (expected != NULL), "a last write is %s", number != 0 ? "invented" : "missing");
    if (number == 0) return;
    mmsb_change found;
    CHECK(mmsb_index_change(index, bytes, mmsb_index_node_at(index, number)->at, &found) == MMSB_OK, "no change");
    CHECK(found.payload == expected->payload && found.page_id == page_id && !open, "another write");
}

/* What collect found, done to a page of found->size zeros. */
static int build(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, const mmsb_buffer *numbers,
                 const mmsb_index_collection *found, mmsb_index_page *page) {
    CHECK(mmsb_buffer_reserve(&page->bytes, &mmsb_alloc_libc, found->size + 1), "no memory");
    memset(page->bytes.data, 0, found->size);
    page->bytes.size = found->size;
    int status = found->still != NULL ? mmsb_still_lay(found->still, &limited_alloc, page) : MMSB_OK;
    if (status == MMSB_OK && found->tape != NULL)
        status =
            mmsb_still_play(index, fuzz_kernels(), bytes, page_id, found->tape, found->tape_from, found->tape_to, page);
    if (status != MMSB_OK) return status;
    return mmsb_index_apply(index, fuzz_kernels(), bytes, page_id, (const uint32_t *)(const void *)numbers->data,
                            numbers->size / 4, page);
}

/* Bytes of a page at a commit: through the index from its making on, and by doing all changes in order. */
static void check_page(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_to) {
    mmsb_buffer numbers = {0};
    mmsb_index_collection found = {0};
    mmsb_index_page page = {0};
    uint8_t model[PAGE_MOST] = {0};
    uint64_t size = 0, made = 0;
    CHECK(mmsb_index_collect(index, bytes, page_id, 0, seq_to, &numbers, &found) == MMSB_OK, "collect");
    if ((found.end != MMSB_COLLECT_CREATED && found.end != MMSB_COLLECT_COVERED) || found.size > PAGE_MOST) goto done;
    bool untouched = numbers.size == 0 && found.still == NULL && found.tape == NULL;
    for (uint64_t i = 0; i < all_count && all[i].seq_rel <= seq_to; i++) {
        const mmsb_change *change = &all[i].change;
        if (makes(change, page_id) || (change->kind == MMSB_CHANGE_DELETE && change->page_id == page_id)) {
            made += change->kind == MMSB_CHANGE_CREATE ? 1 : 2; /* once, or it is no history that could be */
            size = change->size;
            if (change->count > 1 && made == 1 && untouched && !(change->create_flags & MMSB_CREATE_CONTENT)) continue;
        }
        if (change->page_id != page_id && !makes(change, page_id)) continue;
        if (change->kind == MMSB_CHANGE_RESIZE) {
            if (change->size == 0 || change->size > PAGE_MOST || made == 0) goto done;
            if (change->size < size) memset(model + change->size, 0, size - change->size);
            size = change->size;
        }
        uint8_t code = is_delta(change) ? change->kind : 0;
        if (change->kind == MMSB_CHANGE_CREATE && change->create_flags & MMSB_CREATE_CONTENT)
            code = change->content_code;
        if (size > PAGE_MOST || size == 0 || made != 1) goto done;
        if (code != 0 && mmsb_delta_apply_scalar(model, size, code, change->payload, change->payload_bytes) != MMSB_OK)
            goto done;
    }
    if (made != 1) goto done;
    CHECK(build(index, bytes, page_id, &numbers, &found, &page) == MMSB_OK, "apply");
    CHECK(page.bytes.size == size && memcmp(page.bytes.data, model, size) == 0, "page %lu at %lu",
          (unsigned long)page_id, (unsigned long)seq_to);
done:
    mmsb_buffer_release(&page.bytes, &mmsb_alloc_libc);
    mmsb_buffer_release(&numbers, &mmsb_alloc_libc);
}

static void check_commits(const mmsb_index *index, const uint8_t *bytes, uint64_t time_ns, uint64_t source) {
    uint64_t found, expected = 0;
    CHECK(mmsb_index_seq_count(index) == commits, "%u commits", mmsb_index_seq_count(index));
    for (uint64_t i = 1; i <= commits; i++)
        if (times[i] <= time_ns) expected = i;
    CHECK(mmsb_index_seq_at(index, bytes, time_ns, &found) == MMSB_OK && found == expected, "at a time: %lu, not %lu",
          (unsigned long)found, (unsigned long)expected);
    for (expected = 1; expected <= commits && sources[expected] != source;) expected++;
    CHECK(mmsb_index_next_commit(index, bytes, 1, commits, source, 0, &found) == MMSB_OK, "next");
    CHECK(found == (expected <= commits ? expected : 0), "the first of a source: %lu", (unsigned long)found);
}

static void check_lists(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_from) {
    mmsb_buffer ids = {0}, numbers = {0}, by_source = {0}, by_page = {0};
    CHECK(mmsb_index_touched(index, bytes, seq_from, commits, &ids) == MMSB_OK, "touched");
    CHECK(mmsb_index_page_nodes(index, page_id, seq_from, commits, &numbers) == MMSB_OK, "nodes");
    uint64_t at = 0, of_page = 0;
    for (uint64_t i = 0; i < all_count; i++) {
        const mmsb_change *change = &all[i].change;
        bool single = change->kind != MMSB_CHANGE_CREATE || change->count == 1;
        if (all[i].seq_rel <= seq_from || change->kind > MMSB_CHANGE_METADATA || !single) continue;
        CHECK(at < ids.size && mmsb_load_u64(ids.data + at) == change->page_id, "a touched page is missing");
        at += 8;
        of_page += change->page_id == page_id;
    }
    CHECK(at == ids.size && of_page == numbers.size / 4, "more than was touched");
    int status = mmsb_index_usage(index, bytes, 1, commits, &by_source, &by_page);
    CHECK(status == MMSB_OK || status == MMSB_BAD_DELTA, "usage: %d", status);
    mmsb_buffer_release(&ids, &mmsb_alloc_libc);
    mmsb_buffer_release(&numbers, &mmsb_alloc_libc);
    mmsb_buffer_release(&by_source, &mmsb_alloc_libc);
    mmsb_buffer_release(&by_page, &mmsb_alloc_libc);
}

/* The newest commit with that label, and the newest that gave that name. */
static void check_texts(const mmsb_index *index, const uint8_t *bytes, const mmsb_change *text) {
    bool label = text->kind == MMSB_CHANGE_LABEL;
    uint64_t expected = 0;
    for (uint64_t i = 0; i < all_count; i++) {
        const mmsb_change *change = &all[i].change;
        bool fits = label ? change->kind == MMSB_CHANGE_LABEL
                          : change->kind == MMSB_CHANGE_RENAME ||
                                (change->kind == MMSB_CHANGE_CREATE && change->create_flags & MMSB_CREATE_NAME);
        if (fits && change->text_bytes == text->text_bytes && memcmp(change->text, text->text, text->text_bytes) == 0)
            expected = all[i].seq_rel;
    }
    uint64_t key =
        label ? mmsb_index_label_key(text->text, text->text_bytes) : mmsb_index_name_key(text->text, text->text_bytes);
    uint32_t number;
    CHECK(mmsb_index_find_text(index, bytes, key, text->text, text->text_bytes, commits, &number) == MMSB_OK, "find");
    uint64_t found = number == 0 ? 0 : mmsb_index_node_at(index, number)->seq_rel;
    CHECK(found == expected, "a text at %lu, not %lu", (unsigned long)found, (unsigned long)expected);
}

/* With stills, closer and closer together, every page is the same at every commit. The bytes may change meanwhile. */
static void check_stills(mmsb_index *index, const segment *loaded, uint64_t page_id, uint64_t salt) {
    index->still_least = salt % 3 == 0 ? 0 : salt % 64;
    int status = mmsb_index_add_stills(index, loaded->bytes, NULL);
    if (status == MMSB_NO_MEMORY) return;
    CHECK(status == MMSB_OK, "stills: %d", status);
    for (uint64_t seq = 0; seq <= commits; seq++) check_page(index, loaded->bytes, page_id, seq);
    for (uint64_t i = 0; i < all_count; i++)
        if (all[i].change.kind <= MMSB_CHANGE_METADATA && all[i].change.page_id != page_id)
            check_page(index, loaded->bytes, all[i].change.page_id, commits - i % (commits + 1));
    index->stilled = 0; /* once more, over bytes that are no longer those that were indexed */
    for (uint64_t at = MMSB_SEGMENT_HEADER_BYTES; at < loaded->size; at += salt + 3) loaded->bytes[at] ^= (uint8_t)at;
    mmsb_index_release_stills(index);
    for (uint64_t i = 0; i < index->place_count; i++) index->places[i].reel = 0;
    mmsb_index_add_stills(index, loaded->bytes, NULL);
    for (uint64_t seq = 0; seq <= commits; seq++) {
        mmsb_buffer numbers = {0};
        mmsb_index_collection found = {0};
        mmsb_index_page page = {0};
        mmsb_index_collect(index, loaded->bytes, page_id, 0, seq, &numbers, &found);
        if (found.size <= PAGE_MOST && numbers.size <= 400)
            build(index, loaded->bytes, page_id, &numbers, &found, &page);
        mmsb_buffer_release(&page.bytes, &mmsb_alloc_libc);
        mmsb_buffer_release(&numbers, &mmsb_alloc_libc);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    uint64_t page_id = next_byte(&s), first = next_byte(&s), length = next_byte(&s), seq_to = next_byte(&s);
    segment loaded = load_segment(&s);
    if (loaded.status != MMSB_OK) goto done;
    mmsb_index index;
    mmsb_index_init(&index, &limited_alloc, fuzz_kernels(), &loaded.head);
    mmsb_index_extend(&index, fuzz_kernels(), loaded.bytes, loaded.size);
    if (!index.broken && read_all(&loaded)) {
        seq_to = commits == 0 ? 0 : seq_to % (commits + 1);
        check_commits(&index, loaded.bytes, loaded.head.base_time_ns + first, length);
        check_last_write(&index, loaded.bytes, page_id, seq_to, first, first + length);
        check_page(&index, loaded.bytes, page_id, seq_to);
        check_lists(&index, loaded.bytes, page_id, seq_to / 2);
        for (uint64_t i = 0; i < all_count; i++)
            if ((all[i].change.kind == MMSB_CHANGE_LABEL || all[i].change.kind == MMSB_CHANGE_RENAME) &&
                all[i].change.text_bytes != 0)
                check_texts(&index, loaded.bytes, &all[i].change);
        check_stills(&index, &loaded, page_id, first);
    }
    mmsb_index_release(&index);
done:
    free(loaded.bytes);
    return 0;
}
