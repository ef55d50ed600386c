/* Copies, semiring links and reductions; what every link goes through. The buffer of the result serves as the child
 * while it is computed: where less than the whole is, only the ranges in result->runs of it are valid, and they are
 * moved together at the end. */
#include "link.h"

#include "link_matrix.h"
#include "link_ranges.h"

/* Up to here all bytes are computed sooner than it is known which of them have to be. */
#define FEW_BYTES 256

/* What stays in the first cache: an accumulating link computes as much before it adds it to the child. */
#define BLOCK_BYTES 4096

static const char *copies_misfit(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size) {
    if (link->copy_count == 0) return "it copies nothing";
    for (uint32_t i = 0; i < link->copy_count; i++) {
        const mmsb_link_copy *copy = &link->copies[i];
        if (copy->bytes == 0) return "a copy is empty";
        if (copy->parent >= link->parent_count) return "a copy names a parent that there is not";
        uint64_t size = parent_sizes[copy->parent];
        if (copy->from > size || copy->bytes > size - copy->from) return "a copy reads past the end of its parent";
        if (copy->to > child_size || copy->bytes > child_size - copy->to)
            return "a copy writes past the end of the child";
    }
    return NULL;
}

static const char *lanes_misfit(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size) {
    const mmsb_semiring *s = link->semiring;
    if (child_size % s->lane_bytes != 0) return "the child's size is no multiple of the lane";
    if (link->type == MMSB_LINK_REDUCE && child_size != s->lane_bytes)
        return "the child of a reduction is not one lane";
    for (uint32_t i = 0; i < link->parent_count; i++) {
        if (parent_sizes[i] % s->lane_bytes != 0) return "a parent's size is no multiple of the lane";
        if (link->type == MMSB_LINK_SEMIRING && parent_sizes[i] != child_size)
            return "a parent is not as long as the child";
    }
    const uint64_t needed = MMSB_LAW_ADD_ASSOCIATIVE | MMSB_LAW_ADD_IDEMPOTENT;
    if (link->accumulates && (s->laws & needed) != needed) return "only an associative, idempotent ⊕ can accumulate";
    return NULL;
}

bool mmsb_link_check(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size, const char **why) {
    *why = link->parent_count == 0                                 ? "it has no parent"
           : link->accumulates && link->type != MMSB_LINK_SEMIRING ? "only a semiring link accumulates"
           : link->type == MMSB_LINK_COPY                          ? copies_misfit(link, parent_sizes, child_size)
           : link->type < MMSB_LINK_COPY || link->type > MMSB_LINK_MATRIX ? "it is no native link"
           : link->semiring == NULL                                       ? "it has no semiring"
           : link->type == MMSB_LINK_MATRIX ? mmsb_link_matrix_misfit(link, parent_sizes, child_size)
                                            : lanes_misfit(link, parent_sizes, child_size);
    return *why == NULL;
}

/* The ranges of the child that depend on what changed, into result->runs. False: computing the whole is less work. */
static bool find_ranges(const mmsb_link *link, const mmsb_link_page *parents, uint64_t child_size,
                        const mmsb_alloc *alloc, mmsb_link_result *result) {
    if (child_size <= FEW_BYTES) return false;
    bool copies = link->type == MMSB_LINK_COPY;
    uint64_t lane_bytes = copies ? 1 : link->semiring->lane_bytes, budget = child_size, total;
    uint32_t count = copies ? link->copy_count : link->parent_count;
    for (uint32_t i = 0; i < count; i++) {
        mmsb_link_copy page = {i, 0, 0, child_size};
        const mmsb_link_copy *part = copies ? &link->copies[i] : &page;
        if (!mmsb_link_ranges_add(&result->runs, alloc, &parents[part->parent], part, lane_bytes, &budget))
            return false;
    }
    return mmsb_link_ranges_join(&result->runs, &result->scratch, alloc, &total) && total <= child_size / 3;
}

/* The result is the child as a whole. */
static int all_of_it(mmsb_link_result *result, uint64_t child_size) {
    result->whole = true;
    result->bytes.size = child_size;
    result->runs.size = 0;
    return MMSB_OK;
}

/* The result is what differs among the bytes that result->runs cover. */
static int only_ranges(mmsb_link_result *result, const uint8_t *old, const mmsb_alloc *alloc) {
    uint64_t count, runs_max = 0;
    const mmsb_run *ranges = mmsb_link_ranges(&result->runs, &count);
    for (uint64_t i = 0; i < count; i++) runs_max += mmsb_link_runs_max(ranges[i].length);
    if (!mmsb_buffer_reserve(&result->scratch, alloc, runs_max * sizeof(mmsb_run))) return MMSB_NO_MEMORY;
    uint8_t *bytes = result->bytes.data;
    mmsb_link_differences d = {(mmsb_run *)(void *)result->scratch.data, 0, bytes};
    for (uint64_t i = 0; i < count; i++)
        mmsb_link_add_differences(&d, old + ranges[i].offset, bytes + ranges[i].offset, ranges[i].offset,
                                  ranges[i].length);
    mmsb_buffer runs = result->scratch;
    result->scratch = result->runs;
    result->runs = runs;
    result->runs.size = d.count * sizeof *d.runs;
    result->bytes.size = (size_t)(d.values - bytes);
    return MMSB_OK;
}

/* The first range that ends behind `at`. */
static uint64_t first_behind(const mmsb_run *runs, uint64_t count, uint64_t at) {
    uint64_t low = 0;
    while (low < count) {
        uint64_t middle = low + (count - low) / 2;
        if (runs[middle].offset + runs[middle].length > at)
            count = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int compute_copies(const mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                          const mmsb_alloc *alloc, mmsb_link_result *result) {
    uint8_t *child = result->bytes.data;
    if (!find_ranges(link, parents, child_size, alloc, result)) {
        if (link->copies[0].bytes != child_size) memcpy(child, old, child_size);
        for (uint32_t i = 0; i < link->copy_count; i++) {
            const mmsb_link_copy *copy = &link->copies[i];
            memcpy(child + copy->to, parents[copy->parent].bytes + copy->from, copy->bytes);
        }
        return all_of_it(result, child_size);
    }
    uint64_t count;
    const mmsb_run *runs = mmsb_link_ranges(&result->runs, &count);
    for (uint32_t i = 0; i < link->copy_count; i++) {
        const mmsb_link_copy *copy = &link->copies[i];
        uint64_t end = copy->to + copy->bytes;
        for (uint64_t r = first_behind(runs, count, copy->to); r < count && runs[r].offset < end; r++) {
            uint64_t a = mmsb_max_u64(runs[r].offset, copy->to);
            uint64_t b = mmsb_min_u64(runs[r].offset + runs[r].length, end);
            memcpy(child + a, parents[copy->parent].bytes + copy->from + (a - copy->to), b - a);
        }
    }
    return only_ranges(result, old, alloc);
}

/* dst = 0 ⊕ w[0] ⊗ x[0] ⊕ w[1] ⊗ x[1] ..., where every lane of every parent has its own weight; `at`: where dst lies
 * in the child. */
static void combine_weighed_lanes(const mmsb_link *link, const uint8_t *const *x, uint64_t at, uint64_t child_size,
                                  uint8_t *dst, uint64_t bytes) {
    const mmsb_semiring *s = link->semiring;
    for (uint64_t k = 0; k < bytes; k += s->lane_bytes) memcpy(dst + k, s->zero.bytes, s->lane_bytes);
    for (uint32_t i = 0; i < link->parent_count; i++)
        s->accumulate(s, dst, link->lane_weights + i * child_size + at, x[i], bytes / s->lane_bytes, true);
}

/* Computes a range of the child at `dst`. Returns whether that changed what stood there, which an accumulating link
 * adds to. */
static bool combine(const mmsb_link *link, const mmsb_link_page *parents, const uint8_t **x, mmsb_run range,
                    uint64_t child_size, uint8_t *dst) {
    const mmsb_semiring *s = link->semiring;
    for (uint32_t i = 0; i < link->parent_count; i++) x[i] = parents[i].bytes + range.offset;
    if (!link->accumulates && link->lane_weights == NULL)
        return s->combine(s, dst, x, link->weights, link->parent_count, range.length / s->lane_bytes);
    uint8_t fresh[BLOCK_BYTES];
    bool changed = false;
    for (uint64_t at = 0; at < range.length; at += BLOCK_BYTES) {
        uint64_t bytes = mmsb_min_u64(BLOCK_BYTES, range.length - at);
        if (link->lane_weights != NULL) {
            combine_weighed_lanes(link, x, range.offset + at, child_size, fresh, bytes);
        } else {
            memcpy(fresh, dst + at, bytes);
            s->combine(s, fresh, x, link->weights, link->parent_count, bytes / s->lane_bytes);
        }
        if (link->accumulates) {
            changed |= s->add(s, dst + at, fresh, bytes / s->lane_bytes);
        } else {
            changed |= memcmp(dst + at, fresh, bytes) != 0;
            memcpy(dst + at, fresh, bytes);
        }
        for (uint32_t i = 0; i < link->parent_count; i++) x[i] += bytes;
    }
    return changed;
}

static int compute_lanes(const mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                         const mmsb_alloc *alloc, mmsb_link_result *result) {
    uint8_t *child = result->bytes.data;
    bool whole = !find_ranges(link, parents, child_size, alloc, result);
    if (!mmsb_buffer_reserve(&result->scratch, alloc, link->parent_count * sizeof(uint8_t *))) return MMSB_NO_MEMORY;
    const uint8_t **x = (const uint8_t **)(void *)result->scratch.data;
    if (whole) {
        /* Whether anything changed is known at the price of a copy of the old bytes: little for a small child, and
         * for a large one more than it is worth, because whoever makes the delta compares anyway. */
        bool compares = link->accumulates || child_size <= BLOCK_BYTES;
        if (compares) memcpy(child, old, child_size);
        bool changed = combine(link, parents, x, (mmsb_run){0, child_size}, child_size, child);
        if (changed || !compares) return all_of_it(result, child_size);
        result->runs.size = 0;
        return MMSB_OK;
    }
    uint64_t count;
    const mmsb_run *runs = mmsb_link_ranges(&result->runs, &count);
    for (uint64_t i = 0; i < count; i++) {
        memcpy(child + runs[i].offset, old + runs[i].offset, runs[i].length);
        combine(link, parents, x, runs[i], child_size, child + runs[i].offset);
    }
    return only_ranges(result, old, alloc);
}

static int compute_reduction(const mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old,
                             mmsb_link_result *result) {
    const mmsb_semiring *s = link->semiring;
    mmsb_lane sum = s->zero, fold;
    for (uint32_t i = 0; i < link->parent_count; i++) {
        s->fold_add(s, &fold, parents[i].bytes, parents[i].size / s->lane_bytes);
        s->add(s, sum.bytes, fold.bytes, 1);
    }
    if (memcmp(sum.bytes, old, s->lane_bytes) == 0) return MMSB_OK;
    memcpy(result->bytes.data, sum.bytes, s->lane_bytes);
    return all_of_it(result, s->lane_bytes);
}

int mmsb_link_compute(mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                      const mmsb_alloc *alloc, mmsb_link_result *result, const char **why) {
    result->whole = false;
    result->bytes.size = result->runs.size = 0;
    if (child_size > result->bytes.capacity) {
        if (!mmsb_buffer_reserve(&result->bytes, alloc, child_size)) return MMSB_NO_MEMORY;
        /* Kernels compare what they write with what stands there, so something must. */
        memset(result->bytes.data, 0, result->bytes.capacity);
    }
    switch (link->type) {
        case MMSB_LINK_COPY:
            return compute_copies(link, parents, old, child_size, alloc, result);
        case MMSB_LINK_SEMIRING:
            return compute_lanes(link, parents, old, child_size, alloc, result);
        case MMSB_LINK_REDUCE:
            return compute_reduction(link, parents, old, result);
        case MMSB_LINK_MATRIX:
            return mmsb_link_matrix_compute(link, parents, old, child_size, alloc, result, why);
        default:
            *why = "it is no native link";
            return MMSB_BAD_LINK;
    }
}

void mmsb_link_release(mmsb_link *link, const mmsb_alloc *alloc) {
    mmsb_link_columns_release(link->index, alloc);
    link->index = NULL;
}

void mmsb_link_result_release(mmsb_link_result *result, const mmsb_alloc *alloc) {
    mmsb_buffer_release(&result->bytes, alloc);
    mmsb_buffer_release(&result->runs, alloc);
    mmsb_buffer_release(&result->scratch, alloc);
}
