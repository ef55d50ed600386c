/* The kernel table: a value. Scalar entries fill it, faster levels overlay it; two tables can stand side by side.
 * Contracts are exact: every level gives the same bytes (tests compare with memcmp). */
#ifndef MMSB_KERNELS_H
#define MMSB_KERNELS_H

#include "cpu.h"
#include "delta.h"

typedef struct mmsb_kernels {
    uint64_t size_bytes; /* sizeof(mmsb_kernels), for compiled plugins */
    uint32_t features;   /* MMSB_CPU_* in use */

    /* Compares old[0,length) with new_bytes[0,length) and writes the canonical encoded delta of the bytes that differ
     * into `out` (at least MMSB_DELTA_BOUND(length) bytes). Offsets in the delta are relative to the page: byte i of
     * the buffers is byte base+i of the page. Returns the payload length and sets *code; 0 when nothing differs.
     * `old`, `new_bytes`: any alignment, never read outside [0,length). No overlap with `out`. */
    int64_t (*delta_diff)(const uint8_t *old, const uint8_t *new_bytes, uint64_t length, uint64_t base, uint8_t *out,
                          uint8_t *code);

    /* Writes the values of an encoded delta into page[0,page_bytes). Checks as it goes and never writes outside the
     * page; returns MMSB_OK, or MMSB_BAD_DELTA (then a prefix of the runs may have been written: parse first where
     * that matters). Does not re-check canonical form. */
    int (*delta_apply)(uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                       uint64_t payload_bytes);

    /* The encoded delta equal to applying `a` and then `b` (b wins where both change a byte). Works on the encoded
     * forms. `out` has MMSB_DELTA_BOUND(payload_a + payload_b) * 2 bytes. Payload length, or MMSB_BAD_DELTA. */
    int64_t (*delta_merge)(uint8_t code_a, const uint8_t *payload_a, uint64_t bytes_a, uint8_t code_b,
                           const uint8_t *payload_b, uint64_t bytes_b, uint64_t page_bytes, uint8_t *out,
                           uint8_t *code);

    /* The encoded delta with the same mask whose values are the bytes now in the page: applying it after the delta
     * restores the page. `out` has payload_bytes + 64 bytes. Payload length (equal to payload_bytes), or
     * MMSB_BAD_DELTA. */
    int64_t (*delta_inverse)(const uint8_t *page, uint64_t page_bytes, uint8_t code, const uint8_t *payload,
                             uint64_t payload_bytes, uint8_t *out);

    /* CRC32C (Castagnoli, reflected 0x82F63B78, as in iSCSI RFC 3720). `crc` is the value of the bytes before, 0 at the
     * start: crc32c(crc32c(0, a), b) == crc32c(0, a ‖ b), and crc32c(0, "123456789") == 0xE3069283. */
    uint32_t (*crc32c)(uint32_t crc, const uint8_t *bytes, uint64_t length);
} mmsb_kernels;

/* Fills a table with the best allowed level of each kernel. `features` as from mmsb_cpu_detect/_disable. */
void mmsb_kernels_init(mmsb_kernels *table, uint32_t features);

#endif
