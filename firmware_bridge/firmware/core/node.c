#include "node.h"

#include "bytes.h"

enum { HOST_SILENCE_US = 5000000, TROUBLE_US = 5000000, TIME_SENT_AT = 24 };

void node_init(struct node *node, const struct board *board, struct ring *received,
               const struct identity *identity)
{
    *node = (struct node){.board = board, .received = received, .identity = *identity};
    sampler_init(&node->sampler, identity->emulated ? FLAG_EMULATED : 0);
    node->host_us = board->time_us(board->self);
}

bool node_add(struct node *node, struct sensor *sensor, bool anyway)
{
    const struct sensor_about *about = &sensor->driver->about;
    bool power_on = node->identity.reset_cause == RESET_POWER_ON;
    sensor->board = node->board;
    sensor->rate_millihertz = about->rates_millihertz[about->rate_count - 1];
    bool there = sensor->driver->probe(sensor);
    if (there || anyway)
        sampler_add(&node->sampler, sensor, power_on ? 0 : FLAG_CLOCK_RESTARTED);
    node->sensor_missing = node->sensor_missing || (anyway && !there);
    node_describe(node);
    return there;
}

void node_describe(struct node *node)
{
    struct schema_window whole = {0};
    node_schema(node, &whole);
    node->schema_crc = whole.crc;
}

void node_schema(const struct node *node, struct schema_window *window)
{
    struct schema_stream streams[MAX_STREAMS];
    for (uint8_t i = 0; i < node->sampler.count; i++) {
        const struct stream *stream = &node->sampler.streams[i];
        streams[i] = (struct schema_stream){stream->sensor, stream->batch};
    }
    schema_write(window, &node->identity, streams, node->sampler.count);
}

static bool running(const struct node *node)
{
    for (uint8_t i = 0; i < node->sampler.count; i++)
        if (node->sampler.streams[i].running)
            return true;
    return false;
}

static void hear(struct node *node, size_t size)
{
    const uint8_t *body = node->receiver.bytes;
    if (body[0] & FRAME_REPLY || body[0] == FRAME_DATA)
        return;
    node->heard_us = node->host_us = node->board->time_us(node->board->self);
    node->reply_size = (uint16_t)dispatch(node, body, size);
}

/* One request at a time: the next one waits in the ring until the reply is on its way. */
static void receive(struct node *node)
{
    uint8_t byte;
    while (node->reply_size == 0 && ring_take(node->received, &byte)) {
        size_t size = receiver_take(&node->receiver, byte);
        if (size > 0)
            hear(node, size);
    }
}

static void send(struct node *node, uint8_t *body, size_t size)
{
    size_t wire_size = frame_seal(body, size, node->wire);
    node->board->send(node->board->self, node->wire, wire_size);
}

static void send_reply(struct node *node)
{
    /* The last thing before it leaves, or the host takes our queue for the way. */
    if (node->reply[0] == (FRAME_TIME | FRAME_REPLY) && node->reply[HEAD_BYTES] == STATUS_OK)
        put_u64(node->reply + TIME_SENT_AT, node->board->time_us(node->board->self));
    send(node, node->reply, node->reply_size);
    node->reply_size = 0;
}

/* Sends one frame if the line is free, replies first. Only one a call: where sending waits for each
 * byte (the emulator), samples and requests must come in between. */
static void transmit(struct node *node)
{
    if (!node->board->line_free(node->board->self))
        return;
    if (node->reply_size > 0) {
        send_reply(node);
        return;
    }
    if (node->restart_pending)
        node->restart_pending = node->board->restart(node->board->self, node->restart_mode);
    size_t size;
    uint8_t *body = sampler_next(&node->sampler, (uint8_t)node->schema_crc, &size);
    if (body == NULL)
        return;
    send(node, body, size);
    sampler_sent(&node->sampler);
}

void node_poll(struct node *node)
{
    receive(node);
    uint64_t now_us = node->board->time_us(node->board->self);
    if (now_us - node->host_us > HOST_SILENCE_US)
        for (uint8_t i = 0; i < node->sampler.count; i++)
            sampler_stop(&node->sampler, i);
    sampler_read(&node->sampler, now_us);
    transmit(node);
}

bool node_busy(const struct node *node)
{
    bool received = ring_level(node->received) > 0 && node->reply_size == 0;
    bool waiting = node->reply_size > 0 || node->restart_pending;
    waiting = waiting || node->sampler.first_queued != NO_SLOT;
    return received || (waiting && node->board->line_free(node->board->self));
}

static bool sensor_trouble(const struct node *node)
{
    for (uint8_t i = 0; i < node->sampler.count; i++)
        if (node->sampler.streams[i].running && node->sampler.streams[i].retry_us != 0)
            return true;
    return node->sensor_missing;
}

enum light_code node_light(const struct node *node)
{
    uint64_t trouble_us = node->sampler.trouble_us;
    if (sensor_trouble(node))
        return LIGHT_SENSOR;
    if (trouble_us != 0 && node->board->time_us(node->board->self) - trouble_us < TROUBLE_US)
        return LIGHT_LOSING;
    if (!node->identity.crystal && !node->identity.emulated)
        return LIGHT_CRYSTAL;
    if (running(node))
        return LIGHT_STREAMING;
    return node->identity.reset_cause == RESET_WATCHDOG ? LIGHT_WATCHDOG : LIGHT_WAITING;
}
