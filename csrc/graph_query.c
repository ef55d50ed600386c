/* Questions about the whole graph. Each walks with a list or a sorted array: no recursion at any depth. */
#include "graph.h"

/* Whether an edge is of one of these kinds. */
static bool is_of(mmsb_graph_end end, uint32_t kinds) { return (kinds >> end.kind & 1) != 0; }

static bool reserve_nodes(const mmsb_graph *graph, mmsb_buffer *out, uint64_t count) {
    return mmsb_buffer_reserve(out, graph->alloc, out->size + count * sizeof(uint32_t));
}

static void append(mmsb_buffer *out, uint32_t node) {
    mmsb_store_u32(out->data + out->size, node);
    out->size += sizeof node;
}

/* Sorts nodes by page id. */
static int sort_nodes(mmsb_graph *graph, uint32_t *nodes, uint64_t count) {
    mmsb_buffer buffer = {0};
    if (!mmsb_buffer_reserve(&buffer, graph->alloc, count * 2 * sizeof(mmsb_graph_key))) return MMSB_NO_MEMORY;
    mmsb_graph_key *keys = (mmsb_graph_key *)buffer.data;
    for (uint64_t i = 0; i < count; i++)
        keys[i] = (mmsb_graph_key){mmsb_graph_node_at(graph, nodes[i])->page_id, nodes[i]};
    mmsb_graph_sort(keys, keys + count, (uint32_t)count);
    for (uint64_t i = 0; i < count; i++) nodes[i] = keys[i].node;
    mmsb_buffer_release(&buffer, graph->alloc);
    return MMSB_OK;
}

int mmsb_graph_reach(mmsb_graph *graph, const uint32_t *from, uint64_t count, uint32_t kinds, bool backward,
                     mmsb_buffer *out) {
    if (!reserve_nodes(graph, out, (uint64_t)graph->page_count + 1)) return MMSB_NO_MEMORY;
    uint32_t *found = (uint32_t *)(out->data + out->size);
    uint64_t total = 0;
    for (uint64_t i = 0; i < count + total; i++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, i < count ? from[i] : found[i - count]);
        uint32_t degree = backward ? node->in.count : node->out.count;
        const uint8_t *at =
            backward ? (const uint8_t *)mmsb_graph_in_of(graph, node) : (const uint8_t *)mmsb_graph_out_of(graph, node);
        uint64_t stride = backward ? sizeof(mmsb_graph_in) : sizeof(mmsb_graph_end);
        for (uint32_t k = 0; k < degree; k++, at += stride) {
            mmsb_graph_end end;
            memcpy(&end, at, sizeof end); /* the end stands first in either */
            mmsb_graph_node *next = mmsb_graph_node_at(graph, end.node);
            /* No branch: whether a node was met before cannot be foreseen. What was met is overwritten by the next. */
            bool is_new = (next->mark == 0) & is_of(end, kinds);
            next->mark |= is_new;
            found[total] = end.node;
            total += is_new;
        }
    }
    for (uint64_t i = 0; i < total; i++) mmsb_graph_node_at(graph, found[i])->mark = 0;
    int status = sort_nodes(graph, found, total);
    if (status == MMSB_OK) out->size += total * sizeof *found;
    return status;
}

/* Numbers of edges from nodes to `to`, in graph->second, for those that are marked: found in breadth, from the end,
 * until `from` is among them. Returns how many nodes are listed in graph->first. */
static uint32_t measure(mmsb_graph *graph, uint32_t from, uint32_t to, uint32_t kinds) {
    uint32_t *found = (uint32_t *)graph->first.data, *distance = (uint32_t *)graph->second.data, count = 1;
    found[0] = to;
    distance[to] = 0;
    mmsb_graph_node_at(graph, to)->mark = 1;
    for (uint32_t i = 0; i < count && mmsb_graph_node_at(graph, from)->mark == 0; i++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, found[i]);
        const mmsb_graph_in *parents = mmsb_graph_in_of(graph, node);
        for (uint32_t k = 0; k < node->in.count; k++) {
            uint32_t number = parents[k].end.node;
            mmsb_graph_node *next = mmsb_graph_node_at(graph, number);
            if (next->mark != 0 || !is_of(parents[k].end, kinds)) continue;
            next->mark = 1;
            distance[number] = distance[found[i]] + 1;
            found[count++] = number;
        }
    }
    return count;
}

int mmsb_graph_path(mmsb_graph *graph, uint32_t from, uint32_t to, uint32_t kinds, mmsb_buffer *out) {
    if (!reserve_nodes(graph, out, graph->page_count)) return MMSB_NO_MEMORY;
    const uint32_t *found = (const uint32_t *)graph->first.data, *distance = (const uint32_t *)graph->second.data;
    uint32_t count = measure(graph, from, to, kinds);
    if (mmsb_graph_node_at(graph, from)->mark != 0) {
        append(out, from);
        for (uint32_t left = distance[from], at = from; left-- != 0;) {
            const mmsb_graph_node *node = mmsb_graph_node_at(graph, at), *best = NULL;
            const mmsb_graph_end *children = mmsb_graph_out_of(graph, node);
            for (uint32_t k = 0; k < node->out.count; k++) {
                const mmsb_graph_node *next = mmsb_graph_node_at(graph, children[k].node);
                if (next->mark == 0 || distance[children[k].node] != left || !is_of(children[k], kinds)) continue;
                if (best != NULL && best->page_id <= next->page_id) continue;
                best = next;
                at = children[k].node;
            }
            append(out, at);
        }
    }
    for (uint32_t i = 0; i < count; i++) mmsb_graph_node_at(graph, found[i])->mark = 0;
    return MMSB_OK;
}

int mmsb_graph_order(mmsb_graph *graph, mmsb_buffer *out) {
    mmsb_buffer buffer = {0};
    uint32_t count = 0;
    if (!reserve_nodes(graph, out, graph->page_count)) return MMSB_NO_MEMORY;
    if (!mmsb_buffer_reserve(&buffer, graph->alloc, (size_t)graph->page_count * 2 * sizeof(mmsb_graph_key)))
        return MMSB_NO_MEMORY;
    mmsb_graph_settle(graph);
    mmsb_graph_key *keys = (mmsb_graph_key *)buffer.data;
    for (uint32_t node = 0; node < graph->node_count; node++) {
        uint64_t page_id = mmsb_graph_node_at(graph, node)->page_id;
        if (page_id != 0) keys[count++] = (mmsb_graph_key){page_id, node};
    }
    mmsb_graph_sort(keys, keys + count, count);
    for (uint32_t i = 0; i < count; i++) keys[i].key = mmsb_graph_node_at(graph, keys[i].node)->level;
    mmsb_graph_sort(keys, keys + count, count);
    for (uint32_t i = 0; i < count; i++) append(out, keys[i].node);
    mmsb_buffer_release(&buffer, graph->alloc);
    return MMSB_OK;
}

/* Among the parents of a node the one with the largest sum, then the smallest page id; MMSB_NO_NODE without parents. */
static uint32_t heaviest_parent(const mmsb_graph *graph, const mmsb_graph_node *node, uint32_t kinds,
                                const double *sums) {
    const mmsb_graph_in *parents = mmsb_graph_in_of(graph, node);
    uint32_t best = MMSB_NO_NODE;
    for (uint32_t k = 0; k < node->in.count; k++) {
        uint32_t number = parents[k].end.node;
        if (!is_of(parents[k].end, kinds)) continue;
        if (best != MMSB_NO_NODE) {
            bool first = mmsb_graph_node_at(graph, number)->page_id < mmsb_graph_node_at(graph, best)->page_id;
            if (sums[number] < sums[best] || (sums[number] == sums[best] && !first)) continue;
        }
        best = number;
    }
    return best;
}

int mmsb_graph_critical_path(mmsb_graph *graph, uint32_t kinds, const double *weights, mmsb_buffer *out,
                             double *weight) {
    mmsb_buffer order = {0}, summed = {0};
    int status = mmsb_graph_order(graph, &order);
    if (!mmsb_buffer_reserve(&summed, graph->alloc, graph->node_count * sizeof(double)) ||
        !reserve_nodes(graph, out, graph->page_count))
        status = MMSB_NO_MEMORY;
    *weight = 0;
    if (status == MMSB_OK && graph->page_count != 0) {
        const uint32_t *nodes = (const uint32_t *)order.data;
        double *sums = (double *)summed.data;
        uint32_t end = nodes[0], length = 0;
        for (uint32_t i = 0; i < graph->page_count; i++) {
            const mmsb_graph_node *node = mmsb_graph_node_at(graph, nodes[i]);
            uint32_t parent = heaviest_parent(graph, node, kinds, sums);
            double own = weights != NULL ? weights[nodes[i]] : 1;
            sums[nodes[i]] = parent != MMSB_NO_NODE ? sums[parent] + own : own;
            bool first = node->page_id < mmsb_graph_node_at(graph, end)->page_id;
            if (sums[nodes[i]] > sums[end] || (sums[nodes[i]] == sums[end] && first)) end = nodes[i];
        }
        *weight = sums[end];
        for (uint32_t at = end; at != MMSB_NO_NODE; length++) {
            append(out, at);
            at = heaviest_parent(graph, mmsb_graph_node_at(graph, at), kinds, sums);
        }
        uint32_t *path = (uint32_t *)(out->data + out->size) - length;
        for (uint32_t i = 0; i < length / 2; i++) {
            uint32_t other = path[i];
            path[i] = path[length - 1 - i];
            path[length - 1 - i] = other;
        }
    }
    mmsb_buffer_release(&order, graph->alloc);
    mmsb_buffer_release(&summed, graph->alloc);
    return status;
}

/* Marks what can be reached from the children of a node, in the order of their levels, looking no further than the
 * level of the highest child: a child that is marked when its turn comes is one that a longer path leads to. */
static void reach_children(mmsb_graph *graph, uint32_t parent, uint32_t kinds, const mmsb_graph_key *children,
                           uint32_t count, mmsb_buffer *out) {
    uint32_t *found = (uint32_t *)graph->first.data, total = 0;
    uint64_t highest = children[count - 1].key;
    for (uint32_t c = 0; c < count; c++) {
        mmsb_graph_node *child = mmsb_graph_node_at(graph, children[c].node);
        bool again = c != 0 && children[c].node == children[c - 1].node; /* an edge of another kind */
        if (child->mark != 0) {
            if (!again) {
                append(out, parent);
                append(out, children[c].node);
            }
            continue;
        }
        uint32_t done = total;
        child->mark = 1;
        for (found[total++] = children[c].node; done < total; done++) {
            const mmsb_graph_node *node = mmsb_graph_node_at(graph, found[done]);
            const mmsb_graph_end *ends = mmsb_graph_out_of(graph, node);
            for (uint32_t k = 0; k < node->out.count; k++) {
                mmsb_graph_node *next = mmsb_graph_node_at(graph, ends[k].node);
                if (next->mark != 0 || next->level > highest || !is_of(ends[k], kinds)) continue;
                next->mark = 1;
                found[total++] = ends[k].node;
            }
        }
    }
    for (uint32_t i = 0; i < total; i++) mmsb_graph_node_at(graph, found[i])->mark = 0;
}

int mmsb_graph_redundant(mmsb_graph *graph, uint32_t kinds, mmsb_buffer *out) {
    mmsb_buffer buffer = {0};
    size_t size = out->size;
    int status = MMSB_OK;
    mmsb_graph_settle(graph);
    for (uint32_t parent = 0; parent < graph->node_count && status == MMSB_OK; parent++) {
        const mmsb_graph_node *node = mmsb_graph_node_at(graph, parent);
        if (node->page_id == 0 || node->out.count < 2) continue;
        if (!mmsb_buffer_reserve(&buffer, graph->alloc, (size_t)node->out.count * 2 * sizeof(mmsb_graph_key)) ||
            !reserve_nodes(graph, out, (uint64_t)node->out.count * 2)) {
            status = MMSB_NO_MEMORY;
            break;
        }
        mmsb_graph_key *children = (mmsb_graph_key *)buffer.data;
        const mmsb_graph_end *ends = mmsb_graph_out_of(graph, node);
        uint32_t count = 0;
        for (uint32_t k = 0; k < node->out.count; k++)
            if (is_of(ends[k], kinds)) children[count++] = (mmsb_graph_key){ends[k].node, ends[k].node};
        mmsb_graph_sort(children, children + count, count);
        for (uint32_t k = 0; k < count; k++) children[k].key = mmsb_graph_node_at(graph, children[k].node)->level;
        mmsb_graph_sort(children, children + count, count);
        if (count != 0) reach_children(graph, parent, kinds, children, count, out);
    }
    mmsb_buffer_release(&buffer, graph->alloc);
    if (status != MMSB_OK) out->size = size;
    return status;
}
