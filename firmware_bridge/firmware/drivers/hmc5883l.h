/* HMC5883L: Honeywell's magnetometer on I2C.
 *
 * Its own continuous mode ends at 75 Hz, so each row is a measurement that is asked for: 6 ms, up
 * to 160 a second. In: one row of registers. Out: rows of 1/10.9 uT.
 * Never: gives a row before its measurement is over, which RDY alone doesn't tell. Pages are those
 * of the datasheet 900405, revision E. */
#ifndef OTOLITH_HMC5883L_H
#define OTOLITH_HMC5883L_H

#include "sensor.h"

extern const struct sensor_driver hmc5883l;

#endif
