#include "propagate.h"

#define BLOCK_BYTES ((uint64_t)64 << 10)
/* How many pages earlier than needed a thing is fetched from memory. */
#define AHEAD 8

static mmsb_rule *rule_of(const mmsb_propagation *p, uint32_t node) { return (mmsb_rule *)p->rules.data + node; }
static mmsb_staged *staged_of(const mmsb_propagation *p, uint32_t node) { return (mmsb_staged *)p->staged.data + node; }

int mmsb_propagate_init(mmsb_propagation *p, mmsb_core *core, mmsb_graph *graph) {
    memset(p, 0, sizeof *p);
    p->alloc = core->alloc;
    p->core = core;
    p->graph = graph;
    mmsb_wave_init(&p->wave, core->alloc);
    return MMSB_OK;
}

/* The newest block has a header of 8 bytes that leads to the one before. One of them is kept from wave to wave. */
static void free_blocks(mmsb_propagation *p, bool all) {
    while (p->blocks != NULL) {
        void *older;
        memcpy(&older, p->blocks, sizeof older);
        if (older == NULL && !all) break;
        p->alloc->release(p->alloc->context, p->blocks);
        p->blocks = older;
    }
    p->block_at = p->blocks != NULL ? (uint8_t *)p->blocks + 8 : NULL;
    p->block_left = p->blocks != NULL ? p->oldest_bytes - 8 : 0;
}

void mmsb_propagate_release(mmsb_propagation *p) {
    if (p->alloc == NULL) return;
    const mmsb_alloc *alloc = p->alloc;
    p->forced.size = 0;
    for (uint32_t node = 0; node < p->rules.size / sizeof(mmsb_rule); node++) mmsb_propagate_clear_rule(p, node);
    mmsb_wave_release(&p->wave);
    free_blocks(p, true);
    mmsb_ahead *ahead = (mmsb_ahead *)(void *)p->ahead.data;
    for (uint64_t i = 0; i < p->ahead.size / sizeof *ahead; i++) {
        mmsb_buffer_release(&ahead[i].pages, alloc);
        mmsb_link_result_release(&ahead[i].result, alloc);
    }
    mmsb_buffer_release(&p->ahead, alloc);
    mmsb_link_result_release(&p->result, alloc);
    mmsb_buffer *buffers[] = {&p->rules,   &p->staged, &p->changes, &p->pages,
                              &p->changed, &p->forced, &p->visited, &p->failed};
    for (unsigned i = 0; i < sizeof buffers / sizeof *buffers; i++) mmsb_buffer_release(buffers[i], alloc);
}

/* Memory until the wave's end. */
static uint8_t *take(mmsb_propagation *p, uint64_t bytes) {
    bytes = mmsb_align_up(bytes, 8);
    if (MMSB_UNLIKELY(p->block_left < bytes)) {
        uint64_t size = mmsb_max_u64(BLOCK_BYTES, bytes + 8);
        uint8_t *block = p->alloc->allocate(p->alloc->context, size);
        if (block == NULL) return NULL;
        if (p->blocks == NULL) p->oldest_bytes = size;
        memcpy(block, &p->blocks, sizeof p->blocks);
        p->blocks = block;
        p->block_at = block + 8;
        p->block_left = size - 8;
    }
    uint8_t *taken = p->block_at;
    p->block_at += bytes;
    p->block_left -= bytes;
    return taken;
}

/* Grows a table to `count` entries of `each` bytes, the new ones zero. */
static bool grow(const mmsb_alloc *alloc, mmsb_buffer *table, uint64_t count, uint64_t each) {
    if (table->size >= count * each) return true;
    if (!mmsb_buffer_reserve(table, alloc, count * each)) return false;
    memset(table->data + table->size, 0, count * each - table->size);
    table->size = count * each;
    return true;
}

/* ---- rules */

int mmsb_propagate_set_rule(mmsb_propagation *p, uint32_t node, const mmsb_link *link, const uint32_t *parents) {
    const mmsb_alloc *alloc = p->alloc;
    uint64_t lane = link->semiring != NULL ? link->semiring->lane_bytes : 0;
    uint64_t copies_bytes = link->copy_count * sizeof *link->copies;
    uint64_t weights_bytes = link->weights != NULL ? link->parent_count * lane : 0;
    uint64_t parents_bytes = link->parent_count * sizeof *parents;
    uint64_t epochs_bytes = link->type == MMSB_LINK_CALL ? link->parent_count * sizeof(uint64_t) : 0;
    if (!grow(alloc, &p->rules, (uint64_t)node + 1, sizeof(mmsb_rule))) return MMSB_NO_MEMORY;
    uint8_t *memory = alloc->allocate(alloc->context, copies_bytes + epochs_bytes + weights_bytes + parents_bytes + 8);
    if (memory == NULL) return MMSB_NO_MEMORY;
    mmsb_propagate_clear_rule(p, node);
    mmsb_rule *rule = rule_of(p, node);
    *rule = (mmsb_rule){.link = *link, .memory = memory, .used = true};
    rule->link.index = NULL;
    if (copies_bytes != 0) rule->link.copies = memcpy(memory, link->copies, copies_bytes);
    rule->epochs = (uint64_t *)(void *)(memory + copies_bytes); /* copies are multiples of 8 bytes */
    uint8_t *at = memory + copies_bytes + epochs_bytes;
    rule->parents = memcpy(at, parents, parents_bytes);
    if (weights_bytes != 0) rule->link.weights = memcpy(at + parents_bytes, link->weights, weights_bytes);
    return MMSB_OK;
}

void mmsb_propagate_clear_rule(mmsb_propagation *p, uint32_t node) {
    if (node >= p->rules.size / sizeof(mmsb_rule)) return;
    mmsb_rule *rule = rule_of(p, node);
    if (!rule->used) return;
    mmsb_link_release(&rule->link, p->alloc);
    p->alloc->release(p->alloc->context, rule->memory);
    *rule = (mmsb_rule){0};
    /* The node may stand for another page by the time of the next wave. */
    uint32_t *forced = (uint32_t *)(void *)p->forced.data;
    uint64_t kept = 0;
    for (uint64_t i = 0; i < p->forced.size / sizeof *forced; i++)
        if (forced[i] != node) forced[kept++] = forced[i];
    p->forced.size = kept * sizeof *forced;
}

static int push_node(mmsb_propagation *p, mmsb_buffer *list, uint32_t node) {
    if (!mmsb_buffer_reserve(list, p->alloc, list->size + sizeof node)) return MMSB_NO_MEMORY;
    memcpy(list->data + list->size, &node, sizeof node);
    list->size += sizeof node;
    return MMSB_OK;
}

int mmsb_propagate_force(mmsb_propagation *p, uint32_t node) {
    if (node >= p->rules.size / sizeof(mmsb_rule) || !rule_of(p, node)->used) return MMSB_OK;
    return push_node(p, &p->forced, node);
}

/* ---- the wave */

/* What the wave knows of a node, made when it is first met. */
static mmsb_staged *meet(mmsb_propagation *p, uint32_t node) {
    mmsb_staged *staged = staged_of(p, node);
    if (staged->wave != p->number) *staged = (mmsb_staged){.wave = p->number};
    return staged;
}

/* Notes the changes of the pages that commits have touched. Those of one page follow one another in the list, because
 * a page's changes are looked up as one range. */
static int meet_touched(mmsb_propagation *p) {
    const mmsb_core *core = p->core;
    const mmsb_touched *touched = (const mmsb_touched *)(const void *)core->touched.data;
    uint64_t count = core->touched.size / sizeof *touched;
    if (!mmsb_buffer_reserve(&p->changes, p->alloc, count * sizeof(mmsb_link_change))) return MMSB_NO_MEMORY;
    mmsb_link_change *changes = (mmsb_link_change *)(void *)p->changes.data;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t node = mmsb_graph_find(p->graph, touched[i].page_id);
        if (node == MMSB_NO_NODE) continue; /* deleted meanwhile */
        mmsb_staged *staged = meet(p, node);
        uint32_t last = staged->first_change + staged->change_count;
        bool follows = staged->change_count == 0 || last == p->changes.size / sizeof *changes;
        if (core->touched_whole || p->mixed || touched[i].code == 0 || !follows) staged->whole = true;
        if (staged->change_count == 0) staged->first_change = (uint32_t)(p->changes.size / sizeof *changes);
        changes[p->changes.size / sizeof *changes] = (mmsb_link_change){
            touched[i].code, core->touched_bytes.data + touched[i].payload_at, touched[i].payload_bytes};
        p->changes.size += sizeof *changes;
        staged->change_count++;
        if (staged->changed) continue;
        staged->changed = true;
        mmsb_wave_touch(&p->wave, node);
    }
    return MMSB_OK;
}

int mmsb_propagate_begin(mmsb_propagation *p, const mmsb_commit_info *info, mmsb_wave_scope scope) {
    mmsb_core *core = p->core;
    uint64_t nodes = p->graph->node_count;
    if (!grow(p->alloc, &p->rules, nodes, sizeof(mmsb_rule)) || !grow(p->alloc, &p->staged, nodes, sizeof(mmsb_staged)))
        return MMSB_NO_MEMORY;
    int status = mmsb_wave_begin(&p->wave, p->graph, 1u << MMSB_EDGE_DATA | 1u << MMSB_EDGE_CONTROL);
    if (status != MMSB_OK) return status;
    uint8_t *at = mmsb_core_begin_frame(core, info, MMSB_FRAME_COMMIT, 64);
    if (at == NULL) return MMSB_NO_MEMORY;
    p->used = (uint64_t)(at - core->frame.data);
    p->number++;
    p->published = p->refused = p->is_ahead = false;
    p->scope = scope;
    p->level_count = p->level_at = p->computed = 0;
    p->changes.size = p->changed.size = p->visited.size = p->failed.size = 0;
    status = scope == MMSB_WAVE_FULL ? meet_touched(p) : MMSB_OK;
    for (uint64_t i = 0; i < p->forced.size / sizeof(uint32_t); i++) {
        uint32_t node;
        memcpy(&node, p->forced.data + i * sizeof node, sizeof node);
        meet(p, node)->whole = true;
        mmsb_wave_queue(&p->wave, node);
    }
    if (status != MMSB_OK) mmsb_propagate_end(p);
    return status;
}

/* The header of a node's page, which exists. */
static mmsb_page_header *entry_of(const mmsb_propagation *p, uint32_t node) {
    return mmsb_arena_entry(&p->core->arena, mmsb_graph_node_at(p->graph, node)->page_id);
}

static uint8_t *page_bytes(const mmsb_propagation *p, uint32_t node, mmsb_page_header **header) {
    *header = entry_of(p, node);
    return mmsb_arena_bytes(&p->core->arena, (*header)->handle);
}

const uint8_t *mmsb_propagate_bytes(const mmsb_propagation *p, uint32_t node, uint64_t *size) {
    mmsb_page_header *header;
    const uint8_t *bytes = page_bytes(p, node, &header);
    const mmsb_staged *staged = staged_of(p, node);
    *size = header->size;
    return staged->wave == p->number && staged->bytes != NULL ? staged->bytes : bytes;
}

bool mmsb_propagate_is_staged(const mmsb_propagation *p, uint32_t node) {
    const mmsb_staged *staged = staged_of(p, node);
    return staged->wave == p->number && staged->bytes != NULL;
}

/* Gathers the parents of a rule as the link sees them. false: one of them failed, now or in an earlier wave. One that
 * is stale, and nothing more, was not met because what it depends on came out unchanged: it is up to date. */
static bool gather(const mmsb_propagation *p, const mmsb_rule *rule, bool whole, mmsb_link_page *pages) {
    const mmsb_link_change *changes = (const mmsb_link_change *)(const void *)p->changes.data;
    for (uint32_t i = 0; i < rule->link.parent_count; i++) {
        uint32_t node = rule->parents[i];
        const mmsb_staged *staged = staged_of(p, node);
        bool met = staged->wave == p->number;
        if (met && staged->bytes != NULL) {
            pages[i] =
                (mmsb_link_page){.bytes = staged->bytes, .size = staged->size, .epoch = staged->epoch, .whole = whole};
        } else { /* what a commit touched has its new epoch already */
            mmsb_page_header *header;
            const uint8_t *bytes = page_bytes(p, node, &header);
            pages[i] = (mmsb_link_page){.bytes = bytes, .size = header->size, .epoch = header->epoch, .whole = whole};
            if (MMSB_UNLIKELY(met ? staged->failed : (header->flags & MMSB_PAGE_FAILED) != 0)) return false;
        }
        if (!met || !staged->changed) continue;
        if (staged->whole) {
            pages[i].whole = true;
        } else {
            pages[i].change_count = staged->change_count;
            pages[i].changes = changes + staged->first_change;
        }
    }
    return true;
}

/* The children of a node are looked at in their turn. A partial wave computes what was asked for and no more. */
static void touch(mmsb_propagation *p, uint32_t node) {
    if (p->scope != MMSB_WAVE_PARTIAL) mmsb_wave_touch(&p->wave, node);
}

/* The delta at `payload_at` of the frame is that of `node`. If others depend on it, its new content is staged. */
static int end_delta(mmsb_propagation *p, uint32_t node, const uint8_t *whole, uint8_t code, uint64_t payload_at,
                     uint64_t payload_bytes) {
    mmsb_core *core = p->core;
    p->used = payload_at + payload_bytes;
    mmsb_staged *staged = meet(p, node);
    bool touched = staged->changed; /* by a commit or an earlier wave, too: those changes are not in this delta */
    staged->changed = true;
    if (!mmsb_buffer_reserve(&p->changed, p->alloc, p->changed.size + sizeof(mmsb_wave_delta))) return MMSB_NO_MEMORY;
    *(mmsb_wave_delta *)(void *)(p->changed.data + p->changed.size) =
        (mmsb_wave_delta){payload_at - core->building.changes_at, payload_bytes, node, code};
    p->changed.size += sizeof(mmsb_wave_delta);
    if (mmsb_graph_node_at(p->graph, node)->out.count == 0 && p->scope != MMSB_WAVE_TRIAL) return MMSB_OK;

    mmsb_page_header *header;
    const uint8_t *old = page_bytes(p, node, &header);
    uint8_t *copy = take(p, header->size), *payload = take(p, payload_bytes);
    if (copy == NULL || payload == NULL) return MMSB_NO_MEMORY;
    memcpy(copy, whole != NULL ? whole : old, header->size);
    memcpy(payload, core->frame.data + payload_at, payload_bytes);
    if (whole == NULL) core->kernels.delta_apply(copy, header->size, code, payload, payload_bytes);
    staged->bytes = copy;
    staged->size = header->size;
    staged->epoch = header->epoch + 1;
    staged->whole = touched;
    staged->first_change = (uint32_t)(p->changes.size / sizeof(mmsb_link_change));
    staged->change_count = 1;
    if (!mmsb_buffer_reserve(&p->changes, p->alloc, p->changes.size + sizeof(mmsb_link_change))) return MMSB_NO_MEMORY;
    *(mmsb_link_change *)(void *)(p->changes.data + p->changes.size) = (mmsb_link_change){code, payload, payload_bytes};
    p->changes.size += sizeof(mmsb_link_change);
    touch(p, node);
    return MMSB_OK;
}

/* Room for a delta of `count` changed bytes in `runs` runs, behind its kind and page id. NULL: no memory. */
static uint8_t *delta_room(mmsb_propagation *p, uint64_t page_id, uint64_t count, uint64_t runs, uint8_t **payload) {
    mmsb_core *core = p->core;
    uint64_t bytes = 1 + MMSB_VARINT_BYTES_MAX + MMSB_DELTA_BOUND(count) + 20 * runs + 64;
    if (!mmsb_buffer_reserve(&core->frame, p->alloc, p->used + bytes)) return NULL;
    uint8_t *start = core->frame.data + p->used;
    *payload = mmsb_varint_put(start + 1, page_id);
    return start;
}

static int put_whole(mmsb_propagation *p, uint32_t node, const uint8_t *bytes) {
    mmsb_core *core = p->core;
    mmsb_page_header *header;
    const uint8_t *old = page_bytes(p, node, &header);
    uint8_t *payload, *start = delta_room(p, mmsb_graph_node_at(p->graph, node)->page_id, header->size, 0, &payload);
    if (start == NULL) return MMSB_NO_MEMORY;
    int64_t count = core->kernels.delta_diff(old, bytes, header->size, 0, payload, start);
    if (count <= 0) return (int)count;
    return end_delta(p, node, bytes, *start, (uint64_t)(payload - core->frame.data), (uint64_t)count);
}

static int put_runs(mmsb_propagation *p, uint32_t node) {
    const mmsb_run *runs = (const mmsb_run *)(const void *)p->result.runs.data;
    uint64_t count = p->result.runs.size / sizeof *runs;
    if (count == 0) return MMSB_OK;
    uint64_t page_id = mmsb_graph_node_at(p->graph, node)->page_id;
    uint8_t *payload, *start = delta_room(p, page_id, p->result.bytes.size, count, &payload);
    if (start == NULL) return MMSB_NO_MEMORY;
    int64_t bytes = mmsb_delta_from_runs(runs, count, p->result.bytes.data, payload, start);
    return end_delta(p, node, NULL, *start, (uint64_t)(payload - p->core->frame.data), (uint64_t)bytes);
}

int mmsb_propagate_failed(mmsb_propagation *p) {
    uint32_t node = mmsb_propagate_node(p);
    meet(p, node)->failed = true;
    touch(p, node); /* its children are met, and fail in their turn */
    p->level_at++;
    return push_node(p, &p->failed, node);
}

int mmsb_propagate_returned(mmsb_propagation *p, const uint8_t *bytes) {
    uint32_t node = mmsb_propagate_node(p);
    mmsb_rule *rule = rule_of(p, node);
    const mmsb_link_page *parents = (const mmsb_link_page *)(const void *)p->pages.data;
    for (uint32_t i = 0; i < rule->link.parent_count; i++) rule->epochs[i] = parents[i].epoch;
    rule->computed = true;
    int status = put_whole(p, node, bytes);
    p->computed++;
    p->level_at++;
    return status;
}

/* Whether a function would be given what it was given last: it would give the same. */
static bool known(const mmsb_propagation *p, const mmsb_rule *rule) {
    if (!rule->computed || p->scope == MMSB_WAVE_TRIAL) return false;
    const mmsb_link_page *parents = (const mmsb_link_page *)(const void *)p->pages.data;
    for (uint32_t i = 0; i < rule->link.parent_count; i++)
        if (rule->epochs[i] != parents[i].epoch) return false;
    return true;
}

/* A page passed through was equal to its parent before the parent's one change, so that change is its own, byte for
 * byte. Returns the change, or NULL where the page must be computed. */
static const mmsb_link_change *passed_change(const mmsb_rule *rule, const mmsb_link_page *parents, uint64_t size) {
    const mmsb_link *link = &rule->link;
    if (link->type != MMSB_LINK_COPY || link->copy_count != 1 || link->copies->bytes != size) return NULL;
    const mmsb_link_page *parent = parents + link->copies->parent;
    if (parent->size != size || parent->whole || parent->change_count != 1) return NULL;
    return parent->changes;
}

static int put_change(mmsb_propagation *p, uint32_t node, const mmsb_link_change *change) {
    uint64_t page_id = mmsb_graph_node_at(p->graph, node)->page_id;
    uint8_t *payload, *start = delta_room(p, page_id, change->payload_bytes, 0, &payload);
    if (start == NULL) return MMSB_NO_MEMORY;
    *start = change->code;
    memcpy(payload, change->payload, change->payload_bytes);
    return end_delta(p, node, NULL, change->code, (uint64_t)(payload - p->core->frame.data), change->payload_bytes);
}

int mmsb_propagate_reserve_ahead(mmsb_propagation *p, uint64_t *work) {
    if (!grow(p->alloc, &p->ahead, p->level_count, sizeof(mmsb_ahead))) return MMSB_NO_MEMORY;
    mmsb_ahead *ahead = (mmsb_ahead *)(void *)p->ahead.data;
    *work = 0;
    for (uint32_t i = 0; i < p->level_count; i++) {
        ahead[i].ready = false;
        const mmsb_rule *rule = rule_of(p, p->level[i]);
        for (uint32_t j = 0; rule->used && j < rule->link.parent_count; j++) {
            mmsb_page_header *header;
            page_bytes(p, rule->parents[j], &header);
            *work += header->size;
        }
    }
    p->is_ahead = true;
    return MMSB_OK;
}

void mmsb_propagate_ahead(mmsb_propagation *p, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i++) {
        mmsb_ahead *ahead = (mmsb_ahead *)(void *)p->ahead.data + i;
        mmsb_rule *rule = rule_of(p, p->level[i]);
        const mmsb_staged *staged = staged_of(p, p->level[i]);
        if (!rule->used || rule->link.type == MMSB_LINK_CALL) continue;
        /* Code of another language, which says so when it fails: one at a time, in the order of the wave. */
        if (rule->link.semiring != NULL && rule->link.semiring->failed != NULL) continue;
        if (!mmsb_buffer_reserve(&ahead->pages, p->alloc, rule->link.parent_count * sizeof(mmsb_link_page))) continue;
        mmsb_page_header *header;
        const uint8_t *old = page_bytes(p, p->level[i], &header);
        mmsb_link_page *pages = (mmsb_link_page *)(void *)ahead->pages.data;
        bool whole = (staged->wave == p->number && staged->whole) || (header->flags & MMSB_PAGE_FAILED) != 0;
        if (!gather(p, rule, whole, pages) || passed_change(rule, pages, header->size) != NULL) continue;
        const char *why;
        ahead->ready =
            mmsb_link_compute(&rule->link, pages, old, header->size, p->alloc, &ahead->result, &why) == MMSB_OK;
    }
}

/* Makes what a thread has computed of the node at hand the result. false: there is nothing. */
static bool take_ahead(mmsb_propagation *p) {
    mmsb_ahead *ahead = (mmsb_ahead *)(void *)p->ahead.data + p->level_at;
    if (!p->is_ahead || !ahead->ready) return false;
    mmsb_link_result taken = ahead->result;
    ahead->result = p->result; /* its buffers, for another time */
    p->result = taken;
    return true;
}

/* Computes the node at hand. */
static int compute(mmsb_propagation *p) {
    uint32_t node = mmsb_propagate_node(p);
    mmsb_rule *rule = rule_of(p, node);
    if (push_node(p, &p->visited, node) != MMSB_OK) return MMSB_NO_MEMORY;
    if (!rule->used) return mmsb_propagate_failed(p); /* only marked by what controls it, or nobody knows its link */
    if (!mmsb_buffer_reserve(&p->pages, p->alloc, rule->link.parent_count * sizeof(mmsb_link_page)))
        return MMSB_NO_MEMORY;
    mmsb_page_header *header;
    const uint8_t *old = page_bytes(p, node, &header);
    mmsb_staged *staged = meet(p, node);
    bool recovers = (header->flags & MMSB_PAGE_FAILED) != 0, whole = staged->whole || recovers;
    if (!staged->changed) staged->whole = false; /* that of a touched page is said of its changes, too */
    mmsb_link_page *pages = (mmsb_link_page *)(void *)p->pages.data;
    if (!gather(p, rule, whole, pages)) return mmsb_propagate_failed(p);
    if (MMSB_UNLIKELY(recovers)) touch(p, node); /* its children may have failed because of it */
    if (rule->link.type == MMSB_LINK_CALL) {
        if (known(p, rule)) {
            p->level_at++;
            return MMSB_OK;
        }
        rule->computed = false;
        return MMSB_WAVE_CALL;
    }
    const mmsb_link_change *passed = passed_change(rule, pages, header->size);
    if (passed != NULL) {
        p->computed++;
        p->level_at++;
        return put_change(p, node, passed);
    }
    int status = MMSB_OK;
    if (!take_ahead(p))
        status = mmsb_link_compute(&rule->link, pages, old, header->size, p->alloc, &p->result, &p->why);
    if (status != MMSB_OK) return status;
    if (rule->link.semiring != NULL && mmsb_semiring_take_failure(rule->link.semiring)) {
        p->why = "its semiring failed";
        return MMSB_BAD_LINK;
    }
    status = p->result.whole ? put_whole(p, node, p->result.bytes.data) : put_runs(p, node);
    p->computed++;
    p->level_at++;
    return status;
}

/* The pages of a level and their parents lie anywhere in memory, so what those to come need is asked for early: their
 * rules first, and a little later what these lead to. */
static void fetch_ahead(const mmsb_propagation *p) {
    if (p->level_count - p->level_at <= 3 * AHEAD) return;
    const uint32_t *nodes = p->level + p->level_at;
    const mmsb_rule *rule = rule_of(p, nodes[3 * AHEAD]);
    __builtin_prefetch(rule);
    __builtin_prefetch((const uint8_t *)rule + 64);
    __builtin_prefetch(mmsb_graph_node_at(p->graph, nodes[3 * AHEAD]));
    __builtin_prefetch(rule_of(p, nodes[2 * AHEAD])->parents);
    __builtin_prefetch(entry_of(p, nodes[2 * AHEAD]));
    mmsb_page_header *header;
    __builtin_prefetch(page_bytes(p, nodes[AHEAD], &header));
    __builtin_prefetch(mmsb_graph_out_of(p->graph, mmsb_graph_node_at(p->graph, nodes[AHEAD])));
    rule = rule_of(p, nodes[AHEAD]);
    for (uint32_t i = 0; i < rule->link.parent_count; i++) __builtin_prefetch(staged_of(p, rule->parents[i]));
}

int mmsb_propagate_run(mmsb_propagation *p) {
    for (;;) {
        if (p->level_at == p->level_count) {
            p->level_at = 0;
            p->level_count = mmsb_wave_next(&p->wave, &p->level);
            p->is_ahead = false;
            if (p->level_count == 0) return MMSB_WAVE_DONE;
            if (p->pauses) return MMSB_WAVE_LEVEL;
        }
        fetch_ahead(p);
        int status = compute(p);
        if (MMSB_UNLIKELY(status != MMSB_OK)) return status;
    }
}

/* What mmsb_core_apply would do with the frame, without looking for its deltas and pages again. */
static void apply_deltas(mmsb_propagation *p) {
    mmsb_core *core = p->core;
    const mmsb_wave_delta *deltas = (const mmsb_wave_delta *)(const void *)p->changed.data;
    const uint8_t *changes = core->frame.data + core->building.changes_at;
    uint64_t count = p->changed.size / sizeof *deltas;
    for (uint64_t i = 0; i < count; i++) {
        mmsb_page_header *header;
        if (count - i > 3 * AHEAD) {
            __builtin_prefetch(mmsb_graph_node_at(p->graph, deltas[i + 3 * AHEAD].node));
            __builtin_prefetch(entry_of(p, deltas[i + 2 * AHEAD].node));
            __builtin_prefetch(page_bytes(p, deltas[i + AHEAD].node, &header), 1);
        }
        uint8_t *page = page_bytes(p, deltas[i].node, &header);
        core->kernels.delta_apply(page, header->size, deltas[i].code, changes + deltas[i].at, deltas[i].bytes);
        header->epoch++;
        MMSB_POKE(core->deltas, core->deltas + 1);
        MMSB_POKE(core->delta_bytes, core->delta_bytes + deltas[i].bytes);
        if (MMSB_UNLIKELY(p->scope == MMSB_WAVE_PARTIAL)) /* cannot fail: there is room */
            (void)mmsb_core_changed(core, header, mmsb_graph_node_at(p->graph, deltas[i].node)->page_id, deltas[i].code,
                                    changes + deltas[i].at, deltas[i].bytes);
    }
}

int mmsb_propagate_publish(mmsb_propagation *p, const mmsb_commit_info *info, const uint8_t *blob,
                           uint64_t blob_bytes) {
    mmsb_core *core = p->core;
    if (p->refused && mmsb_core_renew_frame(core, info, &p->used) != MMSB_OK) return MMSB_NO_MEMORY;
    if (!mmsb_buffer_reserve(&core->frame, p->alloc, p->used + blob_bytes + 64)) return MMSB_NO_MEMORY;
    uint8_t *at = core->frame.data + p->used;
    *at++ = MMSB_CHANGE_WAVE;
    bool follows = core->touched.size != 0 && (p->scope == MMSB_WAVE_PARTIAL || p->forced.size == 0);
    at = mmsb_varint_put(at, core->building.seq - (follows ? core->touched_seq : core->seq));
    at = mmsb_varint_put(at, blob_bytes);
    if (blob_bytes != 0) memcpy(at, blob, blob_bytes);
    if (p->scope == MMSB_WAVE_PARTIAL &&
        !mmsb_core_reserve_touched(core, p->changed.size / sizeof(mmsb_wave_delta), p->used))
        return MMSB_NO_MEMORY;
    int status = mmsb_core_publish(core, at + blob_bytes, false);
    p->refused = status == MMSB_NO_SPACE;
    if (status != MMSB_OK) return status;
    p->published = true;

    apply_deltas(p);
    mmsb_core_mark_applied(core);
    MMSB_POKE(core->commits, core->commits + 1);
    const uint32_t *nodes = (const uint32_t *)(const void *)p->visited.data;
    for (uint64_t i = 0; i < p->visited.size / sizeof *nodes; i++)
        entry_of(p, nodes[i])->flags &= (uint16_t)~(MMSB_PAGE_STALE | MMSB_PAGE_FAILED);
    nodes = (const uint32_t *)(const void *)p->failed.data;
    for (uint64_t i = 0; i < p->failed.size / sizeof *nodes; i++) entry_of(p, nodes[i])->flags |= MMSB_PAGE_FAILED;
    if (p->scope == MMSB_WAVE_FULL) mmsb_core_forget_touched(core);
    p->mixed = p->scope == MMSB_WAVE_PARTIAL;
    p->forced.size = 0;
    return status;
}

void mmsb_propagate_end(mmsb_propagation *p) {
    const uint32_t *visited = (const uint32_t *)(const void *)p->visited.data;
    for (uint64_t i = 0; i < p->visited.size / sizeof *visited && !p->published; i++) {
        /* Epochs that were only staged will stand for other bytes. */
        rule_of(p, visited[i])->computed = false;
        mmsb_link_release(&rule_of(p, visited[i])->link, p->alloc);
    }
    mmsb_wave_stop(&p->wave);
    free_blocks(p, false);
}

int mmsb_propagate_at_once(mmsb_propagation *p) {
    mmsb_commit_info info = {.time_ns = p->core->time_ns, .if_epoch = MMSB_ANY_EPOCH};
    p->pauses = false;
    if (mmsb_propagate_begin(p, &info, MMSB_WAVE_FULL) != MMSB_OK) return MMSB_WAVE_UNUSUAL;
    int status = mmsb_propagate_run(p);
    if (status != MMSB_WAVE_DONE || p->failed.size != 0) {
        status = MMSB_WAVE_UNUSUAL;
    } else if (p->visited.size != 0) {
        status = mmsb_propagate_publish(p, &info, NULL, 0);
        if (status == MMSB_NO_SPACE) status = MMSB_WAVE_UNUSUAL;
    } else {
        mmsb_core_forget_touched(p->core);
    }
    mmsb_propagate_end(p);
    return status;
}
