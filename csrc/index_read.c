/* Asking the index of a segment. Offsets come from verified frames; what stands there is checked again. */
#include "index.h"

/* Of a still; half as much of a tape. More than this comes by itself, as it is read from one end to the other. */
#define FETCHED_BYTES 8192

int mmsb_index_change(const mmsb_index *index, const uint8_t *bytes, uint64_t at, mmsb_change *change) {
    uint8_t kind = mmsb_index_kind(at);
    const uint8_t *end = bytes + index->cursor.offset;
    const uint8_t *p = mmsb_change_next(bytes + mmsb_index_offset(at), end, change);
    if (p == NULL) return MMSB_BAD_FRAME;
    if (kind == MMSB_NODE_NAME)
        return change->kind == MMSB_CHANGE_CREATE || change->kind == MMSB_CHANGE_RENAME ? MMSB_OK : MMSB_BAD_FRAME;
    return change->kind == kind ? MMSB_OK : MMSB_BAD_FRAME;
}

static int change_of_page(const mmsb_index *index, const uint8_t *bytes, uint64_t at, uint64_t page_id,
                          mmsb_change *change) {
    int status = mmsb_index_change(index, bytes, at, change);
    return status == MMSB_OK && change->page_id != page_id ? MMSB_BAD_FRAME : status;
}

int mmsb_index_frame(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_rel, mmsb_log_frame *frame) {
    uint64_t offset =
        (uint64_t)((const mmsb_index_commit *)index->commits.data)[seq_rel - 1].units * MMSB_FRAME_UNIT_BYTES;
    const uint8_t *p = bytes + offset;
    uint64_t body_bytes = (mmsb_load_u64(p) & MMSB_FRAME_UNITS_MAX) * MMSB_FRAME_UNIT_BYTES;
    if (body_bytes == 0 || body_bytes > index->cursor.offset - offset - MMSB_FRAME_WORD_BYTES) return MMSB_BAD_FRAME;
    frame->offset = offset;
    frame->bytes = body_bytes + MMSB_FRAME_WORD_BYTES;
    frame->end = p + frame->bytes;
    mmsb_frame_head *head = &frame->head;
    p += MMSB_FRAME_WORD_BYTES;
    head->prev_crc = mmsb_load_u32(p);
    head->kind = p[4];
    p += 5;
    if ((p = mmsb_varint_get(p, frame->end, &head->seq_rel)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, frame->end, &head->durable_lag)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, frame->end, &head->time_rel_ns)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, frame->end, &head->branch)) == NULL) return MMSB_BAD_FRAME;
    if ((p = mmsb_varint_get(p, frame->end, &head->source)) == NULL) return MMSB_BAD_FRAME;
    if (head->kind != MMSB_FRAME_COMMIT || head->seq_rel != seq_rel) return MMSB_BAD_FRAME;
    frame->changes = p;
    frame->seq = index->cursor.base_seq + seq_rel;
    frame->time_ns = index->cursor.base_time_ns + head->time_rel_ns;
    return MMSB_OK;
}

int mmsb_index_seq_at(const mmsb_index *index, const uint8_t *bytes, uint64_t time_ns, uint64_t *seq_rel) {
    uint64_t low = 0, high = mmsb_index_seq_count(index);
    while (low < high) { /* commits up to low are not after time_ns, those above high are */
        uint64_t middle = low + (high - low + 1) / 2;
        mmsb_log_frame frame;
        int status = mmsb_index_frame(index, bytes, middle, &frame);
        if (status != MMSB_OK) return status;
        if (frame.time_ns <= time_ns)
            low = middle;
        else
            high = middle - 1;
    }
    *seq_rel = low;
    return MMSB_OK;
}

int mmsb_index_next_commit(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                           uint64_t source, uint64_t kinds, uint64_t *found) {
    *found = 0;
    for (uint64_t seq_rel = seq_from; seq_rel <= seq_to; seq_rel++) {
        mmsb_log_frame frame;
        int status = mmsb_index_frame(index, bytes, seq_rel, &frame);
        if (status != MMSB_OK) return status;
        if (source != MMSB_ANY_SOURCE && frame.head.source != source) continue;
        bool fits = kinds == 0;
        mmsb_change change = {.kind = MMSB_CHANGE_INTENT};
        for (const uint8_t *p = frame.changes; !fits && change.kind != MMSB_CHANGE_END;) {
            if ((p = mmsb_change_next(p, frame.end, &change)) == NULL) return MMSB_BAD_FRAME;
            fits = change.kind != MMSB_CHANGE_END && (kinds >> change.kind & 1);
        }
        if (!fits) continue;
        *found = seq_rel;
        return MMSB_OK;
    }
    return MMSB_OK;
}

void mmsb_index_facts_of(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                         mmsb_index_facts *facts) {
    memset(facts, 0, sizeof *facts);
    uint32_t number = mmsb_index_page_until(index, page_id, seq_to);
    uint32_t range = mmsb_index_range_of(index, page_id);
    if (range != 0 && mmsb_index_structure_at(index, range)->seq_rel > seq_to) range = 0;
    uint32_t described = range;
    facts->node = number;
    if (number != 0) {
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        if (node->described != 0) described = node->described;
        uint32_t before = mmsb_index_page_until(index, page_id, seq_from);
        facts->gained = mmsb_index_rank(index, number) - (before != 0 ? mmsb_index_rank(index, before) : 0);
        facts->deleted = mmsb_index_kind(node->at) == MMSB_CHANGE_DELETE;
    }
    if (described == 0) return;
    const mmsb_index_structure *structure = mmsb_index_structure_at(index, described);
    facts->size = structure->size;
    facts->name_by = structure->name_by;
    facts->metadata_by = structure->metadata_by;
    facts->page_kind = structure->page_kind;
    facts->created =
        structure->created_by != 0 && mmsb_index_structure_at(index, structure->created_by)->seq_rel > seq_from;
}

int mmsb_index_has_page(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to) {
    const mmsb_index_place *page = mmsb_index_place_of(index, page_id);
    uint32_t first = mmsb_index_nodes_until(index, seq_from), last = mmsb_index_nodes_until(index, seq_to);
    if (page != NULL && last != 0) {
        const mmsb_still_place *next, *place = mmsb_index_still_until(index, page, last, &next);
        if (place != NULL && next != NULL && place->node > first) return 1; /* stills end where a page is deleted */
        uint32_t number = mmsb_index_page_until(index, page_id, seq_to);
        if (number > first) return mmsb_index_kind(mmsb_index_node_at(index, number)->at) != MMSB_CHANGE_DELETE;
    }
    uint32_t range = mmsb_index_range_of(index, page_id);
    if (range == 0) return -1;
    const mmsb_index_structure *made = mmsb_index_structure_at(index, range);
    return made->seq_rel > seq_from && made->seq_rel <= seq_to ? 1 : -1;
}

int mmsb_index_find_text(const mmsb_index *index, const uint8_t *bytes, uint64_t key, const uint8_t *text,
                         uint64_t text_bytes, uint64_t seq_to, uint32_t *number) {
    *number = mmsb_index_until(index, mmsb_index_newest(index, key), seq_to);
    for (; *number != 0; *number = mmsb_index_node_at(index, *number)->prev) {
        mmsb_change change;
        int status = mmsb_index_change(index, bytes, mmsb_index_node_at(index, *number)->at, &change);
        if (status != MMSB_OK) return status;
        if (change.text_bytes == text_bytes && memcmp(change.text, text, text_bytes) == 0) break;
    }
    return MMSB_OK;
}

static bool push_number(const mmsb_index *index, mmsb_buffer *numbers, uint32_t number) {
    if (!mmsb_buffer_reserve(numbers, index->alloc, numbers->size + sizeof number)) return false;
    mmsb_store_u32(numbers->data + numbers->size, number);
    numbers->size += sizeof number;
    return true;
}

/* Whether the delta at a node gives every byte of a page of `size` bytes a new value. */
static bool covers(const mmsb_index *index, const uint8_t *bytes, uint64_t at, uint64_t size) {
    mmsb_change change;
    mmsb_delta_view view;
    if (mmsb_index_change(index, bytes, at, &change) != MMSB_OK || change.payload_bytes < size) return false;
    if (mmsb_delta_parse(change.kind, change.payload, change.payload_bytes, size, &view) != MMSB_OK) return false;
    return view.value_count == size;
}

/* The size of a page just after one of its nodes, 0 when the segment does not tell. */
static uint64_t size_after(const mmsb_index *index, uint64_t page_id, uint32_t number) {
    uint32_t described = number != 0 ? mmsb_index_node_at(index, number)->described : 0;
    if (described == 0) described = mmsb_index_range_of(index, page_id);
    return described != 0 ? mmsb_index_structure_at(index, described)->size : 0;
}

/* How the page's changes begin when the walk reached seq_from, or the segment's beginning with (number 0). */
static void end_open(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to, uint32_t number,
                     mmsb_index_collection *collection) {
    uint32_t range = number == 0 ? mmsb_index_range_of(index, page_id) : 0;
    if (range == 0) return;
    const mmsb_index_structure *made = mmsb_index_structure_at(index, range);
    if (made->seq_rel <= seq_from || made->seq_rel > seq_to) return;
    collection->size = made->size;
    collection->end = MMSB_COLLECT_CREATED;
}

/* Whether the oldest change on the tape is the page's CREATE. */
static bool begins(const mmsb_index *index, const mmsb_still *tape) {
    if (tape->change_count == 0) return false;
    uint32_t oldest = mmsb_still_numbers(tape)[tape->change_count - 1];
    return mmsb_index_kind(mmsb_index_node_at(index, oldest)->at) == MMSB_CHANGE_CREATE;
}

/* What is left to ask for below the first tape, which has the changes up to node `newest`. */
static void end_tape(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to, uint32_t newest,
                     mmsb_index_collection *collection) {
    uint32_t last = mmsb_index_nodes_until(index, seq_from), before = last != 0 ? newest : 0;
    while (before > last) before = mmsb_index_node_at(index, before)->prev;
    uint64_t known = size_after(index, page_id, before);
    /* Where no size is told up to the newest node, it was the same all the time. */
    if (known != 0 || size_after(index, page_id, newest) != 0) collection->size = known;
    collection->tape_from = before;
    if (before != 0) return;
    if (begins(index, collection->tape))
        collection->end = MMSB_COLLECT_CREATED;
    else
        end_open(index, page_id, seq_from, seq_to, 0, collection);
}

/* What is left to ask for below a still. collection->size: of the page at seq_to. */
static void end_still(const mmsb_index *index, uint64_t page_id, uint64_t seq_to, const mmsb_still *still,
                      mmsb_index_collection *collection) {
    uint64_t size = still->size;
    if (size == 0 && collection->size != 0) { /* the segment tells sizes from a resize on, and that one came later */
        bool resized = size_after(index, page_id, mmsb_index_page_until(index, page_id, seq_to)) != 0;
        size = resized ? 0 : collection->size;
    }
    bool whole = size != 0 && still->covered >= size;
    collection->still = still;
    collection->size = whole || still->size == 0 ? size : 0;
    if (whole) collection->end = MMSB_COLLECT_COVERED;
}

/* Fetches what a page will be made of, while the caller makes room for it: a still and the tape up to the next one. */
static void fetch(const mmsb_still_place *place, const mmsb_still_place *next) {
    uint64_t blocks = place->block_count * sizeof(mmsb_still_block);
    const uint8_t *still = (const uint8_t *)place->still, *tape = (const uint8_t *)next->still->blocks;
    for (uint64_t at = 0; at < mmsb_min_u64(blocks, FETCHED_BYTES); at += 64) __builtin_prefetch(still + at);
    tape += next->block_count * sizeof(mmsb_still_block);
    for (uint64_t at = 0; at < FETCHED_BYTES / 2; at += 64) __builtin_prefetch(tape + at);
}

int mmsb_index_collect(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_from,
                       uint64_t seq_to, mmsb_buffer *numbers, mmsb_index_collection *collection) {
    *collection = (mmsb_index_collection){.size = collection->size, .end = MMSB_COLLECT_OPEN};
    const mmsb_index_place *page = mmsb_index_place_of(index, page_id);
    const mmsb_still_place *next = NULL, *place = NULL;
    uint32_t last = mmsb_index_nodes_until(index, seq_to);
    if (page != NULL && last != 0) place = mmsb_index_still_until(index, page, last, &next);
    if (place != NULL && place->node <= mmsb_index_nodes_until(index, seq_from)) place = next = NULL;
    if (place != NULL && next != NULL) { /* the tape is told where to end, and no node is looked at */
        collection->tape = next->still;
        collection->tape_from = place->node;
        fetch(place, next);
        collection->tape_to = last;
        end_still(index, page_id, seq_to, place->still, collection);
        return MMSB_OK;
    }
    uint32_t number = mmsb_index_page_until(index, page_id, seq_to);
    if (number != 0 && next != NULL) {
        collection->tape = next->still;
        collection->tape_to = number;
        end_tape(index, page_id, seq_from, seq_to, number, collection);
        return MMSB_OK;
    }
    uint64_t size = collection->size;
    uint32_t stop = place != NULL ? place->node : 0;
    while (number != stop) {
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        if (node->seq_rel <= seq_from) break;
        if (node->prev != 0) __builtin_prefetch(mmsb_index_node_at(index, node->prev));
        uint8_t kind = mmsb_index_kind(node->at);
        if (kind == MMSB_CHANGE_DELETE) {
            collection->end = MMSB_COLLECT_DELETED;
            return MMSB_OK;
        }
        if (kind != MMSB_CHANGE_RENAME && kind != MMSB_CHANGE_METADATA && !push_number(index, numbers, number))
            return MMSB_NO_MEMORY;
        if (kind == MMSB_CHANGE_CREATE) {
            collection->end = MMSB_COLLECT_CREATED;
            return MMSB_OK;
        }
        if (kind == MMSB_CHANGE_RESIZE) {
            size = size_after(index, page_id, node->prev);
        } else if (kind == MMSB_DELTA_DENSE && size != 0 && covers(index, bytes, node->at, size)) {
            collection->size = size;
            collection->end = MMSB_COLLECT_COVERED;
            return MMSB_OK;
        }
        number = node->prev;
    }
    if (place != NULL) {
        end_still(index, page_id, seq_to, place->still, collection);
    } else {
        collection->size = size;
        end_open(index, page_id, seq_from, seq_to, number, collection);
    }
    return MMSB_OK;
}

int mmsb_index_page_nodes(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                          mmsb_buffer *numbers) {
    uint32_t number = mmsb_index_page_until(index, page_id, seq_to);
    for (; number != 0; number = mmsb_index_node_at(index, number)->prev) {
        if (mmsb_index_node_at(index, number)->seq_rel <= seq_from) break;
        if (!push_number(index, numbers, number)) return MMSB_NO_MEMORY;
    }
    return MMSB_OK;
}

int mmsb_index_apply(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                     const uint32_t *numbers, uint64_t count, mmsb_index_page *page) {
    for (uint64_t i = count; i-- > 0;) {
        mmsb_index_fetch(index, bytes, numbers, i);
        mmsb_change change;
        int status = change_of_page(index, bytes, mmsb_index_node_at(index, numbers[i])->at, page_id, &change);
        if (status != MMSB_OK) return status;
        uint8_t code = change.kind;
        if (change.kind == MMSB_CHANGE_CREATE) {
            page->bytes.size = 0;
            status = mmsb_index_set_size(index->alloc, page, change.size);
            code = change.create_flags & MMSB_CREATE_CONTENT ? change.content_code : 0;
        } else if (change.kind == MMSB_CHANGE_RESIZE) {
            status = mmsb_index_set_size(index->alloc, page, change.size);
            code = 0;
        } else if (change.kind > MMSB_DELTA_BITMAP) {
            code = 0;
        }
        if (status == MMSB_OK && code != 0)
            status =
                kernels->delta_apply(page->bytes.data, page->bytes.size, code, change.payload, change.payload_bytes);
        if (status != MMSB_OK) return status;
    }
    return MMSB_OK;
}

static bool writes_in(const mmsb_delta_view *view, uint64_t first, uint64_t end) {
    if (view->end <= first || view->first >= end) return false;
    mmsb_run_cursor cursor = {0};
    while (mmsb_delta_next_run(view, &cursor) && cursor.offset < end)
        if (cursor.offset + cursor.length > first) return true;
    return false;
}

int mmsb_index_last_write(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_to,
                          uint64_t *first, uint64_t *end, uint32_t *number, int *open) {
    uint32_t at = mmsb_index_page_until(index, page_id, seq_to);
    *number = 0;
    *open = 1;
    for (; at != 0 && *first < *end; at = mmsb_index_node_at(index, at)->prev) {
        const mmsb_index_node *node = mmsb_index_node_at(index, at);
        uint8_t kind = mmsb_index_kind(node->at);
        if (kind == MMSB_CHANGE_CREATE) break;
        if (kind != MMSB_CHANGE_RESIZE && kind > MMSB_DELTA_BITMAP) continue;
        mmsb_change change;
        int status = change_of_page(index, bytes, node->at, page_id, &change);
        if (status != MMSB_OK) return status;
        if (kind == MMSB_CHANGE_RESIZE) {
            *end = mmsb_min_u64(*end, change.size); /* what lay beyond is gone */
            continue;
        }
        mmsb_delta_view view;
        status = mmsb_delta_parse(change.kind, change.payload, change.payload_bytes, UINT64_MAX, &view);
        if (status != MMSB_OK) return status;
        if (!writes_in(&view, *first, *end)) continue;
        *number = at;
        *open = 0;
        return MMSB_OK;
    }
    *open = at == 0 && *first < *end && mmsb_index_range_of(index, page_id) == 0;
    return MMSB_OK;
}

uint32_t mmsb_index_rank_node(const mmsb_index *index, uint32_t number, uint64_t rank) {
    if (number == 0 || mmsb_index_rank(index, number) < rank) return 0;
    for (;;) {
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        if (node->jump != 0 && mmsb_index_rank(index, node->jump) >= rank)
            number = node->jump;
        else if (node->prev != 0 && mmsb_index_rank(index, node->prev) >= rank)
            number = node->prev;
        else
            return number;
    }
}

/* Number of the first node of a commit after seq_from; one past the last node when there is none. */
static uint32_t first_node_after(const mmsb_index *index, uint64_t seq_from) {
    uint32_t low = 1, high = mmsb_index_node_count(index) + 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (mmsb_index_node_at(index, middle)->seq_rel <= seq_from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int mmsb_index_touched(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                       mmsb_buffer *ids) {
    uint32_t count = mmsb_index_node_count(index);
    for (uint32_t number = first_node_after(index, seq_from); number <= count; number++) {
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        if (node->seq_rel > seq_to) break;
        uint8_t kind = mmsb_index_kind(node->at);
        if (kind == MMSB_NODE_NAME || kind == MMSB_CHANGE_LABEL) continue;
        mmsb_change change;
        int status = mmsb_index_change(index, bytes, node->at, &change);
        if (status != MMSB_OK) return status;
        if (!mmsb_buffer_reserve(ids, index->alloc, ids->size + sizeof(uint64_t))) return MMSB_NO_MEMORY;
        mmsb_store_u64(ids->data + ids->size, change.page_id);
        ids->size += sizeof(uint64_t);
    }
    return MMSB_OK;
}
