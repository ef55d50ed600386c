#include "wave.h"

void mmsb_wave_init(mmsb_wave *wave, const mmsb_alloc *alloc) {
    memset(wave, 0, sizeof *wave);
    wave->alloc = alloc;
}

void mmsb_wave_release(mmsb_wave *wave) {
    mmsb_buffer *buffers[] = {&wave->next, &wave->levels, &wave->waiting, &wave->nodes, &wave->keys};
    for (unsigned i = 0; i < sizeof buffers / sizeof *buffers; i++) mmsb_buffer_release(buffers[i], wave->alloc);
    mmsb_wave_init(wave, wave->alloc);
}

/* Room for `bytes`; what is new is zero. */
static bool reserve_zero(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t bytes) {
    if (bytes <= buffer->size) return true;
    if (!mmsb_buffer_reserve(buffer, alloc, bytes)) return false;
    memset(buffer->data + buffer->size, 0, buffer->capacity - buffer->size);
    buffer->size = buffer->capacity;
    return true;
}

int mmsb_wave_begin(mmsb_wave *wave, mmsb_graph *graph, uint32_t kinds) {
    size_t count = graph->node_count; /* also bounds the levels: a path passes a node once */
    if (wave->reserved < count || wave->reserved == 0) {
        if (!reserve_zero(&wave->next, wave->alloc, count * sizeof(uint32_t)) ||
            !reserve_zero(&wave->levels, wave->alloc, count * sizeof(mmsb_wave_level)) ||
            !reserve_zero(&wave->waiting, wave->alloc, (count / 64 + 1) * sizeof(uint64_t)) ||
            !mmsb_buffer_reserve(&wave->nodes, wave->alloc, count * sizeof(uint32_t)) ||
            !mmsb_buffer_reserve(&wave->keys, wave->alloc, count * 2 * sizeof(mmsb_graph_key)))
            return MMSB_NO_MEMORY;
        wave->reserved = count;
    }
    if (MMSB_UNLIKELY(graph->unsettled.size != 0)) mmsb_graph_settle(graph);
    wave->graph = graph;
    wave->kinds = kinds;
    wave->level = 0;
    return MMSB_OK;
}

void mmsb_wave_queue(mmsb_wave *wave, uint32_t node) {
    uint32_t *next = (uint32_t *)wave->next.data;
    if (next[node] != 0) return;
    uint32_t at = mmsb_graph_node_at(wave->graph, node)->level;
    mmsb_wave_level *level = (mmsb_wave_level *)wave->levels.data + at;
    next[node] = level->count != 0 ? level->newest + 1 : MMSB_NO_NODE;
    if (level->count++ == 0) ((uint64_t *)wave->waiting.data)[at / 64] |= (uint64_t)1 << (at % 64);
    level->newest = node;
    wave->queued++;
}

void mmsb_wave_touch(mmsb_wave *wave, uint32_t node) {
    const mmsb_graph_node *page = mmsb_graph_node_at(wave->graph, node);
    const mmsb_graph_end *children = mmsb_graph_out_of(wave->graph, page);
    for (uint32_t i = 0; i < page->out.count; i++)
        if ((wave->kinds >> children[i].kind & 1) != 0) mmsb_wave_queue(wave, children[i].node);
}

/* Takes the nodes of the lowest level that has any, the one queued first in front. */
static uint32_t take_level(mmsb_wave *wave, uint32_t *nodes) {
    if (wave->queued == 0) return 0;
    uint64_t *waiting = (uint64_t *)wave->waiting.data;
    uint32_t word = wave->level / 64; /* levels only rise, so that a wave reads each word of bits once */
    while (waiting[word] == 0) word++;
    wave->level = word * 64 + (uint32_t)__builtin_ctzll(waiting[word]);
    waiting[word] &= waiting[word] - 1;
    mmsb_wave_level *level = (mmsb_wave_level *)wave->levels.data + wave->level;
    uint32_t *next = (uint32_t *)wave->next.data, count = level->count;
    for (uint32_t i = count, node = level->newest; i-- != 0;) {
        nodes[i] = node;
        uint32_t before = next[node];
        next[node] = 0;
        node = before - 1;
    }
    level->count = 0;
    wave->queued -= count;
    return count;
}

uint32_t mmsb_wave_next(mmsb_wave *wave, const uint32_t **nodes) {
    uint32_t *taken = (uint32_t *)wave->nodes.data, count = take_level(wave, taken);
    *nodes = taken;
    if (count < 2) return count;
    mmsb_graph_key *keys = (mmsb_graph_key *)wave->keys.data;
    for (uint32_t i = 0; i < count; i++)
        keys[i] = (mmsb_graph_key){mmsb_graph_node_at(wave->graph, taken[i])->page_id, taken[i]};
    mmsb_graph_sort(keys, keys + count, count);
    for (uint32_t i = 0; i < count; i++) taken[i] = keys[i].node;
    return count;
}

void mmsb_wave_stop(mmsb_wave *wave) {
    while (take_level(wave, (uint32_t *)wave->nodes.data) != 0) continue;
}

int mmsb_graph_affected(mmsb_graph *graph, mmsb_wave *wave, const uint32_t *from, uint64_t count, uint32_t kinds,
                        mmsb_buffer *out) {
    size_t most = out->size + (size_t)graph->node_count * sizeof *from;
    if (!mmsb_buffer_reserve(out, wave->alloc, most)) return MMSB_NO_MEMORY;
    int status = mmsb_wave_begin(wave, graph, kinds);
    if (status != MMSB_OK) return status;
    for (uint64_t i = 0; i < count; i++) mmsb_wave_touch(wave, from[i]);
    const uint32_t *nodes;
    for (uint32_t found; (found = mmsb_wave_next(wave, &nodes)) != 0;) {
        memcpy(out->data + out->size, nodes, found * sizeof *nodes);
        out->size += found * sizeof *nodes;
        for (uint32_t i = 0; i < found; i++) mmsb_wave_touch(wave, nodes[i]);
    }
    return MMSB_OK;
}
