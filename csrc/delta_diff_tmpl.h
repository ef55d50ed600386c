/* The diff kernel in 64-byte blocks, for every level that has vectors. The including file defines, before this:
 *
 *   TMPL_DIFF                      name of the kernel
 *   TMPL_MASK(a, b)                64-bit mask of the bytes in which two 64-byte blocks differ
 *   TMPL_DIFFER(a, b)              whether any byte of two 256-byte blocks differs
 *   TMPL_MASK_TAIL(a, b, n)        the same of n < 64 bytes, reading no further
 *   TMPL_VALUES(to, from, mask)    packs the bytes of a 64-byte block named by mask; may write 64 bytes at `to`
 *   TMPL_VALUES_TAIL(..., n)       the same, reading only n < 64 bytes of `from`
 *   TMPL_TOKENS(p, mask, i, at)    tokens of the runs in mask, each ended inside the block at page offset i; the run
 *                                  before ended at `at`. May write 64 bytes past the tokens. Returns the new p, sets at
 *
 * The buffers are taken in chunks of 64 blocks. A first pass over a chunk compares and lists the blocks that differ; a
 * second one encodes the list. Where few bytes differ it goes run by run in one loop, because a branch per block would
 * be mispredicted every other time; where many do it goes block by block. A run stays open only when the next block
 * goes on with it, so runs are maximal whatever blocks they span; its values are copied when it closes. */

#include "delta_emit.h"

#define CHUNK_BLOCKS 64
/* A chunk of 4096 bytes has at most 2048 runs of one byte, or fewer with a length byte: 2 bytes of token per 2 bytes of
 * page, the first of them up to 20, and a 64-byte store. */
#define TOKENS_OF_CHUNK (4096 + 84)
/* MMSB_DELTA_BOUND leaves length / 8 + 256 bytes for them from this length on; below, they go on the stack. */
#define TOKENS_SMALL_FOR 33000
#define TOKENS_SMALL (TOKENS_SMALL_FOR / 8 + 32 + TOKENS_OF_CHUNK)

typedef struct chunk {
    uint64_t masks[CHUNK_BLOCKS + 1];
    uint8_t places[CHUNK_BLOCKS + 1]; /* which block of the chunk */
    uint64_t count;                   /* of differing blocks */
    uint64_t all;                     /* and of all masks */
} chunk;

typedef struct diff_state {
    uint8_t *token, *value;
    uint64_t at;        /* page offset where the last closed run ended */
    uint64_t open_from; /* index in the buffers where the open run began; NO_RUN: none is open */
    uint64_t first, end, runs;
} diff_state;

#define NO_RUN UINT64_MAX

static inline void close_run(diff_state *s, const uint8_t *new_bytes, uint64_t base, uint64_t end) {
    uint64_t length = end - s->open_from;
    if (s->runs++ == 0) s->first = s->open_from;
    s->token = mmsb_run_token_put(s->token, base + s->open_from - s->at, length);
    s->at = base + end;
    s->end = end;
    memcpy(s->value, new_bytes + s->open_from, length);
    s->value += length;
    s->open_from = NO_RUN;
}

/* The delta as one run. */
static inline int64_t put_dense(const uint8_t *new_bytes, uint64_t base, uint64_t first, uint64_t span, uint8_t *out,
                                uint8_t *code) {
    *code = MMSB_DELTA_DENSE;
    uint8_t *p = mmsb_varint_put(mmsb_varint_put(out, base + first), span);
    memcpy(p, new_bytes + first, span);
    return p - out + (int64_t)span;
}

/* The delta as a bitmap of its hull [first, end), in a pass of its own: block i of it is 64 bits of the bitmap. */
static int64_t put_bitmap(const uint8_t *old, const uint8_t *new_bytes, uint64_t base, uint64_t first, uint64_t end,
                          uint8_t *out) {
    uint64_t span = end - first, i = 0;
    old += first;
    new_bytes += first;
    uint8_t *bits = mmsb_varint_put(mmsb_varint_put(out, base + first), span);
    uint8_t *value = bits + (span + 7) / 8;
    for (; i + 64 <= span; i += 64) {
        uint64_t mask = TMPL_MASK(old + i, new_bytes + i);
        mmsb_store_u64(bits + i / 8, mask);
        TMPL_VALUES(value, new_bytes + i, mask);
        value += __builtin_popcountll(mask);
    }
    if (i < span) {
        uint64_t mask = TMPL_MASK_TAIL(old + i, new_bytes + i, span - i);
        memcpy(bits + i / 8, &mask, (span - i + 7) / 8);
        TMPL_VALUES_TAIL(value, new_bytes + i, mask, span - i);
        value += __builtin_popcountll(mask);
    }
    return value - out;
}

static uint64_t last_difference(const uint8_t *old, const uint8_t *new_bytes, uint64_t length) {
    while (length >= 64 && TMPL_MASK(old + length - 64, new_bytes + length - 64) == 0) length -= 64;
    while (old[length - 1] == new_bytes[length - 1]) length--;
    return length;
}

/* The blocks of the chunk after the next one, which are fetched while this one is compared and encoded. A few at a
 * time: more than memory can deliver would hold up everything behind them. */
typedef struct fetch {
    const uint8_t *old, *new_bytes;
    uint64_t next, end;
} fetch;

static inline void fetch_blocks(fetch *f, uint64_t blocks) {
    for (; blocks != 0 && f->next < f->end; blocks--, f->next += 64) {
        __builtin_prefetch(f->old + f->next);
        __builtin_prefetch(f->new_bytes + f->next);
    }
}

static inline void list_block(chunk *c, const uint8_t *old, const uint8_t *new_bytes, unsigned block) {
    uint64_t mask = TMPL_MASK(old + block * 64, new_bytes + block * 64);
    c->masks[c->count] = mask;
    c->places[c->count] = (uint8_t)block;
    c->count += mask != 0;
    c->all &= mask;
}

/* `ahead` NULL: there is nothing to fetch. */
static inline void list_chunk(chunk *c, const uint8_t *old, const uint8_t *new_bytes, unsigned blocks, fetch *ahead) {
    unsigned block = 0;
    c->count = 0;
    c->all = UINT64_MAX;
    for (; block + 4 <= blocks; block += 4) {
        if (ahead != NULL) fetch_blocks(ahead, 1);
        if (!TMPL_DIFFER(old + block * 64, new_bytes + block * 64)) {
            c->all = 0;
            continue;
        }
        for (unsigned k = 0; k < 4; k++) list_block(c, old, new_bytes, block + k);
    }
    for (; block < blocks; block++) list_block(c, old, new_bytes, block);
    c->masks[c->count] = 0;
}

/* Encodes the block at index i whose differing bytes are `mask`; `goes_on`: the byte after it differs too. `n` < 64: it
 * is the last one, and shorter. */
static inline void put_block(diff_state *s, const uint8_t *new_bytes, uint64_t base, uint64_t i, uint64_t mask,
                             bool goes_on, uint64_t n) {
    if (MMSB_UNLIKELY(s->open_from != NO_RUN)) {
        if (mask == UINT64_MAX && goes_on) return;
        uint64_t run = mask == UINT64_MAX ? 64 : (uint64_t)__builtin_ctzll(~mask);
        close_run(s, new_bytes, base, i + run);
        mask = run == 64 ? 0 : mask & UINT64_MAX << run;
    }
    if (MMSB_UNLIKELY(goes_on && mask >> 63)) {
        uint64_t from = mask == UINT64_MAX ? 0 : 64 - (uint64_t)__builtin_clzll(~mask);
        s->open_from = i + from;
        mask = from == 0 ? 0 : mask & UINT64_MAX >> (64 - from);
    }
    if (mask == 0) return;
    if (s->runs == 0) s->first = i + (uint64_t)__builtin_ctzll(mask);
    s->runs += (uint64_t)__builtin_popcountll(mask & ~(mask << 1));
    s->end = i + 64 - (uint64_t)__builtin_clzll(mask);
    s->token = TMPL_TOKENS(s->token, mask, base + i, &s->at);
    if (n == 64)
        TMPL_VALUES(s->value, new_bytes + i, mask);
    else
        TMPL_VALUES_TAIL(s->value, new_bytes + i, mask, n);
    s->value += __builtin_popcountll(mask);
}

/* The runs of a chunk one after the other, where none crosses blocks. */
static inline void put_sparse(diff_state *s, const uint8_t *new_bytes, uint64_t base, uint64_t i, const chunk *c,
                              uint64_t runs, fetch *ahead) {
    uint64_t block = 0, mask = c->masks[0], offset = i + (uint64_t)c->places[0] * 64, at = s->at, end = 0;
    uint8_t *token = s->token, *value = s->value;
    if (s->runs == 0) s->first = offset + (uint64_t)__builtin_ctzll(mask);
    s->runs += runs;
    for (; runs != 0; runs--) {
        fetch_blocks(ahead, 1);
        uint64_t start = (uint64_t)__builtin_ctzll(mask), rest = mask + (mask & -mask);
        uint64_t length = (rest == 0 ? 64 : (uint64_t)__builtin_ctzll(rest)) - start;
        mask &= rest;
        uint64_t from = offset + start, word = (base + from - at) << 1 | (length > 1);
        if (MMSB_LIKELY(word < 1 << 14)) {
            /* One or two bytes, and which is not worth a branch. */
            uint64_t two = word >= 0x80;
            token[0] = (uint8_t)(word | two << 7);
            token[1] = (uint8_t)(word >> 7);
            token += 1 + two;
        } else {
            token = mmsb_varint_put(token, word);
        }
        *value++ = new_bytes[from];
        if (MMSB_UNLIKELY(length > 1)) {
            *token++ = (uint8_t)(length - 2);
            memcpy(value, new_bytes + from + 1, length - 1);
            value += length - 1;
        }
        end = from + length;
        at = base + end;
        uint64_t done = mask == 0;
        block += done;
        mask = done ? c->masks[block] : mask;
        offset = i + (uint64_t)c->places[block] * 64;
    }
    s->token = token;
    s->value = value;
    s->at = at;
    s->end = end;
}

static inline void put_chunk(diff_state *s, const uint8_t *new_bytes, uint64_t base, uint64_t i, chunk *c, bool goes_on,
                             unsigned blocks, fetch *ahead) {
    if (c->all == UINT64_MAX && goes_on) {
        if (s->open_from == NO_RUN) s->open_from = i;
        return;
    }
    uint64_t runs = 0, crossing = s->open_from != NO_RUN || (goes_on && c->masks[c->count - 1] >> 63);
    for (uint64_t k = 0; k < c->count; k++) {
        uint64_t mask = c->masks[k];
        runs += (uint64_t)__builtin_popcountll(mask & ~(mask << 1));
        crossing |= mask >> 63 & c->masks[k + 1];
    }
    c->places[c->count] = 0;
    if (runs <= c->count * 2 && !(crossing & 1)) {
        put_sparse(s, new_bytes, base, i, c, runs, ahead);
        return;
    }
    for (uint64_t k = 0; k < c->count; k++) {
        bool next_to = k + 1 < c->count ? c->places[k + 1] == c->places[k] + 1 && c->masks[k + 1] & 1
                                        : goes_on && c->places[k] == blocks - 1;
        put_block(s, new_bytes, base, i + (uint64_t)c->places[k] * 64, c->masks[k], next_to, 64);
    }
}

int64_t TMPL_DIFF(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base, uint8_t *out,
                  uint8_t *code) {
    /* Most writes are small and of one run. */
    if (length < 64) {
        uint64_t mask = TMPL_MASK_TAIL(old, new_bytes, length);
        if (mask == 0) return 0;
        uint64_t first = (uint64_t)__builtin_ctzll(mask), span = 64 - (uint64_t)__builtin_clzll(mask) - first;
        if (mask >> first == UINT64_MAX >> (64 - span)) return put_dense(new_bytes, base, first, span, out, code);
    }
    /* Tokens beyond this are longer than any bitmap. One chunk may write more before that is noticed, so they have a
     * place of their own; the values stand where they are not in the way of the tokens that are kept. */
    uint64_t token_limit = (length + 7) / 8 + 2 * mmsb_varint_size(base + length);
    uint8_t tokens_small[TOKENS_SMALL];
    uint8_t *tokens = length <= TOKENS_SMALL_FOR ? tokens_small : out + 16;
    uint8_t *values = length <= TOKENS_SMALL_FOR ? out + 16 + token_limit : tokens + token_limit + TOKENS_OF_CHUNK;
    diff_state s = {.token = tokens, .value = values, .open_from = NO_RUN};
    uint64_t i = 0;
    chunk c;
    while (i + 64 <= length) {
        unsigned blocks = (unsigned)mmsb_min_u64(CHUNK_BLOCKS, (length - i) / 64);
        uint64_t next = i + blocks * 64;
        fetch ahead = {old, new_bytes, next + CHUNK_BLOCKS * 64,
                       mmsb_min_u64(next + 2 * CHUNK_BLOCKS * 64, length & ~(uint64_t)63)};
        if (ahead.next < ahead.end)
            list_chunk(&c, old + i, new_bytes + i, CHUNK_BLOCKS, &ahead);
        else if (blocks == CHUNK_BLOCKS)
            list_chunk(&c, old + i, new_bytes + i, CHUNK_BLOCKS, NULL);
        else
            list_chunk(&c, old + i, new_bytes + i, blocks, NULL);
        if (c.all == UINT64_MAX && next == length) {
            if (s.open_from == NO_RUN) s.open_from = i;
        } else if (c.count != 0) {
            put_chunk(&s, new_bytes, base, i, &c, next < length && old[next] != new_bytes[next], blocks, &ahead);
        }
        fetch_blocks(&ahead, CHUNK_BLOCKS);
        i = next;
        if (MMSB_UNLIKELY((uint64_t)(s.token - tokens) > token_limit)) goto bitmap;
    }
    if (i < length) {
        uint64_t n = length - i, mask = TMPL_MASK_TAIL(old + i, new_bytes + i, n);
        if (mask != 0) put_block(&s, new_bytes, base, i, mask, false, n);
        if (MMSB_UNLIKELY((uint64_t)(s.token - tokens) > token_limit)) goto bitmap;
    }
    if (s.runs == 0) {
        if (s.open_from == NO_RUN) return 0;
        s.first = s.open_from;
        s.end = length;
    } else if (s.open_from != NO_RUN) {
        close_run(&s, new_bytes, base, length);
    }
    uint64_t span = s.end - s.first, range_bytes = (uint64_t)(s.token - tokens);
    if (s.runs <= 1) return put_dense(new_bytes, base, s.first, span, out, code);
    uint64_t hull_bytes = mmsb_varint_size(base + s.first) + mmsb_varint_size(span);
    if (mmsb_varint_size(range_bytes) + range_bytes > hull_bytes + (span + 7) / 8) {
        *code = MMSB_DELTA_BITMAP;
        return put_bitmap(old, new_bytes, base, s.first, s.end, out);
    }
    *code = MMSB_DELTA_RUNS;
    uint8_t *p = mmsb_varint_put(out, range_bytes);
    memmove(p, tokens, range_bytes);
    p += range_bytes;
    uint64_t value_bytes = (uint64_t)(s.value - values);
    memmove(p, values, value_bytes);
    return p - out + (int64_t)value_bytes;

bitmap:
    *code = MMSB_DELTA_BITMAP;
    return put_bitmap(old, new_bytes, base, s.first, last_difference(old, new_bytes, length), out);
}
