/* The table of page headers, and the parts of the arena that walk all of its memory. */
#include "arena.h"

static uint64_t chunk_headers(unsigned chunk) { return (uint64_t)1 << (chunk + MMSB_ARENA_CHUNK_BITS); }

int mmsb_arena_ensure_ids(mmsb_arena *arena, uint64_t id_max) {
    if (MMSB_LIKELY(id_max < arena->id_end)) return MMSB_OK;
    if (id_max > MMSB_PAGE_ID_MAX) return MMSB_BAD_SIZE;
    uint64_t reached = 0;
    for (unsigned chunk = 0; reached <= id_max; reached += chunk_headers(chunk++)) {
        if (arena->chunks[chunk] != NULL) continue;
        /* A State of few pages should not pay a whole huge page for its headers. */
        bool huge = chunk != 0;
        mmsb_memory *memory = &arena->chunk_memory[chunk];
        /* With a descriptor also where nobody is given it: by it unused ids are skipped (mmsb_memory_touched). */
        int status = mmsb_memory_create(memory, chunk_headers(chunk) * sizeof(mmsb_page_header), huge);
        if (status != MMSB_OK) return status;
        arena->chunks[chunk] = (mmsb_page_header *)memory->base;
        arena->chunk_count = chunk + 1;
    }
    arena->id_end = id_max + 1;
    return MMSB_OK;
}

/* Headers in a huge page: reading one of them may make all of them resident. */
#define BLOCK_HEADERS (MMSB_MEMORY_HUGE_BYTES / sizeof(mmsb_page_header))

/* `id`, or where memory that was ever touched goes on after it: in its chunk, else where the next chunk begins. */
static uint64_t next_touched(const mmsb_arena *arena, uint64_t id) {
    unsigned chunk = 63u - (unsigned)__builtin_clzll(id + chunk_headers(0)) - MMSB_ARENA_CHUNK_BITS;
    uint64_t first = chunk_headers(chunk) - chunk_headers(0), offset = (id - first) * sizeof(mmsb_page_header);
    return first + mmsb_memory_touched(&arena->chunk_memory[chunk], offset) / sizeof(mmsb_page_header);
}

uint64_t mmsb_arena_next_page(const mmsb_arena *arena, uint64_t begin, uint64_t end) {
    uint64_t limit = mmsb_min_u64(end, arena->id_end), id = begin;
    while (id < limit) {
        if (mmsb_arena_entry(arena, id)->flags & MMSB_PAGE_LIVE) return id;
        id++;
        while (id % BLOCK_HEADERS == 0 && id < limit) {
            uint64_t touched = next_touched(arena, id);
            if (touched == id) break;
            id = touched;
        }
    }
    return end;
}

void mmsb_arena_get_stats(const mmsb_arena *arena, mmsb_arena_stats *stats) {
    *stats = (mmsb_arena_stats){
        .bytes_asked = arena->bytes_asked,
        .bytes_held = arena->bytes_held,
        .bytes_mapped = arena->bytes_mapped,
        .allocations = arena->allocations,
        .frees = arena->frees,
    };
    if (arena->bytes_held != 0) stats->fragmentation = 1.0 - (double)arena->bytes_asked / (double)arena->bytes_held;
    for (uint32_t number = 1; number < arena->segment_count; number++) {
        stats->segments += arena->segments[number].memory.base != NULL;
        stats->bytes_resident += mmsb_memory_resident(&arena->segments[number].memory);
    }
    for (unsigned chunk = 0; chunk < MMSB_ARENA_CHUNKS; chunk++)
        stats->bytes_resident += mmsb_memory_resident(&arena->chunk_memory[chunk]);
}

static int give_memory(const mmsb_memory *from, mmsb_memory *memory) {
    if (from->base == NULL) return MMSB_PAGE_NOT_FOUND;
    *memory = *from;
    return MMSB_OK;
}

int mmsb_arena_segment_memory(const mmsb_arena *arena, uint32_t number, mmsb_memory *memory) {
    if (number >= arena->segment_count) return MMSB_END;
    return give_memory(&arena->segments[number].memory, memory);
}

int mmsb_arena_chunk_memory(const mmsb_arena *arena, uint32_t number, mmsb_memory *memory) {
    if (number >= MMSB_ARENA_CHUNKS || arena->chunks[number] == NULL) return MMSB_END;
    return give_memory(&arena->chunk_memory[number], memory);
}

int mmsb_arena_protect_after_fork(mmsb_arena *arena) {
    int status = MMSB_OK;
    for (uint32_t number = 1; number < arena->segment_count; number++)
        if (mmsb_memory_protect(&arena->segments[number].memory) != MMSB_OK) status = MMSB_NO_MEMORY;
    for (unsigned chunk = 0; chunk < MMSB_ARENA_CHUNKS; chunk++)
        if (mmsb_memory_protect(&arena->chunk_memory[chunk]) != MMSB_OK) status = MMSB_NO_MEMORY;
    return status;
}
