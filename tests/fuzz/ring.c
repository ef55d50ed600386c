/* One queue of a ring. The other side writes what it likes, at any moment; this side takes what is well-formed, once,
 * in order, and never looks outside. Between two honest sides everything arrives. */
#include "../../csrc/ring.h"
#include "fuzz.h"

enum { CAPACITY_LEAST = 64, SENT_MOST = 64 };

typedef struct queue {
    uint8_t *area; /* exactly `capacity` */
    uint64_t capacity;
    uint64_t tail, head;
    mmsb_buffer record;
} queue;

static mmsb_ring_end end_of(queue *q) {
    return (mmsb_ring_end){.area = q->area, .capacity = q->capacity, .tail_at = &q->tail, .head_at = &q->head};
}

static int take(queue *q, mmsb_ring_end *reader) {
    mmsb_ring_end before = *reader;
    int status = mmsb_ring_take(reader, &mmsb_alloc_libc, &q->record);
    CHECK(status == MMSB_OK || status == MMSB_END || status == MMSB_RING_BROKEN, "status %d", status);
    CHECK((status == MMSB_RING_BROKEN) == (reader->broken != NULL), "broken, and not said so");
    CHECK(before.broken == NULL || status == MMSB_RING_BROKEN, "mended by itself");
    CHECK(reader->there - reader->here <= q->capacity && reader->here % 8 == 0, "the reader left the ring");
    CHECK(reader->here - before.here <= q->capacity && reader->here <= reader->there, "further than was published");
    if (status != MMSB_OK) return status;
    uint64_t size = q->record.size, taken = mmsb_align_up(size, 8), at = (reader->here - taken) & (q->capacity - 1);
    CHECK(size >= MMSB_RING_RECORD_HEAD_BYTES && taken <= q->capacity - at, "a record of %lu", (unsigned long)size);
    CHECK(memcmp(q->record.data, q->area + at, size) == 0, "not the record that stands there");
    CHECK(q->record.data[4] != 0 && mmsb_load_u32(q->record.data) == size, "padding was taken for a record");
    return status;
}

/* Writes into the ring, moves the tail, takes: as the script says. */
static void check_hostile_writer(script *s, queue *q) {
    mmsb_ring_end reader = end_of(q);
    while (left_of(s) != 0) {
        uint8_t what = next_byte(s);
        uint64_t place = next_byte(s) * 8 % q->capacity;
        switch (what % 5) {
            case 0: /* the head of a record */
                mmsb_store_u64(q->area + place, next_number(s) | (uint64_t)(what >> 4) << 32);
                break;
            case 1: /* anything */
                for (uint64_t n = mmsb_min_u64(what >> 3, q->capacity - place); n-- > 0;)
                    q->area[place + n] = next_byte(s);
                break;
            case 2:
                q->tail += what & 0x80 ? next_number(s) : place;
                break;
            case 3:
                while (take(q, &reader) == MMSB_OK) continue;
                break;
            default:
                mmsb_ring_release(&reader);
                CHECK(q->head == reader.here, "released another place");
        }
    }
    while (take(q, &reader) == MMSB_OK) continue;
}

/* The reader's index lies: a writer writes nowhere but into its ring, and not over what it has not given free. */
static void check_hostile_reader(script *s, queue *q) {
    mmsb_ring_end writer = end_of(q);
    while (left_of(s) != 0) {
        uint8_t what = next_byte(s);
        if (what & 1) {
            q->head += what & 2 ? next_number(s) : what / 8 * 8;
            continue;
        }
        uint64_t bytes = MMSB_RING_RECORD_HEAD_BYTES + what % (mmsb_ring_record_max(&writer) - 7);
        uint8_t *room = mmsb_ring_reserve(&writer, bytes);
        CHECK(writer.here - writer.there <= q->capacity, "more is out than fits");
        if (room == NULL) continue;
        uint64_t at = (uint64_t)(room - q->area);
        CHECK(at % 8 == 0 && at <= q->capacity && mmsb_align_up(bytes, 8) <= q->capacity - at, "outside the ring");
        CHECK(at == (writer.here & (q->capacity - 1)), "not where it goes on");
        memset(room, what, bytes);
        mmsb_ring_put(&writer, room, (uint32_t)bytes, 1, what, 0);
        CHECK(writer.here - writer.there <= q->capacity, "over what the reader still has");
        mmsb_ring_publish(&writer);
    }
}

static void check_honest(script *s, queue *q) {
    mmsb_ring_end writer = end_of(q), reader = end_of(q);
    uint8_t sent[SENT_MOST];
    uint64_t put = 0, taken = 0;
    while (left_of(s) != 0) {
        uint8_t what = next_byte(s);
        uint64_t bytes = MMSB_RING_RECORD_HEAD_BYTES + what / 2 % (mmsb_ring_record_max(&writer) - 7);
        uint8_t *room = what & 1 || put - taken == SENT_MOST ? NULL : mmsb_ring_reserve(&writer, bytes);
        CHECK(writer.broken == NULL, "%s", writer.broken);
        if (room != NULL) {
            memset(room, what, bytes);
            mmsb_ring_put(&writer, room, (uint32_t)bytes, what | 1, what, what);
            sent[put++ % SENT_MOST] = what;
            continue;
        }
        CHECK(what & 1 || put != taken, "an empty ring has no room");
        mmsb_ring_publish(&writer);
        int status;
        while ((status = take(q, &reader)) == MMSB_OK) {
            uint8_t expected = sent[taken++ % SENT_MOST];
            CHECK(taken <= put && q->record.size ==
                                      MMSB_RING_RECORD_HEAD_BYTES + expected / 2 % (mmsb_ring_record_max(&reader) - 7),
                  "another record");
            for (uint64_t i = 8; i < q->record.size; i++) CHECK(q->record.data[i] == expected, "other bytes");
        }
        CHECK(status == MMSB_END && taken == put, "%lu of %lu arrived", (unsigned long)taken, (unsigned long)put);
        mmsb_ring_release(&reader);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    uint8_t kind = next_byte(&s);
    queue q = {.capacity = (uint64_t)CAPACITY_LEAST << (kind >> 6)};
    q.area = calloc(1, q.capacity);
    if (kind % 3 == 0)
        check_hostile_writer(&s, &q);
    else if (kind % 3 == 1)
        check_hostile_reader(&s, &q);
    else
        check_honest(&s, &q);
    free(q.area);
    free(q.record.data);
    return 0;
}
