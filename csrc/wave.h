/* The walk of a wave over the graph: from pages that changed to the pages that depend on them, level by level.
 *
 * mmsb_wave_begin, mmsb_wave_touch for each page that changed, then mmsb_wave_next gives the pages of the lowest level
 * that depend on a touched one, sorted by page id; touch those that changed, and so on until it gives 0. Each page
 * comes at most once, after all its parents, in the settled order (level, then page id), which is the same whatever
 * the history of the graph. Pages of one level do not depend on each other. A page none of whose parents was touched
 * is never looked at: a wave costs what it visits, not what it could have visited.
 *
 * Between begin and the last next, which gives 0, or stop, the graph must not change. Memory is reserved by begin and
 * kept, so that a wave allocates nothing once the graph has stopped growing. */
#ifndef MMSB_WAVE_H
#define MMSB_WAVE_H

#include "graph.h"

/* The nodes queued at one level: a list through wave->next, newest first. */
typedef struct mmsb_wave_level {
    uint32_t newest, count;
} mmsb_wave_level;

typedef struct mmsb_wave {
    const mmsb_graph *graph;
    const mmsb_alloc *alloc;
    mmsb_buffer next;    /* u32 per node: 0: not queued; the node queued before it + 1; or MMSB_NO_NODE: none */
    mmsb_buffer levels;  /* mmsb_wave_level per level; all zero outside of waves */
    mmsb_buffer waiting; /* u64: bit l is set when level l has nodes */
    mmsb_buffer nodes;   /* u32: what next gave */
    mmsb_buffer keys;    /* mmsb_graph_key, twice: of the level that next sorts */
    uint64_t reserved;   /* nodes that all of these have room for */
    uint64_t queued;     /* nodes that next has not given yet */
    uint32_t level;      /* no lower one has nodes */
    uint32_t kinds;
} mmsb_wave;

void mmsb_wave_init(mmsb_wave *wave, const mmsb_alloc *alloc);
void mmsb_wave_release(mmsb_wave *wave);

/* Settles the graph's levels and begins, along edges of these kinds (a mask). MMSB_OK or NO_MEMORY. */
int mmsb_wave_begin(mmsb_wave *wave, mmsb_graph *graph, uint32_t kinds);

/* The page changed: its children are queued. It must be at a level that next has given or lower than any to come. */
void mmsb_wave_touch(mmsb_wave *wave, uint32_t node);

/* Queues a node itself, whether or not one of its parents changed. Its level must be one that is still to come. */
void mmsb_wave_queue(mmsb_wave *wave, uint32_t node);

/* The nodes of the lowest level that has any, sorted by page id, in *nodes until the next call. 0: the wave is over. */
uint32_t mmsb_wave_next(mmsb_wave *wave, const uint32_t **nodes);

/* Gives up what is still queued. */
void mmsb_wave_stop(mmsb_wave *wave);

/* Every node that depends on one of `from`, in the settled order, appended to `out` as u32: the wave in which
 * everything changes. MMSB_OK or NO_MEMORY, leaving `out` as it was. */
int mmsb_graph_affected(mmsb_graph *graph, mmsb_wave *wave, const uint32_t *from, uint64_t count, uint32_t kinds,
                        mmsb_buffer *out);

#endif
