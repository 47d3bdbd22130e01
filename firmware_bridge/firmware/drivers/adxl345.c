#include "adxl345.h"

#include "bytes.h"

/* Table 19. */
enum adxl345_register {
    DEVID = 0x00,
    BW_RATE = 0x2C,
    POWER_CTL = 0x2D,
    DATA_FORMAT = 0x31,
    DATAX0 = 0x32,
    FIFO_CTL = 0x38,
};

enum {
    READ = 0x80,     /* first byte on SPI, figures 38 and 39 */
    MULTIPLE = 0x40,
    DEVICE_ID = 0xE5,
    STANDBY = 0x00,  /* POWER_CTL */
    MEASURE = 0x08,
    FULL_16G = 0x0B, /* DATA_FORMAT: full resolution, +-16 g, right-justified */
    SELF_TEST = 0x80,
    STREAM = 0x80,   /* FIFO_CTL; 0 is bypass, which empties the FIFO */
    BYPASS = 0x00,
    RATE_3200 = 0x0F,
    FIFO_ROWS = 32,
    WATERMARK = 16,
    LATENCY_HERTZ = 100, /* rows of 10 ms are read together, as far as WATERMARK goes */
    LOOK_US = 1000,
    FIFO_SETTLE_US = 5,
    /* Self test: 800 Hz is the fastest rate below 3200 whose limits hold ("Self-test"). */
    TEST_MILLIHERTZ = 800000,
    TEST_SKIPPED = 16, /* rows until the force is steady; the datasheet says 4 */
    TEST_ROWS = 64,
    TEST_US = 120000, /* each half; 80 rows are 100 ms, and its oscillator is some per cent off */
};

static const uint32_t RATES_MILLIHERTZ[] = {100000, 200000, 400000, 800000, 1600000, 3200000};

static bool write_register(const struct sensor *sensor, uint8_t at, uint8_t value)
{
    const struct board *board = sensor->board;
    const uint8_t out[2] = {at, value};
    return board->transfer(board->self, DEVICE_ADXL345, out, sizeof out, NULL, 0);
}

static bool read_registers(const struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    const struct board *board = sensor->board;
    const uint8_t out = (uint8_t)(READ | MULTIPLE | first);
    return board->transfer(board->self, DEVICE_ADXL345, &out, 1, values, size);
}

/* After each row the next one needs 5 us to move up ("Retrieving data from FIFO"). Up to 1.6 MHz
 * the next address takes that long, but 3200 Hz want 2 MHz and more; so it is waited for here, and
 * no bus driver has to know. One more tick of the clock is what the address makes up for. */
static void settle(const struct sensor *sensor)
{
    const struct board *board = sensor->board;
    uint64_t from_us = board->time_us(board->self);
    while (board->time_us(board->self) - from_us < FIFO_SETTLE_US)
        continue;
}

/* BW_RATE: each code below that of 3200 Hz is half the rate (table 7). */
static uint8_t rate_code(uint32_t millihertz)
{
    uint8_t code = RATE_3200;
    for (uint32_t rate = 3200000; rate > millihertz; rate /= 2)
        code--;
    return code;
}

static uint8_t watermark(uint32_t millihertz)
{
    uint32_t rows = millihertz / 1000 / LATENCY_HERTZ;
    if (rows > WATERMARK)
        return WATERMARK;
    return rows > 0 ? (uint8_t)rows : 1;
}

static uint8_t fifo_setting(uint32_t millihertz)
{
    return (uint8_t)(STREAM | watermark(millihertz));
}

/* FIFO_CTL in front of FIFO_STATUS must still be what was set. It isn't on a chip that has lost
 * power, nor on a line that is stuck. */
static bool fifo_level(const struct sensor *sensor, uint32_t millihertz, uint8_t *level)
{
    uint8_t control_status[2];
    if (!read_registers(sensor, FIFO_CTL, control_status, sizeof control_status))
        return false;
    *level = control_status[1] & 0x7F; /* bit 7 belongs to trigger mode, bit 6 is always 0 */
    return control_status[0] == fifo_setting(millihertz) && *level <= SENSOR_MAX_ROWS;
}

/* Whatever the chip was doing, it now measures into an empty FIFO. All is read back: nobody
 * acknowledges on SPI. */
static bool configure(const struct sensor *sensor, uint32_t millihertz, uint8_t format)
{
    const uint8_t settings[][2] = {
        {POWER_CTL, STANDBY}, {BW_RATE, rate_code(millihertz)},
        {DATA_FORMAT, format}, {FIFO_CTL, BYPASS},
        {FIFO_CTL, fifo_setting(millihertz)},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (!write_register(sensor, settings[i][0], settings[i][1]))
            return false;
    uint8_t rate_power[2], seen_format, level;
    return fifo_level(sensor, millihertz, &level) && level == 0
        && read_registers(sensor, DATA_FORMAT, &seen_format, 1) && seen_format == format
        && write_register(sensor, POWER_CTL, MEASURE)
        && read_registers(sensor, BW_RATE, rate_power, sizeof rate_power)
        && rate_power[0] == rate_code(millihertz) && rate_power[1] == MEASURE;
}

/* The oldest row of the FIFO. In one burst: any other way loses part of it. FIFO_CTL comes behind
 * it and tells the row of a chip from that of a line which is stuck, -1 or 0 on all axes. */
static bool take_row(const struct sensor *sensor, uint32_t millihertz, int16_t row[CHANNELS])
{
    uint8_t data[CHANNELS * 2 + 1];
    if (!read_registers(sensor, DATAX0, data, sizeof data))
        return false;
    bool fine = data[CHANNELS * 2] == fifo_setting(millihertz);
    for (size_t i = 0; i < CHANNELS; i++) {
        row[i] = (int16_t)get_u16(data + 2 * i);
        /* 13 bits with their sign: what is beyond was damaged on its way. */
        fine = fine && row[i] >= -4096 && row[i] <= 4095;
    }
    return fine;
}

static bool adxl345_probe(struct sensor *sensor)
{
    uint8_t id;
    return read_registers(sensor, DEVID, &id, 1) && id == DEVICE_ID;
}

static bool adxl345_start(struct sensor *sensor, uint64_t now_us)
{
    sensor->due_us = now_us + LOOK_US;
    return configure(sensor, sensor->rate_millihertz, FULL_16G);
}

static void adxl345_stop(struct sensor *sensor)
{
    write_register(sensor, POWER_CTL, STANDBY);
}

static size_t failed(uint8_t *flags)
{
    *flags |= FLAG_BUS_ERROR;
    return 0;
}

static size_t adxl345_read(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                           uint8_t *flags)
{
    uint8_t level;
    if (now_us < sensor->due_us)
        return 0;
    sensor->due_us = now_us + LOOK_US;
    if (!fifo_level(sensor, sensor->rate_millihertz, &level))
        return failed(flags);
    if (level < watermark(sensor->rate_millihertz))
        return 0;
    /* Full, so perhaps more than full. INT_SOURCE knows no better: outside of bypass mode its
     * overrun bit is set when the FIFO is filled. */
    if (level >= FIFO_ROWS)
        *flags |= FLAG_GAP;
    for (uint8_t i = 0; i < level; i++) {
        if (i > 0)
            settle(sensor);
        if (!take_row(sensor, sensor->rate_millihertz, rows[i]))
            return failed(flags);
    }
    return level;
}

/* The mean of TEST_ROWS rows once they are steady. */
static bool mean_rows(const struct sensor *sensor, uint8_t format, int16_t mean[CHANNELS])
{
    const struct board *board = sensor->board;
    int32_t sum[CHANNELS] = {0};
    uint64_t until_us = board->time_us(board->self) + TEST_US;
    bool fine = configure(sensor, TEST_MILLIHERTZ, format);
    for (int seen = 0; fine && seen < TEST_SKIPPED + TEST_ROWS;) {
        int16_t row[CHANNELS];
        uint8_t level;
        fine = fifo_level(sensor, TEST_MILLIHERTZ, &level)
            && board->time_us(board->self) <= until_us;
        if (!fine || level == 0)
            continue;
        fine = take_row(sensor, TEST_MILLIHERTZ, row);
        settle(sensor);
        for (int i = 0; i < CHANNELS && fine && seen >= TEST_SKIPPED; i++)
            sum[i] += row[i];
        seen++;
    }
    for (int i = 0; i < CHANNELS; i++)
        mean[i] = (int16_t)(sum[i] / TEST_ROWS);
    return fine;
}

/* AN-1077: the mean with the electrostatic force on, less the mean without. */
static bool adxl345_self_test(struct sensor *sensor, struct self_test *result)
{
    /* Table 15 is in full resolution at 2.5 V: 50..540, -540..-50, 75..875. Table 14 has what to
     * multiply it by for the 3.3 V of our boards: x and y 1.77, z 1.47. */
    static const int16_t LOW[CHANNELS] = {89, -956, 110};
    static const int16_t HIGH[CHANNELS] = {956, -89, 1286};
    int16_t without[CHANNELS], with[CHANNELS];
    bool fine = mean_rows(sensor, FULL_16G, without)
             && mean_rows(sensor, FULL_16G | SELF_TEST, with);
    /* The force goes off in any case, and the chip rests. */
    fine = write_register(sensor, DATA_FORMAT, FULL_16G) && fine;
    adxl345_stop(sensor);
    for (int i = 0; i < CHANNELS && fine; i++) {
        result->delta[i] = (int16_t)(with[i] - without[i]);
        result->low[i] = LOW[i];
        result->high[i] = HIGH[i];
    }
    return fine;
}

static bool adxl345_registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    return first + size <= SENSOR_REGISTERS && read_registers(sensor, first, values, size);
}

const struct sensor_driver adxl345 = {
    .about = {
        .stream = "accel",
        .chip = "ADXL345",
        .unit = "g",
        .scale = "0.0039",
        .range = "16",
        /* Not 4095: bit 0 is always 0 at 1600 and 3200 Hz ("Data formatting of upper rates"). */
        .clip = 4094,
        .stream_id = 1,
        .rate_count = sizeof RATES_MILLIHERTZ / sizeof *RATES_MILLIHERTZ,
        .rates_millihertz = RATES_MILLIHERTZ,
    },
    .probe = adxl345_probe,
    .start = adxl345_start,
    .stop = adxl345_stop,
    .read = adxl345_read,
    .self_test = adxl345_self_test,
    .registers = adxl345_registers,
};
