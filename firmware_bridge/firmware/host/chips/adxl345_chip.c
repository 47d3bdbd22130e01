#include "adxl345_chip.h"

#include <string.h>

enum {
    DEVID = 0x00,
    THRESH_TAP = 0x1D, /* the first that can be written */
    ACT_TAP_STATUS = 0x2B,
    BW_RATE = 0x2C,
    POWER_CTL = 0x2D,
    INT_SOURCE = 0x30,
    DATA_FORMAT = 0x31,
    DATAX0 = 0x32,
    DATAZ1 = 0x37,
    FIFO_CTL = 0x38,
    FIFO_STATUS = 0x39,
    READ = 0x80,
    MULTIPLE = 0x40,
    MEASURE = 0x08,
    SELF_TEST = 0x80,
    FULL_RESOLUTION = 0x08,
    MODE_BYPASS = 0,
    MODE_FIFO = 1,
    SETTLE_NS = 5000,
    FORCE_ROWS = 4,
    STALE_ROWS = 1000, /* after a longer sleep of the clock only the end is played */
};

#define PERIOD_3200_PS 312500000u

void adxl345_chip_power_on(struct adxl345_chip *chip)
{
    memset(chip->registers, 0, sizeof chip->registers);
    chip->registers[DEVID] = 0xE5;
    chip->registers[BW_RATE] = 0x0A;
    chip->first = chip->held = 0;
    chip->overrun = false;
    chip->taken = 0;
    chip->popped_ns = 0;
}

static unsigned fifo_mode(const struct adxl345_chip *chip)
{
    return chip->registers[FIFO_CTL] >> 6;
}

/* One axis as its register shows it. */
static int16_t shown(const struct adxl345_chip *chip, int32_t value)
{
    uint8_t format = chip->registers[DATA_FORMAT];
    int range = format & 3;
    int32_t end = 512 << range; /* 256 numbers are 1 g, the smallest range is 2 g */
    value = clamp(value, -end, end - 1);
    if (!(format & FULL_RESOLUTION))
        return (int16_t)(value >> range);
    /* At 1600 and 3200 Hz bit 0 is always 0. */
    return (int16_t)((chip->registers[BW_RATE] & 0x0F) >= 0x0E ? value & ~1 : value);
}

static void take_row(struct adxl345_chip *chip)
{
    uint8_t room = fifo_mode(chip) == MODE_BYPASS ? 1 : ADXL345_HELD;
    bool testing = chip->registers[DATA_FORMAT] & SELF_TEST;
    int32_t row[AXES], share = testing ? clamp((int32_t)chip->forced, 0, FORCE_ROWS) : 0;
    signal_row(&chip->signal, chip->taken++, row);
    chip->forced = testing ? chip->forced + 1 : 0;
    if (chip->held == room) {
        chip->overrun = true;
        if (fifo_mode(chip) == MODE_FIFO)
            return;
        chip->first = (uint8_t)((chip->first + 1) % ADXL345_HELD);
        chip->held--;
    }
    int16_t *last = chip->rows[(chip->first + chip->held) % ADXL345_HELD];
    for (int axis = 0; axis < AXES; axis++)
        last[axis] = shown(chip, row[axis] + chip->force[axis] * share / FORCE_ROWS);
    chip->held++;
    /* But for bypass, the bit is set when the FIFO is filled. */
    chip->overrun = chip->overrun || chip->held >= ADXL345_FIFO;
}

static void run(struct adxl345_chip *chip, uint64_t now_ns)
{
    struct oscillator *oscillator = &chip->oscillator;
    if (!(chip->registers[POWER_CTL] & MEASURE))
        return;
    uint64_t stale_ns = STALE_ROWS * (oscillator->period_ps / 1000);
    if (now_ns > oscillator->next_ns + stale_ns) {
        uint64_t skipped = (now_ns - oscillator->next_ns - stale_ns) / (stale_ns / STALE_ROWS);
        chip->taken += (uint32_t)skipped;
        oscillator->next_ns += skipped * (stale_ns / STALE_ROWS);
    }
    while (oscillator_due(oscillator, now_ns))
        take_row(chip);
}

static void write_register(struct adxl345_chip *chip, uint64_t now_ns, uint8_t at, uint8_t value)
{
    bool fixed = at < THRESH_TAP || at == ACT_TAP_STATUS || at == INT_SOURCE || at > FIFO_CTL
              || (at >= DATAX0 && at <= DATAZ1);
    if (fixed)
        return;
    chip->registers[at] = value;
    if (at == FIFO_CTL && fifo_mode(chip) == MODE_BYPASS) {
        chip->held = 0;
        chip->overrun = false;
    }
    if (at == BW_RATE || at == POWER_CTL) {
        unsigned halvings = 0x0Fu - (chip->registers[BW_RATE] & 0x0Fu);
        oscillator_start(&chip->oscillator, now_ns, (uint64_t)PERIOD_3200_PS << halvings,
                         chip->ppm);
    }
}

static uint8_t interrupts(const struct adxl345_chip *chip)
{
    bool full = chip->held > 0 && chip->held >= (chip->registers[FIFO_CTL] & 0x1F);
    return (uint8_t)((chip->held > 0) << 7 | full << 1 | chip->overrun);
}

static uint8_t read_register(const struct adxl345_chip *chip, uint8_t at, bool early)
{
    if (at == INT_SOURCE)
        return interrupts(chip);
    if (at == FIFO_STATUS) {
        /* Too early, the row that has been read still counts. */
        int held = chip->held + early;
        return (uint8_t)clamp(held, 0, ADXL345_FIFO);
    }
    if (at < DATAX0 || at > DATAZ1)
        return chip->registers[at];
    const int16_t *row = early || chip->held == 0 ? chip->given : chip->rows[chip->first];
    uint16_t value = (uint16_t)row[(at - DATAX0) / 2];
    return (uint8_t)((at - DATAX0) % 2 ? value >> 8 : value);
}

/* Any read of data, even of one byte, uses up the whole row. */
static void pop(struct adxl345_chip *chip, uint64_t now_ns)
{
    chip->overrun = false;
    chip->popped_ns = now_ns;
    if (chip->held == 0)
        return;
    memcpy(chip->given, chip->rows[chip->first], sizeof chip->given);
    chip->first = (uint8_t)((chip->first + 1) % ADXL345_HELD);
    chip->held--;
}

void adxl345_chip_transfer(struct adxl345_chip *chip, uint64_t now_ns, uint32_t byte_ns,
                           const uint8_t *out, size_t out_size, uint8_t *in, size_t in_size)
{
    run(chip, now_ns);
    if (out_size == 0)
        return;
    uint8_t at = out[0] & 0x3F, step = out[0] & MULTIPLE ? 1 : 0;
    bool data = false;
    if (!(out[0] & READ)) {
        for (size_t i = 1; i < out_size; i++, at = (at + step) & 0x3F)
            write_register(chip, now_ns, at, out[i]);
        return;
    }
    bool early = chip->popped_ns > 0 && now_ns + byte_ns < chip->popped_ns + SETTLE_NS;
    for (size_t i = 0; i < in_size; i++, at = (at + step) & 0x3F) {
        bool of_fifo = at >= DATAX0 && at <= DATAZ1;
        data = data || of_fifo;
        chip->early_reads += early && i == 0 && (of_fifo || at == FIFO_STATUS);
        in[i] = read_register(chip, at, early);
    }
    if (data)
        pop(chip, now_ns + (1 + in_size) * byte_ns);
}
