/* Native links: how a child page is computed from its parents without leaving C.
 *
 * A link is a pure function of its parents (and, where it accumulates, of the child). It knows no pages table and keeps
 * no state but the index of a matrix; whoever runs a wave hands over bytes and gets bytes back.
 *
 *   COPY      ranges of the parents go into ranges of the child, in order, so that a later one wins; the rest of the
 *             child stays. One copy of everything passes a page through.
 *   SEMIRING  child = 0 ⊕ w[0] ⊗ parent[0] ⊕ w[1] ⊗ parent[1] ..., lane by lane, in the order of the parents. A
 *             weight is one lane, or as many as the parent has. Accumulating: child = child ⊕ that.
 *   REDUCE    child, one lane, = 0 ⊕ fold_add(parent[0]) ⊕ fold_add(parent[1]) ...
 *   MATRIX    child = A ⊗ x. The parents are x (`columns` lanes) and A in compressed rows: row_start (u64[rows + 1]),
 *             column (u32 per entry), value (a lane per entry). Entries from row_start[rows] on are room to grow and
 *             are not looked at, so that pages of zeros are a matrix without entries.
 *
 * docs/understand/propagation.md tells what each costs and when less than the whole child is computed. */
#ifndef MMSB_LINK_H
#define MMSB_LINK_H

#include "alloc.h"
#include "delta.h"
#include "semiring.h"

typedef enum mmsb_link_type {
    MMSB_LINK_CALL = 0, /* a function outside C: no native link */
    MMSB_LINK_COPY = 1,
    MMSB_LINK_SEMIRING = 2,
    MMSB_LINK_REDUCE = 3,
    MMSB_LINK_MATRIX = 4,
} mmsb_link_type;

/* Bytes [from, from + bytes) of a parent go to [to, to + bytes) of the child. */
typedef struct mmsb_link_copy {
    uint64_t parent; /* its place among the parents */
    uint64_t from, to, bytes;
} mmsb_link_copy;

/* Places of the parents of a matrix link. */
enum { MMSB_LINK_X, MMSB_LINK_ROW_START, MMSB_LINK_COLUMN, MMSB_LINK_VALUE, MMSB_LINK_MATRIX_PARENTS };

struct mmsb_link_columns;

/* The arrays live as long as the link; they are the caller's, the index is the link's own. */
typedef struct mmsb_link {
    uint8_t type;
    bool accumulates; /* SEMIRING only: child = child ⊕ ...; ⊕ must be associative and idempotent */
    uint32_t parent_count, copy_count;
    const mmsb_semiring *semiring;   /* SEMIRING, REDUCE, MATRIX */
    const uint8_t *weights;          /* SEMIRING: parent_count lanes, or NULL: no multiplication */
    const uint8_t *lane_weights;     /* SEMIRING, instead of these: the weights of all lanes, parent by parent, or NULL.
                                        They may be as much as the parents are, so nobody copies them */
    const mmsb_link_copy *copies;    /* COPY: applied in order */
    uint64_t rows, columns;          /* MATRIX */
    struct mmsb_link_columns *index; /* MATRIX: what is known of the matrix; NULL until it is first computed with */
} mmsb_link;

/* An encoded delta, see delta.h. */
typedef struct mmsb_link_change {
    uint8_t code;
    const uint8_t *payload;
    uint64_t payload_bytes;
} mmsb_link_change;

/* A parent as it is now. The same epoch means the same bytes. */
typedef struct mmsb_link_page {
    const uint8_t *bytes;
    uint64_t size, epoch;
    bool whole;                      /* anything may have changed since the child was computed last */
    uint32_t change_count;           /* else: these deltas, and nothing more. A delta that does not */
    const mmsb_link_change *changes; /* parse for this size counts as `whole` */
} mmsb_link_page;

/* What came out. Zeroed before its first use; buffers are kept from call to call. */
typedef struct mmsb_link_result {
    bool whole;
    mmsb_buffer bytes; /* whole: the child's new content; else the values of the runs, one behind another */
    mmsb_buffer
        runs; /* not whole: mmsb_run, ascending, not touching, of the bytes that differ from `old` and no others.
                          None: the child stays as it is */
    mmsb_buffer scratch;
} mmsb_link_result;

/* Whether the link fits pages of these sizes; *why (static text) says what is wrong. Must hold before the link is
 * computed, and anew after a page changed its size. */
bool mmsb_link_check(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size, const char **why);

/* Computes the child anew. `old`: its content now, computed by this link unless every parent is `whole`. Where changes
 * are given, only what depends on them is computed, and the bytes are those of the full computation. MMSB_OK;
 * MMSB_NO_MEMORY; MMSB_BAD_LINK: the pages of a matrix do not make one, *why (static text) says what is wrong. */
int mmsb_link_compute(mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                      const mmsb_alloc *alloc, mmsb_link_result *result, const char **why);

/* Releases the index, which the next computation makes anew. */
void mmsb_link_release(mmsb_link *link, const mmsb_alloc *alloc);

void mmsb_link_result_release(mmsb_link_result *result, const mmsb_alloc *alloc);

#endif
