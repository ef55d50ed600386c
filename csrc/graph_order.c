/* The kept order, incrementally, and levels.
 *
 * Every node has a band and a place; an edge never leads to a lower band, and within a band it leads to a higher
 * place. An edge that agrees is added without any work. For one that does not, the search for a cycle goes both ways
 * inside the band, cheaper side first. The ancestors of the parent, once all are known, can stand before everything
 * else in the band, the descendants of the child behind everything. When both searches grow beyond SEARCH_EDGES, the
 * child leaves for the next band instead and takes along what depends on it and stands lower: bands cut the graph into
 * slices in which searches stay short.
 *
 * Bands and the search bounded inside them are those of Bender, Fineman, Gilbert and Tarjan, "A New Approach to
 * Incremental Cycle Detection and Related Problems", ACM Transactions on Algorithms 12(2), 2016, section 2 (they call
 * them levels). The search that goes both ways is in Haeupler, Kavitha, Mathew, Sen and Tarjan, "Incremental Cycle
 * Detection, Topological Ordering, and Strong Component Maintenance", ACM TALG 8(1), 2012. Places at the two ends of a
 * band take the place of their lists. */
#include "graph.h"

/* The proof asks for the square root of the number of edges, 1,000 here. Measured on random graphs, chains and grids,
 * 64 to 128 is best, and 10 times more costs up to three times the time. */
#define SEARCH_EDGES 64

/* A pass over everything cuts its order into that many bands. Fewer make searches inside them longer; with one per
 * level a chain that hangs on another could be lifted, whole, once per level. */
#define PASS_BANDS 256

enum { MARK_BACK = 1, MARK_AHEAD = 2 };

/* One direction of the search inside a band: the nodes found, in `nodes`, of which `done` were looked through. */
typedef struct side {
    uint32_t *nodes;
    uint32_t count, done;
    uint64_t edges; /* looked at */
    bool back;
} side;

static side begin_side(mmsb_graph *graph, uint32_t node, bool back) {
    side one = {.nodes = (uint32_t *)(back ? graph->first.data : graph->second.data), .count = 1, .back = back};
    one.nodes[0] = node;
    mmsb_graph_node_at(graph, node)->mark = back ? MARK_BACK : MARK_AHEAD;
    return one;
}

static void clear_marks(mmsb_graph *graph, const uint32_t *nodes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) mmsb_graph_node_at(graph, nodes[i])->mark = 0;
}

/* Edges that will have been looked at after the next step. */
static uint64_t edges_after(const mmsb_graph *graph, const side *one) {
    const mmsb_graph_node *node = mmsb_graph_node_at(graph, one->nodes[one->done]);
    return one->edges + (one->back ? node->in.count : node->out.count) + 1;
}

/* Looks through the edges of one node. False when the other side's nodes are met. */
static bool step(mmsb_graph *graph, side *one, uint32_t band) {
    const mmsb_graph_node *node = mmsb_graph_node_at(graph, one->nodes[one->done]);
    one->edges = edges_after(graph, one);
    one->done++;
    uint32_t count = one->back ? node->in.count : node->out.count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number =
            one->back ? mmsb_graph_in_of(graph, node)[i].end.node : mmsb_graph_out_of(graph, node)[i].node;
        mmsb_graph_node *next = mmsb_graph_node_at(graph, number);
        if (next->band != band) continue;
        if (next->mark == (one->back ? MARK_AHEAD : MARK_BACK)) return false;
        if (next->mark != 0) continue;
        next->mark = one->back ? MARK_BACK : MARK_AHEAD;
        one->nodes[one->count++] = number;
    }
    return true;
}

/* By place. At most SEARCH_EDGES + 1 nodes, often in order already: insertion sort. */
static void sort_side(const mmsb_graph *graph, side *one) {
    for (uint32_t i = 1; i < one->count; i++) {
        uint32_t node = one->nodes[i], at = i;
        int64_t place = mmsb_graph_node_at(graph, node)->place;
        for (; at != 0 && mmsb_graph_node_at(graph, one->nodes[at - 1])->place > place; at--)
            one->nodes[at] = one->nodes[at - 1];
        one->nodes[at] = node;
    }
}

/* Nodes of one band, complete with all their ancestors in it: before everything else. */
static void move_to_front(mmsb_graph *graph, side *one) {
    sort_side(graph, one);
    for (uint32_t i = one->count; i-- != 0;) mmsb_graph_node_at(graph, one->nodes[i])->place = --graph->place_first;
}

/* Nodes of one band, complete with all their descendants in it: behind everything else. */
static void move_to_end(mmsb_graph *graph, side *one) {
    sort_side(graph, one);
    for (uint32_t i = 0; i < one->count; i++) mmsb_graph_node_at(graph, one->nodes[i])->place = graph->place_end++;
}

/* Collects `child` and what can be reached from it below `band`, each after all that can be reached from it, without
 * recursion. False when a node marked MARK_BACK is met. */
static bool collect_below(mmsb_graph *graph, uint32_t child, uint32_t band, uint32_t *nodes, uint32_t *count) {
    uint64_t *stack = (uint64_t *)graph->stack.data, depth = 1;
    stack[0] = child; /* the node; in the upper half the edge where to go on */
    mmsb_graph_node_at(graph, child)->mark = MARK_AHEAD;
    *count = 0;
    while (depth != 0) {
        uint32_t number = (uint32_t)stack[depth - 1];
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
        const mmsb_graph_end *ends = mmsb_graph_out_of(graph, node);
        uint32_t i = (uint32_t)(stack[depth - 1] >> 32);
        for (; i < node->out.count; i++) {
            mmsb_graph_node *next = mmsb_graph_node_at(graph, ends[i].node);
            if (next->mark == MARK_BACK) {
                /* Those still on the stack are marked too. */
                while (depth-- != 0) nodes[(*count)++] = (uint32_t)stack[depth];
                return false;
            }
            if (next->mark == 0 && next->band < band) break;
        }
        if (i == node->out.count) {
            nodes[(*count)++] = number;
            depth--;
            continue;
        }
        stack[depth - 1] = number | (uint64_t)(i + 1) << 32;
        stack[depth++] = ends[i].node;
        mmsb_graph_node_at(graph, ends[i].node)->mark = MARK_AHEAD;
    }
    return true;
}

/* Lifts the child into `band`, with what depends on it and stands lower, before what is there. False: a cycle. */
static bool lift(mmsb_graph *graph, uint32_t child, uint32_t band, side *back, bool back_complete) {
    uint32_t *nodes = (uint32_t *)graph->second.data, count;
    bool acyclic = collect_below(graph, child, band, nodes, &count);
    for (uint32_t i = 0; i < count && acyclic; i++) {
        mmsb_graph_node *node = mmsb_graph_node_at(graph, nodes[i]);
        node->band = band;
        node->place = --graph->place_first;
    }
    if (acyclic && back_complete) move_to_front(graph, back);
    clear_marks(graph, nodes, count);
    return acyclic;
}

int mmsb_graph_order_edge(mmsb_graph *graph, uint32_t parent, uint32_t child) {
    mmsb_graph_node *from = mmsb_graph_node_at(graph, parent), *to = mmsb_graph_node_at(graph, child);
    if (mmsb_graph_before(from, to)) return MMSB_OK;
    bool same_band = from->band == to->band, acyclic = true;
    side back = begin_side(graph, parent, true), ahead = {.count = 0};
    if (same_band) ahead = begin_side(graph, child, false);
    for (;;) {
        uint64_t back_edges = edges_after(graph, &back),
                 ahead_edges = same_band ? edges_after(graph, &ahead) : UINT64_MAX;
        side *cheaper = back_edges <= ahead_edges ? &back : &ahead;
        if (mmsb_min_u64(back_edges, ahead_edges) > SEARCH_EDGES) break;
        acyclic = step(graph, cheaper, from->band);
        if (!acyclic || cheaper->done == cheaper->count) break;
    }
    bool back_complete = back.done == back.count, ahead_complete = same_band && ahead.done == ahead.count;
    clear_marks(graph, ahead.nodes, ahead.count);
    if (acyclic && same_band && back_complete) {
        move_to_front(graph, &back);
    } else if (acyclic && ahead_complete) {
        move_to_end(graph, &ahead);
    } else if (acyclic) {
        acyclic = lift(graph, child, from->band + !back_complete, &back, back_complete);
    }
    clear_marks(graph, back.nodes, back.count);
    return acyclic ? MMSB_OK : MMSB_CYCLE;
}

int mmsb_graph_order_all(mmsb_graph *graph) {
    uint32_t *queue = (uint32_t *)graph->first.data, *waiting = (uint32_t *)graph->second.data;
    uint32_t count = 0;
    for (uint32_t number = 0; number < graph->node_count; number++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
        waiting[number] = node->in.count;
        if (node->page_id != 0 && node->in.count == 0) queue[count++] = number;
    }
    for (uint32_t i = 0; i < count; i++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, queue[i]);
        const mmsb_graph_end *ends = mmsb_graph_out_of(graph, node);
        for (uint32_t k = 0; k < node->out.count; k++)
            if (--waiting[ends[k].node] == 0) queue[count++] = ends[k].node;
    }
    if (count != graph->page_count) return MMSB_CYCLE;
    for (uint32_t i = 0; i < count; i++) {
        mmsb_graph_node *node = mmsb_graph_node_at(graph, queue[i]);
        node->level = node->unsettled = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        mmsb_graph_node *node = mmsb_graph_node_at(graph, queue[i]);
        const mmsb_graph_end *ends = mmsb_graph_out_of(graph, node);
        node->band = (uint32_t)((uint64_t)i * PASS_BANDS / count);
        node->place = i;
        for (uint32_t k = 0; k < node->out.count; k++) {
            mmsb_graph_node *next = mmsb_graph_node_at(graph, ends[k].node);
            if (next->level <= node->level) next->level = node->level + 1;
        }
    }
    graph->place_first = 0;
    graph->place_end = count;
    graph->unsettled.size = 0;
    return MMSB_OK;
}

/* ---- levels */

void mmsb_graph_unsettle(mmsb_graph *graph, uint32_t node) {
    mmsb_graph_node *page = mmsb_graph_node_at(graph, node);
    if (page->unsettled != 0) return;
    ((uint32_t *)graph->unsettled.data)[graph->unsettled.size / sizeof node] = node;
    graph->unsettled.size += sizeof node;
    page->unsettled = (uint32_t)(graph->unsettled.size / sizeof node);
}

/* A binary heap by the kept order, in graph->unsettled. */
static void sink(const mmsb_graph *graph, uint32_t *heap, uint32_t count, uint32_t at) {
    uint32_t node = heap[at];
    for (uint32_t below; (below = at * 2 + 1) < count; at = below) {
        if (below + 1 < count &&
            mmsb_graph_before(mmsb_graph_node_at(graph, heap[below + 1]), mmsb_graph_node_at(graph, heap[below])))
            below++;
        if (!mmsb_graph_before(mmsb_graph_node_at(graph, heap[below]), mmsb_graph_node_at(graph, node))) break;
        heap[at] = heap[below];
    }
    heap[at] = node;
}

static void rise(const mmsb_graph *graph, uint32_t *heap, uint32_t at) {
    uint32_t node = heap[at];
    for (; at != 0; at = (at - 1) / 2) {
        uint32_t above = heap[(at - 1) / 2];
        if (!mmsb_graph_before(mmsb_graph_node_at(graph, node), mmsb_graph_node_at(graph, above))) break;
        heap[at] = above;
    }
    heap[at] = node;
}

void mmsb_graph_settle(mmsb_graph *graph) {
    uint32_t *heap = (uint32_t *)graph->unsettled.data, count = (uint32_t)(graph->unsettled.size / sizeof *heap);
    if (count > graph->page_count / 16) { /* a heap costs more than one pass over everything */
        mmsb_graph_order_all(graph);
        return;
    }
    for (uint32_t at = count / 2; at-- != 0;) sink(graph, heap, count, at);
    /* Parents come out of the heap before their children, so that each node is computed once. */
    while (count != 0) {
        mmsb_graph_node *node = mmsb_graph_node_at(graph, heap[0]);
        heap[0] = heap[--count];
        if (count != 0) sink(graph, heap, count, 0);
        node->unsettled = 0;
        uint32_t level = 0, before = node->level;
        const mmsb_graph_in *parents = mmsb_graph_in_of(graph, node);
        for (uint32_t i = 0; i < node->in.count; i++) {
            uint32_t above = mmsb_graph_node_at(graph, parents[i].end.node)->level;
            if (above >= level) level = above + 1;
        }
        if (level == before) continue;
        node->level = level;
        const mmsb_graph_end *children = mmsb_graph_out_of(graph, node);
        for (uint32_t i = 0; i < node->out.count; i++) {
            mmsb_graph_node *child = mmsb_graph_node_at(graph, children[i].node);
            if (child->unsettled != 0 || (child->level > level && child->level != before + 1)) continue;
            child->unsettled = 1;
            heap[count] = children[i].node;
            rise(graph, heap, count++);
        }
    }
    graph->unsettled.size = 0;
}
