/* The owner's side of sharing its memory: who is attached, telling them of memory that comes and goes, waking them, and
 * keeping the slots that they may still be reading.
 *
 * Nothing here waits for a client. One that does not take its messages, or that keeps slots for too long, is dropped.
 * The caller lets one thread in at a time, as for the core. */
#ifndef MMSB_SHARING_H
#define MMSB_SHARING_H

#include "alloc.h"
#include "arena.h"
#include "shared.h"

typedef struct mmsb_attached {
    int fd;                  /* its socket; the caller closes it after mmsb_sharing_remove */
    uint32_t place;          /* in shared.admitted */
    uint64_t number;         /* counts the clients of this owner, from 1 */
    const mmsb_words *words; /* mapped for as long as it is here */
    bool dropped;
} mmsb_attached;

/* A slot that a page let go of. Clients whose read began at `position` or later cannot know it. */
typedef struct mmsb_kept_slot {
    uint64_t handle, size, position;
} mmsb_kept_slot;

typedef struct mmsb_sharing {
    mmsb_arena *arena;
    mmsb_shared *shared;
    const mmsb_alloc *alloc;
    mmsb_attached clients[MMSB_CLIENTS_MAX]; /* the first client_count */
    uint32_t client_count;
    uint32_t chunks_told;
    uint64_t next_number;
    mmsb_buffer kept; /* mmsb_kept_slot, ascending by position, from kept_at on */
    uint64_t kept_at; /* bytes of `kept` that were given back */
    uint64_t kept_bytes, kept_bytes_most;
    uint64_t drops; /* clients dropped so far */
} mmsb_sharing;

/* What memory a message is about; see shared.h. */
typedef struct mmsb_entry {
    uint32_t kind, number;
    uint64_t bytes, flags;
} mmsb_entry;

_Static_assert(sizeof(mmsb_entry) == MMSB_ENTRY_BYTES, "as the format says");

#define MMSB_ENTRIES_MAX 128 /* of one message; the kernel takes 253 descriptors */

void mmsb_sharing_init(mmsb_sharing *sharing, mmsb_arena *arena, mmsb_shared *shared, const mmsb_alloc *alloc);
/* Nothing will ever be committed again. Clients stay admitted, for what they map stays as it is; no slot goes back. */
void mmsb_sharing_release(mmsb_sharing *sharing);

/* Takes in a client; `words` stays mapped until it is removed. Returns its index, or MMSB_BAD_SIZE when there is no
 * place. What came before is told by mmsb_sharing_tell_all; what comes from now on is told by itself. */
int mmsb_sharing_add(mmsb_sharing *sharing, int fd, const mmsb_words *words);
/* Forgets the client with that socket. */
void mmsb_sharing_remove(mmsb_sharing *sharing, int fd);
/* Closes the connection of a client, which finds out before it trusts what it read last. */
void mmsb_sharing_drop(mmsb_sharing *sharing, mmsb_attached *client);

/* Sends a client all page memory there is. MMSB_OK, or MMSB_IO: it was dropped. */
int mmsb_sharing_tell_all(mmsb_sharing *sharing, mmsb_attached *client);
/* Sends one client entries with their descriptors. MMSB_OK, or MMSB_IO: it was dropped. */
int mmsb_sharing_tell(mmsb_sharing *sharing, mmsb_attached *client, const mmsb_entry *entries, const int *fds,
                      uint32_t count);
/* A log segment came (`fd` readable), or went (-1): every client is told. */
void mmsb_sharing_log(mmsb_sharing *sharing, uint32_t number, int fd, uint64_t bytes);

/* Before a frame is published: page memory that came or went since is told. */
void mmsb_sharing_announce(mmsb_sharing *sharing);
/* After a commit was applied: wakes who waits, and gives slots back. */
void mmsb_sharing_applied(mmsb_sharing *sharing);
/* Gives slots back that nobody reads any more. */
void mmsb_sharing_reclaim(mmsb_sharing *sharing);
/* A page let go of a slot. */
void mmsb_sharing_give(mmsb_sharing *sharing, uint64_t handle, uint64_t size);

#endif
