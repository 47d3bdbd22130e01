/* QMC5883L as registers: data ready, skipped and out of range, the pointer that may go around.
 *
 * In: bytes on I2C and when they come. Out: bytes. Never: more than datasheet 1.0 says. */
#ifndef OTOLITH_HOST_QMC5883L_CHIP_H
#define OTOLITH_HOST_QMC5883L_CHIP_H

#include "chip.h"

enum { QMC5883L_REGISTERS = 14 };

struct qmc5883l_chip {
    struct signal signal; /* in numbers of the 8 G range; beyond 16 bits it overflows */
    int32_t ppm;
    uint32_t taken;
    uint8_t registers[QMC5883L_REGISTERS];
    uint8_t pointer;
    struct oscillator oscillator;
};

void qmc5883l_chip_power_on(struct qmc5883l_chip *chip);
void qmc5883l_chip_transfer(struct qmc5883l_chip *chip, uint64_t now_ns, const uint8_t *out,
                            size_t out_size, uint8_t *in, size_t in_size);

#endif
