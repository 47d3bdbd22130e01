/* Schema: what this board says about itself, as JSON (PROTOCOL.md section 4).
 *
 * The text is in flash in pieces and is written anew for every request, through a window: what
 * lies before and behind it is only counted, so no buffer for the whole is needed.
 * Never: two texts for the same settings, or its CRC would lie. */
#ifndef OTOLITH_SCHEMA_H
#define OTOLITH_SCHEMA_H

#include "sensor.h"

#include <stddef.h>
#include <stdint.h>

#define FIRMWARE_VERSION "0.1.0"

enum { UID_BYTES = 12 };

/* Who the board is. */
struct identity {
    const char *board;
    uint8_t uid[UID_BYTES];
    bool emulated;
    bool crystal; /* the clock is a crystal's, not the coarse one inside the chip */
    uint8_t reset_cause;
};

/* What one stream says beyond its sensor. */
struct schema_stream {
    const struct sensor *sensor;
    uint16_t batch;
};

struct schema_window {
    size_t offset, room; /* in: what of the text is wanted */
    uint8_t *out;        /* room bytes */
    size_t copied;       /* out: bytes in `out` */
    size_t total;        /* out: bytes of the whole text */
    uint32_t crc;        /* out: CRC-32 of the whole text */
};

void schema_write(struct schema_window *window, const struct identity *identity,
                  const struct schema_stream *streams, size_t count);

#endif
