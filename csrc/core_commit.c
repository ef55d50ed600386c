/* Committing a batch: every operation is encoded against what the ones before it leave (staging), the frame is
 * published, and then applied like any other. Until it is published no page and no header has changed. */
#include "core.h"
#include "graph.h"

/* A page that the batch has met. */
typedef struct staged_page {
    uint64_t page_id; /* 0: empty place of the table */
    uint64_t size;
    uint8_t *base;        /* the bytes the next write is compared with */
    uint64_t first_at;    /* offset in the frame of the page's first delta, while base is still without it */
    uint64_t first_bytes; /* of its payload; 0: no delta yet */
    uint64_t epoch;       /* before the batch */
    uint8_t first_code;
    bool copied; /* base is a copy of ours */
    bool deleted;
    bool derived; /* computed from others */
    uint8_t kind;
    uint8_t merge; /* place of a merge page's semiring in core->merges */
} staged_page;

typedef struct staging {
    mmsb_core *core;
    const mmsb_batch *batch;
    staged_page *pages; /* open addressing, a power of two places */
    uint64_t page_places, page_count;
    uint64_t used; /* bytes of the frame written so far */
    bool sources;  /* others depend on one of the pages */
} staging;

static staged_page *find_place(staged_page *pages, uint64_t places, uint64_t page_id) {
    uint64_t at = (page_id * 0x9e3779b97f4a7c15u) >> 20;
    for (;; at++) {
        staged_page *page = &pages[at & (places - 1)];
        if (page->page_id == page_id || page->page_id == 0) return page;
    }
}

static int grow_table(staging *s) {
    const mmsb_alloc *alloc = s->core->alloc;
    uint64_t places = s->page_places != 0 ? s->page_places * 4 : 8; /* most batches touch a page or two */
    staged_page *pages = alloc->allocate(alloc->context, places * sizeof *pages);
    if (pages == NULL) return MMSB_NO_MEMORY;
    memset(pages, 0, places * sizeof *pages);
    for (uint64_t i = 0; i < s->page_places; i++)
        if (s->pages[i].page_id != 0) *find_place(pages, places, s->pages[i].page_id) = s->pages[i];
    alloc->release(alloc->context, s->pages);
    s->pages = pages;
    s->page_places = places;
    return MMSB_OK;
}

static int add_page(staging *s, const staged_page *page) {
    if (s->page_count * 2 >= s->page_places) {
        int status = grow_table(s);
        if (status != MMSB_OK) return status;
    }
    *find_place(s->pages, s->page_places, page->page_id) = *page;
    s->page_count++;
    return MMSB_OK;
}

/* The page as staged so far; on first meeting, as it is committed. */
static int stage_page(staging *s, uint64_t page_id, staged_page **out) {
    mmsb_core *core = s->core;
    if (s->page_places != 0) {
        staged_page *page = find_place(s->pages, s->page_places, page_id);
        if (page->page_id != 0) {
            *out = page;
            return page->deleted ? MMSB_PAGE_NOT_FOUND : MMSB_OK;
        }
    }
    mmsb_page_header *header = mmsb_arena_header(&core->arena, page_id);
    if (header == NULL) return MMSB_PAGE_NOT_FOUND;
    staged_page page = {.page_id = page_id,
                        .size = header->size,
                        .epoch = header->epoch,
                        .derived = (header->flags & MMSB_PAGE_DERIVED) != 0,
                        .kind = header->kind,
                        .merge = header->merge,
                        .base = mmsb_arena_bytes(&core->arena, header->handle)};
    s->sources |= (header->flags & MMSB_PAGE_SOURCE) != 0;
    int status = add_page(s, &page);
    if (status == MMSB_OK) *out = find_place(s->pages, s->page_places, page_id);
    return status;
}

/* A second change to a page is compared with what the first one left, so from then on the page is staged in a copy. */
static int copy_page(staging *s, staged_page *page) {
    if (page->copied || page->first_bytes == 0) return MMSB_OK;
    mmsb_core *core = s->core;
    uint8_t *copy = core->alloc->allocate(core->alloc->context, page->size);
    if (copy == NULL) return MMSB_NO_MEMORY;
    memcpy(copy, page->base, page->size);
    page->base = copy;
    page->copied = true;
    return core->kernels.delta_apply(copy, page->size, page->first_code, core->frame.data + page->first_at,
                                     page->first_bytes);
}

static int reserve(staging *s, uint64_t bytes) {
    return mmsb_buffer_reserve(&s->core->frame, s->core->alloc, s->used + bytes) ? MMSB_OK : MMSB_NO_MEMORY;
}

static int take_slot(staging *s, uint64_t size, uint64_t *handle) {
    mmsb_core *core = s->core;
    mmsb_buffer *handles = &core->handles;
    if (!mmsb_buffer_reserve(handles, core->alloc, handles->size + sizeof *handle)) return MMSB_NO_MEMORY;
    int status = mmsb_arena_take(&core->arena, size, handle);
    if (status != MMSB_OK) return status;
    mmsb_store_u64(handles->data + handles->size, *handle);
    handles->size += sizeof *handle;
    return MMSB_OK;
}

/* A delta made elsewhere may name bytes that do not change here, and a write to a merge page is joined with what is
 * there. What either would leave of the bytes that it spans goes into core->scratch, to be compared with the page like
 * any other write. `semiring` NULL: no merge page. */
static int spread_delta(mmsb_core *core, const staged_page *page, const mmsb_op *op, const mmsb_semiring *semiring,
                        const uint8_t *payload, uint64_t *offset, uint64_t *length) {
    mmsb_delta_view view;
    int status = mmsb_delta_parse(op->code, payload, op->data_bytes, page->size, &view);
    if (status != MMSB_OK) return status;
    *offset = view.first;
    *length = view.end - view.first;
    if (!mmsb_buffer_reserve(&core->scratch, core->alloc, *length * 2)) return MMSB_NO_MEMORY;
    uint8_t *scratch = core->scratch.data;
    memcpy(scratch, page->base + view.first, *length);
    if (semiring != NULL) return mmsb_merge_delta(semiring, scratch, &view, scratch + *length);
    mmsb_run_cursor run = {0};
    while (mmsb_delta_next_run(&view, &run)) memcpy(scratch + (run.offset - view.first), run.values, run.length);
    return MMSB_OK;
}

static int join_write(mmsb_core *core, const staged_page *page, const mmsb_op *op, const mmsb_semiring *semiring,
                      const uint8_t *data) {
    if (!mmsb_buffer_reserve(&core->scratch, core->alloc, op->data_bytes)) return MMSB_NO_MEMORY;
    if (op->data_bytes != 0) memcpy(core->scratch.data, page->base + op->offset, op->data_bytes);
    return mmsb_merge_write(semiring, core->scratch.data, op->offset, data, op->data_bytes);
}

static int stage_write(staging *s, const mmsb_op *op) {
    mmsb_core *core = s->core;
    staged_page *page;
    int status = stage_page(s, op->page_id, &page);
    if (status != MMSB_OK) return status;
    if (op->if_epoch != MMSB_ANY_EPOCH && op->if_epoch != page->epoch) return MMSB_EPOCH_MISMATCH;
    if (page->derived) return MMSB_PAGE_IS_DERIVED;
    if ((status = copy_page(s, page)) != MMSB_OK) return status;
    bool merges = page->kind == MMSB_PAGE_KIND_MERGE && !op->assigns;
    const mmsb_semiring *semiring = merges ? core->merges[page->merge] : NULL;
    if (merges && semiring == NULL) return MMSB_NO_SEMIRING;
    const uint8_t *data = mmsb_batch_data(s->batch, op);
    uint64_t offset = op->offset, length = op->data_bytes;
    if (op->kind == MMSB_OP_DELTA) {
        status = spread_delta(core, page, op, semiring, data, &offset, &length);
    } else if (offset > page->size || length > page->size - offset) {
        return MMSB_OUT_OF_BOUNDS;
    } else if (merges) {
        status = join_write(core, page, op, semiring, data);
    }
    if (status != MMSB_OK) return status;
    if (op->kind == MMSB_OP_DELTA || merges) data = core->scratch.data;
    status = reserve(s, 1 + MMSB_VARINT_BYTES_MAX + MMSB_DELTA_BOUND(length) + 8);
    if (status != MMSB_OK) return status;
    uint8_t *start = core->frame.data + s->used;
    uint8_t *payload = mmsb_varint_put(start + 1, op->page_id);
    int64_t bytes = core->kernels.delta_diff(page->base + offset, data, length, offset, payload, start);
    if (bytes <= 0) return (int)bytes;
    uint64_t payload_at = (uint64_t)(payload - core->frame.data);
    s->used = payload_at + (uint64_t)bytes;
    if (page->copied) {
        /* The same as applying the delta: where it changes nothing the bytes are equal. */
        memcpy(page->base + offset, data, length);
    } else {
        page->first_at = payload_at;
        page->first_bytes = (uint64_t)bytes;
        page->first_code = *start;
    }
    return MMSB_OK;
}

static int stage_create(staging *s, const mmsb_op *op) {
    mmsb_core *core = s->core;
    if (op->size == 0 || op->count == 0 || (op->count > 1 && op->data_bytes + op->name_bytes + op->metadata_bytes))
        return MMSB_BAD_SIZE;
    if (op->data_bytes > op->size) return MMSB_BAD_SIZE;
    if (op->count > MMSB_PAGE_ID_MAX || op->page_id > MMSB_PAGE_ID_MAX - op->count) return MMSB_BAD_SIZE;
    int status = mmsb_arena_can_take(&core->arena, op->size, op->count);
    if (status == MMSB_OK) status = mmsb_arena_ensure_ids(&core->arena, op->page_id + op->count - 1);
    if (status == MMSB_OK)
        status = reserve(s, 64 + (uint64_t)op->name_bytes + op->metadata_bytes + MMSB_DELTA_BOUND(op->data_bytes));
    if (status != MMSB_OK) return status;

    /* Pages of a large creation are staged only when the batch goes on to touch them (s->pages is not filled here for
     * them): a batch that creates a million pages and writes them pays once. */
    staged_page page = {.size = op->size, .kind = op->page_kind};
    if (op->page_kind == MMSB_PAGE_KIND_MERGE) page.merge = op->code;
    for (uint64_t id = op->page_id; id < op->page_id + op->count; id++) {
        if (mmsb_arena_entry(&core->arena, id)->flags & (MMSB_PAGE_LIVE | MMSB_PAGE_DELETED)) return MMSB_PAGE_EXISTS;
        if (s->page_places != 0 && find_place(s->pages, s->page_places, id)->page_id != 0) return MMSB_PAGE_EXISTS;
        uint64_t handle;
        status = take_slot(s, op->size, &handle);
        if (status != MMSB_OK) return status;
        if (mmsb_batch_count(s->batch) == 1) continue;
        page.page_id = id;
        page.base = mmsb_arena_bytes(&core->arena, handle);
        status = add_page(s, &page);
        if (status != MMSB_OK) return status;
    }

    uint8_t *p = core->frame.data + s->used;
    const uint8_t *data = mmsb_batch_data(s->batch, op);
    *p++ = MMSB_CHANGE_CREATE;
    p = mmsb_varint_put(p, op->page_id);
    p = mmsb_varint_put(p, op->count);
    p = mmsb_varint_put(p, op->size);
    *p++ = op->page_kind;
    uint8_t *flags = p++;
    *flags = 0;
    if (op->name_bytes != 0) {
        *flags |= MMSB_CREATE_NAME;
        p = mmsb_varint_put(p, op->name_bytes);
        memcpy(p, data, op->name_bytes);
        p += op->name_bytes;
    }
    if (op->metadata_bytes != 0) {
        *flags |= MMSB_CREATE_METADATA;
        p = mmsb_varint_put(p, op->metadata_bytes);
        memcpy(p, data + op->name_bytes, op->metadata_bytes);
        p += op->metadata_bytes;
    }
    if (op->data_bytes != 0) {
        uint64_t handle = mmsb_load_u64(core->handles.data + core->handles.size - sizeof handle);
        uint8_t *slot = mmsb_arena_bytes(&core->arena, handle);
        const uint8_t *content = data + op->name_bytes + op->metadata_bytes;
        int64_t bytes = core->kernels.delta_diff(slot, content, op->data_bytes, 0, p + 1, p);
        if (bytes < 0) return (int)bytes;
        if (bytes > 0) {
            *flags |= MMSB_CREATE_CONTENT;
            p += 1 + bytes;
            /* The slot is not reachable yet; later writes of this batch are compared with its content. */
            memcpy(slot, content, op->data_bytes);
        }
    }
    s->used = (uint64_t)(p - core->frame.data);
    return MMSB_OK;
}

static int stage_resize(staging *s, const mmsb_op *op) {
    staged_page *page;
    if (op->size == 0) return MMSB_BAD_SIZE;
    int status = stage_page(s, op->page_id, &page);
    if (status == MMSB_OK && page->derived) status = MMSB_PAGE_IS_DERIVED;
    if (status == MMSB_OK) status = copy_page(s, page);
    if (status == MMSB_OK) status = reserve(s, 1 + 2 * MMSB_VARINT_BYTES_MAX);
    uint64_t handle;
    if (status == MMSB_OK) status = take_slot(s, op->size, &handle);
    if (status != MMSB_OK) return status;
    uint8_t *slot = mmsb_arena_bytes(&s->core->arena, handle);
    memcpy(slot, page->base, mmsb_min_u64(page->size, op->size));
    if (page->copied) s->core->alloc->release(s->core->alloc->context, page->base);
    page->base = slot;
    page->copied = false;
    page->first_bytes = 0;
    page->size = op->size;
    uint8_t *p = s->core->frame.data + s->used;
    *p++ = MMSB_CHANGE_RESIZE;
    p = mmsb_varint_put(mmsb_varint_put(p, op->page_id), op->size);
    s->used = (uint64_t)(p - s->core->frame.data);
    return MMSB_OK;
}

/* DELETE, RENAME, METADATA, LINK, UNLINK: a page id and at most one text. */
static int stage_description(staging *s, const mmsb_op *op) {
    static const uint8_t kinds[] = {[MMSB_OP_DELETE] = MMSB_CHANGE_DELETE,
                                    [MMSB_OP_RENAME] = MMSB_CHANGE_RENAME,
                                    [MMSB_OP_METADATA] = MMSB_CHANGE_METADATA,
                                    [MMSB_OP_LINK] = MMSB_CHANGE_LINK,
                                    [MMSB_OP_UNLINK] = MMSB_CHANGE_UNLINK};
    staged_page *page;
    int status = stage_page(s, op->page_id, &page);
    if (status == MMSB_OK) status = reserve(s, 1 + 2 * MMSB_VARINT_BYTES_MAX + op->data_bytes + 8);
    if (status != MMSB_OK) return status;
    uint8_t *p = s->core->frame.data + s->used;
    *p++ = kinds[op->kind];
    p = mmsb_varint_put(p, op->page_id);
    if (op->kind == MMSB_OP_DELETE) {
        page->deleted = true;
    } else {
        p = mmsb_varint_put(p, op->data_bytes);
        if (op->data_bytes != 0) memcpy(p, mmsb_batch_data(s->batch, op), op->data_bytes);
        /* The kind of edge comes first. From here on others may write the page, or nobody. */
        bool links = op->kind == MMSB_OP_LINK || op->kind == MMSB_OP_UNLINK;
        if (links && op->data_bytes != 0 && *p == MMSB_EDGE_DATA) page->derived = op->kind == MMSB_OP_LINK;
        p += op->data_bytes;
    }
    s->used = (uint64_t)(p - s->core->frame.data);
    return MMSB_OK;
}

static int stage(staging *s, const mmsb_op *op) {
    switch (op->kind) {
        case MMSB_OP_WRITE:
        case MMSB_OP_DELTA:
            return stage_write(s, op);
        case MMSB_OP_CREATE:
            return stage_create(s, op);
        case MMSB_OP_RESIZE:
            return stage_resize(s, op);
        default:
            return stage_description(s, op);
    }
}

/* Forgets the staging; slots that no published frame uses go back. */
static void unstage(staging *s, bool published) {
    mmsb_core *core = s->core;
    for (uint64_t i = 0; i < s->page_places; i++)
        if (s->pages[i].copied) core->alloc->release(core->alloc->context, s->pages[i].base);
    core->alloc->release(core->alloc->context, s->pages);
    if (!published) {
        uint64_t slot = 0;
        for (uint64_t i = 0; slot < core->handles.size / sizeof(uint64_t); i++) {
            const mmsb_op *op = mmsb_batch_op(s->batch, i);
            uint64_t count = op->kind == MMSB_OP_CREATE ? op->count : op->kind == MMSB_OP_RESIZE;
            for (; count > 0 && slot < core->handles.size / sizeof(uint64_t); count--, slot++)
                mmsb_arena_give(&core->arena, mmsb_load_u64(core->handles.data + slot * sizeof(uint64_t)), op->size);
        }
    }
    core->handles.size = core->handles_used = 0;
}

int mmsb_core_commit(mmsb_core *core, const mmsb_batch *batch, const mmsb_commit_info *info, uint64_t *failed_op) {
    if (MMSB_PEEK(core->poisoned)) return MMSB_POISONED;
    if (MMSB_UNLIKELY(core->sharing != NULL)) mmsb_sharing_reclaim(core->sharing); /* room for new slots */
    uint8_t *p = mmsb_core_begin_frame(core, info, MMSB_FRAME_COMMIT, 64);
    if (p == NULL) return MMSB_NO_MEMORY;
    staging s = {.core = core, .batch = batch, .used = (uint64_t)(p - core->frame.data)};
    core->handles.size = core->handles_used = 0;
    int status = MMSB_OK;
    for (uint64_t i = 0; i < mmsb_batch_count(batch) && status == MMSB_OK; i++) {
        *failed_op = i;
        status = stage(&s, mmsb_batch_op(batch, i));
    }
    if (status == MMSB_OK && info->skip_unchanged && s.used == (uint64_t)(p - core->frame.data)) {
        unstage(&s, false);
        return 0;
    }
    if (status == MMSB_OK) status = reserve(&s, 16);
    if (status == MMSB_OK && s.sources && !mmsb_core_reserve_touched(core, mmsb_batch_count(batch), s.used))
        status = MMSB_NO_MEMORY;
    if (status == MMSB_OK) status = mmsb_core_publish(core, core->frame.data + s.used, info->sync);
    bool published = status == MMSB_OK;
    if (published) {
        const uint8_t *changes, *end;
        bool described = false;
        mmsb_core_last_changes(core, &changes, &end);
        status = mmsb_core_apply(core, changes, end, &described);
        mmsb_core_mark_applied(core);
        MMSB_POKE(core->commits, core->commits + 1);
        /* Staging has done all this once, and took every slot: a failure here means that the memory is damaged. */
        if (status != MMSB_OK) MMSB_POKE(core->poisoned, true);
    }
    unstage(&s, published);
    return status == MMSB_OK ? 1 : status;
}
