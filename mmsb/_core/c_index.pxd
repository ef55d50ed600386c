# The derived index of a segment (csrc/index.h). All noexcept nogil.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport (
    mmsb_alloc,
    mmsb_buffer,
    mmsb_change,
    mmsb_kernels,
    mmsb_log_cursor,
    mmsb_log_frame,
    mmsb_segment_head,
)


cdef extern from "alloc.h" nogil:
    bint mmsb_buffer_reserve(mmsb_buffer *buffer, const mmsb_alloc *alloc, size_t capacity)


cdef extern from "index.h" nogil:
    enum:
        MMSB_NODE_NAME
        MMSB_COLLECT_OPEN
        MMSB_COLLECT_CREATED
        MMSB_COLLECT_DELETED
        MMSB_COLLECT_COVERED
    const uint64_t MMSB_ANY_SOURCE
    ctypedef struct mmsb_index_node:
        uint64_t at
        uint32_t seq_rel
        uint32_t index
        uint32_t prev
        uint32_t described
    ctypedef struct mmsb_index_structure:
        uint64_t at
        uint64_t page_id
        uint64_t count
        uint64_t size
        uint32_t seq_rel
        uint32_t node
        uint32_t name_by
        uint32_t metadata_by
        uint32_t created_by
        uint8_t page_kind
    ctypedef struct mmsb_index_source:
        uint64_t id
        uint64_t at
    ctypedef struct mmsb_index:
        mmsb_log_cursor cursor
        mmsb_buffer nodes
        mmsb_buffer structures
        mmsb_buffer sources
        mmsb_buffer commits
        mmsb_buffer labels
        uint64_t still_bytes
        uint64_t still_least
        uint32_t stilled
        bint broken
    ctypedef struct mmsb_still:
        uint64_t since
        uint32_t block_count
    ctypedef struct mmsb_index_facts:
        uint64_t gained
        uint64_t size
        uint32_t node
        uint32_t name_by
        uint32_t metadata_by
        bint created
        bint deleted
        uint8_t page_kind
    ctypedef struct mmsb_index_collection:
        uint64_t size
        const mmsb_still *still
        const mmsb_still *tape
        uint32_t tape_from
        uint32_t tape_to
        int end
    ctypedef struct mmsb_index_page:
        mmsb_buffer bytes
    ctypedef struct mmsb_index_sum:
        uint64_t key
        uint64_t commits
        uint64_t deltas
        uint64_t changed_bytes
        uint64_t log_bytes
    const mmsb_index_node *mmsb_index_node_at(const mmsb_index *index, uint32_t number)
    const mmsb_index_structure *mmsb_index_structure_at(const mmsb_index *index, uint32_t number)
    uint8_t mmsb_index_kind(uint64_t at)
    uint64_t mmsb_index_offset(uint64_t at)
    uint32_t mmsb_index_node_count(const mmsb_index *index)
    uint32_t mmsb_index_structure_count(const mmsb_index *index)
    uint32_t mmsb_index_seq_count(const mmsb_index *index)
    void mmsb_index_init(mmsb_index *index, const mmsb_alloc *alloc, const mmsb_kernels *kernels,
                         const mmsb_segment_head *head)
    void mmsb_index_release(mmsb_index *index)
    int mmsb_index_extend(mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available)
    uint64_t mmsb_index_bytes(const mmsb_index *index)
    uint32_t mmsb_index_newest(const mmsb_index *index, uint64_t key)
    uint64_t mmsb_index_name_key(const uint8_t *text, uint64_t text_bytes)
    uint64_t mmsb_index_label_key(const uint8_t *text, uint64_t text_bytes)
    uint32_t mmsb_index_page_until(const mmsb_index *index, uint64_t page_id, uint64_t seq_to)
    uint64_t mmsb_index_rank(const mmsb_index *index, uint32_t number)
    uint32_t mmsb_index_range_of(const mmsb_index *index, uint64_t page_id)
    int mmsb_index_change(const mmsb_index *index, const uint8_t *bytes, uint64_t at, mmsb_change *change)
    int mmsb_index_frame(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_rel, mmsb_log_frame *frame)
    int mmsb_index_seq_at(const mmsb_index *index, const uint8_t *bytes, uint64_t time_ns, uint64_t *seq_rel)
    int mmsb_index_next_commit(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                               uint64_t source, uint64_t kinds, uint64_t *found)
    void mmsb_index_facts_of(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                             mmsb_index_facts *facts)
    int mmsb_index_has_page(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to)
    int mmsb_index_find_text(const mmsb_index *index, const uint8_t *bytes, uint64_t key, const uint8_t *text,
                             uint64_t text_bytes, uint64_t seq_to, uint32_t *number)
    int mmsb_index_collect(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_from,
                           uint64_t seq_to, mmsb_buffer *numbers, mmsb_index_collection *collection)
    int mmsb_index_page_nodes(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                              mmsb_buffer *numbers)
    int mmsb_index_apply(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                         const uint32_t *numbers, uint64_t count, mmsb_index_page *page)
    int mmsb_index_last_write(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_to,
                              uint64_t *first, uint64_t *end, uint32_t *number, int *open)
    uint32_t mmsb_index_rank_node(const mmsb_index *index, uint32_t number, uint64_t rank)
    int mmsb_index_touched(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                           mmsb_buffer *ids)
    int mmsb_index_usage(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                         mmsb_buffer *sources, mmsb_buffer *pages)
    int mmsb_index_add_stills(mmsb_index *index, const uint8_t *bytes, const mmsb_index *before)
    int mmsb_still_lay(const mmsb_still *still, const mmsb_alloc *alloc, mmsb_index_page *page)
    int mmsb_still_play(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                        const mmsb_still *still, uint32_t from_node, uint32_t to_node, mmsb_index_page *page)
