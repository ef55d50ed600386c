/* Compiler vocabulary shared by every C file: target regions, byte order, varints, alignment. */
#ifndef MMSB_BASE_H
#define MMSB_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__x86_64__) || !defined(__linux__)
#error "mmsb runs on Linux x86-64"
#endif

#define MMSB_LIKELY(x) __builtin_expect(!!(x), 1)
#define MMSB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MMSB_STRINGIFY_(x) #x

/* A file is built for baseline x86-64; a region between BEGIN and END may use the named features.
 * Works with gcc and clang without any per-file compiler flag. */
#if defined(__clang__)
#define MMSB_TARGET_BEGIN(features) \
    _Pragma(MMSB_STRINGIFY_(clang attribute push(__attribute__((target(features))), apply_to = function)))
#define MMSB_TARGET_END _Pragma("clang attribute pop")
#else
#define MMSB_TARGET_BEGIN(features) _Pragma("GCC push_options") _Pragma(MMSB_STRINGIFY_(GCC target(features)))
#define MMSB_TARGET_END _Pragma("GCC pop_options")
#endif

static inline uint64_t mmsb_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t mmsb_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint64_t mmsb_align_up(uint64_t n, uint64_t power_of_two) {
    return (n + power_of_two - 1) & ~(power_of_two - 1);
}

/* A fact that one thread changes while others look at it: whole, but in no order with anything else. */
#define MMSB_PEEK(fact) __atomic_load_n(&(fact), __ATOMIC_RELAXED)
#define MMSB_POKE(fact, value) __atomic_store_n(&(fact), value, __ATOMIC_RELAXED)

/* The only supported machines are little-endian, so a load is a memcpy. */
static inline uint32_t mmsb_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t mmsb_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void mmsb_store_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void mmsb_store_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* Varint: LEB128, at most 10 bytes, always in its shortest form (a longer form is refused on read). */
#define MMSB_VARINT_BYTES_MAX 10

static inline uint8_t *mmsb_varint_put(uint8_t *p, uint64_t v) {
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline unsigned mmsb_varint_size(uint64_t v) {
    return v < 0x80 ? 1u : (unsigned)((63 - __builtin_clzll(v)) / 7 + 1);
}

/* Reads one varint from [p, end). Returns the byte after it, or NULL when it is cut, overlong or over 64 bits. */
static inline const uint8_t *mmsb_varint_get(const uint8_t *p, const uint8_t *end, uint64_t *out) {
    if (MMSB_LIKELY(p < end && *p < 0x80)) {
        *out = *p;
        return p + 1;
    }
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) return NULL;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift != 0) return NULL;
            *out = v;
            return p;
        }
    }
    return NULL;
}

#endif
