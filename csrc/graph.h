/* The graph of typed edges between pages, without cycles, and two orders of it.
 *
 * A page that was added is a node, numbered densely; numbers are used again after a page was removed. An edge leads
 * from a parent to a child and has a kind; one edge per (parent, child, kind). Each node has two arrays in one pool,
 * its edges out and its edges in, and each entry knows where its twin stands in the other array. So a walk reads
 * consecutive memory, finding an edge scans the shorter array, and removing one moves two entries. Entries therefore
 * have no order; whoever needs one sorts.
 *
 * The kept order (graph_order.c) is a topological order at all times; it says whether a new edge closes a cycle. It
 * depends on history. The settled order is what waves and everybody outside see: first by level, the number of edges
 * on the longest path that ends at the page, edges of every kind counted, then by page id. It depends on pages and
 * edges alone. Levels are brought up to date when somebody asks for them: an edge that moves the levels of 100,000
 * pages costs nothing when the next edge moves them back.
 *
 * Nothing here locks, and nothing recurses. Functions that walk use marks and scratch inside the graph. */
#ifndef MMSB_GRAPH_H
#define MMSB_GRAPH_H

#include "alloc.h"
#include "status.h"

#define MMSB_NO_NODE UINT32_MAX
#define MMSB_GRAPH_NODES_MAX ((uint32_t)1 << 30) /* so that a node and a kind share a word */

enum {
    MMSB_EDGE_DATA = 0,
    MMSB_EDGE_CONTROL = 1,
    MMSB_EDGE_DEVICE = 2,
    MMSB_EDGE_COMPILER = 3,
    MMSB_EDGE_KINDS = 4,
};
/* Functions that look at some kinds only take a mask, 1 << kind each. */
#define MMSB_EDGE_ALL ((1u << MMSB_EDGE_KINDS) - 1)

/* One end of an edge, in the array of the node at its other end. */
typedef struct mmsb_graph_end {
    uint32_t node : 30, kind : 2;
    uint32_t twin; /* position of the same edge in the array of `node` */
} mmsb_graph_end;

/* What the array of edges in holds: whoever recomputes a child finds parents and links side by side. */
typedef struct mmsb_graph_in {
    mmsb_graph_end end;
    uint64_t link; /* of the caller */
} mmsb_graph_in;

/* An array in the pool. Its capacity is 1 << size_class units of 8 bytes; size_class 0: it has no memory. */
typedef struct mmsb_graph_list {
    uint32_t at, count; /* at: in units */
    uint32_t size_class;
} mmsb_graph_list;

typedef struct mmsb_graph_node {
    uint64_t page_id; /* 0: the number is free, and out.at is the next free one */
    int64_t place;    /* the kept order goes by band, then by place */
    uint32_t band;
    uint32_t level; /* right when nothing is unsettled */
    mmsb_graph_list out, in;
    uint32_t unsettled; /* its position in graph->unsettled + 1; 0: it is not in there */
    uint8_t mark;       /* of a walk; 0 outside of walks */
} mmsb_graph_node;

#define MMSB_GRAPH_CLASSES 33

typedef struct mmsb_graph {
    const mmsb_alloc *alloc;
    mmsb_buffer nodes;     /* mmsb_graph_node */
    mmsb_buffer pool;      /* units of 8 bytes; unit 0 is not used */
    mmsb_buffer places;    /* u32: hash table from page id to node + 1 */
    mmsb_buffer first;     /* u32 per node: scratch of walks */
    mmsb_buffer second;    /* u32 per node: scratch of walks */
    mmsb_buffer stack;     /* u64 per node: scratch of walks */
    mmsb_buffer unsettled; /* u32: nodes whose level must be computed anew */
    mmsb_buffer cycle;     /* u32: nodes of the cycle refused last; each leads to the next, the last to the first */
    uint32_t free_blocks[MMSB_GRAPH_CLASSES];
    uint32_t free_node;  /* MMSB_NO_NODE: none */
    uint32_t node_count; /* numbers in use or free */
    uint32_t page_count;
    uint64_t edge_count;
    int64_t place_first, place_end; /* every place lies in between */
} mmsb_graph;

/* Many edges by page id. `kinds` NULL: all data; `links` NULL: all 0. */
typedef struct mmsb_graph_edges {
    const uint64_t *parents, *children;
    const uint8_t *kinds;
    const uint64_t *links;
    uint64_t count;
} mmsb_graph_edges;

/* A node with what it is sorted by. */
typedef struct mmsb_graph_key {
    uint64_t key;
    uint32_t node;
} mmsb_graph_key;

static inline mmsb_graph_node *mmsb_graph_node_at(const mmsb_graph *graph, uint32_t node) {
    return (mmsb_graph_node *)graph->nodes.data + node;
}
static inline const mmsb_graph_end *mmsb_graph_out_of(const mmsb_graph *graph, const mmsb_graph_node *node) {
    return (const mmsb_graph_end *)graph->pool.data + node->out.at;
}
static inline mmsb_graph_in *mmsb_graph_in_of(const mmsb_graph *graph, const mmsb_graph_node *node) {
    return (mmsb_graph_in *)((mmsb_graph_end *)graph->pool.data + node->in.at);
}

/* graph.c: pages and edges. Whatever fails changes nothing. */

void mmsb_graph_init(mmsb_graph *graph, const mmsb_alloc *alloc);
void mmsb_graph_release(mmsb_graph *graph);

/* Bytes of memory that the graph holds. */
uint64_t mmsb_graph_bytes(const mmsb_graph *graph);

/* The node of a page, MMSB_NO_NODE when it was not added. */
uint32_t mmsb_graph_find(const mmsb_graph *graph, uint64_t page_id);

/* Gives a page its node, or finds the one it has. MMSB_OK, NO_MEMORY (also beyond MMSB_GRAPH_NODES_MAX), or
 * PAGE_NOT_FOUND for page id 0, which no page has. */
int mmsb_graph_add_page(mmsb_graph *graph, uint64_t page_id, uint32_t *node);

/* Takes a page out; its number becomes free. MMSB_OK, or PAGE_HAS_EDGES unless `detach` says to take them out too. */
int mmsb_graph_remove_page(mmsb_graph *graph, uint32_t node, bool detach);

/* Adds an edge. MMSB_OK, EDGE_EXISTS, NO_MEMORY, or CYCLE: then graph->cycle holds the shortest one, from the parent
 * on; among several the one whose page ids, compared from the child on, are smallest. */
int mmsb_graph_add_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind, uint64_t link);

/* Adds all edges or none. As mmsb_graph_add_edge one after the other, with PAGE_NOT_FOUND for a page that was not
 * added; *failed is then the first edge that could not be added. Many edges are added at once and ordered by one pass
 * over the graph (Kahn 1962). */
int mmsb_graph_add_edges(mmsb_graph *graph, const mmsb_graph_edges *edges, uint64_t *failed);

/* Removes an edge. MMSB_OK or EDGE_NOT_FOUND. */
int mmsb_graph_remove_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind);

/* The link of an edge, to be read or set until the graph changes; NULL when there is no such edge. */
uint64_t *mmsb_graph_link(const mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind);

/* graph_order.c: the kept order and the levels. */

static inline bool mmsb_graph_before(const mmsb_graph_node *a, const mmsb_graph_node *b) {
    return a->band != b->band ? a->band < b->band : a->place < b->place;
}

/* Makes the kept order hold for an edge that is to be added. MMSB_OK, or CYCLE, changing nothing. */
int mmsb_graph_order_edge(mmsb_graph *graph, uint32_t parent, uint32_t child);

/* Computes the kept order and all levels from nothing. MMSB_OK, or CYCLE, changing nothing. */
int mmsb_graph_order_all(mmsb_graph *graph);

/* Says that the level of a node may have changed. */
void mmsb_graph_unsettle(mmsb_graph *graph, uint32_t node);

/* Brings every level up to date. Costs nothing when no edge came or went that matters. */
void mmsb_graph_settle(mmsb_graph *graph);

/* graph_sort.c: sorts by key, leaving nodes of equal keys as they were. `spare` holds as many. */
void mmsb_graph_sort(mmsb_graph_key *keys, mmsb_graph_key *spare, uint32_t count);

/* graph_query.c: asking. Nodes are appended to `out` as u32; NO_MEMORY leaves it as it was. */

/* Every node that can be reached from those in `from` by one edge or more, along edges of these kinds, forward or
 * `backward`, each once, ascending by page id. MMSB_OK or NO_MEMORY. */
int mmsb_graph_reach(mmsb_graph *graph, const uint32_t *from, uint64_t count, uint32_t kinds, bool backward,
                     mmsb_buffer *out);

/* The shortest path between two nodes, both included; among several the one whose page ids, compared from the start
 * on, are smallest. Appends nothing when there is none. MMSB_OK or NO_MEMORY. */
int mmsb_graph_path(mmsb_graph *graph, uint32_t from, uint32_t to, uint32_t kinds, mmsb_buffer *out);

/* All nodes in the settled order. MMSB_OK or NO_MEMORY. */
int mmsb_graph_order(mmsb_graph *graph, mmsb_buffer *out);

/* The path of the largest weight, the sum of the weights of its nodes added from its start on. `weights`: one per node
 * number, finite and not negative; NULL: 1 each. Among several the end, then each node before it, has the smallest page
 * id. MMSB_OK or NO_MEMORY; *weight is 0 when there is no page. */
int mmsb_graph_critical_path(mmsb_graph *graph, uint32_t kinds, const double *weights, mmsb_buffer *out,
                             double *weight);

/* Pairs (parent, child) that an edge joins although a longer path does too: what a transitive reduction leaves out
 * (Aho, Garey, Ullman 1972). Each once, in no particular order. MMSB_OK or NO_MEMORY. */
int mmsb_graph_redundant(mmsb_graph *graph, uint32_t kinds, mmsb_buffer *out);

/* graph_check.c: checks the invariants. MMSB_OK; MMSB_NO_MEMORY; or 1, with the broken one named in *why. */
int mmsb_graph_check(mmsb_graph *graph, const char **why);

#endif
