/* Private to links: child = A ⊗ x with the sparse matrix A in pages. */
#ifndef MMSB_LINK_MATRIX_H
#define MMSB_LINK_MATRIX_H

#include "link.h"

/* What is wrong with these sizes, or NULL. */
const char *mmsb_link_matrix_misfit(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size);

/* As mmsb_link_compute, with room for the child in result->bytes. */
int mmsb_link_matrix_compute(mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                             const mmsb_alloc *alloc, mmsb_link_result *result, const char **why);

void mmsb_link_columns_release(struct mmsb_link_columns *index, const mmsb_alloc *alloc);

#endif
