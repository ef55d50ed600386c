# Links and waves (csrc/link.h, csrc/propagate.h). All noexcept nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mmsb._core.c_graph cimport mmsb_graph
from mmsb._core.c_mmsb cimport mmsb_buffer, mmsb_commit_info, mmsb_core
from mmsb._core.c_semiring cimport mmsb_semiring


cdef extern from "link.h" nogil:
    enum:
        MMSB_LINK_CALL
        MMSB_LINK_COPY
        MMSB_LINK_SEMIRING
        MMSB_LINK_REDUCE
        MMSB_LINK_MATRIX
    ctypedef struct mmsb_link_copy:
        uint64_t parent
        uint64_t start "from"
        uint64_t to
        uint64_t bytes
    ctypedef struct mmsb_link:
        uint8_t type
        bint accumulates
        uint32_t parent_count
        uint32_t copy_count
        const mmsb_semiring *semiring
        const uint8_t *weights
        const uint8_t *lane_weights
        const mmsb_link_copy *copies
        uint64_t rows
        uint64_t columns
    bint mmsb_link_check(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size, const char **why)


cdef extern from "propagate.h" nogil:
    enum:
        MMSB_WAVE_DONE
        MMSB_WAVE_CALL
        MMSB_WAVE_LEVEL
        MMSB_WAVE_UNUSUAL
    ctypedef enum mmsb_wave_scope:
        MMSB_WAVE_FULL
        MMSB_WAVE_PARTIAL
        MMSB_WAVE_TRIAL
    ctypedef struct mmsb_rule:
        uint32_t *parents
        mmsb_link link
        bint used
    ctypedef struct mmsb_wave_delta:
        uint32_t node
    ctypedef struct mmsb_propagation:
        mmsb_buffer changed
        mmsb_buffer visited
        mmsb_buffer failed
        mmsb_buffer forced
        mmsb_buffer rules
        uint32_t level_count
        uint32_t computed
        bint pauses
        const char *why
    int mmsb_propagate_init(mmsb_propagation *p, mmsb_core *core, mmsb_graph *graph)
    void mmsb_propagate_release(mmsb_propagation *p)
    int mmsb_propagate_set_rule(mmsb_propagation *p, uint32_t node, const mmsb_link *link, const uint32_t *parents)
    void mmsb_propagate_clear_rule(mmsb_propagation *p, uint32_t node)
    int mmsb_propagate_force(mmsb_propagation *p, uint32_t node)
    int mmsb_propagate_begin(mmsb_propagation *p, const mmsb_commit_info *info, mmsb_wave_scope scope)
    int mmsb_propagate_run(mmsb_propagation *p)
    int mmsb_propagate_reserve_ahead(mmsb_propagation *p, uint64_t *work)
    void mmsb_propagate_ahead(mmsb_propagation *p, uint32_t first, uint32_t end)
    uint32_t mmsb_propagate_node(const mmsb_propagation *p)
    const uint8_t *mmsb_propagate_bytes(const mmsb_propagation *p, uint32_t node, uint64_t *size)
    bint mmsb_propagate_is_staged(const mmsb_propagation *p, uint32_t node)
    int mmsb_propagate_returned(mmsb_propagation *p, const uint8_t *bytes)
    int mmsb_propagate_failed(mmsb_propagation *p)
    int mmsb_propagate_publish(mmsb_propagation *p, const mmsb_commit_info *info, const uint8_t *blob,
                               uint64_t blob_bytes)
    int mmsb_propagate_at_once(mmsb_propagation *p)
    void mmsb_propagate_end(mmsb_propagation *p)
