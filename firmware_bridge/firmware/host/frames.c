/* Frames: the operations on COBS, CRC, frames, the clock and the light. */
#include "harness.h"

#include "clock.h"
#include "cobs.h"
#include "crc32.h"
#include "frame.h"
#include "light.h"

#include <stdlib.h>
#include <string.h>

static struct receiver receiver;

void frames_reset(void)
{
    receiver_reset(&receiver);
}

/* Memory of exactly that size, so that the sanitizer sees one byte too many. */
static uint8_t *exactly(size_t size)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    if (bytes == NULL)
        host_die("no memory");
    return bytes;
}

static void feed(struct request *request)
{
    while (request->left > 0) {
        size_t size = receiver_take(&receiver, take_u8(request));
        if (size == 0)
            continue;
        give_u16((uint16_t)size);
        give_bytes(receiver.bytes, size);
    }
}

static void counters(struct request *request)
{
    (void)request;
    give_u32(receiver.frames);
    give_u32(receiver.bad_crc);
    give_u32(receiver.bad_cobs);
    give_u32(receiver.oversize);
}

static size_t take_rest(struct request *request, uint8_t *bytes)
{
    size_t size = request->left;
    for (size_t i = 0; i < size; i++)
        bytes[i] = take_u8(request);
    return size;
}

static void seal(struct request *request)
{
    if (request->left > MAX_BODY_BYTES)
        host_die("a body is longer than any");
    uint8_t *body = exactly(request->left + CRC_BYTES), *wire = exactly(MAX_WIRE_BYTES);
    size_t size = take_rest(request, body);
    give_bytes(wire, frame_seal(body, size, wire));
    free(wire);
    free(body);
}

static void encode(struct request *request)
{
    uint8_t *in = exactly(request->left), *out = exactly(request->left + request->left / 254 + 1);
    size_t size = take_rest(request, in);
    give_bytes(out, cobs_encode(in, size, out));
    free(out);
    free(in);
}

static void decode(struct request *request)
{
    uint8_t *bytes = exactly(request->left);
    size_t size = cobs_decode(bytes, take_rest(request, bytes));
    give_u8(size != COBS_BAD);
    give_bytes(bytes, size == COBS_BAD ? 0 : size);
    free(bytes);
}

static void crc(struct request *request)
{
    uint32_t before = take_u32(request);
    uint8_t *bytes = exactly(request->left);
    size_t size = take_rest(request, bytes);
    give_u32(crc32(before, bytes, size));
    free(bytes);
}

static void run_clock(struct request *request)
{
    struct clock clock = {.mask = take_u32(request)};
    while (request->left > 0)
        give_u64(clock_advance(&clock, take_u32(request)));
}

static void light(struct request *request)
{
    enum light_code code = (enum light_code)take_u8(request);
    give_u8(light_on(code, take_u64(request)));
}

bool frames_run(enum operation_code code, struct request *request)
{
    static void (*const RUN[])(struct request *) = {
        [OP_RECEIVER_FEED] = feed, [OP_RECEIVER_COUNTERS] = counters,
        [OP_SEAL] = seal,          [OP_COBS_ENCODE] = encode,
        [OP_COBS_DECODE] = decode, [OP_CRC32] = crc,
        [OP_CLOCK] = run_clock,    [OP_LIGHT] = light,
    };
    if (code >= sizeof RUN / sizeof *RUN || RUN[code] == NULL)
        return false;
    RUN[code](request);
    return true;
}
