#include "qmc5883l_chip.h"

#include <string.h>

enum {
    LAST_DATA = 0x05,
    STATUS = 0x06,
    CONTROL_1 = 0x09,
    CONTROL_2 = 0x0A,
    PERIOD = 0x0B,
    CHIP_ID = 0x0D,
    DRDY = 0x01,
    OVL = 0x02,
    DOR = 0x04,
    CONTINUOUS = 0x01,
    RANGE_8G = 0x10,
    ROL_PNT = 0x40,
    SOFT_RESET = 0x80,
    STALE_ROWS = 1000,
};

static void reset(struct qmc5883l_chip *chip)
{
    memset(chip->registers, 0, sizeof chip->registers);
    chip->registers[CHIP_ID] = 0xFF;
}

void qmc5883l_chip_power_on(struct qmc5883l_chip *chip)
{
    reset(chip);
    chip->pointer = 0;
    chip->taken = 0;
}

static void take_row(struct qmc5883l_chip *chip)
{
    int32_t row[AXES], gain = chip->registers[CONTROL_1] & RANGE_8G ? 1 : 4;
    uint8_t status = DRDY;
    if (chip->registers[STATUS] & DRDY)
        status |= DOR;
    signal_row(&chip->signal, chip->taken++, row);
    for (int axis = 0; axis < AXES; axis++) {
        int32_t value = clamp(row[axis] * gain, -32768, 32767);
        if (value != row[axis] * gain)
            status |= OVL;
        chip->registers[2 * axis] = (uint8_t)value;
        chip->registers[2 * axis + 1] = (uint8_t)((uint32_t)value >> 8);
    }
    chip->registers[STATUS] = (uint8_t)(status | (chip->registers[STATUS] & DOR));
}

static void run(struct qmc5883l_chip *chip, uint64_t now_ns)
{
    struct oscillator *oscillator = &chip->oscillator;
    if (!(chip->registers[CONTROL_1] & CONTINUOUS))
        return;
    uint64_t period_ns = oscillator->period_ps / 1000;
    if (now_ns > oscillator->next_ns + STALE_ROWS * period_ns) {
        uint64_t skipped = (now_ns - oscillator->next_ns) / period_ns - STALE_ROWS;
        chip->taken += (uint32_t)skipped;
        oscillator->next_ns += skipped * period_ns;
    }
    while (oscillator_due(oscillator, now_ns))
        take_row(chip);
}

static void write_register(struct qmc5883l_chip *chip, uint64_t now_ns, uint8_t at, uint8_t value)
{
    static const uint32_t HERTZ[] = {10, 50, 100, 200};
    if (at != CONTROL_1 && at != CONTROL_2 && at != PERIOD)
        return;
    chip->registers[at] = value;
    if (at == CONTROL_2 && value & SOFT_RESET)
        reset(chip);
    if (at == CONTROL_1)
        oscillator_start(&chip->oscillator, now_ns, 1000000000000u / HERTZ[value >> 2 & 3],
                         chip->ppm);
}

static uint8_t read_register(struct qmc5883l_chip *chip, uint8_t at)
{
    if (at >= QMC5883L_REGISTERS)
        return 0;
    if (at <= LAST_DATA)
        chip->registers[STATUS] &= (uint8_t)~(DRDY | DOR);
    return chip->registers[at];
}

static void advance(struct qmc5883l_chip *chip)
{
    bool around = chip->registers[CONTROL_2] & ROL_PNT && chip->pointer == STATUS;
    chip->pointer = around ? 0 : (uint8_t)(chip->pointer + 1);
}

void qmc5883l_chip_transfer(struct qmc5883l_chip *chip, uint64_t now_ns, const uint8_t *out,
                            size_t out_size, uint8_t *in, size_t in_size)
{
    run(chip, now_ns);
    if (out_size > 0)
        chip->pointer = out[0];
    for (size_t i = 1; i < out_size; i++, advance(chip))
        write_register(chip, now_ns, chip->pointer, out[i]);
    for (size_t i = 0; i < in_size; i++, advance(chip))
        in[i] = read_register(chip, chip->pointer);
}
