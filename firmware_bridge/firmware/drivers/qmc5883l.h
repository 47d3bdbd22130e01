/* QMC5883L: QST's magnetometer on I2C, the chip on most boards that say "HMC5883L".
 *
 * In: its one row of registers, looked at from 80 % of the period on. Out: rows of 1/30 uT.
 * Never: gives a row twice, or rows of a chip that has forgotten its settings. Sections are those
 * of the datasheet 1.0. It has no self test. */
#ifndef OTOLITH_QMC5883L_H
#define OTOLITH_QMC5883L_H

#include "sensor.h"

extern const struct sensor_driver qmc5883l;

#endif
