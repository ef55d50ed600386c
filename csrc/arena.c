#define _GNU_SOURCE
#include "arena.h"

#include <sys/mman.h>

#define SEGMENT_BYTES_MIN ((uint64_t)1 << 20)
#define SEGMENT_BYTES_MAX ((uint64_t)256 << 20)
#define PAGE_ALIGN_BYTES 4096
/* What a handle's 40 bits of 64-byte units can address, less the rounding up to PAGE_ALIGN_BYTES. */
#define SLOT_BYTES_MAX (((uint64_t)MMSB_ARENA_UNIT_BYTES << MMSB_HANDLE_OFFSET_BITS) - PAGE_ALIGN_BYTES)
#define SEGMENT_TABLE_BYTES ((MMSB_ARENA_SEGMENTS_MAX + 1) * sizeof(mmsb_arena_segment))
#define NO_CLASS MMSB_ARENA_CLASSES

typedef struct slot_shape {
    uint64_t bytes;
    uint32_t class_index; /* NO_CLASS over MMSB_ARENA_CLASS_BYTES_MAX */
} slot_shape;

/* log2 of the distance between the classes of the doubling (2^doubling, 2^(doubling + 1)]. */
static unsigned step_bits(unsigned doubling) {
    unsigned bits = doubling - 3;
    return doubling >= 12 && bits < 12 ? 12 : bits;
}

static inline slot_shape shape_of(uint64_t size) {
    if (size <= 512) {
        uint64_t units = (size + MMSB_ARENA_UNIT_BYTES - 1) / MMSB_ARENA_UNIT_BYTES;
        return (slot_shape){units * MMSB_ARENA_UNIT_BYTES, (uint32_t)units - 1};
    }
    if (MMSB_UNLIKELY(size > MMSB_ARENA_CLASS_BYTES_MAX))
        return (slot_shape){mmsb_align_up(size, PAGE_ALIGN_BYTES), NO_CLASS};
    unsigned doubling = 63u - (unsigned)__builtin_clzll(size - 1);
    unsigned bits = step_bits(doubling);
    uint64_t step = (size - 1) >> bits;
    uint32_t first_class = 8 + (doubling - 9) * 8;
    return (slot_shape){(step + 1) << bits, first_class + (uint32_t)(step - (((uint64_t)1 << doubling) >> bits))};
}

uint64_t mmsb_arena_slot_bytes(uint64_t size) { return size == 0 || size > SLOT_BYTES_MAX ? 0 : shape_of(size).bytes; }

uint32_t mmsb_arena_class(uint64_t size) { return shape_of(size).class_index; }

int mmsb_arena_init(mmsb_arena *arena, const mmsb_alloc *alloc, uint64_t max_bytes) {
    memset(arena, 0, sizeof *arena);
    /* The table must not move under other threads that read pages, so that its place is reserved once. */
    void *table =
        mmap(NULL, SEGMENT_TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED) return MMSB_NO_MEMORY;
    arena->segments = table;
    arena->segment_count = 1;
    arena->alloc = alloc;
    arena->max_bytes = max_bytes;
    return MMSB_OK;
}

void mmsb_arena_release(mmsb_arena *arena) {
    for (uint32_t number = 1; number < arena->segment_count; number++)
        mmsb_memory_release(&arena->segments[number].memory);
    for (unsigned chunk = 0; chunk < MMSB_ARENA_CHUNKS; chunk++) mmsb_memory_release(&arena->chunk_memory[chunk]);
    if (arena->segments != NULL) munmap(arena->segments, SEGMENT_TABLE_BYTES);
    memset(arena, 0, sizeof *arena);
}

int mmsb_arena_can_take(const mmsb_arena *arena, uint64_t size, uint64_t count) {
    uint64_t slot_bytes = mmsb_arena_slot_bytes(size);
    if (slot_bytes == 0) return MMSB_BAD_SIZE;
    if (arena->max_bytes != 0 && count > (arena->max_bytes - arena->bytes_held) / slot_bytes) return MMSB_ARENA_FULL;
    return count > SLOT_BYTES_MAX / slot_bytes ? MMSB_NO_MEMORY : MMSB_OK;
}

/* The total doubles with every segment, so that few segments hold much and small States stay small. */
static uint64_t next_segment_bytes(const mmsb_arena *arena) {
    if (arena->bytes_mapped >= SEGMENT_BYTES_MAX / 2) return SEGMENT_BYTES_MAX;
    if (arena->bytes_mapped < SEGMENT_BYTES_MIN) return SEGMENT_BYTES_MIN;
    return (uint64_t)1 << (64 - __builtin_clzll(arena->bytes_mapped));
}

static void note_change(mmsb_arena *arena, uint32_t number) {
    if (arena->changed_end == 0 || number < arena->changed_first) arena->changed_first = number;
    if (number >= arena->changed_end) arena->changed_end = number + 1;
}

static int add_segment(mmsb_arena *arena, uint64_t bytes, bool own, uint32_t *number) {
    if (arena->segment_free == 0 && arena->segment_count > MMSB_ARENA_SEGMENTS_MAX) return MMSB_NO_MEMORY;
    uint32_t chosen = arena->segment_free != 0 ? arena->segment_free : arena->segment_count;
    mmsb_arena_segment *segment = &arena->segments[chosen];
    mmsb_memory memory;
    int status = mmsb_arena_create_memory(arena, &memory, bytes, bytes >= MMSB_MEMORY_HUGE_BYTES);
    if (status != MMSB_OK) return status;
    if (arena->segment_free != 0)
        arena->segment_free = segment->next_free;
    else
        arena->segment_count++;
    *segment = (mmsb_arena_segment){.memory = memory, .own = own};
    arena->bytes_mapped += bytes;
    note_change(arena, chosen);
    *number = chosen;
    return MMSB_OK;
}

static void push_free(mmsb_arena *arena, uint32_t class_index, uint64_t handle) {
    mmsb_store_u64(mmsb_arena_bytes(arena, handle), arena->free_slots[class_index]);
    arena->free_slots[class_index] = handle;
}

/* Cuts the unused range [used, end) of a segment into free slots, the largest class that fits first. */
static void cut_up(mmsb_arena *arena, uint32_t number, uint64_t end) {
    mmsb_arena_segment *segment = &arena->segments[number];
    while (segment->used < end) {
        uint64_t room = mmsb_min_u64(end - segment->used, MMSB_ARENA_CLASS_BYTES_MAX);
        uint64_t past_boundary = segment->used % PAGE_ALIGN_BYTES;
        if (past_boundary != 0) room = mmsb_min_u64(room, PAGE_ALIGN_BYTES - past_boundary);
        if (room > 512) {
            unsigned bits = step_bits(63u - (unsigned)__builtin_clzll(room));
            room = room >> bits << bits;
        }
        push_free(arena, shape_of(room).class_index, mmsb_handle_make(number, segment->used));
        segment->used += room;
    }
}

/* A slot that was never used, from the open segment or a new one. */
static int cut_slot(mmsb_arena *arena, uint64_t bytes, uint64_t *handle) {
    uint64_t align_bytes = bytes >= PAGE_ALIGN_BYTES ? PAGE_ALIGN_BYTES : MMSB_ARENA_UNIT_BYTES;
    uint32_t number = arena->segment_open;
    mmsb_arena_segment *segment = &arena->segments[number];
    uint64_t start = mmsb_align_up(segment->used, align_bytes);
    /* Number 0 has no memory: it stands for "none open yet". */
    if (MMSB_UNLIKELY(start + bytes > segment->memory.bytes)) {
        int status = add_segment(arena, next_segment_bytes(arena), false, &number);
        if (status != MMSB_OK) return status;
        cut_up(arena, arena->segment_open, segment->memory.bytes);
        arena->segment_open = number;
        segment = &arena->segments[number];
        start = 0;
    } else if (MMSB_UNLIKELY(start != segment->used)) {
        cut_up(arena, number, start);
    }
    *handle = mmsb_handle_make(number, start);
    segment->used = start + bytes;
    return MMSB_OK;
}

/* A segment made for one slot. */
static int take_own_segment(mmsb_arena *arena, uint64_t bytes, uint64_t *handle) {
    uint32_t number;
    int status = add_segment(arena, bytes, true, &number);
    if (status != MMSB_OK) return status;
    arena->segments[number].used = bytes;
    *handle = mmsb_handle_make(number, 0);
    return MMSB_OK;
}

int mmsb_arena_take(mmsb_arena *arena, uint64_t size, uint64_t *handle) {
    if (MMSB_UNLIKELY(size == 0 || size > SLOT_BYTES_MAX)) return MMSB_BAD_SIZE;
    slot_shape shape = shape_of(size);
    if (arena->max_bytes != 0 && shape.bytes > arena->max_bytes - arena->bytes_held) return MMSB_ARENA_FULL;
    uint64_t reused = shape.class_index == NO_CLASS ? 0 : arena->free_slots[shape.class_index];
    if (reused != 0) {
        uint8_t *slot = mmsb_arena_bytes(arena, reused);
        arena->free_slots[shape.class_index] = mmsb_load_u64(slot);
        memset(slot, 0, shape.bytes);
        *handle = reused;
    } else {
        bool own = shape.bytes > next_segment_bytes(arena) / 4;
        int status = own ? take_own_segment(arena, shape.bytes, handle) : cut_slot(arena, shape.bytes, handle);
        if (MMSB_UNLIKELY(status != MMSB_OK)) return status;
    }
    arena->bytes_asked += size;
    arena->bytes_held += shape.bytes;
    arena->allocations++;
    return MMSB_OK;
}

void mmsb_arena_give(mmsb_arena *arena, uint64_t handle, uint64_t size) {
    slot_shape shape = shape_of(size);
    uint32_t number = mmsb_handle_segment(handle);
    mmsb_arena_segment *segment = &arena->segments[number];
    if (segment->own) {
        mmsb_memory_release(&segment->memory);
        *segment = (mmsb_arena_segment){.memory = segment->memory, .next_free = arena->segment_free};
        arena->segment_free = number;
        arena->bytes_mapped -= shape.bytes;
        note_change(arena, number);
    } else {
        push_free(arena, shape.class_index, handle);
    }
    arena->bytes_asked -= size;
    arena->bytes_held -= shape.bytes;
    arena->frees++;
}
