/* Random links on random pages against a literal model: the whole computation, and the one that is told what changed,
 * must give the bytes of the model, over every semiring and at every level. Pages end at guard pages. `checklink
 * --bench` times what the figures ask for. */
#define _GNU_SOURCE
#include <string.h>

#include "../../csrc/kernels.h"
#include "../../csrc/link.h"
#include "benchlink.h"
#include "guard.h"
#include "harness.h"
#include "lanes.h"

enum { PARENTS = 5, COPIES = 6, CHANGES = 3, PAGE_MAX = 1 << 14 };

static mmsb_kernels kernels;
static mmsb_semirings scalar, avx2, best;

/* One link with its pages; `x` is what the link is told about them. */
typedef struct scene {
    mmsb_link link;
    const mmsb_semiring *literal; /* the scalar row of its semiring */
    mmsb_link_copy copies[COPIES];
    uint8_t weights[PARENTS * 8], lane_weights[PARENTS * PAGE_MAX];
    guard guards[PARENTS];
    uint8_t *bytes[PARENTS];
    uint64_t sizes[PARENTS], epochs[PARENTS], child_size;
    mmsb_link_page x[PARENTS];
    mmsb_link_change changes[PARENTS][CHANGES];
    uint8_t payloads[PARENTS][CHANGES][MMSB_DELTA_BOUND(PAGE_MAX)];
    mmsb_link_result result;
} scene;

static guard old_guard;

/* The model: one lane at a time, by the scalar functions, in the order that csrc/link.h and csrc/semiring.h tell. */
static mmsb_lane times(const mmsb_semiring *s, const uint8_t *w, const uint8_t *x) {
    mmsb_lane product = {.i64 = 0};
    s->scale(s, product.bytes, w, x, 1, false);
    return product;
}

static mmsb_lane row_model(const mmsb_semiring *s, const scene *t, uint64_t r) {
    mmsb_lane lane[4] = {s->zero, s->zero, s->zero, s->zero};
    bool in_order = strcmp(s->name, "last-write") == 0;
    uint64_t begin = mmsb_load_u64(t->bytes[MMSB_LINK_ROW_START] + r * 8);
    uint64_t end = mmsb_load_u64(t->bytes[MMSB_LINK_ROW_START] + r * 8 + 8);
    for (uint64_t k = begin; k < end; k++) {
        uint64_t column = mmsb_load_u32(t->bytes[MMSB_LINK_COLUMN] + k * 4), n = s->lane_bytes;
        mmsb_lane one = times(s, t->bytes[MMSB_LINK_VALUE] + k * n, t->bytes[MMSB_LINK_X] + column * n);
        s->add(s, lane[in_order ? 0 : (k - begin) % 4].bytes, one.bytes, 1);
    }
    if (in_order) return lane[0];
    s->add(s, lane[0].bytes, lane[2].bytes, 1);
    s->add(s, lane[1].bytes, lane[3].bytes, 1);
    s->add(s, lane[0].bytes, lane[1].bytes, 1);
    return lane[0];
}

static void model(const scene *t, const uint8_t *old, uint8_t *child) {
    const mmsb_link *link = &t->link;
    memcpy(child, old, t->child_size);
    if (link->type == MMSB_LINK_COPY) {
        for (uint32_t i = 0; i < link->copy_count; i++)
            for (uint64_t k = 0; k < t->copies[i].bytes; k++)
                child[t->copies[i].to + k] = t->bytes[t->copies[i].parent][t->copies[i].from + k];
        return;
    }
    const mmsb_semiring *s = t->literal;
    uint64_t n = s->lane_bytes;
    for (uint64_t i = 0; i < t->child_size / n; i++) {
        mmsb_lane sum = s->zero;
        if (link->type == MMSB_LINK_MATRIX) {
            sum = row_model(s, t, i);
        } else {
            for (uint32_t p = 0; p < link->parent_count; p++) {
                mmsb_lane one = {.i64 = 0};
                if (link->type == MMSB_LINK_REDUCE)
                    s->fold_add(s, &one, t->bytes[p], t->sizes[p] / n);
                else if (link->weights != NULL)
                    one = times(s, link->weights + p * n, t->bytes[p] + i * n);
                else if (link->lane_weights != NULL)
                    one = times(s, link->lane_weights + p * t->child_size + i * n, t->bytes[p] + i * n);
                else
                    memcpy(one.bytes, t->bytes[p] + i * n, n);
                s->add(s, sum.bytes, one.bytes, 1);
            }
        }
        if (link->accumulates)
            s->add(s, child + i * n, sum.bytes, 1);
        else
            memcpy(child + i * n, sum.bytes, n);
    }
}

static uint64_t up_to(uint64_t n) { return random_u64() % (n + 1); }

static void set_page(scene *t, int p, uint64_t size) {
    t->sizes[p] = size;
    t->bytes[p] = guard_end(t->guards[p], size);
}

static void random_matrix(scene *t) {
    uint64_t capacity = 1 + up_to(400), *starts = (uint64_t *)(void *)t->payloads;
    t->link.rows = 1 + up_to(120);
    t->link.columns = 1 + up_to(120);
    t->child_size = t->link.rows * t->literal->lane_bytes;
    set_page(t, MMSB_LINK_X, t->link.columns * t->literal->lane_bytes);
    set_page(t, MMSB_LINK_ROW_START, (t->link.rows + 1) * 8);
    set_page(t, MMSB_LINK_COLUMN, capacity * 4);
    set_page(t, MMSB_LINK_VALUE, capacity * t->literal->lane_bytes);
    /* Entries fall to random rows; some rows get none, and some room stays at the end. */
    memset(starts, 0, (t->link.rows + 1) * 8);
    for (uint64_t k = up_to(capacity); k != 0; k--) starts[1 + up_to(t->link.rows - 1)]++;
    for (uint64_t r = 0; r < t->link.rows; r++) starts[r + 1] += starts[r];
    memcpy(t->bytes[MMSB_LINK_ROW_START], starts, (t->link.rows + 1) * 8);
    for (uint64_t k = 0; k < capacity; k++)
        mmsb_store_u32(t->bytes[MMSB_LINK_COLUMN] + k * 4, (uint32_t)up_to(t->link.columns - 1));
    fill(t->bytes[MMSB_LINK_X], t->literal, t->link.columns);
    fill(t->bytes[MMSB_LINK_VALUE], t->literal, capacity);
}

/* A link of that type on pages of its own. */
static void random_scene(scene *t, uint8_t type, const mmsb_semiring *literal, const mmsb_semiring *row) {
    t->link = (mmsb_link){.type = type, .parent_count = (uint32_t)(1 + up_to(PARENTS - 1)), .semiring = row};
    t->literal = literal;
    uint64_t n = literal->lane_bytes, lanes = 1 + up_to(random_u64() % 2 ? 8 : 1500);
    if (type == MMSB_LINK_MATRIX) {
        t->link.parent_count = MMSB_LINK_MATRIX_PARENTS;
        random_matrix(t);
    } else if (type == MMSB_LINK_COPY) {
        t->child_size = 1 + up_to(2000);
        t->link.copies = t->copies;
        t->link.copy_count = (uint32_t)(1 + up_to(COPIES - 1));
        for (uint32_t p = 0; p < t->link.parent_count; p++) set_page(t, (int)p, 1 + up_to(2000));
        for (uint32_t i = 0; i < t->link.copy_count; i++) {
            mmsb_link_copy *copy = &t->copies[i];
            copy->parent = up_to(t->link.parent_count - 1);
            copy->bytes = 1 + up_to(mmsb_min_u64(t->child_size, t->sizes[copy->parent]) - 1);
            copy->from = up_to(t->sizes[copy->parent] - copy->bytes);
            copy->to = up_to(t->child_size - copy->bytes);
        }
    } else {
        const uint64_t accumulating = MMSB_LAW_ADD_ASSOCIATIVE | MMSB_LAW_ADD_IDEMPOTENT;
        bool reduces = type == MMSB_LINK_REDUCE;
        t->child_size = reduces ? n : lanes * n;
        t->link.accumulates = !reduces && (row->laws & accumulating) == accumulating && random_u64() % 2;
        for (uint32_t p = 0; p < t->link.parent_count; p++) {
            set_page(t, (int)p, reduces ? (1 + up_to(300)) * n : lanes * n);
            fill(t->bytes[p], literal, t->sizes[p] / n);
        }
        fill(t->weights, literal, t->link.parent_count);
        fill(t->lane_weights, literal, t->link.parent_count * lanes);
        uint64_t weighs = reduces ? 0 : up_to(2);
        if (weighs == 1) t->link.weights = t->weights;
        if (weighs == 2) t->link.lane_weights = t->lane_weights;
    }
    for (uint32_t p = 0; p < t->link.parent_count; p++) {
        t->x[p] = (mmsb_link_page){t->bytes[p], t->sizes[p], t->epochs[p] += 2, true, 0, t->changes[p]};
        if (type == MMSB_LINK_COPY)
            for (uint64_t i = 0; i < t->sizes[p]; i++) t->bytes[p][i] = (uint8_t)random_u64();
    }
    const char *why = NULL;
    CHECK(mmsb_link_check(&t->link, t->sizes, t->child_size, &why), "%s", why);
}

/* Changes a few bytes of a page, up to CHANGES times, and writes down the deltas. */
static void change_page(scene *t, uint32_t p) {
    static uint8_t before[PAGE_MAX];
    mmsb_link_page *page = &t->x[p];
    uint64_t n = t->link.type == MMSB_LINK_COPY ? 1 : t->literal->lane_bytes, lanes = t->sizes[p] / n;
    page->whole = random_u64() % 16 == 0;
    page->change_count = 0;
    for (uint64_t change = up_to(CHANGES); change != 0; change--) {
        memcpy(before, t->bytes[p], t->sizes[p]);
        for (uint64_t spots = up_to(4); spots != 0; spots--) {
            uint64_t at = up_to(lanes - 1), run = mmsb_min_u64(lanes - at, 1 + up_to(12));
            if (t->link.type != MMSB_LINK_COPY && random_u64() % 2)
                fill(t->bytes[p] + at * n, t->literal, run);
            else
                t->bytes[p][at * n + up_to(n - 1)] ^= (uint8_t)(1 + up_to(254));
        }
        mmsb_link_change *one = &t->changes[p][page->change_count];
        uint8_t *payload = t->payloads[p][page->change_count];
        int64_t bytes = kernels.delta_diff(before, t->bytes[p], t->sizes[p], 0, payload, &one->code);
        if (bytes == 0) continue;
        one->payload = payload;
        one->payload_bytes = (uint64_t)bytes;
        page->change_count++;
        page->epoch++;
    }
    t->epochs[p] = page->epoch;
}

/* Puts the result into `child`, and checks its form. */
static void take(const mmsb_link_result *result, uint8_t *child, uint64_t child_size) {
    if (result->whole) {
        CHECK(result->bytes.size == child_size && result->runs.size == 0, "the whole is not the whole");
        memcpy(child, result->bytes.data, child_size);
        return;
    }
    const mmsb_run *runs = (const mmsb_run *)(const void *)result->runs.data;
    uint64_t at = 0, value = 0;
    for (uint64_t i = 0; i < result->runs.size / sizeof *runs; i++) {
        CHECK(runs[i].length != 0 && (i == 0 || runs[i].offset > at), "runs are not ascending, or touch");
        CHECK(runs[i].offset <= child_size && runs[i].length <= child_size - runs[i].offset, "a run leaves the child");
        CHECK(runs[i].length <= result->bytes.size - value, "values are missing");
        for (uint64_t k = 0; k < runs[i].length; k++)
            CHECK(child[runs[i].offset + k] != result->bytes.data[value + k], "a byte of a run is as it was");
        memcpy(child + runs[i].offset, result->bytes.data + value, runs[i].length);
        value += runs[i].length;
        at = runs[i].offset + runs[i].length;
    }
    CHECK(value == result->bytes.size, "values are left over");
}

/* Whether the result changes something, and nothing outside these bytes of the child. */
static bool changes_only(const mmsb_link_result *result, uint64_t from, uint64_t to) {
    const mmsb_run *runs = (const mmsb_run *)(const void *)result->runs.data;
    uint64_t count = result->runs.size / sizeof *runs;
    return !result->whole && count != 0 && runs[0].offset >= from &&
           runs[count - 1].offset + runs[count - 1].length <= to;
}

static uint8_t expected[PAGE_MAX], child[PAGE_MAX];

static void compare(scene *t, const char *what) {
    const char *why = NULL;
    uint8_t *old = guard_end(old_guard, t->child_size);
    memcpy(old, child, t->child_size);
    model(t, old, expected);
    CHECK(mmsb_link_compute(&t->link, t->x, old, t->child_size, &mmsb_alloc_libc, &t->result, &why) == MMSB_OK, "%s",
          why);
    CHECK(memcmp(old, child, t->child_size) == 0, "the old child was written");
    take(&t->result, child, t->child_size);
    CHECK(memcmp(child, expected, t->child_size) == 0, "%s: type %u, %s dtype %u, %lu bytes, %u parents", what,
          t->link.type, t->literal->name, t->literal->dtype, (unsigned long)t->child_size, t->link.parent_count);
}

/* The whole, then four waves of changes, one of them without any; returns how many were computed in part. */
static int check_link(scene *t, uint8_t type, const mmsb_semiring *literal, const mmsb_semiring *row) {
    int parts = 0;
    random_scene(t, type, literal, row);
    for (uint64_t i = 0; i < t->child_size; i++) child[i] = (uint8_t)random_u64();
    compare(t, "whole");
    for (int wave = 0; wave < 4; wave++) {
        for (uint32_t p = 0; p < t->link.parent_count; p++) {
            bool structure = type == MMSB_LINK_MATRIX && (p == MMSB_LINK_ROW_START || p == MMSB_LINK_COLUMN);
            t->x[p].whole = structure && random_u64() % 8 == 0;
            t->x[p].change_count = 0;
            if (!structure && wave != 2 && random_u64() % 2) change_page(t, p);
        }
        compare(t, "changes");
        parts += !t->result.whole && t->result.runs.size != 0;
    }
    mmsb_link_release(&t->link, &mmsb_alloc_libc);
    return parts;
}

/* Whether the matrix pages make a matrix, by the definition. */
static bool is_matrix(const scene *t) {
    const uint8_t *row_start = t->bytes[MMSB_LINK_ROW_START];
    if (mmsb_load_u64(row_start) != 0) return false;
    for (uint64_t r = 0; r < t->link.rows; r++)
        if (mmsb_load_u64(row_start + r * 8) > mmsb_load_u64(row_start + r * 8 + 8)) return false;
    uint64_t entries = mmsb_load_u64(row_start + t->link.rows * 8);
    if (entries > t->sizes[MMSB_LINK_COLUMN] / 4) return false;
    for (uint64_t k = 0; k < entries; k++)
        if (mmsb_load_u32(t->bytes[MMSB_LINK_COLUMN] + k * 4) >= t->link.columns) return false;
    return true;
}

/* Bytes of row_start or column become anything: the matrix is refused, or computed with, and mended it is computed with
 * again. Whether the link is told by `whole`, by a change or by the epoch alone is all one. */
static void check_hostile_matrix(scene *t, const mmsb_semiring *literal, const mmsb_semiring *row) {
    random_scene(t, MMSB_LINK_MATRIX, literal, row);
    compare(t, "whole");
    for (int round = 0; round < 8; round++) {
        int p = random_u64() % 2 ? MMSB_LINK_ROW_START : MMSB_LINK_COLUMN;
        uint8_t good[8], *at = t->bytes[p] + up_to(t->sizes[p] / 4 - 1) * 4;
        uint64_t told = random_u64() % 3;
        memcpy(good, at, 4);
        mmsb_store_u32(at, (uint32_t)(random_u64() % 2 ? random_u64() : up_to(200)));
        for (uint32_t k = 0; k < t->link.parent_count; k++) t->x[k].whole = false, t->x[k].change_count = 0;
        t->x[p].whole = told == 0;
        t->x[p].change_count = told == 1;
        t->changes[p][0] = (mmsb_link_change){MMSB_DELTA_DENSE, (const uint8_t *)"\0\1\0", 3};
        t->x[p].epoch += told == 2;
        const char *why = NULL;
        if (is_matrix(t)) {
            compare(t, "another matrix");
        } else {
            int status = mmsb_link_compute(&t->link, t->x, child, t->child_size, &mmsb_alloc_libc, &t->result, &why);
            CHECK(status == MMSB_BAD_LINK && why != NULL, "a bad matrix is taken");
        }
        memcpy(at, good, 4);
        t->x[p].epoch++;
        compare(t, "mended matrix");
    }
    mmsb_link_release(&t->link, &mmsb_alloc_libc);
}

/* An allocator that fails from the `left`th allocation on. */
static void *failing_resize(void *context, void *block, size_t bytes) {
    uint64_t *left = context;
    return *left == 0 ? NULL : (--*left, realloc(block, bytes));
}
static void *failing_allocate(void *context, size_t bytes) { return failing_resize(context, NULL, bytes); }
static void failing_release(void *context, void *block) {
    (void)context;
    free(block);
}

/* Out of memory at every place: refused with nothing else changed, or computed in another way. */
static void check_no_memory(scene *t, uint8_t type, const mmsb_semiring *literal) {
    random_scene(t, type, literal, literal);
    memset(child, 0, t->child_size);
    compare(t, "whole");
    for (uint32_t p = 0; p < t->link.parent_count; p++) {
        bool structure = type == MMSB_LINK_MATRIX && (p == MMSB_LINK_ROW_START || p == MMSB_LINK_COLUMN);
        t->x[p].whole = false;
        if (!structure) change_page(t, p);
    }
    model(t, child, expected);
    int status = MMSB_NO_MEMORY;
    for (uint64_t allowed = 0; status != MMSB_OK; allowed++) {
        uint64_t left = allowed;
        const mmsb_alloc alloc = {&left, failing_allocate, failing_resize, failing_release};
        const char *why = NULL;
        mmsb_link_result_release(&t->result, &alloc);
        mmsb_link_release(&t->link, &alloc);
        status = mmsb_link_compute(&t->link, t->x, child, t->child_size, &alloc, &t->result, &why);
        CHECK(status == MMSB_OK || status == MMSB_NO_MEMORY, "status %d", status);
    }
    take(&t->result, child, t->child_size);
    CHECK(memcmp(child, expected, t->child_size) == 0, "short of memory, type %u", type);
    mmsb_link_release(&t->link, &mmsb_alloc_libc);
}

/* Exactly what changed comes out, where that can be told. */
static void check_amount(scene *t) {
    const mmsb_semiring *s = mmsb_semirings_find(&best, "min-plus", MMSB_DTYPE_F64);
    for (int type = MMSB_LINK_COPY; type <= MMSB_LINK_SEMIRING; type++) {
        t->link = (mmsb_link){.type = (uint8_t)type, .parent_count = 2, .semiring = s, .copies = t->copies};
        t->link.copy_count = 1;
        t->literal = s;
        t->child_size = 1024;
        t->copies[0] = (mmsb_link_copy){0, 0, 0, 1024};
        for (int p = 0; p < 2; p++) {
            set_page(t, p, 1024);
            memset(t->bytes[p], 1 + p, 1024);
            t->x[p] = (mmsb_link_page){t->bytes[p], 1024, 1, true, 0, t->changes[p]};
        }
        compare(t, "whole");
        memset(t->bytes[0] + 100, 0, 10);
        t->x[0].whole = t->x[1].whole = false;
        t->x[0].change_count = 1;
        t->changes[0][0] = (mmsb_link_change){MMSB_DELTA_DENSE, (const uint8_t *)"\144\12\0\0\0\0\0\0\0\0\0\0", 12};
        compare(t, "ten bytes");
        CHECK(changes_only(&t->result, 100, 110), "type %d: not the ten bytes", type);
        compare(t, "the same ten bytes");
        CHECK(!t->result.whole && t->result.runs.size == 0, "type %d: what came out the same is a change", type);
        memset(t->bytes[0], 0, 400);
        t->changes[0][0].payload = memcpy(t->payloads[0][0], "\0\220\3", 3);
        t->changes[0][0].payload_bytes = 403;
        compare(t, "many bytes");
        CHECK(t->result.whole, "type %d: four hundred bytes of a thousand are computed in part", type);
    }
}

/* Tells the link, as its change number `change`, that lanes [at, at + count) of x are now `number`. */
static void set_lanes(scene *t, uint32_t change, uint64_t at, uint64_t count, double number) {
    uint8_t *payload = t->payloads[MMSB_LINK_X][change];
    uint8_t *end = mmsb_varint_put(mmsb_varint_put(payload, at * 8), count * 8);
    for (uint64_t i = at; i < at + count; i++) memcpy(t->bytes[MMSB_LINK_X] + i * 8, &number, 8);
    t->x[MMSB_LINK_X].change_count = change + 1;
    t->changes[MMSB_LINK_X][change] =
        (mmsb_link_change){MMSB_DELTA_DENSE, payload, (uint64_t)(end - payload) + count * 8};
}

/* Through a diagonal matrix one lane changes one row, and a wave leaves nothing behind that the next would compute. */
static void check_amount_of_rows(scene *t) {
    enum { ROWS = 300 };
    const double one = 1;
    t->literal = mmsb_semirings_find(&scalar, "plus-times", MMSB_DTYPE_F64);
    t->link = (mmsb_link){.type = MMSB_LINK_MATRIX, .parent_count = 4, .semiring = t->literal};
    t->link.rows = t->link.columns = ROWS;
    t->child_size = ROWS * 8;
    const uint64_t sizes[] = {ROWS * 8, (ROWS + 1) * 8, ROWS * 4, ROWS * 8};
    for (int p = 0; p < MMSB_LINK_MATRIX_PARENTS; p++) {
        set_page(t, p, sizes[p]);
        t->x[p] = (mmsb_link_page){t->bytes[p], sizes[p], 1, p == MMSB_LINK_X, 0, t->changes[p]};
    }
    for (uint64_t r = 0; r <= ROWS; r++) mmsb_store_u64(t->bytes[MMSB_LINK_ROW_START] + r * 8, r);
    for (uint32_t r = 0; r < ROWS; r++) {
        mmsb_store_u32(t->bytes[MMSB_LINK_COLUMN] + r * 4, r);
        memcpy(t->bytes[MMSB_LINK_VALUE] + r * 8, &one, 8);
    }
    set_lanes(t, 0, 0, ROWS, 0);
    compare(t, "whole");
    t->x[MMSB_LINK_X].whole = false;
    for (int wave = 0; wave < ROWS; wave++) {
        bool many = wave > ROWS / 2 && wave % 2;
        uint64_t at = (uint64_t)wave * 7 % (ROWS / 2);
        set_lanes(t, 0, many ? 0 : at, many ? ROWS / 3 : 1, wave + 1);
        if (many) set_lanes(t, 1, ROWS / 2 + 1, ROWS / 2 - 1, wave + 1);
        compare(t, "diagonal");
        CHECK(t->result.whole == many, "wave %d computes too much or too little", wave);
        CHECK(many || changes_only(&t->result, at * 8, at * 8 + 8), "wave %d computes not the one row", wave);
    }
    mmsb_link_release(&t->link, &mmsb_alloc_libc);
}

static void refuse(const mmsb_link *link, uint64_t first, uint64_t others, uint64_t child_size, const char *reason) {
    uint64_t sizes[PARENTS] = {first, others, others, others, others};
    const char *why = NULL;
    CHECK(!mmsb_link_check(link, sizes, child_size, &why), "accepted: %s", reason);
    CHECK(strstr(why, reason) != NULL, "refused because %s, not because %s", why, reason);
}

/* Every way in which a link does not fit. */
static void check_refusals(void) {
    const mmsb_semiring *min = mmsb_semirings_find(&best, "min-plus", MMSB_DTYPE_F64);
    const mmsb_semiring *plus = mmsb_semirings_find(&best, "plus-times", MMSB_DTYPE_F64);
    mmsb_link_copy copy = {0, 8, 8, 8};
    mmsb_link link = {.type = MMSB_LINK_COPY, .parent_count = 2, .copy_count = 1, .copies = &copy};
    refuse(&link, 15, 16, 16, "reads past");
    refuse(&link, 16, 16, 15, "writes past");
    copy.from = copy.to = UINT64_MAX - 4;
    refuse(&link, 16, 16, 16, "reads past");
    copy.from = 0;
    refuse(&link, 16, 16, 16, "writes past");
    copy.bytes = 0;
    refuse(&link, 16, 16, 16, "is empty");
    copy = (mmsb_link_copy){2, 0, 0, 1};
    refuse(&link, 16, 16, 16, "a parent that there is not");
    link.copy_count = 0;
    refuse(&link, 16, 16, 16, "copies nothing");
    link.accumulates = true;
    refuse(&link, 16, 16, 16, "only a semiring link");
    link = (mmsb_link){.type = MMSB_LINK_SEMIRING, .parent_count = 2};
    refuse(&link, 16, 16, 16, "no semiring");
    link.semiring = min;
    refuse(&link, 16, 16, 20, "child's size is no multiple");
    refuse(&link, 20, 16, 16, "parent's size is no multiple");
    refuse(&link, 16, 24, 16, "not as long");
    link.semiring = plus;
    link.accumulates = true;
    refuse(&link, 16, 16, 16, "idempotent");
    link = (mmsb_link){.type = MMSB_LINK_REDUCE, .parent_count = 2, .semiring = plus};
    refuse(&link, 16, 16, 16, "not one lane");
    refuse(&link, 16, 17, 8, "parent's size is no multiple");
    link = (mmsb_link){.type = MMSB_LINK_MATRIX, .parent_count = 3, .semiring = plus, .rows = 2, .columns = 2};
    refuse(&link, 16, 24, 16, "its parents are not");
    link.parent_count = 4;
    refuse(&link, 8, 24, 16, "x is not");
    refuse(&link, 16, 24, 8, "the child is not");
    refuse(&link, 16, 16, 16, "row_start is not");
    refuse(&link, 16, 24, 16, "value is not");
    link.parent_count = 0;
    refuse(&link, 16, 24, 16, "no parent");
    for (int type = 0; type < 256; type += 5) {
        link = (mmsb_link){.type = (uint8_t)type, .parent_count = 1, .semiring = plus};
        if (type == MMSB_LINK_CALL || type > MMSB_LINK_MATRIX) refuse(&link, 16, 16, 16, "no native link");
    }
}

int main(int argc, char **argv) {
    static scene t;
    mmsb_kernels_init(&kernels, mmsb_cpu_detect());
    mmsb_semirings_init(&scalar, 0);
    mmsb_semirings_init(&avx2, mmsb_cpu_detect() & ~MMSB_CPU_AVX512);
    mmsb_semirings_init(&best, mmsb_cpu_detect());
    const mmsb_semirings *levels[] = {&scalar, &avx2, &best};
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_links(&kernels, &best);
        return 0;
    }
    old_guard = guard_make(PAGE_MAX);
    for (int p = 0; p < PARENTS; p++) t.guards[p] = guard_make(PAGE_MAX);
    check_refusals();
    check_amount(&t);
    check_amount_of_rows(&t);
    int parts[MMSB_LINK_MATRIX + 1] = {0};
    for (int id = 0; id < MMSB_SEMIRING_COUNT; id++)
        for (int dtype = 0; dtype < MMSB_DTYPE_COUNT; dtype++)
            for (int round = 0; round < 60; round++) {
                const mmsb_semiring *literal = &scalar.rows[id][dtype];
                const mmsb_semiring *row = &levels[round % 3]->rows[id][dtype];
                if (literal->size_bytes == 0) break;
                for (int type = MMSB_LINK_COPY; type <= MMSB_LINK_MATRIX; type++) {
                    parts[type] += check_link(&t, (uint8_t)type, literal, row);
                    check_no_memory(&t, (uint8_t)type, literal);
                }
                check_hostile_matrix(&t, literal, row);
            }
    CHECK(parts[MMSB_LINK_COPY] > 999 && parts[MMSB_LINK_SEMIRING] > 999 && parts[MMSB_LINK_MATRIX] > 500,
          "too few computations in part: %d %d %d", parts[MMSB_LINK_COPY], parts[MMSB_LINK_SEMIRING],
          parts[MMSB_LINK_MATRIX]);
    puts("all links agree");
    return 0;
}
