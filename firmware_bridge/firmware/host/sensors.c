/* Sensors: the operations on one driver by itself, at the world's time. */
#include "harness.h"

#include "adxl345.h"
#include "hmc5883l.h"
#include "qmc5883l.h"
#include "synthetic.h"

#include <string.h>

static const struct sensor_driver *const DRIVERS[] = {
    &adxl345, &qmc5883l, &hmc5883l, &synthetic_accel, &synthetic_mag,
};

enum { DRIVER_COUNT = sizeof DRIVERS / sizeof *DRIVERS };

static struct sensor sensors[DRIVER_COUNT];

const struct sensor_driver *driver_at(uint8_t number)
{
    if (number >= DRIVER_COUNT)
        host_die("no such driver");
    return DRIVERS[number];
}

void sensors_reset(void)
{
    for (uint8_t i = 0; i < DRIVER_COUNT; i++) {
        const struct sensor_about *about = &DRIVERS[i]->about;
        sensors[i] = (struct sensor){
            .driver = DRIVERS[i],
            .board = &world.board,
            .rate_millihertz = about->rates_millihertz[about->rate_count - 1],
        };
    }
}

static void tell_about(struct sensor *sensor, struct request *request)
{
    const struct sensor_about *about = &sensor->driver->about;
    const char *const texts[] = {about->stream, about->chip, about->unit, about->scale,
                                 about->range};
    (void)request;
    give_u16((uint16_t)about->clip);
    give_u8(about->stream_id);
    give_u8(about->rate_count);
    for (uint8_t i = 0; i < about->rate_count; i++)
        give_u32(about->rates_millihertz[i]);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        give_bytes(texts[i], strlen(texts[i]) + 1);
}

static void probe(struct sensor *sensor, struct request *request)
{
    (void)request;
    give_u8(sensor->driver->probe(sensor));
}

static void start(struct sensor *sensor, struct request *request)
{
    uint32_t millihertz = take_u32(request);
    if (millihertz > 0)
        sensor->rate_millihertz = millihertz;
    give_u8(sensor->driver->start(sensor, world.now_ns / 1000));
}

static void stop(struct sensor *sensor, struct request *request)
{
    (void)request;
    sensor->driver->stop(sensor);
}

static void give_row(const int16_t row[CHANNELS])
{
    for (int channel = 0; channel < CHANNELS; channel++)
        give_u16((uint16_t)row[channel]);
}

/* Exactly as many rows as a driver may give, so that the sanitizer sees one too many. */
static size_t read_rows(struct sensor *sensor, int16_t rows[SENSOR_MAX_ROWS][CHANNELS],
                        uint8_t *flags)
{
    *flags = 0;
    size_t count = sensor->driver->read(sensor, world.now_ns / 1000, rows, flags);
    if (count > SENSOR_MAX_ROWS)
        host_die("a driver gave more rows than there is room for");
    return count;
}

static void read_once(struct sensor *sensor, struct request *request)
{
    int16_t rows[SENSOR_MAX_ROWS][CHANNELS];
    uint8_t flags;
    size_t count = read_rows(sensor, rows, &flags);
    (void)request;
    give_u8(flags);
    for (size_t i = 0; i < count; i++)
        give_row(rows[i]);
}

/* Reads that gave neither rows nor flags are left out. */
static void run_reads(struct sensor *sensor, struct request *request)
{
    uint32_t reads = take_u32(request);
    uint64_t step_ns = (uint64_t)take_u32(request) * 1000;
    uint64_t due_ns = world.now_ns;
    for (uint32_t i = 0; i < reads; i++) {
        int16_t rows[SENSOR_MAX_ROWS][CHANNELS];
        uint8_t flags;
        due_ns += step_ns;
        if (world.now_ns < due_ns)
            world.now_ns = due_ns;
        uint64_t now_us = world.now_ns / 1000;
        size_t count = read_rows(sensor, rows, &flags);
        if (count == 0 && flags == 0)
            continue;
        give_u64(now_us);
        give_u8(flags);
        give_u8((uint8_t)count);
        for (size_t row = 0; row < count; row++)
            give_row(rows[row]);
    }
}

static void self_test(struct sensor *sensor, struct request *request)
{
    struct self_test result;
    (void)request;
    if (sensor->driver->self_test == NULL) {
        give_u8(2);
        return;
    }
    bool done = sensor->driver->self_test(sensor, &result);
    give_u8(done);
    if (!done)
        return;
    give_row(result.delta);
    give_row(result.low);
    give_row(result.high);
}

static void registers(struct sensor *sensor, struct request *request)
{
    uint8_t first = take_u8(request), values[SENSOR_REGISTERS];
    size_t size = take_u8(request);
    if (size > sizeof values)
        host_die("more registers than there are");
    bool done = sensor->driver->registers(sensor, first, values, size);
    give_u8(done);
    give_bytes(values, done ? size : 0);
}

bool sensors_run(enum operation_code code, struct request *request)
{
    static void (*const RUN[])(struct sensor *, struct request *) = {
        tell_about, probe, start, stop, read_once, run_reads, self_test, registers,
    };
    if (code < OP_SENSOR_ABOUT || code > OP_SENSOR_REGISTERS)
        return false;
    uint8_t number = take_u8(request);
    driver_at(number);
    RUN[code - OP_SENSOR_ABOUT](&sensors[number], request);
    return true;
}
