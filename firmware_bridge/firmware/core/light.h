/* Light: what the board's one LED says to somebody without a computer.
 *
 * A code is a number of short flashes, then a pause; the whole takes two seconds. */
#ifndef OTOLITH_LIGHT_H
#define OTOLITH_LIGHT_H

#include <stdbool.h>
#include <stdint.h>

enum light_code {
    LIGHT_STREAMING = 0, /* on, short dip each second: all is well */
    LIGHT_WAITING = 1,   /* 1 flash: no host has asked for samples */
    LIGHT_SENSOR = 2,    /* 2 flashes: a sensor doesn't answer */
    LIGHT_LOSING = 3,    /* 3 flashes: samples are being lost */
    LIGHT_CRYSTAL = 4,   /* 4 flashes: no crystal, the clock is the coarse one inside */
    LIGHT_WATCHDOG = 5,  /* 5 flashes: the watchdog has restarted the board */
};

/* Whether the LED is on at this time. */
bool light_on(enum light_code code, uint64_t time_us);

#endif
