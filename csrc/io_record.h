/* File operations that are written down, for tests that work out what a power cut at any instant could have left. */
#ifndef MMSB_IO_RECORD_H
#define MMSB_IO_RECORD_H

#include "alloc.h"
#include "io_fault.h"

/* One operation that succeeded and that matters on a disk: every open and close (they say which file a descriptor is),
 * pwrite, fdatasync, fsync, fallocate, truncate, rename, unlink and mkdir. A store into a mapping is one of kind
 * APPEND, and there is one for each run of bytes that an append changed up to each of its kill points: what was stored
 * is compared with what was there, so this says what append does and not what it should do. */
typedef struct mmsb_io_operation {
    uint32_t kind;     /* mmsb_io_kind */
    int32_t fd;        /* -1 where there is none */
    uint64_t at;       /* offset; flags of an open; bytes of a truncate */
    uint64_t begun;    /* of a sync: how many operations there were when it began, for it covers no others */
    uint64_t bytes[2]; /* of the data that follows, or of up to two paths; of a fallocate: its bytes, and 0 */
} mmsb_io_operation;

typedef struct mmsb_io_record {
    mmsb_io io; /* hand this one out; its context is the mmsb_io_record */
    const mmsb_io *below;
    mmsb_buffer written; /* operations, each with what follows it, without padding */
    uint64_t count;
    bool lost; /* memory ran out: some are missing */
    bool busy; /* a thread is writing one down */
} mmsb_io_record;

/* Passes everything on to `below`, which outlives it. Must not move afterwards. */
void mmsb_io_record_init(mmsb_io_record *record, const mmsb_io *below);
void mmsb_io_record_release(mmsb_io_record *record);

#endif
