/* The codec of encoded deltas: parsing, measuring, iterating, building. Scalar; no kernel needs it on its hot path. */
#include "delta.h"

#include "delta_emit.h"

int64_t mmsb_delta_payload_bytes(uint8_t code, const uint8_t *payload, const uint8_t *payload_end) {
    const uint8_t *p = payload;
    uint64_t first, count;
    switch (code) {
        case MMSB_DELTA_DENSE:
            if ((p = mmsb_varint_get(p, payload_end, &first)) == NULL) return MMSB_BAD_DELTA;
            if ((p = mmsb_varint_get(p, payload_end, &count)) == NULL) return MMSB_BAD_DELTA;
            if (count > (uint64_t)(payload_end - p)) return MMSB_BAD_DELTA;
            return p - payload + (int64_t)count;
        case MMSB_DELTA_RUNS: {
            uint64_t range_bytes, values = 0;
            if ((p = mmsb_varint_get(p, payload_end, &range_bytes)) == NULL) return MMSB_BAD_DELTA;
            if (range_bytes > (uint64_t)(payload_end - p)) return MMSB_BAD_DELTA;
            const uint8_t *end = p + range_bytes;
            while (p < end) {
                uint64_t token, more = 0;
                if ((p = mmsb_varint_get(p, end, &token)) == NULL) return MMSB_BAD_DELTA;
                if (token & 1) {
                    if ((p = mmsb_varint_get(p, end, &more)) == NULL || more > (uint64_t)1 << 62) return MMSB_BAD_DELTA;
                    more += 1;
                }
                values += 1 + more;
                if (values > (uint64_t)1 << 62) return MMSB_BAD_DELTA;
            }
            if (values > (uint64_t)(payload_end - p)) return MMSB_BAD_DELTA;
            return p - payload + (int64_t)values;
        }
        case MMSB_DELTA_BITMAP: {
            uint64_t span, values = 0;
            if ((p = mmsb_varint_get(p, payload_end, &first)) == NULL) return MMSB_BAD_DELTA;
            if ((p = mmsb_varint_get(p, payload_end, &span)) == NULL) return MMSB_BAD_DELTA;
            uint64_t bits = span / 8 + (span % 8 != 0);
            if (bits > (uint64_t)(payload_end - p)) return MMSB_BAD_DELTA;
            for (uint64_t i = 0; i < bits; i++) values += (uint64_t)__builtin_popcount(p[i]);
            p += bits;
            if (values > (uint64_t)(payload_end - p)) return MMSB_BAD_DELTA;
            return p - payload + (int64_t)values;
        }
        default:
            return MMSB_BAD_DELTA;
    }
}

static int parse_runs(mmsb_delta_view *view, uint64_t page_bytes) {
    const uint8_t *p = view->ranges, *end = p + view->range_bytes;
    uint64_t at = 0, total = 0;
    bool first = true;
    while (p < end) {
        uint64_t token, length = 1;
        if ((p = mmsb_varint_get(p, end, &token)) == NULL) return MMSB_BAD_DELTA;
        if (token & 1) {
            if ((p = mmsb_varint_get(p, end, &length)) == NULL || length > page_bytes) return MMSB_BAD_DELTA;
            length += 2;
        }
        uint64_t gap = token >> 1;
        if (!first && gap == 0) return MMSB_BAD_DELTA;
        if (gap > page_bytes - at || length > page_bytes - at - gap) return MMSB_BAD_DELTA;
        if (first) view->first = gap;
        first = false;
        at += gap + length;
        total += length;
    }
    view->end = at;
    return !first && total == view->value_count ? MMSB_OK : MMSB_BAD_DELTA;
}

static int parse_bitmap(mmsb_delta_view *view, uint64_t span, uint64_t page_bytes) {
    if (span == 0 || view->first > page_bytes || span > page_bytes - view->first) return MMSB_BAD_DELTA;
    const uint8_t *bits = view->ranges;
    uint8_t spare = (uint8_t)(span % 8 != 0 ? 0xff << span % 8 : 0);
    if (!(bits[0] & 1) || !(bits[(span - 1) / 8] >> (span - 1) % 8 & 1) || bits[view->range_bytes - 1] & spare)
        return MMSB_BAD_DELTA;
    view->end = view->first + span;
    return MMSB_OK;
}

int mmsb_delta_parse(uint8_t code, const uint8_t *payload, uint64_t payload_bytes, uint64_t page_bytes,
                     mmsb_delta_view *view) {
    const uint8_t *end = payload + payload_bytes, *p = payload;
    int64_t measured = mmsb_delta_payload_bytes(code, payload, end);
    if (measured < 0 || (uint64_t)measured != payload_bytes) return MMSB_BAD_DELTA;
    uint64_t span = 0;
    *view = (mmsb_delta_view){.code = code};
    if (code == MMSB_DELTA_RUNS) {
        p = mmsb_varint_get(p, end, &view->range_bytes);
        view->ranges = p;
        view->values = p + view->range_bytes;
        view->value_count = (uint64_t)(end - view->values);
        return parse_runs(view, page_bytes);
    }
    p = mmsb_varint_get(p, end, &view->first);
    p = mmsb_varint_get(p, end, &span);
    if (code == MMSB_DELTA_BITMAP) {
        view->ranges = p;
        view->range_bytes = span / 8 + (span % 8 != 0);
        view->values = p + view->range_bytes;
        view->value_count = (uint64_t)(end - view->values);
        return parse_bitmap(view, span, page_bytes);
    }
    if (span == 0 || view->first > page_bytes || span > page_bytes - view->first) return MMSB_BAD_DELTA;
    view->values = p;
    view->value_count = span;
    view->end = view->first + span;
    return MMSB_OK;
}

bool mmsb_delta_next_run(const mmsb_delta_view *view, mmsb_run_cursor *cursor) {
    if (cursor->value_at >= view->value_count) return false;
    cursor->values = view->values + cursor->value_at;
    if (view->code == MMSB_DELTA_DENSE) {
        cursor->offset = view->first;
        cursor->length = view->value_count;
    } else if (view->code == MMSB_DELTA_RUNS) {
        const uint8_t *p = view->ranges + cursor->range_at, *end = view->ranges + view->range_bytes;
        uint64_t token = 0, length = 1;
        p = mmsb_varint_get(p, end, &token);
        if (token & 1) {
            p = mmsb_varint_get(p, end, &length);
            length += 2;
        }
        cursor->range_at = (uint64_t)(p - view->ranges);
        cursor->offset = cursor->next_byte + (token >> 1);
        cursor->length = length;
    } else {
        uint64_t bit = cursor->range_at, span = view->end - view->first;
        while (!(view->ranges[bit / 8] >> bit % 8 & 1)) bit++;
        cursor->offset = view->first + bit;
        while (bit < span && view->ranges[bit / 8] >> bit % 8 & 1) bit++;
        cursor->length = view->first + bit - cursor->offset;
        cursor->range_at = bit;
    }
    cursor->next_byte = cursor->offset + cursor->length;
    cursor->value_at += cursor->length;
    return true;
}

int64_t mmsb_delta_from_runs(const mmsb_run *runs, uint64_t run_count, const uint8_t *values, uint8_t *out,
                             uint8_t *code) {
    if (run_count == 0) return 0;
    uint64_t value_count = 0, range_bytes = 0, at = 0;
    for (uint64_t i = 0; i < run_count; i++) {
        range_bytes += mmsb_run_token_bytes(runs[i].offset - at, runs[i].length);
        at = runs[i].offset + runs[i].length;
        value_count += runs[i].length;
    }
    uint64_t first = runs[0].offset, span = at - first;
    uint64_t bitmap_bytes = mmsb_varint_size(first) + mmsb_varint_size(span) + (span + 7) / 8;
    uint64_t runs_bytes = mmsb_varint_size(range_bytes) + range_bytes;
    uint8_t *p = out;
    if (run_count == 1) {
        *code = MMSB_DELTA_DENSE;
        p = mmsb_varint_put(mmsb_varint_put(p, first), span);
    } else if (runs_bytes <= bitmap_bytes) {
        *code = MMSB_DELTA_RUNS;
        p = mmsb_varint_put(p, range_bytes);
        at = 0;
        for (uint64_t i = 0; i < run_count; i++) {
            p = mmsb_run_token_put(p, runs[i].offset - at, runs[i].length);
            at = runs[i].offset + runs[i].length;
        }
    } else {
        *code = MMSB_DELTA_BITMAP;
        p = mmsb_varint_put(mmsb_varint_put(p, first), span);
        memset(p, 0, (span + 7) / 8);
        for (uint64_t i = 0; i < run_count; i++)
            for (uint64_t bit = runs[i].offset - first; bit < runs[i].offset - first + runs[i].length; bit++)
                p[bit / 8] |= (uint8_t)(1 << bit % 8);
        p += (span + 7) / 8;
    }
    memcpy(p, values, value_count);
    return p - out + (int64_t)value_count;
}
