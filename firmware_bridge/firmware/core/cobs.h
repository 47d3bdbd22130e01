/* COBS: a frame without zeros, so that a zero is always its end (Cheshire and Baker, 1999).
 *
 * No trailing 01 when the data end exactly on a full block of 254 (PROTOCOL.md section 1). */
#ifndef OTOLITH_COBS_H
#define OTOLITH_COBS_H

#include <stddef.h>
#include <stdint.h>

#define COBS_BAD ((size_t)-1)

/* `out` has room for size + size / 254 + 1 bytes. Gives how many it became. */
size_t cobs_encode(const uint8_t *in, size_t size, uint8_t *out);

/* In place: the result is never longer. COBS_BAD if a code points past the end or a zero is
 * within. */
size_t cobs_decode(uint8_t *bytes, size_t size);

#endif
