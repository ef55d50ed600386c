#include <stdlib.h>

#include "arena.h"

/* A range of bytes inside the data segments that somebody holds. */
typedef struct range {
    uint64_t handle, bytes;
} range;

typedef struct ranges {
    mmsb_buffer buffer;
    const mmsb_alloc *alloc;
} ranges;

static bool add_range(ranges *all, uint64_t handle, uint64_t bytes) {
    range one = {handle, bytes};
    if (!mmsb_buffer_reserve(&all->buffer, all->alloc, all->buffer.size + sizeof one)) return false;
    memcpy(all->buffer.data + all->buffer.size, &one, sizeof one);
    all->buffer.size += sizeof one;
    return true;
}

static int compare_ranges(const void *a, const void *b) {
    uint64_t left = ((const range *)a)->handle, right = ((const range *)b)->handle;
    return (left > right) - (left < right);
}

/* Why a slot cannot be where its handle says, or NULL. */
static const char *misplaced(const mmsb_arena *arena, uint64_t handle, uint64_t bytes) {
    uint32_t number = mmsb_handle_segment(handle);
    if (number == 0 || number >= arena->segment_count) return "a handle names no segment";
    const mmsb_arena_segment *segment = &arena->segments[number];
    uint64_t offset = mmsb_handle_offset_bytes(handle);
    if (segment->memory.base == NULL) return "a handle names a released segment";
    if (offset > segment->used || bytes > segment->used - offset)
        return "a slot lies outside the used part of its segment";
    if (bytes >= 4096 && offset % 4096 != 0) return "a slot of 4096 bytes or more is not aligned to 4096";
    if (segment->own && (offset != 0 || bytes != segment->memory.bytes)) return "a slot does not fill its own segment";
    return NULL;
}

static int collect_free(const mmsb_arena *arena, ranges *all, uint64_t *free_bytes, const char **why) {
    /* Every class is found by probing the sizes: from each slot size the next one begins a byte later. */
    for (uint64_t size = 1; size <= MMSB_ARENA_CLASS_BYTES_MAX; size++) {
        uint64_t bytes = mmsb_arena_slot_bytes(size);
        uint64_t handle = arena->free_slots[mmsb_arena_class(size)];
        for (; handle != 0; handle = mmsb_load_u64(mmsb_arena_bytes(arena, handle))) {
            *why = misplaced(arena, handle, bytes);
            if (*why != NULL) return 1;
            *free_bytes += bytes;
            if (*free_bytes > arena->bytes_mapped) {
                *why = "a free list has a cycle";
                return 1;
            }
            if (!add_range(all, handle, bytes)) return MMSB_NO_MEMORY;
        }
        size = bytes;
    }
    return MMSB_OK;
}

static int collect_live(const mmsb_arena *arena, ranges *all, const char **why) {
    uint64_t slots = 0, asked = 0;
    uint64_t end = arena->id_end;
    for (uint64_t id = mmsb_arena_next_page(arena, 0, end); id < end; id = mmsb_arena_next_page(arena, id + 1, end)) {
        const mmsb_page_header *header = mmsb_arena_entry(arena, id);
        if (header->flags & MMSB_PAGE_DELETED) {
            *why = "a page is live and deleted";
            return 1;
        }
        if (mmsb_handle_device(header->handle) != 0) continue;
        uint64_t bytes = mmsb_arena_slot_bytes(header->size);
        *why = bytes == 0 ? "a live page has no possible size" : misplaced(arena, header->handle, bytes);
        if (*why != NULL) return 1;
        if (!add_range(all, header->handle, bytes)) return MMSB_NO_MEMORY;
        slots++;
        asked += header->size;
    }
    /* Slots may be held without a page: by views of deleted pages, and by a commit under construction. */
    *why = "live pages hold more than the arena has given";
    return slots > arena->allocations - arena->frees || asked > arena->bytes_asked ? 1 : MMSB_OK;
}

static int check_overlaps(ranges *all, const char **why) {
    uint64_t count = all->buffer.size / sizeof(range);
    range *list = (range *)all->buffer.data;
    if (count != 0) qsort(list, count, sizeof *list, compare_ranges);
    for (uint64_t i = 1; i < count; i++) {
        if (list[i].handle - list[i - 1].handle >= list[i - 1].bytes / MMSB_ARENA_UNIT_BYTES) continue;
        *why = "two slots overlap, or one is free twice";
        return 1;
    }
    return MMSB_OK;
}

static int check_totals(const mmsb_arena *arena, uint64_t free_bytes, const char **why) {
    uint64_t used = 0, mapped = 0;
    for (uint32_t number = 1; number < arena->segment_count; number++) {
        used += arena->segments[number].used;
        mapped += arena->segments[number].memory.bytes;
    }
    *why = "the segments do not add up to bytes_mapped";
    if (mapped != arena->bytes_mapped) return 1;
    *why = "held and free slots do not add up to the used part of the segments";
    if (used != arena->bytes_held + free_bytes) return 1;
    *why = "bytes_held exceeds max_bytes or is less than bytes_asked";
    if (arena->bytes_asked > arena->bytes_held) return 1;
    return arena->max_bytes != 0 && arena->bytes_held > arena->max_bytes ? 1 : MMSB_OK;
}

int mmsb_arena_check(const mmsb_arena *arena, const char **why) {
    ranges all = {.alloc = arena->alloc};
    uint64_t free_bytes = 0;
    int status = collect_free(arena, &all, &free_bytes, why);
    if (status == MMSB_OK) status = collect_live(arena, &all, why);
    if (status == MMSB_OK) status = check_overlaps(&all, why);
    if (status == MMSB_OK) status = check_totals(arena, free_bytes, why);
    mmsb_buffer_release(&all.buffer, all.alloc);
    if (status == MMSB_NO_MEMORY) *why = "out of memory";
    if (status == MMSB_OK) *why = NULL;
    return status;
}
