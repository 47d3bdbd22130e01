#include "qmc5883l.h"

#include "bytes.h"

/* Section 9.1. */
enum qmc5883l_register {
    DATA_X = 0x00,
    STATUS = 0x06, /* the temperature and CONTROL_1 come behind it */
    CONTROL_1 = 0x09,
    CONTROL_2 = 0x0A,
    PERIOD = 0x0B,
    CHIP_ID = 0x0D,
};

enum {
    DRDY = 0x01, /* STATUS; reading any data register clears DRDY and DOR */
    DOR = 0x04,
    STANDBY = 0x00,    /* CONTROL_1 */
    CONTINUOUS = 0x11, /* 512 samples a row, +-8 G; the rate is in bits 2 and 3 */
    NO_INTERRUPT = 0x01, /* CONTROL_2 */
    RECOMMENDED_PERIOD = 0x01, /* of the set and reset pulses, section 9.2.5 */
    ID = 0xFF,
    LOOK_US = 1000,
    SILENT_LOOKS = 64, /* so many looks without a row, 64 ms and more: it has stopped */
};

static const uint32_t RATES_MILLIHERTZ[] = {10000, 50000, 100000};

static bool write_register(const struct sensor *sensor, uint8_t at, uint8_t value)
{
    const struct board *board = sensor->board;
    const uint8_t out[2] = {at, value};
    return board->transfer(board->self, DEVICE_QMC5883L, out, sizeof out, NULL, 0);
}

static bool read_registers(const struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    const struct board *board = sensor->board;
    return board->transfer(board->self, DEVICE_QMC5883L, &first, 1, values, size);
}

static uint8_t control(const struct sensor *sensor)
{
    uint8_t code = 0; /* 10 Hz; then 50 and 100 */
    while (RATES_MILLIHERTZ[code] < sensor->rate_millihertz)
        code++;
    return (uint8_t)(CONTINUOUS | code << 2);
}

/* Its id is FF, which a bus without pull-down says too, so it must also remember something. */
static bool qmc5883l_probe(struct sensor *sensor)
{
    uint8_t id, period;
    return read_registers(sensor, CHIP_ID, &id, 1) && id == ID
        && write_register(sensor, PERIOD, RECOMMENDED_PERIOD)
        && read_registers(sensor, PERIOD, &period, 1) && period == RECOMMENDED_PERIOD;
}

/* When the row after one that was seen at `seen_us` can be looked for: the chip's oscillator may be
 * fast. */
static void expect(struct sensor *sensor, uint64_t seen_us)
{
    sensor->due_us = seen_us + sensor_period_us(sensor) / 5 * 4;
    sensor->position = 0;
}

static bool qmc5883l_start(struct sensor *sensor, uint64_t now_us)
{
    uint8_t old[CHANNELS * 2], seen;
    expect(sensor, now_us);
    /* The row of before is taken away, or it would be the first one of now. */
    return write_register(sensor, CONTROL_1, STANDBY)
        && write_register(sensor, CONTROL_2, NO_INTERRUPT)
        && write_register(sensor, PERIOD, RECOMMENDED_PERIOD)
        && read_registers(sensor, DATA_X, old, sizeof old)
        && write_register(sensor, CONTROL_1, control(sensor))
        && read_registers(sensor, CONTROL_1, &seen, 1) && seen == control(sensor);
}

static void qmc5883l_stop(struct sensor *sensor)
{
    write_register(sensor, CONTROL_1, STANDBY);
}

static size_t failed(uint8_t *flags)
{
    *flags |= FLAG_BUS_ERROR;
    return 0;
}

static size_t qmc5883l_read(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                            uint8_t *flags)
{
    uint8_t status[CONTROL_1 - STATUS + 1], data[CHANNELS * 2];
    if (now_us < sensor->due_us)
        return 0;
    sensor->due_us = now_us + LOOK_US;
    if (!read_registers(sensor, STATUS, status, sizeof status))
        return failed(flags);
    /* It isn't any more on a chip that lost power, nor on a bus that is stuck. */
    if (status[CONTROL_1 - STATUS] != control(sensor))
        return failed(flags);
    if (!(status[0] & DRDY))
        return ++sensor->position < SILENT_LOOKS ? 0 : failed(flags);
    if (!read_registers(sensor, DATA_X, data, sizeof data))
        return failed(flags);
    expect(sensor, now_us);
    if (status[0] & DOR)
        *flags |= FLAG_GAP;
    /* OVL, bit 1, needs no word: a number is then at the end of 16 bits, far beyond `clip`. */
    for (size_t i = 0; i < CHANNELS; i++)
        rows[0][i] = (int16_t)get_u16(data + 2 * i);
    return 1;
}

static bool qmc5883l_registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    return first + size <= SENSOR_REGISTERS && read_registers(sensor, first, values, size);
}

const struct sensor_driver qmc5883l = {
    .about = {
        .stream = "mag",
        .chip = "QMC5883L",
        .unit = "uT",
        .scale = "0.0333333", /* 3000 a gauss, which is 100 uT (section 2.1) */
        .range = "800",
        .clip = 24000, /* 8 G: beyond it nothing is promised */
        .stream_id = 2,
        .rate_count = sizeof RATES_MILLIHERTZ / sizeof *RATES_MILLIHERTZ,
        .rates_millihertz = RATES_MILLIHERTZ,
    },
    .probe = qmc5883l_probe,
    .start = qmc5883l_start,
    .stop = qmc5883l_stop,
    .read = qmc5883l_read,
    .self_test = NULL,
    .registers = qmc5883l_registers,
};
