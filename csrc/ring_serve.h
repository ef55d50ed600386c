/* The owner's side of the ring of one client: takes commands, does the plain ones, and hands up the others. */
#ifndef MMSB_RING_SERVE_H
#define MMSB_RING_SERVE_H

#include "command.h"
#include "core.h"
#include "ring.h"

/* A source is remembered when it is at most this long; commands of others are handed up. */
#define MMSB_CLIENT_SOURCE_MAX 64

typedef struct mmsb_client {
    mmsb_memory memory;
    mmsb_ring_shared *shared;
    mmsb_ring_end commands, completions;
    const mmsb_alloc *alloc;
    mmsb_rights rights;
    mmsb_buffer record;   /* the owner's copy of the command being done */
    mmsb_command command; /* the same, taken apart */
    bool taken;           /* `record` holds a command without a completion */
    int verdict;          /* on it: MMSB_OK, BAD_COMMAND, or NO_RIGHT because of `refusal` */
    mmsb_refusal refusal;
    uint64_t number;      /* of the last command taken */
    uint64_t unpublished; /* completions since the last publication */
    const char *broken;   /* what the client did against the protocol; NULL: nothing */
    bool gone;            /* nobody takes its completions any more */
    uint64_t failed;      /* commands that were refused */
    uint32_t source_index, source_bytes;
    uint8_t source[MMSB_CLIENT_SOURCE_MAX]; /* the last source that was handed up, and its index in the State */
} mmsb_client;

/* What may happen in one call, and how much of it. */
typedef struct mmsb_turn {
    bool direct;             /* plain writes may go into the core */
    bool merges;             /* those to merge pages, too */
    uint64_t records, bytes; /* left of the turn */
    uint64_t commits;        /* made */
} mmsb_turn;

typedef enum mmsb_served {
    MMSB_SERVED_ALL = 0,     /* no command is left */
    MMSB_SERVED_TURN = 1,    /* the turn is over */
    MMSB_SERVED_COMMAND = 2, /* client->command is for the caller, who then calls mmsb_client_complete */
    MMSB_SERVED_FULL = 3,    /* the client must take completions first */
} mmsb_served;

/* Makes a client and its ring; it may do nothing yet. MMSB_OK, BAD_SIZE or NO_MEMORY. */
int mmsb_client_init(mmsb_client *client, const mmsb_alloc *alloc, uint64_t command_bytes, uint64_t completion_bytes);
/* Also of a client that is all zero bytes. The ring's memory goes when the other process lets go of it, too. */
void mmsb_client_release(mmsb_client *client);

/* Whether mmsb_client_serve would find anything to do. */
bool mmsb_client_is_ready(mmsb_client *client);

/* Whether one of them is ready, at once or before patience ends; NULL: at once. */
bool mmsb_clients_await(mmsb_client **clients, uint64_t count, mmsb_patience *patience);

/* Does commands in order until one of mmsb_served, or RING_BROKEN (see `broken`: drop the client), NO_MEMORY. What is
 * done is acknowledged and shown to the client on return. */
int mmsb_client_serve(mmsb_client *client, mmsb_core *core, mmsb_turn *turn);

/* Acknowledges the command that was handed up. Of `answer` status, seq, epoch and first_page count; `facts` are at most
 * MMSB_COMPLETION_BYTES_MAX - sizeof answer bytes. */
void mmsb_client_complete(mmsb_client *client, const mmsb_completion *answer, const uint8_t *facts,
                          uint32_t facts_bytes);

/* Gives room back, shows completions, and wakes the client. */
void mmsb_client_publish(mmsb_client *client);

/* The source of client->command is number `index` of the State. */
void mmsb_client_know_source(mmsb_client *client, uint32_t index);

#endif
