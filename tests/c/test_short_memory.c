/* Out of memory at every allocation of the graph: whatever fails leaves it as it was, and succeeds when asked again. */
#define _GNU_SOURCE
#include "../../csrc/graph.h"
#include "check.h"
#include "failing_alloc.h"
#include "harness.h"

#define PAGES 300

static failing_alloc failing;
static mmsb_graph graph;
static mmsb_buffer out;

/* Repeats `call` with one more allocation each time, until it does not fail. It fails with `failure`. */
#define UNTIL(call, failure)                                                                 \
    do {                                                                                     \
        int64_t result_;                                                                     \
        for (uint64_t n_ = 0;; n_++) {                                                       \
            const char *why_;                                                                \
            uint64_t pages_ = graph.page_count, edges_ = graph.edge_count, size_ = out.size; \
            failing.left = n_;                                                               \
            result_ = (int64_t)(call);                                                       \
            failing.left = UINT64_MAX;                                                       \
            if (result_ != (failure)) break;                                                 \
            CHECK(graph.page_count == pages_ && graph.edge_count == edges_, "it grew");      \
            CHECK(out.size == size_, "something was appended");                              \
            CHECK(mmsb_graph_check(&graph, &why_) == MMSB_OK, "%s", why_);                   \
        }                                                                                    \
        CHECK(result_ >= 0, "%ld", (long)result_);                                           \
    } while (0)

/* Edges from lower to higher numbers, so that there is no cycle; more and more of them, so that every table grows. */
static void test_growing(void) {
    uint32_t node;
    for (uint64_t id = 1; id <= PAGES; id++) UNTIL(mmsb_graph_add_page(&graph, id * 7, &node), MMSB_NO_MEMORY);
    for (unsigned i = 0; i < 3 * PAGES; i++) {
        uint32_t parent = (uint32_t)(random_u64() % (PAGES - 1)), steps = (uint32_t)(PAGES - 1 - parent);
        uint32_t child = parent + 1 + (uint32_t)(random_u64() % steps), kind = (uint32_t)(random_u64() % 4);
        if (mmsb_graph_link(&graph, parent, child, kind) != NULL) continue;
        UNTIL(mmsb_graph_add_edge(&graph, parent, child, kind, i), MMSB_NO_MEMORY);
    }
    mmsb_graph_settle(&graph);
}

static void test_cycle(void) {
    /* From the last page back to one that leads to it: the cycle is named, when there is memory to name it. */
    uint32_t last = PAGES - 1, parent = mmsb_graph_in_of(&graph, mmsb_graph_node_at(&graph, last))->end.node;
    for (uint64_t n = 0;; n++) {
        failing.left = n;
        int status = mmsb_graph_add_edge(&graph, last, parent, 0, 0);
        failing.left = UINT64_MAX;
        CHECK(status == MMSB_CYCLE || status == MMSB_NO_MEMORY, "%d", status);
        if (status == MMSB_CYCLE) break;
    }
    CHECK(graph.cycle.size == 2 * sizeof(uint32_t), "two nodes");
    CHECK(mmsb_graph_add_edge(&graph, 3, 3, 0, 0) == MMSB_CYCLE && graph.cycle.size == sizeof(uint32_t), "to itself");
}

static void test_questions(void) {
    double weight, weights[PAGES];
    for (unsigned i = 0; i < PAGES; i++) weights[i] = i % 5;
    uint32_t from[] = {0, 1};
#define ASK(call)                      \
    UNTIL(call, MMSB_NO_MEMORY);       \
    CHECK(out.size != 0, "no answer"); \
    mmsb_buffer_release(&out, graph.alloc)
    ASK(mmsb_graph_reach(&graph, from, 2, MMSB_EDGE_ALL, false, &out));
    ASK(mmsb_graph_path(&graph, mmsb_graph_in_of(&graph, mmsb_graph_node_at(&graph, PAGES - 1))->end.node, PAGES - 1,
                        MMSB_EDGE_ALL, &out));
    ASK(mmsb_graph_order(&graph, &out));
    ASK(mmsb_graph_critical_path(&graph, MMSB_EDGE_ALL, weights, &out, &weight));
    ASK(mmsb_graph_critical_path(&graph, MMSB_EDGE_ALL, NULL, &out, &weight));
    ASK(mmsb_graph_redundant(&graph, MMSB_EDGE_ALL, &out));
#undef ASK
}

/* Many at once, into a graph of their own: all or none. */
static void test_many_edges(void) {
    mmsb_graph_release(&graph);
    mmsb_graph_init(&graph, &failing.alloc);
    uint32_t node;
    uint64_t parents[PAGES], children[PAGES], links[PAGES], failed;
    uint8_t kinds[PAGES];
    for (uint64_t id = 1; id <= PAGES; id++) CHECK(mmsb_graph_add_page(&graph, id, &node) == MMSB_OK, "page");
    for (unsigned i = 0; i < PAGES - 1; i++)
        parents[i] = i + 1, children[i] = i + 2, links[i] = i, kinds[i] = (uint8_t)(i % 4);
    mmsb_graph_edges edges = {parents, children, kinds, links, PAGES - 1};
    UNTIL(mmsb_graph_add_edges(&graph, &edges, &failed), MMSB_NO_MEMORY);
    CHECK(graph.edge_count == PAGES - 1 && *mmsb_graph_link(&graph, 4, 5, 0) == 4, "all of them");
    CHECK(mmsb_graph_add_edges(&graph, &edges, &failed) == MMSB_EDGE_EXISTS && failed == 0, "again");
    parents[7] = PAGES + 1;
    edges = (mmsb_graph_edges){parents + 7, children + 7, NULL, NULL, 1};
    CHECK(mmsb_graph_add_edges(&graph, &edges, &failed) == MMSB_PAGE_NOT_FOUND && failed == 0, "no such page");
    CHECK(mmsb_graph_add_page(&graph, 0, &node) == MMSB_PAGE_NOT_FOUND, "no page has id 0");
    CHECK(mmsb_graph_remove_page(&graph, 5, false) == MMSB_PAGE_HAS_EDGES, "it has edges");
    for (uint32_t number = 0; number < PAGES; number++)
        CHECK(mmsb_graph_remove_page(&graph, number, true) == MMSB_OK, "remove");
    CHECK(graph.page_count == 0 && graph.edge_count == 0, "all gone");
}

int main(void) {
    failing_init(&failing);
    mmsb_graph_init(&graph, &failing.alloc);
    test_growing();
    test_cycle();
    test_questions();
    test_many_edges();
    mmsb_graph_release(&graph);
    mmsb_buffer_release(&out, &failing.alloc);
    CHECK(failing.blocks == 0, "%lu blocks are left", (unsigned long)failing.blocks);
    return 0;
}
