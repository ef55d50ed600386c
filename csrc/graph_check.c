/* The invariants of a graph, each with its reason. */
#include "graph.h"

static const char *wrong_nodes(const mmsb_graph *graph) {
    const uint32_t *unsettled = (const uint32_t *)graph->unsettled.data;
    uint64_t pages = 0, free = 0, unsettled_count = 0;
    for (uint32_t number = 0; number < graph->node_count; number++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
        if (node->page_id == 0) continue;
        pages++;
        if (mmsb_graph_find(graph, node->page_id) != number) return "a page is not found, or has two nodes";
        if (node->mark != 0) return "a walk left a mark";
        if (node->place < graph->place_first || node->place >= graph->place_end) return "a place lies out of range";
        if (node->unsettled == 0) continue;
        unsettled_count++;
        if (node->unsettled > graph->unsettled.size / sizeof *unsettled || unsettled[node->unsettled - 1] != number)
            return "an unsettled node is not listed";
    }
    if (unsettled_count != graph->unsettled.size / sizeof *unsettled) return "a settled node is listed as unsettled";
    for (uint32_t at = graph->free_node; at != MMSB_NO_NODE; at = mmsb_graph_node_at(graph, at)->out.at) {
        if (at >= graph->node_count || mmsb_graph_node_at(graph, at)->page_id != 0) return "a free number is in use";
        if (++free > graph->node_count) return "the free numbers form a cycle";
    }
    if (pages != graph->page_count) return "the pages do not add up";
    return pages + free != graph->node_count ? "a number is neither in use nor free" : NULL;
}

/* Units of the array's block; 0 with *why set when the array cannot be as it says. */
static uint64_t block_units(const mmsb_graph *graph, const mmsb_graph_list *list, uint64_t units, const char **why) {
    if (list->size_class == 0) {
        if (list->count != 0) *why = "an array has entries and no memory";
        return 0;
    }
    uint64_t block = list->size_class < MMSB_GRAPH_CLASSES ? (uint64_t)1 << list->size_class : 0;
    if (block == 0 || list->at == 0 || list->at + block > graph->pool.size / sizeof(mmsb_graph_end))
        *why = "an array lies outside the pool";
    else if (list->count == 0 || list->count * units > block)
        *why = "an array has no entry, or more than it has room for";
    return block;
}

/* Every unit of the pool belongs to one array or is free: the sizes add up, given that no two arrays share an entry,
 * which the twins show. */
static const char *wrong_pool(const mmsb_graph *graph) {
    const char *why = NULL;
    uint64_t used = 0, units = graph->pool.size / sizeof(mmsb_graph_end);
    for (uint32_t number = 0; number < graph->node_count; number++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
        if (node->page_id == 0) continue;
        used += block_units(graph, &node->out, 1, &why) + block_units(graph, &node->in, 2, &why);
        if (why != NULL) return why;
    }
    for (uint32_t size_class = 1; size_class < MMSB_GRAPH_CLASSES; size_class++) {
        for (uint32_t at = graph->free_blocks[size_class]; at != 0;) {
            used += (uint64_t)1 << size_class;
            if (at >= units || used >= units) return "a free block lies outside the pool, or is listed twice";
            at = mmsb_load_u32(graph->pool.data + at * sizeof(mmsb_graph_end));
        }
    }
    return units != 0 && used + 1 != units ? "the pool does not add up" : NULL;
}

static const char *wrong_edges_of(const mmsb_graph *graph, uint32_t number, uint64_t *in_count) {
    const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
    const mmsb_graph_end *children = mmsb_graph_out_of(graph, node);
    const char *why = NULL;
    for (uint32_t i = 0; i < node->out.count && why == NULL; i++) {
        uint32_t child = children[i].node;
        mmsb_graph_node *next = child < graph->node_count ? mmsb_graph_node_at(graph, child) : NULL;
        if (next == NULL || next->page_id == 0 || children[i].twin >= next->in.count) {
            why = "an edge leads nowhere";
            break;
        }
        mmsb_graph_end twin = mmsb_graph_in_of(graph, next)[children[i].twin].end;
        if (twin.node != number || twin.kind != children[i].kind || twin.twin != i) why = "an edge and its twin differ";
        if (next->mark >> children[i].kind & 1) why = "an edge is there twice";
        if (!mmsb_graph_before(node, next)) why = "an edge leads backward in the kept order";
        next->mark |= (uint8_t)(1u << children[i].kind);
    }
    for (uint32_t i = 0; i < node->out.count; i++)
        if (children[i].node < graph->node_count) mmsb_graph_node_at(graph, children[i].node)->mark = 0;
    uint32_t level = 0;
    for (uint32_t i = 0; i < node->in.count; i++) {
        uint32_t parent = mmsb_graph_in_of(graph, node)[i].end.node;
        if (parent >= graph->node_count) return "an edge comes from nowhere";
        level = (uint32_t)mmsb_max_u64(level, (uint64_t)mmsb_graph_node_at(graph, parent)->level + 1);
    }
    if (why == NULL && node->unsettled == 0 && node->level != level) why = "a settled level is wrong";
    *in_count += node->in.count;
    return why;
}

int mmsb_graph_check(mmsb_graph *graph, const char **why) {
    uint64_t out_count = 0, in_count = 0;
    *why = wrong_nodes(graph);
    if (*why == NULL) *why = wrong_pool(graph);
    for (uint32_t number = 0; number < graph->node_count && *why == NULL; number++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, number);
        if (node->page_id == 0) continue;
        out_count += node->out.count;
        *why = wrong_edges_of(graph, number, &in_count);
    }
    if (*why == NULL && (out_count != graph->edge_count || in_count != graph->edge_count))
        *why = "the edges do not add up";
    return *why == NULL ? MMSB_OK : 1;
}
