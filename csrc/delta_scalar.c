/* The delta kernels in portable C: the definition that every faster level is compared with. */
#include "delta_emit.h"
#include "kernels_isa.h"

/* The end of the run of differing bytes that starts at `i`, or of equal ones. */
static uint64_t run_end(const uint8_t *a, const uint8_t *b, uint64_t i, uint64_t length, bool differing) {
    if (!differing)
        while (i + 8 <= length && mmsb_load_u64(a + i) == mmsb_load_u64(b + i)) i += 8;
    while (i < length && (a[i] != b[i]) == differing) i++;
    return i;
}

int64_t mmsb_delta_diff_scalar(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base,
                               uint8_t *out, uint8_t *code) {
    /* First pass: what each encoding would cost. */
    uint64_t first = 0, end = 0, runs = 0, range_bytes = 0, values = 0, at = 0;
    for (uint64_t i = run_end(old, new_bytes, 0, length, false); i < length;
         i = run_end(old, new_bytes, end, length, false)) {
        end = run_end(old, new_bytes, i, length, true);
        if (runs++ == 0) first = i;
        range_bytes += mmsb_run_token_bytes(base + i - at, end - i);
        values += end - i;
        at = base + end;
    }
    if (runs == 0) return 0;
    uint64_t span = end - first, bit_bytes = (span + 7) / 8;
    uint64_t hull_bytes = mmsb_varint_size(base + first) + mmsb_varint_size(span);
    uint8_t *p = out;
    if (runs == 1) {
        *code = MMSB_DELTA_DENSE;
        p = mmsb_varint_put(mmsb_varint_put(p, base + first), span);
        memcpy(p, new_bytes + first, span);
        return p - out + (int64_t)span;
    }
    bool as_runs = mmsb_varint_size(range_bytes) + range_bytes <= hull_bytes + bit_bytes;
    uint8_t *value;
    if (as_runs) {
        *code = MMSB_DELTA_RUNS;
        p = mmsb_varint_put(p, range_bytes);
        value = p + range_bytes;
    } else {
        *code = MMSB_DELTA_BITMAP;
        p = mmsb_varint_put(mmsb_varint_put(p, base + first), span);
        memset(p, 0, bit_bytes);
        value = p + bit_bytes;
    }
    uint8_t *payload_end = value + values;
    at = 0;
    for (uint64_t i = first; i < length; i = run_end(old, new_bytes, end, length, false)) {
        end = run_end(old, new_bytes, i, length, true);
        if (as_runs)
            p = mmsb_run_token_put(p, base + i - at, end - i);
        else
            for (uint64_t bit = i - first; bit < end - first; bit++) p[bit / 8] |= (uint8_t)(1 << bit % 8);
        memcpy(value, new_bytes + i, end - i);
        value += end - i;
        at = base + end;
    }
    return payload_end - out;
}

static int apply_runs(uint8_t *page, uint64_t page_bytes, const uint8_t *p, const uint8_t *end,
                      const uint8_t *payload_end) {
    const uint8_t *value = end;
    uint64_t at = 0;
    if (MMSB_UNLIKELY(value == payload_end)) return p == end ? MMSB_OK : MMSB_BAD_DELTA;
    while (p < end) {
        uint64_t token, length = 1;
        if ((p = mmsb_run_token_get(p, end, &token)) == NULL) return MMSB_BAD_DELTA;
        if (token & 1) {
            if ((p = mmsb_varint_get(p, end, &length)) == NULL || length > page_bytes) return MMSB_BAD_DELTA;
            length += 2;
        }
        uint64_t gap = token >> 1;
        if (gap > page_bytes - at || length > page_bytes - at - gap) return MMSB_BAD_DELTA;
        if (length > (uint64_t)(payload_end - value)) return MMSB_BAD_DELTA;
        at += gap;
        if (MMSB_LIKELY(length == 1))
            page[at] = *value;
        else
            memcpy(page + at, value, length);
        value += length;
        at += length;
    }
    return value == payload_end ? MMSB_OK : MMSB_BAD_DELTA;
}

int mmsb_delta_apply_scalar(uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                            uint64_t payload_bytes) {
    const uint8_t *p = payload, *end = payload + payload_bytes;
    uint64_t first, span;
    if (code == MMSB_DELTA_RUNS) {
        uint64_t range_bytes;
        p = mmsb_varint_get(p, end, &range_bytes);
        if (p == NULL || range_bytes > (uint64_t)(end - p)) return MMSB_BAD_DELTA;
        return apply_runs(page, page_bytes, p, p + range_bytes, end);
    }
    if (code != MMSB_DELTA_DENSE && code != MMSB_DELTA_BITMAP) return MMSB_BAD_DELTA;
    if ((p = mmsb_varint_get(p, end, &first)) == NULL) return MMSB_BAD_DELTA;
    if ((p = mmsb_varint_get(p, end, &span)) == NULL) return MMSB_BAD_DELTA;
    if (first > page_bytes || span > page_bytes - first) return MMSB_BAD_DELTA;
    page += first;
    if (code == MMSB_DELTA_DENSE) {
        if (span != (uint64_t)(end - p)) return MMSB_BAD_DELTA;
        memcpy(page, p, span);
        return MMSB_OK;
    }
    uint64_t bit_bytes = (span + 7) / 8;
    if (bit_bytes > (uint64_t)(end - p)) return MMSB_BAD_DELTA;
    const uint8_t *value = p + bit_bytes;
    for (uint64_t i = 0; i < bit_bytes; i++)
        for (unsigned bits = p[i]; bits != 0; bits &= bits - 1) {
            uint64_t at = i * 8 + (uint64_t)__builtin_ctz(bits);
            if (at >= span || value == end) return MMSB_BAD_DELTA;
            page[at] = *value++;
        }
    return value == end ? MMSB_OK : MMSB_BAD_DELTA;
}

/* Merging walks both lists of runs at once. The first pass counts, the second writes: `emit` gets every byte run of the
 * result with where its values are. Adjacent pieces of one result run come one after the other. */
typedef struct piece {
    uint64_t offset, length;
    const uint8_t *values;
} piece;

typedef struct side {
    mmsb_delta_view view;
    mmsb_run_cursor cursor;
    piece rest; /* length 0: exhausted */
} side;

static void side_next(side *s) {
    if (mmsb_delta_next_run(&s->view, &s->cursor))
        s->rest = (piece){s->cursor.offset, s->cursor.length, s->cursor.values};
    else
        s->rest.length = 0;
}

static void side_skip(side *s, uint64_t end) {
    while (s->rest.length != 0 && s->rest.offset < end) {
        uint64_t cut = mmsb_min_u64(end - s->rest.offset, s->rest.length);
        s->rest.offset += cut;
        s->rest.values += cut;
        s->rest.length -= cut;
        if (s->rest.length == 0) side_next(s);
    }
}

/* The next piece of the merged delta: of `b` where it begins first, else of `a` up to where `b` begins. */
static bool merge_next(side *a, side *b, piece *out) {
    if (b->rest.length != 0 && (a->rest.length == 0 || b->rest.offset <= a->rest.offset)) {
        *out = b->rest;
        side_next(b);
        side_skip(a, out->offset + out->length);
        return true;
    }
    if (a->rest.length == 0) return false;
    *out = a->rest;
    if (b->rest.length != 0 && b->rest.offset < out->offset + out->length) {
        out->length = b->rest.offset - out->offset;
        side_skip(a, b->rest.offset);
    } else {
        side_next(a);
    }
    return true;
}

int64_t mmsb_delta_merge_scalar(uint8_t code_a, const uint8_t *payload_a, uint64_t bytes_a, uint8_t code_b,
                                const uint8_t *payload_b, uint64_t bytes_b, uint64_t page_bytes, uint8_t *out,
                                uint8_t *code) {
    side start_a = {0}, start_b = {0};
    if (mmsb_delta_parse(code_a, payload_a, bytes_a, page_bytes, &start_a.view) != MMSB_OK ||
        mmsb_delta_parse(code_b, payload_b, bytes_b, page_bytes, &start_b.view) != MMSB_OK)
        return MMSB_BAD_DELTA;
    side_next(&start_a);
    side_next(&start_b);

    side a = start_a, b = start_b;
    piece part;
    uint64_t runs = 0, range_bytes = 0, values = 0, at = 0, run_from = 0, run_to = 0;
    while (merge_next(&a, &b, &part)) {
        values += part.length;
        if (runs == 0 || part.offset != run_to) {
            if (runs++ != 0) {
                range_bytes += mmsb_run_token_bytes(run_from - at, run_to - run_from);
                at = run_to;
            }
            run_from = part.offset;
        }
        run_to = part.offset + part.length;
    }
    range_bytes += mmsb_run_token_bytes(run_from - at, run_to - run_from);

    uint64_t first = mmsb_min_u64(start_a.view.first, start_b.view.first), span = run_to - first;
    uint64_t bit_bytes = (span + 7) / 8;
    uint8_t *p = out;
    bool as_runs =
        mmsb_varint_size(range_bytes) + range_bytes <= mmsb_varint_size(first) + mmsb_varint_size(span) + bit_bytes;
    *code = runs == 1 ? MMSB_DELTA_DENSE : as_runs ? MMSB_DELTA_RUNS : MMSB_DELTA_BITMAP;
    if (*code == MMSB_DELTA_RUNS)
        p = mmsb_varint_put(p, range_bytes);
    else
        p = mmsb_varint_put(mmsb_varint_put(p, first), span);
    uint8_t *ranges = p;
    uint8_t *value = p + (*code == MMSB_DELTA_RUNS ? range_bytes : *code == MMSB_DELTA_BITMAP ? bit_bytes : 0);
    if (*code == MMSB_DELTA_BITMAP) memset(ranges, 0, bit_bytes);

    a = start_a;
    b = start_b;
    at = run_from = run_to = 0;
    bool open = false;
    while (merge_next(&a, &b, &part)) {
        memcpy(value, part.values, part.length);
        value += part.length;
        if (*code == MMSB_DELTA_BITMAP)
            for (uint64_t bit = part.offset - first; bit < part.offset - first + part.length; bit++)
                ranges[bit / 8] |= (uint8_t)(1 << bit % 8);
        if (!open || part.offset != run_to) {
            if (open && *code == MMSB_DELTA_RUNS) ranges = mmsb_run_token_put(ranges, run_from - at, run_to - run_from);
            at = open ? run_to : 0;
            run_from = part.offset;
            open = true;
        }
        run_to = part.offset + part.length;
    }
    if (*code == MMSB_DELTA_RUNS) mmsb_run_token_put(ranges, run_from - at, run_to - run_from);
    return value - out;
}

int64_t mmsb_delta_inverse_scalar(const uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                                  uint64_t payload_bytes, uint8_t *out) {
    mmsb_delta_view view;
    if (mmsb_delta_parse(code, payload, payload_bytes, page_bytes, &view) != MMSB_OK) return MMSB_BAD_DELTA;
    uint64_t head = (uint64_t)(view.values - payload);
    memcpy(out, payload, head);
    uint8_t *value = out + head;
    mmsb_run_cursor cursor = {0};
    while (mmsb_delta_next_run(&view, &cursor)) {
        memcpy(value, page + cursor.offset, cursor.length);
        value += cursor.length;
    }
    return (int64_t)payload_bytes;
}
