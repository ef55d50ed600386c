/* The delta codec at every level of the processor, against a literal reading of docs/formats/delta.md: a mask of the
 * bytes that change, and the bytes. */
#include "../../csrc/delta.h"
#include "fuzz.h"

enum { PAGE_MOST = 320, BASE_MOST = 64, LEVELS = 3 };

/* What a delta says, byte by byte. */
typedef struct literal {
    bool changes[PAGE_MOST];
    uint8_t bytes[PAGE_MOST];
} literal;

static mmsb_kernels levels[LEVELS];
static literal told, other, both;

/* Marks a run. False: it leaves the page, is empty, or touches the one before. */
static bool mark(literal *l, uint64_t offset, uint64_t length, uint64_t page_bytes) {
    if (length == 0 || offset > page_bytes || length > page_bytes - offset) return false;
    if (offset != 0 && l->changes[offset - 1]) return false;
    memset(l->changes + offset, 1, length);
    return true;
}

/* Reads a payload as its page of the documentation says. False: it is malformed. */
static bool read_literally(uint8_t code, const uint8_t *p, const uint8_t *end, uint64_t page_bytes, literal *l) {
    uint64_t first, count;
    memset(l, 0, sizeof *l);
    if (code < MMSB_DELTA_DENSE || code > MMSB_DELTA_BITMAP) return false;
    if ((p = mmsb_varint_get(p, end, &first)) == NULL) return false;
    if (code == MMSB_DELTA_RUNS) {
        if (first == 0 || first > (uint64_t)(end - p)) return false;
        for (uint64_t at = 0, length; p < end && first != 0; at += length) {
            const uint8_t *begin = p, *ranges_end = p + first;
            uint64_t token;
            length = 1;
            if ((p = mmsb_varint_get(p, ranges_end, &token)) == NULL) return false;
            if (token & 1) {
                if ((p = mmsb_varint_get(p, ranges_end, &length)) == NULL || length > PAGE_MOST) return false;
                length += 2;
            }
            if (token >> 1 > PAGE_MOST) return false;
            at += token >> 1;
            if (!mark(l, at, length, page_bytes)) return false;
            first -= (uint64_t)(p - begin);
        }
        if (first != 0) return false;
    } else {
        if ((p = mmsb_varint_get(p, end, &count)) == NULL || first > page_bytes || count > page_bytes - first)
            return false;
        if (code == MMSB_DELTA_DENSE) {
            if (!mark(l, first, count, page_bytes)) return false;
        } else {
            if (count == 0 || (count + 7) / 8 > (uint64_t)(end - p)) return false;
            if (!(p[0] & 1) || !(p[(count - 1) / 8] >> (count - 1) % 8 & 1)) return false;
            for (uint64_t bit = count; bit < (count + 7) / 8 * 8; bit++)
                if (p[bit / 8] >> bit % 8 & 1) return false;
            for (uint64_t bit = 0; bit < count; bit++) l->changes[first + bit] = p[bit / 8] >> bit % 8 & 1;
            p += (count + 7) / 8;
        }
    }
    for (uint64_t i = 0; i < page_bytes; i++) {
        if (!l->changes[i]) continue;
        if (p == end) return false;
        l->bytes[i] = *p++;
    }
    return p == end;
}

/* The canonical encoding of a literal, through the one encoder that knows no kernel. */
static int64_t encode(const literal *l, uint8_t *out, uint8_t *code) {
    static mmsb_run runs[PAGE_MOST];
    static uint8_t values[PAGE_MOST];
    uint64_t run_count = 0, count = 0;
    for (uint64_t i = 0; i < PAGE_MOST; i++) {
        if (!l->changes[i]) continue;
        if (i == 0 || !l->changes[i - 1]) runs[run_count++] = (mmsb_run){.offset = i};
        runs[run_count - 1].length++;
        values[count++] = l->bytes[i];
    }
    return mmsb_delta_from_runs(runs, run_count, values, out, code);
}

static void check_runs(const mmsb_delta_view *view, const literal *l, uint64_t page_bytes) {
    mmsb_run_cursor run = {0};
    uint64_t at = 0;
    while (mmsb_delta_next_run(view, &run)) {
        CHECK(run.offset <= page_bytes && run.length <= page_bytes - run.offset && run.length != 0, "outside");
        for (; at < run.offset; at++) CHECK(!l->changes[at], "byte %lu is missing", (unsigned long)at);
        for (uint64_t i = 0; i < run.length; i++, at++)
            CHECK(l->changes[at] && l->bytes[at] == run.values[i], "byte %lu is wrong", (unsigned long)at);
    }
    for (; at < PAGE_MOST; at++) CHECK(!l->changes[at], "byte %lu is missing", (unsigned long)at);
}

/* Applies to a page of its own, whose bytes depend on their place only. */
static void check_apply(const mmsb_kernels *kernels, uint8_t code, const uint8_t *payload, uint64_t payload_bytes,
                        uint64_t page_bytes, bool sound) {
    uint8_t *page = malloc(page_bytes);
    for (uint64_t i = 0; i < page_bytes; i++) page[i] = (uint8_t)(i * 37 + 11);
    int status = kernels->delta_apply(page, page_bytes, code, payload, payload_bytes);
    CHECK(!sound || status == MMSB_OK, "a sound delta is refused");
    for (uint64_t i = 0; sound && i < page_bytes; i++)
        CHECK(page[i] == (told.changes[i] ? told.bytes[i] : (uint8_t)(i * 37 + 11)), "byte %lu", (unsigned long)i);
    uint8_t *back = malloc(payload_bytes + 64);
    int64_t bytes = kernels->delta_inverse(page, page_bytes, code, payload, payload_bytes, back);
    CHECK((bytes >= 0) == sound, "the inverse says %ld", (long)bytes);
    CHECK(!sound || ((uint64_t)bytes == payload_bytes && memcmp(back, payload, payload_bytes) == 0),
          "the inverse of what is there");
    free(back);
    free(page);
}

static void check_payload(script *s) {
    uint8_t code = next_byte(s);
    uint64_t page_bytes = next_number(s) % (PAGE_MOST + 1), count;
    uint8_t *payload = next_block(s, left_of(s), &count);
    mmsb_delta_view view;
    bool sound = read_literally(code, payload, payload + count, page_bytes, &told);
    bool parsed = mmsb_delta_parse(code, payload, count, page_bytes, &view) == MMSB_OK;
    CHECK(sound == parsed, "literally %d, parsed %d", sound, parsed);
    if (sound) {
        check_runs(&view, &told, page_bytes);
        uint8_t shortest[PAGE_MOST * 4], code_again;
        CHECK((uint64_t)encode(&told, shortest, &code_again) <= count, "the canonical encoding is longer");
    }
    for (int i = 0; i < LEVELS; i++) check_apply(&levels[i], code, payload, count, page_bytes, sound);
    free(payload);
}

/* The second half of the input says where and how the first half changes. */
static void check_diff(script *s) {
    uint64_t base = next_byte(s) % BASE_MOST, length = mmsb_min_u64(left_of(s) / 2, PAGE_MOST - BASE_MOST), count;
    uint8_t *old = next_block(s, length, &count), *fresh = next_block(s, length, &count);
    memset(&told, 0, sizeof told);
    for (uint64_t i = 0; i < length; i++) {
        told.changes[base + i] = fresh[i] != 0;
        fresh[i] ^= old[i];
        told.bytes[base + i] = fresh[i];
    }
    uint8_t wanted[PAGE_MOST * 4], code = 0, code_again = 0;
    int64_t bytes = encode(&told, wanted, &code);
    for (int i = 0; i < LEVELS; i++) {
        uint8_t *out = malloc(MMSB_DELTA_BOUND(length));
        CHECK(levels[i].delta_diff(old, fresh, length, base, out, &code_again) == bytes, "level %d: length", i);
        CHECK(bytes == 0 || (code == code_again && memcmp(out, wanted, (uint64_t)bytes) == 0), "level %d: bytes", i);
        free(out);
    }
    free(old);
    free(fresh);
}

static void check_merge(script *s) {
    uint8_t codes = next_byte(s), code = 0, code_again = 0;
    uint64_t page_bytes = next_number(s) % (PAGE_MOST + 1), first, second;
    uint8_t *a = next_block(s, next_byte(s), &first), *b = next_block(s, left_of(s), &second);
    bool sound = read_literally(codes & 3, a, a + first, page_bytes, &told) &&
                 read_literally(codes >> 2 & 3, b, b + second, page_bytes, &other);
    uint8_t *out = malloc(MMSB_DELTA_BOUND(first + second) * 2);
    int64_t bytes =
        levels[LEVELS - 1].delta_merge(codes & 3, a, first, codes >> 2 & 3, b, second, page_bytes, out, &code);
    CHECK(sound == (bytes >= 0), "literally %d, merged %ld", sound, (long)bytes);
    if (sound) {
        for (uint64_t i = 0; i < PAGE_MOST; i++) {
            both.changes[i] = told.changes[i] || other.changes[i];
            both.bytes[i] = other.changes[i] ? other.bytes[i] : told.bytes[i];
        }
        uint8_t wanted[PAGE_MOST * 4];
        CHECK(encode(&both, wanted, &code_again) == bytes && code == code_again, "another encoding");
        CHECK(memcmp(wanted, out, (uint64_t)bytes) == 0, "not both of them, the second over the first");
    }
    free(out);
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    if (levels[0].size_bytes == 0) {
        const uint32_t all = mmsb_cpu_detect(), masks[LEVELS] = {0, ~(uint32_t)MMSB_CPU_AVX512, ~(uint32_t)0};
        for (int i = 0; i < LEVELS; i++) mmsb_kernels_init(&levels[i], all & masks[i]);
    }

    switch (next_byte(&s) % 3) {
        case 0:
            check_payload(&s);
            break;
        case 1:
            check_diff(&s);
            break;
        default:
            check_merge(&s);
    }
    return 0;
}
