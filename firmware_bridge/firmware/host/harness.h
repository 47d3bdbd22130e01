/* Harness: the firmware as a process that tests talk to in requests and answers.
 *
 *     request = operation u8, size u32, payload        answer = size u32, payload
 *
 * In: requests on stdin until it ends. Out: one answer each on stdout; exit code 0, or 3 with a
 * word on stderr when a request is malformed or the firmware breaks a rule of board.h; sanitizers
 * have their own. Never: keeps anything across RESET, looks at the real clock. All numbers are
 * little-endian. */
#ifndef OTOLITH_HOST_HARNESS_H
#define OTOLITH_HOST_HARNESS_H

#include "host_board.h"

/* Requests -> answers. `time` is u64 microseconds, `row` is three i16. */
enum operation_code {
    OP_RESET = 0x00, /* -> nothing; a new world */

    /* frames.c */
    OP_RECEIVER_FEED = 0x01,     /* bytes -> {size u16, body} for each */
    OP_RECEIVER_COUNTERS = 0x02, /* -> frames, bad_crc, bad_cobs, oversize u32 */
    OP_SEAL = 0x03,              /* body -> frame */
    OP_COBS_ENCODE = 0x04,       /* bytes -> bytes */
    OP_COBS_DECODE = 0x05,       /* bytes -> good u8, bytes */
    OP_CRC32 = 0x06,             /* crc u32, bytes -> crc u32 */
    OP_CLOCK = 0x07,             /* mask u32, counts u32... -> time... */
    OP_LIGHT = 0x08,             /* code u8, time -> on u8 */

    /* world.c */
    OP_TIME_SET = 0x10,   /* time -> nothing */
    OP_TIME_GET = 0x11,   /* -> time */
    OP_COSTS = 0x12,      /* ns u32 of a look at the clock, a byte on SPI, on I2C -> nothing */
    OP_LINE = 0x13,       /* blocked u8, baud u32 (0: infinitely fast) -> nothing */
    OP_SENT = 0x14,       /* -> bytes sent since the last OP_SENT */
    OP_RESTARTS = 0x15,   /* -> count u32, last mode u8 */
    OP_CHIP_FAULT = 0x18, /* chip u8, fault u8 -> nothing */
    OP_CHIP_FAULT_ONCE = 0x19, /* chip u8, transfers u32 (0: never), fault u8 -> nothing */
    OP_CHIP_POWER_ON = 0x1A,  /* chip u8 -> nothing */
    OP_CHIP_SIGNAL = 0x1B,    /* chip u8, still u8, value 3 x i32 -> nothing */
    OP_CHIP_PPM = 0x1C,       /* chip u8, ppm i32, from its next start on -> nothing */
    OP_CHIP_SELF_TEST = 0x1D, /* chip u8, 3 x i32: numbers, or milligauss -> nothing */
    OP_CHIP_STATE = 0x1E,     /* chip u8 -> transfers, rows taken, early reads u32, registers */

    /* sensors.c: the drivers by themselves; a driver u8 comes first */
    OP_SENSOR_ABOUT = 0x20,     /* -> clip i16, id u8, count u8, millihertz u32..., texts */
    OP_SENSOR_PROBE = 0x21,     /* -> there u8 */
    OP_SENSOR_START = 0x22,     /* millihertz u32 (0: as it is) -> there u8 */
    OP_SENSOR_STOP = 0x23,      /* -> nothing */
    OP_SENSOR_READ = 0x24,      /* -> flags u8, rows... */
    OP_SENSOR_RUN = 0x25,       /* reads u32, step u32 us -> {time, flags, count u8, rows}... */
    OP_SENSOR_SELF_TEST = 0x26, /* -> result u8 (2: has none), delta, low, high rows */
    OP_SENSOR_REGISTERS = 0x27, /* first u8, size u8 -> good u8, bytes */

    /* nodes.c: a whole board */
    OP_NODE_NEW = 0x30,   /* see nodes.c -> there u8 for each sensor */
    OP_NODE_FEED = 0x31,  /* bytes into the ring -> overruns u32 */
    OP_NODE_RUN = 0x32,   /* polls u32, step u32 us before each -> nothing */
    OP_NODE_STATE = 0x33, /* -> busy u8, light code u8, light on u8, schema_crc u32 */
};

/* What is left of a request. Taking more than there is ends the process. */
struct request {
    const uint8_t *at;
    size_t left;
};

uint8_t take_u8(struct request *request);
uint32_t take_u32(struct request *request);
uint64_t take_u64(struct request *request);

/* Adds to the answer. */
void give_bytes(const void *bytes, size_t size);
void give_u8(uint8_t value);
void give_u16(uint16_t value);
void give_u32(uint32_t value);
void give_u64(uint64_t value);

extern struct host_board world;

/* Driver number `number`, in the order of sensors.c; and begins with new ones. */
const struct sensor_driver *driver_at(uint8_t number);

void frames_reset(void);
void sensors_reset(void);
void nodes_reset(void);

/* False if the operation is none of theirs. */
bool frames_run(enum operation_code code, struct request *request);
bool world_run(enum operation_code code, struct request *request);
bool sensors_run(enum operation_code code, struct request *request);
bool nodes_run(enum operation_code code, struct request *request);

#endif
