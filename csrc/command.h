/* What a client asks the owner to do, as a record of a ring, and what a client may ask. docs/formats/commands.md.
 *
 * A record comes from another process and may hold anything: it is parsed from the owner's own copy of it, and nothing
 * in it is believed before it was compared with its length. */
#ifndef MMSB_COMMAND_H
#define MMSB_COMMAND_H

#include "alloc.h"
#include "ring.h"
#include "status.h"

typedef enum mmsb_command_kind {
    MMSB_COMMAND_WRITE = 1,
    MMSB_COMMAND_ASSIGN = 2,
    MMSB_COMMAND_APPLY = 3,
    MMSB_COMMAND_CREATE = 4,
    MMSB_COMMAND_CREATE_MANY = 5,
    MMSB_COMMAND_DELETE = 6,
    MMSB_COMMAND_RESIZE = 7,
    MMSB_COMMAND_RENAME = 8,
    MMSB_COMMAND_METADATA = 9,
    MMSB_COMMAND_WRITE_MANY = 10,
    MMSB_COMMAND_BATCH = 11,
} mmsb_command_kind;

enum {
    MMSB_COMMAND_IF_EPOCH = 1,
    MMSB_COMMAND_REBASE = 2,
    MMSB_COMMAND_DETACH = 4,
    MMSB_COMMAND_NO_WAVE = 8,
    MMSB_COMMAND_FLAGS = 15,
};

typedef enum mmsb_command_durability {
    MMSB_COMMAND_AS_OPENED = 0,
    MMSB_COMMAND_PROCESS = 1,
    MMSB_COMMAND_GROUP = 2,
    MMSB_COMMAND_POWER = 3,
} mmsb_command_durability;

/* A record begins with this, in the byte order of the machine, which is little-endian; source, intent and body follow.
 * bytes, kind, flags, durability and code are the first word of a ring's record. */
typedef struct mmsb_command_head {
    uint32_t bytes; /* of the record, this head included and padding not */
    uint8_t kind, flags, durability;
    uint8_t code;      /* APPLY: encoding of the delta */
    uint64_t number;   /* of the command, counted from 1 for each client; 0 inside a batch */
    uint64_t page_id;  /* with MMSB_COMMAND_CREATED: a page that this batch creates, counted from 0 */
    uint64_t at;       /* WRITE, ASSIGN: offset. CREATE, CREATE_MANY, RESIZE: bytes of a page */
    uint64_t if_epoch; /* with MMSB_COMMAND_IF_EPOCH. CREATE_MANY, WRITE_MANY, BATCH: how many; CREATE: lengths */
    uint16_t source_bytes, reserved;
    uint32_t intent_bytes;
} mmsb_command_head;

_Static_assert(sizeof(mmsb_command_head) == 48, "docs/formats/commands.md");

#define MMSB_COMMAND_CREATED ((uint64_t)1 << 63)
#define MMSB_COMMAND_SOURCE_MAX 4096

/* CREATE: name, rule of a merge page and metadata stand before the content; their lengths are packed into if_epoch. */
static inline uint64_t mmsb_command_lengths(uint32_t name, uint32_t rule, uint32_t metadata) {
    return (uint64_t)name | (uint64_t)rule << 20 | (uint64_t)metadata << 32;
}
#define MMSB_COMMAND_NAME_MAX 65536
#define MMSB_COMMAND_RULE_MAX 4095

typedef struct mmsb_command {
    mmsb_command_head head;
    const uint8_t *source, *intent;
    const uint8_t *name, *rule, *metadata; /* CREATE; name: also RENAME, label of a BATCH; metadata: also METADATA */
    uint64_t name_bytes, rule_bytes, metadata_bytes;
    const uint8_t *data; /* WRITE, ASSIGN, CREATE, WRITE_MANY: bytes. APPLY: payload. BATCH: the records inside */
    uint64_t data_bytes;
    const uint8_t *numbers; /* WRITE_MANY: ids, offsets, lengths, each head.if_epoch numbers of 8 bytes */
} mmsb_command;

/* Takes apart one record of `bytes`; the parts point into it. MMSB_OK or BAD_COMMAND. The inside of a batch is checked
 * as well. */
int mmsb_command_parse(const uint8_t *record, uint64_t bytes, mmsb_command *command);

/* The next record inside a batch: *at is an offset in batch->data, 0 at the start. MMSB_OK or END. */
int mmsb_command_next(const mmsb_command *batch, uint64_t *at, mmsb_command *inside);

/* What a client may change. */
typedef struct mmsb_rights {
    bool every_page;   /* else only those in `pages` */
    bool creates;      /* pages; what it creates it may change */
    bool deletes;      /* pages that it may change */
    mmsb_buffer pages; /* ids, ascending, 8 bytes each */
} mmsb_rights;

/* Adds `count` pages from `first` on. MMSB_OK or NO_MEMORY. */
int mmsb_rights_add(mmsb_rights *rights, const mmsb_alloc *alloc, uint64_t first, uint64_t count);
bool mmsb_rights_change(const mmsb_rights *rights, uint64_t page_id);

typedef enum mmsb_right {
    MMSB_RIGHT_CHANGE = 1,
    MMSB_RIGHT_CREATE,
    MMSB_RIGHT_DELETE,
} mmsb_right;

/* The right that was missing, and the page to which; page 0: none in particular. */
typedef struct mmsb_refusal {
    mmsb_right right;
    uint64_t page_id;
} mmsb_refusal;

/* Whether the client may do all that a parsed command says: MMSB_OK, or NO_RIGHT and why. */
int mmsb_rights_check(const mmsb_rights *rights, const mmsb_command *command, mmsb_refusal *why);

/* What the owner answers to each command, in their order. The facts of a failure (mmsb.failures) follow. */
typedef struct mmsb_completion {
    uint32_t bytes;
    uint8_t kind;   /* MMSB_COMPLETION */
    uint8_t status; /* mmsb_completion_status */
    uint16_t reserved;
    uint64_t number;
    uint64_t seq;        /* of the commit; 0: none */
    uint64_t epoch;      /* of the page, that a single write left; else 0 */
    uint64_t first_page; /* id of the first page created; they follow each other. Else 0 */
} mmsb_completion;

_Static_assert(sizeof(mmsb_completion) == 40, "docs/formats/commands.md");

enum { MMSB_COMPLETION = 1 };

typedef enum mmsb_completion_status {
    MMSB_COMPLETION_DONE = 0,
    MMSB_COMPLETION_UNCHANGED = 1,
    MMSB_COMPLETION_FAILED = 2,
} mmsb_completion_status;

#define MMSB_COMPLETION_BYTES_MAX 2048

#endif
