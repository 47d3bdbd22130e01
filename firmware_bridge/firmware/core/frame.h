/* Frame: bytes of the wire to bodies whose CRC is right, and bodies to the wire.
 *
 *     wire = COBS(body || crc32(body), little-endian) || 00
 *
 * In: bytes in pieces of any size. Out: one body at a time, in the caller's memory.
 * Never: gives a damaged body, forgets to count one, needs more than its buffer. */
#ifndef OTOLITH_FRAME_H
#define OTOLITH_FRAME_H

#include <stdbool.h>

#include "protocol.h"

#include <stddef.h>
#include <stdint.h>

struct receiver {
    uint32_t frames, bad_crc, bad_cobs, oversize;
    uint8_t bytes[MAX_ENCODED_BYTES];
    size_t size;
    bool skipping; /* longer than any frame: until the next 00 */
};

void receiver_reset(struct receiver *receiver);

/* Takes one byte. Gives the size of the body that it completes, which lies at `receiver->bytes`
 * until the next call; else 0. */
size_t receiver_take(struct receiver *receiver, uint8_t byte);

/* Makes a frame of a body of at most MAX_BODY_BYTES. `body` has room for CRC_BYTES more, `wire`
 * for MAX_WIRE_BYTES. Gives the frame's size. */
size_t frame_seal(uint8_t *body, size_t size, uint8_t *wire);

#endif
