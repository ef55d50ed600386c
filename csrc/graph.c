/* Pages, edges, and the pool that their arrays lie in. */
#include "graph.h"

#define UNIT_BYTES sizeof(mmsb_graph_end)
#define OUT_UNITS 1
#define IN_UNITS (sizeof(mmsb_graph_in) / UNIT_BYTES)

/* An array starts with 2 edges out or in: most pages have few. */
#define CLASS_MIN 1

_Static_assert(sizeof(mmsb_graph_end) == 8 && sizeof(mmsb_graph_in) == 16, "a walk reads 8 or 16 bytes per edge");

void mmsb_graph_init(mmsb_graph *graph, const mmsb_alloc *alloc) {
    memset(graph, 0, sizeof *graph);
    graph->alloc = alloc;
    graph->free_node = MMSB_NO_NODE;
}

void mmsb_graph_release(mmsb_graph *graph) {
    mmsb_buffer *buffers[] = {&graph->nodes,  &graph->pool,  &graph->places,    &graph->first,
                              &graph->second, &graph->stack, &graph->unsettled, &graph->cycle};
    for (unsigned i = 0; i < sizeof buffers / sizeof *buffers; i++) mmsb_buffer_release(buffers[i], graph->alloc);
    mmsb_graph_init(graph, graph->alloc);
}

uint64_t mmsb_graph_bytes(const mmsb_graph *graph) {
    return graph->nodes.capacity + graph->pool.capacity + graph->places.capacity + graph->first.capacity +
           graph->second.capacity + graph->stack.capacity + graph->unsettled.capacity + graph->cycle.capacity;
}

/* ---- from page id to node: open addressing, at most half full */

/* Where a page id is looked for first. Fibonacci hashing spreads ids that rise by one. */
static uint64_t home_of(const mmsb_graph *graph, uint64_t page_id) {
    uint64_t hash = page_id * 0x9e3779b97f4a7c15u;
    return (hash ^ hash >> 32) & (graph->places.size / sizeof(uint32_t) - 1);
}

/* The place that holds the page, or the free one where it would be put. */
static uint64_t place_of(const mmsb_graph *graph, uint64_t page_id) {
    const uint32_t *places = (const uint32_t *)graph->places.data;
    uint64_t last = graph->places.size / sizeof *places - 1, at = home_of(graph, page_id);
    while (places[at] != 0 && mmsb_graph_node_at(graph, places[at] - 1)->page_id != page_id) at = (at + 1) & last;
    return at;
}

static bool grow_places(mmsb_graph *graph) {
    size_t bytes = graph->places.size != 0 ? graph->places.size * 2 : 64 * sizeof(uint32_t);
    if (!mmsb_buffer_reserve(&graph->places, graph->alloc, bytes)) return false;
    memset(graph->places.data, 0, bytes);
    graph->places.size = bytes;
    for (uint32_t node = 0; node < graph->node_count; node++) {
        uint64_t page_id = mmsb_graph_node_at(graph, node)->page_id;
        if (page_id != 0) ((uint32_t *)graph->places.data)[place_of(graph, page_id)] = node + 1;
    }
    return true;
}

/* Takes a page out and moves those after it that are then no longer found where they are looked for. */
static void forget_place(mmsb_graph *graph, uint64_t page_id) {
    uint32_t *places = (uint32_t *)graph->places.data;
    uint64_t last = graph->places.size / sizeof *places - 1, hole = place_of(graph, page_id);
    for (uint64_t at = (hole + 1) & last; places[at] != 0; at = (at + 1) & last) {
        uint64_t home = home_of(graph, mmsb_graph_node_at(graph, places[at] - 1)->page_id);
        if (((at - home) & last) < ((at - hole) & last)) continue;
        places[hole] = places[at];
        hole = at;
    }
    places[hole] = 0;
}

uint32_t mmsb_graph_find(const mmsb_graph *graph, uint64_t page_id) {
    if (graph->places.size == 0 || page_id == 0) return MMSB_NO_NODE;
    uint32_t number = ((const uint32_t *)graph->places.data)[place_of(graph, page_id)];
    return number != 0 ? number - 1 : MMSB_NO_NODE;
}

/* ---- pages */

/* Room for one node more, in the scratch too: what walks never fails for want of memory. */
static bool reserve_node(mmsb_graph *graph) {
    const mmsb_alloc *alloc = graph->alloc;
    size_t count = (size_t)graph->node_count + 1;
    return mmsb_buffer_reserve(&graph->nodes, alloc, count * sizeof(mmsb_graph_node)) &&
           mmsb_buffer_reserve(&graph->first, alloc, count * sizeof(uint32_t)) &&
           mmsb_buffer_reserve(&graph->second, alloc, count * sizeof(uint32_t)) &&
           mmsb_buffer_reserve(&graph->unsettled, alloc, count * sizeof(uint32_t)) &&
           mmsb_buffer_reserve(&graph->stack, alloc, count * sizeof(uint64_t));
}

int mmsb_graph_add_page(mmsb_graph *graph, uint64_t page_id, uint32_t *node) {
    if (page_id == 0) return MMSB_PAGE_NOT_FOUND;
    *node = mmsb_graph_find(graph, page_id);
    if (*node != MMSB_NO_NODE) return MMSB_OK;
    if (((uint64_t)graph->page_count + 1) * 2 * sizeof(uint32_t) > graph->places.size && !grow_places(graph))
        return MMSB_NO_MEMORY;
    uint32_t number = graph->free_node;
    if (number != MMSB_NO_NODE) {
        graph->free_node = mmsb_graph_node_at(graph, number)->out.at;
    } else {
        if (graph->node_count == MMSB_GRAPH_NODES_MAX || !reserve_node(graph)) return MMSB_NO_MEMORY;
        number = graph->node_count++;
    }
    ((uint32_t *)graph->places.data)[place_of(graph, page_id)] = number + 1;
    *mmsb_graph_node_at(graph, number) = (mmsb_graph_node){.page_id = page_id, .place = graph->place_end++};
    graph->page_count++;
    *node = number;
    return MMSB_OK;
}

/* ---- arrays */

static mmsb_graph_end *end_at(const mmsb_graph *graph, const mmsb_graph_list *list, uint64_t units, uint64_t index) {
    return (mmsb_graph_end *)graph->pool.data + list->at + index * units;
}

/* A block of 1 << size_class units, 0 without memory. */
static uint32_t take_block(mmsb_graph *graph, uint32_t size_class) {
    uint32_t at = graph->free_blocks[size_class];
    if (at != 0) {
        graph->free_blocks[size_class] = mmsb_load_u32(graph->pool.data + at * UNIT_BYTES);
        return at;
    }
    uint64_t size = mmsb_max_u64(graph->pool.size, UNIT_BYTES), end = size + (UNIT_BYTES << size_class);
    if (end / UNIT_BYTES > UINT32_MAX || !mmsb_buffer_reserve(&graph->pool, graph->alloc, end)) return 0;
    graph->pool.size = end;
    return (uint32_t)(size / UNIT_BYTES);
}

static void give_block(mmsb_graph *graph, mmsb_graph_list *list) {
    if (list->size_class == 0) return;
    mmsb_store_u32(graph->pool.data + list->at * UNIT_BYTES, graph->free_blocks[list->size_class]);
    graph->free_blocks[list->size_class] = list->at;
    list->size_class = 0;
}

static bool move_list(mmsb_graph *graph, mmsb_graph_list *list, uint64_t units, uint32_t size_class) {
    uint32_t at = take_block(graph, size_class);
    if (at == 0) return false;
    if (list->count != 0)
        memcpy(graph->pool.data + at * UNIT_BYTES, end_at(graph, list, units, 0), list->count * units * UNIT_BYTES);
    give_block(graph, list);
    list->at = at;
    list->size_class = size_class;
    return true;
}

static bool reserve_end(mmsb_graph *graph, mmsb_graph_list *list, uint64_t units) {
    if (list->size_class != 0 && (list->count + (uint64_t)1) * units <= (uint64_t)1 << list->size_class) return true;
    uint32_t size_class = list->size_class != 0 ? list->size_class + 1 : CLASS_MIN + (units == IN_UNITS);
    return size_class < MMSB_GRAPH_CLASSES - 1 && move_list(graph, list, units, size_class);
}

/* Takes an entry out: the last one takes its position, and the twin of that one learns it. */
static void drop_end(mmsb_graph *graph, mmsb_graph_list *list, uint64_t units, uint32_t index) {
    mmsb_graph_end *hole = end_at(graph, list, units, index), *last = end_at(graph, list, units, --list->count);
    if (hole != last) {
        memcpy(hole, last, units * UNIT_BYTES);
        mmsb_graph_node *other = mmsb_graph_node_at(graph, hole->node);
        bool out = units == OUT_UNITS;
        end_at(graph, out ? &other->in : &other->out, out ? IN_UNITS : OUT_UNITS, hole->twin)->twin = index;
    }
    if (list->count == 0) {
        give_block(graph, list);
    } else if (list->count * units * 4 <= (uint64_t)1 << list->size_class) {
        move_list(graph, list, units, list->size_class - 1); /* without memory it stays where it is */
    }
}

/* ---- edges */

/* Position of an edge in its parent's array, -1 when there is none. Looks through the shorter of the two arrays: over m
 * edges that costs O(m^1.5) in the worst case, of hubs joined with hubs. */
static int64_t find_edge(const mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind) {
    const mmsb_graph_node *from = mmsb_graph_node_at(graph, parent), *to = mmsb_graph_node_at(graph, child);
    if (from->out.count <= to->in.count) {
        const mmsb_graph_end *ends = mmsb_graph_out_of(graph, from);
        for (uint32_t i = 0; i < from->out.count; i++)
            if (ends[i].node == child && ends[i].kind == kind) return i;
    } else {
        const mmsb_graph_in *ends = mmsb_graph_in_of(graph, to);
        for (uint32_t i = 0; i < to->in.count; i++)
            if (ends[i].end.node == parent && ends[i].end.kind == kind) return ends[i].end.twin;
    }
    return -1;
}

/* Puts an edge into both arrays, whatever the order says. MMSB_OK, EDGE_EXISTS or NO_MEMORY. */
static int join(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind, uint64_t link) {
    if (find_edge(graph, parent, child, kind) >= 0) return MMSB_EDGE_EXISTS;
    mmsb_graph_node *from = mmsb_graph_node_at(graph, parent), *to = mmsb_graph_node_at(graph, child);
    if (!reserve_end(graph, &from->out, OUT_UNITS)) return MMSB_NO_MEMORY;
    if (!reserve_end(graph, &to->in, IN_UNITS)) {
        if (from->out.count == 0) give_block(graph, &from->out);
        return MMSB_NO_MEMORY;
    }
    *end_at(graph, &from->out, OUT_UNITS, from->out.count) = (mmsb_graph_end){child, kind, to->in.count};
    mmsb_graph_in_of(graph, to)[to->in.count] = (mmsb_graph_in){{parent, kind, from->out.count}, link};
    from->out.count++;
    to->in.count++;
    graph->edge_count++;
    return MMSB_OK;
}

/* Takes the edge at a position of its parent's array out of both arrays. */
static void part(mmsb_graph *graph, uint32_t parent, uint32_t index) {
    mmsb_graph_node *from = mmsb_graph_node_at(graph, parent);
    mmsb_graph_end end = mmsb_graph_out_of(graph, from)[index];
    mmsb_graph_node *to = mmsb_graph_node_at(graph, end.node);
    if (to->level == from->level + 1) mmsb_graph_unsettle(graph, end.node);
    drop_end(graph, &from->out, OUT_UNITS, index);
    drop_end(graph, &to->in, IN_UNITS, end.twin);
    graph->edge_count--;
}

/* Keeps the cycle that an edge would close. Returns CYCLE, or NO_MEMORY. */
static int refuse_cycle(mmsb_graph *graph, uint32_t parent, uint32_t child) {
    graph->cycle.size = 0;
    if (!mmsb_buffer_reserve(&graph->cycle, graph->alloc, sizeof parent)) return MMSB_NO_MEMORY;
    mmsb_store_u32(graph->cycle.data, parent);
    graph->cycle.size = sizeof parent;
    int status = parent != child ? mmsb_graph_path(graph, child, parent, MMSB_EDGE_ALL, &graph->cycle) : MMSB_OK;
    if (status != MMSB_OK) return status;
    if (parent != child) graph->cycle.size -= sizeof parent; /* the path ends where the cycle began */
    return MMSB_CYCLE;
}

int mmsb_graph_add_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind, uint64_t link) {
    if (parent == child) return refuse_cycle(graph, parent, child);
    int status = join(graph, parent, child, kind, link);
    if (status != MMSB_OK) return status;
    if (mmsb_graph_order_edge(graph, parent, child) != MMSB_OK) {
        part(graph, parent, mmsb_graph_node_at(graph, parent)->out.count - 1);
        return refuse_cycle(graph, parent, child);
    }
    if (mmsb_graph_node_at(graph, child)->level <= mmsb_graph_node_at(graph, parent)->level)
        mmsb_graph_unsettle(graph, child);
    return MMSB_OK;
}

int mmsb_graph_remove_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind) {
    int64_t index = find_edge(graph, parent, child, kind);
    if (index < 0) return MMSB_EDGE_NOT_FOUND;
    part(graph, parent, (uint32_t)index);
    return MMSB_OK;
}

uint64_t *mmsb_graph_link(const mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind) {
    int64_t index = find_edge(graph, parent, child, kind);
    if (index < 0) return NULL;
    uint32_t twin = mmsb_graph_out_of(graph, mmsb_graph_node_at(graph, parent))[index].twin;
    return &mmsb_graph_in_of(graph, mmsb_graph_node_at(graph, child))[twin].link;
}

int mmsb_graph_remove_page(mmsb_graph *graph, uint32_t node, bool detach) {
    mmsb_graph_node *page = mmsb_graph_node_at(graph, node);
    if (!detach && (page->out.count != 0 || page->in.count != 0)) return MMSB_PAGE_HAS_EDGES;
    while (page->out.count != 0) part(graph, node, page->out.count - 1);
    while (page->in.count != 0) {
        mmsb_graph_end last = mmsb_graph_in_of(graph, page)[page->in.count - 1].end;
        part(graph, last.node, last.twin);
    }
    if (page->unsettled != 0) {
        uint32_t *unsettled = (uint32_t *)graph->unsettled.data;
        uint32_t last = unsettled[(graph->unsettled.size -= sizeof last) / sizeof last];
        mmsb_graph_node_at(graph, last)->unsettled = page->unsettled;
        unsettled[page->unsettled - 1] = last;
        page->unsettled = 0;
    }
    forget_place(graph, page->page_id);
    page->page_id = 0;
    page->out.at = graph->free_node;
    graph->free_node = node;
    graph->page_count--;
    return MMSB_OK;
}

/* ---- many edges */

static uint32_t kind_of(const mmsb_graph_edges *edges, uint64_t i) {
    return edges->kinds != NULL ? edges->kinds[i] : MMSB_EDGE_DATA;
}
static uint64_t link_of(const mmsb_graph_edges *edges, uint64_t i) {
    return edges->links != NULL ? edges->links[i] : 0;
}

/* Takes the first `count` edges out again, newest first: each is the last in both of its arrays. */
static void take_back(mmsb_graph *graph, const mmsb_graph_edges *edges, uint64_t count) {
    while (count-- != 0) {
        uint32_t parent = mmsb_graph_find(graph, edges->parents[count]);
        part(graph, parent, mmsb_graph_node_at(graph, parent)->out.count - 1);
    }
}

static int add_one(mmsb_graph *graph, const mmsb_graph_edges *edges, uint64_t i, bool ordered) {
    uint32_t parent = mmsb_graph_find(graph, edges->parents[i]), child = mmsb_graph_find(graph, edges->children[i]);
    if (parent == MMSB_NO_NODE || child == MMSB_NO_NODE) return MMSB_PAGE_NOT_FOUND;
    if (ordered) return mmsb_graph_add_edge(graph, parent, child, kind_of(edges, i), link_of(edges, i));
    if (parent == child) return MMSB_CYCLE;
    return join(graph, parent, child, kind_of(edges, i), link_of(edges, i));
}

/* Edges from 0 on, until one fails. Returns how many were added. */
static uint64_t add_until(mmsb_graph *graph, const mmsb_graph_edges *edges, bool ordered, int *status) {
    uint64_t added = 0;
    while (added < edges->count && (*status = add_one(graph, edges, added, ordered)) == MMSB_OK) added++;
    return added;
}

int mmsb_graph_add_edges(mmsb_graph *graph, const mmsb_graph_edges *edges, uint64_t *failed) {
    int status = MMSB_OK;
    /* One pass over all nodes and edges costs what some one in sixteen of them cost when added in order. */
    if (edges->count >= 16 && edges->count >= (graph->page_count + graph->edge_count) / 16) {
        uint64_t added = add_until(graph, edges, false, &status);
        if (status == MMSB_OK) status = mmsb_graph_order_all(graph);
        if (status == MMSB_OK) return MMSB_OK;
        /* One after the other finds the first edge that is wrong, and why: a cycle may close before the one seen. */
        take_back(graph, edges, added);
    }
    status = MMSB_OK;
    *failed = add_until(graph, edges, true, &status);
    if (status != MMSB_OK) take_back(graph, edges, *failed);
    return status;
}
