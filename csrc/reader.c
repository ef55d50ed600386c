#include "reader.h"

#include "bell.h"

void mmsb_reader_init(mmsb_reader *reader, uint32_t features, const mmsb_alloc *alloc, const uint8_t salt[16]) {
    memset(reader, 0, sizeof *reader);
    mmsb_kernels_init(&reader->kernels, features);
    reader->alloc = alloc;
    reader->seed = mmsb_frame_seed(&reader->kernels, salt);
    mmsb_patience_init(&reader->patience);
}

void mmsb_reader_release(mmsb_reader *reader) {
    mmsb_buffer_release(&reader->segments, reader->alloc);
    mmsb_buffer_release(&reader->logs, reader->alloc);
}

/* ---- what is mapped */

int mmsb_reader_set(mmsb_reader *reader, uint32_t kind, uint32_t number, const uint8_t *base, uint64_t bytes) {
    mmsb_reader_region region = {base, bytes};
    if (kind == MMSB_REGION_HEADERS) {
        if (number >= MMSB_ARENA_CHUNKS) return MMSB_BAD_SIZE;
        uint64_t whole = sizeof(mmsb_page_header) << (number + MMSB_ARENA_CHUNK_BITS);
        if (base != NULL && bytes != whole) return MMSB_BAD_SIZE;
        reader->chunks[number] = region;
        return MMSB_OK;
    }
    if (kind != MMSB_REGION_PAGES || number == 0 || number > MMSB_ARENA_SEGMENTS_MAX) return MMSB_BAD_SIZE;
    uint64_t needed = ((uint64_t)number + 1) * sizeof region;
    if (reader->segments.size < needed) {
        if (!mmsb_buffer_reserve(&reader->segments, reader->alloc, needed)) return MMSB_NO_MEMORY;
        memset(reader->segments.data + reader->segments.size, 0, needed - reader->segments.size);
        reader->segments.size = needed;
    }
    memcpy(reader->segments.data + number * sizeof region, &region, sizeof region);
    return MMSB_OK;
}

static mmsb_reader_log *logs_of(const mmsb_reader *reader, uint64_t *count) {
    *count = reader->logs.size / sizeof(mmsb_reader_log);
    return (mmsb_reader_log *)(void *)reader->logs.data;
}

/* The place of the first log segment that is not before `number`: from the end, where it mostly is. */
static uint64_t log_place(const mmsb_reader *reader, uint32_t number) {
    uint64_t place;
    const mmsb_reader_log *logs = logs_of(reader, &place);
    while (place > 0 && logs[place - 1].number >= number) place--;
    return place;
}

/* The log segment of that number; NULL: it is not mapped. */
static const mmsb_reader_log *log_of(const mmsb_reader *reader, uint32_t number) {
    uint64_t count, place = log_place(reader, number);
    const mmsb_reader_log *logs = logs_of(reader, &count);
    return place < count && logs[place].number == number ? &logs[place] : NULL;
}

int mmsb_reader_set_log(mmsb_reader *reader, uint32_t number, const uint8_t *base, uint64_t bytes) {
    uint64_t count;
    uint64_t place = log_place(reader, number);
    mmsb_reader_log *logs = logs_of(reader, &count);
    bool known = place < count && logs[place].number == number;
    if (base == NULL) {
        if (known) {
            memmove(logs + place, logs + place + 1, (count - place - 1) * sizeof *logs);
            reader->logs.size -= sizeof *logs;
        }
        return MMSB_OK;
    }
    mmsb_segment_head head;
    uint32_t version;
    int status = mmsb_segment_head_get(&reader->kernels, base, bytes, &head, &version);
    if (status != MMSB_OK) return status;
    if (head.number != number || head.capacity > bytes) return MMSB_BAD_HEADER;
    if (mmsb_frame_seed(&reader->kernels, head.salt) != reader->seed) return MMSB_BAD_HEADER;
    if (!known) {
        if (!mmsb_buffer_reserve(&reader->logs, reader->alloc, reader->logs.size + sizeof *logs)) return MMSB_NO_MEMORY;
        logs = logs_of(reader, &count);
        memmove(logs + place + 1, logs + place, (count - place) * sizeof *logs);
        reader->logs.size += sizeof *logs;
    }
    logs[place] = (mmsb_reader_log){{base, head.capacity}, number, head.base_seq, head.base_time_ns};
    return MMSB_OK;
}

static const mmsb_page_header *header_of(const mmsb_reader *reader, uint64_t page_id) {
    if (page_id == 0 || page_id > MMSB_PAGE_ID_MAX) return NULL;
    uint64_t place = page_id + ((uint64_t)1 << MMSB_ARENA_CHUNK_BITS);
    unsigned bit = 63u - (unsigned)__builtin_clzll(place);
    const uint8_t *base = reader->chunks[bit - MMSB_ARENA_CHUNK_BITS].base;
    return base == NULL ? NULL : (const mmsb_page_header *)(const void *)base + (place ^ (uint64_t)1 << bit);
}

/* Where the byte `first` of the slot of a handle is, and how many may be read from there on at most. NULL: nowhere. */
static const uint8_t *slot_of(const mmsb_reader *reader, uint64_t handle, uint64_t first, uint64_t *most) {
    uint64_t number = mmsb_handle_segment(handle), offset = mmsb_handle_offset_bytes(handle);
    if (handle == 0 || mmsb_handle_device(handle) != 0) return NULL;
    if (number >= reader->segments.size / sizeof(mmsb_reader_region)) return NULL;
    mmsb_reader_region region;
    memcpy(&region, reader->segments.data + number * sizeof region, sizeof region);
    if (region.base == NULL || offset > region.bytes || first > region.bytes - offset) return NULL;
    *most = region.bytes - offset - first;
    return region.base + offset + first;
}

/* ---- the frames between two positions */

typedef struct window {
    const mmsb_reader *reader;
    uint64_t position, end;
    uint64_t seq; /* of the frame given last, or of the last commit before the segment it ended in */
    const uint8_t *changes, *changes_end;
} window;

#define OFFSET_OF(position) ((position) & (((uint64_t)1 << 40) - 1))
#define NUMBER_OF(position) ((uint32_t)((position) >> 40))

/* The next commit. MMSB_OK; MMSB_END; or a failure of mmsb_reader_read. */
static int window_next(window *w) {
    const mmsb_reader *reader = w->reader;
    while (w->position < w->end) {
        uint32_t number = NUMBER_OF(w->position);
        uint64_t offset = OFFSET_OF(w->position);
        const mmsb_reader_log *log = log_of(reader, number);
        if (log == NULL) return MMSB_BEHIND;
        bool last = number == NUMBER_OF(w->end);
        uint64_t limit = last ? OFFSET_OF(w->end) : log->region.bytes;
        if (limit > log->region.bytes || offset > limit) return MMSB_BAD_LENGTH;
        mmsb_frame_head head;
        uint32_t crc;
        int64_t bytes = mmsb_frame_open(&reader->kernels, reader->seed, log->region.base + offset, limit - offset,
                                        &head, &w->changes, &w->changes_end, &crc);
        if (bytes == MMSB_END && !last) {
            w->position = mmsb_log_position(number + 1, MMSB_SEGMENT_HEADER_BYTES);
            continue;
        }
        if (bytes < 0) return bytes == MMSB_END ? MMSB_BAD_LENGTH : (int)bytes;
        w->position += (uint64_t)bytes;
        w->seq = log->base_seq + head.seq_rel;
        if (head.kind == MMSB_FRAME_COMMIT) return MMSB_OK;
    }
    return MMSB_END;
}

/* The moment at the end of a window that was walked to its end. */
static int window_moment(const window *w, mmsb_moment *moment) {
    moment->position = w->end;
    moment->seq = w->seq;
    if (w->seq != UINT64_MAX) return MMSB_OK;
    /* It led into a segment that has no frame yet. */
    const mmsb_reader_log *log = log_of(w->reader, NUMBER_OF(w->end));
    if (log == NULL) return MMSB_BEHIND;
    moment->seq = log->base_seq;
    return MMSB_OK;
}

/* ---- beginning and ending a read */

static uint64_t begin(mmsb_reader *reader) {
    uint64_t applied = __atomic_load_n(&reader->shared->applied, __ATOMIC_ACQUIRE);
    /* The owner looks at the word after it changed a header, with a full fence between; we change the word before we
     * look at a header, with another. So it sees the word, or we see the header. */
    (void)__atomic_exchange_n(&reader->words->reading, applied, __ATOMIC_SEQ_CST);
    return applied;
}

/* A position of `shared` that moves, or where history ends for good. */
static uint64_t last_or(const mmsb_reader *reader, const uint64_t *position) {
    if (__atomic_load_n(&reader->gone, __ATOMIC_ACQUIRE)) return reader->last;
    return __atomic_load_n(position, __ATOMIC_ACQUIRE);
}

/* After the copy: the tail, and the seq of the last commit if nothing was published since `applied`. */
static uint64_t note_tail(const mmsb_reader *reader, uint64_t *seq) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    *seq = __atomic_load_n(&reader->shared->seq, __ATOMIC_ACQUIRE);
    return last_or(reader, &reader->shared->tail);
}

static int finish(mmsb_reader *reader, int status, const mmsb_moment *moment) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    /* Only now: the slots were ours until here, unless the owner gave us up before. */
    uint64_t admitted = __atomic_load_n(&reader->shared->admitted[reader->place], __ATOMIC_ACQUIRE);
    __atomic_store_n(&reader->words->reading, MMSB_NOT_READING, __ATOMIC_RELEASE);
    if (admitted != reader->number) return MMSB_DROPPED;
    if (status == MMSB_OK) __atomic_store_n(&reader->words->seen_seq, moment->seq, __ATOMIC_RELAXED);
    return status;
}

static bool has_grown(const mmsb_reader *reader) {
    /* A message may be here before the owner has counted it, or may never be counted when the owner died on the way. */
    return __atomic_load_n(&reader->shared->grown, __ATOMIC_ACQUIRE) > reader->grown;
}

/* ---- copying */

static uint64_t bytes_wanted(const mmsb_read *read, uint64_t size) {
    return read->first >= size ? 0 : mmsb_min_u64(read->length, size - read->first);
}

/* Where the target begins inside a cache line, the wide stores of memcpy touch two lines each, which doubles the time
 * for a page. What malloc gives begins on a multiple of 16 bytes, and stores of 16 bytes (what the compiler makes of a
 * copy of constant size) then stay within a line. */
static void copy_bytes(uint8_t *to, const uint8_t *from, uint64_t bytes) {
    enum { BLOCK = 256 };
    if (((uintptr_t)to & 63) != 0 && ((uintptr_t)to & 15) == 0)
        for (; bytes >= BLOCK; bytes -= BLOCK, to += BLOCK, from += BLOCK) memcpy(to, from, BLOCK);
    memcpy(to, from, bytes);
}

static int make_room(mmsb_reader *reader, mmsb_read *read, uint64_t bytes) {
    if (bytes <= read->room) return MMSB_OK;
    if (!read->owned) return MMSB_BAD_SIZE;
    uint8_t *to = reader->alloc->resize(reader->alloc->context, read->to, bytes);
    if (to == NULL) return MMSB_NO_MEMORY;
    read->to = to;
    read->room = bytes;
    return MMSB_OK;
}

static int copy_page(mmsb_reader *reader, mmsb_read *read) {
    const mmsb_page_header *header = header_of(reader, read->page_id);
    read->status = MMSB_OK;
    read->copied = read->gained = read->size = read->epoch = read->flags = 0;
    read->exists = read->created = read->touched = read->reachable = false;
    if (header == NULL) return has_grown(reader) ? MMSB_GROWN : MMSB_OK;
    read->flags = __atomic_load_n(&header->flags, __ATOMIC_ACQUIRE);
    read->exists = (read->flags & MMSB_PAGE_LIVE) != 0;
    read->epoch = __atomic_load_n(&header->epoch, __ATOMIC_ACQUIRE);
    /* The size first: the handle is then as new as the size or newer (core_apply.c stores them the other way round). */
    read->size = __atomic_load_n(&header->size, __ATOMIC_ACQUIRE);
    uint64_t handle = __atomic_load_n(&header->handle, __ATOMIC_ACQUIRE), most;
    /* Memory that a header leads to was told before the header changed. */
    if (has_grown(reader)) return MMSB_GROWN;
    if (!read->exists) return MMSB_OK;
    const uint8_t *slot = slot_of(reader, handle, 0, &most);
    if (slot == NULL) return MMSB_OK; /* believed only if the log tells of this page's making or end */
    read->reachable = true;
    uint64_t count = bytes_wanted(read, read->size);
    int status = make_room(reader, read, count);
    if (status == MMSB_NO_MEMORY) return status;
    count = mmsb_min_u64(count, read->room);
    if (count != 0 && read->first < most) {
        read->copied = mmsb_min_u64(count, most - read->first);
        copy_bytes(read->to, slot + read->first, read->copied);
    }
    return MMSB_OK;
}

/* ---- redoing */

/* The first of `reads` with that page id or a higher one. */
static uint64_t find(const mmsb_read *reads, uint64_t count, uint64_t page_id) {
    uint64_t low = 0, high = count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (reads[middle].page_id < page_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* First pass: what becomes of each page as a whole. */
static void foresee(mmsb_read *reads, uint64_t count, const mmsb_change *change) {
    uint64_t i = find(reads, count, change->page_id);
    switch (change->kind) {
        case MMSB_DELTA_DENSE:
        case MMSB_DELTA_RUNS:
        case MMSB_DELTA_BITMAP:
        case MMSB_CHANGE_RESIZE:
            if (i == count || reads[i].page_id != change->page_id) return;
            reads[i].gained++;
            reads[i].touched = true;
            if (change->kind == MMSB_CHANGE_RESIZE) reads[i].size = change->size;
            return;
        case MMSB_CHANGE_DELETE:
            if (i < count && reads[i].page_id == change->page_id) reads[i].exists = false;
            return;
        case MMSB_CHANGE_CREATE:
            for (; i < count && reads[i].page_id - change->page_id < change->count; i++) {
                reads[i].exists = reads[i].created = reads[i].touched = true;
                reads[i].size = change->size;
                reads[i].copied = 0;
            }
            return;
        default:
            return;
    }
}

/* Decides what a page is at the end of the window, and brings the buffer to that size. */
static int settle(mmsb_reader *reader, mmsb_read *read) {
    read->epoch_known = read->created || !read->touched;
    if (read->created) read->epoch = read->gained;
    if (!read->exists) {
        read->status = MMSB_PAGE_NOT_FOUND;
        read->count = 0;
        return MMSB_OK;
    }
    if (!read->created && !read->reachable) return MMSB_BAD_HEADER;
    read->count = bytes_wanted(read, read->size);
    read->status = make_room(reader, read, read->count);
    if (read->status == MMSB_NO_MEMORY) return MMSB_NO_MEMORY;
    if (read->status != MMSB_OK) return MMSB_OK;
    /* Behind a page's end every slot is zero, so a page may be taken for one that goes on in zeros for ever; a resize
     * is then a change like any other, which zeroes what lies behind. That makes redoing it harmless. */
    if (read->count > read->copied) memset(read->to + read->copied, 0, read->count - read->copied);
    return MMSB_OK;
}

static int redo_delta(mmsb_read *read, uint8_t code, const uint8_t *payload, uint64_t payload_bytes) {
    mmsb_delta_view view;
    int status = mmsb_delta_parse(code, payload, payload_bytes, (uint64_t)1 << 62, &view);
    if (status != MMSB_OK) return status;
    uint64_t first = read->first, end = read->first + read->count;
    if (view.end <= first || view.first >= end) return MMSB_OK;
    mmsb_run_cursor run = {0};
    while (mmsb_delta_next_run(&view, &run)) {
        uint64_t from = mmsb_max_u64(run.offset, first), to = mmsb_min_u64(run.offset + run.length, end);
        if (from < to) memcpy(read->to + (from - first), run.values + (from - run.offset), to - from);
    }
    return MMSB_OK;
}

static int redo(mmsb_read *reads, uint64_t count, const mmsb_change *change) {
    uint64_t i = find(reads, count, change->page_id);
    if (i == count) return MMSB_OK;
    mmsb_read *read = &reads[i];
    if (change->kind == MMSB_CHANGE_CREATE && change->create_flags & MMSB_CREATE_CONTENT &&
        read->page_id == change->page_id)
        return read->status != MMSB_OK ? MMSB_OK
                                       : redo_delta(read, change->content_code, change->payload, change->payload_bytes);
    if (read->page_id != change->page_id || read->status != MMSB_OK) return MMSB_OK;
    switch (change->kind) {
        case MMSB_DELTA_DENSE:
        case MMSB_DELTA_RUNS:
        case MMSB_DELTA_BITMAP:
            return redo_delta(read, change->kind, change->payload, change->payload_bytes);
        case MMSB_CHANGE_RESIZE: {
            uint64_t from = mmsb_max_u64(change->size, read->first) - read->first;
            if (from < read->count) memset(read->to + from, 0, read->count - from);
            return MMSB_OK;
        }
        default:
            return MMSB_OK;
    }
}

/* One walk over the frames from `applied` to `tail`. */
static int walk(mmsb_reader *reader, mmsb_read *reads, uint64_t count, uint64_t from, uint64_t to, bool second,
                mmsb_moment *moment) {
    window w = {.reader = reader, .position = from, .end = to, .seq = UINT64_MAX};
    int status;
    while ((status = window_next(&w)) == MMSB_OK) {
        mmsb_change change;
        const uint8_t *p = w.changes;
        for (;;) {
            p = mmsb_change_next(p, w.changes_end, &change);
            if (p == NULL) return MMSB_BAD_FRAME;
            if (change.kind == MMSB_CHANGE_END) break;
            if (!second)
                foresee(reads, count, &change);
            else if ((status = redo(reads, count, &change)) != MMSB_OK)
                return status;
        }
    }
    return status == MMSB_END ? window_moment(&w, moment) : status;
}

static int read_pages(mmsb_reader *reader, mmsb_read *reads, uint64_t count, mmsb_moment *moment) {
    uint64_t applied = begin(reader), seq;
    int status = MMSB_OK;
    for (uint64_t i = 0; i < count && status == MMSB_OK; i++) status = copy_page(reader, &reads[i]);
    if (status != MMSB_OK) return status;
    uint64_t tail = note_tail(reader, &seq);
    *moment = (mmsb_moment){seq, tail};
    bool moved = tail != applied && MMSB_LIKELY(!reader->never_redo);
    if (moved) {
        /* A log segment that is not known yet was told before the tail moved into it. */
        if (has_grown(reader)) return MMSB_GROWN;
        status = walk(reader, reads, count, applied, tail, false, moment);
    }
    bool touched = false;
    for (uint64_t i = 0; i < count && status == MMSB_OK; i++) {
        status = settle(reader, &reads[i]);
        touched |= reads[i].touched;
    }
    if (moved && touched && status == MMSB_OK) status = walk(reader, reads, count, applied, tail, true, moment);
    return status;
}

int mmsb_reader_read(mmsb_reader *reader, mmsb_read *reads, uint64_t count, mmsb_moment *moment) {
    return finish(reader, read_pages(reader, reads, count, moment), moment);
}

/* Redoes what the frames between two positions do to the bytes of one page. false: they do something else to it. */
static bool catch_up(const mmsb_reader *reader, mmsb_read *read, uint64_t from, uint64_t to) {
    window w = {.reader = reader, .position = from, .end = to, .seq = UINT64_MAX};
    int status;
    while ((status = window_next(&w)) == MMSB_OK) {
        mmsb_change change;
        const uint8_t *p = w.changes;
        do {
            p = mmsb_change_next(p, w.changes_end, &change);
            if (p == NULL) return false;
            if (change.kind <= MMSB_DELTA_BITMAP && change.kind != MMSB_CHANGE_END) {
                if (change.page_id == read->page_id &&
                    redo_delta(read, change.kind, change.payload, change.payload_bytes) != MMSB_OK)
                    return false;
            } else if (change.kind >= MMSB_CHANGE_CREATE && change.kind <= MMSB_CHANGE_RESIZE) {
                uint64_t count = change.kind == MMSB_CHANGE_CREATE ? change.count : 1;
                if (read->page_id - change.page_id < count) return false;
            }
        } while (change.kind != MMSB_CHANGE_END);
    }
    return status == MMSB_END;
}

static bool copy_expected(mmsb_reader *reader, uint64_t page_id, uint64_t first, uint8_t *to, uint64_t length,
                          bool whole) {
    const mmsb_page_header *header = header_of(reader, page_id);
    if (header == NULL) return false;
    uint64_t applied = begin(reader), seq, most;
    uint16_t flags = __atomic_load_n(&header->flags, __ATOMIC_ACQUIRE);
    uint64_t size = __atomic_load_n(&header->size, __ATOMIC_ACQUIRE);
    uint64_t handle = __atomic_load_n(&header->handle, __ATOMIC_ACQUIRE);
    if (has_grown(reader)) return false;
    if ((flags & (MMSB_PAGE_LIVE | MMSB_PAGE_STALE | MMSB_PAGE_FAILED)) != MMSB_PAGE_LIVE) return false;
    if (first > size || length > size - first || (whole && length != size)) return false;
    const uint8_t *slot = slot_of(reader, handle, first, &most);
    if (slot == NULL || length > most) return false;
    copy_bytes(to, slot, length);
    uint64_t tail = note_tail(reader, &seq);
    if (MMSB_LIKELY(tail == applied)) {
        __atomic_store_n(&reader->words->seen_seq, seq, __ATOMIC_RELAXED);
        return true;
    }
    mmsb_read read = {.page_id = page_id, .first = first, .count = length, .to = to};
    return !has_grown(reader) && !reader->never_redo && catch_up(reader, &read, applied, tail);
}

bool mmsb_reader_copy(mmsb_reader *reader, uint64_t page_id, uint64_t first, uint8_t *to, uint64_t length, bool whole) {
    mmsb_moment moment = {0};
    bool done = copy_expected(reader, page_id, first, to, length, whole);
    return finish(reader, done ? MMSB_END : MMSB_BEHIND, &moment) == MMSB_END;
}

uint64_t mmsb_reader_guess(const mmsb_reader *reader, uint64_t page_id) {
    const mmsb_page_header *header = header_of(reader, page_id);
    return header == NULL ? 0 : __atomic_load_n(&header->size, __ATOMIC_RELAXED);
}

/* ---- which pages there are */

static int list_live(mmsb_reader *reader, uint8_t *live, uint64_t room, uint64_t *end, mmsb_moment *moment) {
    uint64_t applied = begin(reader), seq;
    uint64_t known = __atomic_load_n(&reader->shared->next_page_id, __ATOMIC_ACQUIRE);
    if (has_grown(reader)) return MMSB_GROWN;
    if (known > MMSB_PAGE_ID_MAX + 1) return MMSB_BAD_HEADER;
    *end = known;
    if (known > room) return MMSB_BAD_SIZE;
    memset(live, 0, room);
    for (uint64_t id = 1; id < known; id++) {
        const mmsb_page_header *header = header_of(reader, id);
        if (header == NULL) return MMSB_BAD_HEADER;
        live[id] = (__atomic_load_n(&header->flags, __ATOMIC_ACQUIRE) & MMSB_PAGE_LIVE) != 0;
    }
    uint64_t tail = note_tail(reader, &seq);
    *moment = (mmsb_moment){seq, tail};
    if (tail == applied) return MMSB_OK;
    if (has_grown(reader)) return MMSB_GROWN;
    window w = {.reader = reader, .position = applied, .end = tail, .seq = UINT64_MAX};
    int status;
    while ((status = window_next(&w)) == MMSB_OK) {
        mmsb_change change;
        const uint8_t *p = w.changes;
        do {
            p = mmsb_change_next(p, w.changes_end, &change);
            if (p == NULL) return MMSB_BAD_FRAME;
            bool creates = change.kind == MMSB_CHANGE_CREATE;
            if (!creates && change.kind != MMSB_CHANGE_DELETE) continue;
            uint64_t after = change.page_id + (creates ? change.count : 1);
            if (after > MMSB_PAGE_ID_MAX + 1) return MMSB_BAD_FRAME;
            *end = mmsb_max_u64(*end, after);
            for (uint64_t id = change.page_id; id < mmsb_min_u64(after, room); id++) live[id] = creates;
        } while (change.kind != MMSB_CHANGE_END);
    }
    if (status != MMSB_END) return status;
    if (*end > room) return MMSB_BAD_SIZE;
    return window_moment(&w, moment);
}

int mmsb_reader_live(mmsb_reader *reader, uint8_t *live, uint64_t room, uint64_t *end, mmsb_moment *moment) {
    return finish(reader, list_live(reader, live, room, end, moment), moment);
}

/* ---- waiting */

uint64_t mmsb_reader_end(const mmsb_reader *reader) { return last_or(reader, &reader->shared->applied); }

uint64_t mmsb_reader_published(const mmsb_reader *reader) { return last_or(reader, &reader->shared->tail); }

void mmsb_reader_owner_went(mmsb_reader *reader) {
    if (reader->gone) return;
    uint64_t applied = __atomic_load_n(&reader->shared->applied, __ATOMIC_ACQUIRE);
    uint64_t tail = __atomic_load_n(&reader->shared->tail, __ATOMIC_ACQUIRE);
    window w = {.reader = reader, .position = applied, .end = tail, .seq = reader->shared->seq};
    while (window_next(&w) == MMSB_OK) continue;
    uint64_t seq = w.seq, last = tail;
    const mmsb_reader_log *log = log_of(reader, NUMBER_OF(tail));
    while (log != NULL && OFFSET_OF(last) < log->region.bytes) {
        mmsb_frame_head head;
        const uint8_t *changes, *end;
        uint32_t crc;
        uint64_t offset = OFFSET_OF(last);
        int64_t bytes = mmsb_frame_open(&reader->kernels, reader->seed, log->region.base + offset,
                                        log->region.bytes - offset, &head, &changes, &end, &crc);
        if (bytes < 0 || log->base_seq + head.seq_rel != seq + (head.kind == MMSB_FRAME_COMMIT)) break;
        seq = log->base_seq + head.seq_rel;
        last = mmsb_log_position(log->number, offset + (uint64_t)bytes);
    }
    reader->last = last;
    /* Other threads look at `last` once they see this. */
    __atomic_store_n(&reader->gone, true, __ATOMIC_RELEASE);
}

bool mmsb_reader_wait(mmsb_reader *reader, uint64_t position, uint64_t timeout_ns) {
    const mmsb_shared *shared = reader->shared;
    if (mmsb_reader_end(reader) != position) return true;
    if (__atomic_load_n(&reader->over, __ATOMIC_SEQ_CST)) return false;
    uint64_t spent = mmsb_patience_look(&reader->patience, &shared->applied, position, timeout_ns);
    if (mmsb_reader_end(reader) != position) return true;
    if (spent >= timeout_ns) return false;
    __atomic_fetch_add(&reader->words->waiting, 1, __ATOMIC_SEQ_CST);
    uint32_t bell = __atomic_load_n(&shared->bell, __ATOMIC_SEQ_CST);
    if (mmsb_reader_end(reader) == position && !__atomic_load_n(&reader->over, __ATOMIC_SEQ_CST))
        mmsb_bell_wait(&shared->bell, bell, timeout_ns - spent);
    __atomic_fetch_sub(&reader->words->waiting, 1, __ATOMIC_SEQ_CST);
    return mmsb_reader_end(reader) != position;
}

void mmsb_reader_end_waits(mmsb_reader *reader) {
    __atomic_store_n(&reader->over, true, __ATOMIC_SEQ_CST);
    mmsb_bell_ring_out(&reader->shared->bell, &reader->words->waiting);
}
