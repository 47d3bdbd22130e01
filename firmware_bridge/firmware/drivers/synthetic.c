#include "synthetic.h"

enum {
    BACKLOG = 128, /* 40 ms at 3200 Hz: an emulator's host has other things to do */
    KEPT = 32,     /* of a backlog that ran over */
    LONG_US = 1000000000,
};

static const uint32_t ACCEL_MILLIHERTZ[] = {100000, 200000, 400000, 800000, 1600000, 3200000};
static const uint32_t MAG_MILLIHERTZ[] = {10000, 50000, 100000};

/* Phases are turns in 32 bits. */
#define QUARTER_TURN 0x40000000u

/* 127 times the sine, straight between 32 points of a turn. */
static int32_t sine(uint32_t phase)
{
    static const int8_t POINTS[33] = {
        0, 25, 49, 71, 90, 106, 117, 125, 127, 125, 117, 106, 90, 71, 49, 25, 0,
        -25, -49, -71, -90, -106, -117, -125, -127, -125, -117, -106, -90, -71, -49, -25, 0,
    };
    uint32_t point = phase >> 27;
    int32_t part = (int32_t)(phase >> 19 & 0xFF);
    return POINTS[point] + (POINTS[point + 1] - POINTS[point]) * part / 256;
}

/* -7 .. 7, most often near 0, from four bits of a number that jumps about. */
static int32_t noise(uint32_t position, int channel)
{
    uint32_t mixed = position * 2654435761u;
    mixed = (mixed ^ mixed >> 15) * 2246822519u;
    mixed = (mixed ^ mixed >> 13) >> (channel * 8);
    return (int32_t)(mixed & 7) + (int32_t)(mixed >> 3 & 7) - 7;
}

/* A machine of 30 turns a second on its feet: 256 numbers are 1 g. */
static void accel_row(uint32_t position, uint32_t hertz_step, int16_t row[CHANNELS])
{
    uint32_t turn = position * hertz_step * 30;
    row[0] = (int16_t)(sine(turn) * 40 / 127 + sine(turn * 3) * 12 / 127 + noise(position, 0));
    row[1] = (int16_t)(sine(turn + QUARTER_TURN) * 40 / 127 + noise(position, 1));
    row[2] = (int16_t)(256 + sine(turn * 2) * 20 / 127 + noise(position, 2));
}

/* The field of the earth, 20 uT along and 45 down, turned once in ten seconds: 30 numbers are
 * 1 uT. */
static void mag_row(uint32_t position, uint32_t hertz_step, int16_t row[CHANNELS])
{
    uint32_t turn = position * (hertz_step / 10);
    row[0] = (int16_t)(sine(turn + QUARTER_TURN) * 600 / 127 + noise(position, 0));
    row[1] = (int16_t)(sine(turn) * 600 / 127 + noise(position, 1));
    row[2] = (int16_t)(-1350 + noise(position, 2));
}

static bool synthetic_probe(struct sensor *sensor)
{
    (void)sensor;
    return true;
}

/* Periods are whole half microseconds at all rates. */
static uint32_t half_microseconds(const struct sensor *sensor)
{
    return 2000000000u / sensor->rate_millihertz;
}

static void advance(struct sensor *sensor, uint32_t rows)
{
    uint32_t halves = half_microseconds(sensor);
    sensor->due_us += (rows * halves + (sensor->position & halves & 1)) / 2;
    sensor->position += rows;
}

static bool synthetic_start(struct sensor *sensor, uint64_t now_us)
{
    sensor->due_us = now_us;
    sensor->position = 0;
    advance(sensor, 1);
    sensor->position = 0;
    return true;
}

static void synthetic_stop(struct sensor *sensor)
{
    (void)sensor;
}

/* True if rows had to go because nobody came for them. */
static bool overrun(struct sensor *sensor, uint64_t now_us)
{
    uint64_t late_us = now_us - sensor->due_us;
    if (late_us > LONG_US) {
        sensor->due_us = now_us - LONG_US;
        late_us = LONG_US;
    }
    uint32_t waiting = (uint32_t)late_us * 2 / half_microseconds(sensor) + 1;
    if (waiting <= BACKLOG)
        return false;
    advance(sensor, waiting - KEPT);
    return true;
}

static size_t synthetic_read(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                             uint8_t *flags)
{
    uint32_t hertz_step = UINT32_MAX / (sensor->rate_millihertz / 1000);
    size_t count = 0;
    if (now_us >= sensor->due_us && overrun(sensor, now_us))
        *flags |= FLAG_GAP;
    for (; count < SENSOR_MAX_ROWS && now_us >= sensor->due_us; count++) {
        if (sensor->driver == &synthetic_accel)
            accel_row(sensor->position, hertz_step, rows[count]);
        else
            mag_row(sensor->position, hertz_step, rows[count]);
        advance(sensor, 1);
    }
    return count;
}

/* There is no chip. */
static bool synthetic_registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    (void)sensor;
    (void)first;
    (void)values;
    (void)size;
    return false;
}

const struct sensor_driver synthetic_accel = {
    .about = {
        .stream = "accel",
        .chip = "synthetic",
        .unit = "g",
        .scale = "0.0039",
        .range = "16",
        .clip = 4094,
        .stream_id = 1,
        .rate_count = sizeof ACCEL_MILLIHERTZ / sizeof *ACCEL_MILLIHERTZ,
        .rates_millihertz = ACCEL_MILLIHERTZ,
    },
    .probe = synthetic_probe,
    .start = synthetic_start,
    .stop = synthetic_stop,
    .read = synthetic_read,
    .self_test = NULL,
    .registers = synthetic_registers,
};

const struct sensor_driver synthetic_mag = {
    .about = {
        .stream = "mag",
        .chip = "synthetic",
        .unit = "uT",
        .scale = "0.0333333",
        .range = "800",
        .clip = 24000,
        .stream_id = 2,
        .rate_count = sizeof MAG_MILLIHERTZ / sizeof *MAG_MILLIHERTZ,
        .rates_millihertz = MAG_MILLIHERTZ,
    },
    .probe = synthetic_probe,
    .start = synthetic_start,
    .stop = synthetic_stop,
    .read = synthetic_read,
    .self_test = NULL,
    .registers = synthetic_registers,
};
