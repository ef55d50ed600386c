# Every C declaration that the Cython floor uses beside the kernels' own. All noexcept nogil.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mmsb._core.c_semiring cimport mmsb_semiring


cdef extern from "base.h" nogil:
    enum:
        MMSB_VARINT_BYTES_MAX
    uint64_t MMSB_PEEK(uint64_t fact)
    void MMSB_POKE(uint64_t fact, uint64_t value)
    uint8_t *mmsb_varint_put(uint8_t *p, uint64_t v)
    const uint8_t *mmsb_varint_get(const uint8_t *p, const uint8_t *end, uint64_t *out)


cdef extern from "status.h" nogil:
    const char *mmsb_status_text(int status)
    enum:
        MMSB_OK
        MMSB_NO_MEMORY
        MMSB_ARENA_FULL
        MMSB_PAGE_NOT_FOUND
        MMSB_OUT_OF_BOUNDS
        MMSB_BAD_SIZE
        MMSB_BAD_DELTA
        MMSB_EPOCH_MISMATCH
        MMSB_FRAME_TOO_LARGE
        MMSB_BAD_FRAME
        MMSB_BAD_CRC
        MMSB_BAD_LENGTH
        MMSB_GAP
        MMSB_END
        MMSB_IO
        MMSB_NO_SPACE
        MMSB_BAD_HEADER
        MMSB_NEWER_VERSION
        MMSB_POISONED
        MMSB_PAGE_EXISTS
        MMSB_PAGE_IS_DERIVED
        MMSB_BAD_LANES
        MMSB_NO_SEMIRING
        MMSB_MERGE_FAILED
        MMSB_BAD_LINK
        MMSB_CYCLE
        MMSB_EDGE_EXISTS
        MMSB_EDGE_NOT_FOUND
        MMSB_PAGE_HAS_EDGES
        MMSB_GROWN
        MMSB_DROPPED
        MMSB_BEHIND
        MMSB_DISK_FULL
        MMSB_SEQ_FULL


cdef extern from "alloc.h" nogil:
    ctypedef struct mmsb_alloc:
        void *context
        void *(*allocate)(void *context, size_t bytes) noexcept
        void (*release)(void *context, void *block) noexcept
    ctypedef struct mmsb_buffer:
        uint8_t *data
        size_t size
        size_t capacity
    const mmsb_alloc mmsb_alloc_libc
    void mmsb_buffer_release(mmsb_buffer *buffer, const mmsb_alloc *alloc)


cdef extern from "cpu.h" nogil:
    uint32_t mmsb_cpu_detect()
    int mmsb_cpu_disable(uint32_t *features, const char *disable, const char **unknown)
    const char *mmsb_cpu_environment()


cdef extern from "delta.h" nogil:
    enum:
        MMSB_DELTA_DENSE
        MMSB_DELTA_RUNS
        MMSB_DELTA_BITMAP
    ctypedef struct mmsb_delta_view:
        const uint8_t *values
        uint64_t value_count
        uint64_t first
        uint64_t end
        uint8_t code
    ctypedef struct mmsb_run_cursor:
        uint64_t offset
        uint64_t length
        const uint8_t *values
    ctypedef struct mmsb_run:
        uint64_t offset
        uint64_t length
    int mmsb_delta_parse(uint8_t code, const uint8_t *payload, uint64_t payload_bytes, uint64_t page_bytes,
                         mmsb_delta_view *view)
    bint mmsb_delta_next_run(const mmsb_delta_view *view, mmsb_run_cursor *cursor)
    int64_t mmsb_delta_from_runs(const mmsb_run *runs, uint64_t run_count, const uint8_t *values, uint8_t *out,
                                 uint8_t *code)
    uint64_t MMSB_DELTA_BOUND(uint64_t length)


cdef extern from "kernels.h" nogil:
    ctypedef struct mmsb_kernels:
        uint32_t features
        int64_t (*delta_diff)(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base,
                              uint8_t *out, uint8_t *code) noexcept nogil
        int (*delta_apply)(uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                           uint64_t payload_bytes) noexcept nogil
        int64_t (*delta_merge)(uint8_t code_a, const uint8_t *payload_a, uint64_t bytes_a, uint8_t code_b,
                               const uint8_t *payload_b, uint64_t bytes_b, uint64_t page_bytes, uint8_t *out,
                               uint8_t *code) noexcept nogil
        int64_t (*delta_inverse)(const uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                                 uint64_t payload_bytes, uint8_t *out) noexcept nogil
        uint32_t (*crc32c)(uint32_t crc, const uint8_t *bytes, uint64_t length) noexcept nogil
    void mmsb_kernels_init(mmsb_kernels *table, uint32_t features)


cdef extern from "log_format.h" nogil:
    enum:
        MMSB_LOG_VERSION
        MMSB_SEGMENT_HEADER_BYTES
        MMSB_FRAME_COMMIT
        MMSB_FRAME_ANCHOR
        MMSB_CHANGE_END
        MMSB_CHANGE_CREATE
        MMSB_CHANGE_DELETE
        MMSB_CHANGE_RESIZE
        MMSB_CHANGE_RENAME
        MMSB_CHANGE_METADATA
        MMSB_CHANGE_LABEL
        MMSB_CHANGE_INTENT
        MMSB_CHANGE_SOURCE
        MMSB_CHANGE_LINK
        MMSB_CHANGE_UNLINK
        MMSB_CHANGE_WAVE
        MMSB_CREATE_NAME
        MMSB_CREATE_METADATA
        MMSB_CREATE_CONTENT
        MMSB_ANCHOR_BYTES
        MMSB_PAGE_KIND_MERGE


cdef extern from "frame.h" nogil:
    ctypedef struct mmsb_frame_head:
        uint64_t seq_rel
        uint64_t durable_lag
        uint64_t time_rel_ns
        uint64_t branch
        uint64_t source
        uint32_t prev_crc
        uint8_t kind
    uint64_t MMSB_FRAME_HEAD_BYTES_MAX
    uint32_t mmsb_frame_seed(const mmsb_kernels *kernels, const uint8_t *salt)
    uint8_t *mmsb_frame_put_head(uint8_t *frame, const mmsb_frame_head *head)
    int64_t mmsb_frame_close(const mmsb_kernels *kernels, uint32_t seed, uint8_t *frame, uint8_t *end, uint32_t *crc)
    ctypedef struct mmsb_change:
        uint8_t kind
        uint8_t page_kind
        uint8_t create_flags
        uint8_t content_code
        uint64_t page_id
        uint64_t count
        uint64_t size
        const uint8_t *payload
        uint64_t payload_bytes
        const uint8_t *text
        uint64_t text_bytes
        const uint8_t *blob
        uint64_t blob_bytes
    const uint8_t *mmsb_change_next(const uint8_t *p, const uint8_t *end, mmsb_change *change)


cdef extern from "segment.h" nogil:
    ctypedef struct mmsb_segment_head:
        uint8_t uuid[16]
        uint8_t salt[16]
        uint64_t base_seq
        uint64_t base_time_ns
        uint64_t capacity
        uint64_t durable_seq
        uint32_t prev_crc
        uint32_t number
        uint8_t anchor[32]
    void mmsb_segment_head_put(const mmsb_kernels *kernels, const mmsb_segment_head *head, uint8_t *out)
    int mmsb_segment_head_get(const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available,
                              mmsb_segment_head *head, uint32_t *version)
    ctypedef struct mmsb_log_cursor:
        const uint8_t *bytes
        uint64_t available
        uint64_t offset
        uint64_t base_seq
        uint64_t base_time_ns
        uint64_t seq
        uint64_t time_ns
        uint64_t durable_seq
        uint32_t seed
        uint32_t last_crc
    ctypedef struct mmsb_log_frame:
        mmsb_frame_head head
        uint64_t offset
        uint64_t bytes
        uint64_t seq
        uint64_t time_ns
        const uint8_t *changes
        const uint8_t *end
    void mmsb_log_cursor_start(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, const mmsb_segment_head *head,
                               const uint8_t *bytes, uint64_t available)
    int mmsb_log_cursor_next(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, mmsb_log_frame *frame)
    int64_t mmsb_log_canonical(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t *source,
                               const uint8_t *name, uint64_t name_bytes, uint8_t *out, uint64_t room)
    uint64_t mmsb_log_stranded(const mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t end,
                               uint64_t *frames, uint64_t *seq_max)
    bint mmsb_log_resume(mmsb_log_cursor *cursor, const mmsb_kernels *kernels)


cdef extern from "batch.h" nogil:
    enum:
        MMSB_OP_WRITE
        MMSB_OP_DELTA
        MMSB_OP_CREATE
        MMSB_OP_DELETE
        MMSB_OP_RESIZE
        MMSB_OP_RENAME
        MMSB_OP_METADATA
        MMSB_OP_LINK
        MMSB_OP_UNLINK
    const uint64_t MMSB_ANY_EPOCH
    ctypedef struct mmsb_op:
        uint64_t page_id
        uint64_t offset
        uint64_t size
        uint64_t count
        uint64_t if_epoch
        uint64_t data_at
        uint64_t data_bytes
        uint32_t name_bytes
        uint32_t metadata_bytes
        uint8_t kind
        uint8_t code
        uint8_t page_kind
        bint assigns
    ctypedef struct mmsb_batch:
        mmsb_buffer ops
        mmsb_buffer data
    uint64_t mmsb_batch_count(const mmsb_batch *batch)
    mmsb_op *mmsb_batch_op(const mmsb_batch *batch, uint64_t index)
    void mmsb_batch_init(mmsb_batch *batch, const mmsb_alloc *alloc)
    void mmsb_batch_release(mmsb_batch *batch)
    int mmsb_batch_add(mmsb_batch *batch, const mmsb_op *op, const uint8_t *name, const uint8_t *metadata,
                       const uint8_t *data)
    int mmsb_batch_add_writes(mmsb_batch *batch, const uint64_t *ids, const uint64_t *offsets,
                              const uint64_t *lengths, uint64_t count, const uint8_t *payload,
                              uint64_t payload_bytes)
    int mmsb_batch_overlay(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, uint64_t offset,
                           uint8_t *bytes, uint64_t length)
    int mmsb_batch_merge(const mmsb_batch *batch, uint64_t page_id, uint64_t first_op, const mmsb_semiring *semiring,
                         uint8_t *page, uint64_t page_bytes, uint8_t *spare)


cdef extern from "memory.h" nogil:
    ctypedef struct mmsb_memory:
        uint8_t *base
        uint64_t bytes
        int fd
    int mmsb_memory_create(mmsb_memory *memory, uint64_t bytes, bint huge)
    int mmsb_memory_create_private(mmsb_memory *memory, uint64_t bytes, bint huge)
    void mmsb_memory_release(mmsb_memory *memory)
    int mmsb_memory_protect(const mmsb_memory *memory)


cdef extern from "io.h" nogil:
    ctypedef struct mmsb_io:
        void *context
        int64_t (*open)(void *context, const char *path, int flags, unsigned mode) noexcept nogil
        int64_t (*close)(void *context, int fd) noexcept nogil
        int64_t (*pread)(void *context, int fd, void *to, uint64_t bytes, uint64_t offset) noexcept nogil
        int64_t (*pwrite)(void *context, int fd, const void *source, uint64_t bytes, uint64_t offset) noexcept nogil
        int64_t (*fdatasync)(void *context, int fd) noexcept nogil
        int64_t (*fsync)(void *context, int fd) noexcept nogil
        int64_t (*fallocate)(void *context, int fd, uint64_t offset, uint64_t bytes) noexcept nogil
        int64_t (*rename)(void *context, const char *source, const char *to) noexcept nogil
        int64_t (*unlink)(void *context, const char *path) noexcept nogil
        int64_t (*mkdir)(void *context, const char *path, unsigned mode) noexcept nogil
        int64_t (*stat_size)(void *context, int fd) noexcept nogil
        int64_t (*map)(void *context, int fd, uint64_t offset, uint64_t bytes, bint writable,
                       uint8_t **address) noexcept nogil
        int64_t (*unmap)(void *context, uint8_t *address, uint64_t bytes) noexcept nogil
        int64_t (*prefault)(void *context, uint8_t *address, uint64_t bytes) noexcept nogil
        int64_t (*filesystem)(void *context, int fd) noexcept nogil
        int64_t (*lock)(void *context, int fd) noexcept nogil
        int64_t (*give)(void *context, const char *path, unsigned group, unsigned mode) noexcept nogil
    const mmsb_io mmsb_io_posix


cdef extern from "io_fault.h" nogil:
    ctypedef enum mmsb_io_kind:
        pass
    ctypedef enum mmsb_fault_effect:
        MMSB_FAULT_FAIL
        MMSB_FAULT_TEAR
        MMSB_FAULT_KILL
    ctypedef struct mmsb_io_fault:
        mmsb_io io
    void mmsb_io_fault_init(mmsb_io_fault *fault, const mmsb_io *below)
    void mmsb_io_fault_arm(mmsb_io_fault *fault, mmsb_io_kind kind, uint64_t nth, mmsb_fault_effect effect,
                           int error, bint forever)
    uint64_t mmsb_io_fault_count(const mmsb_io_fault *fault, mmsb_io_kind kind)
    int mmsb_io_kind_of(const char *name)


cdef extern from "io_record.h" nogil:
    ctypedef struct mmsb_io_operation:
        uint32_t kind
        int32_t fd
        uint64_t at, begun
        uint64_t bytes[2]
    ctypedef struct mmsb_io_record:
        mmsb_io io
        mmsb_buffer written
        uint64_t count
        bint lost
    enum:
        MMSB_IO_OPEN
        MMSB_IO_CLOSE
        MMSB_IO_PWRITE
        MMSB_IO_FDATASYNC
        MMSB_IO_FSYNC
        MMSB_IO_FALLOCATE
        MMSB_IO_TRUNCATE
        MMSB_IO_RENAME
        MMSB_IO_UNLINK
        MMSB_IO_MKDIR
        MMSB_IO_APPEND
    void mmsb_io_record_init(mmsb_io_record *record, const mmsb_io *below)
    void mmsb_io_record_release(mmsb_io_record *record)


cdef extern from "arena.h" nogil:
    enum:
        MMSB_PAGE_LIVE
        MMSB_PAGE_DESCRIBED
        MMSB_PAGE_SOURCE
        MMSB_PAGE_DERIVED
        MMSB_PAGE_STALE
        MMSB_PAGE_FAILED
        MMSB_PAGE_TOUCHED
        MMSB_PAGE_DELETED
    const uint64_t MMSB_PAGE_ID_MAX
    ctypedef struct mmsb_page_header:
        uint64_t handle
        uint64_t size
        uint64_t epoch
        uint32_t generation
        uint16_t flags
        uint8_t kind
        uint8_t merge
    ctypedef struct mmsb_arena:
        uint64_t max_bytes
        uint64_t bytes_asked
        uint64_t bytes_held
        uint32_t chunk_count
        bint is_private
    ctypedef struct mmsb_arena_stats:
        uint64_t bytes_asked
        uint64_t bytes_held
        uint64_t bytes_mapped
        uint64_t bytes_resident
        uint64_t allocations
        uint64_t frees
        uint64_t segments
        double fragmentation
    uint64_t mmsb_arena_slot_bytes(uint64_t size)
    int mmsb_arena_take(mmsb_arena *arena, uint64_t size, uint64_t *handle)
    void mmsb_arena_give(mmsb_arena *arena, uint64_t handle, uint64_t size)
    int mmsb_arena_ensure_ids(mmsb_arena *arena, uint64_t id_max)
    void mmsb_arena_get_stats(const mmsb_arena *arena, mmsb_arena_stats *stats)
    int mmsb_arena_protect_after_fork(mmsb_arena *arena)
    int mmsb_arena_check(const mmsb_arena *arena, const char **why)
    mmsb_page_header *mmsb_arena_entry(const mmsb_arena *arena, uint64_t id)
    mmsb_page_header *mmsb_arena_header(const mmsb_arena *arena, uint64_t id)
    uint64_t mmsb_arena_next_page(const mmsb_arena *arena, uint64_t begin, uint64_t end)
    uint8_t *mmsb_arena_bytes(const mmsb_arena *arena, uint64_t handle)


cdef extern from "core.h" nogil:
    ctypedef struct mmsb_shared:
        uint32_t layout
        uint32_t bell
        uint32_t owner_pid
        uint64_t tail
        uint64_t applied
        uint64_t seq
        uint64_t durable_seq
        uint64_t grown
        uint64_t described_seq
        uint64_t admitted[64]
    ctypedef struct mmsb_active:
        uint8_t *map
        int fd
        uint32_t number
        uint64_t capacity
        uint64_t tail
        uint64_t ready
        uint64_t base_seq
        uint64_t base_time_ns
    void mmsb_core_give_slot(mmsb_core *core, uint64_t handle, uint64_t size)
    ctypedef struct mmsb_core:
        mmsb_shared *shared
        void *sharing
        mmsb_kernels kernels
        mmsb_arena arena
        mmsb_active active
        const mmsb_io *io
        uint64_t seq
        uint64_t time_ns
        uint64_t branch
        uint64_t next_page_id
        uint64_t page_count
        uint32_t last_crc
        bint poisoned
        int io_errno
        uint64_t frame_needs
        mmsb_buffer touched
        bint touched_whole
        mmsb_buffer source_ids
        uint32_t source_next
        uint64_t commits
        uint64_t deltas
        uint64_t delta_bytes
        const mmsb_semiring *merges[256]
        int (*keep_slot)(void *context, uint64_t page_id, uint64_t handle, uint64_t size) noexcept
        void *keep_context
    ctypedef struct mmsb_touched:
        uint64_t page_id
    void mmsb_core_forget_touched(mmsb_core *core)
    ctypedef struct mmsb_commit_info:
        uint64_t time_ns
        uint64_t if_epoch
        uint32_t source
        bint sync
        bint skip_unchanged
        bint assigns
        bint moving
        const uint8_t *source_name
        const uint8_t *label
        const uint8_t *intent
        uint64_t source_bytes
        uint64_t label_bytes
        uint64_t intent_bytes
    ctypedef struct mmsb_written:
        uint64_t seq
        uint64_t epoch
        uint64_t time_ns
        const uint8_t *payload
        uint64_t payload_bytes
        uint8_t code
    int mmsb_core_init(mmsb_core *core, uint32_t features, const mmsb_alloc *alloc, const mmsb_io *io,
                       mmsb_shared *shared, uint64_t max_bytes)
    void mmsb_core_release(mmsb_core *core)
    void mmsb_core_use_segment(mmsb_core *core, const mmsb_active *active, const uint8_t *salt, uint32_t last_crc)
    int mmsb_core_write(mmsb_core *core, uint64_t page_id, uint64_t offset, const uint8_t *data, uint64_t length,
                        const mmsb_commit_info *info, mmsb_written *written)
    int mmsb_core_commit(mmsb_core *core, const mmsb_batch *batch, const mmsb_commit_info *info,
                         uint64_t *failed_op)
    void mmsb_core_last_changes(const mmsb_core *core, const uint8_t **changes, const uint8_t **end)
    int mmsb_core_anchor(mmsb_core *core, const uint8_t *anchor, bint sync)
    int mmsb_core_replay(mmsb_core *core, mmsb_log_cursor *cursor, uint64_t seq_until, mmsb_log_frame *frame)
    int mmsb_core_load_page(mmsb_core *core, uint64_t page_id, uint64_t size, uint64_t epoch, uint8_t kind,
                            uint16_t flags, const uint8_t *content, uint64_t content_bytes)
    int mmsb_core_define_source(mmsb_core *core, uint32_t source, uint32_t id)
