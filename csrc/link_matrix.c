/* Matrix links. The arrays of the matrix lie in pages that anybody may write, so they are checked, once per version,
 * before a kernel follows them. Which rows depend on a column is found through the transposed pattern, made by
 * counting sort (Cormen et al., Introduction to Algorithms, 8.2) when a part of x changes for the first time. */
#include "link_matrix.h"

#include "link_ranges.h"

/* What is known of a matrix that was checked. */
struct mmsb_link_columns {
    uint64_t row_start_epoch, column_epoch;
    uint64_t entries;
    uint64_t *marks; /* a bit per row, clear between calls; with the two arrays in one block. NULL: not made yet */
    uint32_t *start; /* the entries of column c are start[c] <= j < start[c + 1] */
    uint32_t *row;   /* of each entry, column by column, ascending */
};

const char *mmsb_link_matrix_misfit(const mmsb_link *link, const uint64_t *parent_sizes, uint64_t child_size) {
    uint64_t lane = link->semiring->lane_bytes;
    if (link->parent_count != MMSB_LINK_MATRIX_PARENTS) return "its parents are not x, row_start, column and value";
    uint64_t x = parent_sizes[MMSB_LINK_X], row_start = parent_sizes[MMSB_LINK_ROW_START];
    uint64_t column = parent_sizes[MMSB_LINK_COLUMN], value = parent_sizes[MMSB_LINK_VALUE];
    return x % lane != 0 || x / lane != link->columns                  ? "x is not a lane per column"
           : child_size % lane != 0 || child_size / lane != link->rows ? "the child is not a lane per row"
           : row_start % 8 != 0 || row_start / 8 - 1 != link->rows     ? "row_start is not u64[rows + 1]"
           : column % 4 != 0                                           ? "column is no array of u32"
           : value % lane != 0 || value / lane != column / 4           ? "value is not a lane per entry of column"
                                                                       : NULL;
}

static void release_arrays(struct mmsb_link_columns *index, const mmsb_alloc *alloc) {
    alloc->release(alloc->context, index->marks);
    index->marks = NULL;
}

void mmsb_link_columns_release(struct mmsb_link_columns *index, const mmsb_alloc *alloc) {
    if (index == NULL) return;
    release_arrays(index, alloc);
    alloc->release(alloc->context, index);
}

static bool untouched(const mmsb_link_page *page) { return !page->whole && page->change_count == 0; }

/* Checks the matrix unless it is the one that was checked last; *is_new: it is not. */
static int check_matrix(mmsb_link *link, const mmsb_link_page *parents, const mmsb_csr *a, const mmsb_alloc *alloc,
                        bool *is_new, const char **why) {
    const mmsb_link_page *row_start = &parents[MMSB_LINK_ROW_START], *column = &parents[MMSB_LINK_COLUMN];
    struct mmsb_link_columns *index = link->index;
    *is_new = index == NULL || !untouched(row_start) || !untouched(column) ||
              index->row_start_epoch != row_start->epoch || index->column_epoch != column->epoch;
    if (!*is_new) return MMSB_OK;
    mmsb_link_release(link, alloc);
    uint64_t at, entries = mmsb_min_u64(mmsb_load_u64(a->row_start + a->rows * 8), column->size / 4);
    if (!mmsb_csr_check(a, entries, why, &at)) return MMSB_BAD_LINK;
    if ((index = alloc->allocate(alloc->context, sizeof *index)) == NULL) return MMSB_NO_MEMORY;
    *index = (struct mmsb_link_columns){
        .row_start_epoch = row_start->epoch, .column_epoch = column->epoch, .entries = entries};
    link->index = index;
    return MMSB_OK;
}

/* Makes the arrays of the index. False: no memory, or numbers that do not fit them. */
static bool make_arrays(struct mmsb_link_columns *index, const mmsb_csr *a, const mmsb_alloc *alloc) {
    if (a->rows > UINT32_MAX || a->columns >= UINT32_MAX || index->entries > UINT32_MAX) return false;
    uint64_t mark_bytes = mmsb_align_up(a->rows, 64) / 8, start_bytes = (a->columns + 1) * 4;
    uint8_t *block = alloc->allocate(alloc->context, mark_bytes + start_bytes + index->entries * 4);
    if (block == NULL) return false;
    memset(block, 0, mark_bytes + start_bytes);
    uint32_t *start = (uint32_t *)(void *)(block + mark_bytes), *row = start + a->columns + 1;
    for (uint64_t k = 0; k < index->entries; k++) start[mmsb_load_u32(a->column + k * 4) + 1]++;
    for (uint64_t c = 0; c < a->columns; c++) start[c + 1] += start[c];
    for (uint64_t r = 0, k = 0; r < a->rows; r++)
        for (uint64_t end = mmsb_load_u64(a->row_start + r * 8 + 8); k < end; k++)
            row[start[mmsb_load_u32(a->column + k * 4)]++] = (uint32_t)r;
    /* Filling moved every start to the end of its column, which is where the next one starts. */
    memmove(start + 1, start, a->columns * 4);
    start[0] = 0;
    index->marks = (uint64_t *)(void *)block;
    index->start = start;
    index->row = row;
    return true;
}

static void mark(uint64_t *marks, uint64_t row) { marks[row / 64] |= (uint64_t)1 << row % 64; }

/* The lanes of a page that may have changed, into result->runs. False: they are many, which the size of the deltas
 * tells before they are read. */
static bool changed_lanes(const mmsb_link_page *page, uint64_t lane_bytes, const mmsb_alloc *alloc,
                          mmsb_link_result *result, mmsb_run **runs, uint64_t *count) {
    mmsb_link_copy all = {.bytes = page->size};
    uint64_t budget = page->size / 3, total;
    result->runs.size = 0;
    bool few = mmsb_link_ranges_add(&result->runs, alloc, page, &all, lane_bytes, &budget) &&
               mmsb_link_ranges_join(&result->runs, &result->scratch, alloc, &total);
    *runs = mmsb_link_ranges(&result->runs, count);
    return few;
}

/* Marks the rows that have an entry in a changed column. *work counts entries down. */
static bool mark_columns(const struct mmsb_link_columns *index, const mmsb_run *runs, uint64_t count,
                         uint64_t lane_bytes, uint64_t *work) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t c = runs[i].offset / lane_bytes, j = index->start[c],
                 end = index->start[c + runs[i].length / lane_bytes];
        if (end - j > *work) return false;
        *work -= end - j;
        for (; j < end; j++) mark(index->marks, index->row[j]);
    }
    return true;
}

/* The row that entry `k` stands in. */
static uint64_t row_of(const mmsb_csr *a, uint64_t k) {
    uint64_t low = 0, high = a->rows;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (mmsb_load_u64(a->row_start + middle * 8) <= k)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Marks the rows that have a changed value. */
static bool mark_values(const struct mmsb_link_columns *index, const mmsb_csr *a, const mmsb_run *runs, uint64_t count,
                        uint64_t lane_bytes, uint64_t *work) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t k = runs[i].offset / lane_bytes, end = mmsb_min_u64(k + runs[i].length / lane_bytes, index->entries);
        if (k >= end) return true;
        if (end - k > *work) return false;
        *work -= end - k;
        for (uint64_t r = row_of(a, k); r < a->rows && mmsb_load_u64(a->row_start + r * 8) < end; r++)
            mark(index->marks, r);
    }
    return true;
}

/* Moves the marked rows, ascending, to `list` (u32 each). Returns how many, and *entries they have. */
static uint64_t take_marked(const struct mmsb_link_columns *index, const mmsb_csr *a, uint8_t *list,
                            uint64_t *entries) {
    uint64_t count = 0;
    *entries = 0;
    for (uint64_t i = 0; i * 64 < a->rows; i++) {
        for (uint64_t bits = index->marks[i]; bits != 0; bits &= bits - 1) {
            uint64_t r = i * 64 + (uint64_t)__builtin_ctzll(bits);
            *entries += mmsb_load_u64(a->row_start + r * 8 + 8) - mmsb_load_u64(a->row_start + r * 8);
            mmsb_store_u32(list + count++ * 4, (uint32_t)r);
        }
        index->marks[i] = 0;
    }
    return count;
}

/* The rows that depend on what changed, ascending, into result->scratch, with room for as many in result->runs. False:
 * computing the whole is less work. */
static bool find_rows(const mmsb_link *link, const mmsb_link_page *parents, const mmsb_csr *a, const mmsb_alloc *alloc,
                      mmsb_link_result *result, uint64_t *count) {
    struct mmsb_link_columns *index = link->index;
    const mmsb_link_page *x = &parents[MMSB_LINK_X], *value = &parents[MMSB_LINK_VALUE];
    uint64_t lane_bytes = link->semiring->lane_bytes, work = index->entries / 3, runs_count, entries;
    mmsb_run *runs;
    if (x->whole || value->whole || (index->marks == NULL && !make_arrays(index, a, alloc))) return false;
    bool few = changed_lanes(x, lane_bytes, alloc, result, &runs, &runs_count) &&
               mark_columns(index, runs, runs_count, lane_bytes, &work) &&
               changed_lanes(value, lane_bytes, alloc, result, &runs, &runs_count) &&
               mark_values(index, a, runs, runs_count, lane_bytes, &work) &&
               mmsb_buffer_reserve(&result->scratch, alloc, a->rows * 4);
    if (!few) {
        memset(index->marks, 0, mmsb_align_up(a->rows, 64) / 8);
        return false;
    }
    *count = take_marked(index, a, result->scratch.data, &entries);
    uint64_t runs_max = *count * mmsb_link_runs_max(lane_bytes);
    return entries <= index->entries / 3 && mmsb_buffer_reserve(&result->runs, alloc, runs_max * sizeof(mmsb_run));
}

/* The result is what differs in the listed rows. */
static inline void only_rows(mmsb_link_result *result, const uint8_t *old, uint64_t count, const uint64_t lane_bytes) {
    const uint8_t *list = result->scratch.data;
    uint8_t *bytes = result->bytes.data;
    mmsb_link_differences d = {(mmsb_run *)(void *)result->runs.data, 0, bytes};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset = mmsb_load_u32(list + i * 4) * lane_bytes;
        mmsb_link_add_differences(&d, old + offset, bytes + offset, offset, lane_bytes);
    }
    result->bytes.size = (size_t)(d.values - bytes);
    result->runs.size = d.count * sizeof *d.runs;
}

int mmsb_link_matrix_compute(mmsb_link *link, const mmsb_link_page *parents, const uint8_t *old, uint64_t child_size,
                             const mmsb_alloc *alloc, mmsb_link_result *result, const char **why) {
    const mmsb_semiring *s = link->semiring;
    uint64_t sizes[MMSB_LINK_MATRIX_PARENTS], count;
    for (int i = 0; i < MMSB_LINK_MATRIX_PARENTS; i++) sizes[i] = parents[i].size;
    if ((*why = mmsb_link_matrix_misfit(link, sizes, child_size)) != NULL) return MMSB_BAD_LINK;
    const mmsb_csr a = {link->rows, link->columns, parents[MMSB_LINK_ROW_START].bytes, parents[MMSB_LINK_COLUMN].bytes,
                        parents[MMSB_LINK_VALUE].bytes};
    bool is_new;
    int status = check_matrix(link, parents, &a, alloc, &is_new, why);
    if (status != MMSB_OK) return status;
    uint8_t *child = result->bytes.data;
    const uint8_t *x = parents[MMSB_LINK_X].bytes;
    if (!is_new && find_rows(link, parents, &a, alloc, result, &count)) {
        s->rows(s, child, &a, x, result->scratch.data, 0, count);
        if (s->lane_bytes == 8)
            only_rows(result, old, count, 8);
        else if (s->lane_bytes == 4)
            only_rows(result, old, count, 4);
        else
            only_rows(result, old, count, 1);
        return MMSB_OK;
    }
    result->runs.size = 0;
    s->rows(s, child, &a, x, NULL, 0, a.rows);
    result->whole = true;
    result->bytes.size = child_size;
    return MMSB_OK;
}
