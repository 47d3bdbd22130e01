/* Synthetic: two sensors without a chip, for boards that have none and for the emulator.
 *
 * In: the board's time. Out: rows as the clock makes them due, each a function of its position
 * alone. They keep BACKLOG rows for a late reader; what is older is gone, as in a FIFO, and GAP.
 * Up to BACKLOG, a read gives the oldest SENSOR_MAX_ROWS, and only a shorter one ends at now.
 * Never: floating point, memory. */
#ifndef OTOLITH_SYNTHETIC_H
#define OTOLITH_SYNTHETIC_H

#include "sensor.h"

extern const struct sensor_driver synthetic_accel;
extern const struct sensor_driver synthetic_mag;

#endif
