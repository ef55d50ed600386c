#define _POSIX_C_SOURCE 200809L

#include "core.h"

#include <unistd.h>

int mmsb_core_init(mmsb_core *core, uint32_t features, const mmsb_alloc *alloc, const mmsb_io *io, mmsb_shared *shared,
                   uint64_t max_bytes) {
    memset(core, 0, sizeof *core);
    mmsb_kernels_init(&core->kernels, features);
    int status = mmsb_arena_init(&core->arena, alloc, max_bytes);
    if (status != MMSB_OK) return status;
    core->alloc = alloc;
    core->io = io;
    core->shared = shared;
    core->next_page_id = 1;
    core->source_next = 1;
    memcpy(shared->magic, "MMSBSHR1", 8);
    shared->layout = MMSB_SHARED_LAYOUT;
    shared->owner_pid = (uint32_t)getpid();
    return MMSB_OK;
}

void mmsb_core_release(mmsb_core *core) {
    mmsb_buffer_release(&core->frame, core->alloc);
    mmsb_buffer_release(&core->scratch, core->alloc);
    mmsb_buffer_release(&core->handles, core->alloc);
    mmsb_buffer_release(&core->source_ids, core->alloc);
    mmsb_buffer_release(&core->touched, core->alloc);
    mmsb_buffer_release(&core->touched_bytes, core->alloc);
    mmsb_arena_release(&core->arena);
}

void mmsb_core_use_segment(mmsb_core *core, const mmsb_active *active, const uint8_t salt[16], uint32_t last_crc) {
    core->active = *active;
    core->seed = mmsb_frame_seed(&core->kernels, salt);
    core->last_crc = last_crc;
    core->source_next = 1;
    if (core->source_ids.size != 0) memset(core->source_ids.data, 0, core->source_ids.size);
    uint64_t position = mmsb_log_position(active->number, active->tail);
    __atomic_store_n(&core->shared->seq, core->seq, __ATOMIC_RELAXED);
    __atomic_store_n(&core->shared->next_page_id, core->next_page_id, __ATOMIC_RELAXED);
    __atomic_store_n(&core->shared->tail, position, __ATOMIC_RELEASE);
    __atomic_store_n(&core->shared->applied, position, __ATOMIC_RELEASE);
}

static uint64_t commit_time(mmsb_core *core, const mmsb_commit_info *info) {
    uint64_t now = info->time_ns != 0 ? info->time_ns : mmsb_clock_now(&core->clock);
    /* Timestamps never decrease, whatever the clock does. */
    return mmsb_max_u64(now, core->time_ns);
}

/* Gives a source its entry in the table of ids. */
static bool reach_source(mmsb_core *core, uint32_t source) {
    uint64_t bytes = ((uint64_t)source + 1) * sizeof(uint32_t);
    if (core->source_ids.size >= bytes) return true;
    if (!mmsb_buffer_reserve(&core->source_ids, core->alloc, bytes)) return false;
    memset(core->source_ids.data + core->source_ids.size, 0, bytes - core->source_ids.size);
    core->source_ids.size = bytes;
    return true;
}

int mmsb_core_define_source(mmsb_core *core, uint32_t source, uint32_t id) {
    if (!reach_source(core, source)) return MMSB_NO_MEMORY;
    mmsb_store_u32(core->source_ids.data + source * sizeof(uint32_t), id);
    if (id >= core->source_next) core->source_next = id + 1;
    return MMSB_OK;
}

static uint8_t *put_text(uint8_t *p, uint8_t kind, const uint8_t *text, uint64_t bytes) {
    *p++ = kind;
    p = mmsb_varint_put(p, bytes);
    memcpy(p, text, bytes);
    return p + bytes;
}

uint8_t *mmsb_core_begin_frame(mmsb_core *core, const mmsb_commit_info *info, uint8_t kind, uint64_t body_max) {
    uint64_t bytes = MMSB_FRAME_HEAD_BYTES_MAX + 64 + info->source_bytes + info->label_bytes + info->intent_bytes;
    if (!mmsb_buffer_reserve(&core->frame, core->alloc, bytes + body_max)) return NULL;
    uint64_t time_ns = commit_time(core, info);
    uint64_t seq = core->seq + (kind == MMSB_FRAME_COMMIT);
    uint32_t source = 0;
    bool define = false;
    if (info->source != 0) {
        /* The table grows before anything is written, so that nothing can fail after the frame is out. */
        if (!reach_source(core, info->source)) return NULL;
        source = mmsb_load_u32(core->source_ids.data + info->source * sizeof(uint32_t));
        define = source == 0;
        if (define) source = core->source_next;
    }
    mmsb_frame_head head = {
        .seq_rel = seq - core->active.base_seq,
        .durable_lag = seq - __atomic_load_n(&core->shared->durable_seq, __ATOMIC_RELAXED),
        .time_rel_ns = time_ns - core->active.base_time_ns,
        .branch = core->branch,
        .source = source,
        .prev_crc = core->last_crc,
        .kind = kind,
    };
    core->building =
        (mmsb_building){.seq = seq, .time_ns = time_ns, .source = define ? info->source : 0, .source_id = source};
    uint8_t *p = mmsb_frame_put_head(core->frame.data, &head);
    core->building.changes_at = (uint64_t)(p - core->frame.data);
    if (define) {
        *p++ = MMSB_CHANGE_SOURCE;
        p = mmsb_varint_put(p, source);
        p = mmsb_varint_put(p, info->source_bytes);
        memcpy(p, info->source_name, info->source_bytes);
        p += info->source_bytes;
    }
    if (info->label != NULL) p = put_text(p, MMSB_CHANGE_LABEL, info->label, info->label_bytes);
    if (info->intent != NULL) p = put_text(p, MMSB_CHANGE_INTENT, info->intent, info->intent_bytes);
    return p;
}

int mmsb_core_renew_frame(mmsb_core *core, const mmsb_commit_info *info, uint64_t *used) {
    uint64_t at = core->building.changes_at, count = *used - at, aside = at + MMSB_FRAME_HEAD_BYTES_MAX;
    if (!mmsb_buffer_reserve(&core->frame, core->alloc, aside + count)) return MMSB_NO_MEMORY;
    memmove(core->frame.data + aside, core->frame.data + at, count);
    uint8_t *p = mmsb_core_begin_frame(core, info, MMSB_FRAME_COMMIT, aside + count);
    if (p == NULL) return MMSB_NO_MEMORY;
    memmove(p, core->frame.data + aside, count);
    *used = (uint64_t)(p - core->frame.data) + count;
    return MMSB_OK;
}

/* Pages of the segment that are fetched in one go, ahead of the tail: a seventh of what their faults would cost one by
 * one. A frame of that size is better written with pwrite, which fills the pages as it makes them. */
#define READY_BYTES ((uint64_t)256 << 10)
/* At the beginning of a segment it is as much as the segment holds already, but no less than this: most States that are
 * made for a moment never fill more. */
#define READY_BYTES_FIRST ((uint64_t)16 << 10)

/* The mapping through which the next frame is appended; NULL: with pwrite, which also reports what a store through a
 * mapping could not (a disk that fails). */
static uint8_t *append_through(mmsb_core *core, uint64_t bytes) {
    mmsb_active *active = &core->active;
    uint64_t end = mmsb_min_u64(active->tail + bytes + MMSB_FRAME_WORD_BYTES, active->capacity);
    if (MMSB_LIKELY(end <= active->ready) || active->map == NULL) return active->map;
    bool in_file = active->fd >= 0;
    if (in_file && bytes >= READY_BYTES) return NULL;
    uint64_t from = mmsb_max_u64(active->ready, active->tail);
    uint64_t step = READY_BYTES_FIRST;
    while (step < READY_BYTES && step < end) step *= 2;
    uint64_t to = mmsb_min_u64(mmsb_align_up(end, step), active->capacity);
    if (core->io->prefault(core->io->context, active->map + from, to - from) < 0 && in_file) return NULL;
    active->ready = to;
    return active->map;
}

int mmsb_core_publish(mmsb_core *core, uint8_t *end, bool sync) {
    uint32_t crc;
    uint8_t *frame = core->frame.data;
    if (MMSB_UNLIKELY(core->building.seq > MMSB_SEQ_MAX)) return MMSB_SEQ_FULL;
    int64_t bytes = mmsb_frame_close(&core->kernels, core->seed, frame, end, &crc);
    if (bytes < 0) return (int)bytes;
    mmsb_active *active = &core->active;
    if (MMSB_UNLIKELY(active->capacity - active->tail < (uint64_t)bytes)) {
        core->frame_needs = (uint64_t)bytes;
        return MMSB_NO_SPACE;
    }
    if (MMSB_UNLIKELY(core->sharing != NULL)) mmsb_sharing_announce(core->sharing);
    int64_t result = core->io->append(core->io->context, active->fd, append_through(core, (uint64_t)bytes),
                                      active->capacity, active->tail, frame, (uint64_t)bytes, sync);
    if (MMSB_UNLIKELY(result < 0)) {
        MMSB_POKE(core->io_errno, (int)-result);
        core->frame_needs = (uint64_t)bytes;
        if (mmsb_io_is_full(result)) {
            /* What was put of the frame goes again, as far as it came. */
            memset(frame, 0, (size_t)bytes);
            (void)core->io->pwrite(core->io->context, active->fd, frame, (uint64_t)bytes, active->tail);
            return MMSB_DISK_FULL;
        }
        MMSB_POKE(core->poisoned, true);
        return MMSB_IO;
    }
    const mmsb_building *building = &core->building;
    MMSB_POKE(active->tail, active->tail + (uint64_t)bytes);
    MMSB_POKE(core->last_crc, crc);
    MMSB_POKE(core->seq, building->seq);
    MMSB_POKE(core->time_ns, building->time_ns);
    core->building.changes_end = (uint64_t)bytes;
    if (building->source != 0) {
        mmsb_store_u32(core->source_ids.data + building->source * sizeof(uint32_t), building->source_id);
        core->source_next = building->source_id + 1;
    }
    if (sync) __atomic_store_n(&core->shared->durable_seq, core->seq, __ATOMIC_RELEASE);
    __atomic_store_n(&core->shared->tail, mmsb_log_position(active->number, active->tail), __ATOMIC_RELEASE);
    /* Whoever sees one byte of what follows sees this tail. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (MMSB_UNLIKELY(core->io->killpoint != NULL)) core->io->killpoint(core->io->context, "apply");
    return MMSB_OK;
}

void mmsb_core_mark_applied(mmsb_core *core) {
    __atomic_store_n(&core->shared->seq, core->seq, __ATOMIC_RELAXED);
    __atomic_store_n(&core->shared->applied, mmsb_log_position(core->active.number, core->active.tail),
                     __ATOMIC_RELEASE);
    if (MMSB_UNLIKELY(core->sharing != NULL)) mmsb_sharing_applied(core->sharing);
}

/* Leaves in core->scratch what a write to a merge page makes of the bytes at `offset`. */
static int join(mmsb_core *core, const mmsb_page_header *header, const uint8_t *bytes, uint64_t offset,
                const uint8_t *data, uint64_t length) {
    const mmsb_semiring *semiring = core->merges[header->merge];
    if (semiring == NULL) return MMSB_NO_SEMIRING;
    if (!mmsb_buffer_reserve(&core->scratch, core->alloc, length)) return MMSB_NO_MEMORY;
    if (length != 0) memcpy(core->scratch.data, bytes, length);
    return mmsb_merge_write(semiring, core->scratch.data, offset, data, length);
}

int mmsb_core_write(mmsb_core *core, uint64_t page_id, uint64_t offset, const uint8_t *data, uint64_t length,
                    const mmsb_commit_info *info, mmsb_written *written) {
    if (MMSB_UNLIKELY(MMSB_PEEK(core->poisoned))) return MMSB_POISONED;
    mmsb_page_header *header = mmsb_arena_header(&core->arena, page_id);
    if (MMSB_UNLIKELY(header == NULL)) return MMSB_PAGE_NOT_FOUND;
    if (MMSB_UNLIKELY(offset > header->size || length > header->size - offset)) return MMSB_OUT_OF_BOUNDS;
    if (MMSB_UNLIKELY(info->if_epoch != MMSB_ANY_EPOCH && info->if_epoch != header->epoch)) return MMSB_EPOCH_MISMATCH;
    if (MMSB_UNLIKELY(header->flags & MMSB_PAGE_DERIVED)) return MMSB_PAGE_IS_DERIVED;

    uint8_t *page = mmsb_arena_bytes(&core->arena, header->handle);
    if (MMSB_UNLIKELY(header->kind == MMSB_PAGE_KIND_MERGE) && !info->assigns) {
        int status = join(core, header, page + offset, offset, data, length);
        if (status != MMSB_OK) return status;
        data = core->scratch.data;
    } else if (info->moving && length != 0) {
        /* Bytes are compared first and encoded then, and must be the same both times. */
        if (!mmsb_buffer_reserve(&core->scratch, core->alloc, length)) return MMSB_NO_MEMORY;
        data = memcpy(core->scratch.data, data, length);
    }
    uint8_t *p =
        mmsb_core_begin_frame(core, info, MMSB_FRAME_COMMIT, 1 + MMSB_VARINT_BYTES_MAX + MMSB_DELTA_BOUND(length) + 8);
    if (MMSB_UNLIKELY(p == NULL)) return MMSB_NO_MEMORY;
    uint8_t *code = p;
    p = mmsb_varint_put(p + 1, page_id);
    int64_t bytes = core->kernels.delta_diff(page + offset, data, length, offset, p, code);
    if (bytes <= 0) return (int)bytes;
    if (MMSB_UNLIKELY(header->flags & MMSB_PAGE_SOURCE) && !mmsb_core_reserve_touched(core, 1, (uint64_t)bytes))
        return MMSB_NO_MEMORY;
    int status = mmsb_core_publish(core, p + bytes, info->sync);
    if (MMSB_UNLIKELY(status != MMSB_OK)) return status;

    /* From the encoded delta: it is what the log says, and shorter than `data`. */
    core->kernels.delta_apply(page, header->size, *code, p, (uint64_t)bytes);
    header->epoch++;
    if (MMSB_UNLIKELY(header->flags & (MMSB_PAGE_SOURCE | MMSB_PAGE_FAILED)) &&
        mmsb_core_changed(core, header, page_id, *code, p, (uint64_t)bytes) != MMSB_OK)
        MMSB_POKE(core->poisoned, true);
    mmsb_core_mark_applied(core);
    MMSB_POKE(core->commits, core->commits + 1);
    MMSB_POKE(core->deltas, core->deltas + 1);
    MMSB_POKE(core->delta_bytes, core->delta_bytes + (uint64_t)bytes);
    *written = (mmsb_written){.seq = core->seq,
                              .epoch = header->epoch,
                              .time_ns = core->time_ns,
                              .payload = p,
                              .payload_bytes = (uint64_t)bytes,
                              .code = *code};
    return 1;
}

int mmsb_core_anchor(mmsb_core *core, const uint8_t anchor[MMSB_ANCHOR_BYTES], bool sync) {
    if (MMSB_PEEK(core->poisoned)) return MMSB_POISONED;
    mmsb_commit_info info = {.time_ns = core->time_ns != 0 ? core->time_ns : core->active.base_time_ns};
    uint8_t *p = mmsb_core_begin_frame(core, &info, MMSB_FRAME_ANCHOR, MMSB_ANCHOR_BYTES + 8);
    if (p == NULL) return MMSB_NO_MEMORY;
    memcpy(p, anchor, MMSB_ANCHOR_BYTES);
    int status = mmsb_core_publish(core, p + MMSB_ANCHOR_BYTES, sync);
    if (status == MMSB_OK) mmsb_core_mark_applied(core);
    return status;
}

void mmsb_core_last_changes(const mmsb_core *core, const uint8_t **changes, const uint8_t **end) {
    *changes = core->frame.data + core->building.changes_at;
    *end = core->frame.data + core->building.changes_end;
}
