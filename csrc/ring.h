/* A command ring: memory that an owner shares with one client, and in it two queues of records, each with one writer
 * and one reader. Commands go from the client to the owner, completions come back. docs/formats/commands.md.
 *
 * A record is written first and published by one store of the tail afterwards, so whoever dies in between has sent
 * nothing. Each side believes only its own copy of its own index; what the other side can write is checked each time it
 * is read, and a record is copied once before anything in it is looked at. Nothing here blocks. */
#ifndef MMSB_RING_H
#define MMSB_RING_H

#include "alloc.h"
#include "memory.h"
#include "patience.h"
#include "status.h"

#define MMSB_RING_MAGIC "MMSBRNG1"
#define MMSB_RING_LAYOUT 1
#define MMSB_RING_HEAD_BYTES 4096
#define MMSB_RING_RECORD_HEAD_BYTES 8
#define MMSB_RING_BYTES_MIN ((uint64_t)1 << 12)
#define MMSB_RING_BYTES_MAX ((uint64_t)1 << 30)

/* The first page. An index counts bytes since the ring was made and stands alone on its cache line: two sides that
 * write one line would wait for each other. */
typedef struct mmsb_ring_shared {
    uint8_t magic[8];
    uint32_t layout;
    uint32_t reserved;
    uint64_t command_bytes, completion_bytes; /* of the two queues, which follow the head; powers of two */
    _Alignas(64) uint64_t command_tail;       /* stored by the client */
    _Alignas(64) uint64_t command_head;       /* stored by the owner */
    _Alignas(64) uint64_t completion_tail;    /* stored by the owner; its low half is the futex of the client */
    _Alignas(64) uint64_t completion_head;    /* stored by the client */
    _Alignas(64) uint32_t waiting;            /* threads of the client that wait; only the client counts */
} mmsb_ring_shared;

_Static_assert(sizeof(mmsb_ring_shared) <= MMSB_RING_HEAD_BYTES, "the head is one page");

/* One side of one queue. */
typedef struct mmsb_ring_end {
    uint8_t *area;
    uint64_t capacity;
    uint64_t *tail_at, *head_at; /* in the shared head */
    uint64_t here;               /* own index: the tail of a writer, the head of a reader */
    uint64_t there;              /* the other one's, as it was when last looked at */
    const char *broken;          /* what the other side did against the protocol; NULL: nothing */
} mmsb_ring_end;

/* Makes a ring. Sizes are powers of two, MMSB_RING_BYTES_MIN to MMSB_RING_BYTES_MAX. MMSB_OK, BAD_SIZE, NO_MEMORY. */
int mmsb_ring_create(mmsb_memory *memory, uint64_t command_bytes, uint64_t completion_bytes);

/* Maps a ring that was handed over; `memory` then owns `fd`. MMSB_OK; BAD_HEADER, NEWER_VERSION, NO_MEMORY: then `fd`
 * is still the caller's. */
int mmsb_ring_map(mmsb_memory *memory, int fd);

/* The two queues of a ring that was just made or just mapped. */
void mmsb_ring_ends(const mmsb_memory *memory, mmsb_ring_end *commands, mmsb_ring_end *completions);

/* Longest record of a queue: it must fit behind any padding. */
static inline uint64_t mmsb_ring_record_max(const mmsb_ring_end *end) { return end->capacity / 2; }

/* Room for a record of `bytes`, at most mmsb_ring_record_max; NULL while there is none, or when the reader lies. What
 * is written there counts once mmsb_ring_put was called. */
uint8_t *mmsb_ring_reserve(mmsb_ring_end *writer, uint64_t bytes);

/* The record at the reserved place is complete; its first word is stored here. `kind` is not 0. */
void mmsb_ring_put(mmsb_ring_end *writer, uint8_t *record, uint32_t bytes, uint8_t kind, uint8_t flags, uint16_t more);

/* Shows everything put so far to the reader. */
static inline void mmsb_ring_publish(mmsb_ring_end *writer) {
    __atomic_store_n(writer->tail_at, writer->here, __ATOMIC_RELEASE);
}

/* Copies the next published record. MMSB_OK; END when there is none; RING_BROKEN (see `broken`), NO_MEMORY: nothing was
 * taken. The room goes back with mmsb_ring_release. */
int mmsb_ring_take(mmsb_ring_end *reader, const mmsb_alloc *alloc, mmsb_buffer *record);

/* Gives the room of all records taken so far back to the writer. */
static inline void mmsb_ring_release(mmsb_ring_end *reader) {
    __atomic_store_n(reader->head_at, reader->here, __ATOMIC_RELEASE);
}

/* Bytes that the writer says it has published and the reader has not taken. */
static inline uint64_t mmsb_ring_pending(const mmsb_ring_end *reader) {
    return __atomic_load_n(reader->tail_at, __ATOMIC_ACQUIRE) - reader->here;
}

/* ---- waiting (ring_wait.c); docs/understand/commands.md says why no wake-up is lost */

/* The client has published commands, or taken completions: rings the owner's bell, an eventfd, if the owner sleeps. */
void mmsb_ring_call_owner(const uint32_t *sleeping, int bell);

/* The owner goes to sleep: from now on clients ring. It must look once more at every ring before it really waits. */
void mmsb_ring_fall_asleep(uint32_t *sleeping);
void mmsb_ring_stay_awake(uint32_t *sleeping);

/* The owner has published completions: wakes the client if it waits. */
void mmsb_ring_wake_client(mmsb_ring_shared *shared);

/* The client waits until the completion tail is no longer `seen`: true; false after `timeout_ns`, or earlier when a
 * signal comes. Several threads may wait. */
bool mmsb_ring_await_owner(mmsb_ring_shared *shared, uint64_t seen, mmsb_patience *patience, uint64_t timeout_ns);

#endif
