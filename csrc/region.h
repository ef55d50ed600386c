/* Memory that another process hands over by its descriptor: checked, then mapped. */
#ifndef MMSB_REGION_H
#define MMSB_REGION_H

#include "base.h"

enum {
    MMSB_REGION_SEALED = 2, /* refused unless its size can never shrink: reading it can then never fail */
    MMSB_REGION_GROWS = 4,  /* may be shorter than that now; the caller reads only what is there */
};

/* Maps the first `bytes` of `fd`, shared. MMSB_OK; MMSB_BAD_SIZE when it is empty, shorter than that or may be cut
 * later, MMSB_NO_MEMORY. The descriptor is left open. */
int mmsb_region_map(int fd, uint64_t bytes, unsigned flags, uint8_t **base);
void mmsb_region_unmap(uint8_t *base, uint64_t bytes);

#endif
