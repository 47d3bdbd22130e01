/* CRC-32/ISO-HDLC, the one of zlib and Ethernet (PROTOCOL.md section 1). */
#ifndef OTOLITH_CRC32_H
#define OTOLITH_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Over a body and its CRC together it gives this. */
#define CRC32_RESIDUE 0x2144DF1Cu

/* Goes on from `crc` (0 at the beginning) over `size` bytes. */
uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t size);

#endif
