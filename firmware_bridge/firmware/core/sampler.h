/* Sampler: rows of the sensors to batches that wait to be sent, oldest first.
 *
 * In: the board's time. Out: DATA bodies. Never: holds more than its slots; when nobody takes them
 * the oldest batch goes, is counted, and the next one of its stream says GAP.
 *
 * A row's time: the newest row of a read was taken less than one period before. Between reads the
 * rows are one nominal period apart, and that bound pulls them straight: no row's time is wrong by
 * more than a period, and none falls back. */
#ifndef OTOLITH_SAMPLER_H
#define OTOLITH_SAMPLER_H

#include "sensor.h"

enum {
    MAX_STREAMS = 2,
    MAX_BATCH_ROWS = 80,
    MIN_BATCH_ROWS = 10,
    BATCH_MILLISECONDS = 25,
    BATCH_BYTES = DATA_HEAD_BYTES + MAX_BATCH_ROWS * CHANNELS * 2,
    SLOTS = 10,
    NO_SLOT = 0xFF,
};

struct slot {
    uint8_t body[BATCH_BYTES + CRC_BYTES];
    uint16_t rows;
    uint8_t stream; /* place of its stream, not its id */
    uint8_t next;   /* the slot behind it in the queue or in the free list */
};

struct stream {
    struct sensor *sensor;
    uint16_t batch;
    bool running;
    bool gap;           /* rows are missing in front of the next one */
    uint8_t unsent;     /* flags for the next batch that is sent */
    uint8_t mark;       /* flags for the next batch that is begun */
    uint8_t slot;       /* being filled, or NO_SLOT */
    uint16_t seq;
    uint32_t index;     /* of the next row */
    uint32_t period_ns; /* nominal */
    uint64_t row_ns;    /* when the next row will have been taken */
    uint64_t retry_us;  /* when a sensor that is gone is tried again; 0 if it is there */
};

struct sampler {
    struct stream streams[MAX_STREAMS];
    uint8_t count;
    uint8_t first_queued, last_queued, first_free;
    uint8_t usual_flags;
    uint32_t fifo_overrun; /* rows that a sensor lost because we were late */
    uint32_t tx_dropped;   /* batches that were dropped because nobody took them */
    uint64_t trouble_us;   /* when something was lost last, or 0 */
    struct slot slots[SLOTS];
};

/* `usual_flags` are in every batch, `first_flags` in each stream's first one. */
void sampler_init(struct sampler *sampler, uint8_t usual_flags);
void sampler_add(struct sampler *sampler, struct sensor *sensor, uint8_t first_flags);

/* The place of the stream with this id, or -1. */
int sampler_find(const struct sampler *sampler, uint8_t stream_id);

/* The batch that suits a rate: 25 ms of rows, even, within what a slot holds. */
uint16_t sampler_batch(uint32_t rate_millihertz);

/* Index 0 is now. False if the sensor doesn't answer: the stream stands still. */
bool sampler_start(struct sampler *sampler, uint8_t place, uint64_t now_us);

/* Stands still, and nothing of it is left to send. */
void sampler_stop(struct sampler *sampler, uint8_t place);

/* Reads what the sensors have. At least once a FIFO's worth of time: 10 ms at 3200 Hz. */
void sampler_read(struct sampler *sampler, uint64_t now_us);

/* The oldest complete batch as a body with room for its CRC, or NULL; it stays until
 * `sampler_sent`. */
uint8_t *sampler_next(struct sampler *sampler, uint8_t schema_tag, size_t *size);
void sampler_sent(struct sampler *sampler);

#endif
