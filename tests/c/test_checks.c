/* The checks of invariants find what they are for: one field at a time is spoiled, and the check names it. Also every
 * status has its words. */
#include "../../csrc/arena.h"
#include "../../csrc/graph.h"
#include "../../csrc/status.h"
#include "check.h"
#include "failing_alloc.h"

/* ---- the graph */

static mmsb_graph graph;

/* Pages 1 to 5: 1 -> 2 (twice, of two kinds), 1 -> 3, 2 -> 4, 5 -> 3. Pages 6 and 7 are gone again. */
static void open_graph(void) {
    static const uint32_t edges[][3] = {{0, 1, 0}, {0, 1, 1}, {0, 2, 0}, {1, 3, 0}, {4, 2, 0}, {4, 5, 0}, {5, 6, 0}};
    uint32_t node;
    mmsb_graph_init(&graph, &mmsb_alloc_libc);
    for (uint64_t id = 1; id <= 7; id++)
        CHECK(mmsb_graph_add_page(&graph, id, &node) == MMSB_OK && node == id - 1, "page");
    for (unsigned i = 0; i < sizeof edges / sizeof *edges; i++)
        CHECK(mmsb_graph_add_edge(&graph, edges[i][0], edges[i][1], edges[i][2], 0) == MMSB_OK, "edge");
    mmsb_graph_settle(&graph);
    for (uint32_t gone = 5; gone < 7; gone++) CHECK(mmsb_graph_remove_page(&graph, gone, true) == MMSB_OK, "remove");
    mmsb_graph_settle(&graph);
}

static mmsb_graph_node *node_at(uint32_t node) { return mmsb_graph_node_at(&graph, node); }
static mmsb_graph_end *out_of(uint32_t node) { return (mmsb_graph_end *)graph.pool.data + node_at(node)->out.at; }
static mmsb_graph_end *in_of(uint32_t node, uint32_t i) { return &mmsb_graph_in_of(&graph, node_at(node))[i].end; }

static void expect_graph(const char *words) {
    const char *why = NULL;
    int status = mmsb_graph_check(&graph, &why);
    CHECK(status == (words == NULL ? MMSB_OK : 1), "%s: %s", words, why);
    CHECK(words == NULL ? why == NULL : strstr(why, words) != NULL, "%s: %s", words, why);
    mmsb_graph_release(&graph);
}
#define SPOILED_GRAPH(words, spoil) \
    open_graph();                   \
    spoil;                          \
    expect_graph(words)

static void test_graph(void) {
    SPOILED_GRAPH(NULL, );
    SPOILED_GRAPH("not found, or has two nodes", node_at(3)->page_id = 3);
    SPOILED_GRAPH("not found, or has two nodes", node_at(3)->page_id = 90);
    SPOILED_GRAPH("left a mark", node_at(3)->mark = 1);
    SPOILED_GRAPH("place lies out of range", node_at(3)->place = graph.place_first - 1);
    SPOILED_GRAPH("place lies out of range", node_at(3)->place = graph.place_end);
    SPOILED_GRAPH("unsettled node is not listed", node_at(3)->unsettled = 1);
    SPOILED_GRAPH("unsettled node is not listed", mmsb_graph_unsettle(&graph, 3);
                  *(uint32_t *)graph.unsettled.data = 2);
    SPOILED_GRAPH("listed as unsettled", mmsb_graph_unsettle(&graph, 3); node_at(3)->unsettled = 0);
    SPOILED_GRAPH("free number is in use", graph.free_node = 2);
    SPOILED_GRAPH("free number is in use", graph.free_node = 7);
    SPOILED_GRAPH("form a cycle", node_at(5)->out.at = 6; node_at(6)->out.at = 5);
    SPOILED_GRAPH("pages do not add up", graph.page_count++);
    SPOILED_GRAPH("neither in use nor free", graph.free_node = MMSB_NO_NODE);
    SPOILED_GRAPH("entries and no memory", node_at(3)->out.count = 1);
    SPOILED_GRAPH("outside the pool", node_at(0)->out.size_class = MMSB_GRAPH_CLASSES);
    SPOILED_GRAPH("outside the pool", node_at(0)->out.at = 0);
    SPOILED_GRAPH("outside the pool", node_at(0)->out.at = 1u << 20);
    SPOILED_GRAPH("more than it has room for", node_at(0)->out.count = 0);
    SPOILED_GRAPH("more than it has room for", node_at(0)->out.count = 1u << 20);
    SPOILED_GRAPH("more than it has room for", node_at(1)->in.count = 3);
    SPOILED_GRAPH("free block lies outside", graph.free_blocks[1] = 1u << 20);
    SPOILED_GRAPH("does not add up", memset(graph.free_blocks, 0, sizeof graph.free_blocks));
    SPOILED_GRAPH("leads nowhere", out_of(0)[0].node = 90);
    SPOILED_GRAPH("leads nowhere", out_of(0)[0].node = 6);
    SPOILED_GRAPH("leads nowhere", out_of(0)[0].twin = 90);
    SPOILED_GRAPH("twin differ", out_of(0)[0].node = 3);
    SPOILED_GRAPH("twin differ", out_of(0)[0].kind = 2);
    SPOILED_GRAPH("twin differ", in_of(3, 0)->twin = 1);
    SPOILED_GRAPH("there twice", out_of(0)[0].kind = out_of(0)[1].kind = 2; in_of(1, 0)->kind = in_of(1, 1)->kind = 2);
    SPOILED_GRAPH("backward", node_at(1)->band = 0; node_at(3)->band = 0; node_at(1)->place = graph.place_end - 1;
                  node_at(3)->place = graph.place_first);
    SPOILED_GRAPH("comes from nowhere", in_of(2, 1)->node = 90);
    SPOILED_GRAPH("level is wrong", node_at(3)->level = 7);
    SPOILED_GRAPH("edges do not add up", graph.edge_count++);
}

/* ---- the arena */

static failing_alloc failing;
static mmsb_arena arena;
static uint64_t small_handle, large_handle, own_handle;

/* Pages 1 (100 bytes), 2 (5,000 bytes) and 3 (alone in its segment); a slot of 100 bytes is free. */
static void open_arena(void) {
    failing_init(&failing);
    uint64_t free_handle;
    CHECK(mmsb_arena_init(&arena, &failing.alloc, (uint64_t)1 << 30) == MMSB_OK, "init");
    CHECK(mmsb_arena_ensure_ids(&arena, 10) == MMSB_OK, "ids");
    CHECK(mmsb_arena_take(&arena, 100, &small_handle) == MMSB_OK, "take");
    CHECK(mmsb_arena_take(&arena, 100, &free_handle) == MMSB_OK, "take");
    CHECK(mmsb_arena_take(&arena, 5000, &large_handle) == MMSB_OK, "take");
    CHECK(mmsb_arena_take(&arena, (uint64_t)100 << 20, &own_handle) == MMSB_OK, "take");
    mmsb_arena_give(&arena, free_handle, 100);
    *mmsb_arena_entry(&arena, 1) = (mmsb_page_header){.handle = small_handle, .size = 100, .flags = MMSB_PAGE_LIVE};
    *mmsb_arena_entry(&arena, 2) = (mmsb_page_header){.handle = large_handle, .size = 5000, .flags = MMSB_PAGE_LIVE};
    *mmsb_arena_entry(&arena, 3) =
        (mmsb_page_header){.handle = own_handle, .size = (uint64_t)100 << 20, .flags = MMSB_PAGE_LIVE};
}

static mmsb_page_header *page(uint64_t id) { return mmsb_arena_entry(&arena, id); }
static mmsb_arena_segment *segment_of(uint64_t handle) { return &arena.segments[mmsb_handle_segment(handle)]; }

static void expect_arena(const char *words) {
    const char *why = NULL;
    int status = mmsb_arena_check(&arena, &why);
    CHECK(status == (words == NULL                         ? MMSB_OK
                     : strcmp(words, "out of memory") == 0 ? MMSB_NO_MEMORY
                                                           : 1),
          "%s: %s", words, why);
    CHECK(words == NULL ? why == NULL : strstr(why, words) != NULL, "%s: %s", words, why);
    failing.left = UINT64_MAX;
}
/* What is spoiled is put right again by `mend`, so that the arena can be released. */
#define SPOILED_ARENA(words, spoil, mend) \
    open_arena();                         \
    spoil;                                \
    expect_arena(words);                  \
    mend;                                 \
    mmsb_arena_release(&arena)

static void test_arena(void) {
    uint8_t *base;
    SPOILED_ARENA(NULL, , );
    SPOILED_ARENA("names no segment", page(1)->handle &= ((uint64_t)1 << MMSB_HANDLE_OFFSET_BITS) - 1, );
    SPOILED_ARENA("names no segment", page(1)->handle = mmsb_handle_make(arena.segment_count, 0), );
    SPOILED_ARENA("released segment", base = segment_of(own_handle)->memory.base;
                  segment_of(own_handle)->memory.base = NULL, segment_of(own_handle)->memory.base = base);
    SPOILED_ARENA("outside the used part", page(1)->handle += 1u << 24, );
    SPOILED_ARENA("outside the used part", page(1)->size = segment_of(small_handle)->used + 64, );
    SPOILED_ARENA("not aligned", page(2)->handle -= 1, );
    SPOILED_ARENA("fill its own segment", page(3)->size -= 1 << 20, );
    SPOILED_ARENA("fill its own segment", page(3)->size = 100; page(3)->handle += 1, );
    SPOILED_ARENA("names no segment",
                  mmsb_store_u64(mmsb_arena_bytes(&arena, arena.free_slots[mmsb_arena_class(100)]),
                                 mmsb_handle_make(arena.segment_count, 0)), );
    SPOILED_ARENA("has a cycle",
                  mmsb_store_u64(mmsb_arena_bytes(&arena, arena.free_slots[mmsb_arena_class(100)]),
                                 arena.free_slots[mmsb_arena_class(100)]), );
    SPOILED_ARENA("live and deleted", page(2)->flags |= MMSB_PAGE_DELETED, );
    SPOILED_ARENA("no possible size", page(2)->size = 0, );
    SPOILED_ARENA(NULL, page(2)->handle |= (uint64_t)1 << 56, ); /* on a device: none of ours */
    SPOILED_ARENA("more than the arena has given", arena.frees += 2, );
    SPOILED_ARENA("more than the arena has given", arena.bytes_asked = 1, );
    SPOILED_ARENA("overlap", page(4)->handle = small_handle; page(4)->size = 100; page(4)->flags = MMSB_PAGE_LIVE;
                  arena.allocations++; arena.bytes_asked += 100, );
    SPOILED_ARENA("add up to bytes_mapped", arena.bytes_mapped += 4096, );
    SPOILED_ARENA("held and free slots", arena.bytes_held += 64, );
    SPOILED_ARENA("bytes_held exceeds", arena.bytes_asked = arena.bytes_held + 1, );
    SPOILED_ARENA("bytes_held exceeds", arena.max_bytes = 1, );
    SPOILED_ARENA(NULL, arena.max_bytes = 0, );
    SPOILED_ARENA("out of memory", failing.left = 0, );
    SPOILED_ARENA("out of memory", failing.left = 0; arena.free_slots[mmsb_arena_class(100)] = 0, );
}

static void test_arena_of_nothing(void) {
    const char *why = NULL;
    failing_init(&failing);
    CHECK(mmsb_arena_init(&arena, &failing.alloc, 0) == MMSB_OK, "init");
    CHECK(mmsb_arena_check(&arena, &why) == MMSB_OK && why == NULL, "%s", why);
    mmsb_memory memory;
    uint32_t number = 0;
    int status;
    while ((status = mmsb_arena_segment_memory(&arena, number, &memory)) == MMSB_PAGE_NOT_FOUND) number++;
    CHECK(status == MMSB_END && mmsb_arena_chunk_memory(&arena, 0, &memory) == MMSB_END, "nothing to hand out");
    CHECK(mmsb_arena_chunk_memory(&arena, MMSB_ARENA_CHUNKS, &memory) == MMSB_END, "past the last chunk");
    CHECK(mmsb_arena_can_take(&arena, 0, 1) == MMSB_BAD_SIZE, "of no bytes");
    mmsb_arena_release(&arena);
    CHECK(failing.blocks == 0, "a block is left");
}

static void test_words(void) {
    static const struct {
        int status;
        const char *words;
    } all[] = {
#define WORDS(name, value, text) {value, text},
        MMSB_STATUS_LIST(WORDS)
#undef WORDS
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        CHECK(strcmp(mmsb_status_text(all[i].status), all[i].words) == 0, "%d", all[i].status);
    CHECK(strcmp(mmsb_status_text(1), "unknown status") == 0, "1 is no status");
    CHECK(strcmp(mmsb_status_text(-1000), "unknown status") == 0, "-1000 is no status");
}

int main(void) {
    test_graph();
    test_arena();
    test_arena_of_nothing();
    test_words();
    return 0;
}
