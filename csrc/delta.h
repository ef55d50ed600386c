/* The encoded delta: which bytes of a page change, and their new values. docs/formats/delta.md is its page.
 *
 * An encoded delta is a code and a payload. Offsets count from the start of the page. All integers are varints.
 *
 *   MMSB_DELTA_DENSE   offset, length, values[length]           every byte of [offset, offset+length) changes
 *   MMSB_DELTA_RUNS    range_bytes, ranges[range_bytes], values  ranges: one or two varints per run:
 *                                                               (gap << 1) | (length > 1), then length - 2 if > 1;
 *                                                               gap counts from the end of the run before (first:
 * from 0)
 *   MMSB_DELTA_BITMAP  offset, span, bits[(span+7)/8], values    bit i, lowest first: byte offset+i changes
 *
 * The encoding is canonical: runs are maximal (every gap after the first is at least 1), a bitmap's first and last
 * bits are set and its spare bits clear, values has exactly one byte per changed byte, and of the three payloads the
 * shortest is used (on a tie the lowest code). So equal changes have equal bytes, whatever kernel wrote them.
 * A delta of no bytes has no encoding. */
#ifndef MMSB_DELTA_H
#define MMSB_DELTA_H

#include "base.h"
#include "status.h"

enum {
    MMSB_DELTA_DENSE = 1,
    MMSB_DELTA_RUNS = 2,
    MMSB_DELTA_BITMAP = 3,
    MMSB_DELTA_RECTANGLE = 4, /* reserved: a strided rectangle. Refused. */
    MMSB_DELTA_SLICE = 5,     /* reserved: a slice reference. Refused. */
};

/* Room that an encoder may need for `changed_max` bytes out of a page (it may write past the payload, not past
 * this). */
#define MMSB_DELTA_BOUND(length) ((length) + (length) / 4 + 256)

/* A parsed payload. `first`/`end` is the hull of the changed bytes. */
typedef struct mmsb_delta_view {
    const uint8_t *ranges; /* RUNS: tokens; BITMAP: bits; DENSE: NULL */
    uint64_t range_bytes;
    const uint8_t *values;
    uint64_t value_count;
    uint64_t first, end;
    uint8_t code;
} mmsb_delta_view;

/* Splits and validates a payload that is exactly `payload_bytes` long, for a page of `page_bytes` bytes. Full check:
 * bounds, canonical form of the ranges, value count. Never reads outside the payload. MMSB_OK or MMSB_BAD_DELTA. */
int mmsb_delta_parse(uint8_t code, const uint8_t *payload, uint64_t payload_bytes, uint64_t page_bytes,
                     mmsb_delta_view *view);

/* Length in bytes of the payload that starts at `payload` and may run up to `payload_end`, without knowing it
 * beforehand (used inside frames, where payloads follow one another). Negative: MMSB_BAD_DELTA. */
int64_t mmsb_delta_payload_bytes(uint8_t code, const uint8_t *payload, const uint8_t *payload_end);

/* Iterates the runs of a parsed delta in ascending order: start with cursor = {0}; true while a run was produced. */
typedef struct mmsb_run_cursor {
    uint64_t range_at, value_at, next_byte; /* internal */
    uint64_t offset, length;                /* the run */
    const uint8_t *values;                  /* its new bytes */
} mmsb_run_cursor;
bool mmsb_delta_next_run(const mmsb_delta_view *view, mmsb_run_cursor *cursor);

/* Builds the canonical encoding from runs given in ascending, disjoint, non-adjacent order. Scalar; for callers that
 * have a mask and not two buffers. `out` has MMSB_DELTA_BOUND(sum of lengths) + 20 * run_count bytes. Payload
 * length. */
typedef struct mmsb_run {
    uint64_t offset, length;
} mmsb_run;
int64_t mmsb_delta_from_runs(const mmsb_run *runs, uint64_t run_count, const uint8_t *values, uint8_t *out,
                             uint8_t *code);

#endif
