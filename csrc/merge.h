/* Merge pages: what is written is joined with what is there, page ⊕ operand, over whole lanes of the page's semiring.
 * The log gets the bytes that come out, so that replay knows nothing of semirings. docs/understand/merge-pages.md. */
#ifndef MMSB_MERGE_H
#define MMSB_MERGE_H

#include "delta.h"
#include "semiring.h"
#include "status.h"

/* How many semirings the merge pages of one State may have between them: their place stands in one byte of a header. */
#define MMSB_MERGES_MAX 255

/* bytes[0,length), which stand at `offset` of the page, become themselves ⊕ operand. MMSB_OK; MMSB_BAD_LANES when that
 * is no run of whole lanes; MMSB_MERGE_FAILED when the semiring's own code failed, and then the bytes are anything. */
int mmsb_merge_write(const mmsb_semiring *semiring, uint8_t *bytes, uint64_t offset, const uint8_t *operand,
                     uint64_t length);

/* The same with a delta as the operand: `bytes` stand at delta->first of the page, and each stretch of bytes that the
 * delta names must be whole lanes. `spare` has room for delta->end - delta->first bytes. */
int mmsb_merge_delta(const mmsb_semiring *semiring, uint8_t *bytes, const mmsb_delta_view *delta, uint8_t *spare);

#endif
