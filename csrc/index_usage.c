/* Sums over the commits of a segment: who wrote how much, and into which pages. */
#include "index.h"

/* Table of sums by key, in the order in which the keys appeared. */
typedef struct sums {
    const mmsb_index *index;
    mmsb_buffer *items;
    uint32_t *places; /* numbers of items, from 1 */
    uint64_t place_count;
} sums;

static mmsb_index_sum *item(const sums *table, uint64_t number) {
    return (mmsb_index_sum *)table->items->data + (number - 1);
}

static uint64_t item_count(const sums *table) { return table->items->size / sizeof(mmsb_index_sum); }

static uint32_t *find_place(const sums *table, uint64_t key) {
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        uint32_t *place = &table->places[at & (table->place_count - 1)];
        if (*place == 0 || item(table, *place)->key == key) return place;
    }
}

static bool grow(sums *table) {
    const mmsb_alloc *alloc = table->index->alloc;
    uint64_t count = table->place_count != 0 ? table->place_count * 2 : 64;
    uint32_t *places = alloc->allocate(alloc->context, count * sizeof *places);
    if (places == NULL) return false;
    memset(places, 0, count * sizeof *places);
    alloc->release(alloc->context, table->places);
    table->places = places;
    table->place_count = count;
    for (uint64_t number = 1; number <= item_count(table); number++)
        *find_place(table, item(table, number)->key) = (uint32_t)number;
    return true;
}

/* The sum of a key, made when it is new. The commit is counted once. NULL without memory. */
static mmsb_index_sum *sum_of(sums *table, uint64_t key, uint64_t seq) {
    if (item_count(table) * 2 >= table->place_count && !grow(table)) return NULL;
    uint32_t *place = find_place(table, key);
    if (*place == 0) {
        mmsb_buffer *items = table->items;
        if (!mmsb_buffer_reserve(items, table->index->alloc, items->size + sizeof(mmsb_index_sum))) return NULL;
        items->size += sizeof(mmsb_index_sum);
        *place = (uint32_t)item_count(table);
        *item(table, *place) = (mmsb_index_sum){.key = key};
    }
    mmsb_index_sum *sum = item(table, *place);
    if (sum->last_seq != seq + 1) sum->commits++;
    sum->last_seq = seq + 1;
    return sum;
}

static int add_frame(sums *sources, sums *pages, const mmsb_log_frame *frame) {
    mmsb_index_sum *source = sum_of(sources, frame->head.source, frame->seq);
    if (source == NULL) return MMSB_NO_MEMORY;
    source->log_bytes += frame->bytes;
    mmsb_change change;
    for (const uint8_t *p = frame->changes;;) {
        const uint8_t *start = p;
        if ((p = mmsb_change_next(p, frame->end, &change)) == NULL) return MMSB_BAD_FRAME;
        if (change.kind == MMSB_CHANGE_END) return MMSB_OK;
        if (change.kind > MMSB_CHANGE_METADATA || (change.kind == MMSB_CHANGE_CREATE && change.count > 1)) continue;
        mmsb_index_sum *page = sum_of(pages, change.page_id, frame->seq);
        if (page == NULL) return MMSB_NO_MEMORY;
        page->log_bytes += (uint64_t)(p - start);
        if (change.kind > MMSB_DELTA_BITMAP) continue;
        mmsb_delta_view view;
        int status = mmsb_delta_parse(change.kind, change.payload, change.payload_bytes, UINT64_MAX, &view);
        if (status != MMSB_OK) return status;
        source->deltas++;
        page->deltas++;
        source->changed_bytes += view.value_count;
        page->changed_bytes += view.value_count;
    }
}

int mmsb_index_usage(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                     mmsb_buffer *sources, mmsb_buffer *pages) {
    sums by_source = {.index = index, .items = sources}, by_page = {.index = index, .items = pages};
    int status = MMSB_OK;
    for (uint64_t seq_rel = seq_from; status == MMSB_OK && seq_rel <= seq_to; seq_rel++) {
        mmsb_log_frame frame;
        status = mmsb_index_frame(index, bytes, seq_rel, &frame);
        if (status == MMSB_OK) status = add_frame(&by_source, &by_page, &frame);
    }
    index->alloc->release(index->alloc->context, by_source.places);
    index->alloc->release(index->alloc->context, by_page.places);
    return status;
}
