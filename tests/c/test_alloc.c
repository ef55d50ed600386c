/* Out of memory at every allocation: a buffer, a batch, a commit and an index fail whole, and succeed when asked again.
 * The commit's log is replayed at the end, so that a failure that left something behind would show. */
#include "../../csrc/core.h"
#include "../../csrc/index.h"
#include "check.h"
#include "failing_alloc.h"

#define SEGMENT_BYTES ((uint64_t)1 << 20)
#define TEXT(text) ((const uint8_t *)(text))

static void test_buffer(void) {
    failing_alloc failing;
    failing_init(&failing);
    mmsb_buffer buffer = {0};
    CHECK(mmsb_buffer_reserve(&buffer, &failing.alloc, 3) && buffer.capacity >= 3, "reserve");
    memcpy(buffer.data, "abc", 3);
    failing.left = 0;
    uint8_t *data = buffer.data;
    size_t capacity = buffer.capacity;
    CHECK(!mmsb_buffer_reserve(&buffer, &failing.alloc, 1 << 20), "out of nothing");
    CHECK(buffer.data == data && buffer.capacity == capacity && memcmp(data, "abc", 3) == 0, "a failure changed it");
    CHECK(mmsb_buffer_reserve(&buffer, &failing.alloc, capacity), "what is there needs no allocation");
    mmsb_buffer_release(&buffer, &failing.alloc);
    CHECK(failing.blocks == 0 && buffer.data == NULL, "released");
}

/* A core in memory with one segment and two pages: 1 of 3,000 bytes and 2 of 500. */
typedef struct stage {
    failing_alloc failing;
    mmsb_shared shared;
    mmsb_core core;
    mmsb_segment_head head;
    uint8_t *log;
} stage;

static void open_stage(stage *s) {
    memset(s, 0, sizeof *s);
    failing_init(&s->failing);
    s->log = calloc(1, SEGMENT_BYTES);
    CHECK(s->log != NULL, "no memory");
    CHECK(mmsb_core_init(&s->core, 0, &s->failing.alloc, &mmsb_io_posix, &s->shared, 0) == MMSB_OK, "init");
    s->head = (mmsb_segment_head){.capacity = SEGMENT_BYTES, .number = 1};
    mmsb_segment_head_put(&s->core.kernels, &s->head, s->log);
    mmsb_active active = {.map = s->log, .fd = -1, .number = 1, .capacity = SEGMENT_BYTES};
    active.tail = MMSB_SEGMENT_HEADER_BYTES;
    mmsb_core_use_segment(&s->core, &active, s->head.salt, 0);
    mmsb_batch batch;
    mmsb_batch_init(&batch, &mmsb_alloc_libc);
    static const uint64_t sizes[] = {3000, 500};
    for (uint64_t id = 1; id <= 2; id++) {
        mmsb_op op = {.kind = MMSB_OP_CREATE, .page_id = id, .size = sizes[id - 1], .count = 1};
        CHECK(mmsb_batch_add(&batch, &op, NULL, NULL, NULL) == MMSB_OK, "add");
    }
    uint64_t failed;
    mmsb_commit_info info = {.time_ns = 1};
    CHECK(mmsb_core_commit(&s->core, &batch, &info, &failed) == 1, "commit");
    mmsb_batch_release(&batch);
}

static void close_stage(stage *s) {
    mmsb_core_release(&s->core);
    CHECK(s->failing.blocks == 0, "%lu blocks are left", (unsigned long)s->failing.blocks);
    free(s->log);
}

/* One operation of each kind, and enough pages to grow the table of staged ones. */
static void fill_batch(mmsb_batch *batch) {
    static uint8_t content[3000];
    for (unsigned i = 0; i < sizeof content; i++) content[i] = (uint8_t)(i * 7 + 1);
    const mmsb_op ops[] = {
        {.kind = MMSB_OP_WRITE, .page_id = 1, .offset = 10, .if_epoch = MMSB_ANY_EPOCH, .data_bytes = 2000},
        {.kind = MMSB_OP_WRITE, .page_id = 1, .offset = 500, .if_epoch = MMSB_ANY_EPOCH, .data_bytes = 2500},
        {.kind = MMSB_OP_CREATE, .page_id = 3, .size = 3000, .count = 1, .data_bytes = 3000, .name_bytes = 4},
        {.kind = MMSB_OP_CREATE, .page_id = 4, .size = 10, .count = 100},
        {.kind = MMSB_OP_RESIZE, .page_id = 2, .size = 2000},
        {.kind = MMSB_OP_WRITE, .page_id = 2, .offset = 1000, .if_epoch = MMSB_ANY_EPOCH, .data_bytes = 1000},
        {.kind = MMSB_OP_DELETE, .page_id = 4},
        {.kind = MMSB_OP_RENAME, .page_id = 5, .data_bytes = 3},
    };
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++)
        CHECK(mmsb_batch_add(batch, &ops[i], TEXT("name"), NULL, content) == MMSB_OK, "add");
}

/* Replays the log into a core of its own and compares every page. */
static void check_replay(const stage *s) {
    mmsb_shared shared;
    mmsb_core copy;
    CHECK(mmsb_core_init(&copy, 0, &mmsb_alloc_libc, &mmsb_io_posix, &shared, 0) == MMSB_OK, "init");
    mmsb_log_cursor cursor;
    mmsb_log_frame frame;
    mmsb_log_cursor_start(&cursor, &copy.kernels, &s->head, s->log, s->core.active.tail);
    int status;
    while ((status = mmsb_core_replay(&copy, &cursor, UINT64_MAX, &frame)) == MMSB_OK) continue;
    CHECK(status == MMSB_END && copy.seq == s->core.seq && copy.page_count == s->core.page_count, "replay: %d", status);
    for (uint64_t id = 1; id < s->core.next_page_id; id++) {
        const mmsb_page_header *here = mmsb_arena_header(&s->core.arena, id),
                               *there = mmsb_arena_header(&copy.arena, id);
        CHECK((here == NULL) == (there == NULL), "page %lu", (unsigned long)id);
        if (here == NULL) continue;
        CHECK(here->size == there->size && here->epoch == there->epoch &&
                  memcmp(mmsb_arena_bytes(&s->core.arena, here->handle), mmsb_arena_bytes(&copy.arena, there->handle),
                         here->size) == 0,
              "page %lu is not what the log says", (unsigned long)id);
    }
    mmsb_core_release(&copy);
}

static void test_batch(void) {
    failing_alloc failing;
    failing_init(&failing);
    mmsb_batch batch;
    mmsb_batch_init(&batch, &failing.alloc);
    const mmsb_op op = {.kind = MMSB_OP_WRITE, .page_id = 1, .data_bytes = 5};
    CHECK(mmsb_batch_add(&batch, &op, NULL, NULL, TEXT("first")) == MMSB_OK, "add");
    static uint64_t ids[100], offsets[100], lengths[100];
    static uint8_t payload[5000];
    for (unsigned i = 0; i < 100; i++) lengths[i] = 50;
    for (uint64_t left = 0; left < 2; left++) {
        failing.left = left;
        CHECK(mmsb_batch_add_writes(&batch, ids, offsets, lengths, 100, payload, 5000) == MMSB_NO_MEMORY, "add");
        CHECK(mmsb_batch_count(&batch) == 1 && batch.data.size == 5, "half an operation was added");
        CHECK(memcmp(mmsb_batch_data(&batch, mmsb_batch_op(&batch, 0)), "first", 5) == 0, "the first one changed");
    }
    failing.left = UINT64_MAX;
    CHECK(mmsb_batch_add_writes(&batch, ids, offsets, lengths, 100, payload, 4999) == MMSB_BAD_SIZE, "a sum too large");
    lengths[0] = UINT64_MAX;
    CHECK(mmsb_batch_add_writes(&batch, ids, offsets, lengths, 100, payload, 5000) == MMSB_BAD_SIZE, "an overflow");
    lengths[0] = 50;
    CHECK(mmsb_batch_add_writes(&batch, ids, offsets, lengths, 100, payload, 5000) == MMSB_OK, "tried again");
    CHECK(mmsb_batch_count(&batch) == 101 && batch.data.size == 5005, "all of it is there");
    mmsb_batch_release(&batch);
    CHECK(failing.blocks == 0, "%lu blocks are left", (unsigned long)failing.blocks);
}

static void test_commit(void) {
    stage s;
    open_stage(&s);
    mmsb_batch batch;
    mmsb_batch_init(&batch, &mmsb_alloc_libc);
    fill_batch(&batch);
    mmsb_commit_info info = {.time_ns = 2, .source = 300, .source_name = TEXT("who"), .source_bytes = 3};
    mmsb_arena_stats before, after;
    mmsb_arena_get_stats(&s.core.arena, &before);
    uint64_t tail = s.core.active.tail, failed, refused = 0;
    int status = MMSB_NO_MEMORY;
    for (; status == MMSB_NO_MEMORY; refused++) {
        s.failing.left = refused;
        status = mmsb_core_commit(&s.core, &batch, &info, &failed);
        if (status == 1) break;
        CHECK(status == MMSB_NO_MEMORY && !s.core.poisoned, "%d at allocation %lu", status, (unsigned long)refused);
        CHECK(s.core.seq == 1 && s.core.page_count == 2 && s.core.active.tail == tail, "half a commit");
        CHECK(mmsb_arena_header(&s.core.arena, 3) == NULL && mmsb_arena_header(&s.core.arena, 2)->size == 500, "pages");
        mmsb_arena_get_stats(&s.core.arena, &after);
        CHECK(after.bytes_held == before.bytes_held && after.bytes_asked == before.bytes_asked, "slots were kept");
        const char *why = NULL;
        s.failing.left = UINT64_MAX;
        CHECK(mmsb_arena_check(&s.core.arena, &why) == MMSB_OK, "%s", why);
    }
    CHECK(status == 1 && refused > 5, "%d after %lu refusals", status, (unsigned long)refused);
    CHECK(s.core.seq == 2 && s.core.page_count == 102, "the commit");
    check_replay(&s);
    mmsb_batch_release(&batch);
    close_stage(&s);
}

static void test_write(void) {
    stage s;
    open_stage(&s);
    static uint8_t data[3000];
    memset(data, 9, sizeof data);
    mmsb_commit_info info = {.time_ns = 3, .if_epoch = MMSB_ANY_EPOCH, .source = 5000, .source_name = TEXT("who")};
    info.source_bytes = 3;
    mmsb_written written;
    uint64_t refused = 0;
    int status;
    do {
        s.failing.left = refused++;
        status = mmsb_core_write(&s.core, 1, 0, data, sizeof data, &info, &written);
        const mmsb_page_header *header = mmsb_arena_header(&s.core.arena, 1);
        CHECK((status == 1) == (header->epoch == 1) && s.core.seq == 1 + header->epoch, "status %d", status);
    } while (status == MMSB_NO_MEMORY);
    CHECK(status == 1 && refused > 1, "%d after %lu refusals", status, (unsigned long)refused);
    check_replay(&s);
    close_stage(&s);
}

/* An index that ran out of memory is thrown away; the next one, with enough of it, is whole. */
static void test_index(void) {
    stage s;
    open_stage(&s);
    mmsb_batch batch;
    mmsb_batch_init(&batch, &mmsb_alloc_libc);
    fill_batch(&batch);
    mmsb_commit_info info = {.time_ns = 2, .label = TEXT("here"), .label_bytes = 4};
    uint64_t failed, refused = 0;
    CHECK(mmsb_core_commit(&s.core, &batch, &info, &failed) == 1, "commit");
    failing_alloc failing;
    failing_init(&failing);
    int status;
    do {
        failing.left = refused++;
        mmsb_index index;
        mmsb_index_init(&index, &failing.alloc, &s.core.kernels, &s.head);
        status = mmsb_index_extend(&index, &s.core.kernels, s.log, s.core.active.tail);
        CHECK(status == MMSB_OK || status == MMSB_NO_MEMORY, "%d", status);
        if (status == MMSB_OK) {
            mmsb_index_facts facts;
            mmsb_index_facts_of(&index, 2, 0, 2, &facts);
            CHECK(mmsb_index_seq_count(&index) == 2 && facts.size == 2000, "the index lacks something");
            index.still_least = 0;
            status = mmsb_index_add_stills(&index, s.log, NULL);
            CHECK(status == MMSB_OK || status == MMSB_NO_MEMORY, "stills: %d", status);
        }
        mmsb_index_release(&index);
        CHECK(failing.blocks == 0, "%lu blocks are left", (unsigned long)failing.blocks);
    } while (status == MMSB_NO_MEMORY);
    CHECK(refused > 5, "%lu refusals", (unsigned long)refused);
    mmsb_batch_release(&batch);
    close_stage(&s);
}

int main(void) {
    test_buffer();
    test_batch();
    test_commit();
    test_write();
    test_index();
    return 0;
}
