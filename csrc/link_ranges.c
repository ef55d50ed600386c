/* Ranges that may have changed: collected parent by parent, each list in order, then merged. */
#include "link_ranges.h"

static bool append(mmsb_buffer *ranges, const mmsb_alloc *alloc, uint64_t from, uint64_t to) {
    if (MMSB_UNLIKELY(ranges->capacity - ranges->size < sizeof(mmsb_run)) &&
        !mmsb_buffer_reserve(ranges, alloc, ranges->size + sizeof(mmsb_run)))
        return false;
    mmsb_run run = {from, to - from};
    memcpy(ranges->data + ranges->size, &run, sizeof run);
    ranges->size += sizeof run;
    return true;
}

static bool spend(uint64_t *budget, uint64_t bytes) {
    if (bytes > *budget) return false;
    *budget -= bytes;
    return true;
}

bool mmsb_link_ranges_add(mmsb_buffer *ranges, const mmsb_alloc *alloc, const mmsb_link_page *page,
                          const mmsb_link_copy *part, uint64_t lane_bytes, uint64_t *budget) {
    uint64_t begin = part->from, end = begin + part->bytes, move = part->to - begin;
    if (page->whole) return spend(budget, part->bytes) && append(ranges, alloc, part->to, part->to + part->bytes);
    for (uint32_t i = 0; i < page->change_count; i++) {
        const mmsb_link_change *change = &page->changes[i];
        mmsb_delta_view view;
        if (!spend(budget, change->payload_bytes)) return false;
        if (mmsb_delta_parse(change->code, change->payload, change->payload_bytes, page->size, &view) != MMSB_OK)
            return false;
        mmsb_run_cursor run = {0};
        while (mmsb_delta_next_run(&view, &run)) {
            uint64_t from = mmsb_max_u64(begin, run.offset & ~(lane_bytes - 1));
            uint64_t to = mmsb_min_u64(end, mmsb_align_up(run.offset + run.length, lane_bytes));
            if (from < to && !append(ranges, alloc, from + move, to + move)) return false;
        }
    }
    return true;
}

/* Where the ascending stretch that begins at `from` ends. */
static uint64_t stretch_end(const mmsb_run *runs, uint64_t from, uint64_t count) {
    uint64_t end = from + 1;
    while (end < count && runs[end - 1].offset <= runs[end].offset) end++;
    return mmsb_min_u64(end, count);
}

/* Merges each two neighbouring stretches. True: one is left. */
static bool merge_stretches(const mmsb_run *runs, mmsb_run *out, uint64_t count) {
    uint64_t begin = 0, stretches = 0;
    while (begin < count) {
        uint64_t middle = stretch_end(runs, begin, count), end = stretch_end(runs, middle, count);
        uint64_t a = begin, b = middle;
        for (uint64_t i = begin; i < end; i++) {
            bool from_a = a < middle && (b == end || runs[a].offset <= runs[b].offset);
            out[i] = runs[from_a ? a++ : b++];
        }
        begin = end;
        stretches++;
    }
    return stretches <= 1;
}

bool mmsb_link_ranges_join(mmsb_buffer *ranges, mmsb_buffer *spare, const mmsb_alloc *alloc, uint64_t *total) {
    uint64_t count;
    mmsb_run *runs = mmsb_link_ranges(ranges, &count);
    *total = 0;
    if (count == 0) return true;
    if (stretch_end(runs, 0, count) != count) {
        if (!mmsb_buffer_reserve(spare, alloc, ranges->size)) return false;
        mmsb_run *other = (mmsb_run *)(void *)spare->data, *sorted = runs;
        bool done;
        do {
            mmsb_run *from = sorted;
            sorted = from == runs ? other : runs;
            done = merge_stretches(from, sorted, count);
        } while (!done);
        if (sorted != runs) memcpy(runs, sorted, ranges->size);
    }
    uint64_t last = 0;
    for (uint64_t i = 1; i < count; i++) {
        uint64_t end = runs[last].offset + runs[last].length;
        if (runs[i].offset > end)
            runs[++last] = runs[i];
        else
            runs[last].length = mmsb_max_u64(end, runs[i].offset + runs[i].length) - runs[last].offset;
    }
    ranges->size = (last + 1) * sizeof *runs;
    for (uint64_t i = 0; i <= last; i++) *total += runs[i].length;
    return true;
}
