#include "hmc5883l_chip.h"

#include <string.h>

enum {
    CONFIG_A = 0x00,
    CONFIG_B = 0x01,
    MODE = 0x02,
    FIRST_DATA = 0x03,
    LAST_DATA = 0x08,
    STATUS = 0x09,
    IDENT = 0x0A,
    RDY = 0x01,
    LOCK = 0x02,
    SINGLE = 1,
    IDLE = 3,
    POSITIVE_BIAS = 1,
    NEGATIVE_BIAS = 2,
    OVERFLOW = -4096,
    MEASURE_NS = 6000000,
    NOT_READY_NS = 250000,
    ALL_DATA = 0x3F,
};

static void measure(struct hmc5883l_chip *chip, uint64_t now_ns)
{
    uint64_t all_ns = (uint64_t)MEASURE_NS << (chip->registers[CONFIG_A] >> 5 & 3);
    chip->registers[MODE] = SINGLE;
    chip->measuring = true;
    chip->over_ns = now_ns + all_ns * 1000000 / (uint64_t)(1000000 + chip->ppm);
}

void hmc5883l_chip_power_on(struct hmc5883l_chip *chip, uint64_t now_ns)
{
    memset(chip->registers, 0, sizeof chip->registers);
    memcpy(chip->registers + IDENT, "H43", 3);
    chip->registers[CONFIG_A] = 0x10;
    chip->registers[CONFIG_B] = 0x20;
    chip->gain = chip->registers[CONFIG_B] >> 5;
    chip->pointer = 0;
    chip->taken = 0;
    chip->locked = false;
    measure(chip, now_ns); /* single-measurement mode is the default */
}

/* x, y and z as numbers of the gain that is in force. */
static void numbers(struct hmc5883l_chip *chip, int32_t row[AXES])
{
    static const int32_t GAINS[] = {1370, 1090, 820, 660, 440, 390, 330, 230};
    int bias = chip->registers[CONFIG_A] & 3;
    signal_row(&chip->signal, chip->taken++, row);
    for (int axis = 0; axis < AXES; axis++) {
        int32_t straps = chip->straps_milligauss[axis] * GAINS[chip->gain] / 1000;
        row[axis] = row[axis] * GAINS[chip->gain] / 1090;
        /* With bias, the field outside has been subtracted. */
        if (bias == POSITIVE_BIAS || bias == NEGATIVE_BIAS)
            row[axis] = bias == POSITIVE_BIAS ? straps : -straps;
        if (row[axis] < -2048 || row[axis] > 2047)
            row[axis] = OVERFLOW;
    }
    chip->gain = chip->registers[CONFIG_B] >> 5;
}

static void run(struct hmc5883l_chip *chip, uint64_t now_ns)
{
    static const uint8_t PLACE[AXES] = {0, 4, 2}; /* x, z, y is their order */
    int32_t row[AXES];
    if (chip->measuring && now_ns + NOT_READY_NS >= chip->over_ns)
        chip->registers[STATUS] &= (uint8_t)~RDY;
    if (!chip->measuring || now_ns < chip->over_ns)
        return;
    chip->measuring = false;
    chip->registers[MODE] = IDLE;
    numbers(chip, row);
    if (chip->locked)
        return;
    for (int axis = 0; axis < AXES; axis++) {
        chip->registers[FIRST_DATA + PLACE[axis]] = (uint8_t)((uint32_t)row[axis] >> 8);
        chip->registers[FIRST_DATA + PLACE[axis] + 1] = (uint8_t)row[axis];
    }
    chip->registers[STATUS] |= RDY;
}

static void lock(struct hmc5883l_chip *chip, bool locked)
{
    chip->locked = locked;
    chip->unread = ALL_DATA;
    chip->registers[STATUS] &= (uint8_t)~LOCK;
    chip->registers[STATUS] |= locked ? LOCK : 0;
}

static void write_register(struct hmc5883l_chip *chip, uint64_t now_ns, uint8_t at, uint8_t value)
{
    if (at > MODE)
        return;
    chip->registers[at] = value;
    if (at != CONFIG_B)
        lock(chip, false);
    if (at != MODE)
        return;
    chip->measuring = false;
    if ((value & 3) == SINGLE)
        measure(chip, now_ns);
}

static uint8_t read_register(struct hmc5883l_chip *chip, uint8_t at)
{
    if (at >= HMC5883L_REGISTERS)
        return 0;
    if (at == MODE)
        lock(chip, true);
    if (at >= FIRST_DATA && at <= LAST_DATA) {
        if (!chip->locked)
            lock(chip, true);
        chip->unread &= (uint8_t)~(1u << (at - FIRST_DATA));
        if (chip->unread == 0)
            lock(chip, false);
    }
    return chip->registers[at];
}

static void advance(struct hmc5883l_chip *chip)
{
    if (chip->pointer == LAST_DATA)
        chip->pointer = FIRST_DATA;
    else
        chip->pointer = (uint8_t)((chip->pointer + 1) % HMC5883L_REGISTERS);
}

void hmc5883l_chip_transfer(struct hmc5883l_chip *chip, uint64_t now_ns, const uint8_t *out,
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
