/* Stills: what a page's changes in the segment come to, kept every so often, so that its bytes at any commit are one
 * still and the few changes after it, however long the history is.
 *
 * A still holds the blocks of 64 bytes that were touched, so it is as large as what is written and not as the page. The
 * next one is made when the page's log since the last one is about as large as the still would be: all stills together
 * take no more memory than the segment itself, and to read a page takes no more than about its own size in changes. */
#include "index.h"

/* A change counts as so many bytes more than it has in the log: its node is as large. */
#define CHARGE_EACH 16

/* A larger payload is not copied to the tape: it is read from the log, where it takes no longer. */
#define TAPED_BYTES 1024

/* How many times the log since the last one a still may take, and the one where the segment ends if it is small. */
#define WORTH 1.25
#define WORTH_LAST 4.0
#define SMALL_BYTES (64 << 10)

typedef struct sheet { /* the still that is being made */
    mmsb_index *index;
    mmsb_buffer blocks, numbers, tape;
    uint32_t *places; /* blocks by their numbers, counted from 1 */
    uint64_t place_count;
    uint64_t since, clip, size, reach; /* reach: no byte from there on is written */
} sheet;

static mmsb_still_block *block_at(const sheet *made, uint64_t at) { return (mmsb_still_block *)made->blocks.data + at; }
static uint64_t block_count(const sheet *made) { return made->blocks.size / sizeof(mmsb_still_block); }

static uint32_t *find_place(const sheet *made, uint64_t number) {
    uint64_t hash = number * 0x9e3779b97f4a7c15u;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        uint32_t *place = &made->places[at & (made->place_count - 1)];
        if (*place == 0 || block_at(made, *place - 1)->number == number) return place;
    }
}

/* Places for `count` blocks at least, filled again with those that there are. */
static bool make_places(sheet *made, uint64_t count) {
    const mmsb_alloc *alloc = made->index->alloc;
    uint64_t wanted = 128;
    while (wanted < count * 2) wanted *= 2;
    uint32_t *places = alloc->resize(alloc->context, made->places, wanted * sizeof *places);
    if (places == NULL) return false;
    memset(places, 0, wanted * sizeof *places);
    made->places = places;
    made->place_count = wanted;
    for (uint64_t i = 0; i < block_count(made); i++) *find_place(made, block_at(made, i)->number) = (uint32_t)(i + 1);
    return true;
}

/* The block of a number, a new one when there is none. NULL without memory. */
static mmsb_still_block *block_of(sheet *made, uint64_t number) {
    uint32_t *place = find_place(made, number);
    if (*place != 0) return block_at(made, *place - 1);
    mmsb_buffer *blocks = &made->blocks;
    uint64_t count = block_count(made) + 1;
    if (count > UINT32_MAX / 4) return NULL;
    if (count * 2 > made->place_count && !make_places(made, count)) return NULL;
    if (!mmsb_buffer_reserve(blocks, made->index->alloc, blocks->size + sizeof(mmsb_still_block))) return NULL;
    blocks->size += sizeof(mmsb_still_block);
    *find_place(made, number) = (uint32_t)count;
    mmsb_still_block *block = block_at(made, count - 1);
    *block = (mmsb_still_block){.number = number};
    return block;
}

/* The `count` lowest bits. */
static uint64_t low_bits(uint64_t count) {
    return count >= MMSB_STILL_BLOCK_BYTES ? UINT64_MAX : ((uint64_t)1 << count) - 1;
}

/* Begins with what another still holds. */
static bool begin_with(sheet *made, const mmsb_still *still) {
    uint64_t bytes = still->block_count * sizeof(mmsb_still_block);
    made->since = still->since;
    made->clip = still->clip;
    made->size = still->size;
    made->reach = still->reach;
    if (!mmsb_buffer_reserve(&made->blocks, made->index->alloc, bytes)) return false;
    if (bytes != 0) memcpy(made->blocks.data, still->blocks, bytes);
    made->blocks.size = bytes;
    return make_places(made, still->block_count);
}

/* The last still of a page in its segment, NULL when the page changed after it or has none. */
static const mmsb_still *last_still(const mmsb_index *index, uint64_t page_id) {
    const mmsb_still_place *next, *last = NULL;
    const mmsb_index_place *page = index != NULL ? mmsb_index_place_of(index, page_id) : NULL;
    if (page != NULL) last = mmsb_index_still_until(index, page, page->newest, &next);
    return last != NULL && last->node == page->newest ? last->still : NULL;
}

/* Begins the first still of a page in the segment: with what the segment before made of it, or with nothing. A page
 * that was made together with others begins as zeros. */
static int begin_first(sheet *made, const mmsb_index *before, uint64_t page_id) {
    const mmsb_index *index = made->index;
    uint32_t range = mmsb_index_range_of(index, page_id);
    const mmsb_still *carried = range == 0 ? last_still(before, page_id) : NULL;
    if (carried != NULL) return begin_with(made, carried) ? MMSB_OK : MMSB_NO_MEMORY;
    made->since = index->cursor.base_seq;
    made->clip = range != 0 ? 0 : UINT64_MAX;
    made->size = range != 0 ? mmsb_index_structure_at(index, range)->size : 0;
    made->reach = 0;
    made->blocks.size = 0;
    if (range != 0 && made->size == 0) return MMSB_BAD_FRAME;
    return make_places(made, 0) ? MMSB_OK : MMSB_NO_MEMORY;
}

static bool write_run(sheet *made, uint64_t offset, uint64_t length, const uint8_t *values) {
    while (length != 0) {
        uint64_t at = offset % MMSB_STILL_BLOCK_BYTES, count = mmsb_min_u64(MMSB_STILL_BLOCK_BYTES - at, length);
        mmsb_still_block *block = block_of(made, offset / MMSB_STILL_BLOCK_BYTES);
        if (block == NULL) return false;
        memcpy(block->bytes + at, values, count);
        block->written |= low_bits(count) << at;
        offset += count;
        values += count;
        length -= count;
    }
    return true;
}

static int write_delta(sheet *made, uint8_t code, const mmsb_change *change) {
    mmsb_delta_view view;
    uint64_t size = made->size != 0 ? made->size : UINT64_MAX;
    int status = mmsb_delta_parse(code, change->payload, change->payload_bytes, size, &view);
    if (status != MMSB_OK) return status;
    if (view.end > made->reach) made->reach = view.end;
    mmsb_run_cursor run = {0};
    while (mmsb_delta_next_run(&view, &run))
        if (!write_run(made, run.offset, run.length, run.values)) return MMSB_NO_MEMORY;
    return MMSB_OK;
}

static void cut_block(mmsb_still_block *block, uint64_t size) {
    uint64_t offset = block->number * MMSB_STILL_BLOCK_BYTES;
    block->written &= offset < size ? low_bits(size - offset) : 0;
}

/* A resize: what lies beyond the size is zeros from now on, until it is written again. */
static void cut(sheet *made, uint64_t size) {
    made->clip = mmsb_min_u64(made->clip, size);
    made->size = size;
    if (made->reach <= size) return;
    uint64_t first = size / MMSB_STILL_BLOCK_BYTES, last = (made->reach - 1) / MMSB_STILL_BLOCK_BYTES;
    made->reach = size;
    if (last - first < block_count(made)) { /* pages that shrink and grow by a little all the time */
        for (uint64_t number = first; number <= last; number++) {
            uint32_t place = *find_place(made, number);
            if (place != 0) cut_block(block_at(made, place - 1), size);
        }
    } else {
        for (uint64_t i = 0; i < block_count(made); i++) cut_block(block_at(made, i), size);
    }
}

static int take_change(sheet *made, const mmsb_change *change) {
    switch (change->kind) {
        case MMSB_CHANGE_CREATE:
            if (change->size == 0 || change->count != 1) return MMSB_BAD_FRAME;
            made->blocks.size = 0;
            if (!make_places(made, 0)) return MMSB_NO_MEMORY;
            made->clip = made->reach = 0;
            made->size = change->size;
            if (!(change->create_flags & MMSB_CREATE_CONTENT)) return MMSB_OK;
            return write_delta(made, change->content_code, change);
        case MMSB_CHANGE_RESIZE:
            if (change->size == 0) return MMSB_BAD_FRAME;
            cut(made, change->size);
            return MMSB_OK;
        default:
            return write_delta(made, change->kind, change);
    }
}

/* Puts a change on the tape: its code and length, and its payload; a 0 for what is to be read from the log. */
static bool tape(sheet *made, const mmsb_change *change) {
    mmsb_buffer *to = &made->tape;
    bool copied = change->kind <= MMSB_DELTA_BITMAP && change->payload_bytes <= TAPED_BYTES;
    uint64_t bytes = copied ? change->payload_bytes : 0;
    if (!mmsb_buffer_reserve(to, made->index->alloc, to->size + MMSB_VARINT_BYTES_MAX + bytes)) return false;
    uint8_t *p = mmsb_varint_put(to->data + to->size, copied ? bytes << 2 | change->kind : 0);
    if (copied) memcpy(p, change->payload, bytes);
    to->size = (size_t)(p - to->data) + bytes;
    return true;
}

/* Does the changes of made->numbers, from the last one to the first. */
static int take_changes(sheet *made, const uint8_t *bytes, uint64_t page_id) {
    const mmsb_index *index = made->index;
    const uint32_t *numbers = (const uint32_t *)(const void *)made->numbers.data;
    made->tape.size = 0;
    for (uint64_t i = made->numbers.size / sizeof *numbers; i-- > 0;) {
        mmsb_index_fetch(index, bytes, numbers, i);
        mmsb_change change;
        int status = mmsb_index_change(index, bytes, mmsb_index_node_at(index, numbers[i])->at, &change);
        if (status == MMSB_OK && change.page_id != page_id) status = MMSB_BAD_FRAME;
        if (status == MMSB_OK) status = take_change(made, &change);
        if (status == MMSB_OK && !tape(made, &change)) status = MMSB_NO_MEMORY;
        if (status != MMSB_OK) return status;
    }
    return MMSB_OK;
}

/* The nodes of a page from `number` back to `stop` (not in it) that its bytes depend on, newest first. */
static bool gather(sheet *made, uint32_t number, uint32_t stop) {
    mmsb_buffer *numbers = &made->numbers;
    numbers->size = 0;
    while (number > stop) {
        const mmsb_index_node *node = mmsb_index_node_at(made->index, number);
        uint8_t kind = mmsb_index_kind(node->at);
        if (kind != MMSB_CHANGE_RENAME && kind != MMSB_CHANGE_METADATA) {
            if (!mmsb_buffer_reserve(numbers, made->index->alloc, numbers->size + sizeof number)) return false;
            memcpy(numbers->data + numbers->size, &number, sizeof number);
            numbers->size += sizeof number;
        }
        number = node->prev;
    }
    return true;
}

/* How many bytes from the page's first on do not depend on what was before the segment. */
static uint64_t covered(const sheet *made) {
    uint64_t written = 0;
    while (written < made->clip) {
        uint32_t place = *find_place(made, written / MMSB_STILL_BLOCK_BYTES);
        uint64_t bits = place != 0 ? block_at(made, place - 1)->written : 0;
        uint64_t count = bits == UINT64_MAX ? MMSB_STILL_BLOCK_BYTES : (uint64_t)__builtin_ctzll(~bits);
        written += count;
        if (count != MMSB_STILL_BLOCK_BYTES) break;
    }
    return written >= made->clip ? UINT64_MAX : written;
}

static uint64_t bytes_of(const sheet *made) {
    return sizeof(mmsb_still) + made->blocks.size + made->numbers.size + made->tape.size;
}

/* Makes the sheet the newest still of its page. */
static int keep(sheet *made, mmsb_still_reel *reel, uint32_t node) {
    mmsb_index *index = made->index;
    uint64_t bytes = bytes_of(made);
    size_t before = reel->places.capacity;
    if (!mmsb_buffer_reserve(&reel->places, index->alloc, reel->places.size + sizeof(mmsb_still_place)))
        return MMSB_NO_MEMORY;
    index->still_bytes += reel->places.capacity - before;
    mmsb_still *still = index->alloc->allocate(index->alloc->context, bytes);
    if (still == NULL) return MMSB_NO_MEMORY;
    *still = (mmsb_still){.since = made->since, .clip = made->clip, .size = made->size, .reach = made->reach};
    still->covered = covered(made);
    still->block_count = (uint32_t)block_count(made);
    still->change_count = (uint32_t)(made->numbers.size / sizeof(uint32_t));
    if (made->blocks.size != 0) memcpy(still->blocks, made->blocks.data, made->blocks.size);
    uint8_t *p = (uint8_t *)still->blocks + made->blocks.size;
    if (made->numbers.size != 0) memcpy(p, made->numbers.data, made->numbers.size);
    if (made->tape.size != 0) memcpy(p + made->numbers.size, made->tape.data, made->tape.size);
    mmsb_still_place place = {node, still->block_count, still};
    memcpy(reel->places.data + reel->places.size, &place, sizeof place);
    reel->places.size += sizeof place;
    index->still_bytes += bytes;
    return MMSB_OK;
}

/* Whether a node belongs to a page: the bytes that said so may have changed since they were indexed. */
static bool is_of(const mmsb_index *index, uint64_t page_id, uint32_t number) {
    uint32_t at = mmsb_index_newest(index, page_id);
    while (at > number) {
        const mmsb_index_node *node = mmsb_index_node_at(index, at);
        at = node->jump >= number ? node->jump : node->prev;
    }
    return at == number;
}

/* Whether all changes of a first still come after the page was made together with others. */
static bool made_before(const sheet *made, uint64_t page_id) {
    uint32_t range = mmsb_index_range_of(made->index, page_id), oldest;
    if (range == 0 || made->numbers.size == 0) return true;
    memcpy(&oldest, made->numbers.data + made->numbers.size - sizeof oldest, sizeof oldest);
    return mmsb_index_structure_at(made->index, range)->seq_rel <= mmsb_index_node_at(made->index, oldest)->seq_rel;
}

/* Tries to make the still of a page at `node`; kept when it takes at most `worth` times the log since the last. */
static int try_still(sheet *made, const uint8_t *bytes, const mmsb_index *before, uint64_t page_id,
                     mmsb_still_reel *reel, uint32_t node, double worth) {
    const mmsb_index *index = made->index;
    const mmsb_still_place *places = (const mmsb_still_place *)(const void *)reel->places.data;
    uint64_t count = reel->places.size / sizeof *places;
    if (!is_of(index, page_id, node)) return MMSB_BAD_FRAME;
    if (!gather(made, node, count != 0 ? places[count - 1].node : 0)) return MMSB_NO_MEMORY;
    int status;
    if (count != 0)
        status = begin_with(made, places[count - 1].still) ? MMSB_OK : MMSB_NO_MEMORY;
    else
        status = made_before(made, page_id) ? begin_first(made, before, page_id) : MMSB_BAD_FRAME;
    if (status == MMSB_OK) status = take_changes(made, bytes, page_id);
    if (status != MMSB_OK) return status;
    uint64_t cost = bytes_of(made);
    bool always = index->still_least == 0;
    if (cost > SMALL_BYTES) worth = WORTH;
    reel->due = always ? 0 : cost > index->still_least ? cost : index->still_least;
    if ((double)cost > (double)reel->charge * worth && !always) return MMSB_OK;
    reel->charge = 0;
    return keep(made, reel, node);
}

/* A page whose changes are not what they should be is left to who replays it, and says what is wrong. */
static int close_bad(mmsb_still_reel *reel, int status) {
    if (status != MMSB_BAD_FRAME && status != MMSB_BAD_DELTA) return status;
    reel->closed = true;
    return MMSB_OK;
}

/* The reel of the page that the change at an offset tells, made when there is none. */
static int reel_of(mmsb_index *index, const uint8_t *bytes, uint64_t offset, uint64_t *page_id,
                   mmsb_still_reel **reel) {
    const uint8_t *p = mmsb_varint_get(bytes + offset + 1, bytes + index->cursor.offset, page_id);
    mmsb_index_place *place = p != NULL ? mmsb_index_place_of(index, *page_id) : NULL;
    if (place == NULL) return MMSB_BAD_FRAME;
    mmsb_buffer *reels = &index->reels;
    if (place->reel == 0) {
        if (!mmsb_buffer_reserve(reels, index->alloc, reels->size + sizeof(mmsb_still_reel))) return MMSB_NO_MEMORY;
        mmsb_still_reel made = {.due = index->still_least};
        memcpy(reels->data + reels->size, &made, sizeof made);
        reels->size += sizeof made;
        place->reel = (uint32_t)(reels->size / sizeof made);
    }
    *reel = (mmsb_still_reel *)(void *)reels->data + (place->reel - 1);
    return MMSB_OK;
}

/* A still of each page at its newest node: where the segment ends, the next one can go on from there. */
static int add_last(sheet *made, const uint8_t *bytes, const mmsb_index *before) {
    mmsb_index *index = made->index;
    int status = MMSB_OK;
    for (uint64_t i = 0; i < index->place_count && status == MMSB_OK; i++) {
        const mmsb_index_place *place = &index->places[i];
        if (place->newest == 0 || place->reel == 0) continue;
        mmsb_still_reel *reel = (mmsb_still_reel *)(void *)index->reels.data + (place->reel - 1);
        if (reel->closed || reel->charge == 0) continue;
        status = close_bad(reel, try_still(made, bytes, before, place->key, reel, place->newest, WORTH_LAST));
    }
    return status;
}

int mmsb_index_add_stills(mmsb_index *index, const uint8_t *bytes, const mmsb_index *before) {
    sheet made = {.index = index};
    if (before != NULL && before->cursor.base_seq + mmsb_index_seq_count(before) != index->cursor.base_seq)
        before = NULL;
    bool added = index->stilled < mmsb_index_node_count(index);
    uint32_t count = mmsb_index_node_count(index);
    int status = MMSB_OK;
    while (index->stilled < count && status == MMSB_OK) {
        uint32_t number = ++index->stilled;
        const mmsb_index_node *node = mmsb_index_node_at(index, number);
        uint8_t kind = mmsb_index_kind(node->at);
        bool quiet = kind == MMSB_CHANGE_RENAME || kind == MMSB_CHANGE_METADATA;
        if (quiet || kind == MMSB_CHANGE_LABEL || kind == MMSB_NODE_NAME) continue;
        uint64_t page_id, offset = mmsb_index_offset(node->at), end = index->cursor.offset;
        mmsb_still_reel *reel;
        if ((status = reel_of(index, bytes, offset, &page_id, &reel)) != MMSB_OK) break;
        /* A page that was deleted stays deleted, and one that is there is not made: else it is left to who replays. */
        if (kind == MMSB_CHANGE_DELETE || (kind == MMSB_CHANGE_CREATE && node->prev != 0)) reel->closed = true;
        if (reel->closed) continue;
        if (number < count) end = mmsb_index_offset(mmsb_index_node_at(index, number + 1)->at);
        reel->charge += CHARGE_EACH + (end > offset ? end - offset : 0);
        if (reel->charge < reel->due) continue;
        status = close_bad(reel, try_still(&made, bytes, before, page_id, reel, number, WORTH));
    }
    if (added && status == MMSB_OK) status = add_last(&made, bytes, before);
    mmsb_buffer_release(&made.blocks, index->alloc);
    mmsb_buffer_release(&made.numbers, index->alloc);
    mmsb_buffer_release(&made.tape, index->alloc);
    index->alloc->release(index->alloc->context, made.places);
    return status;
}

void mmsb_index_release_stills(mmsb_index *index) {
    mmsb_still_reel *reels = (mmsb_still_reel *)(void *)index->reels.data;
    for (uint64_t i = 0; i < index->reels.size / sizeof *reels; i++) {
        mmsb_still_place *places = (mmsb_still_place *)(void *)reels[i].places.data;
        for (uint64_t k = 0; k < reels[i].places.size / sizeof *places; k++)
            index->alloc->release(index->alloc->context, places[k].still);
        mmsb_buffer_release(&reels[i].places, index->alloc);
    }
    mmsb_buffer_release(&index->reels, index->alloc);
    index->still_bytes = 0;
}
