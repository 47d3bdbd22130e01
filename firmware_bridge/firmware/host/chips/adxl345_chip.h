/* ADXL345 as registers: FIFO, rates, self test, and the 5 us that its FIFO wants between rows.
 *
 * In: bytes on SPI and when they come. Out: bytes. Never: more than datasheet revision E says:
 * no taps, no activity, no trigger mode (it acts as stream mode). */
#ifndef OTOLITH_HOST_ADXL345_CHIP_H
#define OTOLITH_HOST_ADXL345_CHIP_H

#include "chip.h"

enum {
    ADXL345_REGISTERS = 64,
    ADXL345_FIFO = 32,
    ADXL345_HELD = 33, /* and one row at the filter's output */
};

struct adxl345_chip {
    struct signal signal;
    int32_t ppm;
    int32_t force[AXES];  /* of the self test, in numbers */
    uint32_t taken;       /* rows since power-on; the next one's number */
    uint32_t forced;      /* rows since the self test was begun: its force takes four to be there */
    uint32_t early_reads; /* of the FIFO, less than 5 us after a row */
    uint8_t registers[ADXL345_REGISTERS];
    int16_t rows[ADXL345_HELD][AXES];
    int16_t given[AXES]; /* what was read last: still there when it is read too early */
    uint8_t first, held;
    bool overrun;
    uint64_t popped_ns;
    struct oscillator oscillator;
};

void adxl345_chip_power_on(struct adxl345_chip *chip);

/* The first byte's last bit is there `byte_ns` after `now_ns`. */
void adxl345_chip_transfer(struct adxl345_chip *chip, uint64_t now_ns, uint32_t byte_ns,
                           const uint8_t *out, size_t out_size, uint8_t *in, size_t in_size);

#endif
