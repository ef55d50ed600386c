# Sharing a State's memory with other processes (csrc/shared.h, sharing.h, reader.h). All noexcept nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_alloc, mmsb_arena, mmsb_kernels, mmsb_shared


cdef extern from "bell.h" nogil:
    void mmsb_bell_ring(const uint32_t *bell)


cdef extern from "region.h" nogil:
    enum:
        MMSB_REGION_SEALED
        MMSB_REGION_GROWS
    int mmsb_region_map(int fd, uint64_t count, unsigned flags, uint8_t **base)
    void mmsb_region_unmap(uint8_t *base, uint64_t count)


cdef extern from "shared.h" nogil:
    enum:
        MMSB_SHARED_LAYOUT
        MMSB_SHARED_BYTES
        MMSB_CLIENTS_MAX
        MMSB_WORDS_BYTES
        MMSB_REGION_HEADERS
        MMSB_REGION_PAGES
        MMSB_REGION_LOG
    const uint64_t MMSB_NOT_READING
    ctypedef struct mmsb_words:
        uint8_t magic[8]
        uint64_t reading
        uint64_t seen_seq
        uint32_t waiting


cdef extern from "sharing.h" nogil:
    ctypedef struct mmsb_attached:
        int fd
        uint32_t place
        uint64_t number
        const mmsb_words *words
        bint dropped
    ctypedef struct mmsb_sharing:
        mmsb_attached clients[64]
        uint32_t client_count
        uint64_t kept_bytes
        uint64_t kept_bytes_most
        uint64_t drops
    ctypedef struct mmsb_entry:
        uint32_t kind
        uint32_t number
        uint64_t bytes
        uint64_t flags
    void mmsb_sharing_init(mmsb_sharing *sharing, mmsb_arena *arena, mmsb_shared *shared, const mmsb_alloc *alloc)
    void mmsb_sharing_release(mmsb_sharing *sharing)
    int mmsb_sharing_add(mmsb_sharing *sharing, int fd, const mmsb_words *words)
    void mmsb_sharing_remove(mmsb_sharing *sharing, int fd)
    void mmsb_sharing_drop(mmsb_sharing *sharing, mmsb_attached *client)
    int mmsb_sharing_tell_all(mmsb_sharing *sharing, mmsb_attached *client)
    int mmsb_sharing_tell(mmsb_sharing *sharing, mmsb_attached *client, const mmsb_entry *entries, const int *fds,
                          uint32_t count)
    void mmsb_sharing_log(mmsb_sharing *sharing, uint32_t number, int fd, uint64_t count)


cdef extern from "reader.h" nogil:
    const uint64_t MMSB_READ_TO_END
    ctypedef struct mmsb_reader:
        const mmsb_shared *shared
        mmsb_words *words
        uint64_t number
        uint32_t place
        uint64_t grown
        bint gone
        bint never_redo
        mmsb_kernels kernels
    ctypedef struct mmsb_moment:
        uint64_t seq
        uint64_t position
    ctypedef struct mmsb_read:
        uint64_t page_id
        uint64_t first
        uint64_t length
        uint8_t *to
        uint64_t room
        bint owned
        int status
        uint64_t size
        uint64_t count
        uint64_t epoch
        uint16_t flags
        bint epoch_known
    void mmsb_reader_init(mmsb_reader *reader, uint32_t features, const mmsb_alloc *alloc, const uint8_t *salt)
    void mmsb_reader_release(mmsb_reader *reader)
    int mmsb_reader_set(mmsb_reader *reader, uint32_t kind, uint32_t number, const uint8_t *base, uint64_t count)
    int mmsb_reader_set_log(mmsb_reader *reader, uint32_t number, const uint8_t *base, uint64_t count)
    int mmsb_reader_read(mmsb_reader *reader, mmsb_read *reads, uint64_t count, mmsb_moment *moment)
    bint mmsb_reader_copy(mmsb_reader *reader, uint64_t page_id, uint64_t first, uint8_t *to, uint64_t length,
                          bint whole)
    int mmsb_reader_live(mmsb_reader *reader, uint8_t *live, uint64_t room, uint64_t *end, mmsb_moment *moment)
    uint64_t mmsb_reader_guess(const mmsb_reader *reader, uint64_t page_id)
    bint mmsb_reader_wait(mmsb_reader *reader, uint64_t position, uint64_t timeout_ns)
    void mmsb_reader_end_waits(mmsb_reader *reader)
    uint64_t mmsb_reader_end(const mmsb_reader *reader)
    uint64_t mmsb_reader_published(const mmsb_reader *reader)
    void mmsb_reader_owner_went(mmsb_reader *reader)
