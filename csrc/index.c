/* Building the index of a segment. */
#include "index.h"

#define NAME_KEY ((uint64_t)1 << 63)
#define LABEL_KEY ((uint64_t)3 << 62)

/* Bytes of a page's log between two stills, at least: below this the changes themselves are as quick. */
#define STILL_LEAST 1024

/* FNV-1a; a collision costs a comparison of texts, nothing else. */
static uint64_t text_hash(const uint8_t *text, uint64_t text_bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < text_bytes; i++) hash = (hash ^ text[i]) * 0x100000001b3u;
    return hash;
}

uint64_t mmsb_index_name_key(const uint8_t *text, uint64_t text_bytes) {
    return NAME_KEY | text_hash(text, text_bytes) >> 2;
}

uint64_t mmsb_index_label_key(const uint8_t *text, uint64_t text_bytes) {
    return LABEL_KEY | text_hash(text, text_bytes) >> 2;
}

void mmsb_index_init(mmsb_index *index, const mmsb_alloc *alloc, const mmsb_kernels *kernels,
                     const mmsb_segment_head *head) {
    memset(index, 0, sizeof *index);
    index->alloc = alloc;
    index->still_least = STILL_LEAST;
    mmsb_log_cursor_start(&index->cursor, kernels, head, NULL, 0);
}

void mmsb_index_release(mmsb_index *index) {
    mmsb_index_release_stills(index);
    mmsb_buffer_release(&index->nodes, index->alloc);
    mmsb_buffer_release(&index->structures, index->alloc);
    mmsb_buffer_release(&index->sources, index->alloc);
    mmsb_buffer_release(&index->commits, index->alloc);
    mmsb_buffer_release(&index->ranges, index->alloc);
    mmsb_buffer_release(&index->labels, index->alloc);
    index->alloc->release(index->alloc->context, index->places);
    index->places = NULL;
    index->place_count = index->keys = 0;
}

uint64_t mmsb_index_bytes(const mmsb_index *index) {
    return index->nodes.capacity + index->structures.capacity + index->sources.capacity + index->commits.capacity +
           index->ranges.capacity + index->labels.capacity + index->place_count * sizeof *index->places +
           index->reels.capacity + index->still_bytes;
}

/* Room for one more item; NULL without memory or beyond 32-bit numbers. The caller adds to size. */
static void *push(mmsb_index *index, mmsb_buffer *buffer, size_t item_bytes) {
    if (MMSB_UNLIKELY(buffer->size + item_bytes > buffer->capacity)) {
        if (buffer->size / item_bytes >= UINT32_MAX - 1) return NULL;
        if (!mmsb_buffer_reserve(buffer, index->alloc, buffer->size + item_bytes)) return NULL;
    }
    void *item = buffer->data + buffer->size;
    buffer->size += item_bytes;
    return item;
}

static mmsb_index_place *find_place(mmsb_index_place *places, uint64_t count, uint64_t key) {
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        mmsb_index_place *place = &places[at & (count - 1)];
        if (place->newest == 0 || place->key == key) return place;
    }
}

static bool grow_places(mmsb_index *index) {
    const mmsb_alloc *alloc = index->alloc;
    uint64_t count = index->place_count != 0 ? index->place_count * 2 : 64;
    mmsb_index_place *places = alloc->allocate(alloc->context, count * sizeof *places);
    if (places == NULL) return false;
    memset(places, 0, count * sizeof *places);
    for (uint64_t i = 0; i < index->place_count; i++)
        if (index->places[i].newest != 0) *find_place(places, count, index->places[i].key) = index->places[i];
    alloc->release(alloc->context, index->places);
    index->places = places;
    index->place_count = count;
    return true;
}

uint32_t mmsb_index_newest(const mmsb_index *index, uint64_t key) {
    return index->place_count == 0 ? 0 : find_place(index->places, index->place_count, key)->newest;
}

mmsb_index_place *mmsb_index_place_of(const mmsb_index *index, uint64_t key) {
    if (index->place_count == 0) return NULL;
    mmsb_index_place *place = find_place(index->places, index->place_count, key);
    return place->newest != 0 ? place : NULL;
}

/* Adds the newest node of a chain. Returns its number, 0 without memory. */
static uint32_t add_node(mmsb_index *index, uint64_t key, uint64_t at, uint32_t seq_rel, uint32_t delta_index) {
    if (MMSB_UNLIKELY(index->keys * 2 >= index->place_count) && !grow_places(index)) return 0;
    mmsb_index_node *node = push(index, &index->nodes, sizeof *node);
    if (node == NULL) return 0;
    mmsb_index_place *place = find_place(index->places, index->place_count, key);
    *node = (mmsb_index_node){.at = at, .seq_rel = seq_rel, .index = delta_index, .prev = place->newest, .depth = 1};
    if (node->prev == 0) {
        place->key = key;
        index->keys++;
    } else {
        /* The older node jumps over k nodes, and the one it lands on over k more: jump over all of them at once. A
         * chain ends in a virtual node 0 of depth 0 that jumps to itself. */
        const mmsb_index_node *prev = mmsb_index_node_at(index, node->prev);
        const mmsb_index_node *over = prev->jump != 0 ? mmsb_index_node_at(index, prev->jump) : NULL;
        const mmsb_index_node *beyond = over != NULL && over->jump != 0 ? mmsb_index_node_at(index, over->jump) : NULL;
        uint32_t over_depth = over != NULL ? over->depth : 0, beyond_depth = beyond != NULL ? beyond->depth : 0;
        bool equal = prev->depth - over_depth == over_depth - beyond_depth;
        node->jump = equal ? (over != NULL ? over->jump : 0) : node->prev;
        node->depth = prev->depth + 1;
        node->described = prev->described;
    }
    place->newest = mmsb_index_node_count(index);
    return place->newest;
}

uint32_t mmsb_index_nodes_until(const mmsb_index *index, uint64_t seq_to) {
    if (seq_to >= mmsb_index_seq_count(index)) return mmsb_index_node_count(index);
    return seq_to != 0 ? ((const mmsb_index_commit *)index->commits.data)[seq_to - 1].nodes : 0;
}

/* Searching by number looks at no node but those on its way. */
static uint32_t until_number(const mmsb_index *index, uint32_t number, uint32_t last) {
    if (last == 0) return 0;
    while (number > last) {
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        number = node->jump > last ? node->jump : node->prev;
    }
    return number;
}

uint32_t mmsb_index_until(const mmsb_index *index, uint32_t number, uint64_t seq_to) {
    return until_number(index, number, mmsb_index_nodes_until(index, seq_to));
}

uint32_t mmsb_index_page_until(const mmsb_index *index, uint64_t page_id, uint64_t seq_to) {
    const mmsb_index_place *page = mmsb_index_place_of(index, page_id);
    if (page == NULL) return 0;
    uint32_t last = mmsb_index_nodes_until(index, seq_to), number = page->newest;
    if (number <= last || last == 0) return last != 0 ? number : 0;
    const mmsb_still_place *next;
    mmsb_index_still_until(index, page, last, &next);
    if (next != NULL) { /* of the nodes listed there, the oldest that comes too late */
        const uint32_t *listed = mmsb_still_numbers(next->still);
        uint32_t low = 0, high = next->still->change_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (listed[middle] > last)
                low = middle + 1;
            else
                high = middle;
        }
        number = low != 0 ? listed[low - 1] : next->node;
    }
    return until_number(index, number, last);
}

uint64_t mmsb_index_rank(const mmsb_index *index, uint32_t number) {
    const mmsb_index_node *node = mmsb_index_node_at(index, number);
    return node->depth - (node->described != 0 ? mmsb_index_structure_at(index, node->described)->quiet : 0);
}

/* Position in index->ranges of the first range that begins after page_id. */
static uint64_t range_after(const mmsb_index *index, uint64_t page_id) {
    const uint32_t *ranges = (const uint32_t *)index->ranges.data;
    uint64_t low = 0, high = index->ranges.size / sizeof *ranges;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (mmsb_index_structure_at(index, ranges[middle])->page_id <= page_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t mmsb_index_range_of(const mmsb_index *index, uint64_t page_id) {
    uint64_t after = range_after(index, page_id);
    if (after == 0) return 0;
    uint32_t number = ((const uint32_t *)index->ranges.data)[after - 1];
    const mmsb_index_structure *range = mmsb_index_structure_at(index, number);
    return page_id - range->page_id < range->count ? number : 0;
}

/* Keeps the ranges in order of their first id; ids ascend, so this appends. */
static bool add_range(mmsb_index *index, uint64_t page_id, uint32_t structure) {
    uint64_t after = range_after(index, page_id);
    if (push(index, &index->ranges, sizeof structure) == NULL) return false;
    uint32_t *ranges = (uint32_t *)index->ranges.data;
    memmove(ranges + after + 1, ranges + after, index->ranges.size - (after + 1) * sizeof *ranges);
    ranges[after] = structure;
    return true;
}

static int add_name(mmsb_index *index, const mmsb_change *change, uint64_t offset, uint32_t seq_rel,
                    uint32_t structure) {
    if (change->text_bytes == 0) return MMSB_OK;
    uint32_t number = add_node(index, mmsb_index_name_key(change->text, change->text_bytes),
                               offset | (uint64_t)MMSB_NODE_NAME << 56, seq_rel, 0);
    if (number == 0) return MMSB_NO_MEMORY;
    ((mmsb_index_node *)index->nodes.data)[number - 1].described = structure;
    return MMSB_OK;
}

/* CREATE, DELETE, RESIZE, RENAME, METADATA: a structure, and a node of the page unless it creates many. */
static int add_structure(mmsb_index *index, const mmsb_change *change, uint64_t offset, uint32_t seq_rel,
                         uint32_t delta_index) {
    uint64_t at = offset | (uint64_t)change->kind << 56;
    mmsb_index_structure *made = push(index, &index->structures, sizeof *made);
    if (made == NULL) return MMSB_NO_MEMORY;
    uint32_t number = mmsb_index_structure_count(index);
    *made = (mmsb_index_structure){.at = at, .page_id = change->page_id, .count = 1, .seq_rel = seq_rel};
    if (change->kind == MMSB_CHANGE_CREATE) {
        made->count = change->count;
        made->size = change->size;
        made->page_kind = change->page_kind;
        made->name_by = made->metadata_by = made->created_by = number;
        if (change->count > 1) return add_range(index, change->page_id, number) ? MMSB_OK : MMSB_NO_MEMORY;
    }
    uint32_t node_number = add_node(index, change->page_id, at, seq_rel, delta_index);
    if (node_number == 0) return MMSB_NO_MEMORY;
    mmsb_index_node *node = (mmsb_index_node *)index->nodes.data + (node_number - 1);
    made->node = node_number;
    made->quiet = change->kind != MMSB_CHANGE_RESIZE;
    uint32_t before_number = node->described != 0 ? node->described : mmsb_index_range_of(index, change->page_id);
    if (change->kind != MMSB_CHANGE_CREATE && before_number != 0) {
        const mmsb_index_structure *before = mmsb_index_structure_at(index, before_number);
        made->quiet += before->quiet;
        made->size = before->size;
        made->page_kind = before->page_kind;
        made->name_by = before->name_by;
        made->metadata_by = before->metadata_by;
        made->created_by = before->created_by;
    }
    if (change->kind == MMSB_CHANGE_RESIZE) made->size = change->size;
    if (change->kind == MMSB_CHANGE_RENAME) made->name_by = number;
    if (change->kind == MMSB_CHANGE_METADATA) made->metadata_by = number;
    node->described = number;
    if (change->kind == MMSB_CHANGE_CREATE || change->kind == MMSB_CHANGE_RENAME)
        return add_name(index, change, offset, seq_rel, number);
    return MMSB_OK;
}

static int add_text(mmsb_index *index, const mmsb_change *change, uint64_t offset, uint32_t seq_rel) {
    if (change->kind == MMSB_CHANGE_SOURCE) {
        mmsb_index_source *source = push(index, &index->sources, sizeof *source);
        if (source == NULL) return MMSB_NO_MEMORY;
        *source = (mmsb_index_source){change->page_id, offset | (uint64_t)MMSB_CHANGE_SOURCE << 56};
        return MMSB_OK;
    }
    uint32_t number = add_node(index, mmsb_index_label_key(change->text, change->text_bytes),
                               offset | (uint64_t)MMSB_CHANGE_LABEL << 56, seq_rel, 0);
    uint32_t *label = push(index, &index->labels, sizeof *label);
    if (number == 0 || label == NULL) return MMSB_NO_MEMORY;
    *label = number;
    return MMSB_OK;
}

static int add_frame(mmsb_index *index, const mmsb_log_frame *frame, const uint8_t *bytes) {
    /* A frame starts on an 8-byte boundary, so 32 bits of units reach 32 GiB; only the one oversized frame of a segment
     * of its own goes further. */
    if (frame->head.seq_rel > UINT32_MAX - 2 || frame->offset / MMSB_FRAME_UNIT_BYTES > UINT32_MAX)
        return MMSB_FRAME_TOO_LARGE;
    uint32_t seq_rel = (uint32_t)frame->head.seq_rel, delta_index = 0;
    mmsb_index_commit *commit = push(index, &index->commits, sizeof *commit);
    if (commit == NULL) return MMSB_NO_MEMORY;
    commit->units = (uint32_t)(frame->offset / MMSB_FRAME_UNIT_BYTES);

    mmsb_change change;
    const uint8_t *p = frame->changes;
    for (;;) {
        uint64_t offset = (uint64_t)(p - bytes);
        p = mmsb_change_next(p, frame->end, &change);
        if (MMSB_UNLIKELY(p == NULL)) return MMSB_BAD_FRAME;
        int status = MMSB_OK;
        if (MMSB_LIKELY(change.kind >= MMSB_DELTA_DENSE && change.kind <= MMSB_DELTA_BITMAP)) {
            /* The top bits of keys belong to names and labels. */
            if (change.page_id >= NAME_KEY) return MMSB_BAD_FRAME;
            if (add_node(index, change.page_id, offset | (uint64_t)change.kind << 56, seq_rel, delta_index++) == 0)
                return MMSB_NO_MEMORY;
        } else if (change.kind >= MMSB_CHANGE_CREATE && change.kind <= MMSB_CHANGE_METADATA) {
            if (change.page_id >= NAME_KEY) return MMSB_BAD_FRAME;
            status = add_structure(index, &change, offset, seq_rel, delta_index);
        } else if (change.kind == MMSB_CHANGE_LABEL || change.kind == MMSB_CHANGE_SOURCE) {
            status = add_text(index, &change, offset, seq_rel);
        } else if (change.kind == MMSB_CHANGE_END) {
            commit->nodes = mmsb_index_node_count(index);
            return MMSB_OK;
        }
        if (MMSB_UNLIKELY(status != MMSB_OK)) return status;
    }
}

int mmsb_index_extend(mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available) {
    if (index->broken) return MMSB_BAD_FRAME;
    index->cursor.bytes = bytes;
    index->cursor.available = available;
    for (;;) {
        mmsb_log_frame frame;
        int status = mmsb_log_cursor_next(&index->cursor, kernels, &frame);
        if (status != MMSB_OK) return status == MMSB_END ? MMSB_OK : status;
        if (frame.head.kind != MMSB_FRAME_COMMIT) continue;
        status = add_frame(index, &frame, bytes);
        if (status != MMSB_OK) {
            index->broken = true;
            return status;
        }
    }
}
