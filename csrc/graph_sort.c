/* Sorting nodes: page ids and levels are small dense numbers, often in order already. */
#include "graph.h"

/* Up to here moving neighbours costs less than clearing 256 counters. */
#define INSERTION_MAX 24

static void insertion_sort(mmsb_graph_key *keys, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        mmsb_graph_key one = keys[i];
        uint32_t at = i;
        for (; at != 0 && keys[at - 1].key > one.key; at--) keys[at] = keys[at - 1];
        keys[at] = one;
    }
}

/* One pass of a radix sort: by the byte at `shift`. */
static void scatter(const mmsb_graph_key *from, mmsb_graph_key *to, uint32_t count, unsigned shift) {
    uint32_t at[256] = {0};
    for (uint32_t i = 0; i < count; i++) at[from[i].key >> shift & 255]++;
    for (uint32_t i = 0, sum = 0; i < 256; i++) {
        uint32_t here = at[i];
        at[i] = sum;
        sum += here;
    }
    for (uint32_t i = 0; i < count; i++) to[at[from[i].key >> shift & 255]++] = from[i];
}

void mmsb_graph_sort(mmsb_graph_key *keys, mmsb_graph_key *spare, uint32_t count) {
    uint64_t differ = 0;
    bool sorted = true;
    for (uint32_t i = 1; i < count; i++) {
        differ |= keys[i].key ^ keys[0].key;
        sorted &= keys[i - 1].key <= keys[i].key;
    }
    if (sorted) return;
    if (count <= INSERTION_MAX) {
        insertion_sort(keys, count);
        return;
    }
    mmsb_graph_key *from = keys, *to = spare;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((differ >> shift & 255) == 0) continue;
        scatter(from, to, count, shift);
        mmsb_graph_key *other = from;
        from = to;
        to = other;
    }
    if (from != keys) memcpy(keys, from, count * sizeof *keys);
}
