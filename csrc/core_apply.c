/* Taking the changes of a frame into the pages: the one path for a commit, for replay and for recovery. */
#include "core.h"

/* A slot that the commit under construction has taken already, else a new one. */
static int next_slot(mmsb_core *core, uint64_t size, uint64_t *handle) {
    if (core->handles_used < core->handles.size / sizeof(uint64_t)) {
        *handle = mmsb_load_u64(core->handles.data + core->handles_used++ * sizeof(uint64_t));
        return MMSB_OK;
    }
    return mmsb_arena_take(&core->arena, size, handle);
}

static int apply_delta(mmsb_core *core, const mmsb_change *change) {
    mmsb_page_header *header = mmsb_arena_header(&core->arena, change->page_id);
    if (MMSB_UNLIKELY(header == NULL)) return MMSB_PAGE_NOT_FOUND;
    uint8_t *page = mmsb_arena_bytes(&core->arena, header->handle);
    int status = core->kernels.delta_apply(page, header->size, change->kind, change->payload, change->payload_bytes);
    header->epoch++;
    MMSB_POKE(core->deltas, core->deltas + 1);
    MMSB_POKE(core->delta_bytes, core->delta_bytes + change->payload_bytes);
    if (MMSB_LIKELY((header->flags & (MMSB_PAGE_SOURCE | MMSB_PAGE_FAILED)) == 0) || status != MMSB_OK) return status;
    return mmsb_core_changed(core, header, change->page_id, change->kind, change->payload, change->payload_bytes);
}

static int apply_create(mmsb_core *core, const mmsb_change *change) {
    if (change->size == 0 || change->page_kind >= MMSB_PAGE_KINDS) return MMSB_BAD_FRAME;
    /* A hostile count must not make the table grow without end: every page costs at least a slot. */
    if (change->count > MMSB_PAGE_ID_MAX || change->page_id > MMSB_PAGE_ID_MAX - change->count) return MMSB_BAD_FRAME;
    if (core->handles.size == 0) {
        int status = mmsb_arena_can_take(&core->arena, change->size, change->count);
        if (status != MMSB_OK) return status;
    }
    int status = mmsb_arena_ensure_ids(&core->arena, change->page_id + change->count - 1);
    if (status != MMSB_OK) return status;
    for (uint64_t id = change->page_id; id < change->page_id + change->count; id++) {
        mmsb_page_header *header = mmsb_arena_entry(&core->arena, id);
        if (header->flags & (MMSB_PAGE_LIVE | MMSB_PAGE_DELETED)) return MMSB_PAGE_EXISTS;
        uint64_t handle;
        status = next_slot(core, change->size, &handle);
        if (status != MMSB_OK) return status;
        *header = (mmsb_page_header){.handle = handle, .size = change->size, .kind = change->page_kind};
        header->flags = MMSB_PAGE_LIVE |
                        (change->create_flags & (MMSB_CREATE_NAME | MMSB_CREATE_METADATA) ? MMSB_PAGE_DESCRIBED : 0);
        MMSB_POKE(core->page_count, core->page_count + 1);
    }
    MMSB_POKE(core->next_page_id, mmsb_max_u64(core->next_page_id, change->page_id + change->count));
    __atomic_store_n(&core->shared->next_page_id, core->next_page_id, __ATOMIC_RELAXED);
    if (!(change->create_flags & MMSB_CREATE_CONTENT)) return MMSB_OK;
    uint8_t *page = mmsb_arena_bytes(&core->arena, mmsb_arena_entry(&core->arena, change->page_id)->handle);
    return core->kernels.delta_apply(page, change->size, change->content_code, change->payload, change->payload_bytes);
}

int mmsb_core_load_page(mmsb_core *core, uint64_t page_id, uint64_t size, uint64_t epoch, uint8_t kind, uint16_t flags,
                        const uint8_t *content, uint64_t content_bytes) {
    if (page_id == 0 || content_bytes > size || kind >= MMSB_PAGE_KINDS) return MMSB_BAD_SIZE;
    int status = mmsb_arena_ensure_ids(&core->arena, page_id);
    if (status != MMSB_OK) return status;
    mmsb_page_header *header = mmsb_arena_entry(&core->arena, page_id);
    if (header->flags != 0) return MMSB_PAGE_EXISTS;
    uint64_t handle;
    status = mmsb_arena_take(&core->arena, size, &handle);
    if (status != MMSB_OK) return status;
    if (content_bytes != 0) memcpy(mmsb_arena_bytes(&core->arena, handle), content, content_bytes);
    *header = (mmsb_page_header){
        .handle = handle, .size = size, .epoch = epoch, .kind = kind, .flags = MMSB_PAGE_LIVE | flags};
    core->page_count++;
    core->next_page_id = mmsb_max_u64(core->next_page_id, page_id + 1);
    return MMSB_OK;
}

static int apply_delete(mmsb_core *core, const mmsb_change *change) {
    mmsb_page_header *header = mmsb_arena_header(&core->arena, change->page_id);
    if (header == NULL) return MMSB_PAGE_NOT_FOUND;
    mmsb_core_drop_slot(core, change->page_id, header->handle, header->size);
    *header = (mmsb_page_header){.flags = MMSB_PAGE_DELETED};
    MMSB_POKE(core->page_count, core->page_count - 1);
    return MMSB_OK;
}

static int apply_resize(mmsb_core *core, const mmsb_change *change) {
    mmsb_page_header *header = mmsb_arena_header(&core->arena, change->page_id);
    if (header == NULL) return MMSB_PAGE_NOT_FOUND;
    if (change->size == 0) return MMSB_BAD_FRAME;
    uint64_t handle;
    int status = next_slot(core, change->size, &handle);
    if (status != MMSB_OK) return status;
    uint8_t *to = mmsb_arena_bytes(&core->arena, handle);
    memcpy(to, mmsb_arena_bytes(&core->arena, header->handle), mmsb_min_u64(header->size, change->size));
    mmsb_core_drop_slot(core, change->page_id, header->handle, header->size);
    /* In this order: a reader in another process that sees the new size sees the new handle too (reader.c). */
    __atomic_store_n(&header->handle, handle, __ATOMIC_RELEASE);
    __atomic_store_n(&header->size, change->size, __ATOMIC_RELEASE);
    header->epoch++;
    return mmsb_core_changed(core, header, change->page_id, 0, NULL, 0);
}

/* Beyond these, a page that was touched counts as changed anywhere. */
#define TOUCHED_MOST 4096
#define TOUCHED_BYTES_MOST (1u << 20)

bool mmsb_core_reserve_touched(mmsb_core *core, uint64_t count, uint64_t bytes) {
    bytes = mmsb_min_u64(bytes, TOUCHED_BYTES_MOST);
    return mmsb_buffer_reserve(&core->touched, core->alloc, core->touched.size + count * sizeof(mmsb_touched)) &&
           mmsb_buffer_reserve(&core->touched_bytes, core->alloc, core->touched_bytes.size + bytes);
}

int mmsb_core_changed(mmsb_core *core, mmsb_page_header *header, uint64_t page_id, uint8_t code, const uint8_t *payload,
                      uint64_t payload_bytes) {
    /* A page that is not computed is up to date when somebody writes it after the wave. */
    if (!(header->flags & MMSB_PAGE_DERIVED)) header->flags &= (uint16_t)~MMSB_PAGE_FAILED;
    if (!(header->flags & MMSB_PAGE_SOURCE)) return MMSB_OK;
    core->touched_seq = core->seq;
    bool known = (header->flags & MMSB_PAGE_TOUCHED) != 0;
    if (core->touched.size >= TOUCHED_MOST * sizeof(mmsb_touched) ||
        core->touched_bytes.size + payload_bytes > TOUCHED_BYTES_MOST)
        core->touched_whole = true;
    if (core->touched_whole && known) return MMSB_OK;
    if (core->touched_whole) code = 0;
    if (code == 0) payload_bytes = 0;
    if (!mmsb_buffer_reserve(&core->touched, core->alloc, core->touched.size + sizeof(mmsb_touched)) ||
        !mmsb_buffer_reserve(&core->touched_bytes, core->alloc, core->touched_bytes.size + payload_bytes))
        return MMSB_NO_MEMORY;
    mmsb_touched *touched = (mmsb_touched *)(void *)(core->touched.data + core->touched.size);
    *touched = (mmsb_touched){page_id, core->touched_bytes.size, payload_bytes, code};
    if (payload_bytes != 0) memcpy(core->touched_bytes.data + core->touched_bytes.size, payload, payload_bytes);
    core->touched.size += sizeof *touched;
    core->touched_bytes.size += payload_bytes;
    header->flags |= MMSB_PAGE_TOUCHED;
    return MMSB_OK;
}

void mmsb_core_forget_touched(mmsb_core *core) {
    const mmsb_touched *touched = (const mmsb_touched *)(const void *)core->touched.data;
    for (uint64_t i = 0; i < core->touched.size / sizeof *touched; i++) {
        mmsb_page_header *header = mmsb_arena_header(&core->arena, touched[i].page_id);
        if (header != NULL) header->flags &= (uint16_t)~MMSB_PAGE_TOUCHED;
    }
    core->touched.size = core->touched_bytes.size = 0;
    core->touched_whole = false;
}

void mmsb_core_drop_slot(mmsb_core *core, uint64_t page_id, uint64_t handle, uint64_t size) {
    /* Whoever looks at the slot now (a view) may keep it; they then give it back themselves. */
    if (core->keep_slot != NULL && core->keep_slot(core->keep_context, page_id, handle, size)) return;
    mmsb_core_give_slot(core, handle, size);
}

void mmsb_core_give_slot(mmsb_core *core, uint64_t handle, uint64_t size) {
    if (MMSB_UNLIKELY(core->sharing != NULL))
        mmsb_sharing_give(core->sharing, handle, size);
    else
        mmsb_arena_give(&core->arena, handle, size);
}

/* A commit changes names or metadata, or takes a page away that has them: readers that know names must look. */
static void note_described(mmsb_core *core) {
    __atomic_store_n(&core->shared->described_seq, core->seq, __ATOMIC_RELAXED);
}

int mmsb_core_apply(mmsb_core *core, const uint8_t *changes, const uint8_t *end, bool *described) {
    mmsb_change change;
    const uint8_t *p = changes;
    for (;;) {
        p = mmsb_change_next(p, end, &change);
        if (MMSB_UNLIKELY(p == NULL)) return MMSB_BAD_FRAME;
        int status = MMSB_OK;
        if (MMSB_UNLIKELY(core->io->killpoint != NULL)) core->io->killpoint(core->io->context, "apply:change");
        switch (change.kind) {
            case MMSB_CHANGE_END:
                return MMSB_OK;
            case MMSB_DELTA_DENSE:
            case MMSB_DELTA_RUNS:
            case MMSB_DELTA_BITMAP:
                status = apply_delta(core, &change);
                break;
            case MMSB_CHANGE_CREATE:
                if (change.create_flags & (MMSB_CREATE_NAME | MMSB_CREATE_METADATA)) {
                    *described = true;
                    note_described(core);
                }
                status = apply_create(core, &change);
                break;
            case MMSB_CHANGE_DELETE: {
                const mmsb_page_header *header = mmsb_arena_header(&core->arena, change.page_id);
                if (header != NULL && header->flags & MMSB_PAGE_DESCRIBED) {
                    *described = true;
                    note_described(core);
                }
                status = apply_delete(core, &change);
                break;
            }
            case MMSB_CHANGE_RESIZE:
                status = apply_resize(core, &change);
                break;
            case MMSB_CHANGE_RENAME:
            case MMSB_CHANGE_METADATA: {
                mmsb_page_header *header = mmsb_arena_header(&core->arena, change.page_id);
                if (header == NULL) return MMSB_PAGE_NOT_FOUND;
                header->flags |= MMSB_PAGE_DESCRIBED;
                *described = true;
                note_described(core);
                break;
            }
            default: /* LABEL, INTENT, SOURCE, WAVE of the commit; LINK, UNLINK: kept on a higher floor */
                *described = true;
                break;
        }
        if (MMSB_UNLIKELY(status != MMSB_OK)) return status;
    }
}

int mmsb_core_replay(mmsb_core *core, mmsb_log_cursor *cursor, uint64_t seq_until, mmsb_log_frame *frame) {
    while (core->seq < seq_until) {
        mmsb_log_cursor before = *cursor;
        int status = mmsb_log_cursor_next(cursor, &core->kernels, frame);
        if (status != MMSB_OK) return status;
        MMSB_POKE(core->last_crc, cursor->last_crc);
        MMSB_POKE(core->time_ns, frame->time_ns);
        if (frame->head.kind == MMSB_FRAME_ANCHOR) return MMSB_OK;
        bool described = false;
        status = mmsb_core_apply(core, frame->changes, frame->end, &described);
        if (status != MMSB_OK) {
            *cursor = before;
            return status;
        }
        MMSB_POKE(core->seq, frame->seq);
        MMSB_POKE(core->commits, core->commits + 1);
        if (described) return MMSB_OK;
    }
    return MMSB_END;
}
