# The command rings of csrc: ring.h, command.h, ring_serve.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_alloc, mmsb_buffer, mmsb_core, mmsb_memory


cdef extern from "clock.h" nogil:
    uint64_t mmsb_clock_monotonic()


cdef extern from "memory.h" nogil:
    int mmsb_memory_map(mmsb_memory *memory, int fd, bint writable)
    int mmsb_memory_create(mmsb_memory *memory, uint64_t bytes, bint huge)


cdef extern from "status.h" nogil:
    enum:
        MMSB_RING_BROKEN
        MMSB_BAD_COMMAND
        MMSB_NO_RIGHT


cdef extern from "patience.h" nogil:
    ctypedef struct mmsb_patience:
        pass
    void mmsb_patience_init(mmsb_patience *patience)


cdef extern from "ring.h" nogil:
    ctypedef struct mmsb_ring_shared:
        pass
    ctypedef struct mmsb_ring_end:
        uint64_t capacity
        uint64_t here
        const char *broken
    int mmsb_ring_map(mmsb_memory *memory, int fd)
    void mmsb_ring_ends(const mmsb_memory *memory, mmsb_ring_end *commands, mmsb_ring_end *completions)
    uint64_t mmsb_ring_record_max(const mmsb_ring_end *end)
    uint8_t *mmsb_ring_reserve(mmsb_ring_end *writer, uint64_t bytes)
    void mmsb_ring_put(mmsb_ring_end *writer, uint8_t *record, uint32_t bytes, uint8_t kind, uint8_t flags,
                       uint16_t more)
    void mmsb_ring_publish(mmsb_ring_end *writer)
    int mmsb_ring_take(mmsb_ring_end *reader, const mmsb_alloc *alloc, mmsb_buffer *record)
    void mmsb_ring_release(mmsb_ring_end *reader)
    uint64_t mmsb_ring_pending(const mmsb_ring_end *reader)
    void mmsb_ring_call_owner(const uint32_t *sleeping, int bell)
    void mmsb_ring_fall_asleep(uint32_t *sleeping)
    void mmsb_ring_stay_awake(uint32_t *sleeping)
    bint mmsb_ring_await_owner(mmsb_ring_shared *shared, uint64_t seen, mmsb_patience *patience, uint64_t timeout_ns)


cdef extern from "command.h" nogil:
    enum:
        MMSB_COMMAND_WRITE
        MMSB_COMMAND_ASSIGN
        MMSB_COMMAND_APPLY
        MMSB_COMMAND_CREATE
        MMSB_COMMAND_CREATE_MANY
        MMSB_COMMAND_DELETE
        MMSB_COMMAND_RESIZE
        MMSB_COMMAND_RENAME
        MMSB_COMMAND_METADATA
        MMSB_COMMAND_WRITE_MANY
        MMSB_COMMAND_BATCH
        MMSB_COMMAND_IF_EPOCH
        MMSB_COMMAND_REBASE
        MMSB_COMMAND_DETACH
        MMSB_COMMAND_NO_WAVE
        MMSB_COMMAND_SOURCE_MAX
        MMSB_COMMAND_NAME_MAX
        MMSB_COMMAND_RULE_MAX
        MMSB_COMPLETION_BYTES_MAX
        MMSB_COMPLETION_DONE
        MMSB_COMPLETION_UNCHANGED
        MMSB_COMPLETION_FAILED
    const uint64_t MMSB_COMMAND_CREATED
    ctypedef struct mmsb_command_head:
        uint32_t bytes
        uint8_t kind
        uint8_t flags
        uint8_t durability
        uint8_t code
        uint64_t number
        uint64_t page_id
        uint64_t at
        uint64_t if_epoch
        uint16_t source_bytes
        uint32_t intent_bytes
    ctypedef struct mmsb_command:
        mmsb_command_head head
        const uint8_t *source
        const uint8_t *intent
        const uint8_t *name
        const uint8_t *rule
        const uint8_t *metadata
        uint64_t name_bytes
        uint64_t rule_bytes
        uint64_t metadata_bytes
        const uint8_t *data
        uint64_t data_bytes
        const uint8_t *numbers
    ctypedef struct mmsb_rights:
        mmsb_buffer pages
        bint every_page
        bint creates
        bint deletes
    ctypedef struct mmsb_refusal:
        int right
        uint64_t page_id
    ctypedef struct mmsb_completion:
        uint32_t bytes
        uint8_t status
        uint64_t number
        uint64_t seq
        uint64_t epoch
        uint64_t first_page
    int mmsb_command_next(const mmsb_command *batch, uint64_t *at, mmsb_command *inside)
    int mmsb_rights_add(mmsb_rights *rights, const mmsb_alloc *alloc, uint64_t first, uint64_t count)


cdef extern from "ring_serve.h" nogil:
    enum:
        MMSB_SERVED_ALL
        MMSB_SERVED_TURN
        MMSB_SERVED_COMMAND
        MMSB_SERVED_FULL
    ctypedef struct mmsb_client:
        mmsb_memory memory
        mmsb_ring_end commands
        mmsb_rights rights
        mmsb_command command
        bint taken
        int verdict
        mmsb_refusal refusal
        uint64_t number
        const char *broken
        bint gone
        uint64_t failed
    ctypedef struct mmsb_turn:
        bint direct
        bint merges
        uint64_t records
        uint64_t bytes
        uint64_t commits
    int mmsb_client_init(mmsb_client *client, const mmsb_alloc *alloc, uint64_t command_bytes,
                         uint64_t completion_bytes)
    void mmsb_client_release(mmsb_client *client)
    bint mmsb_client_is_ready(mmsb_client *client)
    int mmsb_client_serve(mmsb_client *client, mmsb_core *core, mmsb_turn *turn)
    void mmsb_client_complete(mmsb_client *client, const mmsb_completion *answer, const uint8_t *facts,
                              uint32_t facts_bytes)
    void mmsb_client_publish(mmsb_client *client)
    void mmsb_client_know_source(mmsb_client *client, uint32_t index)
    bint mmsb_clients_await(mmsb_client **clients, uint64_t count, mmsb_patience *patience)
