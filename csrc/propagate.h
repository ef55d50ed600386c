/* A wave: the pages that depend on changed ones are computed anew, each once, parents before children, and what comes
 * out different is one commit of its own. docs/understand/propagation.md.
 *
 *   begin -> run -> (the caller computes a page in its own language -> returned)* -> run -> publish
 *
 * Nothing changes before publish: computed pages are staged, and whoever is computed later is shown the staged ones. */
#ifndef MMSB_PROPAGATE_H
#define MMSB_PROPAGATE_H

#include "core.h"
#include "link.h"
#include "wave.h"

/* How a page is computed: its link and its parents by node, in the order of the link. */
typedef struct mmsb_rule {
    mmsb_link link;
    uint32_t *parents;
    uint64_t *epochs; /* CALL: those of the parents that the page was computed from last */
    void *memory;     /* one block: parents, weights, copies, epochs */
    bool used;
    bool computed; /* CALL: `epochs` are set */
} mmsb_rule;

/* What a wave knows of a node. It counts only while `wave` is the number of the running wave. What stands here spares
 * whoever depends on a staged page the way to the page itself, which in a wide graph is three misses of the cache. */
typedef struct mmsb_staged {
    uint64_t wave;
    uint8_t *bytes;       /* NULL: the page itself */
    uint64_t size, epoch; /* of the staged page */
    uint32_t first_change, change_count;
    bool whole, changed, failed;
} mmsb_staged;

/* A delta of the wave; `at`: of its payload, counted from the frame's first change. */
typedef struct mmsb_wave_delta {
    uint64_t at, bytes;
    uint32_t node;
    uint8_t code;
} mmsb_wave_delta;

typedef enum mmsb_wave_scope {
    MMSB_WAVE_FULL,    /* everything that was touched, and the forced nodes */
    MMSB_WAVE_PARTIAL, /* the forced nodes only */
    MMSB_WAVE_TRIAL,   /* the same, every one computed, every difference staged, and nothing published */
} mmsb_wave_scope;
/* What a thread has computed of a node of the level at hand, before the wave comes to it. */
typedef struct mmsb_ahead {
    mmsb_buffer pages; /* mmsb_link_page: the parents */
    mmsb_link_result result;
    bool ready;
} mmsb_ahead;

typedef struct mmsb_propagation {
    const mmsb_alloc *alloc;
    mmsb_core *core;
    mmsb_graph *graph;
    mmsb_wave wave;
    mmsb_buffer rules;   /* mmsb_rule per node */
    mmsb_buffer staged;  /* mmsb_staged per node */
    mmsb_buffer changes; /* mmsb_link_change of this wave */
    mmsb_buffer pages;   /* mmsb_link_page: the parents of the page at hand */
    mmsb_buffer changed; /* mmsb_wave_delta: of the pages that came out different, in order */
    mmsb_buffer visited; /* u32: nodes that were looked at */
    mmsb_buffer failed;  /* u32: nodes that could not be computed, or depend on one */
    mmsb_buffer forced;  /* u32: nodes to be computed whatever their parents did */
    mmsb_link_result result;
    mmsb_buffer ahead; /* mmsb_ahead per place of a level, kept from level to level */
    void *blocks;      /* memory of this wave; it goes at the wave's end */
    uint8_t *block_at;
    uint64_t block_left, oldest_bytes;
    uint64_t number;       /* of the wave */
    uint64_t used;         /* bytes of the frame */
    const uint32_t *level; /* nodes of the level at hand */
    uint32_t level_count, level_at;
    uint32_t computed; /* pages of the wave */
    mmsb_wave_scope scope;
    bool mixed; /* a partial wave covered some of what core->touched tells, and nobody knows which part */
    bool published;
    bool pauses;     /* run returns when it comes to another level */
    bool is_ahead;   /* threads have computed nodes of this level */
    bool refused;    /* the log had no room: the frame must be written for another segment */
    const char *why; /* after MMSB_BAD_LINK */
} mmsb_propagation;

enum {
    MMSB_WAVE_DONE = 0,
    MMSB_WAVE_CALL = 1,    /* compute the page of mmsb_propagate_node yourself */
    MMSB_WAVE_LEVEL = 2,   /* another level begins; only when p->pauses */
    MMSB_WAVE_UNUSUAL = 3, /* of mmsb_propagate_at_once only */
};

int mmsb_propagate_init(mmsb_propagation *p, mmsb_core *core, mmsb_graph *graph);
void mmsb_propagate_release(mmsb_propagation *p);

/* Sets how the page of a node is computed; everything is copied, and `link` may hold pointers to the stack. `parents`:
 * link->parent_count nodes. MMSB_OK or NO_MEMORY. */
int mmsb_propagate_set_rule(mmsb_propagation *p, uint32_t node, const mmsb_link *link, const uint32_t *parents);
void mmsb_propagate_clear_rule(mmsb_propagation *p, uint32_t node);

/* Says that a node is to be computed in the next wave, whole. One without a rule is not. MMSB_OK or NO_MEMORY. */
int mmsb_propagate_force(mmsb_propagation *p, uint32_t node);

/* Begins a wave. Every forced node must come with the stale ones that it depends on. MMSB_OK or NO_MEMORY. */
int mmsb_propagate_begin(mmsb_propagation *p, const mmsb_commit_info *info, mmsb_wave_scope scope);

/* Goes on: MMSB_WAVE_CALL, MMSB_WAVE_LEVEL, MMSB_WAVE_DONE, or NO_MEMORY, BAD_LINK (the node at hand cannot be
 * computed: say so with mmsb_propagate_failed). Call again to go on. */
int mmsb_propagate_run(mmsb_propagation *p);

/* At the beginning of a level: makes room for computing it ahead. *work: about how many bytes that reads and writes.
 * MMSB_OK or NO_MEMORY. */
int mmsb_propagate_reserve_ahead(mmsb_propagation *p, uint64_t *work);

/* Computes the native links of places [first, end) of the level. Several threads may do so at once, each with places
 * of its own, while nobody else touches the State. The wave then takes what is ready, in its order, and computes the
 * rest: the bytes are the same. */
void mmsb_propagate_ahead(mmsb_propagation *p, uint32_t first, uint32_t end);

/* The node at hand, and the bytes of a node as the wave sees them. */
static inline uint32_t mmsb_propagate_node(const mmsb_propagation *p) { return p->level[p->level_at]; }
const uint8_t *mmsb_propagate_bytes(const mmsb_propagation *p, uint32_t node, uint64_t *size);

/* Whether those bytes are staged, and so gone when the wave ends. */
bool mmsb_propagate_is_staged(const mmsb_propagation *p, uint32_t node);

/* The caller has computed the node at hand: `bytes` are its whole new content. MMSB_OK or NO_MEMORY. */
int mmsb_propagate_returned(mmsb_propagation *p, const uint8_t *bytes);

/* The node at hand could not be computed: it and what depends on it stay as they are. MMSB_OK or NO_MEMORY. */
int mmsb_propagate_failed(mmsb_propagation *p);

/* Ends the wave as a commit, with `blob` as its WAVE change. The failures of mmsb_core_write; after NO_SPACE, with
 * another segment in place, call it again. */
int mmsb_propagate_publish(mmsb_propagation *p, const mmsb_commit_info *info, const uint8_t *blob, uint64_t blob_bytes);

/* A whole wave over what the last commit touched, as part of it: nothing is forced, and no rule calls the caller's
 * language. MMSB_WAVE_DONE; MMSB_WAVE_UNUSUAL: something is in the way that takes more than this, and nothing was done,
 * so run the wave step by step; or the failure of publishing it. p->visited, p->computed tell what it did. */
int mmsb_propagate_at_once(mmsb_propagation *p);

/* Cleans up behind the wave. One that was not published is given up: nothing has changed, and what its pages were
 * computed from is forgotten. */
void mmsb_propagate_end(mmsb_propagation *p);

#endif
