/* On-disk constants of the log. docs/formats/log.md is the page that explains them; a test compares the two. */
#ifndef MMSB_LOG_FORMAT_H
#define MMSB_LOG_FORMAT_H

#define MMSB_LOG_VERSION 1

/* Segment header: 128 bytes at offset 0. */
#define MMSB_SEGMENT_MAGIC "MMSBSEG1"
#define MMSB_SEGMENT_HEADER_BYTES 128
#define MMSB_SEGMENT_AT_MAGIC 0
#define MMSB_SEGMENT_AT_VERSION 8
#define MMSB_SEGMENT_AT_HEADER_BYTES 12
#define MMSB_SEGMENT_AT_UUID 16
#define MMSB_SEGMENT_AT_SALT 32
#define MMSB_SEGMENT_AT_BASE_SEQ 48
#define MMSB_SEGMENT_AT_BASE_TIME 56
#define MMSB_SEGMENT_AT_PREV_CRC 64
#define MMSB_SEGMENT_AT_NUMBER 68
#define MMSB_SEGMENT_AT_CAPACITY 72
#define MMSB_SEGMENT_AT_ANCHOR 80
#define MMSB_SEGMENT_AT_DURABLE_SEQ 112
#define MMSB_SEGMENT_AT_RESERVED 120
#define MMSB_SEGMENT_AT_CRC 124

/* One frame may be as large as its length field says (32 GiB) and has a segment of its own then. */
#define MMSB_SEGMENT_BYTES_MAX ((uint64_t)1 << 36)

/* Frame: word, then body. The word's low half counts 8-byte units of body, its high half is the CRC. */
#define MMSB_FRAME_WORD_BYTES 8
#define MMSB_FRAME_UNIT_BYTES 8
#define MMSB_FRAME_UNITS_MAX 0xffffffffu

/* Of the last commit that there can be. */
#define MMSB_SEQ_MAX 0x7fffffffffffffffu

enum {
    MMSB_FRAME_COMMIT = 1,
    MMSB_FRAME_ANCHOR = 2,
};

/* A change inside a commit frame begins with one of these. 1..5 are delta codes (delta.h). */
enum {
    MMSB_CHANGE_END = 0, /* padding: nothing but zero bytes up to the frame's end */
    MMSB_CHANGE_CREATE = 16,
    MMSB_CHANGE_DELETE = 17,
    MMSB_CHANGE_RESIZE = 18,
    MMSB_CHANGE_RENAME = 19,
    MMSB_CHANGE_METADATA = 20,
    MMSB_CHANGE_LABEL = 21,
    MMSB_CHANGE_INTENT = 22,
    MMSB_CHANGE_SOURCE = 23,
    MMSB_CHANGE_LINK = 24,   /* a page depends on others */
    MMSB_CHANGE_UNLINK = 25, /* and no longer does */
    MMSB_CHANGE_WAVE = 26,   /* the commit is a wave: the deltas are computed */
};

/* Flags of a CREATE change: which optional fields follow. */
enum {
    MMSB_CREATE_NAME = 1,
    MMSB_CREATE_METADATA = 2,
    MMSB_CREATE_CONTENT = 4,
};

/* What a page is, in CREATE changes, checkpoints and digests. */
enum {
    MMSB_PAGE_KIND_RAW = 0,
    MMSB_PAGE_KIND_MERGE = 1, /* writes are joined with what is there; its metadata name the semiring */
    MMSB_PAGE_KINDS,
};

#define MMSB_ANCHOR_BYTES 32

#endif
