# The page graph (csrc/graph.h, csrc/wave.h). All noexcept nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_alloc, mmsb_buffer


cdef extern from "alloc.h" nogil:
    bint mmsb_buffer_reserve(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t capacity)


cdef extern from "graph.h" nogil:
    enum:
        MMSB_EDGE_KINDS
        MMSB_EDGE_DATA
        MMSB_EDGE_CONTROL
        MMSB_EDGE_ALL
    const uint32_t MMSB_NO_NODE
    ctypedef struct mmsb_graph_end:
        uint32_t node
        uint32_t kind
    ctypedef struct mmsb_graph_in:
        mmsb_graph_end end
        uint64_t link
    ctypedef struct mmsb_graph_list:
        uint32_t count
    ctypedef struct mmsb_graph_node:
        uint64_t page_id
        uint32_t level
        mmsb_graph_list out
        mmsb_graph_list ins "in"
    ctypedef struct mmsb_graph:
        mmsb_buffer cycle
        uint32_t node_count
        uint32_t page_count
        uint64_t edge_count
    ctypedef struct mmsb_graph_edges:
        const uint64_t *parents
        const uint64_t *children
        const uint8_t *kinds
        const uint64_t *links
        uint64_t count
    mmsb_graph_node *mmsb_graph_node_at(const mmsb_graph *graph, uint32_t node)
    const mmsb_graph_end *mmsb_graph_out_of(const mmsb_graph *graph, const mmsb_graph_node *node)
    mmsb_graph_in *mmsb_graph_in_of(const mmsb_graph *graph, const mmsb_graph_node *node)
    void mmsb_graph_init(mmsb_graph *graph, const mmsb_alloc *alloc)
    void mmsb_graph_release(mmsb_graph *graph)
    uint64_t mmsb_graph_bytes(const mmsb_graph *graph)
    uint32_t mmsb_graph_find(const mmsb_graph *graph, uint64_t page_id)
    int mmsb_graph_add_page(mmsb_graph *graph, uint64_t page_id, uint32_t *node)
    int mmsb_graph_remove_page(mmsb_graph *graph, uint32_t node, bint detach)
    int mmsb_graph_add_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind, uint64_t link)
    int mmsb_graph_add_edges(mmsb_graph *graph, const mmsb_graph_edges *edges, uint64_t *failed)
    int mmsb_graph_remove_edge(mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind)
    uint64_t *mmsb_graph_link(const mmsb_graph *graph, uint32_t parent, uint32_t child, uint32_t kind)
    void mmsb_graph_settle(mmsb_graph *graph)
    int mmsb_graph_reach(mmsb_graph *graph, const uint32_t *origins, uint64_t count, uint32_t kinds, bint backward,
                         mmsb_buffer *out)
    int mmsb_graph_path(mmsb_graph *graph, uint32_t start, uint32_t end, uint32_t kinds, mmsb_buffer *out)
    int mmsb_graph_order(mmsb_graph *graph, mmsb_buffer *out)
    int mmsb_graph_critical_path(mmsb_graph *graph, uint32_t kinds, const double *weights, mmsb_buffer *out,
                                 double *weight)
    int mmsb_graph_redundant(mmsb_graph *graph, uint32_t kinds, mmsb_buffer *out)
    int mmsb_graph_check(mmsb_graph *graph, const char **why)


cdef extern from "wave.h" nogil:
    ctypedef struct mmsb_wave:
        pass
    void mmsb_wave_init(mmsb_wave *wave, const mmsb_alloc *alloc)
    void mmsb_wave_release(mmsb_wave *wave)
    int mmsb_wave_begin(mmsb_wave *wave, mmsb_graph *graph, uint32_t kinds)
    void mmsb_wave_touch(mmsb_wave *wave, uint32_t node)
    uint32_t mmsb_wave_next(mmsb_wave *wave, const uint32_t **nodes)
    void mmsb_wave_stop(mmsb_wave *wave)
    int mmsb_graph_affected(mmsb_graph *graph, mmsb_wave *wave, const uint32_t *origins, uint64_t count,
                            uint32_t kinds, mmsb_buffer *out)
