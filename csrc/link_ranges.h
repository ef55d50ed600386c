/* Private to links: which bytes may have changed, as mmsb_run in a buffer. */
#ifndef MMSB_LINK_RANGES_H
#define MMSB_LINK_RANGES_H

#include "link.h"

/* Appends what changed among the bytes of a page that `part` covers, rounded out to lanes and moved to where `part`
 * puts it. *budget counts down the bytes of masks that are worth reading. False: it is used up, or there is no memory;
 * either way the whole is to be computed. */
bool mmsb_link_ranges_add(mmsb_buffer *ranges, const mmsb_alloc *alloc, const mmsb_link_page *page,
                          const mmsb_link_copy *part, uint64_t lane_bytes, uint64_t *budget);

/* Makes the ranges ascending, disjoint and not touching; *total is the sum of their lengths. False: no memory. */
bool mmsb_link_ranges_join(mmsb_buffer *ranges, mmsb_buffer *spare, const mmsb_alloc *alloc, uint64_t *total);

static inline mmsb_run *mmsb_link_ranges(const mmsb_buffer *ranges, uint64_t *count) {
    *count = ranges->size / sizeof(mmsb_run);
    return (mmsb_run *)(void *)ranges->data;
}

#endif
