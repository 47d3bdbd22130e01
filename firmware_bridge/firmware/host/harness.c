#include "harness.h"

#include "bytes.h"

#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 22, HEAD = 5 };

struct host_board world;

static uint8_t payload[MOST_BYTES], answer[MOST_BYTES];
static size_t answer_size;

static const uint8_t *take(struct request *request, size_t size)
{
    if (request->left < size)
        host_die("a request ends too early");
    const uint8_t *at = request->at;
    request->at += size;
    request->left -= size;
    return at;
}

uint8_t take_u8(struct request *request)
{
    return *take(request, 1);
}

uint32_t take_u32(struct request *request)
{
    return get_u32(take(request, 4));
}

uint64_t take_u64(struct request *request)
{
    uint64_t low = take_u32(request);
    return low | (uint64_t)take_u32(request) << 32;
}

void give_bytes(const void *bytes, size_t size)
{
    if (answer_size + size > sizeof answer)
        host_die("an answer is too long");
    if (size > 0)
        memcpy(answer + answer_size, bytes, size);
    answer_size += size;
}

void give_u8(uint8_t value)
{
    give_bytes(&value, 1);
}

void give_u16(uint16_t value)
{
    uint8_t bytes[2];
    put_u16(bytes, value);
    give_bytes(bytes, sizeof bytes);
}

void give_u32(uint32_t value)
{
    uint8_t bytes[4];
    put_u32(bytes, value);
    give_bytes(bytes, sizeof bytes);
}

void give_u64(uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    give_bytes(bytes, sizeof bytes);
}

static void reset(void)
{
    host_board_init(&world);
    frames_reset();
    sensors_reset();
    nodes_reset();
}

static void run(enum operation_code code, struct request *request)
{
    if (code == OP_RESET)
        reset();
    else if (!frames_run(code, request) && !world_run(code, request)
             && !sensors_run(code, request) && !nodes_run(code, request))
        host_die("no such operation");
    if (request->left > 0)
        host_die("a request is too long");
}

static void write_answer(void)
{
    uint8_t size[4];
    put_u32(size, (uint32_t)answer_size);
    fwrite(size, 1, sizeof size, stdout);
    fwrite(answer, 1, answer_size, stdout);
    fflush(stdout);
    answer_size = 0;
}

int main(void)
{
    uint8_t head[HEAD];
    reset();
    while (fread(head, 1, HEAD, stdin) == HEAD) {
        struct request request = {payload, get_u32(head + 1)};
        if (request.left > sizeof payload || fread(payload, 1, request.left, stdin) != request.left)
            host_die("a request was cut off");
        run((enum operation_code)head[0], &request);
        write_answer();
    }
    return 0;
}
