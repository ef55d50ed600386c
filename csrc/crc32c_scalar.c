/* CRC32C in portable C, four bits at a time: small, and only for processors without the instruction. */
#include "kernels_isa.h"

/* table[n] is the CRC of the nibble n: eight times, x >> 1 ^ (x & 1 ? 0x82f63b78 : 0), halved. */
static const uint32_t nibbles[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t mmsb_crc32c_scalar(uint32_t crc, const uint8_t *bytes, uint64_t length) {
    crc = ~crc;
    for (uint64_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}
