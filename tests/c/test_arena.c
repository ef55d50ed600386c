/* The page arena: size classes, reuse, segments of their own, the id table, limits, and failures that change nothing.
 *
 * Every state of interest is held to mmsb_arena_check(), which knows all the invariants. */
#include <sys/resource.h>

#include "../../csrc/arena.h"
#include "check.h"
#include "failing_alloc.h"

static uint64_t seed = 88172645463325252u;
static uint64_t random_below(uint64_t end) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % end;
}

static void check_arena(const mmsb_arena *arena) {
    const char *why = NULL;
    int status = mmsb_arena_check(arena, &why);
    CHECK(status == MMSB_OK, "%d, %s", status, why != NULL ? why : "-");
}

static void take_many(mmsb_arena *arena, uint64_t size, unsigned count, uint64_t *handles) {
    for (unsigned i = 0; i < count; i++) CHECK(mmsb_arena_take(arena, size, &handles[i]) == MMSB_OK, "slot %u", i);
}

static void test_size_classes(void) {
    CHECK(mmsb_arena_slot_bytes(0) == 0, "no slot is empty");
    CHECK(mmsb_arena_slot_bytes((uint64_t)1 << 46) == 0, "a handle reaches less than 64 TiB");
    CHECK(mmsb_arena_slot_bytes(UINT64_MAX) == 0, "an overflow");
    CHECK(mmsb_arena_slot_bytes(((uint64_t)64 << 30) + 1) == ((uint64_t)64 << 30) + 4096, "64 GiB and a byte");
    uint64_t last_bytes = 0;
    uint32_t last_class = 0;
    for (uint64_t size = 1; size <= MMSB_ARENA_CLASS_BYTES_MAX; size += size < 100000 ? 1 : random_below(5000) + 1) {
        uint64_t bytes = mmsb_arena_slot_bytes(size);
        uint32_t index = mmsb_arena_class(size);
        CHECK(bytes >= size && bytes % (size >= 4096 ? 4096 : 64) == 0, "%lu bytes in a slot of %lu",
              (unsigned long)size, (unsigned long)bytes);
        CHECK(bytes - size < 64 || bytes - size < 4096 || (bytes - size) * 8 <= size, "%lu bytes waste %lu",
              (unsigned long)size, (unsigned long)(bytes - size));
        CHECK(bytes >= last_bytes && index >= last_class && index < MMSB_ARENA_CLASSES, "classes ascend");
        CHECK((bytes == last_bytes) == (index == last_class) || last_bytes == 0, "one class, one slot size");
        CHECK(mmsb_arena_slot_bytes(bytes) == bytes && mmsb_arena_class(bytes) == index, "a full slot is of its class");
        last_bytes = bytes;
        last_class = index;
    }
}

static void test_a_slot_is_reused_and_zero(void) {
    mmsb_arena arena;
    uint64_t first, second, again;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_take(&arena, 1000, &first) == MMSB_OK && mmsb_arena_take(&arena, 1000, &second) == MMSB_OK,
          "take");
    memset(mmsb_arena_bytes(&arena, first), 0xff, 1000);
    mmsb_arena_give(&arena, first, 1000);
    CHECK(mmsb_arena_take(&arena, 1024, &again) == MMSB_OK && again == first, "the slot given back last comes first");
    for (unsigned i = 0; i < 1024; i++) CHECK(mmsb_arena_bytes(&arena, again)[i] == 0, "byte %u is left over", i);
    mmsb_arena_stats stats;
    mmsb_arena_get_stats(&arena, &stats);
    CHECK(stats.allocations == 3 && stats.frees == 1 && stats.bytes_asked == 2024 && stats.bytes_held == 2048, "stats");
    mmsb_arena_release(&arena);
    mmsb_arena_release(&arena); /* of one that is all zero */
}

static void test_large_slots_have_segments_of_their_own(void) {
    mmsb_arena arena;
    uint64_t small, large, other;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_take(&arena, 64, &small) == MMSB_OK, "take");
    uint64_t mapped = arena.bytes_mapped;
    CHECK(mmsb_arena_take(&arena, 9000001, &large) == MMSB_OK, "take");
    uint32_t number = mmsb_handle_segment(large);
    CHECK(number != mmsb_handle_segment(small) && arena.segments[number].own, "not its own");
    mmsb_arena_bytes(&arena, large)[9000000] = 1;
    mmsb_arena_give(&arena, large, 9000001);
    CHECK(arena.bytes_mapped == mapped && arena.segments[number].memory.base == NULL, "it did not go back");
    mmsb_memory memory;
    CHECK(mmsb_arena_segment_memory(&arena, number, &memory) == MMSB_PAGE_NOT_FOUND, "a released segment has memory");
    CHECK(mmsb_arena_take(&arena, 9000001, &other) == MMSB_OK && mmsb_handle_segment(other) == number, "number lost");
    CHECK(mmsb_arena_bytes(&arena, other)[9000000] == 0, "a new segment is not zero");
    mmsb_arena_release(&arena);
}

#define PAGES 400

/* Takes, fills, checks and gives back at random; each page is filled with its id, so that an overlap shows. */
static void test_random_pages(void) {
    mmsb_arena arena;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_ensure_ids(&arena, PAGES) == MMSB_OK, "no ids");
    for (unsigned step = 0; step < 20000; step++) {
        uint64_t id = 1 + random_below(PAGES);
        mmsb_page_header *header = mmsb_arena_header(&arena, id);
        if (header != NULL) {
            const uint8_t *bytes = mmsb_arena_bytes(&arena, header->handle);
            for (uint64_t i = 0; i < header->size; i += 61)
                CHECK(bytes[i] == (uint8_t)id, "page %lu was written by another", (unsigned long)id);
            CHECK(bytes[header->size - 1] == (uint8_t)id, "the end of page %lu", (unsigned long)id);
            mmsb_arena_give(&arena, header->handle, header->size);
            memset(header, 0, sizeof *header);
        } else {
            uint64_t size = 1 + random_below((uint64_t)1 << (4 + random_below(15)));
            uint64_t handle;
            CHECK(mmsb_arena_take(&arena, size, &handle) == MMSB_OK, "take");
            for (uint64_t i = 0; i < size; i++) CHECK(mmsb_arena_bytes(&arena, handle)[i] == 0, "a dirty slot");
            memset(mmsb_arena_bytes(&arena, handle), (uint8_t)id, size);
            *mmsb_arena_entry(&arena, id) = (mmsb_page_header){.handle = handle, .size = size, .flags = MMSB_PAGE_LIVE};
        }
        if (step % 1000 == 0) check_arena(&arena);
    }
    check_arena(&arena);
    mmsb_arena_release(&arena);
}

/* Entries come zeroed, across the boundaries of the chunks; they stay where they are, and so does their generation. */
static void test_ids(void) {
    mmsb_arena arena;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_header(&arena, 1) == NULL && mmsb_arena_header(&arena, UINT64_MAX) == NULL, "a page of nothing");
    static const uint64_t boundaries[] = {1, 65535, 65536, 65537, 196607, 196608, 196609, 458751, 458752};
    mmsb_page_header *places[9];
    for (unsigned i = 0; i < 9; i++) {
        CHECK(mmsb_arena_ensure_ids(&arena, boundaries[i]) == MMSB_OK, "no ids");
        places[i] = mmsb_arena_entry(&arena, boundaries[i]);
        static const mmsb_page_header zero;
        CHECK(memcmp(places[i], &zero, sizeof zero) == 0, "entry %lu is not zero", (unsigned long)boundaries[i]);
        places[i]->generation = 7 + i;
        places[i]->flags = MMSB_PAGE_DELETED;
        CHECK(mmsb_arena_header(&arena, boundaries[i]) == NULL, "a deleted page is live");
    }
    for (unsigned i = 0; i < 9; i++)
        CHECK(mmsb_arena_entry(&arena, boundaries[i]) == places[i] && places[i]->generation == 7 + i, "an entry moved");
    uint64_t id_end = arena.id_end;
    CHECK(mmsb_arena_ensure_ids(&arena, MMSB_PAGE_ID_MAX + 1) == MMSB_BAD_SIZE && arena.id_end == id_end, "no bound");
    mmsb_memory memory;
    CHECK(mmsb_arena_chunk_memory(&arena, 0, &memory) == MMSB_OK && memory.base == (uint8_t *)arena.chunks[0], "chunk");
    CHECK(mmsb_arena_chunk_memory(&arena, 4, &memory) == MMSB_END, "a chunk past the last");
    mmsb_arena_release(&arena);
}

static void test_limits(void) {
    mmsb_arena arena;
    uint64_t handles[16], handle;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 8192) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_take(&arena, 0, &handle) == MMSB_BAD_SIZE, "an empty slot");
    CHECK(mmsb_arena_take(&arena, UINT64_MAX, &handle) == MMSB_BAD_SIZE, "a slot of everything");
    CHECK(mmsb_arena_can_take(&arena, 1024, 9) == MMSB_ARENA_FULL, "9 KiB of 8");
    CHECK(mmsb_arena_can_take(&arena, 1024, 8) == MMSB_OK && arena.bytes_held == 0, "8 KiB of 8, only asked");
    CHECK(mmsb_arena_can_take(&arena, 1024, UINT64_MAX) == MMSB_ARENA_FULL, "a count that overflows");
    take_many(&arena, 1024, 8, handles);
    CHECK(arena.bytes_held == 8192, "8 KiB of 8");
    CHECK(mmsb_arena_take(&arena, 1, &handle) == MMSB_ARENA_FULL && arena.allocations == 8, "one byte more");
    mmsb_arena_give(&arena, handles[3], 1024);
    CHECK(mmsb_arena_take(&arena, 1, &handle) == MMSB_OK && mmsb_arena_take(&arena, 961, &handle) == MMSB_ARENA_FULL,
          "what is left is 960 bytes");
    check_arena(&arena);
    mmsb_arena_release(&arena);
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    CHECK(mmsb_arena_can_take(&arena, 4096, UINT64_MAX / 2) == MMSB_NO_MEMORY, "more than there are addresses");
    mmsb_arena_release(&arena);
}

/* Without a descriptor there is no segment: whatever was asked for did not happen, and can be asked for again. */
static void test_the_system_refuses(void) {
    mmsb_arena arena;
    uint64_t handle, handles[4];
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK, "no memory");
    struct rlimit limit, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "no limit to lower");
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0, "cannot lower the limit");
    CHECK(mmsb_arena_take(&arena, 100, &handle) == MMSB_NO_MEMORY, "a segment out of nothing");
    CHECK(mmsb_arena_take(&arena, 9 << 20, &handle) == MMSB_NO_MEMORY, "a segment of its own out of nothing");
    CHECK(mmsb_arena_ensure_ids(&arena, 1) == MMSB_NO_MEMORY && arena.id_end == 0, "ids out of nothing");
    CHECK(arena.bytes_held == 0 && arena.bytes_mapped == 0 && arena.segment_count == 1, "something changed");
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "cannot raise the limit");
    take_many(&arena, 1 << 20, 4, handles); /* tried again */
    check_arena(&arena);
    mmsb_arena_release(&arena);
}

/* The checker is the one user of the allocator: it fails at each allocation, says so and leaves nothing behind. */
static void test_the_checker_without_memory(void) {
    failing_alloc failing;
    failing_init(&failing);
    mmsb_arena arena;
    uint64_t handles[200];
    CHECK(mmsb_arena_init(&arena, &failing.alloc, 0) == MMSB_OK, "no memory");
    take_many(&arena, 100, 200, handles);
    for (unsigned i = 0; i < 200; i++) mmsb_arena_give(&arena, handles[i], 100);
    const char *why = NULL;
    uint64_t refused = 0;
    for (int status = MMSB_NO_MEMORY; status != MMSB_OK; refused++) {
        failing.left = refused;
        status = mmsb_arena_check(&arena, &why);
        CHECK(status == MMSB_OK || (status == MMSB_NO_MEMORY && strcmp(why, "out of memory") == 0), "%d", status);
        CHECK(failing.blocks == 0, "%lu blocks are left", (unsigned long)failing.blocks);
    }
    CHECK(refused > 1, "nothing was refused");
    mmsb_arena_release(&arena);
}

/* The checker finds what it is there for. */
static void test_the_checker_finds(void) {
    mmsb_arena arena;
    uint64_t one, two;
    const char *why = NULL;
    CHECK(mmsb_arena_init(&arena, &mmsb_alloc_libc, 0) == MMSB_OK && mmsb_arena_ensure_ids(&arena, 2) == MMSB_OK,
          "no memory");
    CHECK(mmsb_arena_take(&arena, 100, &one) == MMSB_OK && mmsb_arena_take(&arena, 100, &two) == MMSB_OK, "take");
    *mmsb_arena_entry(&arena, 1) = (mmsb_page_header){.handle = one, .size = 100, .flags = MMSB_PAGE_LIVE};
    *mmsb_arena_entry(&arena, 2) = (mmsb_page_header){.handle = one, .size = 100, .flags = MMSB_PAGE_LIVE};
    CHECK(mmsb_arena_check(&arena, &why) == 1 && strstr(why, "overlap") != NULL, "two pages in one slot");
    mmsb_arena_entry(&arena, 2)->handle = mmsb_handle_make(9, 0);
    CHECK(mmsb_arena_check(&arena, &why) == 1 && strstr(why, "no segment") != NULL, "a handle to nowhere");
    mmsb_arena_entry(&arena, 2)->handle = two;
    check_arena(&arena);
    arena.bytes_held += 64;
    CHECK(mmsb_arena_check(&arena, &why) == 1 && strstr(why, "add up") != NULL, "a wrong sum");
    arena.bytes_held -= 64;
    mmsb_arena_give(&arena, two, 100);
    mmsb_store_u64(mmsb_arena_bytes(&arena, two), two);
    CHECK(mmsb_arena_check(&arena, &why) == 1 && strstr(why, "cycle") != NULL, "a free list in a circle");
    mmsb_arena_release(&arena);
}

int main(void) {
    test_size_classes();
    test_a_slot_is_reused_and_zero();
    test_large_slots_have_segments_of_their_own();
    test_random_pages();
    test_ids();
    test_limits();
    test_the_system_refuses();
    test_the_checker_without_memory();
    test_the_checker_finds();
    return 0;
}
