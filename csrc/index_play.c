/* Reading stills: the one to begin with, laying it over a page, playing its tape. */
#include "index.h"

const mmsb_still_place *mmsb_index_still_until(const mmsb_index *index, const mmsb_index_place *page, uint32_t number,
                                               const mmsb_still_place **next) {
    *next = NULL;
    if (page->reel == 0) return NULL;
    const mmsb_still_reel *reel = (const mmsb_still_reel *)(const void *)index->reels.data + (page->reel - 1);
    const mmsb_still_place *places = (const mmsb_still_place *)(const void *)reel->places.data;
    uint64_t low = 0, count = reel->places.size / sizeof *places, high = count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (places[middle].node <= number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < count) *next = &places[low];
    return low != 0 ? &places[low - 1] : NULL;
}

int mmsb_index_set_size(const mmsb_alloc *alloc, mmsb_index_page *page, uint64_t size) {
    if (size == 0) return MMSB_BAD_FRAME;
    if (!mmsb_buffer_reserve(&page->bytes, alloc, size)) return MMSB_NO_MEMORY;
    if (size > page->bytes.size) memset(page->bytes.data + page->bytes.size, 0, size - page->bytes.size);
    page->bytes.size = size;
    return MMSB_OK;
}

/* Copies the written bytes of a block, of which not all were; `room` bytes of the page are there. */
static void lay_part(const mmsb_still_block *block, uint8_t *page, uint64_t room) {
    for (uint64_t at = 0; at < MMSB_STILL_BLOCK_BYTES; at += 8) {
        uint64_t bits = block->written >> at & 0xff;
        if (bits == 0) continue;
        if (room >= at + 8) { /* each bit becomes a byte of ones: the written bytes of a word at once */
            uint64_t mask = (bits * 0x0101010101010101u) & 0x8040201008040201u;
            mask = ((mask + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u) * 0xff;
            uint64_t now = mmsb_load_u64(page + at);
            mmsb_store_u64(page + at, (now & ~mask) | (mmsb_load_u64(block->bytes + at) & mask));
        } else {
            for (uint64_t k = 0; k < 8; k++)
                if (bits >> k & 1) page[at + k] = block->bytes[at + k];
        }
    }
}

int mmsb_still_lay(const mmsb_still *still, const mmsb_alloc *alloc, mmsb_index_page *page) {
    mmsb_buffer *bytes = &page->bytes;
    if (still->clip < bytes->size) bytes->size = still->clip;
    int status = still->size != 0 ? mmsb_index_set_size(alloc, page, still->size) : MMSB_OK;
    if (status != MMSB_OK) return status;
    for (uint64_t i = 0; i < still->block_count; i++) {
        const mmsb_still_block *block = &still->blocks[i];
        uint64_t at = block->number * MMSB_STILL_BLOCK_BYTES;
        if (block->written == 0) continue;
        uint64_t end = at + MMSB_STILL_BLOCK_BYTES - (uint64_t)__builtin_clzll(block->written);
        if (end > bytes->size) return MMSB_BAD_DELTA;
        if (block->written == UINT64_MAX)
            memcpy(bytes->data + at, block->bytes, MMSB_STILL_BLOCK_BYTES);
        else
            lay_part(block, bytes->data + at, bytes->size - at);
    }
    return MMSB_OK;
}

int mmsb_still_play(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                    const mmsb_still *still, uint32_t from, uint32_t to, mmsb_index_page *page) {
    const uint32_t *numbers = mmsb_still_numbers(still);
    const uint8_t *p = (const uint8_t *)(numbers + still->change_count);
    for (uint64_t i = still->change_count; i-- > 0 && numbers[i] <= to;) {
        uint64_t taped = 0;
        p = mmsb_varint_get(p, p + MMSB_VARINT_BYTES_MAX, &taped);
        const uint8_t *payload = p;
        p += taped >> 2;
        if (numbers[i] <= from) continue;
        int status = taped == 0 ? mmsb_index_apply(index, kernels, bytes, page_id, &numbers[i], 1, page)
                                : kernels->delta_apply(page->bytes.data, page->bytes.size, (uint8_t)(taped & 3),
                                                       payload, taped >> 2);
        if (status != MMSB_OK) return status;
    }
    return MMSB_OK;
}
