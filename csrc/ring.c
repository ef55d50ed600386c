#include "ring.h"

static bool is_size(uint64_t bytes) {
    return bytes >= MMSB_RING_BYTES_MIN && bytes <= MMSB_RING_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

int mmsb_ring_create(mmsb_memory *memory, uint64_t command_bytes, uint64_t completion_bytes) {
    if (!is_size(command_bytes) || !is_size(completion_bytes)) return MMSB_BAD_SIZE;
    int status = mmsb_memory_create_writable(memory, MMSB_RING_HEAD_BYTES + command_bytes + completion_bytes);
    if (status != MMSB_OK) return status;
    mmsb_ring_shared *shared = (mmsb_ring_shared *)(void *)memory->base;
    shared->layout = MMSB_RING_LAYOUT;
    shared->command_bytes = command_bytes;
    shared->completion_bytes = completion_bytes;
    memcpy(shared->magic, MMSB_RING_MAGIC, sizeof shared->magic);
    return MMSB_OK;
}

int mmsb_ring_map(mmsb_memory *memory, int fd) {
    mmsb_memory mapped;
    int status = mmsb_memory_map(&mapped, fd, true);
    if (status != MMSB_OK) return status;
    const mmsb_ring_shared *shared = (const mmsb_ring_shared *)(void *)mapped.base;
    if (mapped.bytes < MMSB_RING_HEAD_BYTES || memcmp(shared->magic, MMSB_RING_MAGIC, sizeof shared->magic) != 0) {
        status = MMSB_BAD_HEADER;
    } else if (shared->layout != MMSB_RING_LAYOUT) {
        status = MMSB_NEWER_VERSION;
    } else if (!is_size(shared->command_bytes) || !is_size(shared->completion_bytes) ||
               mapped.bytes != MMSB_RING_HEAD_BYTES + shared->command_bytes + shared->completion_bytes) {
        status = MMSB_BAD_HEADER;
    }
    if (status != MMSB_OK) {
        mmsb_memory_unmap(&mapped);
        return status;
    }
    *memory = mapped;
    return MMSB_OK;
}

void mmsb_ring_ends(const mmsb_memory *memory, mmsb_ring_end *commands, mmsb_ring_end *completions) {
    mmsb_ring_shared *shared = (mmsb_ring_shared *)(void *)memory->base;
    uint8_t *area = memory->base + MMSB_RING_HEAD_BYTES;
    *commands = (mmsb_ring_end){.area = area,
                                .capacity = shared->command_bytes,
                                .tail_at = &shared->command_tail,
                                .head_at = &shared->command_head};
    *completions = (mmsb_ring_end){.area = area + shared->command_bytes,
                                   .capacity = shared->completion_bytes,
                                   .tail_at = &shared->completion_tail,
                                   .head_at = &shared->completion_head};
}

static uint64_t first_word(uint32_t bytes, uint8_t kind, uint8_t flags, uint16_t more) {
    return (uint64_t)bytes | (uint64_t)kind << 32 | (uint64_t)flags << 40 | (uint64_t)more << 48;
}

uint8_t *mmsb_ring_reserve(mmsb_ring_end *writer, uint64_t bytes) {
    uint64_t needed = mmsb_align_up(bytes, 8), index = writer->here & (writer->capacity - 1);
    uint64_t rest = writer->capacity - index, total = needed <= rest ? needed : rest + needed;
    if (MMSB_UNLIKELY(total > writer->capacity - (writer->here - writer->there))) {
        uint64_t there = __atomic_load_n(writer->head_at, __ATOMIC_ACQUIRE);
        /* The reader can only have moved forward, and not beyond what was written. */
        if (writer->here - there > writer->here - writer->there) {
            writer->broken = "its head index moved backwards or beyond the tail";
            return NULL;
        }
        writer->there = there;
        if (total > writer->capacity - (writer->here - there)) return NULL;
    }
    if (needed > rest) {
        /* No record straddles the end: what is left there is one record of kind 0. */
        mmsb_store_u64(writer->area + index, first_word((uint32_t)rest, 0, 0, 0));
        writer->here += rest;
        index = 0;
    }
    return writer->area + index;
}

void mmsb_ring_put(mmsb_ring_end *writer, uint8_t *record, uint32_t bytes, uint8_t kind, uint8_t flags, uint16_t more) {
    mmsb_store_u64(record, first_word(bytes, kind, flags, more));
    writer->here += mmsb_align_up(bytes, 8);
}

static int break_off(mmsb_ring_end *end, const char *reason) {
    end->broken = reason;
    return MMSB_RING_BROKEN;
}

int mmsb_ring_take(mmsb_ring_end *reader, const mmsb_alloc *alloc, mmsb_buffer *record) {
    if (MMSB_UNLIKELY(reader->broken != NULL)) return MMSB_RING_BROKEN;
    for (;;) {
        if (reader->here == reader->there) {
            uint64_t tail = __atomic_load_n(reader->tail_at, __ATOMIC_ACQUIRE);
            if (tail == reader->here) return MMSB_END;
            if (tail - reader->here > reader->capacity || tail % 8 != 0)
                return break_off(reader, "its tail index moved backwards or further than the ring is long");
            reader->there = tail;
        }
        uint64_t index = reader->here & (reader->capacity - 1), rest = reader->capacity - index;
        const uint8_t *at = reader->area + index;
        /* Read once: from here on only this copy counts, whatever the writer does to the memory. */
        uint64_t word = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
        uint64_t bytes = word & UINT32_MAX, taken = mmsb_align_up(bytes, 8);
        if (bytes < MMSB_RING_RECORD_HEAD_BYTES || taken > rest || taken > reader->there - reader->here)
            return break_off(reader, "the length of a record does not fit what was published");
        if ((word >> 32 & 0xff) == 0) {
            if (bytes != rest) return break_off(reader, "padding does not reach to the end of the ring");
            reader->here += rest;
            continue;
        }
        if (!mmsb_buffer_reserve(record, alloc, taken)) return MMSB_NO_MEMORY;
        mmsb_store_u64(record->data, word);
        memcpy(record->data + 8, at + 8, taken - 8);
        record->size = bytes;
        reader->here += taken;
        return MMSB_OK;
    }
}
