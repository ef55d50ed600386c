/* Edges come and go as the script says; a table of edges says what is there and what would be a cycle. */
#include "../../csrc/graph.h"
#include "fuzz.h"

enum { PAGES = 8 };

static uint8_t edges[PAGES][PAGES]; /* by parent and child: a bit per kind */
static bool pages[PAGES];

/* What can be reached from a page, itself included. */
static bool reaches(int from, int to) {
    bool seen[PAGES] = {0};
    int stack[PAGES], depth = 0;
    seen[from] = true;
    for (stack[depth++] = from; depth > 0;) {
        int at = stack[--depth];
        for (int next = 0; next < PAGES; next++)
            if (edges[at][next] != 0 && !seen[next]) seen[stack[depth++] = next] = true;
    }
    return seen[to];
}

/* The longest path that ends at each page. Every round of relaxing makes one more level right. */
static void find_levels(int *levels) {
    memset(levels, 0, PAGES * sizeof *levels);
    for (bool changed = true; changed;) {
        changed = false;
        for (int parent = 0; parent < PAGES; parent++)
            for (int child = 0; child < PAGES; child++) {
                if (edges[parent][child] == 0 || levels[child] > levels[parent]) continue;
                levels[child] = levels[parent] + 1;
                changed = true;
            }
    }
}

static bool has_edges(int page) {
    for (int other = 0; other < PAGES; other++)
        if (edges[page][other] != 0 || edges[other][page] != 0) return true;
    return false;
}

static uint32_t node_of(const mmsb_graph *graph, int page) { return mmsb_graph_find(graph, (uint64_t)page + 1); }

static int expected_of_add(int parent, int child, unsigned kind) {
    if (edges[parent][child] >> kind & 1) return MMSB_EDGE_EXISTS;
    return reaches(child, parent) ? MMSB_CYCLE : MMSB_OK;
}

/* The cycle refused last leads from the parent over the child back to itself, along edges that there are. */
static void check_cycle(const mmsb_graph *graph, int parent, int child) {
    const uint32_t *nodes = (const uint32_t *)(const void *)graph->cycle.data;
    uint64_t count = graph->cycle.size / sizeof *nodes;
    CHECK(count >= 1 && nodes[0] == node_of(graph, parent), "the cycle begins elsewhere");
    for (uint64_t i = 0; i < count; i++) {
        int from = (int)mmsb_graph_node_at(graph, nodes[i])->page_id - 1;
        int to = (int)mmsb_graph_node_at(graph, nodes[(i + 1) % count])->page_id - 1;
        CHECK(edges[from][to] != 0 || (from == parent && to == child), "the cycle has an edge that is not there");
    }
}

static void add_many(mmsb_graph *graph, script *s) {
    uint64_t parents[8], children[8], failed = 0, count = next_byte(s) & 7;
    uint8_t kinds[8], before[PAGES][PAGES];
    memcpy(before, edges, sizeof edges);
    int expected = MMSB_OK;
    uint64_t expected_failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t ends = next_byte(s);
        int parent = (ends & 15) % PAGES, child = (ends >> 4) % PAGES;
        kinds[i] = next_byte(s) % MMSB_EDGE_KINDS;
        parents[i] = (uint64_t)parent + 1;
        children[i] = (uint64_t)child + 1;
        if (expected != MMSB_OK) continue;
        expected = pages[parent] && pages[child] ? expected_of_add(parent, child, kinds[i]) : MMSB_PAGE_NOT_FOUND;
        expected_failed = i;
        if (expected == MMSB_OK) edges[parent][child] |= (uint8_t)(1 << kinds[i]);
    }
    mmsb_graph_edges many = {parents, children, kinds, NULL, count};
    int status = mmsb_graph_add_edges(graph, &many, &failed);
    CHECK(status == expected && (status == MMSB_OK || failed == expected_failed), "many: %d at %lu, not %d at %lu",
          status, (unsigned long)failed, expected, (unsigned long)expected_failed);
    if (status != MMSB_OK) memcpy(edges, before, sizeof edges);
}

static void step(mmsb_graph *graph, script *s) {
    uint8_t what = next_byte(s), ends = next_byte(s);
    int parent = (ends & 15) % PAGES, child = (ends >> 4) % PAGES;
    unsigned kind = what >> 6;
    uint32_t from = node_of(graph, parent), to = node_of(graph, child);
    CHECK((from != MMSB_NO_NODE) == pages[parent] && (to != MMSB_NO_NODE) == pages[child], "a page is lost");
    switch (what % 6) {
        case 0:
            CHECK(mmsb_graph_add_page(graph, (uint64_t)parent + 1, &from) == MMSB_OK, "a page");
            pages[parent] = true;
            break;
        case 1:
            if (!pages[parent]) break;
            CHECK(mmsb_graph_remove_page(graph, from, kind & 1) ==
                      (has_edges(parent) && !(kind & 1) ? MMSB_PAGE_HAS_EDGES : MMSB_OK),
                  "removing a page");
            if (has_edges(parent) && !(kind & 1)) break;
            pages[parent] = false;
            for (int other = 0; other < PAGES; other++) edges[parent][other] = edges[other][parent] = 0;
            break;
        case 2:
            if (!pages[parent] || !pages[child]) break;
            CHECK(mmsb_graph_remove_edge(graph, from, to, kind) ==
                      (edges[parent][child] >> kind & 1 ? MMSB_OK : MMSB_EDGE_NOT_FOUND),
                  "removing an edge");
            edges[parent][child] &= (uint8_t)~(1u << kind);
            break;
        case 3:
            add_many(graph, s);
            break;
        default: {
            if (!pages[parent] || !pages[child]) break;
            int expected = expected_of_add(parent, child, kind);
            int status = mmsb_graph_add_edge(graph, from, to, kind, what);
            CHECK(status == expected, "an edge: %d, not %d", status, expected);
            if (status == MMSB_CYCLE) check_cycle(graph, parent, child);
            if (status == MMSB_OK) edges[parent][child] |= (uint8_t)(1 << kind);
        }
    }
}

/* Every page once, by level and then by id. */
static void check_order(mmsb_graph *graph) {
    mmsb_buffer order = {0};
    CHECK(mmsb_graph_order(graph, &order) == MMSB_OK, "no order");
    const uint32_t *nodes = (const uint32_t *)(const void *)order.data;
    uint64_t at = 0;
    int levels[PAGES];
    find_levels(levels);
    for (int level = 0; level < PAGES; level++)
        for (int page = 0; page < PAGES; page++) {
            if (!pages[page] || levels[page] != level) continue;
            CHECK(at * 4 < order.size && nodes[at] == node_of(graph, page), "page %d is not at place %lu", page,
                  (unsigned long)at);
            at++;
        }
    CHECK(at * 4 == order.size, "more than there is");
    mmsb_buffer_release(&order, &mmsb_alloc_libc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    mmsb_graph graph;
    const char *why;
    memset(edges, 0, sizeof edges);
    mmsb_graph_init(&graph, &mmsb_alloc_libc);
    for (int page = 0; page < PAGES; page++) {
        uint32_t node;
        pages[page] = page % 4 != 3;
        if (pages[page]) CHECK(mmsb_graph_add_page(&graph, (uint64_t)page + 1, &node) == MMSB_OK, "a page");
    }
    while (left_of(&s) != 0) step(&graph, &s);
    CHECK(mmsb_graph_check(&graph, &why) == MMSB_OK, "%s", why);
    check_order(&graph);
    CHECK(mmsb_graph_check(&graph, &why) == MMSB_OK, "settled: %s", why);
    mmsb_graph_release(&graph);
    return 0;
}
