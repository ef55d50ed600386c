/* XBZRLE, the encoding with which QEMU sends changed pages of a guest that migrates, written from its public
 * description (docs/devel/migration, "XBZRLE"): a page is a sequence of (zero run, nonzero run, bytes of the nonzero
 * run), lengths as LEB128; a byte is "zero" when old and new agree. A reference for ci/bench, not part of mmsb.
 *
 * Works a word at a time over equal runs, as QEMU's own does.
 */
#include <stdint.h>
#include <string.h>

static int put(uint8_t *out, uint32_t value) {
    int used = 0;
    while (value >= 0x80) {
        out[used++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[used++] = (uint8_t)value;
    return used;
}

static uint64_t word(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* Encodes `length` bytes; the number of bytes written into `out` (at least 2 * length + 16), 0 when nothing differs. */
int xbzrle_encode(const uint8_t *old_page, const uint8_t *new_page, int length, uint8_t *out) {
    int at = 0, used = 0;
    while (at < length) {
        int begin = at;
        while (at < length && old_page[at] == new_page[at]) {
            if (at + 8 <= length && word(old_page + at) == word(new_page + at))
                at += 8;
            else
                at++;
        }
        if (at == length) break; /* a final run of equal bytes is not sent */
        used += put(out + used, (uint32_t)(at - begin));
        begin = at;
        while (at < length && old_page[at] != new_page[at]) at++;
        used += put(out + used, (uint32_t)(at - begin));
        memcpy(out + used, new_page + begin, (size_t)(at - begin));
        used += at - begin;
    }
    return used;
}

/* Many encodes in one call, so that the caller's own cost does not count. The sum of the lengths. */
long xbzrle_repeat(const uint8_t *old_page, const uint8_t *new_page, int length, uint8_t *out, int times) {
    long sum = 0;
    for (int n = 0; n < times; n++) sum += xbzrle_encode(old_page, new_page, length, out);
    return sum;
}
