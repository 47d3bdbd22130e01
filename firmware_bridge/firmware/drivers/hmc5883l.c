#include "hmc5883l.h"

/* Pages 11 to 17. */
enum hmc5883l_register {
    CONFIG_A = 0x00,
    CONFIG_B = 0x01,
    MODE = 0x02, /* then x, z and y, high byte first */
    STATUS = 0x09,
    IDENT = 0x0A,
    REGISTERS = 0x0D,
};

enum {
    NORMAL = 0x10,        /* CONFIG_A as after power-on: no averaging, no bias */
    POSITIVE_BIAS = 0x71, /* mean of 8, current through the offset straps */
    GAIN_1090 = 0x20,     /* CONFIG_B as after power-on: 1090 a gauss, +-1.3 G */
    GAIN_390 = 0xA0,
    SINGLE = 0x01, /* MODE */
    IDLE = 0x02,   /* 2 or 3: what it becomes by itself when the measurement is over */
    MODE_BITS = 0x03,
    MODE_AND_DATA = 7,
    MEASURE_US = 6000,
    LOOK_US = 1000,
    SILENT_LOOKS = 20, /* so many looks without a row, 26 ms and more: it has stopped */
    TAKEN = SILENT_LOOKS, /* `position`: the row has been given; below: looks without success */
    TEST_US = 110000, /* for one of the self test's two; 8 times MEASURE_US, twice over */
};

static const uint32_t RATES_MILLIHERTZ[] = {10000, 50000, 100000};

static bool write_register(const struct sensor *sensor, uint8_t at, uint8_t value)
{
    const struct board *board = sensor->board;
    const uint8_t out[2] = {at, value};
    return board->transfer(board->self, DEVICE_HMC5883L, out, sizeof out, NULL, 0);
}

static bool read_registers(const struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    const struct board *board = sensor->board;
    return board->transfer(board->self, DEVICE_HMC5883L, &first, 1, values, size);
}

static bool hmc5883l_probe(struct sensor *sensor)
{
    uint8_t id[3];
    return read_registers(sensor, IDENT, id, sizeof id)
        && id[0] == 'H' && id[1] == '4' && id[2] == '3';
}

static bool configure(const struct sensor *sensor, uint8_t config_a, uint8_t config_b)
{
    uint8_t seen[2];
    return write_register(sensor, MODE, IDLE) && write_register(sensor, CONFIG_A, config_a)
        && write_register(sensor, CONFIG_B, config_b)
        && read_registers(sensor, CONFIG_A, seen, sizeof seen)
        && seen[0] == config_a && seen[1] == config_b;
}

/* The first measurement after a change of gain still has the old one (page 13): it is made here,
 * and nobody reads it. */
static bool hmc5883l_start(struct sensor *sensor, uint64_t now_us)
{
    sensor->due_us = now_us + sensor_period_us(sensor);
    sensor->position = TAKEN;
    return configure(sensor, NORMAL, GAIN_1090) && write_register(sensor, MODE, SINGLE);
}

static void hmc5883l_stop(struct sensor *sensor)
{
    write_register(sensor, MODE, IDLE);
}

/* MODE and the row in one burst. RDY may still be that of the row before; MODE is SINGLE until the
 * measurement is over. Reading it locks the row, and reading the row to its end unlocks it. */
static bool read_row(const struct sensor *sensor, bool *over, int16_t row[CHANNELS])
{
    static const uint8_t AT[CHANNELS] = {1, 5, 3}; /* x, z, y is their order */
    uint8_t seen[MODE_AND_DATA];
    if (!read_registers(sensor, MODE, seen, sizeof seen))
        return false;
    *over = seen[0] & IDLE;
    for (int i = 0; i < CHANNELS; i++)
        row[i] = (int16_t)(seen[AT[i]] << 8 | seen[AT[i] + 1]);
    /* Continuous was never asked for, and the bits above are 0. */
    return !(seen[0] & ~MODE_BITS) && seen[0] != 0;
}

static size_t failed(uint8_t *flags)
{
    *flags |= FLAG_BUS_ERROR;
    return 0;
}

/* Begins a measurement. `due_us` is then when the next one begins: a period later on the grid, or,
 * after a long absence, on a new one. */
static bool trigger(struct sensor *sensor, uint64_t now_us, uint8_t *flags)
{
    uint32_t period_us = sensor_period_us(sensor);
    if (now_us - sensor->due_us >= period_us) {
        *flags |= FLAG_GAP;
        sensor->due_us = now_us;
    }
    sensor->due_us += period_us;
    sensor->position = 0;
    return write_register(sensor, MODE, SINGLE);
}

/* A measurement, then nothing until the next is due. */
static size_t hmc5883l_read(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                            uint8_t *flags)
{
    uint32_t period_us = sensor_period_us(sensor);
    if (sensor->position == TAKEN) {
        if (now_us >= sensor->due_us && !trigger(sensor, now_us, flags))
            return failed(flags);
        return 0;
    }
    uint64_t begun_us = sensor->due_us - period_us;
    if (now_us < begun_us + MEASURE_US + sensor->position * LOOK_US)
        return 0;
    bool over;
    if (!read_row(sensor, &over, rows[0]))
        return failed(flags);
    if (!over)
        return ++sensor->position < SILENT_LOOKS ? 0 : failed(flags);
    sensor->position = TAKEN;
    bool fresh = now_us < begun_us + MEASURE_US + period_us;
    /* At 100 Hz there is no time to wait for the next call. */
    if (now_us >= sensor->due_us && !trigger(sensor, now_us, flags))
        return failed(flags);
    if (fresh)
        return 1;
    /* Read too late: more than a period old. */
    *flags |= FLAG_GAP;
    return 0;
}

/* One measurement from beginning to end. */
static bool measure(const struct sensor *sensor, int16_t row[CHANNELS])
{
    const struct board *board = sensor->board;
    uint64_t until_us = board->time_us(board->self) + TEST_US;
    bool over = false;
    bool fine = write_register(sensor, MODE, SINGLE);
    while (fine && !over) {
        uint64_t look_us = board->time_us(board->self) + LOOK_US;
        while (board->time_us(board->self) < look_us)
            continue;
        fine = look_us <= until_us && read_row(sensor, &over, row);
    }
    return fine;
}

/* Page 19: the row is then the field of the straps alone. It is measured with a gain that leaves
 * room for the field outside, and told in the numbers of the stream. */
static bool hmc5883l_self_test(struct sensor *sensor, struct self_test *result)
{
    enum { LOW = 243, HIGH = 575 }; /* at 390 a gauss, page 4 */
    int16_t row[CHANNELS];
    /* The first one has the old gain. */
    bool fine = configure(sensor, POSITIVE_BIAS, GAIN_390) && measure(sensor, row)
             && measure(sensor, row);
    fine = configure(sensor, NORMAL, GAIN_1090) && fine;
    for (int i = 0; i < CHANNELS && fine; i++) {
        result->delta[i] = (int16_t)(row[i] * 109 / 39);
        result->low[i] = LOW * 109 / 39;
        result->high[i] = HIGH * 109 / 39;
    }
    return fine;
}

/* Behind the last number the chip goes back to the first (page 11), so each is read on its own. */
static bool hmc5883l_registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    if (first + size > SENSOR_REGISTERS)
        return false;
    for (size_t i = 0; i < size; i++) {
        values[i] = 0;
        if (first + i < REGISTERS && !read_registers(sensor, (uint8_t)(first + i), values + i, 1))
            return false;
    }
    return true;
}

const struct sensor_driver hmc5883l = {
    .about = {
        .stream = "mag",
        .chip = "HMC5883L",
        .unit = "uT",
        .scale = "0.0917431", /* 1090 a gauss, which is 100 uT (page 13) */
        .range = "187.8",
        .clip = 2047, /* the end of its 12 bits; more is told as -4096 */
        .stream_id = 2,
        .rate_count = sizeof RATES_MILLIHERTZ / sizeof *RATES_MILLIHERTZ,
        .rates_millihertz = RATES_MILLIHERTZ,
    },
    .probe = hmc5883l_probe,
    .start = hmc5883l_start,
    .stop = hmc5883l_stop,
    .read = hmc5883l_read,
    .self_test = hmc5883l_self_test,
    .registers = hmc5883l_registers,
};
