/* ADXL345: Analog Devices' 16 g accelerometer on 4-wire SPI, mode 3, at most 5 MHz.
 *
 * In: its FIFO of 32 rows, looked at once a millisecond. Out: rows of 1/256 g in full resolution.
 * Never: gives rows across a FIFO that ran over without GAP, or rows of a chip that has forgotten
 * its settings. Sections are those of the datasheet, revision E. */
#ifndef OTOLITH_ADXL345_H
#define OTOLITH_ADXL345_H

#include "sensor.h"

extern const struct sensor_driver adxl345;

#endif
