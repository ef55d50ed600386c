/* Derived index of one segment: which of its changes touch a page, under which seq stand a name, a label, a frame.
 *
 * Built by scanning verified frames, extended as the active segment grows, never stored. It keeps offsets and no bytes:
 * whoever asks brings the segment's bytes again, and what stands at an offset is parsed with bounds and compared with
 * what the index expects, so a file that changed meanwhile gives MMSB_BAD_FRAME and never another page's bytes.
 *
 * Every change that touches one page is a node. The nodes of a page are a chain, newest first, with skew-binary jump
 * pointers (Myers 1983): the newest node at or before a seq is found in O(log n) without a second structure. A name and
 * a label are keys with a chain of the same kind. Numbers of nodes and structures count from 1; 0 is none.
 *
 * Stills are made only for who reads pages again and again (index_stills.c). They are the one thing here that holds
 * bytes: what a page's changes from the segment's beginning up to a node come to. */
#ifndef MMSB_INDEX_H
#define MMSB_INDEX_H

#include "alloc.h"
#include "segment.h"

#define MMSB_NODE_NAME 64 /* kind of a node that says: this name was given to a page */

/* 32 bytes. `at`: offset of the change in the segment, its kind in the top 8 bits. */
typedef struct mmsb_index_node {
    uint64_t at;
    uint32_t seq_rel;   /* commit, counted from the segment's base */
    uint32_t index;     /* deltas before it in its commit */
    uint32_t prev;      /* next older node of the chain */
    uint32_t jump;      /* an older one, for search */
    uint32_t depth;     /* length of the chain from here on */
    uint32_t described; /* page: newest structure at or before this node; name: the structure that gave it */
} mmsb_index_node;

/* A change that is no delta: CREATE, DELETE, RESIZE, RENAME, METADATA. The ..._by fields number the structure of the
 * same page that decided that fact, 0 when it was decided before this segment. */
typedef struct mmsb_index_structure {
    uint64_t at;
    uint64_t page_id, count; /* count > 1: pages [page_id, page_id + count) were created; they get no node */
    uint64_t size;           /* of the page after it; 0: not known from this segment */
    uint32_t seq_rel;
    uint32_t node;
    uint32_t quiet; /* nodes of the page up to here that did not raise its epoch */
    uint32_t name_by, metadata_by, created_by;
    uint8_t page_kind;
} mmsb_index_structure;

/* A commit: where its frame stands, in units of MMSB_FRAME_UNIT_BYTES, and how many nodes there are up to its end. */
typedef struct mmsb_index_commit {
    uint32_t units, nodes;
} mmsb_index_commit;

typedef struct mmsb_index_source {
    uint64_t id, at;
} mmsb_index_source;

/* Place of the hash table: the newest node of a key. Page ids are keys; names and labels have the top bits set. */
typedef struct mmsb_index_place {
    uint64_t key;
    uint32_t newest; /* 0: free */
    uint32_t reel;   /* of a page: its stills, 0: none yet */
} mmsb_index_place;

#define MMSB_STILL_BLOCK_BYTES 64

/* Bytes [64 * number, 64 * number + 64) of a page: those whose bit is set were written. */
typedef struct mmsb_still_block {
    uint64_t number, written;
    uint8_t bytes[MMSB_STILL_BLOCK_BYTES];
} mmsb_still_block;

/* What the changes of a page since commit `since` make of whatever it was then: cut it to `clip` bytes, give it `size`
 * bytes, lay the written bytes over it. */
typedef struct mmsb_still {
    uint64_t since;   /* where this segment begins, or an older one whose stills were carried on; as in the log */
    uint64_t clip;    /* UINT64_MAX: nothing was cut off */
    uint64_t size;    /* 0: it has the size that it had before */
    uint64_t covered; /* bytes [0, covered) are all written or cut off */
    uint64_t reach;   /* no byte from there on is written */
    uint32_t block_count;
    uint32_t change_count; /* since the still before it: their nodes stand after the blocks, newest first, and then
                            * their payloads, oldest first (the tape) */
    mmsb_still_block blocks[];
} mmsb_still;

typedef struct mmsb_still_place {
    uint32_t node;        /* the newest one in it */
    uint32_t block_count; /* of the still, to know what to fetch before it is looked at */
    mmsb_still *still;
} mmsb_still_place;

/* The stills of one page, oldest first. */
typedef struct mmsb_still_reel {
    mmsb_buffer places; /* mmsb_still_place */
    uint64_t charge;    /* bytes of log since the newest still */
    uint64_t due;       /* the next one is tried when charge reaches this */
    bool closed;        /* no more are made */
} mmsb_still_reel;

typedef struct mmsb_index {
    const mmsb_alloc *alloc;
    mmsb_log_cursor cursor; /* where scanning goes on */
    mmsb_buffer nodes, structures, sources, commits, ranges, labels;
    mmsb_index_place *places;
    uint64_t place_count; /* a power of two, or 0 */
    uint64_t keys;
    mmsb_buffer reels;    /* mmsb_still_reel */
    uint64_t still_bytes; /* memory of the stills */
    uint64_t still_least; /* bytes of log of a page between two stills, at least. 0: a still after each change */
    uint32_t stilled;     /* nodes up to here were looked at for stills */
    bool broken;          /* a frame was taken in half; the index must be thrown away */
} mmsb_index;

/* What a segment knows of a page in (seq_from, seq_to]. Structures count from 1, 0: not decided here. */
typedef struct mmsb_index_facts {
    uint64_t gained; /* by how much the epoch rose; since creation if it was created here */
    uint64_t size;   /* 0: decided before */
    uint32_t node;   /* newest node at or before seq_to (also one at or before seq_from) */
    uint32_t name_by, metadata_by;
    bool created, deleted;
    uint8_t page_kind; /* when created */
} mmsb_index_facts;

/* Why a collection of changes ended. */
enum {
    MMSB_COLLECT_OPEN = 0,    /* the page as it was at seq_from is needed */
    MMSB_COLLECT_CREATED = 1, /* the page begins here: the oldest node is its CREATE, or it begins as `size` zeros */
    MMSB_COLLECT_DELETED = 2, /* the page does not exist at seq_to */
    MMSB_COLLECT_COVERED = 3, /* the still, or else the oldest node, replaces all `size` bytes */
};

/* What the page's bytes depend on, oldest first: what it was at seq_from if `end` says so, the still, the changes on
 * the tape from after node tape_from to node tape_to, the numbers. */
typedef struct mmsb_index_collection {
    uint64_t size;           /* in: of the page at seq_to, 0: unknown. out: see above; OPEN: at seq_from, 0: unknown */
    const mmsb_still *still; /* out: stands for what is older, back to still->since; NULL: there is none */
    const mmsb_still *tape;  /* out: NULL: there is none */
    uint32_t tape_from, tape_to;
    int end; /* MMSB_COLLECT_* */
} mmsb_index_collection;

/* A page's bytes while its changes are applied. Zero it to begin. */
typedef struct mmsb_index_page {
    mmsb_buffer bytes; /* size: of the page */
} mmsb_index_page;

/* Sums over commits. `pages` says whether the keys are page ids (bytes are those of the changes) or source ids (bytes
 * are those of the frames). */
typedef struct mmsb_index_sum {
    uint64_t key, commits, deltas, changed_bytes, log_bytes;
    uint64_t last_seq; /* internal: the commit counted last, + 1 */
} mmsb_index_sum;

static inline const mmsb_index_node *mmsb_index_node_at(const mmsb_index *index, uint32_t number) {
    return (const mmsb_index_node *)index->nodes.data + (number - 1);
}
static inline const mmsb_index_structure *mmsb_index_structure_at(const mmsb_index *index, uint32_t number) {
    return (const mmsb_index_structure *)index->structures.data + (number - 1);
}
static inline uint8_t mmsb_index_kind(uint64_t at) { return (uint8_t)(at >> 56); }
static inline uint64_t mmsb_index_offset(uint64_t at) { return at & (((uint64_t)1 << 56) - 1); }
static inline uint32_t mmsb_index_node_count(const mmsb_index *index) {
    return (uint32_t)(index->nodes.size / sizeof(mmsb_index_node));
}
static inline uint32_t mmsb_index_structure_count(const mmsb_index *index) {
    return (uint32_t)(index->structures.size / sizeof(mmsb_index_structure));
}
static inline uint32_t mmsb_index_seq_count(const mmsb_index *index) {
    return (uint32_t)(index->commits.size / sizeof(mmsb_index_commit));
}

/* Changes lie all over a segment, and so do their nodes: while one is done, what a later one needs is fetched. */
#define MMSB_INDEX_FETCH_AHEAD 8
static inline void mmsb_index_fetch(const mmsb_index *index, const uint8_t *bytes, const uint32_t *numbers,
                                    uint64_t before) {
    if (before >= 2 * MMSB_INDEX_FETCH_AHEAD)
        __builtin_prefetch(mmsb_index_node_at(index, numbers[before - 2 * MMSB_INDEX_FETCH_AHEAD]));
    if (before >= MMSB_INDEX_FETCH_AHEAD)
        __builtin_prefetch(bytes +
                           mmsb_index_offset(mmsb_index_node_at(index, numbers[before - MMSB_INDEX_FETCH_AHEAD])->at));
}

/* index.c: building */
void mmsb_index_init(mmsb_index *index, const mmsb_alloc *alloc, const mmsb_kernels *kernels,
                     const mmsb_segment_head *head);
void mmsb_index_release(mmsb_index *index);

/* Takes in the frames that were added since: bytes[0, available) is the segment. MMSB_OK when the log ends there;
 * otherwise what mmsb_log_cursor_next says, BAD_FRAME, FRAME_TOO_LARGE or NO_MEMORY. */
int mmsb_index_extend(mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available);

/* Bytes of memory that the index holds. */
uint64_t mmsb_index_bytes(const mmsb_index *index);

/* How many nodes there are up to the end of a commit: they are numbered in the order of commits. */
uint32_t mmsb_index_nodes_until(const mmsb_index *index, uint64_t seq_to);

/* Newest node of a key, 0 when there is none. */
uint32_t mmsb_index_newest(const mmsb_index *index, uint64_t key);
mmsb_index_place *mmsb_index_place_of(const mmsb_index *index, uint64_t key); /* NULL: there is none */
uint64_t mmsb_index_name_key(const uint8_t *text, uint64_t text_bytes);
uint64_t mmsb_index_label_key(const uint8_t *text, uint64_t text_bytes);

/* Newest node of a chain, starting from `number`, with seq_rel <= seq_to. */
uint32_t mmsb_index_until(const mmsb_index *index, uint32_t number, uint64_t seq_to);

/* The newest node of a page with seq_rel <= seq_to: what mmsb_index_until finds from its newest, sooner. */
uint32_t mmsb_index_page_until(const mmsb_index *index, uint64_t page_id, uint64_t seq_to);

/* How often the page's epoch had been raised in this segment after this node. */
uint64_t mmsb_index_rank(const mmsb_index *index, uint32_t number);

/* The structure that created the page together with others, 0 when none did. */
uint32_t mmsb_index_range_of(const mmsb_index *index, uint64_t page_id);

/* index_read.c: asking. `bytes` is the segment's memory up to at least index->cursor.offset. */

/* Parses the change of a node or structure. BAD_FRAME when what stands there is not that change. */
int mmsb_index_change(const mmsb_index *index, const uint8_t *bytes, uint64_t at, mmsb_change *change);

/* Parses the head of the frame of a commit, without its checksum. frame->changes and ->end lead into `bytes`. */
int mmsb_index_frame(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_rel, mmsb_log_frame *frame);

/* Number (seq_rel) of the last commit whose timestamp is not after time_ns; 0 when all are after. */
int mmsb_index_seq_at(const mmsb_index *index, const uint8_t *bytes, uint64_t time_ns, uint64_t *seq_rel);

/* First commit in [seq_from, seq_to] from source `source` (MMSB_ANY_SOURCE: any) with a change of one of `kinds` (bit
 * k: kind k; 0: any). 0 when there is none. */
#define MMSB_ANY_SOURCE UINT64_MAX
int mmsb_index_next_commit(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                           uint64_t source, uint64_t kinds, uint64_t *found);

void mmsb_index_facts_of(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                         mmsb_index_facts *facts);

/* Newest node of a name (name_key) or label (label_key) at or before seq_to whose text is equal. */
int mmsb_index_find_text(const mmsb_index *index, const uint8_t *bytes, uint64_t key, const uint8_t *text,
                         uint64_t text_bytes, uint64_t seq_to, uint32_t *number);

/* Whether a page is there at seq_to: 1 or 0, -1 when nothing in (seq_from, seq_to] touches it. */
int mmsb_index_has_page(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to);

/* Appends the numbers (u32) of a page's nodes in (seq_from, seq_to], newest first, as many as its bytes depend on. */
int mmsb_index_collect(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_from,
                       uint64_t seq_to, mmsb_buffer *numbers, mmsb_index_collection *collection);

/* Appends the numbers (u32) of all nodes of a page in (seq_from, seq_to], newest first. */
int mmsb_index_page_nodes(const mmsb_index *index, uint64_t page_id, uint64_t seq_from, uint64_t seq_to,
                          mmsb_buffer *numbers);

/* Applies nodes given newest first, so from the last one to the first. MMSB_OK, BAD_FRAME, BAD_DELTA, NO_MEMORY. */
int mmsb_index_apply(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                     const uint32_t *numbers, uint64_t count, mmsb_index_page *page);

/* Newest delta of a page at or before seq_to that changes a byte of [*first, *end). A resize on the way clips the range
 * to what was left of it; *open is 0 when nothing older can have written it (then the answer is final). */
int mmsb_index_last_write(const mmsb_index *index, const uint8_t *bytes, uint64_t page_id, uint64_t seq_to,
                          uint64_t *first, uint64_t *end, uint32_t *number, int *open);

/* Oldest node of a page at which mmsb_index_rank is at least `rank`, at or before node `number`; 0 when none is. */
uint32_t mmsb_index_rank_node(const mmsb_index *index, uint32_t number, uint64_t rank);

/* Appends the ids (u64, repetitions possible) of pages touched by nodes in (seq_from, seq_to]. Ranges of created pages
 * are not among them: see the structures. */
int mmsb_index_touched(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                       mmsb_buffer *ids);

/* index_stills.c: stills, made for all pages at once. `bytes` as in index_read.c. */

static inline const uint32_t *mmsb_still_numbers(const mmsb_still *still) {
    return (const uint32_t *)(still->blocks + still->block_count);
}

/* Makes the stills of what was added since the last call, and carries on those of the segment before (NULL: of none).
 * MMSB_OK, BAD_FRAME, NO_MEMORY; a page whose changes are not what the index expects gets no more stills. */
int mmsb_index_add_stills(mmsb_index *index, const uint8_t *bytes, const mmsb_index *before);
void mmsb_index_release_stills(mmsb_index *index);

/* index_play.c: reading them. */

/* The newest still of a page in which no node is newer than `number`, NULL when there is none; *next: the one after it,
 * NULL when it is the newest. */
const mmsb_still_place *mmsb_index_still_until(const mmsb_index *index, const mmsb_index_place *page, uint32_t number,
                                               const mmsb_still_place **next);

/* Lays a still over what the page was at still->since, or at any commit from there on that the still holds. MMSB_OK,
 * BAD_DELTA when it does not fit, NO_MEMORY. */
int mmsb_still_lay(const mmsb_still *still, const mmsb_alloc *alloc, mmsb_index_page *page);

/* Applies the changes on a still's tape after node `from`, up to node `to`. As mmsb_index_apply. */
int mmsb_still_play(const mmsb_index *index, const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t page_id,
                    const mmsb_still *still, uint32_t from, uint32_t to, mmsb_index_page *page);

/* Gives a page another size: zeros are added. BAD_FRAME for 0. */
int mmsb_index_set_size(const mmsb_alloc *alloc, mmsb_index_page *page, uint64_t size);

/* Adds the commits in [seq_from, seq_to] up by source, and their changes by page: mmsb_index_sum each. */
int mmsb_index_usage(const mmsb_index *index, const uint8_t *bytes, uint64_t seq_from, uint64_t seq_to,
                     mmsb_buffer *sources, mmsb_buffer *pages);

#endif
