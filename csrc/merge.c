#include "merge.h"

int mmsb_merge_write(const mmsb_semiring *semiring, uint8_t *bytes, uint64_t offset, const uint8_t *operand,
                     uint64_t length) {
    if (offset % semiring->lane_bytes != 0 || length % semiring->lane_bytes != 0) return MMSB_BAD_LANES;
    semiring->add(semiring, bytes, operand, length / semiring->lane_bytes);
    return mmsb_semiring_take_failure(semiring) ? MMSB_MERGE_FAILED : MMSB_OK;
}

int mmsb_merge_delta(const mmsb_semiring *semiring, uint8_t *bytes, const mmsb_delta_view *delta, uint8_t *spare) {
    /* Runs that touch are one stretch: an encoding may part a lane between two of them. */
    mmsb_run_cursor run = {0};
    uint64_t from = delta->first, to = delta->first;
    for (bool more = true; more;) {
        more = mmsb_delta_next_run(delta, &run);
        if (!more || run.offset != to) {
            int status = mmsb_merge_write(semiring, bytes + (from - delta->first), from, spare, to - from);
            if (status != MMSB_OK) return status;
            from = to = run.offset;
        }
        if (!more) break;
        memcpy(spare + (to - from), run.values, run.length);
        to += run.length;
    }
    return MMSB_OK;
}
