/* A segment of the log: its header, the one that is being appended to, and a cursor that reads verified frames. */
#ifndef MMSB_SEGMENT_H
#define MMSB_SEGMENT_H

#include "frame.h"

/* The fields of a segment's header, in the order of log_format.h. */
typedef struct mmsb_segment_head {
    uint8_t uuid[16], salt[16];
    uint64_t base_seq;     /* seq of the last commit before this segment */
    uint64_t base_time_ns; /* its timestamp; no frame here is older */
    uint64_t capacity;     /* bytes of the file, header included; a multiple of 8 */
    uint64_t durable_seq;  /* known durable when the segment was made */
    uint32_t prev_crc;     /* CRC of the last frame before this segment */
    uint32_t number;       /* 1, 2, 3, ... */
    uint8_t anchor[MMSB_ANCHOR_BYTES];
} mmsb_segment_head;

void mmsb_segment_head_put(const mmsb_kernels *kernels, const mmsb_segment_head *head, uint8_t *out);

/* MMSB_OK, MMSB_BAD_HEADER, or MMSB_NEWER_VERSION (the version is then in *version). */
int mmsb_segment_head_get(const mmsb_kernels *kernels, const uint8_t *bytes, uint64_t available,
                          mmsb_segment_head *head, uint32_t *version);

/* A place in the log that orders across segments: segment number and byte offset in it. */
static inline uint64_t mmsb_log_position(uint32_t number, uint64_t offset) { return (uint64_t)number << 40 | offset; }

/* Reads frames one after the other, each fully checked: CRC, chain, seq and time order. */
typedef struct mmsb_log_cursor {
    const uint8_t *bytes; /* the segment's memory, header included */
    uint64_t available;   /* bytes of it that may be read */
    uint64_t offset;      /* of the next frame */
    uint64_t base_seq, base_time_ns;
    uint64_t seq, time_ns; /* of the last commit passed */
    uint64_t durable_seq;  /* the highest that a frame passed so far calls durable */
    uint32_t seed, last_crc;
} mmsb_log_cursor;

typedef struct mmsb_log_frame {
    mmsb_frame_head head;
    uint64_t offset, bytes; /* where the frame stands in the segment, word included */
    uint64_t seq, time_ns;
    const uint8_t *changes, *end;
} mmsb_log_frame;

/* Stands before the first frame of a segment whose header was checked. */
void mmsb_log_cursor_start(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, const mmsb_segment_head *head,
                           const uint8_t *bytes, uint64_t available);

/* Reads the next frame. MMSB_OK; MMSB_END where the log ends; MMSB_BAD_LENGTH, _BAD_CRC, _BAD_FRAME or _GAP otherwise,
 * and then the cursor still stands before the bad frame. */
int mmsb_log_cursor_next(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, mmsb_log_frame *frame);

/* Writes the canonical content of the commits from the cursor on into out[0,room): what an anchor is the hash of, see
 * docs/formats/log.md. Passes anchors over. `name` is that of source *source; a frame of another source ends the call
 * with *source set to it, and the call is made again with its name. Ends too when the next commit does not fit `room`
 * or no intact frame follows. Returns the bytes written. */
int64_t mmsb_log_canonical(mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t *source, const uint8_t *name,
                           uint64_t name_bytes, uint8_t *out, uint64_t room);

/* Searches [cursor.offset, end) on every 8-byte boundary for an intact frame of this store that does not follow from
 * the cursor: what a lost or damaged frame leaves stranded. Returns the highest durable seq that such frames claim
 * (0: none), counts them in *frames, and gives the highest seq among them in *seq_max. Where more looks like frames
 * than can be read, nobody can prove that nothing durable is lost: then it returns the seq that is missing. */
uint64_t mmsb_log_stranded(const mmsb_log_cursor *cursor, const mmsb_kernels *kernels, uint64_t end, uint64_t *frames,
                           uint64_t *seq_max);

/* Moves a cursor that stopped to the first such frame and makes it the one that follows. False: there is none. What
 * lies between is lost; whoever goes on from here knows commits, and not the state that they were made in. */
bool mmsb_log_resume(mmsb_log_cursor *cursor, const mmsb_kernels *kernels);

#endif
