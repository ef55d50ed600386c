/* What an owner and the processes that attach to it share: the page that the owner writes, the words that a client
 * writes, and the messages between them. docs/formats/shared.md is the page that explains them; a test compares the
 * two. */
#ifndef MMSB_SHARED_H
#define MMSB_SHARED_H

#include "base.h"

#define MMSB_SHARED_LAYOUT 1
#define MMSB_SHARED_BYTES 4096
#define MMSB_CLIENTS_MAX 64

/* The first and only page of a memfd that clients map for reading. Log positions, see mmsb_log_position. */
typedef struct mmsb_shared {
    uint8_t magic[8]; /* "MMSBSHR1" */
    uint32_t layout;
    uint32_t owner_pid;
    _Alignas(64) uint64_t tail;    /* end of the last published frame */
    _Alignas(64) uint64_t applied; /* end of the last frame whose changes are in the pages */
    uint64_t seq;                  /* of the last commit applied; stored before `applied` */
    _Alignas(64) uint64_t durable_seq;
    _Alignas(64) uint32_t bell;  /* changes with every commit while somebody is attached */
    _Alignas(64) uint64_t grown; /* messages about memory that came or went, so far */
    uint64_t described_seq;      /* of the last commit that changed names, metadata or what has them */
    uint64_t next_page_id;       /* ids below it were given */
    _Alignas(64) uint64_t admitted[MMSB_CLIENTS_MAX]; /* by place: the client's number; 0: nobody, or dropped */
} mmsb_shared;

#define MMSB_SHARED_AT_MAGIC 0
#define MMSB_SHARED_AT_LAYOUT 8
#define MMSB_SHARED_AT_OWNER_PID 12
#define MMSB_SHARED_AT_TAIL 64
#define MMSB_SHARED_AT_APPLIED 128
#define MMSB_SHARED_AT_SEQ 136
#define MMSB_SHARED_AT_DURABLE_SEQ 192
#define MMSB_SHARED_AT_BELL 256
#define MMSB_SHARED_AT_GROWN 320
#define MMSB_SHARED_AT_DESCRIBED_SEQ 328
#define MMSB_SHARED_AT_NEXT_PAGE_ID 336
#define MMSB_SHARED_AT_ADMITTED 384

_Static_assert(offsetof(mmsb_shared, tail) == MMSB_SHARED_AT_TAIL, "");
_Static_assert(offsetof(mmsb_shared, applied) == MMSB_SHARED_AT_APPLIED, "");
_Static_assert(offsetof(mmsb_shared, seq) == MMSB_SHARED_AT_SEQ, "");
_Static_assert(offsetof(mmsb_shared, durable_seq) == MMSB_SHARED_AT_DURABLE_SEQ, "");
_Static_assert(offsetof(mmsb_shared, bell) == MMSB_SHARED_AT_BELL, "");
_Static_assert(offsetof(mmsb_shared, grown) == MMSB_SHARED_AT_GROWN, "");
_Static_assert(offsetof(mmsb_shared, described_seq) == MMSB_SHARED_AT_DESCRIBED_SEQ, "");
_Static_assert(offsetof(mmsb_shared, next_page_id) == MMSB_SHARED_AT_NEXT_PAGE_ID, "");
_Static_assert(offsetof(mmsb_shared, admitted) == MMSB_SHARED_AT_ADMITTED, "");
_Static_assert(sizeof(mmsb_shared) <= MMSB_SHARED_BYTES, "it is one page");

/* The only memory that a client writes and the owner reads: hostile input. One page of a memfd of the client. */
#define MMSB_WORDS_BYTES 4096
#define MMSB_NOT_READING UINT64_MAX

typedef struct mmsb_words {
    uint8_t magic[8];              /* "MMSBCLI1" */
    _Alignas(64) uint64_t reading; /* `applied` as it was when the read under way began; MMSB_NOT_READING */
    uint64_t seen_seq;             /* of the newest commit that the client has read, or followed last; for people */
    uint32_t waiting;              /* threads that wait for the bell */
} mmsb_words;

#define MMSB_WORDS_AT_MAGIC 0
#define MMSB_WORDS_AT_READING 64
#define MMSB_WORDS_AT_SEEN_SEQ 72
#define MMSB_WORDS_AT_WAITING 80

_Static_assert(offsetof(mmsb_words, reading) == MMSB_WORDS_AT_READING, "");
_Static_assert(offsetof(mmsb_words, seen_seq) == MMSB_WORDS_AT_SEEN_SEQ, "");
_Static_assert(offsetof(mmsb_words, waiting) == MMSB_WORDS_AT_WAITING, "");

/* A message: this header, then `count` entries or as the kind says. */
#define MMSB_MESSAGE_MAGIC "MMSBMSG1"
#define MMSB_MESSAGE_HEADER_BYTES 32
#define MMSB_MESSAGE_AT_MAGIC 0
#define MMSB_MESSAGE_AT_KIND 8
#define MMSB_MESSAGE_AT_COUNT 12
#define MMSB_MESSAGE_AT_GROWN 16
#define MMSB_MESSAGE_AT_LAYOUT 24

enum {
    MMSB_MESSAGE_HELLO = 1,   /* from the client, with its words */
    MMSB_MESSAGE_WELCOME = 2, /* with the shared page */
    MMSB_MESSAGE_REGIONS = 3, /* entries; one descriptor for each that did not go */
    MMSB_MESSAGE_NAMES = 4,   /* with a table of names and metadata */
    MMSB_MESSAGE_REFUSED = 5,
    MMSB_MESSAGE_STATUS = 6, /* asked by whoever connects, and answered with JSON */
    MMSB_MESSAGE_RING = 7,   /* asked by a client, and answered with the ring for its commands */
};

/* A piece of memory that came or went. */
#define MMSB_ENTRY_BYTES 24
#define MMSB_ENTRY_AT_KIND 0
#define MMSB_ENTRY_AT_NUMBER 4
#define MMSB_ENTRY_AT_BYTES 8
#define MMSB_ENTRY_AT_FLAGS 16

enum {
    MMSB_REGION_HEADERS = 1, /* chunk `number` of the page headers */
    MMSB_REGION_PAGES = 2,   /* arena segment `number` */
    MMSB_REGION_LOG = 3,     /* log segment `number` */
};

#define MMSB_ENTRY_GONE 1 /* flag: the number stands for nothing any more */

#endif
