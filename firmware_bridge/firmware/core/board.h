/* Board: the five functions that the firmware asks of its hardware.
 *
 * Everything in core/ and drivers/ is the same C on an STM32F103, in an emulator and under the
 * tests; what differs is behind these five. stm32/ has them as registers, host/ as models of the
 * three sensor chips.
 * Never: wait without a bound, keep a pointer longer than said here. */
#ifndef OTOLITH_BOARD_H
#define OTOLITH_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a chip is. The SPI chip has a chip select of its own; the others are I2C addresses. */
enum device {
    DEVICE_ADXL345 = 0x80,
    DEVICE_QMC5883L = 0x0D,
    DEVICE_HMC5883L = 0x1E,
};

enum restart_mode { RESTART_APPLICATION = 0, RESTART_BOOTLOADER = 1 };

struct board {
    void *self;

    /* Microseconds since reset: 64 bits, never falls back. */
    uint64_t (*time_us)(void *self);

    /* Whether `send` would take a frame now. */
    bool (*line_free)(void *self);

    /* Sends one whole frame; only when `line_free`. The bytes must stay until it is again. */
    void (*send)(void *self, const uint8_t *bytes, size_t size);

    /* Writes `out`, then reads `in`, in one go: chip select low to high on SPI, START to STOP with
     * a repeated START between on I2C. False if the bus or the chip did not answer in time; what
     * is in `in` then means nothing. */
    bool (*transfer)(void *self, enum device device, const uint8_t *out, size_t out_size,
                     uint8_t *in, size_t in_size);

    /* Starts over, or enters the ROM's bootloader; comes back only if it can't do that: false. */
    bool (*restart)(void *self, enum restart_mode mode);
};

#endif
