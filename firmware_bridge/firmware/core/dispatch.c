/* Dispatch: each request of PROTOCOL.md section 3 to its answer.
 *
 * In: a body whose CRC is right. Out: the reply's body in `node->reply`: head, status, fields.
 * Never: trusts a length or a number in it. Every request may come twice (the host repeats it). */
#include "bytes.h"
#include "node.h"

/* Fields of replies after status and its padding: offset 8, but for IDENTIFY. */
enum { STATUS_AT = 4, IDENTIFY_FIELDS_AT = 6, FIELDS_AT = 8, NO_FIELDS = 4 };

/* The request: `fields` are its bytes after the head. */
struct request {
    uint8_t stream;
    const uint8_t *fields;
};

/* Fills in `reply` from `fields` on; gives the status. `size` is the reply's usual size and may be
 * made larger. The reply is all zeros before. */
typedef enum status answer(struct node *node, const struct request *request, uint8_t *reply,
                           size_t *size);

static uint64_t time_us(const struct node *node)
{
    return node->board->time_us(node->board->self);
}

/* Whether a command for one stopped stream can be: it is there, and doesn't run. */
static enum status stopped_stream(struct node *node, uint8_t id, struct stream **stream)
{
    int place = sampler_find(&node->sampler, id);
    if (place < 0)
        return STATUS_BAD_ARGUMENT;
    *stream = &node->sampler.streams[place];
    return (*stream)->running ? STATUS_BUSY : STATUS_OK;
}

static bool in_mask(const struct node *node, uint8_t place, uint32_t mask)
{
    return mask >> node->sampler.streams[place].sensor->driver->about.stream_id & 1;
}

static enum status identify(struct node *node, const struct request *request, uint8_t *reply,
                            size_t *size)
{
    uint16_t offset = get_u16(request->fields);
    struct schema_window window = {
        .offset = offset,
        .room = MAX_JSON_CHUNK_BYTES,
        .out = reply + *size,
    };
    node_schema(node, &window);
    put_u16(reply + IDENTIFY_FIELDS_AT, offset);
    put_u16(reply + IDENTIFY_FIELDS_AT + 2, (uint16_t)window.total);
    put_u32(reply + IDENTIFY_FIELDS_AT + 4, window.crc);
    *size += window.copied;
    return window.copied ? STATUS_OK : STATUS_BAD_ARGUMENT;
}

static enum status start(struct node *node, const struct request *request, uint8_t *reply,
                         size_t *size)
{
    uint32_t mask = get_u32(request->fields);
    uint64_t now_us = time_us(node);
    bool any = false, there = false;
    (void)size;
    for (uint8_t place = 0; place < node->sampler.count; place++) {
        if (!in_mask(node, place, mask))
            continue;
        any = true;
        there = sampler_start(&node->sampler, place, now_us) || there;
    }
    put_u64(reply + FIELDS_AT, now_us);
    if (!any)
        return STATUS_BAD_ARGUMENT;
    /* One sensor that is gone must not silence the others: it is tried again while they run. */
    for (uint8_t place = 0; place < node->sampler.count && !there; place++)
        if (in_mask(node, place, mask))
            sampler_stop(&node->sampler, place);
    return there ? STATUS_OK : STATUS_SENSOR;
}

static enum status stop(struct node *node, const struct request *request, uint8_t *reply,
                        size_t *size)
{
    uint32_t mask = get_u32(request->fields);
    (void)size;
    for (uint8_t place = 0; place < node->sampler.count; place++)
        if (in_mask(node, place, mask))
            sampler_stop(&node->sampler, place);
    put_u64(reply + FIELDS_AT, time_us(node));
    return STATUS_OK;
}

static uint32_t nearest_rate(const struct sensor_about *about, uint32_t millihertz)
{
    uint32_t best = about->rates_millihertz[0], best_off = UINT32_MAX;
    for (uint8_t i = 0; i < about->rate_count; i++) {
        uint32_t rate = about->rates_millihertz[i];
        uint32_t off = rate > millihertz ? rate - millihertz : millihertz - rate;
        if (off < best_off) {
            best_off = off;
            best = rate;
        }
    }
    return best;
}

static enum status set_rate(struct node *node, const struct request *request, uint8_t *reply,
                            size_t *size)
{
    uint32_t millihertz = get_u32(request->fields);
    uint16_t batch = get_u16(request->fields + 4);
    struct stream *stream;
    enum status status = stopped_stream(node, request->stream, &stream);
    (void)size;
    if (status == STATUS_OK && (millihertz == 0 || batch > MAX_BATCH_ROWS))
        status = STATUS_BAD_ARGUMENT;
    if (status != STATUS_OK)
        return status;
    millihertz = nearest_rate(&stream->sensor->driver->about, millihertz);
    stream->sensor->rate_millihertz = millihertz;
    stream->batch = batch ? batch : sampler_batch(millihertz);
    node_describe(node);
    put_u32(reply + FIELDS_AT, millihertz);
    put_u16(reply + FIELDS_AT + 4, stream->batch);
    put_u32(reply + FIELDS_AT + 8, node->schema_crc);
    return STATUS_OK;
}

/* When the reply leaves is filled in when it leaves. */
static enum status tell_time(struct node *node, const struct request *request, uint8_t *reply,
                             size_t *size)
{
    (void)size;
    put_u32(reply + FIELDS_AT, get_u32(request->fields));
    put_u32(reply + FIELDS_AT + 4, get_u32(request->fields + 4));
    put_u64(reply + FIELDS_AT + 8, node->heard_us);
    return STATUS_OK;
}

static enum status self_test(struct node *node, const struct request *request, uint8_t *reply,
                             size_t *size)
{
    struct stream *stream;
    struct self_test test;
    enum status status = stopped_stream(node, request->stream, &stream);
    if (status != STATUS_OK)
        return status;
    const struct sensor_driver *driver = stream->sensor->driver;
    if (driver->self_test == NULL)
        return STATUS_BAD_ARGUMENT;
    if (!driver->self_test(stream->sensor, &test))
        return STATUS_SENSOR;
    uint16_t passed = 0;
    uint8_t *at = reply + *size;
    for (int i = 0; i < CHANNELS; i++) {
        if (test.delta[i] >= test.low[i] && test.delta[i] <= test.high[i])
            passed |= (uint16_t)(1u << i);
        at = put_u16(at, (uint16_t)test.delta[i]);
        at = put_u16(at, (uint16_t)test.low[i]);
        at = put_u16(at, (uint16_t)test.high[i]);
    }
    put_u16(reply + FIELDS_AT, CHANNELS);
    put_u16(reply + FIELDS_AT + 2, passed);
    *size = (size_t)(at - reply);
    return STATUS_OK;
}

static enum status stats(struct node *node, const struct request *request, uint8_t *reply,
                         size_t *size)
{
    const struct receiver *receiver = &node->receiver;
    const uint32_t counters[] = {
        receiver->frames,
        receiver->bad_crc,
        receiver->bad_cobs,
        receiver->oversize,
        node->received->overruns,
        node->sampler.fifo_overrun,
        node->sampler.tx_dropped,
        node->identity.reset_cause,
        (uint32_t)(time_us(node) / 1000),
    };
    uint8_t *at = reply + FIELDS_AT;
    (void)request;
    (void)size;
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        at = put_u32(at, counters[i]);
    return STATUS_OK;
}

static enum status read_registers(struct node *node, const struct request *request, uint8_t *reply,
                                  size_t *size)
{
    uint8_t first = request->fields[0], count = request->fields[1];
    struct stream *stream;
    /* Reading a running FIFO's registers would take its samples away. */
    enum status status = stopped_stream(node, request->stream, &stream);
    if (status == STATUS_OK && (count == 0 || first + count > SENSOR_REGISTERS))
        status = STATUS_BAD_ARGUMENT;
    if (status != STATUS_OK)
        return status;
    if (!stream->sensor->driver->registers(stream->sensor, first, reply + *size, count))
        return STATUS_SENSOR;
    *size += count;
    return STATUS_OK;
}

static enum status restart(struct node *node, const struct request *request, uint8_t *reply,
                           size_t *size)
{
    uint8_t mode = request->fields[0];
    (void)reply;
    (void)size;
    /* The bootloader is a thing of silicon. */
    if (mode > RESTART_BOOTLOADER || (mode == RESTART_BOOTLOADER && node->identity.emulated))
        return STATUS_BAD_ARGUMENT;
    node->restart_pending = true;
    node->restart_mode = (enum restart_mode)mode;
    return STATUS_OK;
}

static enum status heartbeat(struct node *node, const struct request *request, uint8_t *reply,
                             size_t *size)
{
    (void)request;
    (void)size;
    put_u64(reply + FIELDS_AT, time_us(node));
    return STATUS_OK;
}

/* Sizes are without the head. */
static const struct entry {
    uint8_t request_size, reply_size;
    answer *answer;
} ENTRIES[] = {
    [FRAME_IDENTIFY] = {2, 10, identify},
    [FRAME_START] = {4, 12, start},
    [FRAME_STOP] = {4, 12, stop},
    [FRAME_SET_RATE] = {6, 16, set_rate},
    [FRAME_TIME] = {8, 28, tell_time},
    [FRAME_SELF_TEST] = {0, 8, self_test},
    [FRAME_STATS] = {0, 40, stats},
    [FRAME_REG_READ] = {2, 4, read_registers},
    [FRAME_RESET] = {1, 4, restart},
    [FRAME_HEARTBEAT] = {0, 12, heartbeat},
};

size_t dispatch(struct node *node, const uint8_t *body, size_t size)
{
    const struct request request = {.stream = body[1], .fields = body + HEAD_BYTES};
    uint8_t *reply = node->reply, type = body[0];
    bool known = type < sizeof ENTRIES / sizeof *ENTRIES && ENTRIES[type].answer != NULL;
    size_t reply_size = HEAD_BYTES + (known ? ENTRIES[type].reply_size : NO_FIELDS);
    for (size_t i = 0; i < reply_size; i++)
        reply[i] = i > 0 && i < HEAD_BYTES ? body[i] : 0;
    reply[0] = type | FRAME_REPLY;
    enum status status = known ? STATUS_BAD_ARGUMENT : STATUS_UNKNOWN;
    if (known && size == (size_t)HEAD_BYTES + ENTRIES[type].request_size)
        status = ENTRIES[type].answer(node, &request, reply, &reply_size);
    reply[STATUS_AT] = (uint8_t)status;
    return reply_size;
}
