/* Fuzz: a node whose host, line, clock and sensors do whatever the input says.
 *
 * In: any bytes; they are a script. Out: nothing, or an abort: by a sanitizer, or because the node
 * has sent what no board may send (PROTOCOL.md).
 * Never: depends on anything but the input. */
#include "bytes.h"
#include "node.h"

#include <stdlib.h>

enum step { STEP_NOISE, STEP_REQUEST, STEP_WAIT, STEP_LINE, STEPS };
enum { MAX_REQUEST = 16, WAIT_US = 37 };

struct script {
    const uint8_t *at;
    size_t left;
};

/* All that the board's five functions and the sensors know. */
static struct script script;
static uint64_t now_us;
static bool line_is_free;
static struct receiver host;
static struct node node;
static struct ring received;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t next(void)
{
    if (script.left == 0)
        return 0;
    script.left--;
    return *script.at++;
}

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool streaming(void)
{
    for (uint8_t i = 0; i < node.sampler.count; i++)
        if (node.sampler.streams[i].running)
            return true;
    return false;
}

static uint64_t time_us(void *self)
{
    (void)self;
    return now_us;
}

static bool line_free(void *self)
{
    (void)self;
    return line_is_free;
}

/* Exactly one good frame, and one that a board may send now. */
static void send(void *self, const uint8_t *bytes, size_t size)
{
    size_t body = 0;
    (void)self;
    must(line_is_free && size <= MAX_WIRE_BYTES);
    for (size_t i = 0; i < size; i++) {
        must(body == 0);
        body = receiver_take(&host, bytes[i]);
    }
    must(body > 0);
    if (host.bytes[0] & FRAME_REPLY)
        return;
    must(host.bytes[0] == FRAME_DATA && streaming());
    must(body == DATA_HEAD_BYTES + get_u16(host.bytes + 16) * CHANNELS * 2u);
}

static bool transfer(void *self, enum device device, const uint8_t *out, size_t out_size,
                     uint8_t *in, size_t in_size)
{
    (void)self, (void)device, (void)out, (void)out_size, (void)in, (void)in_size;
    return false;
}

static bool restart(void *self, enum restart_mode mode)
{
    (void)self;
    must(mode <= RESTART_BOOTLOADER);
    return false;
}

static bool probe(struct sensor *sensor)
{
    (void)sensor;
    return true;
}

static bool begin(struct sensor *sensor, uint64_t at_us)
{
    (void)sensor, (void)at_us;
    return next() % 8 != 1;
}

static void rest(struct sensor *sensor)
{
    (void)sensor;
}

static size_t give(struct sensor *sensor, uint64_t at_us, int16_t rows[][CHANNELS], uint8_t *flags)
{
    size_t count = next() % (SENSOR_MAX_ROWS + 1);
    (void)sensor, (void)at_us;
    *flags = next() & (FLAG_GAP | FLAG_BUS_ERROR);
    for (size_t i = 0; i < count; i++)
        for (int channel = 0; channel < CHANNELS; channel++)
            rows[i][channel] = (int16_t)(i * 1000);
    return count;
}

static bool test(struct sensor *sensor, struct self_test *result)
{
    (void)sensor;
    *result = (struct self_test){{next(), next(), next()}, {0}, {100, 100, 100}};
    return next() % 2;
}

static bool registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    (void)sensor;
    must((size_t)first + size <= SENSOR_REGISTERS);
    for (size_t i = 0; i < size; i++)
        values[i] = first;
    return next() % 2;
}

static void hear(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ring_push(&received, bytes[i]);
    node_poll(&node);
}

static void hear_noise(void)
{
    size_t size = next();
    hear(script.at, size < script.left ? size : script.left);
    for (size_t i = 0; i < size; i++)
        next();
}

/* With a CRC that is right: no fuzzer finds those. */
static void hear_request(void)
{
    uint8_t body[MAX_REQUEST + CRC_BYTES], wire[MAX_WIRE_BYTES];
    size_t size = HEAD_BYTES + next() % (MAX_REQUEST - HEAD_BYTES + 1);
    for (size_t i = 0; i < size; i++)
        body[i] = next();
    hear(wire, frame_seal(body, size, wire));
}

static void run_step(void)
{
    switch ((enum step)(next() % STEPS)) {
    case STEP_NOISE:
        hear_noise();
        break;
    case STEP_REQUEST:
        hear_request();
        break;
    case STEP_WAIT:
        now_us += (uint64_t)next() * next() * WAIT_US;
        break;
    default:
        line_is_free = next() % 4 != 0;
        break;
    }
    node_poll(&node);
    node_light(&node);
    node_busy(&node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t RATES[] = {12500, 100000, 3200000};
    static const struct sensor_driver FAST = {
        {"accel", "none", "g", "0.0039", "16", 4095, 3, 1, RATES},
        probe, begin, rest, give, test, registers,
    };
    static const struct sensor_driver SLOW = {
        {"mag", "none", "uT", "0.1", "800", 32767, 2, 2, RATES},
        probe, begin, rest, give, NULL, registers,
    };
    static const struct board BOARD = {NULL, time_us, line_free, send, transfer, restart};
    static const struct identity IDENTITY = {.board = "fuzz", .reset_cause = RESET_WATCHDOG};
    struct sensor sensors[2] = {{.driver = &FAST}, {.driver = &SLOW}};
    script = (struct script){data, size};
    now_us = 1;
    line_is_free = true;
    received = (struct ring){0};
    receiver_reset(&host);
    node_init(&node, &BOARD, &received, &IDENTITY);
    node_add(&node, &sensors[0], false);
    node_add(&node, &sensors[1], true);
    while (script.left > 0)
        run_step();
    return 0;
}
