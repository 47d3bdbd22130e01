#include "sampler.h"

#include "bytes.h"

enum { RETRY_US = 1000000 };

/* Where things lie in the body of DATA (PROTOCOL.md section 3). */
enum { SEQ_AT = 2, INDEX_AT = 4, TIME_AT = 8, ROWS_AT = 16, TAG_AT = 18, FLAGS_AT = 19 };

void sampler_init(struct sampler *sampler, uint8_t usual_flags)
{
    sampler->count = 0;
    sampler->usual_flags = usual_flags;
    sampler->fifo_overrun = sampler->tx_dropped = 0;
    sampler->trouble_us = 0;
    sampler->first_queued = sampler->last_queued = NO_SLOT;
    sampler->first_free = 0;
    for (uint8_t i = 0; i < SLOTS; i++)
        sampler->slots[i].next = i + 1 < SLOTS ? (uint8_t)(i + 1) : NO_SLOT;
}

void sampler_add(struct sampler *sampler, struct sensor *sensor, uint8_t first_flags)
{
    sampler->streams[sampler->count++] = (struct stream){
        .sensor = sensor,
        .batch = sampler_batch(sensor->rate_millihertz),
        .unsent = first_flags,
        .slot = NO_SLOT,
    };
}

int sampler_find(const struct sampler *sampler, uint8_t stream_id)
{
    for (int place = 0; place < sampler->count; place++)
        if (sampler->streams[place].sensor->driver->about.stream_id == stream_id)
            return place;
    return -1;
}

uint16_t sampler_batch(uint32_t rate_millihertz)
{
    uint32_t rows = rate_millihertz / 1000 * BATCH_MILLISECONDS / 1000 & ~1u;
    if (rows < MIN_BATCH_ROWS)
        return MIN_BATCH_ROWS;
    return rows > MAX_BATCH_ROWS ? MAX_BATCH_ROWS : (uint16_t)rows;
}

static void release(struct sampler *sampler, uint8_t slot)
{
    sampler->slots[slot].next = sampler->first_free;
    sampler->first_free = slot;
}

static void enqueue(struct sampler *sampler, struct stream *stream)
{
    struct slot *slot = &sampler->slots[stream->slot];
    put_u16(slot->body + ROWS_AT, slot->rows);
    slot->next = NO_SLOT;
    if (sampler->first_queued == NO_SLOT)
        sampler->first_queued = stream->slot;
    else
        sampler->slots[sampler->last_queued].next = stream->slot;
    sampler->last_queued = stream->slot;
    stream->slot = NO_SLOT;
}

static uint8_t dequeue(struct sampler *sampler)
{
    uint8_t slot = sampler->first_queued;
    sampler->first_queued = sampler->slots[slot].next;
    if (sampler->first_queued == NO_SLOT)
        sampler->last_queued = NO_SLOT;
    return slot;
}

/* The gap is in front of the stream's next batch, which may be queued or half full already. */
static void mark_gap(struct sampler *sampler, uint8_t place)
{
    struct stream *stream = &sampler->streams[place];
    for (uint8_t i = sampler->first_queued; i != NO_SLOT; i = sampler->slots[i].next) {
        if (sampler->slots[i].stream == place) {
            sampler->slots[i].body[FLAGS_AT] |= FLAG_GAP;
            return;
        }
    }
    if (stream->slot != NO_SLOT)
        sampler->slots[stream->slot].body[FLAGS_AT] |= FLAG_GAP;
    else
        stream->mark |= FLAG_GAP;
}

/* A slot, at the price of the oldest batch if there is no free one. */
static uint8_t take_slot(struct sampler *sampler, uint64_t now_us)
{
    if (sampler->first_free == NO_SLOT) {
        uint8_t oldest = dequeue(sampler);
        release(sampler, oldest);
        sampler->tx_dropped++;
        sampler->trouble_us = now_us;
        mark_gap(sampler, sampler->slots[oldest].stream);
    }
    uint8_t slot = sampler->first_free;
    sampler->first_free = sampler->slots[slot].next;
    return slot;
}

static void begin_batch(struct sampler *sampler, uint8_t place, uint64_t now_us)
{
    struct stream *stream = &sampler->streams[place];
    stream->slot = take_slot(sampler, now_us);
    struct slot *slot = &sampler->slots[stream->slot];
    slot->rows = 0;
    slot->stream = place;
    slot->body[0] = FRAME_DATA;
    slot->body[1] = stream->sensor->driver->about.stream_id;
    put_u16(slot->body + SEQ_AT, stream->seq++);
    put_u32(slot->body + INDEX_AT, stream->index);
    put_u64(slot->body + TIME_AT, stream->row_ns / 1000);
    slot->body[FLAGS_AT] = sampler->usual_flags | stream->mark;
    stream->mark = 0;
}

static void add_row(struct sampler *sampler, uint8_t place, const int16_t row[CHANNELS],
                    uint64_t now_us)
{
    struct stream *stream = &sampler->streams[place];
    int16_t clip = stream->sensor->driver->about.clip;
    if (stream->slot == NO_SLOT)
        begin_batch(sampler, place, now_us);
    struct slot *slot = &sampler->slots[stream->slot];
    uint8_t *at = slot->body + DATA_HEAD_BYTES + slot->rows * CHANNELS * 2;
    for (int channel = 0; channel < CHANNELS; channel++) {
        int16_t value = row[channel];
        if (value >= clip || value < -clip)
            slot->body[FLAGS_AT] |= FLAG_CLIPPED;
        at = put_u16(at, (uint16_t)value);
    }
    stream->index++;
    stream->row_ns += stream->period_ns;
    if (++slot->rows >= stream->batch)
        enqueue(sampler, stream);
}

/* What is there goes as it is. */
static void flush(struct sampler *sampler, struct stream *stream)
{
    if (stream->slot != NO_SLOT)
        enqueue(sampler, stream);
}

/* Rows are missing in front of `count` new ones: a batch must not reach across. How many, only
 * the clock can tell. */
static void skip_gap(struct sampler *sampler, struct stream *stream, size_t count, uint64_t now_us)
{
    flush(sampler, stream);
    stream->gap = false;
    stream->mark |= FLAG_GAP;
    sampler->trouble_us = now_us;
    uint64_t period_ns = stream->period_ns;
    /* The newest row is between 0 and 1 period old, the first of them count - 1 more. */
    uint64_t expected_ns = stream->row_ns + count * period_ns - period_ns / 2;
    if (now_us * 1000 <= expected_ns)
        return;
    uint32_t lost = (uint32_t)((now_us * 1000 - expected_ns + period_ns / 2) / period_ns);
    stream->index += lost;
    stream->row_ns += lost * period_ns;
    sampler->fifo_overrun += lost;
}

/* Holds the time of the next `count` rows to what is known of the newest one. */
static void bound_time(struct stream *stream, size_t count, uint64_t now_us)
{
    uint64_t before_ns = stream->row_ns - stream->period_ns;
    uint64_t newest_ns = now_us * 1000, span_ns = (uint64_t)(count - 1) * stream->period_ns;
    uint64_t latest_ns = newest_ns > span_ns ? newest_ns - span_ns : 0;
    uint64_t earliest_ns = latest_ns > stream->period_ns ? latest_ns - stream->period_ns : 0;
    if (stream->row_ns < earliest_ns)
        stream->row_ns = earliest_ns;
    if (stream->row_ns > latest_ns)
        stream->row_ns = latest_ns > before_ns ? latest_ns : before_ns;
}

bool sampler_start(struct sampler *sampler, uint8_t place, uint64_t now_us)
{
    struct stream *stream = &sampler->streams[place];
    struct sensor *sensor = stream->sensor;
    sampler_stop(sampler, place);
    bool there = sensor->driver->start(sensor, now_us);
    stream->running = true;
    stream->gap = !there;
    stream->mark = 0;
    stream->seq = 0;
    stream->index = 0;
    stream->period_ns = (uint32_t)(1000000000000u / sensor->rate_millihertz);
    stream->row_ns = now_us * 1000 + stream->period_ns;
    stream->retry_us = there ? 0 : now_us + RETRY_US;
    return there;
}

void sampler_stop(struct sampler *sampler, uint8_t place)
{
    struct stream *stream = &sampler->streams[place];
    if (!stream->running)
        return;
    stream->running = false;
    stream->sensor->driver->stop(stream->sensor);
    if (stream->slot != NO_SLOT)
        release(sampler, stream->slot);
    stream->slot = NO_SLOT;
    uint8_t *link = &sampler->first_queued;
    sampler->last_queued = NO_SLOT;
    while (*link != NO_SLOT) {
        uint8_t slot = *link;
        if (sampler->slots[slot].stream == place) {
            *link = sampler->slots[slot].next;
            release(sampler, slot);
        } else {
            sampler->last_queued = slot;
            link = &sampler->slots[slot].next;
        }
    }
}

/* A sensor that is gone is set up anew once a second. False if it is still gone. */
static bool present(struct stream *stream, uint64_t now_us)
{
    if (stream->retry_us == 0)
        return true;
    if (now_us < stream->retry_us)
        return false;
    bool there = stream->sensor->driver->start(stream->sensor, now_us);
    stream->retry_us = there ? 0 : now_us + RETRY_US;
    return there;
}

static void read_stream(struct sampler *sampler, uint8_t place, uint64_t now_us)
{
    struct stream *stream = &sampler->streams[place];
    int16_t rows[SENSOR_MAX_ROWS][CHANNELS];
    uint8_t flags = 0;
    if (!stream->running || !present(stream, now_us))
        return;
    size_t count = stream->sensor->driver->read(stream->sensor, now_us, rows, &flags);
    if (flags & FLAG_BUS_ERROR) {
        flush(sampler, stream);
        stream->mark |= FLAG_BUS_ERROR;
        stream->retry_us = now_us + RETRY_US;
        sampler->trouble_us = now_us;
    }
    stream->gap = stream->gap || flags & (FLAG_GAP | FLAG_BUS_ERROR);
    if (count == 0)
        return;
    if (stream->gap)
        skip_gap(sampler, stream, count, now_us);
    /* A full read has left rows behind: its newest is as old as those are many. */
    if (count < SENSOR_MAX_ROWS)
        bound_time(stream, count, now_us);
    for (size_t i = 0; i < count; i++)
        add_row(sampler, place, rows[i], now_us);
}

void sampler_read(struct sampler *sampler, uint64_t now_us)
{
    for (uint8_t place = 0; place < sampler->count; place++)
        read_stream(sampler, place, now_us);
}

uint8_t *sampler_next(struct sampler *sampler, uint8_t schema_tag, size_t *size)
{
    if (sampler->first_queued == NO_SLOT)
        return NULL;
    struct slot *slot = &sampler->slots[sampler->first_queued];
    struct stream *stream = &sampler->streams[slot->stream];
    slot->body[TAG_AT] = schema_tag;
    slot->body[FLAGS_AT] |= stream->unsent;
    stream->unsent = 0;
    *size = (size_t)DATA_HEAD_BYTES + (size_t)slot->rows * CHANNELS * 2;
    return slot->body;
}

void sampler_sent(struct sampler *sampler)
{
    release(sampler, dequeue(sampler));
}
