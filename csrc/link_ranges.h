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

/* What a result is made of while it is gathered: runs of the bytes that differ, and where their values end. */
typedef struct mmsb_link_differences {
    mmsb_run *runs; /* room for as many as mmsb_link_runs_max of every range that is added */
    uint64_t count;
    uint8_t *values;
} mmsb_link_differences;

static inline uint64_t mmsb_link_runs_max(uint64_t length) { return (length + 1) / 2; }

/* Adds the bytes of a range of the child, behind the ranges added so far, in which `old` and `fresh` differ. The values
 * may be gathered in the buffer of `fresh`, from its front. */
static inline void mmsb_link_add_differences(mmsb_link_differences *d, const uint8_t *old, const uint8_t *fresh,
                                             uint64_t offset, uint64_t length) {
    const uint64_t low = 0x7f7f7f7f7f7f7f7f;
    for (uint64_t at = 0; at < length; at += 8) {
        uint64_t a = 0, b = 0, n = mmsb_min_u64(8, length - at);
        memcpy(&a, old + at, n);
        memcpy(&b, fresh + at, n);
        uint64_t x = a ^ b;
        uint64_t mask = (((((x & low) + low) | x) & ~low) >> 7) * 0xff; /* all bits of the bytes that differ */
        while (mask != 0) {
            uint64_t rest = mask + (mask & -mask), first = (uint64_t)__builtin_ctzll(mask) / 8;
            uint64_t end = rest == 0 ? 8 : (uint64_t)__builtin_ctzll(rest) / 8;
            mask &= rest;
            for (uint64_t i = first; i < end; i++) *d->values++ = fresh[at + i];
            mmsb_run *last = d->runs + d->count;
            if (d->count != 0 && last[-1].offset + last[-1].length == offset + at + first)
                last[-1].length += end - first;
            else
                d->runs[d->count++] = (mmsb_run){offset + at + first, end - first};
        }
    }
}

static inline mmsb_run *mmsb_link_ranges(const mmsb_buffer *ranges, uint64_t *count) {
    *count = ranges->size / sizeof(mmsb_run);
    return (mmsb_run *)(void *)ranges->data;
}

#endif
