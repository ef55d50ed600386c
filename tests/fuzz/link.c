/* Native links over arbitrary pages: what does not fit is refused, a matrix that is none is found out before it is
 * followed, and computing only what changed gives the bytes of computing everything. */
#include "../../csrc/link.h"
#include "fuzz.h"

enum { PARENTS = 4, COPIES = 3, PAGE_MOST = 400 };

typedef struct scene {
    mmsb_link link;
    mmsb_link_copy copies[COPIES];
    uint8_t *bytes[PARENTS], *weights, *child;
    uint64_t sizes[PARENTS], child_size;
    mmsb_link_page pages[PARENTS];
    mmsb_link_change change;
    uint8_t payload[MMSB_DELTA_BOUND(PAGE_MOST)];
} scene;

static mmsb_semirings semirings;

/* The child in full, with the bytes of `old` where the link leaves them. NULL: it cannot be computed. */
static uint8_t *compute(scene *t, const uint8_t *old) {
    mmsb_link_result result = {0};
    const char *why;
    int status = mmsb_link_compute(&t->link, t->pages, old, t->child_size, &limited_alloc, &result, &why);
    CHECK(status == MMSB_OK || (status == MMSB_BAD_LINK && t->link.type == MMSB_LINK_MATRIX), "status %d", status);
    uint8_t *child = NULL;
    if (status == MMSB_OK) {
        CHECK(!result.whole || result.bytes.size == t->child_size, "%lu bytes", (unsigned long)result.bytes.size);
        child = exact_copy(result.whole ? result.bytes.data : old, t->child_size);
        const mmsb_run *runs = (const mmsb_run *)(const void *)result.runs.data;
        const uint8_t *value = result.bytes.data;
        uint64_t at = 0;
        for (uint64_t i = 0; !result.whole && i < result.runs.size / sizeof *runs; i++) {
            CHECK(runs[i].length != 0 && runs[i].offset <= t->child_size &&
                      runs[i].length <= t->child_size - runs[i].offset && (i == 0 || runs[i].offset > at),
                  "a run that is none");
            at = runs[i].offset + runs[i].length;
            for (uint64_t k = runs[i].offset; k < at; k++) {
                CHECK(old[k] != *value, "byte %lu does not differ", (unsigned long)k);
                child[k] = *value++;
            }
        }
        CHECK(result.whole || value == result.bytes.data + result.bytes.size, "values that belong to no run");
    }
    mmsb_link_result_release(&result, &limited_alloc);
    return child;
}

static void open_scene(scene *t, script *s) {
    memset(t, 0, offsetof(scene, payload));
    uint8_t kind = next_byte(s), id = next_byte(s);
    const mmsb_semiring *row = &semirings.rows[(id & 15) % MMSB_SEMIRING_COUNT][(id >> 4) % MMSB_DTYPE_COUNT];
    t->link = (mmsb_link){.type = kind % 6, .accumulates = kind & 0x80, .parent_count = 1 + (kind >> 4) % PARENTS};
    if (row->size_bytes != 0) t->link.semiring = row;
    if (t->link.type == MMSB_LINK_MATRIX) t->link.parent_count = PARENTS;
    uint64_t lane = t->link.semiring != NULL ? row->lane_bytes : 1, lanes = next_byte(s);
    t->child_size = lanes * lane + (kind & 0x40 ? next_byte(s) : 0);
    t->link.rows = lanes;
    t->link.columns = next_byte(s);
    for (uint32_t p = 0; p < PARENTS; p++) {
        const uint64_t matrix[PARENTS] = {t->link.columns * lane, (lanes + 1) * 8, 4 * (lanes & 31),
                                          lane * (lanes & 31)};
        uint64_t size = t->link.type == MMSB_LINK_MATRIX ? matrix[p] : lanes * lane;
        if (kind & 8) size += next_byte(s);
        t->sizes[p] = size = 1 + mmsb_min_u64(size - (size != 0), PAGE_MOST - 1); /* no page is empty */
        t->bytes[p] = calloc(1, size);
        for (uint64_t i = 0, n = next_byte(s); i < n && i < size; i++) t->bytes[p][i] = next_byte(s);
        t->pages[p] = (mmsb_link_page){.bytes = t->bytes[p], .size = size, .epoch = 1, .whole = true};
    }
    t->link.copies = t->copies;
    t->link.copy_count = t->link.type == MMSB_LINK_COPY ? next_byte(s) % (COPIES + 1) : 0;
    for (uint32_t i = 0; i < t->link.copy_count; i++)
        t->copies[i] = (mmsb_link_copy){next_byte(s) % 5, next_number(s), next_number(s), next_number(s)};
    if (next_byte(s) & 1 && t->link.semiring != NULL) {
        t->weights = calloc(t->link.parent_count, lane);
        t->link.weights = t->weights;
        t->weights[0] = next_byte(s);
    }
    t->child_size = 1 + mmsb_min_u64(t->child_size - (t->child_size != 0), PAGE_MOST - 1);
    t->child = calloc(1, t->child_size);
    for (uint64_t i = 0; i < t->child_size; i++) t->child[i] = (uint8_t)(i * 7);
}

static void check_link(scene *t, script *s) {
    uint8_t *first = compute(t, t->child);
    if (first == NULL) return;
    /* Now one parent changes, and the link is told what. */
    uint32_t p = next_byte(s) % t->link.parent_count;
    uint8_t *changed = exact_copy(t->bytes[p], t->sizes[p]);
    for (uint64_t at = next_byte(s), n = 1 + next_byte(s) % 8; n-- > 0 && at < t->sizes[p]; at += next_byte(s))
        changed[at] = next_byte(s);
    int64_t bytes = fuzz_kernels()->delta_diff(t->bytes[p], changed, t->sizes[p], 0, t->payload, &t->change.code);
    t->change.payload = t->payload;
    t->change.payload_bytes = (uint64_t)bytes;
    for (uint32_t i = 0; i < t->link.parent_count; i++) t->pages[i].whole = false;
    t->pages[p].bytes = changed;
    t->pages[p].epoch++;
    t->pages[p].change_count = bytes != 0;
    t->pages[p].changes = &t->change;
    uint8_t *in_part = compute(t, first);
    for (uint32_t i = 0; i < t->link.parent_count; i++) t->pages[i].whole = true;
    mmsb_link_release(&t->link, &limited_alloc);
    uint8_t *in_full = compute(t, first);
    CHECK((in_part == NULL) == (in_full == NULL), "only one of two could be computed");
    CHECK(in_part == NULL || memcmp(in_part, in_full, t->child_size) == 0, "in part it is another child");
    free(in_full);
    free(in_part);
    free(changed);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    static scene t;
    if (semirings.rows[0][0].size_bytes == 0) mmsb_semirings_init(&semirings, fuzz_kernels()->features);
    open_scene(&t, &s);
    const char *why;
    if (mmsb_link_check(&t.link, t.sizes, t.child_size, &why)) check_link(&t, &s);
    mmsb_link_release(&t.link, &limited_alloc);
    for (uint32_t p = 0; p < PARENTS; p++) free(t.bytes[p]);
    free(t.weights);
    free(t.child);
    return 0;
}
