/* The page memory of one State: slots for the bytes of pages, and a table of page headers reached from the page id.
 *
 * Slots and headers lie in memfd segments (memory.h) that never move and never change size, so an address stays valid
 * until its slot is given back. Nothing here locks; nothing here knows what a commit is.
 *
 * Sizes are rounded up to a size class: multiples of 64 bytes up to 512, then 8 classes per doubling, from 4096 bytes
 * on multiples of 4096 only. Slots are aligned to 64 bytes, those of 4096 bytes and more to 4096. A slot over 64 MiB
 * has no class: it is rounded to 4096 bytes. A slot that would take more than a quarter of the next segment gets a
 * segment of its own, which goes back to the system with the slot. */
#ifndef MMSB_ARENA_H
#define MMSB_ARENA_H

#include "alloc.h"
#include "memory.h"
#include "status.h"

/* Reached by page id, shared with attached processes. A new entry is all zero. */
typedef struct mmsb_page_header {
    uint64_t handle; /* where the bytes are */
    uint64_t size;   /* bytes of the page */
    uint64_t epoch;
    uint32_t generation; /* preserve the page before the first write of another generation */
    uint16_t flags;      /* MMSB_PAGE_* */
    uint8_t kind;        /* MMSB_PAGE_KIND_* */
    uint8_t merge;       /* of a merge page: place of its semiring in core.merges; 0: not known yet */
} mmsb_page_header;

_Static_assert(sizeof(mmsb_page_header) == 32, "a page costs 32 bytes beside its slot");

enum {
    MMSB_PAGE_LIVE = 1,
    MMSB_PAGE_DESCRIBED = 2, /* has a name or metadata, kept on a higher floor */
    MMSB_PAGE_DELETED = 4,   /* was live; the id is never used again */
    MMSB_PAGE_SOURCE = 8,    /* others depend on it: a change must be told */
    MMSB_PAGE_DERIVED = 16,  /* computed from others; only waves change it */
    MMSB_PAGE_STALE = 32,    /* an ancestor changed, and no wave has covered that */
    MMSB_PAGE_TOUCHED = 64,  /* stands in core.touched */
    MMSB_PAGE_FAILED = 128,  /* stale as well: to be computed whatever its parents did */
};

/* Page ids start at 1. The bound keeps the header table (32 bytes each) within the address space. */
#define MMSB_PAGE_ID_MAX ((uint64_t)1 << 40)

/* A handle says where a page's bytes are: device in the top 8 bits (0: host memory), then 16 bits of segment, then 40
 * bits of offset in units of 64 bytes. 0 is no buffer: data segments are numbered from 1. */
#define MMSB_ARENA_UNIT_BYTES 64
#define MMSB_HANDLE_OFFSET_BITS 40
#define MMSB_ARENA_SEGMENTS_MAX 65535

static inline uint32_t mmsb_handle_device(uint64_t handle) { return (uint32_t)(handle >> 56); }
static inline uint32_t mmsb_handle_segment(uint64_t handle) {
    return (uint32_t)(handle >> MMSB_HANDLE_OFFSET_BITS) & 0xffff;
}
static inline uint64_t mmsb_handle_offset_bytes(uint64_t handle) {
    return (handle & (((uint64_t)1 << MMSB_HANDLE_OFFSET_BITS) - 1)) * MMSB_ARENA_UNIT_BYTES;
}
static inline uint64_t mmsb_handle_make(uint32_t segment, uint64_t offset_bytes) {
    return (uint64_t)segment << MMSB_HANDLE_OFFSET_BITS | offset_bytes / MMSB_ARENA_UNIT_BYTES;
}

typedef struct mmsb_arena_segment {
    mmsb_memory memory; /* base NULL: the number is free */
    uint64_t used;      /* bytes from its start that were handed out at least once */
    uint32_t next_free; /* of a free number: the next free one, 0 at the end */
    bool own;           /* made for one slot */
} mmsb_arena_segment;

/* 8 classes up to 512 bytes, then 8 for each doubling from 512 bytes to 64 MiB. */
#define MMSB_ARENA_CLASSES (8 + 17 * 8)
#define MMSB_ARENA_CLASS_BYTES_MAX ((uint64_t)64 << 20)

/* Header chunk k holds (64 Ki << k) headers: 2 MiB, 4 MiB, ... of sparse memory. 25 of them reach MMSB_PAGE_ID_MAX. */
#define MMSB_ARENA_CHUNK_BITS 16
#define MMSB_ARENA_CHUNKS 25

typedef struct mmsb_arena {
    mmsb_page_header *chunks[MMSB_ARENA_CHUNKS];
    uint64_t id_end;                         /* ids below it have an entry */
    mmsb_arena_segment *segments;            /* 1 to MMSB_ARENA_SEGMENTS_MAX; resident as far as used */
    uint32_t segment_count;                  /* numbers ever used, 0 among them, which never has memory */
    uint32_t segment_free;                   /* head of the free numbers, 0: none */
    uint32_t segment_open;                   /* the one that new slots are cut from, 0: none yet */
    uint64_t free_slots[MMSB_ARENA_CLASSES]; /* handle of the slot given back last; its first 8 bytes hold the next */
    mmsb_memory chunk_memory[MMSB_ARENA_CHUNKS];
    const mmsb_alloc *alloc;
    uint64_t max_bytes; /* bound on bytes_held */
    uint64_t bytes_asked, bytes_held, bytes_mapped;
    uint64_t allocations, frees;
    uint32_t changed_first, changed_end; /* segments that came or went since mmsb_arena_note_changes; end 0: none */
    uint32_t chunk_count;
    bool is_private; /* no other process will ever be given its memory; set before the first slot is taken */
} mmsb_arena;

typedef struct mmsb_arena_stats {
    uint64_t bytes_asked;    /* sum of the sizes asked for */
    uint64_t bytes_held;     /* sum of the slots they occupy: what max_bytes bounds */
    uint64_t bytes_mapped;   /* of data segments; resident only as far as touched */
    uint64_t bytes_resident; /* physical memory behind data and headers */
    uint64_t allocations, frees;
    uint64_t segments;    /* that exist now */
    double fragmentation; /* 1 - asked / held; 0 when nothing is held */
} mmsb_arena_stats;

/* `max_bytes` 0: no bound. MMSB_OK or MMSB_NO_MEMORY; `alloc` outlives the arena. */
int mmsb_arena_init(mmsb_arena *arena, const mmsb_alloc *alloc, uint64_t max_bytes);
/* Also of an arena that is all zero bytes. */
void mmsb_arena_release(mmsb_arena *arena);

/* Memory for the arena. MMSB_OK or MMSB_NO_MEMORY. */
static inline int mmsb_arena_create_memory(const mmsb_arena *arena, mmsb_memory *memory, uint64_t bytes, bool huge) {
    return arena->is_private ? mmsb_memory_create_private(memory, bytes, huge)
                             : mmsb_memory_create(memory, bytes, huge);
}

/* Bytes that a slot for `size` bytes occupies; 0 when the size is 0 or too large for a handle. */
uint64_t mmsb_arena_slot_bytes(uint64_t size);

/* Index of the free list for slots of that size (1 to MMSB_ARENA_CLASS_BYTES_MAX). */
uint32_t mmsb_arena_class(uint64_t size);

/* Whether `count` slots for `size` bytes fit max_bytes and the address space: MMSB_OK, MMSB_ARENA_FULL, MMSB_BAD_SIZE
 * or MMSB_NO_MEMORY. The system may still be out of memory when they are taken. */
int mmsb_arena_can_take(const mmsb_arena *arena, uint64_t size, uint64_t count);

/* A slot of `size` zero bytes. MMSB_OK, or MMSB_ARENA_FULL, MMSB_BAD_SIZE, MMSB_NO_MEMORY, changing nothing. */
int mmsb_arena_take(mmsb_arena *arena, uint64_t size, uint64_t *handle);

/* Gives a slot back; `size` as it was asked for. The slot may be handed out again at once. */
void mmsb_arena_give(mmsb_arena *arena, uint64_t handle, uint64_t size);

/* Gives every id up to `id_max` an entry. MMSB_OK, MMSB_BAD_SIZE beyond MMSB_PAGE_ID_MAX, or MMSB_NO_MEMORY. */
int mmsb_arena_ensure_ids(mmsb_arena *arena, uint64_t id_max);

void mmsb_arena_get_stats(const mmsb_arena *arena, mmsb_arena_stats *stats);

/* What an attached process needs: the memory of data segment `number` (as in a handle) and of header chunk `number`.
 * Counting up from 0: MMSB_OK, MMSB_PAGE_NOT_FOUND for a number that is not in use now, MMSB_END past the last. */
int mmsb_arena_segment_memory(const mmsb_arena *arena, uint32_t number, mmsb_memory *memory);
int mmsb_arena_chunk_memory(const mmsb_arena *arena, uint32_t number, mmsb_memory *memory);

/* From now on `changed_first` and `changed_end` say which segments come and go. */
static inline void mmsb_arena_note_changes(mmsb_arena *arena) { arena->changed_first = arena->changed_end = 0; }

/* For the child after fork(): its mappings become read-only, so that it cannot write into the parent's pages. The
 * arena may then be read and released, nothing else. MMSB_OK or MMSB_NO_MEMORY. */
int mmsb_arena_protect_after_fork(mmsb_arena *arena);

/* Checks the invariants. MMSB_OK; MMSB_NO_MEMORY; or 1, with the broken one named in *why. */
int mmsb_arena_check(const mmsb_arena *arena, const char **why);

/* The entry of an id for which mmsb_arena_ensure_ids was called. */
static inline mmsb_page_header *mmsb_arena_entry(const mmsb_arena *arena, uint64_t id) {
    /* With the first chunk's length added, the highest bit names the chunk and the others the place in it. */
    uint64_t place = id + ((uint64_t)1 << MMSB_ARENA_CHUNK_BITS);
    unsigned bit = 63u - (unsigned)__builtin_clzll(place);
    return &arena->chunks[bit - MMSB_ARENA_CHUNK_BITS][place ^ (uint64_t)1 << bit];
}

/* The header of a live page, or NULL. */
static inline mmsb_page_header *mmsb_arena_header(const mmsb_arena *arena, uint64_t id) {
    if (MMSB_UNLIKELY(id >= arena->id_end)) return NULL;
    mmsb_page_header *header = mmsb_arena_entry(arena, id);
    return MMSB_LIKELY(header->flags & MMSB_PAGE_LIVE) ? header : NULL;
}

/* The first id of a live page from `begin` on, `end` when there is none before. Where ids were left out by the million,
 * it passes over the memory that was never touched. */
uint64_t mmsb_arena_next_page(const mmsb_arena *arena, uint64_t begin, uint64_t end);

/* Address of a handle's bytes. Only of a handle in host memory (device 0), and not of 0. */
static inline uint8_t *mmsb_arena_bytes(const mmsb_arena *arena, uint64_t handle) {
    return arena->segments[mmsb_handle_segment(handle)].memory.base + mmsb_handle_offset_bytes(handle);
}

#endif
