/* HMC5883L as registers: single measurements, the gain that comes one late, the lock, the straps.
 *
 * In: bytes on I2C and when they come. Out: bytes. Never: more than datasheet 900405 E says; its
 * continuous mode is not modelled, as our driver has no use for it. */
#ifndef OTOLITH_HOST_HMC5883L_CHIP_H
#define OTOLITH_HOST_HMC5883L_CHIP_H

#include "chip.h"

enum { HMC5883L_REGISTERS = 13 };

struct hmc5883l_chip {
    struct signal signal; /* in numbers at 1090 a gauss; beyond 12 bits it overflows */
    int32_t ppm;
    int32_t straps_milligauss[AXES]; /* field of the self test */
    uint32_t taken;                  /* measurements since power-on */
    uint8_t registers[HMC5883L_REGISTERS];
    uint8_t pointer;
    uint8_t gain; /* of the next measurement; CONFIG_B's only after it */
    uint8_t unread; /* of the six bytes of data, while locked */
    bool measuring, locked;
    uint64_t over_ns;
};

void hmc5883l_chip_power_on(struct hmc5883l_chip *chip, uint64_t now_ns);
void hmc5883l_chip_transfer(struct hmc5883l_chip *chip, uint64_t now_ns, const uint8_t *out,
                            size_t out_size, uint8_t *in, size_t in_size);

#endif
