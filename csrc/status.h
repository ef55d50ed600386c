/* Every way in which a C function of mmsb can fail, in one place. 0 is success; errors are negative, so a
 * function may return a count or one of these. mmsb/_core/errors.pyx turns them into exceptions. */
#ifndef MMSB_STATUS_H
#define MMSB_STATUS_H

#define MMSB_STATUS_LIST(X)                                                   \
    X(OK, 0, "success")                                                       \
    X(NO_MEMORY, -1, "out of memory")                                         \
    X(ARENA_FULL, -2, "the arena's max_bytes would be exceeded")              \
    X(PAGE_NOT_FOUND, -3, "no such page")                                     \
    X(OUT_OF_BOUNDS, -4, "the byte range lies outside the page")              \
    X(BAD_SIZE, -5, "a size is zero or too large")                            \
    X(BAD_DELTA, -6, "the encoded delta is malformed")                        \
    X(EPOCH_MISMATCH, -7, "the page is not at the expected epoch")            \
    X(FRAME_TOO_LARGE, -8, "the commit does not fit a frame")                 \
    X(BAD_FRAME, -9, "the frame is malformed")                                \
    X(BAD_CRC, -10, "the frame's checksum does not match")                    \
    X(BAD_LENGTH, -11, "the frame's length runs past the segment")            \
    X(GAP, -12, "the frame does not follow the one before it")                \
    X(END, -13, "no more frames")                                             \
    X(IO, -14, "a system call failed")                                        \
    X(NO_SPACE, -15, "no room for the frame in this segment")                 \
    X(BAD_HEADER, -16, "a file header is malformed")                          \
    X(NEWER_VERSION, -17, "the file was written by a newer format version")   \
    X(UNKNOWN_FEATURE, -18, "an unknown CPU feature was named")               \
    X(POISONED, -19, "an earlier write or sync failed; the writer is closed") \
    X(PAGE_EXISTS, -20, "a page of that id exists already")                   \
    X(EPOCH_ORDER, -21, "a delta does not continue the page's epoch")         \
    X(NOT_LOCAL, -22, "the page's bytes are not in host memory")              \
    X(CYCLE, -23, "the edge would close a cycle")                             \
    X(EDGE_EXISTS, -24, "the edge is there already")                          \
    X(EDGE_NOT_FOUND, -25, "no such edge")                                    \
    X(PAGE_HAS_EDGES, -26, "the page has edges")                              \
    X(PAGE_IS_DERIVED, -27, "the page is computed from others")               \
    X(BAD_LINK, -28, "the link does not fit its pages")                       \
    X(BAD_LANES, -29, "the bytes are no whole lanes of a merge page")         \
    X(NO_SEMIRING, -30, "the semiring of a merge page is not known yet")      \
    X(MERGE_FAILED, -31, "the semiring of a merge page failed")               \
    X(RING_BROKEN, -32, "the other side of a ring broke its protocol")        \
    X(BAD_COMMAND, -33, "the command is malformed")                           \
    X(NO_RIGHT, -34, "the client has no right to that")                       \
    X(GROWN, -35, "there is memory of the owner that is not mapped yet")      \
    X(DROPPED, -36, "the owner dropped this client")                          \
    X(BEHIND, -37, "the log between two moments is not mapped")               \
    X(DISK_FULL, -38, "the disk or quota is full")                            \
    X(SEQ_FULL, -39, "no commit can follow the last one")

typedef enum mmsb_status {
#define MMSB_STATUS_ENUM(name, value, text) MMSB_##name = value,
    MMSB_STATUS_LIST(MMSB_STATUS_ENUM)
#undef MMSB_STATUS_ENUM
} mmsb_status;

/* One English phrase for a status; "unknown status" for any other number. */
const char *mmsb_status_text(int status);

#endif
