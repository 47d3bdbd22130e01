/* Chip: what the models of the three sensor chips have in common.
 *
 * A model knows registers and time, and sees of the world only the bytes of a transfer. Its rows
 * are a function of their number alone, so that a test can tell which one it has got. Its clock is
 * off by `ppm`. Never: more friendly than the datasheet. */
#ifndef OTOLITH_HOST_CHIP_H
#define OTOLITH_HOST_CHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AXES = 3 };

enum chip_fault {
    CHIP_WELL = 0,
    CHIP_ABSENT = 1,     /* I2C: no acknowledge. SPI: the line floats high */
    CHIP_BUS_ERROR = 2,  /* no transfer comes to an end */
    CHIP_STUCK_HIGH = 3, /* all that is read is FF, what is written is lost */
    CHIP_STUCK_LOW = 4,  /* the same with 00 */
    CHIP_GLITCH = 5,     /* bit 6 of the second byte that is read is turned over */
};

/* Rows that count, or rows that are all the same. */
struct signal {
    bool still;
    int32_t value[AXES];
};

/* Row number `number`: 2 (number mod 1000), its negative, and 2 (7 number mod 997). All are even,
 * as some chips have no bit 0, and x and z together tell the number modulo 997000. */
static inline void signal_row(const struct signal *signal, uint32_t number, int32_t row[AXES])
{
    row[0] = signal->still ? signal->value[0] : (int32_t)(number % 1000) * 2;
    row[1] = signal->still ? signal->value[1] : -(int32_t)(number % 1000) * 2;
    row[2] = signal->still ? signal->value[2] : (int32_t)((uint64_t)number * 7 % 997) * 2;
}

/* An oscillator that has events `period_ps` apart, the next one at `next_ns`. */
struct oscillator {
    uint64_t period_ps, next_ns;
    uint32_t part_ps;
};

/* The first event is a period after `now_ns`. */
static inline void oscillator_start(struct oscillator *oscillator, uint64_t now_ns,
                                    uint64_t nominal_ps, int32_t ppm)
{
    oscillator->period_ps = nominal_ps * 1000000 / (uint64_t)(1000000 + ppm);
    oscillator->next_ns = now_ns + oscillator->period_ps / 1000;
    oscillator->part_ps = (uint32_t)(oscillator->period_ps % 1000);
}

/* Whether an event is due; if so, the next one is awaited. */
static inline bool oscillator_due(struct oscillator *oscillator, uint64_t now_ns)
{
    if (now_ns < oscillator->next_ns)
        return false;
    uint64_t ps = oscillator->part_ps + oscillator->period_ps;
    oscillator->next_ns += ps / 1000;
    oscillator->part_ps = (uint32_t)(ps % 1000);
    return true;
}

static inline int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

#endif
